//! Trying again: full-jitter backoff, for ever. Who gives up is whoever drops the future: a revoke or the end of the process.

use std::{fmt::Display, future::Future};

use crate::Config;

/// The waits between attempts.
pub(crate) struct Backoff<'a> {
    config: &'a Config,
    attempts: u32,
}

impl<'a> Backoff<'a> {
    pub(crate) fn new(config: &'a Config) -> Self {
        Self { config, attempts: 0 }
    }

    /// Waits a random time below the current limit, and doubles the limit.
    pub(crate) async fn wait(&mut self) {
        let limit = self.config.retry_first.saturating_mul(1 << self.attempts.min(16)).min(self.config.retry_max);
        self.attempts = self.attempts.saturating_add(1);
        let micros = u64::try_from(limit.as_micros()).unwrap_or(u64::MAX).max(1);
        tokio::time::sleep(std::time::Duration::from_micros(self.config.rng.next_u64() % micros)).await;
    }

    /// Whether this failure is worth a line: the first of a row, and ever fewer of the following.
    pub(crate) fn is_news(&self) -> bool {
        self.attempts.is_power_of_two() || self.attempts == 0
    }
}

/// Attempts it until it succeeds.
pub(crate) async fn until_done<T, E, F>(config: &Config, what: &'static str, mut attempt: impl FnMut() -> F) -> T
where
    E: Display,
    F: Future<Output = Result<T, E>>,
{
    let mut backoff = Backoff::new(config);
    loop {
        match attempt().await {
            Ok(done) => return done,
            Err(error) => {
                if backoff.is_news() {
                    tracing::warn!(what, %error, "trying again");
                }
                backoff.wait().await;
            }
        }
    }
}
