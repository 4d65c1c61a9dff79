//! One partition and its owner: from the checkpoint on, three loops that run side by side in one task and share nothing but bounded queues:
//! deciding, telling, writing. Whatever goes wrong, everything in memory is dropped and the owner begins again at the checkpoint; a dropped
//! future is a crash, which is harmless at any point.

use std::sync::{Arc, Once};

use plaza_event_log::{Error, Producer, Reader, Topic, TopicPartition};
use plaza_telemetry::ProcessorMetrics;
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    Checkpoint, HostDeps, Machine, Position,
    decide::{Decider, Out},
    delivery::WhenWritten,
    lag::{self, Progress},
    retry::{Backoff, until_done},
    tell, write,
};

/// Why an owner begins again at the checkpoint.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GivenUp {
    /// The log failed: reading, emitting or making durable. What was sent after a failed emission must not count.
    #[error(transparent)]
    Log(Error),
    /// A record is to be decided by rules that this binary does not know.
    #[error("record at offset {offset} is to be decided by rules {rules}, which this binary does not know")]
    UnknownRules { rules: u32, offset: u64 },
    /// Deciding it panicked, and the states in memory may be half changed.
    #[error("deciding the record at offset {offset} panicked")]
    Panicked { offset: u64 },
    /// What is stored cannot be read by this binary.
    #[error("cannot read what is stored of a key")]
    Unreadable(#[from] prost::DecodeError),
}

/// One partition of a machine's topic, to be run by one owner at a time; two at once do no harm.
pub struct Partition<M: Machine> {
    pub(crate) machine: Arc<M>,
    pub(crate) deps: Arc<HostDeps<M>>,
    pub(crate) number: u32,
    /// Where its poison goes.
    pub(crate) parked: Topic,
    /// The announcer knows that it is owned.
    assigned: Once,
    pub(crate) when_written: WhenWritten,
    pub(crate) progress: Progress,
    pub(crate) metrics: ProcessorMetrics,
}

impl<M: Machine> Partition<M> {
    /// The partition of this number; records that cannot be decided are parked in the topic `parked`.
    pub fn new(machine: Arc<M>, deps: Arc<HostDeps<M>>, number: u32, parked: Topic) -> Self {
        let metrics = ProcessorMetrics::new(M::NAME, number);
        Self {
            machine,
            deps,
            number,
            parked,
            assigned: Once::new(),
            when_written: WhenWritten::default(),
            progress: Progress::default(),
            metrics,
        }
    }

    /// Owns the partition until `stop`, then finishes what was begun and writes the checkpoint. Dropping the future is a crash.
    pub async fn run(mut self, stop: &CancellationToken) {
        let deps = Arc::clone(&self.deps);
        let mut backoff = Backoff::new(&deps.config);
        let mut suspect = None;
        while !stop.is_cancelled() {
            let began = Instant::now();
            // Nothing survives: neither states nor replies.
            self.when_written = WhenWritten::default();
            let Err(error) = self.own(suspect, stop).await else { return };
            tracing::warn!(machine = M::NAME, partition = self.number, %error, "partition given up");
            match error {
                // Retried at once, by itself; if it panics again it is parked.
                GivenUp::Panicked { offset } if suspect != Some(offset) => suspect = Some(offset),
                _ => {
                    if began.elapsed() > deps.config.retry_max * 2 {
                        backoff = Backoff::new(&deps.config);
                    }
                    stop.run_until_cancelled(backoff.wait()).await;
                }
            }
        }
    }

    /// Owns it once, from the checkpoint on.
    async fn own(&self, suspect: Option<u64>, stop: &CancellationToken) -> Result<(), GivenUp> {
        #[cfg(feature = "mistakes")]
        crate::mistakes::prefetch(self).await;
        let checkpoint = self.checkpoint().await;
        // Not before: an owner that is about to go can still be writing, up to a later checkpoint, what nobody here would be told of.
        self.assigned.call_once(|| {
            if let Some(announce) = &self.deps.announce {
                announce.assigned(self.number);
            }
        });
        let reader = self.reader(checkpoint.next).await?;
        let in_flight = self.deps.config.batches_in_flight;
        let (tell, told) = mpsc::channel(in_flight);
        let (write, work) = mpsc::channel(in_flight);
        let (written_to, written) = watch::channel(0);
        let producer: Arc<dyn Producer> = self.deps.log.producer().into();
        let decider = Decider::new(self, checkpoint, (reader, Arc::clone(&producer)), suspect, Out { tell, write, written });
        let owned = async {
            tokio::try_join!(decider.run(stop), tell::run(self, told), write::run(self, &*producer, work, written_to)).map(|_| ())
        };
        tokio::select! {
            biased;
            ended = owned => ended,
            never = lag::run(self) => match never {},
        }
    }

    /// Rule 13: of another generation of the topic, only what is not a position still holds.
    async fn checkpoint(&self) -> Checkpoint {
        let deps = &self.deps;
        let stored = until_done(&deps.config, "read checkpoint", || deps.store.checkpoint(M::NAME, self.number)).await;
        let mut checkpoint = stored.unwrap_or_default();
        let generation = deps.log.generation(M::TOPIC);
        if checkpoint.next.generation != generation {
            checkpoint.next = Position { generation, offset: 0 };
        }
        checkpoint
    }

    async fn reader(&self, from: Position) -> Result<Box<dyn Reader>, GivenUp> {
        let topic_partition = TopicPartition { topic: M::TOPIC, partition: self.number };
        self.deps.log.reader(topic_partition, from.offset).await.map_err(GivenUp::Log)
    }
}
