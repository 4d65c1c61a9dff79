//! The records of one reader between the client that fetches them and whoever reads them: bounded, so that a slow reader neither fills the
//! memory nor holds up the others of its client.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;
use plaza_event_log::{Error, Offset, Stored};
use tokio::sync::Notify;

/// This much may wait for every reader,
const LEAST_BYTES: usize = 256 << 10;
/// and for one that is far behind this much,
const MOST_BYTES: usize = 8 << 20;
/// as long as all readers together have less than this. A record more can always come.
const ALL_BYTES: usize = 64 << 20;
/// What a record takes in memory beyond key and value.
const OVERHEAD_BYTES: usize = 160;

/// Bytes that wait for all readers of a log.
#[derive(Debug, Clone, Default)]
pub(super) struct Total(Arc<AtomicUsize>);

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
    total: Total,
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
    /// There were too many, and so many bytes may wait when there is room again.
    Held {
        until: usize,
    },
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
    pub(super) fn new(topic: Arc<str>, partition: u32, next: Offset, total: Total) -> Self {
        let waiting = Waiting { records: VecDeque::new(), bytes: 0, total, next, began: false, flow: Flow::Open, failed: None };
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
        let is_full = waiting.add(stored);
        if is_full {
            waiting.flow = Flow::Held { until: waiting.bytes / 2 };
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
        waiting.remove(records.iter().map(size).sum());
        let is_wanting = matches!(waiting.flow, Flow::Held { until } if waiting.bytes <= until);
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

impl Waiting {
    /// Whether it is enough.
    fn add(&mut self, stored: Stored) -> bool {
        let bytes = size(&stored);
        self.records.push_back(stored);
        self.bytes += bytes;
        let all = self.total.0.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.bytes >= MOST_BYTES || (self.bytes >= LEAST_BYTES && all >= ALL_BYTES)
    }

    fn remove(&mut self, bytes: usize) {
        self.bytes -= bytes;
        self.total.0.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.remove(self.bytes);
    }
}

fn size(stored: &Stored) -> usize {
    stored.record.key.len() + stored.record.value.len() + OVERHEAD_BYTES
}

#[cfg(test)]
mod tests {
    use plaza_event_log::Record;

    use super::*;

    fn slot(next: Offset, total: &Total) -> Slot {
        Slot::new("topic".into(), 0, next, total.clone())
    }

    fn stored(offset: Offset, bytes: usize) -> Stored {
        Stored { offset, appended: 0, record: Record { value: vec![0; bytes].into(), ..Record::default() } }
    }

    fn offsets(slot: &Slot, max: usize) -> Vec<Offset> {
        slot.take(max).unwrap().0.iter().map(|stored| stored.offset).collect()
    }

    /// Pushes records of 64 KiB until there are enough; how many there are then.
    fn fill(slot: &Slot, from: Offset) -> u64 {
        let mut offset = from;
        while slot.push(stored(offset, (64 << 10) - OVERHEAD_BYTES)) != Push::Full {
            offset += 1;
        }
        offset + 1 - from
    }

    #[test]
    fn what_is_below_what_was_asked_for_is_passed_over() {
        let slot = slot(5, &Total::default());
        assert_eq!(slot.push(stored(3, 0)), Push::Old);
        // Where it begins there may be nothing any more; after that something is missing.
        assert_eq!(slot.push(stored(7, 0)), Push::Taken);
        assert_eq!(slot.push(stored(7, 0)), Push::Old);
        assert_eq!(slot.push(stored(10, 0)), Push::Gap(2));
        assert_eq!(offsets(&slot, 10), [7, 10]);
    }

    #[test]
    fn it_is_held_when_full_and_resumes_once_when_half_of_it_was_taken() {
        let slot = slot(0, &Total::default());
        let most = fill(&slot, 0);
        assert_eq!(most, (MOST_BYTES >> 16) as u64);
        assert!(!slot.take(most as usize / 2 - 1).unwrap().1);
        assert!(slot.take(1).unwrap().1);
        assert!(!slot.take(1).unwrap().1);
        assert_eq!(slot.resume(), most);
    }

    #[test]
    fn many_readers_far_behind_have_less_each_but_never_nothing() {
        let total = Total::default();
        let slots: Vec<Slot> = (0..12).map(|_| slot(0, &total)).collect();
        let filled: Vec<u64> = slots.iter().map(|slot| fill(slot, 0)).collect();
        assert_eq!(filled[..8], [128; 8][..]);
        assert_eq!(filled[8..], [4; 4][..], "the least for each");
        drop(slots);
        assert_eq!(total.0.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn what_came_before_a_failure_is_given_first() {
        let slot = slot(0, &Total::default());
        slot.push(stored(0, 0));
        slot.fail(Error::Unavailable("gone".to_owned()));
        assert_eq!(offsets(&slot, 1), [0]);
        assert!(slot.take(1).is_err());
    }
}
