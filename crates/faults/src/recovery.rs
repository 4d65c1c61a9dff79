//! How long it takes, from the moment when what was broken is whole again, until clients get nearly what they got before. Each round of a fault
//! has its own moment.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::observe::{Observer, WINDOW};

/// How long it may take.
pub(crate) const WITHIN: Duration = Duration::from_secs(30);
const EVERY: Duration = Duration::from_millis(100);

/// The rounds of one fault.
pub(crate) struct Recovery<'a> {
    observer: &'a Observer,
    /// Acknowledged in a second when it is as before.
    target: f64,
    healed: Vec<Instant>,
}

impl<'a> Recovery<'a> {
    pub(crate) fn new(observer: &'a Observer, target: f64) -> Self {
        Self { observer, target, healed: Vec::new() }
    }

    /// What a round broke is whole from now on: its process is started or goes on, the way is open.
    pub(crate) fn healed(&mut self) {
        self.healed.push(Instant::now());
    }

    /// Waits for so long, and until it is as before the last round or will not be in time: rounds do not run into each other.
    pub(crate) async fn rest(&self, least: Duration) {
        sleep(least).await;
        let Some(healed) = self.healed.last() else { return };
        while self.observer.back(*healed, self.target, WITHIN).is_none() && healed.elapsed() < WITHIN + WINDOW {
            sleep(EVERY).await;
        }
    }

    /// The longest it took after any round; `None` when it took too long once, or when there was no round.
    pub(crate) fn longest(&self) -> Option<Duration> {
        let times: Option<Vec<_>> = self.healed.iter().map(|healed| self.observer.back(*healed, self.target, WITHIN)).collect();
        times?.into_iter().max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_fault_without_a_round_is_not_said_to_be_over() {
        let observer = Observer::start(|| vec![1]);
        let mut recovery = Recovery::new(&observer, 1.0);
        assert_eq!(recovery.longest(), None);
        // Nor one after whose round nothing comes.
        recovery.healed();
        assert_eq!(recovery.longest(), None);
    }
}
