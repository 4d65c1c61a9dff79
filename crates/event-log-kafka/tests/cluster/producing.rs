//! Producers that share a line, when a record on it is refused.

use std::time::Duration;

use plaza_event_log::{Error, EventLog as _, Topic, TopicPartition};
use rdkafka::admin::{AdminOptions, AlterConfig, ResourceSpecifier};
use tokio::time::timeout;

use crate::places::{Cluster, append, read_until, record};

const TOPIC: Topic = Topic("topic");
const OTHER: Topic = Topic("other");

/// Bytes that no compression makes fewer.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    });
    next.take(length).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_record_fails_all_producers_of_its_line_and_nothing_comes_behind_it() {
    let Some(mut cluster) = Cluster::with(&[(TOPIC, 1), (OTHER, 1)]).await else { return };
    cluster.config.writers = 1;
    let log = cluster.open().await;
    let (of, other) = (TopicPartition { topic: TOPIC, partition: 0 }, TopicPartition { topic: OTHER, partition: 0 });
    let (producer, bystander) = (log.producer(), log.producer());
    producer.send(vec![(of, record("first"))]).await.unwrap();
    bystander.send(vec![(other, record("first"))]).await.unwrap();

    // What no client can know: the topic takes less than it did.
    let name = cluster.name();
    let smaller =
        AlterConfig::new(ResourceSpecifier::Topic(&name)).set("max.message.bytes", "2000").set("message.timestamp.type", "LogAppendTime");
    cluster.admin().alter_configs([&smaller], &AdminOptions::new()).await.unwrap();
    let refused = producer.send(vec![(of, record(noise(4000)))]);
    let behind = producer.send(vec![(of, record("behind"))]);
    assert!(matches!(refused.await, Err(Error::Unavailable(_))));
    // Nobody may wait for ever for what is behind.
    let behind = timeout(Duration::from_secs(10), behind).await.expect("an outcome");
    assert!(behind.is_err());
    assert!(producer.send(vec![(of, record("later"))]).await.is_err());
    assert!(bystander.send(vec![(other, record("later"))]).await.is_err(), "it shares the line");

    // Whoever begins again has a line that works.
    let again = log.producer();
    again.send(vec![(of, record("again")), (other, record("again"))]).await.unwrap();
    append(&log, of, "end").await;
    let mut reader = log.reader(of, 0).await.unwrap();
    let read = read_until(&mut *reader, b"end").await;
    assert_eq!(read.iter().map(|stored| &stored.record.value[..]).collect::<Vec<_>>(), [&b"first"[..], b"again", b"end"]);
}
