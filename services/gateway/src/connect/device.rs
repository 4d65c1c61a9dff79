//! What one device's stream is doing: a pure state machine between the owner of its inbox and a bounded queue. It gives every entry once and
//! in order, whatever comes in whichever order: an entry is taken only if it is the next one, and everything else is fetched again.

use std::collections::VecDeque;

use plaza_proto::{
    chat::v1::Live,
    gateway::v1::{Welcome, connect_response::Frame},
};
use prost_types::Duration;

use super::codec::Out;

/// Entries fetched at once.
pub(crate) const PAGE: u32 = 64;
// With this many left in the queue the next page is asked for, so that it is there when the queue runs empty.
const LOW: usize = 16;
// Beyond either, a live device has fallen behind.
const FULL: usize = 1024;
const FULL_BYTES: usize = 256 * 1024;

/// What the device needs from its inbox's owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Want {
    Attach { after: u64 },
    Detach,
    Pull { after: u64 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// No hello yet.
    New,
    /// Waits for a link to the owner.
    Unlinked,
    /// Asked to be attached.
    Attaching,
    /// Entries come as they are written.
    Live,
    /// There are entries to fetch, once the queue has room.
    Behind,
    /// A page is on its way.
    Pulling,
    /// Nothing is given any more.
    Over,
}

/// One device.
#[derive(Debug)]
pub(crate) struct Device {
    phase: Phase,
    welcomed: bool,
    /// The cursor of the last entry put into the queue.
    given: u64,
    queue: VecDeque<Out>,
    bytes: usize,
}

/// The owner broke the order of a page; the device cannot go on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Gap;

impl Device {
    pub(crate) fn new() -> Self {
        Self { phase: Phase::New, welcomed: false, given: 0, queue: VecDeque::new(), bytes: 0 }
    }

    pub(crate) fn said_hello(&self) -> bool {
        self.phase != Phase::New
    }

    pub(crate) fn hello(&mut self, cursor: u64, linked: bool, mut want: impl FnMut(Want)) {
        self.given = cursor;
        self.phase = Phase::Unlinked;
        if linked {
            self.linked(&mut want);
        }
    }

    pub(crate) fn linked(&mut self, mut want: impl FnMut(Want)) {
        if self.phase == Phase::Unlinked {
            self.attach(&mut want);
        }
    }

    pub(crate) fn unlinked(&mut self) {
        if !matches!(self.phase, Phase::New | Phase::Over) {
            self.phase = Phase::Unlinked;
        }
    }

    pub(crate) fn attached(&mut self, head: u64, heartbeat: Duration) {
        if self.phase == Phase::Attaching {
            self.phase = Phase::Live;
            self.welcome(head, heartbeat);
        }
    }

    /// The owner has entries that it will not push: older ones, or live ones that it had no room for.
    pub(crate) fn behind(&mut self, head: u64, heartbeat: Duration, mut want: impl FnMut(Want)) {
        if matches!(self.phase, Phase::Attaching | Phase::Live) {
            self.phase = Phase::Behind;
            self.welcome(head, heartbeat);
            self.advance(&mut want);
        }
    }

    pub(crate) fn live(&mut self, entry: Live, mut want: impl FnMut(Want)) {
        // What is not live is fetched; what was given already is a repeat.
        if self.phase != Phase::Live || entry.cursor <= self.given {
            return;
        }
        let next = entry.cursor == self.given + 1;
        if next {
            self.give(entry);
        }
        if !next || self.queue.len() > FULL || self.bytes > FULL_BYTES {
            want(Want::Detach);
            self.phase = Phase::Behind;
            self.advance(&mut want);
        }
    }

    pub(crate) fn page(&mut self, entries: Vec<Live>, head: u64, mut want: impl FnMut(Want)) -> Result<(), Gap> {
        if self.phase != Phase::Pulling {
            return Ok(());
        }
        let before = self.given;
        for entry in entries.into_iter().skip_while(|entry| entry.cursor <= before) {
            if entry.cursor != self.given + 1 {
                return Err(Gap);
            }
            self.give(entry);
        }
        if self.given >= head {
            self.attach(&mut want);
        } else {
            self.phase = Phase::Behind;
            // Nothing new below the head: it is not readable yet, and [`Device::retry`] asks again.
            if self.given > before {
                self.advance(&mut want);
            }
        }
        Ok(())
    }

    /// Puts a frame that is no entry into the queue. The caller bounds how many there can be.
    pub(crate) fn tell(&mut self, frame: Frame) {
        self.push(Out::frame(frame));
    }

