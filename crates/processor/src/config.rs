//! How a host runs its partitions. Nothing here takes part in a decision.

use std::time::Duration;

use plaza_runtime::{Clock, Rng};

/// The settings. All limits are per partition.
#[derive(Debug, Clone)]
pub struct Config {
    /// Records decided together at most.
    pub batch_records: usize,
    /// Bytes of records decided together; one record more may be taken.
    pub batch_bytes: usize,
    /// Batches decided and not yet written, at most.
    pub batches_in_flight: usize,
    /// States kept in memory. More are kept only while they wait to be written.
    pub states: usize,
    /// Request ids kept in memory for each state.
    pub remembered: usize,
    /// Changed states and a checkpoint are written after this many records or changed states,
    pub checkpoint_records: usize,
    /// or after this time, whichever comes first, and at an orderly end.
    pub checkpoint_every: Duration,
    /// The longest wait before the first retry of what failed; doubled for each further one,
    pub retry_first: Duration,
    /// up to this.
    pub retry_max: Duration,
    /// Draws the waits before retries.
    pub rng: Rng,
    /// What the age of waiting records is measured by.
    pub clock: Clock,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            batch_records: 512,
            batch_bytes: 1 << 20,
            batches_in_flight: 2,
            states: 20_000,
            remembered: 256,
            checkpoint_records: 1_000,
            checkpoint_every: Duration::from_secs(1),
            retry_first: Duration::from_millis(20),
            retry_max: Duration::from_secs(2),
            rng: Rng::system(),
            clock: Clock::system(),
        }
    }
}
