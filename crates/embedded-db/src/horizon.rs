//! How far readers see, while a group of writes is applied to many tables and tables change their files.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use lsm_tree::SequenceNumberCounter;
use parking_lot::{Mutex, MutexGuard, RwLock, RwLockReadGuard};

/// How long readers may be kept waiting to learn where the slowest of them looks.
const PATIENCE: Duration = Duration::from_millis(1);

/// Groups and changes of tables' files take their sequences from one counter. The engine moves a counter of its own past a group that is
/// still being applied when a table changes its files, so readers go by this one.
#[derive(Debug, Default)]
pub(crate) struct Horizon {
    /// The next sequence.
    next: SequenceNumberCounter,
    /// Readers see what has a lower sequence.
    visible: AtomicU64,
    /// Held while a reader takes hold of what it reads.
    opening: RwLock<()>,
    /// Held while a group is applied.
    applying: Mutex<()>,
    /// No reader that still opens its tables looks below.
    settled: AtomicU64,
}

/// A place in time. What it is given to must take hold of the tables' files before it is dropped.
pub(crate) struct Snapshot<'h> {
    pub(crate) sequence: u64,
    _opening: RwLockReadGuard<'h, ()>,
}

/// While it lives, a group is being applied.
pub(crate) struct Applying<'h> {
    horizon: &'h Horizon,
    pub(crate) sequence: u64,
    _applying: MutexGuard<'h, ()>,
}

impl Horizon {
    /// The counter for the engine.
    pub(crate) fn counter(&self) -> SequenceNumberCounter {
        self.next.clone()
    }

    /// Everything up to this sequence was written, and is seen.
    pub(crate) fn recovered(&self, last: u64) {
        self.next.fetch_max(last + 1);
        self.raise();
    }

    pub(crate) fn snapshot(&self) -> Snapshot<'_> {
        let opening = self.opening.read();
        Snapshot { sequence: self.visible.load(Ordering::Acquire), _opening: opening }
    }

    /// Takes the sequence of the next group.
    pub(crate) fn apply(&self) -> Applying<'_> {
        let applying = self.applying.lock();
        Applying { horizon: self, sequence: self.next.next(), _applying: applying }
    }

    /// Below it nobody will look any more: of what was written there, only the last of each key is still read.
    pub(crate) fn settled(&self) -> u64 {
        self.raise();
        // A reader may wait for the disk, and the others must not wait for it.
        if let Some(_none_opens) = self.opening.try_write_for(PATIENCE) {
            self.settled.store(self.visible.load(Ordering::Acquire), Ordering::Release);
        }
        self.settled.load(Ordering::Acquire)
    }

    /// Lets readers see behind changes of files, too: they go by those only then, and the files before can be let go of.
    fn raise(&self) {
        let _none_applies = self.applying.lock();
        self.visible.fetch_max(self.next.get(), Ordering::Release);
    }
}

impl Applying<'_> {
    /// Readers see the group from now on.
    pub(crate) fn publish(self) {
        self.horizon.visible.store(self.sequence + 1, Ordering::Release);
    }
}
