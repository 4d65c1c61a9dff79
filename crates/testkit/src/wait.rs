//! Waiting in tests: for a condition, bounded, with the last thing seen in the failure. Never for a time.

use std::{fmt::Debug, time::Duration};

use anyhow::bail;
use tokio::time::Instant;

/// Tries until `attempt` gives `Ok`, for at most `limit`.
///
/// # Errors
/// The last thing seen, after `limit`.
pub async fn wait_for<T, S: Debug, F>(what: &str, limit: Duration, mut attempt: impl FnMut() -> F) -> anyhow::Result<T>
where
    F: Future<Output = Result<T, S>>,
{
    let until = Instant::now() + limit;
    loop {
        match attempt().await {
            Ok(value) => return Ok(value),
            Err(seen) if Instant::now() >= until => {
                bail!("{what}: not within {limit:?}, last seen: {seen:?}")
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}
