//! Follows the events of edges and accounts, all partitions in every process, and forgets what they say has changed. Before a read uses what
//! is kept it asks whether the followers have come as far as the log had when the read began: then nothing acknowledged before it is
//! missing. A follower that is stuck or behind makes reads slower, never stale.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::future::join_all;
use plaza_event_log::{Error, EventLog, Offset, Reader, Stored, Topic, TopicPartition};
use plaza_processor::Envelope;
use plaza_runtime::{Stage, Supervisor};
use plaza_topics::{ACCOUNTS, EDGES, account, graph::EdgeChanged};
use plaza_types::UserId;
use prost::Message as _;
use tokio::sync::watch;

use crate::{
    cache::Kept,
    domain::visibility::{Range, Stance},
};

const BATCH: usize = 256;
const RETRY: Duration = Duration::from_millis(200);
/// How long a read waits for the followers before it does without what is kept.
const PATIENCE: Duration = Duration::from_millis(100);

/// What is kept.
pub(crate) struct Caches {
    /// How one user stands to another.
    pub(crate) stances: Kept<(UserId, UserId), Arc<Stance>>,
    /// How far back an author lets friends look.
    pub(crate) ranges: Kept<UserId, Range>,
}

/// How far the followers are.
pub(crate) struct Followers {
    log: Arc<dyn EventLog>,
    places: Vec<Followed>,
}

/// One partition.
struct Followed {
    partition: TopicPartition,
    /// All below was taken.
    next: watch::Receiver<Offset>,
    /// The last end that was waited for in vain. Offsets have gaps, so waiting for it again may be in vain for ever.
    in_vain: AtomicU64,
}

impl Followed {
    /// Whether all below an end was taken, after a short wait.
    async fn has_reached(&self, end: Offset) -> bool {
        let mut next = self.next.clone();
        if *next.borrow() >= end {
            return true;
        }
        if self.in_vain.load(Ordering::Relaxed) == end {
            return false;
        }
        let reached = tokio::time::timeout(PATIENCE, next.wait_for(|next| *next >= end)).await;
        let reached = matches!(reached, Ok(Ok(_)));
        if !reached {
            self.in_vain.store(end, Ordering::Relaxed);
        }
        reached
    }
}

impl Caches {
    /// With room for about this many edges and settings.
    pub(crate) fn new(edges: usize, settings: usize) -> Self {
        Self { stances: Kept::new(edges), ranges: Kept::new(settings) }
    }

    /// Records that are none of ours say nothing that anybody could be told.
    fn take(&self, topic: Topic, record: &Stored) -> Option<()> {
        let value = record.record.value.clone();
        if topic == EDGES {
            let envelope = Envelope::decode(value).ok()?;
            let EdgeChanged { owner, other } = EdgeChanged::decode(envelope.payload).ok()?;
            self.stances.changed((UserId::from_slice(&owner)?, UserId::from_slice(&other)?), envelope.time);
        } else {
            let event = account::Event::decode(value).ok()?;
            if let account::Kind::ProfileChanged(_) = event.kind? {
                // The row was written before the event was appended, so only reads begun before matter.
                self.ranges.changed(UserId::from_slice(&event.user)?, 0);
            }
        }
        Some(())
    }
}

impl Followers {
    /// Begins with what was appended from `since` on, microseconds: nothing is kept yet, but an event can be ahead of its row, and a row from
    /// before it that is read now must be known to be old.
    ///
    /// # Errors
    /// The log's.
    pub(crate) async fn start(log: Arc<dyn EventLog>, caches: Arc<Caches>, supervisor: &Supervisor, since: u64) -> Result<Self, Error> {
        let mut places = Vec::new();
        for topic in [EDGES, ACCOUNTS] {
            for partition in 0..log.partitions(topic) {
                let partition = TopicPartition { topic, partition };
                let (next, reader) = loop {
                    match begin(&*log, partition, since).await {
                        Err(Error::Unavailable(reason)) => tracing::warn!(reason, %partition, "cannot follow changes yet, trying again"),
                        begun => break begun?,
                    }
                    tokio::time::sleep(RETRY).await;
                };
                let (progress, place) = watch::channel(next);
                let follower = Follower { log: Arc::clone(&log), caches: Arc::clone(&caches), partition, reader, progress };
                let stopping = supervisor.stopping(Stage::Consumers);
                supervisor.spawn("moments-follower", Stage::Consumers, async move {
                    stopping.run_until_cancelled(follower.follow()).await.unwrap_or(Ok(()))
                });
                places.push(Followed { partition, next: place, in_vain: AtomicU64::new(u64::MAX) });
            }
        }
        Ok(Self { log, places })
    }

    /// Whether everything that was in the log when this was called has been taken, after a short wait for it.
    pub(crate) async fn are_current(&self) -> bool {
        let current = self.places.iter().map(|place| async move {
            let end = tokio::time::timeout(PATIENCE, self.log.end(place.partition)).await;
            let Ok(Ok(end)) = end else { return false };
            place.has_reached(end).await
        });
        join_all(current).await.into_iter().all(|current| current)
    }
}

async fn begin(log: &dyn EventLog, partition: TopicPartition, since: u64) -> Result<(Offset, Box<dyn Reader>), Error> {
    let next = log.offset_at(partition, since).await?;
    Ok((next, log.reader(partition, next).await?))
}

struct Follower {
    log: Arc<dyn EventLog>,
    caches: Arc<Caches>,
    partition: TopicPartition,
    reader: Box<dyn Reader>,
    progress: watch::Sender<Offset>,
}

impl Follower {
    async fn follow(mut self) -> anyhow::Result<()> {
        loop {
            match self.reader.next(BATCH).await {
                Ok(records) => {
                    for record in &records {
                        // Nothing follows from what cannot be read.
                        let _ = self.caches.take(self.partition.topic, record);
                    }
                    if let Some(last) = records.last() {
                        self.progress.send_replace(last.offset + 1);
                    }
                }
                Err(error @ Error::Fatal(_)) => return Err(error.into()),
                Err(error) => {
                    tracing::warn!(%error, partition = %self.partition, "cannot follow changes, trying again");
                    tokio::time::sleep(RETRY).await;
                    let next = *self.progress.borrow();
                    if let Ok(reader) = self.log.reader(self.partition, next).await {
                        self.reader = reader;
                    }
                }
            }
        }
    }
}
