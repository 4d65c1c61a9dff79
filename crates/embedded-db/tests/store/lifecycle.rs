//! Opening, closing and failing.

use std::path::Path;

use bytes::Bytes;
use plaza_embedded_db::{Batch, Db, Error, Expect, Keyspace, OpenError, Options, Position};

use crate::{big_endian, child, child_folder, open};

fn insert(db: &Db, rows: &Keyspace, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Position {
    let mut batch = Batch::new();
    batch.insert(rows, key, value);
    db.enqueue(batch)
}

#[tokio::test]
async fn a_folder_in_use_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let db = open(folder.path());
    let refusal = Db::open(folder.path(), Options::default()).unwrap_err();
    assert!(matches!(refusal, OpenError::InUse { .. }));
    let name = folder.path().display().to_string();
    assert!(refusal.to_string().contains(&name), "{refusal}");
    drop(db);
    open(folder.path());
}

#[tokio::test]
async fn close_keeps_everything_and_refuses_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    {
        let db = open(folder.path());
        let rows = db.keyspace("rows").unwrap();
        for number in 0..1000 {
            insert(&db, &rows, big_endian(number), "value");
        }
        let last = db.enqueued();
        db.close().await.unwrap();
        db.durable(last).await.unwrap();
        assert_eq!(db.stats().fsyncs, 1);

        let late = insert(&db, &rows, "late", "value");
        assert!(matches!(db.visible(late).await, Err(Error::Closed)));
        assert!(matches!(db.durable(late).await, Err(Error::Closed)));
        let expects = vec![Expect::absent(&rows, "late")];
        let outcome = db.conditional(expects, Batch::new()).await;
        assert!(matches!(outcome, Err(Error::Closed)));
        db.ready().await;
        assert_eq!(rows.range(..).count(), 1000);
        db.close().await.unwrap();
    }
    let db = open(folder.path());
    assert_eq!(db.keyspace("rows").unwrap().range(..).count(), 1000);
}

#[tokio::test]
async fn dropping_the_last_handle_keeps_everything() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..3 {
        let db = open(folder.path());
        let rows = db.keyspace("rows").unwrap();
        assert_eq!(rows.range(..).count(), round);
        insert(&db, &rows, big_endian(round as u64), "value");
    }
}

#[tokio::test]
async fn an_interrupted_first_start_is_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    // A table that nobody wrote to and a journal without its header, as they are before they are named.
    std::fs::create_dir_all(folder.path().join("tables/rows-rows/tables")).unwrap();
    std::fs::create_dir(folder.path().join("journal")).unwrap();
    std::fs::write(folder.path().join("journal/unfinished"), b"pl").unwrap();
    let db = open(folder.path());
    let rows = db.keyspace("rows").unwrap();
    db.durable(insert(&db, &rows, "key", "value")).await.unwrap();
    drop((db, rows));
    assert!(open(folder.path()).keyspace("rows").unwrap().get(b"key").unwrap().is_some());
}

#[test]
fn another_format_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("store")).unwrap();
    let refusal = Db::open(folder.path(), Options::default()).unwrap_err();
    assert!(matches!(refusal, OpenError::Outdated { .. }));
}

#[test]
fn a_failed_write_poisons_and_a_restart_finds_what_was_durable() {
    if let Some(folder) = child_folder() {
        fail_to_write(&folder);
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    {
        let db = open(folder.path());
        insert(&db, &db.keyspace("rows").unwrap(), "before", "value");
    }
    // No file may grow beyond 32 MiB, as much as the journal allocates, and the process is not to die of the signal that tells it.
    let limit = "trap '' XFSZ; ulimit -f 65536;";
    let test = "lifecycle::a_failed_write_poisons_and_a_restart_finds_what_was_durable";
    let output = child(test, folder.path(), limit).output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{printed}");
    let durable = printed.lines().find_map(|line| line.strip_prefix("durable ")).and_then(|count| count.parse::<usize>().ok()).unwrap();
    assert!(durable > 0);

    let rows = open(folder.path()).keyspace("rows").unwrap();
    assert!(rows.get(b"before").unwrap().is_some());
    let kept = rows.scan_prefix(b"row", false, usize::MAX).unwrap().len();
    // A row whose fsync failed may be there or not.
    assert!(kept == durable || kept == durable + 1, "{kept} of {durable}");
}

#[tokio::main]
async fn fail_to_write(folder: &Path) {
    let db = open(folder);
    let rows = db.keyspace("rows").unwrap();
    let mut durable = 0_usize;
    let failed = loop {
        let key = format!("row {durable:05}");
        let position = insert(&db, &rows, key, vec![durable as u8; 100 << 10]);
        match db.durable(position).await {
            Ok(()) => durable += 1,
            Err(error) => break error,
        }
        assert!(durable < 1000, "no write failed");
    };
    println!("durable {durable}");
    assert!(matches!(failed, Error::Poisoned));
    db.failed().await;
    let late = insert(&db, &rows, "late", "value");
    assert!(matches!(db.visible(late).await, Err(Error::Poisoned)));
    let expects = vec![Expect::absent(&rows, "late")];
    let outcome = db.conditional(expects, Batch::new()).await;
    assert!(matches!(outcome, Err(Error::Poisoned)));
    db.ready().await;
    assert!(matches!(db.close().await, Err(Error::Poisoned)));
}
