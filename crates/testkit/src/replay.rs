//! Makes a stopped server read every topic from its beginning again.

use std::path::Path;

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
