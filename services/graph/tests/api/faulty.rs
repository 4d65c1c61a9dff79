//! Graph's store failing by seed in every way the contract allows: reads that do not happen, and the processor's writes that fail before or
//! after they were done, or arrive once more later.

use std::sync::Arc;

use async_trait::async_trait;
use plaza_graph::{
    domain::{Folder, Request, Row, Status},
    store::{Named, Place, Relation, Stances, Store},
};
use plaza_processor::{
    Checkpoint, IdKey, Key, Remembered, StateRow, StateWrite, StoreError, Timed,
    fault::{Faulty as FaultyRows, Odds},
};
use plaza_runtime::Rng;
use plaza_types::UserId;

/// A store around another one.
pub(crate) struct Faulty {
    inner: Arc<dyn Store>,
    rows: FaultyRows<Row>,
    rng: Rng,
    odds: Odds,
}

impl Faulty {
    /// With faults that follow from `rng` and the order of calls. A read fails as often as a write that does nothing.
    pub(crate) fn new(inner: Arc<dyn Store>, rng: Rng, odds: Odds) -> Self {
        Self { rows: FaultyRows::new(inner.clone(), rng.clone(), odds), inner, rng, odds }
    }

    fn reach(&self) -> Result<&dyn Store, StoreError> {
        if self.rng.next_u64() % 1000 < self.odds.before {
            return Err(StoreError { message: "fault by seed".to_owned() });
        }
        Ok(&*self.inner)
    }
}

#[async_trait]
impl Store for Faulty {
    async fn contacts(&self, owner: UserId, after: Option<UserId>, limit: usize) -> Result<Vec<Named>, StoreError> {
        self.reach()?.contacts(owner, after, limit).await
    }

    async fn contact(&self, owner: UserId, other: UserId) -> Result<Option<Named>, StoreError> {
        self.reach()?.contact(owner, other).await
    }

    async fn requests(
        &self,
        owner: UserId,
        folder: Folder,
        after: Option<Place>,
        limit: usize,
    ) -> Result<Vec<(Request, Status)>, StoreError> {
        self.reach()?.requests(owner, folder, after, limit).await
    }

    async fn blocked(&self, owner: UserId, after: Option<UserId>, limit: usize) -> Result<Vec<UserId>, StoreError> {
        self.reach()?.blocked(owner, after, limit).await
    }

    async fn relations(&self, user: UserId, others: &[UserId]) -> Result<Vec<Relation>, StoreError> {
        self.reach()?.relations(user, others).await
    }

    async fn stances(&self, user: UserId, others: &[UserId]) -> Result<Vec<Stances>, StoreError> {
        self.reach()?.stances(user, others).await
    }
}

#[async_trait]
impl plaza_processor::Store<Row> for Faulty {
    async fn checkpoint(&self, machine: &'static str, partition: u32) -> Result<Option<Checkpoint>, StoreError> {
        self.rows.checkpoint(machine, partition).await
    }

    async fn write_checkpoint(&self, machine: &'static str, partition: u32, checkpoint: &Checkpoint) -> Result<(), StoreError> {
        self.rows.write_checkpoint(machine, partition, checkpoint).await
    }

    async fn states(&self, machine: &'static str, keys: &[Key]) -> Result<Vec<Option<StateRow>>, StoreError> {
        self.rows.states(machine, keys).await
    }

    async fn write_states(&self, machine: &'static str, states: &[StateWrite]) -> Result<(), StoreError> {
        self.rows.write_states(machine, states).await
    }

    async fn remembered(&self, machine: &'static str, ids: &[IdKey]) -> Result<Vec<Option<Remembered>>, StoreError> {
        self.rows.remembered(machine, ids).await
    }

    async fn write_rows(&self, machine: &'static str, rows: &[Timed<Row>], remembered: &[Timed<Remembered>]) -> Result<(), StoreError> {
        self.rows.write_rows(machine, rows, remembered).await
    }
}
