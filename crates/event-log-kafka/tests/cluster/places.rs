//! Topics of a test's own on the real cluster, deleted when it ends.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use plaza_event_log::{Error, EventLog, Reader, Record, Stored, Topic, TopicPartition};
use plaza_event_log_kafka::{Config, KafkaLog, Security, TopicSpec, admin};
use rdkafka::{ClientConfig, admin::AdminClient, client::DefaultClientContext};
use uuid::Uuid;

/// Whatever takes longer hangs.
const LIMIT: Duration = Duration::from_secs(60);

/// A place on the cluster with a prefix of its own.
pub(crate) struct Cluster {
    pub(crate) config: Config,
    pub(crate) specs: Vec<TopicSpec>,
    /// The brokers themselves, whatever the test puts in front of them.
    brokers: String,
}

impl Cluster {
    /// With these topics, not created yet; `None` when there is no cluster.
    pub(crate) fn find(topics: &[(Topic, u32)]) -> Option<Self> {
        let brokers = plaza_testkit::external::kafka()?;
        Some(Self::at(brokers, format!("kafka-{}.", Uuid::now_v7().simple()), topics))
    }

    /// The place of this prefix.
    pub(crate) fn at(brokers: String, prefix: String, topics: &[(Topic, u32)]) -> Self {
        let config = Config { brokers: brokers.clone(), prefix, session_timeout: Duration::from_secs(6), writers: 2, ..Config::default() };
        let specs = topics.iter().map(|(topic, partitions)| TopicSpec { topic: *topic, partitions: *partitions, generation: 1 });
        Self { config, specs: specs.collect(), brokers }
    }

    /// With the topics created.
    pub(crate) async fn with(topics: &[(Topic, u32)]) -> Option<Self> {
        let cluster = Self::find(topics)?;
        admin::create(&cluster.config, &cluster.specs).await.expect("topics");
        Some(cluster)
    }

    pub(crate) async fn open(&self) -> Arc<KafkaLog> {
        KafkaLog::open(&self.config, &self.specs).await.expect("a log")
    }

    /// To do what the log itself never does.
    pub(crate) fn admin(&self) -> AdminClient<DefaultClientContext> {
        ClientConfig::new().set("bootstrap.servers", &self.config.brokers).create().expect("a client")
    }

    /// What the first topic is called there.
    pub(crate) fn name(&self) -> String {
        self.specs[0].name(&self.config.prefix)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let config = Config { brokers: self.brokers.clone(), security: Security::default(), ..self.config.clone() };
        let specs = self.specs.clone();
        // Also when the test failed, and from within any runtime.
        let deleting = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(admin::delete(&config, &specs))
        });
        match deleting.join() {
            Ok(Ok(())) => {}
            other => println!("topics were not deleted: {other:?}"),
        }
    }
}

pub(crate) fn record(value: impl Into<Bytes>) -> Record {
    Record { value: value.into(), ..Record::default() }
}

pub(crate) async fn append(log: &KafkaLog, to: TopicPartition, value: impl Into<Bytes>) {
    log.append(to, record(value)).await.expect("an append");
}

/// Reads until a value comes, that one included.
pub(crate) async fn read_until(reader: &mut dyn Reader, value: &[u8]) -> Vec<Stored> {
    let reading = async {
        let mut read: Vec<Stored> = Vec::new();
        while read.last().is_none_or(|last| last.record.value != value) {
            read.extend(reader.next(1000).await?);
        }
        Ok::<_, Error>(read)
    };
    tokio::time::timeout(LIMIT, reading).await.expect("the value comes").expect("records")
}
