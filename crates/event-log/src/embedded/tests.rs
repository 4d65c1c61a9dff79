//! What the embedded log promises beyond the contract, and the suite.

use std::{
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use bytes::Bytes;
use plaza_embedded_db::Options;
use tempfile::TempDir;
use tokio::task::JoinSet;

use super::*;
use crate::conformance::{Harness, TOPICS};

const TOPIC: Topic = Topic("topic");
const OF: TopicPartition = TopicPartition { topic: TOPIC, partition: 0 };

/// A log in a folder of its own, with a clock that also stands still and starts anew at each opening.
pub(crate) struct Embedded {
    folder: TempDir,
    db: Option<Db>,
}

impl Embedded {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), db: None }
    }
}

#[async_trait]
impl Harness for Embedded {
    async fn open(&mut self) -> Arc<dyn EventLog> {
        if let Some(db) = self.db.take() {
            db.close().await.unwrap();
        }
        let db = Db::open(self.folder.path(), Options::default()).unwrap();
        let log = EmbeddedLog::open(&db, &TOPICS, clock()).unwrap();
        self.db = Some(db);
        log
    }
}

fn clock() -> impl Fn() -> u64 + Send + Sync + 'static {
    let calls = AtomicU64::new(0);
    move || 1_000_000 + calls.fetch_add(1, Ordering::Relaxed) / 4 * 1000
}

mod conforms {
    crate::event_log_conformance!(super::Embedded::new());
}

fn db(folder: &Path) -> Db {
    Db::open(folder, Options::default()).unwrap()
}

fn record(value: impl Into<Bytes>) -> Record {
    Record { value: value.into(), ..Record::default() }
}

#[tokio::test]
async fn a_topic_keeps_its_number_and_its_partition_count() {
    let folder = tempfile::tempdir().unwrap();
    let other = Topic("other");
    let openings = [vec![(TOPIC, 2)], vec![(other, 1), (TOPIC, 2)], vec![(TOPIC, 2), (other, 1)]];
    for (before, topics) in openings.into_iter().enumerate() {
        let db = db(folder.path());
        let log = EmbeddedLog::open(&db, &topics, || 7).unwrap();
        assert_eq!(log.end(OF).await.unwrap(), before as Offset);
        log.append(OF, record("record")).await.unwrap();
        if log.partitions(other) == 1 {
            log.append(TopicPartition { topic: other, partition: 0 }, record("another")).await.unwrap();
        }
        let mut reader = log.reader(OF, 0).await.unwrap();
        for offset in 0..=before as Offset {
            let stored = Stored { offset, appended: 7, record: record("record") };
            assert_eq!(reader.next(1).await.unwrap(), [stored]);
        }
        db.close().await.unwrap();
    }
    let db = db(folder.path());
    let refusal = EmbeddedLog::open(&db, &[(TOPIC, 3)], || 7).err().unwrap();
    assert_eq!(refusal.to_string(), "log failed: topic topic was created with 2 partitions and cannot be opened with 3");
}

#[tokio::test]
async fn a_log_of_an_older_form_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let db = db(folder.path());
    let mut batch = plaza_embedded_db::Batch::new();
    let key = [&[0; 4], TOPIC.0.as_bytes()].concat();
    batch.insert(&db.keyspace(KEYSPACE).unwrap(), key, [1_u32.to_be_bytes(), 2_u32.to_be_bytes()].concat());
    db.visible(db.enqueue(batch)).await.unwrap();
    let refusal = EmbeddedLog::open(&db, &[(TOPIC, 2)], || 7).err().unwrap();
    assert!(refusal.to_string().ends_with("is not a topic of this version"), "{refusal}");
}

