//! A store that fails by seed in every way the contract allows: reads that do not happen, and the processors' writes that fail before or after
//! they were done, or arrive once more later.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use async_trait::async_trait;
use plaza_processor::{
    Checkpoint, IdKey, Key, Remembered, StateRow, StateWrite, StoreError, Timed,
    fault::{Faulty as FaultyRows, Odds},
};
use plaza_runtime::Rng;
use plaza_types::UserId;

use super::{Place, Position, Store};
use crate::domain::{
    engagement::Engagement,
    notice::Notice,
    post::{Post, PostId},
    posts, timeline,
};

/// A store around another one.
pub struct Faulty {
    inner: Arc<dyn Store>,
    posts: FaultyRows<posts::Row>,
    timelines: FaultyRows<timeline::Row>,
    rng: Rng,
    odds: Odds,
    reads: AtomicU64,
}

impl Faulty {
    /// With faults that follow from `rng` and the order of calls. A read fails as often as a write that does nothing.
    #[must_use]
    pub fn new(inner: Arc<dyn Store>, rng: Rng, odds: Odds) -> Self {
        Self {
            posts: FaultyRows::new(inner.clone(), rng.clone(), odds),
            timelines: FaultyRows::new(inner.clone(), rng.clone(), odds),
            inner,
            rng,
            odds,
            reads: AtomicU64::new(0),
        }
    }

    /// Reads so far, those of the processors not counted.
    #[must_use]
    pub fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }

    fn reach(&self) -> Result<&dyn Store, StoreError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        if self.rng.next_u64() % 1000 < self.odds.before {
            return Err(StoreError { message: "fault by seed".to_owned() });
        }
        Ok(&*self.inner)
    }
}

#[async_trait]
impl Store for Faulty {
    async fn posts(&self, ids: &[PostId]) -> Result<Vec<Option<Post>>, StoreError> {
        self.reach()?.posts(ids).await
    }

    async fn engagements(&self, ids: &[PostId]) -> Result<Vec<Engagement>, StoreError> {
        self.reach()?.engagements(ids).await
    }

    async fn words(&self, post: PostId, numbers: &[u32]) -> Result<Vec<String>, StoreError> {
        self.reach()?.words(post, numbers).await
    }

    async fn own(&self, author: UserId, from: Position, limit: usize) -> Result<Vec<Place>, StoreError> {
        self.reach()?.own(author, from, limit).await
    }

    async fn references(&self, viewer: UserId, from: Position, limit: usize) -> Result<Vec<Place>, StoreError> {
        self.reach()?.references(viewer, from, limit).await
    }

    async fn viewer(&self, user: UserId) -> Result<timeline::Viewer, StoreError> {
        self.reach()?.viewer(user).await
    }

    async fn notices(&self, recipient: UserId, from: Position, limit: usize) -> Result<Vec<Notice>, StoreError> {
        self.reach()?.notices(recipient, from, limit).await
    }
}

macro_rules! processor_store {
    ($row:ty, $rows:ident) => {
        #[async_trait]
        impl plaza_processor::Store<$row> for Faulty {
            async fn checkpoint(&self, machine: &'static str, partition: u32) -> Result<Option<Checkpoint>, StoreError> {
                self.$rows.checkpoint(machine, partition).await
            }

            async fn write_checkpoint(&self, machine: &'static str, partition: u32, checkpoint: &Checkpoint) -> Result<(), StoreError> {
                self.$rows.write_checkpoint(machine, partition, checkpoint).await
            }

            async fn states(&self, machine: &'static str, keys: &[Key]) -> Result<Vec<Option<StateRow>>, StoreError> {
                self.$rows.states(machine, keys).await
            }

            async fn write_states(&self, machine: &'static str, states: &[StateWrite]) -> Result<(), StoreError> {
                self.$rows.write_states(machine, states).await
            }

            async fn remembered(&self, machine: &'static str, ids: &[IdKey]) -> Result<Vec<Option<Remembered>>, StoreError> {
                self.$rows.remembered(machine, ids).await
            }

            async fn write_rows(
                &self,
                machine: &'static str,
                rows: &[Timed<$row>],
                remembered: &[Timed<Remembered>],
            ) -> Result<(), StoreError> {
                self.$rows.write_rows(machine, rows, remembered).await
            }
        }
    };
}

processor_store!(posts::Row, posts);
processor_store!(timeline::Row, timelines);
