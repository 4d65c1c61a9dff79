//! Mistakes that tests plant in the runtime, to see that the simulation catches them. Exists only with the feature `mistakes`; without it
//! `mistake!` is `false`. A mistake is planted for one thread.

use std::{
    any::Any,
    cell::{Cell, RefCell},
    collections::HashMap,
};

use crate::Checkpoint;

/// What can be got wrong.
#[expect(missing_docs, reason = "the names say it, and the rules that they break are where they are planted")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mistake {
    ReplyBeforeDurable,
    ReplyBeforeWritten,
    StateBeforeRows,
    StateBeforeEmissions,
    StatesNotAcknowledged,
    StateInTwoParts,
    CheckpointAhead,
    MarksNotInCheckpoint,
    MarksLive,
    WriteTimeLive,
    WriteTimeNotRestored,
    WriteTimeByWallClock,
    WriteTimeOnlyOnApplied,
    OneWriteTimePerBatch,
    IdRowWithoutPosition,
    IdsCompleteAtLoad,
    IdAgeUnchecked,
    DeadlineIgnored,
    OnlySendsRemembered,
    DirtyKeyEvicted,
    CacheKeptOverRevoke,
    FirstKeyDecides,
    EmissionsNotInLogOrder,
    ProducerTimesOut,
    ParkedWithoutState,
}

/// By machine and partition.
type Kept = HashMap<(&'static str, u32), Box<dyn Any>>;

thread_local! {
    static PLANTED: Cell<Option<Mistake>> = const { Cell::new(None) };
    static LIVE: RefCell<HashMap<usize, Checkpoint>> = RefCell::default();
    static KEPT: RefCell<Kept> = RefCell::default();
}

/// Plants a mistake in everything that runs on this thread, and forgets what the last one kept.
pub fn plant(mistake: Mistake) {
    PLANTED.set(Some(mistake));
    LIVE.take();
    KEPT.take();
}

/// Whether this mistake is planted here.
#[must_use]
pub fn is_planted(mistake: Mistake) -> bool {
    PLANTED.get() == Some(mistake)
}

/// What an owner has in memory at the moment.
pub(crate) fn note_live(owner: usize, live: Checkpoint) {
    LIVE.with_borrow_mut(|all| all.insert(owner, live));
}

/// A batch's checkpoint, with what a mistake takes from elsewhere.
pub(crate) fn mixed(owner: usize, mut checkpoint: Checkpoint) -> Checkpoint {
    let live = LIVE.with_borrow(|all| all.get(&owner).cloned()).unwrap_or_default();
    match PLANTED.get() {
        Some(Mistake::MarksNotInCheckpoint) => checkpoint.marks.clear(),
        Some(Mistake::MarksLive) => checkpoint.marks = live.marks,
        Some(Mistake::WriteTimeLive) => checkpoint.last_time = live.last_time,
        _ => {}
    }
    checkpoint
}

/// Keeps what should be forgotten.
pub(crate) fn keep<T: 'static>(machine: &'static str, partition: u32, kept: T) {
    if is_planted(Mistake::CacheKeptOverRevoke) {
        KEPT.with_borrow_mut(|all| all.insert((machine, partition), Box::new(kept)));
    }
}

/// What was kept.
pub(crate) fn kept<T: 'static>(machine: &'static str, partition: u32) -> Option<T> {
    let kept = KEPT.with_borrow_mut(|all| all.remove(&(machine, partition)))?;
    kept.downcast().ok().map(|kept| *kept)
}
