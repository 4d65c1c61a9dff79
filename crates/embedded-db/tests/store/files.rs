//! More than memory is meant for: memtables become files, files are merged, journals are removed, and nobody notices.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use plaza_embedded_db::{Batch, Db, Keyspace, Options};

use crate::{big_endian, number};

const ROWS: u64 = 4_000;
/// So many of the newest rows are in the second keyspace.
const KEPT: u64 = 10;
const VALUE: usize = 30 << 10;
/// A file of the journal.
const JOURNAL_BYTES: u64 = 32 << 20;

fn open(folder: &Path, journal_limit_bytes: u64) -> Db {
    Db::open(folder, Options { journal_limit_bytes, ..Options::default() }).unwrap()
}

/// Rows that are far from each other in the order of keys, so that files overlap.
fn key(row: u64) -> Vec<u8> {
    big_endian(row.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// While rows are written: what is seen in one keyspace of a batch is there in the other one, too.
fn watch(one: &Keyspace, two: &Keyspace, heads: &Keyspace, stop: &AtomicBool) -> u64 {
    let mut seen = 0;
    while !stop.load(Ordering::Relaxed) {
        let Some(head) = heads.get(b"head").unwrap() else { continue };
        let row = number(&head);
        assert!(row >= seen, "{row} after {seen}");
        seen = row;
        assert!(one.get(&key(row)).unwrap().is_some(), "row {row}");
        if two.get(&key(row)).unwrap().is_none() {
            let head = number(&heads.get(b"head").unwrap().unwrap());
            assert!(head >= row + KEPT, "row {row} is missing, and the newest is {head}");
        }
    }
    seen
}

async fn write(db: &Db, [one, two, heads]: &[Keyspace; 3]) {
    for row in 0..ROWS {
        db.ready().await;
        let mut batch = Batch::new();
        // Seen first if a batch were not seen as a whole.
        batch.insert(heads, "head", big_endian(row));
        batch.insert(one, key(row), vec![row as u8; VALUE]);
        batch.insert(two, key(row), vec![row as u8; VALUE]);
        if row >= KEPT {
            batch.remove(two, key(row - KEPT));
        }
        db.enqueue(batch);
    }
    db.durable(db.enqueued()).await.unwrap();
}

fn check(db: &Db) {
    let [one, two] = ["one", "two"].map(|name| db.range_keyspace(name).unwrap());
    assert_eq!(one.range(..).count() as u64, ROWS);
    assert_eq!(two.range(..).count() as u64, KEPT);
    for row in 0..ROWS {
        assert!(one.get(&key(row)).unwrap().is_some_and(|value| *value == vec![row as u8; VALUE]), "row {row}");
        assert_eq!(two.get(&key(row)).unwrap().is_some(), row + KEPT >= ROWS);
    }
    // What was written once, at the very beginning, is not lost with the journal that had it.
    assert_eq!(db.keyspace("cold").unwrap().get(b"key").unwrap().as_deref(), Some(&b"value"[..]));
}

fn journal_bytes(folder: &Path) -> u64 {
    // One may go meanwhile.
    std::fs::read_dir(folder.join("journal")).unwrap().map(|file| file.unwrap().metadata().map_or(0, |file| file.len())).sum()
}

/// How long files take depends on the disk, and what waits for them may be more than the limit of the journal. Afterwards there are the journal
/// that is written to, those that have what is still in memory, which is less than two of them, and a group more in each.
fn wait_for_a_short_journal(folder: &Path, limit_bytes: u64) {
    let begun = Instant::now();
    while journal_bytes(folder) / 4 > limit_bytes {
        let (bytes, written) = (journal_bytes(folder), 2 * ROWS * VALUE as u64);
        assert!(begun.elapsed() < Duration::from_secs(120), "{bytes} bytes of journal for {written} of rows");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_outgrows_memory_goes_to_files_and_stays_whole() {
    // What only the first journal has is flushed for its sake.
    write_and_check(JOURNAL_BYTES).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_journal_stays_while_it_has_what_no_file_has() {
    write_and_check(u64::MAX).await;
}

async fn write_and_check(journal_limit_bytes: u64) {
    let folder = tempfile::tempdir().unwrap();
    let db = open(folder.path(), journal_limit_bytes);
    let mut batch = Batch::new();
    batch.insert(&db.keyspace("cold").unwrap(), "key", "value");
    db.enqueue(batch);
    let keyspaces = [db.range_keyspace("one").unwrap(), db.range_keyspace("two").unwrap(), db.keyspace("heads").unwrap()];
    let stop = Arc::new(AtomicBool::new(false));
    let watcher = std::thread::spawn({
        let ([one, two, heads], stop) = (keyspaces.clone(), Arc::clone(&stop));
        move || watch(&one, &two, &heads, &stop)
    });
    write(&db, &keyspaces).await;
    stop.store(true, Ordering::Relaxed);
    assert!(watcher.join().unwrap() > 0);
    check(&db);
    wait_for_a_short_journal(folder.path(), journal_limit_bytes);
    db.close().await.unwrap();
    drop((db, keyspaces));
    for _ in 0..2 {
        check(&open(folder.path(), journal_limit_bytes));
    }
}

#[test]
fn every_start_leaves_a_journal_and_not_for_ever() {
    let folder = tempfile::tempdir().unwrap();
    for row in 0..40 {
        let db = open(folder.path(), u64::MAX);
        let rows = db.keyspace("rows").unwrap();
        assert_eq!(rows.range(..).count(), row);
        let mut batch = Batch::new();
        batch.insert(&rows, big_endian(row as u64), "value");
        db.enqueue(batch);
    }
    let journals = std::fs::read_dir(folder.path().join("journal")).unwrap().count();
    assert!(journals <= 20, "{journals} journals");
    assert_eq!(open(folder.path(), u64::MAX).keyspace("rows").unwrap().range(..).count(), 40);
}
