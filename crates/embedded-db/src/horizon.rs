//! How far readers see: a group of writes is seen in all tables at once, and a reader that takes its time sees what was there when it began.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;

/// Readers see what has a lower sequence than theirs.
#[derive(Debug, Default)]
pub(crate) struct Horizon {
    visible: AtomicU64,
    /// Where the readers that take their time look, and how many there are of each.
    snapshots: Mutex<BTreeMap<u64, usize>>,
}

/// A place in time. What it shows is kept while it lives.
#[derive(Debug)]
pub(crate) struct Snapshot {
    horizon: Arc<Horizon>,
    pub(crate) sequence: u64,
}

impl Horizon {
    /// Readers see everything up to this sequence from now on.
    pub(crate) fn publish(&self, sequence: u64) {
        self.visible.store(sequence + 1, Ordering::Release);
    }

    /// Where a reader looks that begins now.
    pub(crate) fn visible(&self) -> u64 {
        self.visible.load(Ordering::Acquire)
    }

    pub(crate) fn snapshot(self: &Arc<Self>) -> Snapshot {
        let mut snapshots = self.snapshots.lock();
        let sequence = self.visible();
        *snapshots.entry(sequence).or_default() += 1;
        Snapshot { horizon: Arc::clone(self), sequence }
    }

    /// No reader looks below, now or later.
    pub(crate) fn oldest(&self) -> u64 {
        let snapshots = self.snapshots.lock();
        // Whoever comes next sees at least what is visible now.
        snapshots.keys().next().copied().unwrap_or_else(|| self.visible())
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        let mut snapshots = self.horizon.snapshots.lock();
        if let Some(count) = snapshots.get_mut(&self.sequence) {
            *count -= 1;
            if *count == 0 {
                snapshots.remove(&self.sequence);
            }
        }
    }
}
