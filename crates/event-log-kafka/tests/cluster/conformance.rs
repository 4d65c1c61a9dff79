//! The suite of the log's contract, on a real cluster.

use std::sync::Arc;

use async_trait::async_trait;
use plaza_event_log::{
    EventLog,
    conformance::{Harness, TOPICS},
};
use plaza_event_log_kafka::KafkaLog;

use crate::places::Cluster;

/// A log with topics of its own.
struct OnKafka {
    cluster: Cluster,
    open: Option<Arc<KafkaLog>>,
}

#[async_trait]
impl Harness for OnKafka {
    async fn open(&mut self) -> Arc<dyn EventLog> {
        if let Some(log) = self.open.take() {
            log.close().await;
        }
        let log = self.cluster.open().await;
        self.open = Some(Arc::clone(&log));
        log
    }
}

plaza_event_log::event_log_conformance!({
    let Some(cluster) = Cluster::with(&TOPICS).await else { return };
    OnKafka { cluster, open: None }
});