#[tokio::test]
async fn append_times_never_go_back() {
    let folder = tempfile::tempdir().unwrap();
    for (now, expected) in [(1000, 1000), (10, 1000), (1001, 1001)] {
        let db = db(folder.path());
        let log = EmbeddedLog::open(&db, &[(TOPIC, 1)], move || now).unwrap();
        let end = log.end(OF).await.unwrap();
        log.append(OF, record("record")).await.unwrap();
        assert_eq!(log.reader(OF, end).await.unwrap().next(1).await.unwrap()[0].appended, expected);
        db.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_group_has_one_member_for_a_topic() {
    let folder = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open(&db(folder.path()), &TOPICS, clock()).unwrap();
    let first = log.assignments("group", TOPICS[0].0).await.unwrap();
    assert!(matches!(log.assignments("group", TOPICS[0].0).await, Err(Error::Unavailable(_))));
    assert!(log.assignments("group", TOPICS[1].0).await.is_ok());
    assert!(log.assignments("other", TOPICS[0].0).await.is_ok());
    drop(first);
    let mut second = log.assignments("group", TOPICS[0].0).await.unwrap();
    for partition in 0..4 {
        assert_eq!(second.next().await.unwrap(), Assignment::Assigned(partition));
    }
    assert!(second.next().now_or_never().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_stays_bounded_when_nobody_reads() {
    const APPENDERS: usize = 16;
    const VALUE: usize = 64 << 10;
    const LIMIT: usize = 1 << 20;
    let folder = tempfile::tempdir().unwrap();
    let db = Db::open(folder.path(), Options { queue_limit_bytes: LIMIT, ..Options::default() }).unwrap();
    let log = EmbeddedLog::open(&db, &[(TOPIC, 1)], clock()).unwrap();
    let mut appenders = JoinSet::new();
    for appender in 0..APPENDERS {
        let (log, db) = (log.clone(), db.clone());
        appenders.spawn(async move {
            let producer = log.producer();
            let mut most = 0;
            for _ in 0..60 {
                if appender % 2 == 0 {
                    log.append(OF, record(vec![1; VALUE])).await.unwrap();
                } else {
                    producer.send(vec![(OF, record(vec![1; VALUE]))]).await.unwrap();
                }
                let partition = log.inner.partition(OF).unwrap();
                most = most.max(db.stats().queue_bytes).max(partition.tail_bytes());
            }
            most
        });
    }
    let most = appenders.join_all().await.into_iter().max().unwrap();
    // What is queued, what the writer is at, and one record of each appender that was let through.
    let bound = partition::TAIL_BYTES + 2 * LIMIT + 2 * APPENDERS * (VALUE + 1024);
    assert!(most <= bound, "{most} bytes instead of {bound}");
    assert_eq!(log.end(OF).await.unwrap(), 60 * APPENDERS as u64);
}

#[tokio::test]
async fn memory_and_store_give_the_same_records() {
    let folder = tempfile::tempdir().unwrap();
    let db = db(folder.path());
    let log = EmbeddedLog::open(&db, &[(TOPIC, 1)], clock()).unwrap();
    let sent: Vec<Record> = (0..3000_u32)
        .map(|number| Record {
            key: number.to_be_bytes().to_vec().into(),
            value: vec![number as u8; number as usize % 2000].into(),
            headers: vec![("traceparent", number.to_string().into())],
        })
        .collect();
    let mut following = log.reader(OF, 0).await.unwrap();
    let mut followed = Vec::new();
    for part in sent.chunks(100) {
        log.producer().send(part.iter().map(|record| (OF, record.clone())).collect()).await.unwrap();
        followed.extend(following.next(100).await.unwrap());
    }
    assert_eq!(followed.iter().map(|stored| stored.record.clone()).collect::<Vec<_>>(), sent);
    db.visible(db.enqueued()).await.unwrap();
    log.append(OF, record("evicts what is too much")).await.unwrap();
    assert!(log.inner.partition(OF).unwrap().tail_bytes() <= partition::TAIL_BYTES);
    let mut behind = log.reader(OF, 0).await.unwrap();
    let mut read = Vec::new();
    while read.len() < followed.len() {
        read.extend(behind.next(followed.len() - read.len()).await.unwrap());
    }
    assert_eq!(read, followed);
}

#[tokio::test]
async fn a_closed_store_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let db = db(folder.path());
    let log = EmbeddedLog::open(&db, &[(TOPIC, 1)], clock()).unwrap();
    let producer = log.producer();
    producer.send(vec![(OF, record("before"))]).await.unwrap();
    db.close().await.unwrap();
    assert!(matches!(log.append(OF, record("after")).await, Err(Error::Fatal(_))));
    assert!(matches!(producer.send(vec![(OF, record("after"))]).await, Err(Error::Fatal(_))));
    assert!(matches!(log.durable().await, Err(Error::Fatal(_))));
}

#[tokio::test]
async fn what_was_given_to_a_reader_becomes_durable() {
    let folder = tempfile::tempdir().unwrap();
    let db = db(folder.path());
    let log = EmbeddedLog::open(&db, &[(TOPIC, 1)], clock()).unwrap();
    for _ in 0..20 {
        let before = db.stats().fsyncs;
        log.append(OF, record("record")).await.unwrap();
        tokio::time::timeout(Duration::from_secs(10), log.durable()).await.unwrap().unwrap();
        assert!(db.stats().fsyncs > before);
    }
}
