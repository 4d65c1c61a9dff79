//! What a caller hands to the writer: rows to write together, and what must hold for them to be written.

use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::{Keyspace, Sequence, timed};

/// What an operation costs in the queue beyond its key and value.
const OVERHEAD_BYTES: usize = 64;
const MAX_KEY_BYTES: usize = u16::MAX as usize;
const MAX_ENTRY_BYTES: usize = u32::MAX as usize >> 1;

#[derive(Debug)]
pub(crate) struct Operation {
    /// The keyspace's place in the batch's list.
    pub(crate) keyspace: usize,
    /// Empty for an entry of a sequence.
    pub(crate) key: Bytes,
    pub(crate) action: Action,
}

#[derive(Debug)]
pub(crate) enum Action {
    Insert(Bytes),
    Remove,
    /// Keep the larger of the stored form and this one.
    Merge(Bytes),
    /// The entry of this number.
    Append(u64, Bytes),
}

/// Rows written atomically, in any number of keyspaces.
///
/// A key is used either with `insert` and `remove` or with `upsert_at` and `remove_at`, never with both
/// kinds. Within a batch a later operation on the same key wins over an earlier one of its kind.
///
/// Keys are 1 to 65535 bytes long: every method panics on another length, in the caller rather than in
/// the writer that everybody shares.
#[derive(Debug, Default)]
pub struct Batch {
    /// Each once, and not with each operation: to share a handle between threads costs as much as an operation's bytes.
    pub(crate) keyspaces: SmallVec<[Keyspace; 1]>,
    pub(crate) operations: Vec<Operation>,
    bytes: usize,
}

impl Batch {
    /// An empty batch. Enqueued as it is, it marks a position and writes nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes a row without reading what was there: for rows that are only ever rewritten identically.
    pub fn insert(&mut self, keyspace: &Keyspace, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        self.push(keyspace, key.into(), Action::Insert(value.into()));
    }

    /// Removes a row written by [`insert`](Self::insert).
    pub fn remove(&mut self, keyspace: &Keyspace, key: impl Into<Bytes>) {
        self.push(keyspace, key.into(), Action::Remove);
    }

    /// Writes a row unless a later write is there already. At the same time the larger value stays, so
    /// the outcome never depends on the order in which writes arrive.
    pub fn upsert_at(&mut self, keyspace: &Keyspace, key: impl Into<Bytes>, time_micros: u64, value: impl AsRef<[u8]>) {
        let stored = timed::value(time_micros, value.as_ref());
        self.push(keyspace, key.into(), Action::Merge(stored));
    }

    /// Removes a row unless a later write is there already. A mark stays, so that an older write that
    /// arrives afterwards does not bring the row back. At the same time removal wins.
    pub fn remove_at(&mut self, keyspace: &Keyspace, key: impl Into<Bytes>, time_micros: u64) {
        self.push(keyspace, key.into(), Action::Merge(timed::removed(time_micros)));
    }

    /// Appends an entry to a sequence. Numbers must grow in the order of positions, over all batches; consecutive ones are stored together.
    ///
    /// # Panics
    /// If the entry has 2 GiB or more.
    pub fn append(&mut self, sequence: &Sequence, number: u64, entry: impl Into<Bytes>) {
        let entry = entry.into();
        assert!(entry.len() <= MAX_ENTRY_BYTES, "an entry of {} bytes", entry.len());
        self.take(&sequence.runs, Bytes::new(), Action::Append(number, entry));
    }

    /// How many operations there are.
    pub fn len(&self) -> usize {
        self.operations.len()
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    /// What this batch takes of the queue's limit.
    pub(crate) fn queue_bytes(&self) -> usize {
        self.bytes
    }

    fn push(&mut self, keyspace: &Keyspace, key: Bytes, action: Action) {
        assert!((1..=MAX_KEY_BYTES).contains(&key.len()), "a key of {} bytes", key.len());
        self.take(keyspace, key, action);
    }

    fn take(&mut self, keyspace: &Keyspace, key: Bytes, action: Action) {
        let value_bytes = match &action {
            Action::Insert(value) | Action::Merge(value) | Action::Append(_, value) => value.len(),
            Action::Remove => 0,
        };
        self.bytes += OVERHEAD_BYTES + key.len() + value_bytes;
        let known = self.keyspaces.iter().position(|known| Arc::ptr_eq(&known.table, &keyspace.table));
        let keyspace = known.unwrap_or_else(|| {
            self.keyspaces.push(keyspace.clone());
            self.keyspaces.len() - 1
        });
        self.operations.push(Operation { keyspace, key, action });
    }
}

/// What a row must be for a conditional batch to be written. For rows written by [`Batch::insert`].
#[derive(Debug)]
pub struct Expect {
    /// Where the row is.
    pub keyspace: Keyspace,
    /// The row's key.
    pub key: Bytes,
    /// The row's value; `None` = there must be no such row.
    pub expected: Option<Bytes>,
}

impl Expect {
    /// There must be no row of this key.
    pub fn absent(keyspace: &Keyspace, key: impl Into<Bytes>) -> Self {
        Self { keyspace: keyspace.clone(), key: key.into(), expected: None }
    }

    /// The row must have exactly this value.
    pub fn equal(keyspace: &Keyspace, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        Self { keyspace: keyspace.clone(), key: key.into(), expected: Some(value.into()) }
    }
}
