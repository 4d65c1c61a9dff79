//! Rules 5 and 15: the states in memory. Bounded; a key leaves only when its state is written.

use std::collections::VecDeque;

use bytes::Bytes;
use foldhash::HashMap;

use crate::{Key, Position, StateRow, remembered::Ids};

/// One key's state.
#[derive(Debug)]
pub(crate) struct Entry<S> {
    pub(crate) state: S,
    /// Up to where it has applied; `None` for a key never written.
    applied: Option<Position>,
    applied_time: u64,
    /// Whether its cold part changed since it was last written.
    pub(crate) cold: bool,
    pub(crate) ids: Ids,
    /// Whether it changed since it was last handed on to be written.
    changed: bool,
    /// The batch that it was last handed on with; 0 for none.
    handed: u64,
    /// Whether it was used since the last round of eviction.
    used: bool,
}

impl<S: Default> Entry<S> {
    pub(crate) fn new() -> Self {
        Self {
            state: S::default(),
            applied: None,
            applied_time: 0,
            cold: false,
            ids: Ids::default(),
            changed: false,
            handed: 0,
            used: true,
        }
    }
}

impl<S> Entry<S> {
    pub(crate) fn loaded(state: S, row: &StateRow) -> Self {
        let ids = Ids::loaded(if mistake!(IdsCompleteAtLoad) { 0 } else { row.applied_time });
        Self { state, applied: Some(row.applied), applied_time: row.applied_time, cold: false, ids, changed: false, handed: 0, used: true }
    }

    /// Rule 3: whether the record at this position was applied already. A position of another generation says nothing about this one.
    pub(crate) fn has_applied(&self, position: Position) -> bool {
        self.applied.is_some_and(|applied| applied.generation == position.generation && applied.offset >= position.offset)
    }

    /// The record was applied (or parked). Tells whether it is the first since the state was last handed on.
    pub(crate) fn apply(&mut self, position: Position, time: u64) -> bool {
        (self.applied, self.applied_time) = (Some(position), time);
        self.used = true;
        !std::mem::replace(&mut self.changed, true)
    }

    /// Hands the state on, with a batch.
    pub(crate) fn row(&mut self, hot: Bytes, batch: u64) -> StateRow {
        (self.changed, self.handed) = (false, batch);
        StateRow { applied: self.applied.unwrap_or_default(), applied_time: self.applied_time, hot, cold: Bytes::new() }
    }
}

/// All states in memory.
#[derive(Debug)]
pub(crate) struct States<S> {
    entries: HashMap<Key, Entry<S>>,
    /// Every key once, in the order in which eviction looks at them.
    queue: VecDeque<Key>,
    limit: usize,
}

impl<S> States<S> {
    pub(crate) fn new(limit: usize) -> Self {
        Self { entries: HashMap::default(), queue: VecDeque::new(), limit }
    }

    pub(crate) fn contains(&self, key: &Key) -> bool {
        self.entries.contains_key(key)
    }

    /// Keeps a state. The key is copied, for it may be a slice of a whole record.
    pub(crate) fn insert(&mut self, key: &Key, entry: Entry<S>) {
        let key = Key(Bytes::copy_from_slice(&key.0));
        self.queue.push_back(key.clone());
        self.entries.insert(key, entry);
    }

    /// The state of a key that was loaded for the current batch.
    pub(crate) fn of(&mut self, key: &Key) -> &mut Entry<S> {
        self.entries.get_mut(key).expect("the states of a batch are loaded before it is applied, and leave after it")
    }

    /// Lets go of states above the limit that were not used lately. One that is not written with the batches up to `written` stays: it would
    /// be loaded again as it was before.
    pub(crate) fn evict(&mut self, written: u64) {
        let mut looks = 2 * self.queue.len();
        while self.entries.len() > self.limit && looks > 0 {
            looks -= 1;
            let Some(key) = self.queue.pop_front() else { return };
            let stays = self.entries.get_mut(&key).is_some_and(|entry| {
                std::mem::take(&mut entry.used) || entry.changed || (entry.handed > written && !mistake!(DirtyKeyEvicted))
            });
            if stays {
                self.queue.push_back(key);
            } else {
                self.entries.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u8) -> Key {
        Key(Bytes::from(vec![number]))
    }

    fn at(offset: u64) -> Position {
        Position { generation: 1, offset }
    }

    #[test]
    fn only_written_states_leave_and_the_unused_first() {
        let mut states = States::<u32>::new(2);
        for number in 1..=4 {
            states.insert(&key(number), Entry::new());
            states.of(&key(number)).apply(at(u64::from(number)), 1);
            states.of(&key(number)).row(Bytes::new(), u64::from(number));
        }
        states.evict(2);
        assert_eq!([1, 2, 3, 4].map(|number| states.contains(&key(number))), [false, false, true, true]);
        states.insert(&key(5), Entry::new());
        states.of(&key(3)).apply(at(9), 9);
        states.of(&key(3)).row(Bytes::new(), 5);
        states.evict(4);
        assert_eq!([3, 4, 5].map(|number| states.contains(&key(number))), [true, false, true]);
    }

    #[test]
    fn nothing_leaves_while_nothing_is_written() {
        let mut states = States::<u32>::new(1);
        for number in 1..=3 {
            states.insert(&key(number), Entry::new());
            states.of(&key(number)).apply(at(1), 1);
        }
        states.evict(1);
        assert!((1..=3).all(|number| states.contains(&key(number))), "not handed on");
        (1..=3).for_each(|number| _ = states.of(&key(number)).row(Bytes::new(), 2));
        states.evict(1);
        assert!((1..=3).all(|number| states.contains(&key(number))), "handed on and not written");
        states.evict(2);
        assert!(!states.contains(&key(1)));
    }

    #[test]
    fn positions_of_another_generation_are_not_applied() {
        let mut entry = Entry::<u32>::new();
        assert!(!entry.has_applied(Position { generation: 0, offset: 0 }));
        entry.apply(at(10), 1);
        assert!(entry.has_applied(at(10)) && entry.has_applied(at(9)) && !entry.has_applied(at(11)));
        assert!(!entry.has_applied(Position { generation: 2, offset: 3 }));
    }
}
