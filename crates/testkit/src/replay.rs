//! Invariant 9: makes a stopped server read every topic from its beginning again, and says what that changed.

use std::path::Path;

use plaza_checker::History;
use plaza_embedded_db::{Batch, Db, Options};

/// The services that keep checkpoints, by the names of their tables.
const SERVICES: [&str; 3] = ["chat", "graph", "moments"];

/// Removes every checkpoint from a data folder that no process has open; answers how many there were.
///
/// # Errors
/// The folder is in use, or the engine's.
pub async fn forget_checkpoints(data: &Path) -> anyhow::Result<usize> {
    let db = Db::open(data, Options::default())?;
    let mut batch = Batch::new();
    for service in SERVICES {
        let checkpoints = db.keyspace(&format!("{service}.checkpoints"))?;
        for row in checkpoints.prefix(b"") {
            // Without a mark of the removal: an owner that starts over writes earlier times than there were.
            batch.remove(&checkpoints, row?.0);
        }
    }
    let removed = batch.len();
    db.durable(db.enqueue(batch)).await?;
    db.close().await?;
    Ok(removed)
}

/// What is not as it was, but for the nudges of the crowd, which added so many entries to every inbox.
#[must_use]
pub fn changes(before: &History, after: &History, added: usize) -> Vec<String> {
    let mut found = Vec::new();
    for (user, (before_it, after_it)) in before.finals.iter().zip(&after.finals).enumerate() {
        let kept = before_it.inbox.len();
        if !after_it.inbox.starts_with(&before_it.inbox) {
            found.push(format!("the replay changed the inbox of user {user}"));
        } else if after_it.inbox.len() != kept + added {
            found.push(format!("the replay added to the inbox of user {user}: {:?}", &after_it.inbox[kept..]));
        }
        for (conversation, shown) in &before_it.conversations {
            let Some(now) = after_it.conversations.get(conversation) else {
                found.push(format!("the replay took {conversation} from user {user}"));
                continue;
            };
            let nudges = if before.members.contains_key(conversation) { 2 } else { 0 };
            if (now.head, now.read) != (shown.head + nudges, shown.read) {
                found.push(format!("the replay changed {conversation} of user {user}: {shown:?} became {now:?}"));
            }
        }
    }
    found
}
