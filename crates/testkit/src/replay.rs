//! Invariant 9: makes a stopped server read every topic from its beginning again, and says what that changed.

use std::path::Path;

use plaza_checker::{History, history::Conversation};
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
            // One's own message and the other's.
            let (sent, unread) = if before.members.contains_key(conversation) { (2, 1) } else { (0, 0) };
            if *now != (Conversation { head: shown.head + sent, unread: shown.unread + unread, ..*shown }) {
                found.push(format!("the replay changed {conversation} of user {user}: {shown:?} became {now:?}"));
            }
        }
        for conversation in after_it.conversations.keys().filter(|conversation| !before_it.conversations.contains_key(*conversation)) {
            found.push(format!("the replay gave {conversation} to user {user}"));
        }
        let (before, after) = ((&before_it.contacts, &before_it.blocked), (&after_it.contacts, &after_it.blocked));
        if before != after {
            found.push(format!("the replay changed the contacts or the blocked of user {user}: {before:?} became {after:?}"));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Entry, Final, What};

    const ADDED: u64 = 4;

    /// A user with a direct conversation and a group, and so many entries.
    fn history(entries: u64, direct: Conversation) -> History {
        let inbox = (1..=entries).map(|cursor| Entry { cursor, what: What::Other(format!("entry {cursor}")) });
        let conversations = [("d".to_owned(), direct), ("g".to_owned(), Conversation { head: 7, read: 5, unread: 2 })];
        let end = Final {
            inbox: inbox.collect(),
            conversations: conversations.into(),
            contacts: ["bob".to_owned()].into(),
            blocked: ["eve".to_owned()].into(),
            ..Final::default()
        };
        History { finals: vec![end], members: [("d".to_owned(), vec![0, 1])].into(), ..History::default() }
    }

    fn found(plant: impl FnOnce(&mut Final)) -> Vec<String> {
        let before = history(3, Conversation { head: 9, read: 4, unread: 3 });
        let mut after = history(3 + ADDED, Conversation { head: 11, read: 4, unread: 4 });
        plant(&mut after.finals[0]);
        changes(&before, &after, ADDED as usize)
    }

    fn is_found(what: &str, plant: impl FnOnce(&mut Final)) {
        let found = found(plant);
        assert!(matches!(&found[..], [one] if one.contains(what)), "{found:?}");
    }

    #[test]
    fn nudges_are_no_change() {
        assert_eq!(found(|_| ()), [""; 0]);
    }

    #[test]
    fn changed_missing_and_extra_entries_are_found() {
        is_found("changed the inbox", |end| end.inbox[1].what = What::Other("another".into()));
        is_found("changed the inbox", |end| end.inbox.swap(1, 2));
        is_found("changed the inbox", |end| {
            end.inbox.remove(0);
        });
        is_found("changed the inbox", |end| end.inbox.truncate(2));
        is_found("added to the inbox", |end| {
            end.inbox.pop();
        });
        is_found("added to the inbox", |end| end.inbox.push(Entry { cursor: 8, what: What::Other("entry 1".into()) }));
    }

    #[test]
    fn changed_missing_and_extra_conversations_are_found() {
        for conversation in ["d", "g"] {
            let there = |end: &mut Final, change: fn(&mut Conversation)| change(end.conversations.get_mut(conversation).expect("there"));
            is_found("the replay changed", |end| there(end, |shown| shown.head += 1));
            is_found("the replay changed", |end| there(end, |shown| shown.read -= 1));
            is_found("the replay changed", |end| there(end, |shown| shown.unread += 1));
            is_found("the replay took", |end| {
                end.conversations.remove(conversation);
            });
        }
        is_found("the replay gave", |end| {
            end.conversations.insert("e".into(), Conversation::default());
        });
    }

    #[test]
    fn changed_contacts_and_blocks_are_found() {
        is_found("contacts or the blocked", |end| end.contacts.clear());
        is_found("contacts or the blocked", |end| end.blocked.clear());
        is_found("contacts or the blocked", |end| end.contacts.extend(["ann".to_owned()]));
        is_found("contacts or the blocked", |end| end.blocked.extend(["ann".to_owned()]));
    }
}
