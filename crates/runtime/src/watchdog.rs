//! Ends a process that did not run for long: paused, frozen, its machine suspended. What such a process remembers of its partitions may be
//! too old to act on, and it cannot know which of its timers should have fired, so it must do no more input or output.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;

/// How long a process may not have run.
pub const LIMIT: Duration = Duration::from_secs(600);

/// How often the watchdog looks; what it measures is wrong by at most this.
const TICK: Duration = Duration::from_secs(1);

/// The exit code of a process that the watchdog ended.
pub const EXIT_CODE: i32 = 75;

/// Knows when this process last ran. Clones are handles to the same one.
#[derive(Debug, Clone)]
pub struct Watchdog(Arc<Mutex<Moment>>);

/// A moment by both clocks: the monotonic one stands still while the machine is suspended, the other can be set.
#[derive(Debug, Clone, Copy)]
struct Moment {
    monotonic: Instant,
    wall: SystemTime,
}

impl Moment {
    fn now() -> Self {
        Self { monotonic: Instant::now(), wall: SystemTime::now() }
    }

    /// The time since `last`, by the clock that says more.
    fn since(self, last: Self) -> Duration {
        self.monotonic.saturating_duration_since(last.monotonic).max(self.wall.duration_since(last.wall).unwrap_or_default())
    }
}

impl Watchdog {
    /// Starts watching, from a thread of its own.
    ///
    /// # Errors
    /// The operating system has no thread to give.
    pub fn start() -> std::io::Result<Self> {
        let watchdog = Self(Arc::new(Mutex::new(Moment::now())));
        let watched = Arc::downgrade(&watchdog.0);
        thread::Builder::new().name("watchdog".to_owned()).spawn(move || {
            while let Some(last) = watched.upgrade() {
                Self(last).tick();
                thread::park_timeout(TICK);
            }
        })?;
        Ok(watchdog)
    }

    /// Ends the process with [`EXIT_CODE`] if it did not run for longer than [`LIMIT`] just before. To be called before input or output that
    /// must not happen then; it costs two readings of the clock.
    pub fn check(&self) {
        exit_if_stalled(Moment::now().since(*self.0.lock()));
    }

    fn tick(&self) {
        let mut last = self.0.lock();
        let now = Moment::now();
        // Looked at before it is moved, under one lock: otherwise a check that comes just after would see a process that ran all the time.
        exit_if_stalled(now.since(*last));
        *last = now;
    }
}

fn exit_if_stalled(stalled: Duration) {
    if stalled > LIMIT {
        tracing::error!(stalled_s = stalled.as_secs(), "the process did not run for too long, exiting");
        std::process::exit(EXIT_CODE);
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn the_clock_that_says_more_counts() {
        let last = Moment::now();
        let hour = Duration::from_secs(3600);
        let frozen = Moment { monotonic: last.monotonic + hour, wall: last.wall };
        let suspended = Moment { monotonic: last.monotonic, wall: last.wall + hour };
        let set_back = Moment { monotonic: last.monotonic, wall: last.wall - hour };
        assert_eq!([frozen, suspended, set_back].map(|now| now.since(last)), [hour, hour, Duration::ZERO]);
    }

    #[test]
    fn a_process_that_runs_goes_on() {
        let watchdog = Watchdog::start().unwrap();
        watchdog.tick();
        watchdog.check();
    }

    /// Exits the process that runs it, so it is run in one of its own.
    #[test]
    #[ignore = "run by a_stalled_process_exits"]
    fn stalled() {
        let long_ago = Moment { wall: SystemTime::now() - LIMIT - TICK, ..Moment::now() };
        Watchdog(Arc::new(Mutex::new(long_ago))).check();
    }

    #[test]
    fn a_stalled_process_exits() {
        let this = std::env::current_exe().unwrap();
        let run = Command::new(this).args(["--exact", "--ignored", "watchdog::tests::stalled"]).output().unwrap();
        assert_eq!(run.status.code(), Some(EXIT_CODE), "{run:?}");
    }
}
