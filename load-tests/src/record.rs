//! Latencies: one histogram for each measure and phase, and one for each measure and interval of the run. Threads record into shards, so
//! that they do not wait for each other; once an interval the shards are emptied.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use hdrhistogram::Histogram;
use parking_lot::Mutex;

use crate::{operation::Measure, scenario::Kind};

/// Three digits up to ten minutes, in microseconds.
#[must_use]
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 600_000_000, 3).expect("bounds are constants")
}

/// Two digits, for the intervals.
fn coarse() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 600_000_000, 2).expect("bounds are constants")
}

const MEASURES: usize = Measure::ALL.len();
const KINDS: usize = Kind::ALL.len();

/// What one thread recorded since the shards were emptied.
struct Shard {
    by_phase: Vec<Option<Histogram<u64>>>,
    interval: Vec<Option<Histogram<u64>>>,
}

impl Shard {
    fn new() -> Self {
        Self { by_phase: vec![None; MEASURES * KINDS], interval: vec![None; MEASURES] }
    }
}

/// A clock that all times of a run are counted by: microseconds since its start. It stands at 0 until it is started; clones are the same clock.
#[derive(Debug, Clone)]
pub struct Clock(Arc<Face>);

#[derive(Debug)]
struct Face {
    made: Instant,
    made_epoch: u64,
    /// The start, microseconds after it was made.
    start: AtomicU64,
}

impl Clock {
    /// A clock that stands.
    #[must_use]
    pub fn standing() -> Self {
        let epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let made_epoch = u64::try_from(epoch.as_micros()).unwrap_or(u64::MAX);
        Self(Arc::new(Face { made: Instant::now(), made_epoch, start: AtomicU64::new(u64::MAX) }))
    }

    /// Starts it now.
    pub fn start(&self) {
        self.0.start.store(self.since_made(), Ordering::Relaxed);
    }

    fn since_made(&self) -> u64 {
        u64::try_from(self.0.made.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn start_after_made(&self) -> u64 {
        match self.0.start.load(Ordering::Relaxed) {
            u64::MAX => self.since_made(),
            start => start,
        }
    }

    /// Microseconds since the start.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.since_made().saturating_sub(self.start_after_made())
    }

    /// The moment that is so long after the start.
    #[must_use]
    pub fn at(&self, after: Duration) -> Instant {
        self.0.made + Duration::from_micros(self.start_after_made()) + after
    }

    /// A time of the run in microseconds since the epoch.
    #[must_use]
    pub fn epoch_micros(&self, micros: u64) -> u64 {
        self.0.made_epoch + self.start_after_made() + micros
    }
}

/// One interval of the run, as the report shows it.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Interval {
    /// Its end, seconds from the start.
    pub at: f64,
    /// Operations that were due a second.
    pub offered: f64,
    /// Operations that were answered a second, failures too.
    pub achieved: f64,
    /// Of what was answered in it: count, p50, p90, p99, p99.9, max in milliseconds.
    pub latencies: BTreeMap<Measure, [f64; 6]>,
}

/// Everything that is recorded.
pub struct Recorder {
    clock: Clock,
    ends: Vec<(u64, Kind)>,
    shards: Vec<Mutex<Shard>>,
    totals: Mutex<Vec<Option<Histogram<u64>>>>,
    offered: AtomicU64,
    answered: AtomicU64,
    /// Starts later than a second, and all starts.
    late: AtomicU64,
    started: AtomicU64,
    most_late: AtomicU64,
    failures: Mutex<BTreeMap<(Measure, String), u64>>,
}

/// More late than this is late.
const LATE_MICROS: u64 = 1_000_000;

thread_local! {
    static SHARD: std::cell::Cell<usize> = const { std::cell::Cell::new(usize::MAX) };
}
static NEXT_SHARD: AtomicUsize = AtomicUsize::new(0);

