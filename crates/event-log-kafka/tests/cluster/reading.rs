//! Readers that share clients, and ends.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::{FutureExt as _, future::join_all};
use plaza_event_log::{EventLog as _, Topic, TopicPartition};
use rdkafka::{Offset, TopicPartitionList, admin::AdminOptions};
use tokio::task::JoinSet;

use crate::places::{Cluster, append, read_until, record};

const TOPIC: Topic = Topic("topic");

fn partition(partition: u32) -> TopicPartition {
    TopicPartition { topic: TOPIC, partition }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_does_not_read_holds_nobody_up_and_loses_nothing() {
    // Several times what waits for a reader.
    const RECORDS: u64 = 20_000;
    const PADDING: usize = 1000;
    let padded = |number: u64| format!("{number:PADDING$}");
    let Some(cluster) = Cluster::with(&[(TOPIC, 2)]).await else { return };
    let log = cluster.open().await;
    let (mut slow, mut quick) = (log.reader(partition(0), 0).await.unwrap(), log.reader(partition(1), 0).await.unwrap());
    let producer = log.producer();
    let numbers: Vec<u64> = (0..RECORDS).collect();
    for chunk in numbers.chunks(1000) {
        let records = chunk.iter().flat_map(|number| [0, 1].map(|part| (partition(part), record(padded(*number)))));
        producer.send(records.collect()).await.unwrap();
    }
    let last = padded(RECORDS - 1);
    let expected: Vec<_> = numbers.iter().map(|number| padded(*number)).collect();
    for reader in [&mut quick, &mut slow] {
        let read = read_until(&mut **reader, last.as_bytes()).await;
        let values: Vec<_> = read.iter().map(|stored| String::from_utf8_lossy(&stored.record.value)).collect();
        assert!(values == expected, "{} records, not each once and in order", values.len());
    }
    // Both go on.
    for (part, reader) in [(0, &mut slow), (1, &mut quick)] {
        append(&log, partition(part), "more").await;
        read_until(&mut **reader, b"more").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_has_any_number_of_readers_and_each_can_be_replaced() {
    let Some(cluster) = Cluster::with(&[(TOPIC, 1)]).await else { return };
    let log = cluster.open().await;
    append(&log, partition(0), "first").await;
    let mut readers = Vec::new();
    for _ in 0..6 {
        readers.push(log.reader(partition(0), 0).await.unwrap());
    }
    for round in 0..4_u8 {
        // Another one in the place of one that has read nothing, or something.
        let place = usize::from(round) % readers.len();
        readers[place] = log.reader(partition(0), 0).await.unwrap();
        append(&log, partition(0), vec![round]).await;
        for (place, reader) in readers.iter_mut().enumerate() {
            let read = read_until(&mut **reader, &[round]).await;
            let is_new = place == usize::from(round) || round == 0;
            assert_eq!(read.len(), if is_new { usize::from(round) + 2 } else { 1 }, "reader {place} in round {round}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_of_what_was_deleted_begins_where_the_partition_begins() {
    let Some(cluster) = Cluster::with(&[(TOPIC, 1)]).await else { return };
    let log = cluster.open().await;
    for number in 0..10_u8 {
        append(&log, partition(0), vec![number]).await;
    }
    let mut before = TopicPartitionList::new();
    before.add_partition_offset(&cluster.name(), 0, Offset::Offset(7)).unwrap();
    cluster.admin().delete_records(&before, &AdminOptions::new()).await.unwrap();
    let mut reader = log.reader(partition(0), 2).await.unwrap();
    let read = read_until(&mut *reader, &[9]).await;
    assert_eq!(read.iter().map(|stored| stored.offset).collect::<Vec<_>>(), [7, 8, 9]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_above_the_end_is_never_given_what_is_below() {
    let Some(cluster) = Cluster::with(&[(TOPIC, 1)]).await else { return };
    let log = cluster.open().await;
    for number in 0..5_u8 {
        append(&log, partition(0), vec![number]).await;
    }
    let mut reader = log.reader(partition(0), 8).await.unwrap();
    // Long enough to have asked for what is not there yet.
    assert!(tokio::time::timeout(Duration::from_millis(500), reader.next(10)).await.is_err(), "a record below");
    for number in 5..8_u8 {
        append(&log, partition(0), vec![number]).await;
    }
    assert!(tokio::time::timeout(Duration::from_millis(500), reader.next(10)).await.is_err(), "a record below");
    append(&log, partition(0), vec![8]).await;
    let read = read_until(&mut *reader, &[8]).await;
    assert_eq!(read.iter().map(|stored| stored.offset).collect::<Vec<_>>(), [8]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_is_never_older_than_the_question() {
    const CALLERS: usize = 16;
    const EACH: usize = 60;
    let Some(cluster) = Cluster::with(&[(TOPIC, 4)]).await else { return };
    let log = cluster.open().await;
    let acknowledged: Arc<[AtomicU64; 4]> = Arc::default();
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let (log, acknowledged) = (Arc::clone(&log), Arc::clone(&acknowledged));
        callers.spawn(async move {
            for call in 0..EACH {
                let own = (caller + call) % 4;
                append(&log, partition(own as u32), "x").await;
                acknowledged[own].fetch_add(1, Ordering::SeqCst);
                // All at once, so that questions meet queries that run.
                let known: Vec<u64> = acknowledged.iter().map(|count| count.load(Ordering::SeqCst)).collect();
                let ends = join_all((0..4).map(|part| log.end(partition(part)))).await;
                for (known, end) in known.into_iter().zip(ends) {
                    let end = end.unwrap();
                    assert!(end >= known, "the end is {end} when {known} were acknowledged");
                }
            }
        });
    }
    callers.join_all().await;
    assert_eq!(log.end(partition(0)).await.unwrap(), (CALLERS * EACH / 4) as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropping_and_closing_do_not_hang() {
    let Some(cluster) = Cluster::with(&[(TOPIC, 1)]).await else { return };
    let log = cluster.open().await;
    let (mut reader, producer) = (log.reader(partition(0), 0).await.unwrap(), log.producer());
    producer.send(vec![(partition(0), record("sent"))]).now_or_never();
    tokio::time::timeout(Duration::from_secs(8), log.close()).await.expect("it closes");
    // A producer that is still there keeps its client; what it sent arrives all the same.
    drop(producer);
    let ending = async { while reader.next(1).await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(8), ending).await.expect("readers of a closed log end");
    assert!(log.end(partition(0)).await.is_err());
    let again = cluster.open().await;
    let mut reader = again.reader(partition(0), 0).await.unwrap();
    read_until(&mut *reader, b"sent").await;
}
