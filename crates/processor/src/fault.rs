//! A store that does everything its contract allows, by seed: a call fails before or after it was done, and a write arrives once more later.

use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use plaza_runtime::Rng;

use crate::{Checkpoint, IdKey, Key, Remembered, StateRow, StateWrite, Store, StoreError, Timed};

/// How often, per mille of the calls.
#[derive(Debug, Clone, Copy)]
pub struct Odds {
    /// A call fails and does nothing.
    pub before: u64,
    /// A write is done and fails all the same.
    pub after: u64,
    /// A write arrives again, before some later call.
    pub late: u64,
}

/// A store around another one.
pub struct Faulty<R> {
    inner: Arc<dyn Store<R>>,
    rng: Rng,
    odds: Odds,
    late: Mutex<Vec<Write<R>>>,
}

#[derive(Clone)]
enum Write<R> {
    Checkpoint(&'static str, u32, Checkpoint),
    States(&'static str, Vec<StateWrite>),
    Rows(&'static str, Vec<Timed<R>>, Vec<Timed<Remembered>>),
}

impl<R: Clone + Send + Sync + 'static> Faulty<R> {
    /// With faults that follow from `rng` and the order of calls.
    pub fn new(inner: Arc<dyn Store<R>>, rng: Rng, odds: Odds) -> Self {
        Self { inner, rng, odds, late: Mutex::default() }
    }

    fn happens(&self, per_mille: u64) -> bool {
        self.rng.next_u64() % 1000 < per_mille
    }

    async fn begin(&self) -> Result<(), StoreError> {
        if self.happens(500)
            && let Some(late) = self.take_late()
        {
            // Nobody waits for it any more.
            _ = self.land(&late).await;
        }
        if self.happens(self.odds.before) { Err(failed()) } else { Ok(()) }
    }

    fn take_late(&self) -> Option<Write<R>> {
        let mut late = self.late.lock();
        let place = usize::try_from(self.rng.next_u64()).unwrap_or_default().checked_rem(late.len())?;
        Some(late.swap_remove(place))
    }

    async fn write(&self, write: Write<R>) -> Result<(), StoreError> {
        self.begin().await?;
        self.land(&write).await?;
        if self.happens(self.odds.late) {
            self.late.lock().push(write);
        }
        if self.happens(self.odds.after) { Err(failed()) } else { Ok(()) }
    }

    async fn land(&self, write: &Write<R>) -> Result<(), StoreError> {
        match write {
            Write::Checkpoint(machine, partition, checkpoint) => self.inner.write_checkpoint(machine, *partition, checkpoint).await,
            Write::States(machine, states) => self.inner.write_states(machine, states).await,
            Write::Rows(machine, rows, remembered) => self.inner.write_rows(machine, rows, remembered).await,
        }
    }
}

fn failed() -> StoreError {
    StoreError { message: "fault by seed".to_owned() }
}

#[async_trait]
impl<R: Clone + Send + Sync + 'static> Store<R> for Faulty<R> {
    async fn checkpoint(&self, machine: &'static str, partition: u32) -> Result<Option<Checkpoint>, StoreError> {
        self.begin().await?;
        self.inner.checkpoint(machine, partition).await
    }

    async fn write_checkpoint(&self, machine: &'static str, partition: u32, checkpoint: &Checkpoint) -> Result<(), StoreError> {
        self.write(Write::Checkpoint(machine, partition, checkpoint.clone())).await
    }

    async fn states(&self, machine: &'static str, keys: &[Key]) -> Result<Vec<Option<StateRow>>, StoreError> {
        self.begin().await?;
        self.inner.states(machine, keys).await
    }

    async fn write_states(&self, machine: &'static str, states: &[StateWrite]) -> Result<(), StoreError> {
        self.write(Write::States(machine, states.to_vec())).await
    }

    async fn remembered(&self, machine: &'static str, ids: &[IdKey]) -> Result<Vec<Option<Remembered>>, StoreError> {
        self.begin().await?;
        self.inner.remembered(machine, ids).await
    }

    async fn write_rows(&self, machine: &'static str, rows: &[Timed<R>], remembered: &[Timed<Remembered>]) -> Result<(), StoreError> {
        self.write(Write::Rows(machine, rows.to_vec(), remembered.to_vec())).await
    }
}
