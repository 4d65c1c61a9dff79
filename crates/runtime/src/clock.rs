//! The time of day as everything inside the system reads it. A processor's `apply` never does: a decision depends on the log alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Where the time comes from. Clones share it.
#[derive(Debug, Clone)]
pub struct Clock(Source);

#[derive(Debug, Clone)]
enum Source {
    System,
    Manual(Arc<AtomicU64>),
}

impl Clock {
    /// The machine's clock. It can jump, in both directions.
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands at `start` (microseconds since the epoch) until it is moved by [`Clock::advance`] or [`Clock::set`].
    pub fn manual(start: u64) -> Self {
        Self(Source::Manual(Arc::new(AtomicU64::new(start))))
    }

    /// Microseconds since the epoch.
    pub fn now_micros(&self) -> u64 {
        match &self.0 {
            Source::System => {
                let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                u64::try_from(since_epoch.as_micros()).unwrap_or(u64::MAX)
            }
            Source::Manual(now) => now.load(Ordering::SeqCst),
        }
    }

    /// Moves a manual clock forward. Does nothing to the system's.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual(now) = &self.0 {
            now.fetch_add(u64::try_from(by.as_micros()).unwrap_or(u64::MAX), Ordering::SeqCst);
        }
    }

    /// Puts a manual clock at `micros` since the epoch, also into the past. Does nothing to the system's.
    pub fn set(&self, micros: u64) {
        if let Source::Manual(now) = &self.0 {
            now.store(micros, Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_of_a_manual_clock_move_together() {
        let clock = Clock::manual(5);
        let other = clock.clone();
        clock.advance(Duration::from_millis(2));
        assert_eq!(other.now_micros(), 2_005);
        other.set(1);
        assert_eq!(clock.now_micros(), 1);
    }

    #[test]
    fn the_system_clock_counts_microseconds_and_cannot_be_moved() {
        let clock = Clock::system();
        clock.set(0);
        clock.advance(Duration::from_secs(1_000_000_000));
        let now = clock.now_micros();
        let (year_2020, year_2200) = (1_577_836_800_000_000, 7_258_118_400_000_000);
        assert!((year_2020..year_2200).contains(&now), "{now}");
    }
}
