//! What clients get while a fault happens: how many sends are acknowledged, or how much is delivered, sampled all the time, and what that says
//! about the longest time without any and about when it is as before.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::task::JoinHandle;

const EVERY: Duration = Duration::from_millis(20);
/// What is as before is so for this long.
pub(crate) const WINDOW: Duration = Duration::from_secs(3);

/// How much each one got until then.
type Sample = (Instant, Vec<u64>);

/// Samples until dropped.
pub(crate) struct Observer {
    samples: Arc<Mutex<Vec<Sample>>>,
    task: JoinHandle<()>,
}

impl Observer {
    /// `counts` says how much each one has got.
    pub(crate) fn start(counts: impl Fn() -> Vec<u64> + Send + 'static) -> Self {
        let samples: Arc<Mutex<Vec<Sample>>> = Arc::default();
        let taken = Arc::clone(&samples);
        #[expect(clippy::disallowed_methods, reason = "ends with the observer")]
        let task = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(EVERY);
            loop {
                ticks.tick().await;
                let counts = counts();
                taken.lock().push((Instant::now(), counts));
            }
        });
        Self { samples, task }
    }

    /// How much all got in a second, over the last so long.
    pub(crate) fn rate(&self, over: Duration) -> f64 {
        let samples = self.samples.lock();
        let Some((now, counts)) = samples.last() else { return 0.0 };
        let before = samples.iter().rev().find(|(at, _)| now.duration_since(*at) >= over);
        before.map_or(0.0, |(at, earlier)| (total(counts) - total(earlier)) as f64 / now.duration_since(*at).as_secs_f64())
    }

    /// The longest time without anything since then, also one that goes on: for all together, and for a single one.
    pub(crate) fn longest_gaps(&self, since: Instant) -> (Duration, Duration) {
        let samples = self.samples.lock();
        let ones = samples.last().map_or(0, |(_, counts)| counts.len());
        let of_one = (0..ones).map(|one| longest(&samples, since, |counts| counts[one])).max();
        (longest(&samples, since, total), of_one.unwrap_or_default())
    }

    /// The samples as a table: seconds since the first, and what each one had got until then.
    pub(crate) fn table(&self) -> String {
        let samples = self.samples.lock();
        let Some((first, _)) = samples.first() else { return String::new() };
        let line = |(at, counts): &Sample| {
            let counts: Vec<_> = counts.iter().map(u64::to_string).collect();
            format!("{:.2},{}\n", at.duration_since(*first).as_secs_f64(), counts.join(","))
        };
        samples.iter().map(line).collect()
    }

    /// How long after that it was back to so much in a second, and stayed there for the window; `None` if that is not seen, or was later than
    /// the limit.
    pub(crate) fn back(&self, healed: Instant, rate: f64, limit: Duration) -> Option<Duration> {
        back(&self.samples.lock(), healed, rate, limit)
    }
}

fn total(counts: &[u64]) -> u64 {
    counts.iter().sum()
}

fn back(samples: &[Sample], healed: Instant, rate: f64, limit: Duration) -> Option<Duration> {
    let first = samples.partition_point(|(at, _)| *at < healed);
    let after = &samples[first..];
    let (mut known, mut end) = (samples[..first].last().map_or(0, |(_, counts)| total(counts)), 0);
    for (at, counts) in after.iter().take_while(|(at, _)| at.duration_since(healed) <= limit) {
        end += after[end..].iter().take_while(|(later, _)| later.duration_since(*at) < WINDOW).count();
        let (later, then) = after.get(end)?;
        let count = total(counts);
        // A window begins with something that came: what all who waited get at once is not to make up for a silence before it.
        if count > known && (total(then) - count) as f64 >= rate * later.duration_since(*at).as_secs_f64() {
            return Some(at.duration_since(healed));
        }
        known = count;
    }
    None
}

fn longest(samples: &[Sample], since: Instant, count: impl Fn(&[u64]) -> u64) -> Duration {
    let (mut longest, mut last) = (Duration::ZERO, None::<(Instant, u64)>);
    for (at, counts) in samples.iter().filter(|(at, _)| *at >= since) {
        let count = count(counts);
        let (changed, known) = *last.get_or_insert((*at, count));
        longest = longest.max(at.duration_since(changed));
        if known != count {
            last = Some((*at, count));
        }
    }
    longest
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: f64 = 45.0;
    const LIMIT: Duration = Duration::from_secs(30);

    /// Sampled ten times in a second, from the beginning of the first second on: what came in each second, evenly.
    fn samples(seconds: &[u64]) -> (Instant, Vec<Sample>) {
        let began = Instant::now();
        let mut count = 0;
        let tenths = seconds.iter().flat_map(|came| [came / 10; 10]).enumerate();
        let samples = tenths.map(|(tenth, came)| {
            count += came;
            (began + Duration::from_millis(tenth as u64 * 100), vec![count])
        });
        (began, samples.collect())
    }

    /// Fifty in a second when nothing is wrong; all is healed after the second of these seconds.
    fn after(seconds: &[u64]) -> Option<f64> {
        let (began, samples) = samples(seconds);
        back(&samples, began + Duration::from_secs(2), RATE, LIMIT).map(|time| time.as_secs_f64())
    }

    #[test]
    fn it_is_back_when_it_stays_so_for_the_window() {
        assert_eq!(after(&[50, 50, 50, 50, 50, 50, 50]), Some(0.0));
        let silent = after(&[50, 0, 0, 0, 0, 0, 50, 50, 50, 50]).expect("back");
        assert!((3.9..4.1).contains(&silent), "{silent}");
        let half = after(&[50, 0, 20, 20, 20, 20, 50, 50, 50, 50, 50]).expect("back");
        assert!((3.0..4.1).contains(&half), "{half}");
        let relapsed = after(&[50, 0, 0, 50, 50, 0, 0, 0, 50, 50, 50, 50]).expect("back");
        assert!((5.9..6.1).contains(&relapsed), "{relapsed}");
    }

    #[test]
    fn it_is_not_back_before_a_whole_window_was_seen_nor_after_the_limit() {
        assert_eq!(after(&[50, 0, 50, 50, 50]), None);
        assert_eq!(after(&[50, 0, 40, 40, 40, 40, 40, 40]), None);
        let late = [vec![50, 0], vec![0; 31], vec![50; 5]].concat();
        assert_eq!(after(&late), None);
    }

    #[test]
    fn what_waited_does_not_make_up_for_the_silence_before_it() {
        // Thirty at once after a second, then as always.
        let (began, mut samples) = samples(&[50, 0, 0, 50, 50, 50, 50, 50]);
        samples[30..].iter_mut().for_each(|(_, counts)| counts[0] += 30);
        let time = back(&samples, began + Duration::from_secs(2), RATE, LIMIT).expect("back");
        assert!(time >= Duration::from_millis(990), "{time:?}");
    }

    #[test]
    fn the_longest_gap_is_that_of_all_or_of_one_and_may_go_on() {
        let began = Instant::now();
        let at = |tenth: u64, one, other| (began + Duration::from_millis(tenth * 100), vec![one, other]);
        let samples = [at(0, 1, 1), at(1, 2, 1), at(4, 2, 2), at(6, 3, 2), at(9, 3, 2)];
        assert_eq!(longest(&samples, began, total), Duration::from_millis(300));
        assert_eq!(longest(&samples, began, |counts| counts[1]), Duration::from_millis(500));
    }
}
