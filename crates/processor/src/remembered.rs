//! Rule 8: which request ids of one key are known without asking the store.

use std::collections::VecDeque;

use foldhash::HashMap;
use plaza_types::{ClientId, UserId, limits::REQUEST_AHEAD};

use crate::{Outcome, Position, Remembered, ReplyWhen};

/// Whose id, and the id.
pub(crate) type Asked = (UserId, ClientId);

/// What is known of a request id.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) fingerprint: u64,
    pub(crate) outcome: Outcome,
    pub(crate) when: ReplyWhen,
}

impl Known {
    /// What a stored row says, if it is history for the record at `position`: a row written by that record itself, or by a later one that
    /// another owner has decided already, is not. Its id may have been written before its other rows, by an owner that is no more: whoever
    /// asks again waits until they are.
    pub(crate) fn from_history(row: Remembered, position: Position) -> Result<Option<Self>, prost::DecodeError> {
        if row.position >= position && !mistake!(IdRowWithoutPosition) {
            return Ok(None);
        }
        let outcome = prost::Message::decode(row.outcome)?;
        Ok(Some(Self { fingerprint: row.fingerprint, outcome, when: ReplyWhen::Written }))
    }
}

/// The request ids of one key: all that were decided since the key was loaded, as far back as the limit allows.
#[derive(Debug, Default)]
pub(crate) struct Ids {
    /// An id of this time or before may have been decided without being in `recent`.
    complete_after: u64,
    recent: HashMap<Asked, Known>,
    /// With the batch that decided each, oldest first.
    order: VecDeque<(u64, Asked)>,
}

impl Ids {
    /// Of a key whose state was loaded. No record at or below its `applied` can have been given an id newer than that record's write time
    /// plus the allowance, and every later record is decided here.
    pub(crate) fn loaded(applied_time: u64) -> Self {
        Self { complete_after: applied_time + REQUEST_AHEAD, ..Self::default() }
    }

    pub(crate) fn get(&self, asked: &Asked) -> Option<&Known> {
        self.recent.get(asked)
    }

    /// Whether the store must be asked before this id is taken for new.
    pub(crate) fn must_look_up(&self, asked: &Asked) -> bool {
        asked.1.micros() <= self.complete_after && !self.recent.contains_key(asked)
    }

    /// Adds what `batch` decided.
    pub(crate) fn add(&mut self, asked: Asked, known: Known, batch: u64) {
        self.recent.insert(asked, known);
        self.order.push_back((batch, asked));
    }

    /// Forgets the oldest above `limit` whose rows are written: those of batches up to `written`. Only between batches: whether an id must be
    /// looked up is found out for a whole batch before it is decided.
    pub(crate) fn forget(&mut self, written: u64, limit: usize) {
        while self.order.len() > limit
            && let Some(&(_, oldest)) = self.order.front().filter(|(batch, _)| *batch <= written)
        {
            self.order.pop_front();
            self.recent.remove(&oldest);
            self.complete_after = self.complete_after.max(oldest.1.micros());
        }
    }
}

#[cfg(test)]
mod tests {
    use plaza_types::limits::SECOND;

    use super::*;

    fn asked(time: u64) -> Asked {
        (UserId::from_bytes([1; 16]), ClientId::new(time, [2; 10]))
    }

    fn known() -> Known {
        Known { fingerprint: 1, outcome: Outcome::accepted("x"), when: ReplyWhen::Decided }
    }

    #[test]
    fn a_new_key_needs_no_look_up_and_a_loaded_one_only_for_what_it_may_have_forgotten() {
        assert!(!Ids::default().must_look_up(&asked(SECOND)));
        let ids = Ids::loaded(100 * SECOND);
        assert!(ids.must_look_up(&asked(99 * SECOND)));
        assert!(ids.must_look_up(&asked(100 * SECOND + REQUEST_AHEAD)));
        assert!(!ids.must_look_up(&asked(101 * SECOND + REQUEST_AHEAD)));
    }

    #[test]
    fn what_is_forgotten_is_looked_up_and_nothing_is_forgotten_before_it_is_written() {
        let mut ids = Ids::default();
        for second in 1..=4 {
            ids.add(asked(second * SECOND), known(), second);
        }
        ids.forget(2, 1);
        assert!(ids.get(&asked(2 * SECOND)).is_none() && ids.must_look_up(&asked(2 * SECOND)));
        assert!(ids.get(&asked(3 * SECOND)).is_some() && !ids.must_look_up(&asked(3 * SECOND)));
        assert!(ids.get(&asked(4 * SECOND)).is_some());
        assert!(!ids.must_look_up(&asked(5 * SECOND)));
    }
}
