//! Waiting between tries: exponential with full jitter, so that clients that failed together do not come back together
//! (Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015).

use std::time::Duration;

/// The waits between the tries of one call.
#[derive(Debug, Clone)]
pub struct Backoff {
    ceiling: Duration,
    most: Duration,
}

impl Backoff {
    /// The first wait is between 0 and `first`; each ceiling is twice the one before, up to `most`.
    #[must_use]
    pub fn new(first: Duration, most: Duration) -> Self {
        Self { ceiling: first, most }
    }

    /// How long to wait before the next try.
    pub fn next_wait(&mut self) -> Duration {
        let wait = self.ceiling.mul_f64(rand::random::<f64>());
        self.ceiling = (self.ceiling * 2).min(self.most);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_stay_below_a_ceiling_that_doubles_and_ends() {
        let mut backoff = Backoff::new(Duration::from_millis(10), Duration::from_millis(35));
        for ceiling in [10, 20, 35, 35, 35] {
            assert!(backoff.next_wait() <= Duration::from_millis(ceiling));
        }
        let waits: Vec<_> = (0..50).map(|_| backoff.next_wait()).collect();
        assert!(waits.iter().any(|wait| *wait < Duration::from_millis(12)), "not jittered: {waits:?}");
        assert!(waits.iter().any(|wait| *wait > Duration::from_millis(20)), "never long: {waits:?}");
    }
}
