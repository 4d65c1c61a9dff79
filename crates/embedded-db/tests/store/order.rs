//! Positions are the order of the journal; readers see whole batches; the queue is bounded.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use plaza_embedded_db::{Batch, Db, Options};
use tokio::task::JoinSet;

use crate::{big_endian, number, open};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn numbers_given_while_enqueueing_are_in_journal_order() {
    let folder = tempfile::tempdir().unwrap();
    let db = open(folder.path());
    let log = db.range_keyspace("log").unwrap();
    let next = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..4 {
        let (db, log, next) = (db.clone(), log.clone(), next.clone());
        tasks.spawn(async move {
            let mut given = Vec::new();
            for _ in 0..200 {
                let (position, offset) = db.enqueue_with(|_, batch| {
                    let offset = next.fetch_add(1, Ordering::Relaxed);
                    batch.insert(&log, big_endian(offset), "record");
                    offset
                });
                given.push((position, offset));
                db.visible(position).await.unwrap();
                // Everything before a visible offset is visible.
                let before = log.scan(&[], &big_endian(offset), true, 1).unwrap();
                let last = before.first().map(|(key, _)| number(key) + 1);
                assert_eq!(last.unwrap_or(0), offset);
            }
            given
        });
    }
    let mut given: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
    given.sort();
    assert!(given.is_sorted_by_key(|(_, offset)| *offset));
    assert_eq!(given.last().map(|(position, _)| *position), Some(db.enqueued()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_sees_a_batch_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let db = open(folder.path());
    let rows = db.keyspace("rows").unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let mut writer = JoinSet::new();
    let (engine, written, stop) = (db.clone(), rows.clone(), done.clone());
    writer.spawn(async move {
        for round in 0..2000_u64 {
            let mut batch = Batch::new();
            for key in ["a", "b", "c", "d"] {
                batch.upsert_at(&written, key, round, big_endian(round));
            }
            let position = engine.enqueue(batch);
            engine.visible(position).await.unwrap();
        }
        stop.store(true, Ordering::Release);
    });
    let mut seen = 0;
    while !done.load(Ordering::Acquire) {
        let found = rows.scan_at(b"a", b"e", false, 10).unwrap();
        assert!(matches!(found.len(), 0 | 4), "{} of 4 rows", found.len());
        let mut times = found.iter().map(|(_, time, _)| *time);
        if let Some(first) = times.next() {
            assert!(times.all(|time| time == first), "a torn batch");
            assert!(first >= seen, "went back from {seen} to {first}");
            seen = first;
        }
        tokio::task::yield_now().await;
    }
    writer.join_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_queue_stays_near_its_limit() {
    const LIMIT: usize = 256 << 10;
    const BATCH: usize = 64 << 10;
    const TASKS: usize = 8;
    let folder = tempfile::tempdir().unwrap();
    let options = Options { queue_limit_bytes: LIMIT, ..Options::default() };
    let db = Db::open(folder.path(), options).unwrap();
    let rows = db.keyspace("rows").unwrap();
    let mut tasks = JoinSet::new();
    for task in 0..TASKS as u64 {
        let (db, rows) = (db.clone(), rows.clone());
        tasks.spawn(async move {
            let mut highest = 0;
            for round in 0..40 {
                db.ready().await;
                let mut batch = Batch::new();
                batch.insert(&rows, big_endian(task * 1000 + round), vec![7; BATCH]);
                db.enqueue(batch);
                highest = highest.max(db.stats().queue_bytes);
            }
            highest
        });
    }
    let highest = tasks.join_all().await.into_iter().max().unwrap();
    // Each task may have been let through once below the limit.
    assert!(highest <= LIMIT + TASKS * (BATCH + 128), "{highest} bytes queued");
    db.durable(db.enqueued()).await.unwrap();
    assert_eq!(db.stats().queue_bytes, 0);
    assert_eq!(rows.range(..).count(), TASKS * 40);
}

#[tokio::test]
async fn nobody_waiting_means_no_fsync_and_many_waiting_share_one() {
    let folder = tempfile::tempdir().unwrap();
    let db = open(folder.path());
    let rows = db.keyspace("rows").unwrap();
    let write = |number| {
        let mut batch = Batch::new();
        batch.insert(&rows, big_endian(number), "row");
        db.enqueue(batch)
    };
    for number in 0..100 {
        db.visible(write(number)).await.unwrap();
    }
    assert_eq!(db.stats().fsyncs, 0);
    let positions: Vec<_> = (100..200).map(write).collect();
    for position in positions.iter().rev() {
        db.durable(*position).await.unwrap();
    }
    let stats = db.stats();
    assert_eq!((stats.fsyncs, stats.operations, stats.batches), (1, 200, 200));
}
