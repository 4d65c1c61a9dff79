//! A relay: what follows from the records of one topic is appended to others, without a state. Each record's place is the origin of what
//! follows from it, so whatever is appended again after a crash is dropped by the receiver's marks. The checkpoint trails what is appended.

use std::{collections::HashMap, convert::Infallible, sync::Arc, time::Duration};

use async_trait::async_trait;
use plaza_event_log::{Assignment, Assignments, Error, EventLog, Record, Stored, Topic, TopicPartition};
use plaza_runtime::{CancellationToken, Stage, Supervisor};

use crate::{Checkpoint, Origin, Position, Store, StoreError};

/// How long after a failure it starts again.
const RETRY: Duration = Duration::from_millis(200);

/// What a relay's author writes.
#[async_trait]
pub trait Relay: Send + Sync + 'static {
    /// The rows of the store that keeps its checkpoints.
    type Row: Send + Sync + 'static;

    /// Its name in checkpoints, among the log's readers and among the tasks.
    const NAME: &'static str;
    /// What it reads.
    const TOPIC: Topic;
    /// Records taken at once at most.
    const BATCH: usize;

    /// What follows from a record, to be appended in this order. `origin` is the record's place, with index 0.
    ///
    /// # Errors
    /// The batch is read again a little later.
    async fn relayed(&self, record: &Stored, origin: Origin) -> Result<Vec<(TopicPartition, Record)>, Failure>;
}

/// Why a batch is read again.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The log's.
    #[error(transparent)]
    Log(#[from] Error),
    /// The store's.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Whom the relay asks may not be there yet, while the process starts.
    #[error("cannot be decided: {0}")]
    Undecided(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// A relay with what it runs on.
pub struct Relaying<R: Relay> {
    /// What it does.
    pub relay: R,
    /// What it reads and appends to.
    pub log: Arc<dyn EventLog>,
    /// Where its checkpoints are.
    pub store: Arc<dyn Store<R::Row>>,
    /// Runs its partitions.
    pub supervisor: Supervisor,
}

impl<R: Relay> Relaying<R> {
    /// Follows the partitions that are this process's, until told to stop.
    ///
    /// # Errors
    /// The log is lost for good.
    pub async fn run(self) -> anyhow::Result<()> {
        let relaying = Arc::new(self);
        let stopping = relaying.supervisor.stopping(Stage::Consumers);
        let Some(joined) = stopping.run_until_cancelled(relaying.join()).await else { return Ok(()) };
        let mut assignments = joined?;
        let mut following: HashMap<u32, CancellationToken> = HashMap::new();
        while let Some(change) = stopping.run_until_cancelled(assignments.next()).await {
            match change? {
                Assignment::Assigned(partition) => {
                    let stop = stopping.child_token();
                    following.insert(partition, stop.clone());
                    let relaying = Arc::clone(&relaying);
                    relaying.supervisor.clone().spawn(R::NAME, Stage::Consumers, async move {
                        stop.run_until_cancelled(relaying.follow(partition)).await.unwrap_or(Ok(()))
                    });
                }
                Assignment::Revoked(partition) => {
                    if let Some(stop) = following.remove(&partition) {
                        stop.cancel();
                    }
                }
            }
        }
        Ok(())
    }

    async fn join(&self) -> Result<Box<dyn Assignments>, Error> {
        loop {
            match self.log.assignments(R::NAME, R::TOPIC).await {
                Err(Error::Unavailable(reason)) => tracing::warn!(reason, relay = R::NAME, "relay joins again"),
                joined => return joined,
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn follow(&self, partition: u32) -> anyhow::Result<()> {
        loop {
            let failure = match self.try_follow(partition).await {
                Ok(never) => match never {},
                Err(failure) => failure,
            };
            match failure {
                Failure::Log(error @ Error::Fatal(_)) => return Err(error.into()),
                error @ Failure::Undecided(_) => tracing::debug!(%error, relay = R::NAME, partition, "relay starts again"),
                error => tracing::warn!(%error, relay = R::NAME, partition, "relay starts again"),
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn try_follow(&self, partition: u32) -> Result<Infallible, Failure> {
        let generation = self.log.generation(R::TOPIC);
        let mut checkpoint = self.store.checkpoint(R::NAME, partition).await?.unwrap_or_default();
        if checkpoint.next.generation != generation {
            checkpoint.next = Position { generation, offset: 0 };
        }
        let mut reader = self.log.reader(TopicPartition { topic: R::TOPIC, partition }, checkpoint.next.offset).await?;
        let producer = self.log.producer();
        loop {
            let records = reader.next(R::BATCH).await?;
            let Some(last) = records.last() else { continue };
            checkpoint = Checkpoint {
                next: Position { generation, offset: last.offset + 1 },
                last_time: last.appended.max(checkpoint.last_time + 1),
                marks: Vec::new(),
            };
            let mut appends = Vec::new();
            for record in &records {
                let origin = Origin { topic: R::TOPIC.0.to_owned(), partition, generation, offset: record.offset, index: 0 };
                appends.extend(self.relay.relayed(record, origin).await?);
            }
            if !appends.is_empty() {
                producer.send(appends).await?;
            }
            self.store.write_checkpoint(R::NAME, partition, &checkpoint).await?;
        }
    }
}
