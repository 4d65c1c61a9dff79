//! Mistakes that tests plant in the runtime, to see that the simulation catches them. Exists only with the feature `mistakes`; without it
//! `mistake!` is `false`. A mistake is planted for one thread.

use std::{
    any::Any,
    cell::{Cell, RefCell},
    collections::{HashMap, HashSet},
};

use bytes::Bytes;

use crate::{
    Checkpoint, Key, Machine, StateRow,
    partition::Partition,
    retry::until_done,
    states::{Entry, States},
};

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
    IdOfAnySender,
    IdForAnyContent,
    DeadlineIgnored,
    OnlySendsRemembered,
    DirtyKeyEvicted,
    CacheKeptOverRevoke,
    FirstKeyDecides,
    EmissionsNotInLogOrder,
    ProducerTimesOut,
    ParkedWithoutState,
    StatesPrefetched,
    ColdOnlyWhenDifferent,
}

/// By machine and partition.
type Kept = HashMap<(&'static str, u32), Box<dyn Any>>;
/// By machine and partition: the keys that an owner has had.
type Keys = HashMap<(&'static str, u32), HashSet<Key>>;

thread_local! {
    static PLANTED: Cell<Option<Mistake>> = const { Cell::new(None) };
    static LIVE: RefCell<HashMap<usize, Checkpoint>> = RefCell::default();
    static KEPT: RefCell<Kept> = RefCell::default();
    static KEYS: RefCell<Keys> = RefCell::default();
    static COLD: RefCell<HashMap<(usize, Key), Bytes>> = RefCell::default();
}

/// Plants a mistake in everything that runs on this thread, and forgets what the last one kept.
pub fn plant(mistake: Mistake) {
    PLANTED.set(Some(mistake));
    LIVE.take();
    KEPT.take();
    KEYS.take();
    COLD.take();
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

/// An owner loads a state.
pub(crate) fn note_loaded<M: Machine>(partition: &Partition<M>, key: &Key, row: Option<&StateRow>) {
    KEYS.with_borrow_mut(|all| all.entry((M::NAME, partition.number)).or_default().insert(key.clone()));
    let cold = row.map_or_else(Bytes::new, |row| row.cold.clone());
    COLD.with_borrow_mut(|all| all.insert((std::ptr::from_ref(partition).addr(), key.clone()), cold));
}

/// The cold part that an owner writes: all of it, or, by mistake, only what is another than it has read or written last.
pub(crate) fn cold<M: Machine>(partition: &Partition<M>, key: &Key, cold: Option<Bytes>) -> Option<Bytes> {
    if !is_planted(Mistake::ColdOnlyWhenDifferent) {
        return cold;
    }
    let cold = cold?;
    let before = COLD.with_borrow_mut(|all| all.insert((std::ptr::from_ref(partition).addr(), key.clone()), cold.clone()));
    (before.as_ref() != Some(&cold)).then_some(cold)
}

/// Reads, while the checkpoint is not read yet, the states of all keys that were ever owned.
pub(crate) async fn prefetch<M: Machine>(partition: &Partition<M>) {
    let Partition { machine, deps, number, .. } = partition;
    let keys: Vec<_> = KEYS.with_borrow(|all| all.get(&(M::NAME, *number)).into_iter().flatten().cloned().collect());
    if !is_planted(Mistake::StatesPrefetched) || keys.is_empty() {
        return;
    }
    let rows = until_done(&deps.config, "read states", || deps.store.states(M::NAME, &keys)).await;
    let mut states = States::new(deps.config.states);
    for (key, row) in keys.iter().zip(rows) {
        if let Some((row, state)) = row.and_then(|row| machine.decode(&row).ok().map(|state| (row, state))) {
            states.insert(key, Entry::loaded(state, &row));
        }
    }
    KEPT.with_borrow_mut(|all| all.insert((M::NAME, *number), Box::new(states)));
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
