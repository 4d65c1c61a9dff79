//! Topics of a test's own on the real cluster, deleted when it ends.

use std::{sync::Arc, time::Duration};

use plaza_event_log::Topic;
use plaza_event_log_kafka::{Config, KafkaLog, TopicSpec, admin};
use uuid::Uuid;

/// A place on the cluster with a prefix of its own.
pub(crate) struct Cluster {
    pub(crate) config: Config,
    pub(crate) specs: Vec<TopicSpec>,
}

impl Cluster {
    /// With these topics, not created yet; `None` when there is no cluster.
    pub(crate) fn find(topics: &[(Topic, u32)]) -> Option<Self> {
        let brokers = plaza_testkit::external::kafka()?;
        let prefix = format!("kafka-{}.", Uuid::now_v7().simple());
        let config = Config { brokers, prefix, session_timeout: Duration::from_secs(6), ..Config::default() };
        let specs = topics.iter().map(|(topic, partitions)| TopicSpec { topic: *topic, partitions: *partitions, generation: 1 });
        Some(Self { config, specs: specs.collect() })
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
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let (config, specs) = (self.config.clone(), self.specs.clone());
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
