//! The records of one reader between the client that fetches them and whoever reads them: bounded, so that a slow reader neither fills the
//! memory nor holds up the others of its client.

use std::{collections::VecDeque, sync::Arc};

use parking_lot::Mutex;
use plaza_event_log::{Error, Offset, Stored};
use tokio::sync::Notify;

/// At most this many records wait, or bytes, and one record more.
const MOST_RECORDS: usize = 4096;
const MOST_BYTES: usize = 1 << 20;
/// What a record takes in memory beyond key and value.
const OVERHEAD_BYTES: usize = 160;

/// One reader's records.
pub(super) struct Slot {
    pub(super) topic: Arc<str>,
    pub(super) partition: u32,
    waiting: Mutex<Waiting>,
    arrived: Notify,
}

struct Waiting {
    records: VecDeque<Stored>,
    bytes: usize,
    /// The lowest offset that is still to come.
    next: Offset,
    /// Whether a record was given, so that another offset than `next` is a gap.
    began: bool,
    flow: Flow,
    failed: Option<Error>,
}

/// Whether records come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    Open,
    /// There were too many.
    Held,
    /// There is room again, and the client was told.
    Resuming,
}

/// What came of a record.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Push {
    /// It waits.
    Taken,
    /// It waits, and there is no room for more.
    Full,
    /// It waits, and this many before it are missing in the log.
    Gap(u64),
    /// It is below what is to come.
    Old,
}

impl Slot {
    pub(super) fn new(topic: Arc<str>, partition: u32, next: Offset) -> Self {
        let waiting = Waiting { records: VecDeque::new(), bytes: 0, next, began: false, flow: Flow::Open, failed: None };
        Self { topic, partition, waiting: Mutex::new(waiting), arrived: Notify::new() }
    }

    /// Adds the next record.
    pub(super) fn push(&self, stored: Stored) -> Push {
        let mut waiting = self.waiting.lock();
        // The client may begin earlier: at the end, for a reader above it, or at the beginning, when the log lost what it knew.
        let Some(missing) = stored.offset.checked_sub(waiting.next) else { return Push::Old };
        let is_gap = waiting.began && missing > 0;
        waiting.next = stored.offset + 1;
        waiting.began = true;
        waiting.bytes += size(&stored);
        waiting.records.push_back(stored);
        let is_full = waiting.records.len() >= MOST_RECORDS || waiting.bytes >= MOST_BYTES;
        if is_full {
            waiting.flow = Flow::Held;
        }
        drop(waiting);
        self.arrived.notify_one();
        match (is_full, is_gap) {
            (true, _) => Push::Full,
            (false, true) => Push::Gap(missing),
            (false, false) => Push::Taken,
        }
    }

    /// The oldest records, at most `max`, and whether the client is to be told that there is room again.
    pub(super) fn take(&self, max: usize) -> Result<(Vec<Stored>, bool), Error> {
        let mut waiting = self.waiting.lock();
        let count = max.min(waiting.records.len());
        let records: Vec<Stored> = waiting.records.drain(..count).collect();
        waiting.bytes -= records.iter().map(size).sum::<usize>();
        let has_room = waiting.records.len() <= MOST_RECORDS / 2 && waiting.bytes <= MOST_BYTES / 2;
        let is_wanting = waiting.flow == Flow::Held && has_room;
        if is_wanting {
            waiting.flow = Flow::Resuming;
        }
        match &waiting.failed {
            Some(error) if records.is_empty() => Err(error.clone()),
            _ => Ok((records, is_wanting)),
        }
    }

    /// Returns when something came since the last return.
    pub(super) async fn arrived(&self) {
        self.arrived.notified().await;
    }

    /// Records are to come again, from the offset that is returned.
    pub(super) fn resume(&self) -> Offset {
        let mut waiting = self.waiting.lock();
        waiting.flow = Flow::Open;
        waiting.next
    }

    /// Nothing comes any more.
    pub(super) fn fail(&self, error: Error) {
        self.waiting.lock().failed.get_or_insert(error);
        self.arrived.notify_one();
    }
}

fn size(stored: &Stored) -> usize {
    stored.record.key.len() + stored.record.value.len() + OVERHEAD_BYTES
}

#[cfg(test)]
mod tests {
    use plaza_event_log::Record;

    use super::*;

    fn slot(next: Offset) -> Slot {
        Slot::new("topic".into(), 0, next)
    }

    fn stored(offset: Offset, bytes: usize) -> Stored {
        Stored { offset, appended: 0, record: Record { value: vec![0; bytes].into(), ..Record::default() } }
    }

    fn offsets(slot: &Slot, max: usize) -> Vec<Offset> {
        slot.take(max).unwrap().0.iter().map(|stored| stored.offset).collect()
    }

    #[test]
    fn what_is_below_what_was_asked_for_is_passed_over() {
        let slot = slot(5);
        assert_eq!(slot.push(stored(3, 0)), Push::Old);
        // Where it begins there may be nothing any more; after that something is missing.
        assert_eq!(slot.push(stored(7, 0)), Push::Taken);
        assert_eq!(slot.push(stored(7, 0)), Push::Old);
        assert_eq!(slot.push(stored(10, 0)), Push::Gap(2));
        assert_eq!(offsets(&slot, 10), [7, 10]);
    }

    #[test]
    fn it_is_held_when_full_and_resumes_once_when_half_of_it_was_taken() {
        let slot = slot(0);
        let most = MOST_RECORDS as u64;
        assert!((0..most - 1).all(|offset| slot.push(stored(offset, 0)) == Push::Taken));
        assert_eq!(slot.push(stored(most - 1, 0)), Push::Full);
        assert!(!slot.take(MOST_RECORDS / 2 - 1).unwrap().1);
        assert!(slot.take(1).unwrap().1);
        assert!(!slot.take(1).unwrap().1);
        assert_eq!(slot.resume(), most);
    }

    #[test]
    fn a_large_record_is_taken_and_fills_it() {
        let slot = slot(0);
        assert_eq!(slot.push(stored(0, MOST_BYTES)), Push::Full);
        let (records, is_wanting) = slot.take(1).unwrap();
        assert!(records.len() == 1 && is_wanting);
    }

    #[test]
    fn what_came_before_a_failure_is_given_first() {
        let slot = slot(0);
        slot.push(stored(0, 0));
        slot.fail(Error::Unavailable("gone".to_owned()));
        assert_eq!(offsets(&slot, 1), [0]);
        assert!(slot.take(1).is_err());
    }
}
