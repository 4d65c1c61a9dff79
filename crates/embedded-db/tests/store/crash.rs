//! A process killed at any point leaves a prefix of what it enqueued, with everything durable in it.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use plaza_embedded_db::{Db, Keyspace};
use tokio::task::JoinSet;

use crate::{big_endian, child, child_folder, number, open};

const ROUNDS: usize = 10;
const WRITERS: usize = 4;
const DURABLE: &str = "durable ";

struct Tables {
    log: Keyspace,
    copies: Keyspace,
    heads: Keyspace,
}

impl Tables {
    fn new(db: &Db) -> Self {
        Self { log: db.range_keyspace("log").unwrap(), copies: db.keyspace("copies").unwrap(), heads: db.keyspace("heads").unwrap() }
    }

    /// How many rows the log has, after checking that there is no hole and that each batch is whole.
    fn check(&self) -> u64 {
        let log: Vec<u64> = self.log.range(..).map(|row| number(&row.unwrap().0)).collect();
        let copies: Vec<u64> = self.copies.range(..).map(|row| number(&row.unwrap().0)).collect();
        let next = log.len() as u64;
        assert_eq!(log, (0..next).collect::<Vec<_>>(), "a hole in the log");
        assert_eq!(log, copies, "a batch was torn");
        let head = self.heads.get_at(b"head").unwrap();
        assert_eq!(head.map(|(time, _)| time), next.checked_sub(1));
        next
    }
}

#[test]
fn a_kill_leaves_a_prefix_with_everything_durable() {
    if let Some(folder) = child_folder() {
        write_for_ever(&folder);
    }
    let folder = tempfile::tempdir().unwrap();
    let mut rows = 0;
    for round in 0..ROUNDS {
        let durable = kill_after(folder.path(), 1 + round * 53);
        let db = open(folder.path());
        let found = Tables::new(&db).check();
        assert!(found > durable, "row {durable} was durable, {found} rows are left");
        assert!(found > rows, "round {round} wrote nothing");
        rows = found;
    }
}

/// Starts a writer, kills it after it has reported a number of durable rows, returns the highest one.
fn kill_after(folder: &Path, reports: usize) -> u64 {
    let mut child = child("crash::a_kill_leaves_a_prefix_with_everything_durable", folder, "").spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok)
        .filter_map(|line| line.strip_prefix(DURABLE)?.parse::<u64>().ok());
    let before: Vec<u64> = lines.by_ref().take(reports).collect();
    child.kill().unwrap();
    // What it reported between the last line read and the kill was durable too.
    let after: Vec<u64> = lines.collect();
    child.wait().unwrap();
    assert_eq!(before.len(), reports, "the writer stopped by itself");
    before.into_iter().chain(after).max().unwrap()
}

#[tokio::main]
async fn write_for_ever(folder: &Path) -> ! {
    let db = open(folder);
    let tables = Tables::new(&db);
    let next = Arc::new(AtomicU64::new(tables.check()));
    let tables = Arc::new(tables);
    let mut writers = JoinSet::new();
    for _ in 0..WRITERS {
        let (db, next, tables) = (db.clone(), next.clone(), tables.clone());
        writers.spawn(async move {
            loop {
                db.ready().await;
                let (position, sequence) = db.enqueue_with(|_, batch| {
                    let sequence = next.fetch_add(1, Ordering::Relaxed);
                    let value = vec![7; (sequence % 900) as usize];
                    batch.insert(&tables.log, big_endian(sequence), value.clone());
                    batch.insert(&tables.copies, big_endian(sequence), value.clone());
                    batch.upsert_at(&tables.heads, "head", sequence, &value);
                    sequence
                });
                if sequence % 3 == 0 {
                    db.durable(position).await.unwrap();
                    println!("{DURABLE}{sequence}");
                }
            }
        });
    }
    writers.join_all().await;
    unreachable!("the writers never end");
}
