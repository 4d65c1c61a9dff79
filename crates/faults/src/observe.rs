//! What the clients get while a fault happens: how many sends are acknowledged, sampled all the time, and what that says about the longest time
//! without any and about when it is as before.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use plaza_testkit::crowd::Crowd;
use tokio::task::JoinHandle;

const EVERY: Duration = Duration::from_millis(20);
/// What a rate is measured over.
const WINDOW: Duration = Duration::from_secs(3);

/// How much each user was acknowledged until then.
type Sample = (Instant, Vec<u64>);

/// Samples until dropped.
pub(crate) struct Observer {
    samples: Arc<Mutex<Vec<Sample>>>,
    task: JoinHandle<()>,
}

impl Observer {
    pub(crate) fn start(crowd: Arc<Crowd>) -> Self {
        let samples: Arc<Mutex<Vec<Sample>>> = Arc::default();
        let taken = Arc::clone(&samples);
        #[expect(clippy::disallowed_methods, reason = "ends with the observer")]
        let task = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(EVERY);
            loop {
                ticks.tick().await;
                taken.lock().push((Instant::now(), crowd.acknowledged()));
            }
        });
        Self { samples, task }
    }

    /// Sends acknowledged in a second, over the last seconds.
    pub(crate) fn rate(&self) -> f64 {
        let samples = self.samples.lock();
        let Some((now, counts)) = samples.last() else { return 0.0 };
        let before = samples.iter().rev().find(|(at, _)| now.duration_since(*at) >= WINDOW);
        before.map_or(0.0, |(at, earlier)| (total(counts) - total(earlier)) as f64 / now.duration_since(*at).as_secs_f64())
    }

    /// The longest time without a send acknowledged since then, also one that goes on: of all users together, and of a single one.
    pub(crate) fn longest_gaps(&self, since: Instant) -> (Duration, Duration) {
        let samples = self.samples.lock();
        let users = samples.last().map_or(0, |(_, counts)| counts.len());
        let of_one = (0..users).map(|user| longest(&samples, since, |counts| counts[user])).max();
        (longest(&samples, since, total), of_one.unwrap_or_default())
    }

    /// The samples as a table: seconds since the first, and what each user was acknowledged until then.
    pub(crate) fn table(&self) -> String {
        let samples = self.samples.lock();
        let Some((first, _)) = samples.first() else { return String::new() };
        let line = |(at, counts): &Sample| {
            let counts: Vec<_> = counts.iter().map(u64::to_string).collect();
            format!("{:.2},{}\n", at.duration_since(*first).as_secs_f64(), counts.join(","))
        };
        samples.iter().map(line).collect()
    }

    /// Waits until so much is acknowledged in a second; how long that took, if it was not longer than the limit.
    pub(crate) async fn is_back(&self, rate: f64, limit: Duration) -> Option<Duration> {
        let began = Instant::now();
        while began.elapsed() < limit + WINDOW {
            tokio::time::sleep(EVERY * 5).await;
            if self.rate() >= rate {
                return Some(began.elapsed().saturating_sub(WINDOW));
            }
        }
        None
    }
}

fn total(counts: &[u64]) -> u64 {
    counts.iter().sum()
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
