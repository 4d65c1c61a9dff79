//! Making files takes a share of a core as long as there is no hurry, so that those who wait for an answer are not kept from it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use lsm_tree::compaction::filter::{CompactionFilter, Context, Factory, ItemAccessor, Verdict};

/// Rows between two looks at the clock.
const ROWS: u32 = 256;
/// Work is done in pieces of about this length.
const PIECE: Duration = Duration::from_millis(1);
/// A pause is so many times as long as the piece before it.
const PAUSE: u32 = 3;
/// The longest piece that counts: one that waited for the disk was no work.
const LONGEST: Duration = Duration::from_millis(5);

/// The pace of one piece of work.
pub(crate) struct Pace {
    rows: u32,
    begun: Instant,
}

impl Pace {
    pub(crate) fn new() -> Self {
        Self { rows: 0, begun: Instant::now() }
    }

    /// A row is done.
    #[expect(clippy::disallowed_methods, reason = "it runs on a thread of its own")]
    pub(crate) fn row(&mut self, in_hurry: impl FnOnce() -> bool) {
        self.rows += 1;
        if !self.rows.is_multiple_of(ROWS) {
            return;
        }
        let worked = self.begun.elapsed();
        if worked < PIECE {
            return;
        }
        if !in_hurry() {
            thread::sleep(worked.min(LONGEST) * PAUSE);
        }
        self.begun = Instant::now();
    }
}

/// Merges go at a pace.
pub(crate) struct Leisurely {
    pub(crate) in_hurry: Arc<AtomicBool>,
}

impl Factory for Leisurely {
    fn name(&self) -> &'static str {
        "pace"
    }

    fn make_filter(&self, _: &Context) -> Box<dyn CompactionFilter> {
        Box::new(Merging { pace: Pace::new(), in_hurry: Arc::clone(&self.in_hurry) })
    }
}

struct Merging {
    pace: Pace,
    in_hurry: Arc<AtomicBool>,
}

impl CompactionFilter for Merging {
    /// Nothing is filtered: the engine calls this for every row that it merges.
    fn filter_item(&mut self, _: ItemAccessor<'_>, _: &Context) -> lsm_tree::Result<Verdict> {
        self.pace.row(|| self.in_hurry.load(Ordering::Relaxed));
        Ok(Verdict::Keep)
    }
}
