//! What the runtime needs of a service's store. A service's own store trait extends [`Store`] with the verbs its API reads by.
//!
//! # Contract
//! - Every write carries a write time in microseconds; of two writes of the same row the later time wins, whatever order they arrive in.
//! - A write that failed may have happened, or may happen later. Writing the same again is harmless.
//! - Reads by the owner are monotonic: what a read has shown, later reads show (or newer).
//! - A state row is read and written whole.

use async_trait::async_trait;
use bytes::Bytes;

use crate::{Key, Position};

/// It did not work; it may work later.
#[derive(Debug, Clone, thiserror::Error)]
#[error("store: {message}")]
pub struct StoreError {
    /// What went wrong, for the log.
    pub message: String,
}

/// The stored state of one key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StateRow {
    /// Up to where the key has applied its partition's records.
    pub applied: Position,
    /// The write time of the record at `applied`.
    pub applied_time: u64,
    /// The part written with every change.
    pub hot: Bytes,
    /// The part written when touched.
    pub cold: Bytes,
}

/// A state to be written.
#[derive(Debug, Clone)]
pub struct StateWrite {
    /// Of which key.
    pub key: Key,
    /// The write time of the last record that touched it.
    pub time: u64,
    /// `applied`, its time, `hot`; `cold` is ignored here.
    pub row: StateRow,
    /// The cold part, when it was touched since it was last written.
    pub cold: Option<Bytes>,
}

/// Up to where one source's emissions have been applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// The source topic.
    pub topic: String,
    /// The source partition.
    pub partition: u32,
    /// The position of the source record.
    pub position: Position,
    /// The index of the emission.
    pub index: u32,
}

/// Where a partition's owner begins: everything as of the end of one batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checkpoint {
    /// The next offset to read.
    pub next: Position,
    /// The last write time given.
    pub last_time: u64,
    /// One for each source partition seen.
    pub marks: Vec<Mark>,
}

/// What a remembered request id is found by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct IdKey {
    /// The deciding key.
    pub key: Key,
    /// The caller, 16 bytes.
    pub caller: Bytes,
    /// The request id, 16 bytes.
    pub request: Bytes,
}

/// A remembered request id. Kept for 7 days at least.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remembered {
    /// What it is found by.
    pub id: IdKey,
    /// The record that decided it: only one below the record being decided counts.
    pub position: Position,
    /// What was asked.
    pub fingerprint: u64,
    /// An encoded `Outcome`.
    pub outcome: Bytes,
}

/// A row with its write time.
#[derive(Debug, Clone)]
pub struct Timed<R> {
    /// Microseconds.
    pub time: u64,
    /// The row.
    pub row: R,
}

/// Where one machine's states, checkpoints, remembered ids and rows are. See the module for the contract. `machine` is `Machine::NAME`.
#[async_trait]
pub trait Store<R: Send + Sync + 'static>: Send + Sync {
    /// The checkpoint of a partition; `None` before the first.
    async fn checkpoint(&self, machine: &'static str, partition: u32) -> Result<Option<Checkpoint>, StoreError>;

    /// Writes a checkpoint; its write time is `last_time`.
    async fn write_checkpoint(&self, machine: &'static str, partition: u32, checkpoint: &Checkpoint) -> Result<(), StoreError>;

    /// The states of these keys, in order; `None` for a key never written.
    async fn states(&self, machine: &'static str, keys: &[Key]) -> Result<Vec<Option<StateRow>>, StoreError>;

    /// Writes states, of different keys.
    async fn write_states(&self, machine: &'static str, states: &[StateWrite]) -> Result<(), StoreError>;

    /// Remembered ids, in order; `None` for one never written.
    async fn remembered(&self, machine: &'static str, ids: &[IdKey]) -> Result<Vec<Option<Remembered>>, StoreError>;

    /// Writes rows and remembered ids.
    async fn write_rows(&self, machine: &'static str, rows: &[Timed<R>], remembered: &[Timed<Remembered>]) -> Result<(), StoreError>;
}
