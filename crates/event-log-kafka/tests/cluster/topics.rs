//! Topics: created once by whoever comes, refused when they are not as the log needs them.

use std::time::Duration;

use futures::future::join_all;
use plaza_event_log::{Error, EventLog as _, Topic, TopicPartition};
use plaza_event_log_kafka::{Config, KafkaLog, TopicSpec, admin};
use rdkafka::admin::{AdminOptions, NewTopic, TopicReplication};

use crate::places::{Cluster, append};

const TOPIC: Topic = Topic("topic");

async fn refusal(cluster: &Cluster) -> String {
    match KafkaLog::open(&cluster.config, &cluster.specs).await {
        Err(Error::Fatal(why)) => why,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it was opened"),
    }
}

#[tokio::test]
async fn creating_twice_and_at_once_is_creating_once() {
    let Some(cluster) = Cluster::find(&[(TOPIC, 3), (Topic("other"), 2)]) else { return };
    let created = join_all((0..4).map(|_| admin::create(&cluster.config, &cluster.specs))).await;
    assert!(created.iter().all(Result::is_ok), "{created:?}");
    admin::create(&cluster.config, &cluster.specs).await.unwrap();
    let log = cluster.open().await;
    assert_eq!(log.partitions(TOPIC), 3);
}

#[tokio::test]
async fn a_topic_that_is_missing_or_has_other_partitions_is_refused_by_name() {
    let Some(mut cluster) = Cluster::find(&[(TOPIC, 2)]) else { return };
    let missing = refusal(&cluster).await;
    assert!(missing.contains(&cluster.name()) && missing.contains("does not exist"), "{missing}");
    admin::create(&cluster.config, &cluster.specs).await.unwrap();
    cluster.specs[0].partitions = 3;
    let refused = refusal(&cluster).await;
    assert!(refused.contains(&cluster.name()) && refused.contains("2 partitions and not 3"), "{refused}");
    assert!(matches!(admin::create(&cluster.config, &cluster.specs).await, Err(Error::Fatal(_))), "creating it changes nothing");
}

#[tokio::test]
async fn a_topic_that_somebody_else_made_is_refused_with_everything_that_is_wrong() {
    let Some(cluster) = Cluster::find(&[(TOPIC, 1)]) else { return };
    let name = cluster.name();
    let topic = NewTopic::new(&name, 1, TopicReplication::Fixed(1)).set("cleanup.policy", "compact").set("retention.bytes", "1000");
    let created = cluster.admin().create_topics([&topic], &AdminOptions::new()).await.unwrap();
    assert!(created.iter().all(Result::is_ok), "{created:?}");
    let refused = refusal(&cluster).await;
    for wrong in
        ["message.timestamp.type is 'CreateTime'", "cleanup.policy is 'compact'", "retention.bytes is '1000'", "max.message.bytes is"]
    {
        assert!(refused.contains(&format!("topic {name}: {wrong}")), "{wrong}: {refused}");
    }
    assert!(!refused.contains("unclean"), "{refused}");
}

/// Needs no cluster: nobody listens there.
#[tokio::test]
async fn brokers_that_do_not_answer_are_unavailable() {
    let config = Config { brokers: "127.0.0.1:1".to_owned(), ..Config::default() };
    let opening = KafkaLog::open(&config, &[TopicSpec { topic: TOPIC, partitions: 1, generation: 1 }]);
    let opened = tokio::time::timeout(Duration::from_secs(30), opening).await.expect("an answer");
    assert!(matches!(opened, Err(Error::Unavailable(_))));
}

#[tokio::test]
async fn another_generation_begins_anew() {
    let Some(mut cluster) = Cluster::with(&[(TOPIC, 1)]).await else { return };
    let of = TopicPartition { topic: TOPIC, partition: 0 };
    let log = cluster.open().await;
    append(&log, of, "first").await;
    assert_eq!((log.generation(TOPIC), log.end(of).await.unwrap()), (1, 1));
    let first = cluster.specs[0];
    cluster.specs.push(TopicSpec { generation: 2, ..first });
    admin::create(&cluster.config, &cluster.specs).await.unwrap();
    let log = KafkaLog::open(&cluster.config, &cluster.specs[1..]).await.unwrap();
    assert_eq!((log.generation(TOPIC), log.end(of).await.unwrap()), (2, 0));
}