impl Recorder {
    /// With the ends of the phases.
    #[must_use]
    pub fn new(clock: Clock, phases: &[(Duration, Kind)]) -> Self {
        let ends = phases.iter().map(|(end, kind)| (u64::try_from(end.as_micros()).unwrap_or(u64::MAX), *kind)).collect();
        let shards = std::thread::available_parallelism().map_or(1, usize::from) + 1;
        Self {
            clock,
            ends,
            shards: (0..shards).map(|_| Mutex::new(Shard::new())).collect(),
            totals: Mutex::new(vec![None; MEASURES * KINDS]),
            offered: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            late: AtomicU64::new(0),
            started: AtomicU64::new(0),
            most_late: AtomicU64::new(0),
            failures: Mutex::default(),
        }
    }

    /// The clock of the run.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    fn kind_at(&self, scheduled: u64) -> Kind {
        let phase = self.ends.iter().find(|(end, _)| scheduled < *end).or(self.ends.last());
        phase.map_or(Kind::Steady, |(_, kind)| *kind)
    }

    /// An operation is started now that was due at `scheduled`.
    pub fn start(&self, scheduled: u64) {
        let late = self.clock.now().saturating_sub(scheduled);
        self.offered.fetch_add(1, Ordering::Relaxed);
        self.started.fetch_add(1, Ordering::Relaxed);
        if late > LATE_MICROS {
            self.late.fetch_add(1, Ordering::Relaxed);
        }
        self.most_late.fetch_max(late, Ordering::Relaxed);
    }

    /// What was due at `scheduled` is answered now.
    pub fn answer(&self, measure: Measure, scheduled: u64) {
        self.answered.fetch_add(1, Ordering::Relaxed);
        self.see(measure, scheduled);
    }

    /// The same for what is no operation of its own, such as a delivery.
    pub fn see(&self, measure: Measure, scheduled: u64) {
        let took = self.clock.now().saturating_sub(scheduled).max(1);
        let mut place = SHARD.get();
        if place == usize::MAX {
            place = NEXT_SHARD.fetch_add(1, Ordering::Relaxed);
            SHARD.set(place);
        }
        let mut shard = self.shards[place % self.shards.len()].lock();
        let phase = measure.place() * KINDS + self.kind_at(scheduled) as usize;
        shard.by_phase[phase].get_or_insert_with(histogram).saturating_record(took);
        shard.interval[measure.place()].get_or_insert_with(coarse).saturating_record(took);
    }

    /// It failed, for this reason.
    pub fn fail(&self, measure: Measure, reason: String) {
        self.answered.fetch_add(1, Ordering::Relaxed);
        *self.failures.lock().entry((measure, reason)).or_default() += 1;
    }

    /// Ends an interval: empties the shards and tells what was in it.
    pub fn interval(&self, lasted: Duration) -> Interval {
        let mut totals = self.totals.lock();
        let mut merged: Vec<Option<Histogram<u64>>> = vec![None; MEASURES];
        for shard in &self.shards {
            let taken = std::mem::replace(&mut *shard.lock(), Shard::new());
            for (total, part) in totals.iter_mut().zip(taken.by_phase) {
                merge(total, part);
            }
            for (total, part) in merged.iter_mut().zip(taken.interval) {
                merge(total, part);
            }
        }
        let seconds = lasted.as_secs_f64().max(1e-3);
        let latencies = Measure::ALL.into_iter().filter_map(|measure| Some((measure, row(merged[measure.place()].as_ref()?))));
        Interval {
            at: self.clock.now() as f64 / 1e6,
            offered: self.offered.swap(0, Ordering::Relaxed) as f64 / seconds,
            achieved: self.answered.swap(0, Ordering::Relaxed) as f64 / seconds,
            latencies: latencies.collect(),
        }
    }

    /// What is recorded so far; after a last [`Recorder::interval`].
    #[must_use]
    pub fn totals(&self) -> Totals {
        let totals = self.totals.lock();
        let mut histograms = BTreeMap::new();
        for measure in Measure::ALL {
            for kind in Kind::ALL {
                if let Some(histogram) = &totals[measure.place() * KINDS + kind as usize] {
                    histograms.insert((measure, kind), histogram.clone());
                }
            }
        }
        Totals {
            histograms,
            failures: self.failures.lock().clone(),
            started: self.started.load(Ordering::Relaxed),
            late: self.late.load(Ordering::Relaxed),
            most_late_micros: self.most_late.load(Ordering::Relaxed),
        }
    }
}

