//! What is kept in memory of edges and settings, in a bounded number, until an event says that it changed. A value read while its change was
//! on the way is not kept: it may be the one from before.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
};

use parking_lot::Mutex;
use quick_cache::sync::Cache;

/// Events remembered: a read that saw more of them pass is not kept.
const EVENTS: usize = 4_096;

/// Values by their keys.
pub(crate) struct Kept<K, V> {
    values: Cache<K, V>,
    changes: Mutex<Changes<K>>,
}

/// The latest events.
struct Changes<K> {
    /// How many there were.
    count: u64,
    /// The newest of each key among them: its number, and the write time of what it tells of.
    newest: HashMap<K, (u64, u64)>,
    order: VecDeque<K>,
}

/// The moment before a read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Began(u64);

impl<K: Clone + Eq + Hash, V: Clone> Kept<K, V> {
    /// At most about this many values.
    pub(crate) fn new(values: usize) -> Self {
        let changes = Changes { count: 0, newest: HashMap::new(), order: VecDeque::new() };
        Self { values: Cache::new(values), changes: Mutex::new(changes) }
    }

    pub(crate) fn get(&self, key: &K) -> Option<V> {
        self.values.get(key)
    }

    /// To be asked for before a value is read that is to be kept.
    pub(crate) fn begin(&self) -> Began {
        Began(self.changes.lock().count)
    }

    /// Keeps a value read since `began`, unless it may be from before a change. `version` is the write time of what was read.
    pub(crate) fn keep(&self, began: Began, key: K, value: V, version: u64) {
        let changes = self.changes.lock();
        let forgotten = changes.count - began.0 >= EVENTS as u64;
        let stale = changes.newest.get(&key).is_some_and(|(number, time)| *number > began.0 || version < *time);
        if !forgotten && !stale {
            // Under the lock, or a change could come in between.
            self.values.insert(key, value);
        }
    }

    /// Forgets a value that changed at this write time.
    pub(crate) fn changed(&self, key: K, time: u64) {
        let mut changes = self.changes.lock();
        changes.count += 1;
        self.values.remove(&key);
        let number = changes.count;
        changes.newest.insert(key.clone(), (number, time));
        changes.order.push_back(key);
        if changes.order.len() > EVENTS
            && let Some(oldest) = changes.order.pop_front()
        {
            let passed = number - EVENTS as u64;
            if changes.newest.get(&oldest).is_some_and(|(number, _)| *number <= passed) {
                changes.newest.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_kept_until_it_changes() {
        let kept = Kept::new(100);
        kept.keep(kept.begin(), 1, "old", 10);
        assert_eq!(kept.get(&1), Some("old"));
        kept.changed(1, 20);
        assert_eq!(kept.get(&1), None);
        kept.keep(kept.begin(), 1, "new", 20);
        assert_eq!((kept.get(&1), kept.get(&2)), (Some("new"), None));
    }

    #[test]
    fn what_was_read_around_a_change_is_not_kept() {
        let kept = Kept::new(100);
        let before = kept.begin();
        kept.changed(1, 20);
        kept.keep(before, 1, "read before the event came", 20);
        assert_eq!(kept.get(&1), None);
        kept.keep(kept.begin(), 1, "the event came before the row", 19);
        assert_eq!(kept.get(&1), None);
        kept.keep(before, 2, "another key", 1);
        assert_eq!(kept.get(&2), Some("another key"));
    }

    #[test]
    fn a_read_that_saw_too_much_pass_is_not_kept_and_events_are_bounded() {
        let kept = Kept::new(100);
        let before = kept.begin();
        for key in 0..3 * EVENTS {
            kept.changed(key % (2 * EVENTS), 1);
        }
        kept.keep(before, usize::MAX, (), 9);
        assert_eq!(kept.get(&usize::MAX), None);
        let changes = kept.changes.lock();
        assert_eq!((changes.order.len(), changes.newest.len()), (EVENTS, EVENTS));
    }
}