    /// The next frame for the device.
    pub(crate) fn take(&mut self, mut want: impl FnMut(Want)) -> Option<Out> {
        let out = self.queue.pop_front()?;
        self.bytes -= out.size();
        if self.queue.is_empty() && self.queue.capacity() > LOW {
            // An idle stream keeps nothing of what its busy times needed.
            self.queue = VecDeque::new();
        }
        self.advance(&mut want);
        Some(out)
    }

    pub(crate) fn has_waiting(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Whether answers to more frames of the device can be put into the queue.
    pub(crate) fn has_room(&self) -> bool {
        self.queue.len() <= FULL && self.bytes <= FULL_BYTES
    }

    /// Asks again for a page that had nothing; called now and then.
    pub(crate) fn retry(&mut self, mut want: impl FnMut(Want)) {
        self.advance(&mut want);
    }

    /// Drops what waits and takes nothing more.
    pub(crate) fn end(&mut self) {
        self.phase = Phase::Over;
        self.queue = VecDeque::new();
        self.bytes = 0;
    }

    fn welcome(&mut self, head: u64, heartbeat: Duration) {
        if !self.welcomed {
            self.welcomed = true;
            self.tell(Frame::Welcome(Welcome { head, heartbeat_interval: Some(heartbeat) }));
        }
    }

    fn attach(&mut self, want: &mut impl FnMut(Want)) {
        self.phase = Phase::Attaching;
        want(Want::Attach { after: self.given });
    }

    fn advance(&mut self, want: &mut impl FnMut(Want)) {
        if self.phase == Phase::Behind && self.queue.len() <= LOW {
            self.phase = Phase::Pulling;
            want(Want::Pull { after: self.given });
        }
    }

    fn give(&mut self, entry: Live) {
        self.given = entry.cursor;
        self.push(Out::Entry { cursor: entry.cursor, event: entry.event });
    }

    fn push(&mut self, out: Out) {
        self.bytes += out.size();
        self.queue.push_back(out);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    const BEAT: Duration = Duration { seconds: 30, nanos: 0 };

    fn entry(cursor: u64) -> Live {
        Live { cursor, event: Bytes::from_static(b"event") }
    }

    fn taken(device: &mut Device, wants: &mut Vec<Want>) -> Vec<u64> {
        let mut cursors = Vec::new();
        while let Some(out) = device.take(|want| wants.push(want)) {
            if let Out::Entry { cursor, .. } = out {
                cursors.push(cursor);
            }
        }
        cursors
    }

    #[test]
    fn old_entries_come_first_then_live_ones() {
        let (mut device, mut wants) = (Device::new(), Vec::new());
        device.hello(3, true, |want| wants.push(want));
        device.behind(6, BEAT, |want| wants.push(want));
        assert_eq!(wants, [Want::Attach { after: 3 }, Want::Pull { after: 3 }]);
        device.live(entry(7), |_| panic!("not live yet"));
        assert_eq!(device.page(vec![entry(4), entry(5)], 6, |want| wants.push(want)), Ok(()));
        assert_eq!(device.page(vec![entry(6)], 6, |want| wants.push(want)), Ok(()));
        assert_eq!(wants[2..], [Want::Pull { after: 5 }, Want::Attach { after: 6 }]);
        device.attached(6, BEAT);
        for cursor in [6, 7, 7, 8] {
            device.live(entry(cursor), |_| panic!("nothing is missing"));
        }
        assert_eq!(taken(&mut device, &mut wants), [4, 5, 6, 7, 8]);
    }

    #[test]
    fn a_cursor_above_the_head_waits_for_what_comes_after_it() {
        let (mut device, mut wants) = (Device::new(), Vec::new());
        device.hello(9, true, |want| wants.push(want));
        device.attached(7, BEAT);
        for cursor in 8..=10 {
            device.live(entry(cursor), |_| panic!("nothing is missing"));
        }
        assert_eq!(taken(&mut device, &mut wants), [10]);
    }

    #[test]
    fn a_full_queue_drops_to_fetching_and_back() {
        let (mut device, mut wants) = (Device::new(), Vec::new());
        device.hello(0, true, |_| {});
        device.attached(0, BEAT);
        let total = 2 * FULL as u64;
        for cursor in 1..=total {
            device.live(entry(cursor), |want| wants.push(want));
        }
        assert_eq!(wants, [Want::Detach]);
        assert!(device.queue.len() <= FULL + 2);
        let mut seen = taken(&mut device, &mut wants);
        assert_eq!(wants.pop(), Some(Want::Pull { after: seen.len() as u64 }));
        assert_eq!(device.page((seen.len() as u64 + 1..=total).map(entry).collect(), total, |want| wants.push(want)), Ok(()));
        assert_eq!(wants.pop(), Some(Want::Attach { after: total }));
        seen.extend(taken(&mut device, &mut wants));
        assert_eq!(seen, (1..=total).collect::<Vec<_>>());
    }

    #[test]
    fn an_owner_without_room_sends_a_live_device_to_fetch() {
        let (mut device, mut wants) = (Device::new(), Vec::new());
        device.hello(0, true, |_| {});
        device.attached(0, BEAT);
        device.live(entry(1), |_| panic!("nothing is missing"));
        device.behind(3, BEAT, |want| wants.push(want));
        assert_eq!(device.page(vec![entry(2), entry(3)], 3, |want| wants.push(want)), Ok(()));
        assert_eq!(wants, [Want::Pull { after: 1 }, Want::Attach { after: 3 }]);
        assert_eq!(taken(&mut device, &mut wants), [1, 2, 3]);
    }

    #[test]
    fn a_page_that_leaves_something_out_is_not_given() {
        let mut device = Device::new();
        device.hello(0, true, |_| {});
        device.behind(9, BEAT, |_| {});
        assert_eq!(device.page(vec![entry(1), entry(3)], 9, |_| {}), Err(Gap));
    }

    #[test]
    fn an_empty_page_below_the_head_is_asked_for_again_later() {
        let (mut device, mut wants) = (Device::new(), Vec::new());
        device.hello(0, true, |_| {});
        device.behind(1, BEAT, |_| {});
        assert_eq!(device.page(Vec::new(), 1, |_| panic!("not at once")), Ok(()));
        device.retry(|want| wants.push(want));
        device.retry(|want| wants.push(want));
        assert_eq!(wants, [Want::Pull { after: 0 }]);
    }

    #[test]
    fn nothing_is_given_after_the_end() {
        let mut device = Device::new();
        device.hello(0, true, |_| {});
        device.attached(0, BEAT);
        device.end();
        device.unlinked();
        device.linked(|_| panic!("it is over"));
        device.live(entry(1), |_| panic!("it is over"));
        assert!(!device.has_waiting());
    }

    proptest! {
        // An owner that answers from an inbox that grows, on a link that breaks: the device gets every entry once, in order.
        #[test]
        fn every_entry_once_in_order(start in 0u64..5, steps in prop::collection::vec(0u8..6, 1..400)) {
            let (mut device, mut head, mut attached) = (Device::new(), 5u64, false);
            let mut wants: VecDeque<Want> = VecDeque::new();
            let mut seen = Vec::new();
            let mut wanted = Vec::new();
            device.hello(start, true, |want| wanted.push(want));
            let steps = steps.into_iter().chain(std::iter::repeat_n([2, 3], 2000).flatten());
            for step in steps {
                match step {
                    0 | 1 => {
                        head += 1;
                        if attached && step == 0 { device.live(entry(head), |want| wanted.push(want)); }
                        if attached && step == 1 { attached = false; device.behind(head, BEAT, |want| wanted.push(want)); }
                    }
                    2 => match wants.pop_front() {
                        Some(Want::Attach { after }) if after >= head => { attached = true; device.attached(head, BEAT); }
                        Some(Want::Attach { .. }) => { attached = false; device.behind(head, BEAT, |want| wanted.push(want)); }
                        Some(Want::Detach) => attached = false,
                        Some(Want::Pull { after }) => {
                            let last = head.min(after + 3);
                            prop_assert_eq!(device.page((after + 1..=last).map(entry).collect(), head, |want| wanted.push(want)), Ok(()));
                        }
                        None => {}
                    },
                    3 => if let Some(Out::Entry { cursor, .. }) = device.take(|want| wanted.push(want)) { seen.push(cursor) },
                    4 => if attached { device.live(entry(head), |want| wanted.push(want)) },
                    _ => {
                        (attached, wanted) = (false, Vec::new());
                        wants.clear();
                        device.unlinked();
                        device.linked(|want| wanted.push(want));
                    }
                }
                wants.extend(wanted.drain(..));
            }
            prop_assert_eq!(seen, (start + 1..=head).collect::<Vec<_>>());
        }
    }
}