/// What was recorded in a run, or in several that are merged.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Totals {
    /// By measure and phase.
    pub histograms: BTreeMap<(Measure, Kind), Histogram<u64>>,
    /// By measure and reason.
    pub failures: BTreeMap<(Measure, String), u64>,
    /// Operations that were started.
    pub started: u64,
    /// Of these, more than a second late.
    pub late: u64,
    /// The latest start.
    pub most_late_micros: u64,
}

impl Totals {
    /// Adds what another generator recorded.
    pub fn add(&mut self, other: Self) {
        for (key, histogram) in other.histograms {
            let mut mine = self.histograms.remove(&key);
            merge(&mut mine, Some(histogram));
            self.histograms.extend(mine.map(|histogram| (key, histogram)));
        }
        for (key, count) in other.failures {
            *self.failures.entry(key).or_default() += count;
        }
        self.started += other.started;
        self.late += other.late;
        self.most_late_micros = self.most_late_micros.max(other.most_late_micros);
    }
}

fn merge(total: &mut Option<Histogram<u64>>, part: Option<Histogram<u64>>) {
    match (total.as_mut(), part) {
        (Some(total), Some(part)) => total.add(part).expect("all have the same bounds"),
        (None, part) => *total = part,
        (Some(_), None) => {}
    }
}

/// Count, p50, p90, p99, p99.9 and max in milliseconds.
#[must_use]
pub fn row(histogram: &Histogram<u64>) -> [f64; 6] {
    let at = |quantile: f64| histogram.value_at_quantile(quantile) as f64 / 1000.0;
    [histogram.len() as f64, at(0.5), at(0.9), at(0.99), at(0.999), histogram.max() as f64 / 1000.0]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten seconds into a run.
    fn recorder() -> Recorder {
        let clock = Clock::standing();
        let face = Face { made: clock.0.made - Duration::from_secs(10), made_epoch: clock.0.made_epoch, start: AtomicU64::new(0) };
        let phases = [(Duration::from_secs(4), Kind::WarmUp), (Duration::from_secs(9), Kind::Steady)];
        Recorder::new(Clock(Arc::new(face)), &phases)
    }

    #[test]
    fn a_latency_counts_from_the_schedule_and_for_the_phase_it_was_due_in() {
        let recorder = recorder();
        recorder.answer(Measure::Sync, 3_000_000);
        recorder.answer(Measure::Sync, 8_000_000);
        recorder.fail(Measure::Sync, "UNAVAILABLE".into());
        let interval = recorder.interval(Duration::from_secs(1));
        assert_eq!((interval.achieved, interval.latencies[&Measure::Sync][0]), (3.0, 2.0));
        let totals = recorder.totals();
        let max = |kind| totals.histograms[&(Measure::Sync, kind)].max() / 1_000_000;
        assert_eq!((max(Kind::WarmUp), max(Kind::Steady)), (7, 2));
        assert_eq!(totals.failures[&(Measure::Sync, "UNAVAILABLE".to_owned())], 1);
        assert!(recorder.interval(Duration::from_secs(1)).latencies.is_empty());
    }

    #[test]
    fn a_late_start_is_counted() {
        let recorder = recorder();
        recorder.start(8_000_000);
        recorder.start(recorder.clock().now());
        let totals = recorder.totals();
        assert_eq!((totals.started, totals.late), (2, 1));
        assert!(totals.most_late_micros >= 2_000_000);
    }

    #[test]
    fn merged_histograms_are_those_of_all_values() {
        let (mut one, mut other, mut both) = (Totals::default(), Totals::default(), histogram());
        for (totals, values) in [(&mut one, 1..5_000u64), (&mut other, 4_000..90_000)] {
            let mut own = histogram();
            values.for_each(|value| {
                own.saturating_record(value);
                both.saturating_record(value);
            });
            totals.histograms.insert((Measure::AckDirect, Kind::Steady), own);
            totals.failures.insert((Measure::AckDirect, "X".into()), 2);
            totals.started = 3;
        }
        one.add(other);
        assert_eq!(one.histograms[&(Measure::AckDirect, Kind::Steady)], both);
        assert_eq!((one.started, one.failures[&(Measure::AckDirect, "X".to_owned())]), (6, 4));
    }
}
