//! A log whose readers of events and acts stand still on demand.

use std::sync::Arc;

use async_trait::async_trait;
use plaza_event_log::{Assignments, Error, EventLog, Offset, Producer, Reader, Record, Stored, Topic, TopicPartition};
use plaza_topics::{ACCOUNTS, EDGES, NOTICES};
use tokio::sync::watch;

/// The log; its readers of `edges`, `accounts` and `notices` give nothing while `stuck` holds true.
pub(crate) struct StuckLog {
    pub(crate) inner: Arc<dyn EventLog>,
    pub(crate) stuck: watch::Receiver<bool>,
}

struct StuckReader {
    inner: Box<dyn Reader>,
    stuck: watch::Receiver<bool>,
}

#[async_trait]
impl Reader for StuckReader {
    async fn next(&mut self, max: usize) -> Result<Vec<Stored>, Error> {
        let records = self.inner.next(max).await?;
        self.stuck.wait_for(|stuck| !stuck).await.map_err(|_| Error::Unavailable("the test is over".to_owned()))?;
        Ok(records)
    }
}

#[async_trait]
impl EventLog for StuckLog {
    fn partitions(&self, topic: Topic) -> u32 {
        self.inner.partitions(topic)
    }

    fn generation(&self, topic: Topic) -> u32 {
        self.inner.generation(topic)
    }

    async fn append(&self, to: TopicPartition, record: Record) -> Result<(), Error> {
        self.inner.append(to, record).await
    }

    fn producer(&self) -> Box<dyn Producer> {
        self.inner.producer()
    }

    async fn reader(&self, from: TopicPartition, offset: Offset) -> Result<Box<dyn Reader>, Error> {
        let inner = self.inner.reader(from, offset).await?;
        if [EDGES, ACCOUNTS, NOTICES].contains(&from.topic) {
            return Ok(Box::new(StuckReader { inner, stuck: self.stuck.clone() }));
        }
        Ok(inner)
    }

    async fn end(&self, of: TopicPartition) -> Result<Offset, Error> {
        self.inner.end(of).await
    }

    async fn offset_at(&self, of: TopicPartition, micros: u64) -> Result<Offset, Error> {
        self.inner.offset_at(of, micros).await
    }

    async fn assignments(&self, group: &'static str, topic: Topic) -> Result<Box<dyn Assignments>, Error> {
        self.inner.assignments(group, topic).await
    }

    async fn durable(&self) -> Result<(), Error> {
        self.inner.durable().await
    }
}
