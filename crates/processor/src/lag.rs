//! How far a partition is behind its log, measured beside the work.

use std::{
    convert::Infallible,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use plaza_event_log::TopicPartition;

use crate::{Machine, Partition};

const EVERY: Duration = Duration::from_secs(5);

/// How far the owner has come.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    next: AtomicU64,
    /// When the oldest record that was read and is not decided was appended, microseconds; 0 when there is none.
    oldest: AtomicU64,
}

impl Progress {
    /// Everything below `next` is decided; a record of `oldest` waits, if any does.
    pub(crate) fn is_at(&self, next: u64, oldest: Option<u64>) {
        self.next.store(next, Ordering::Relaxed);
        self.oldest.store(oldest.unwrap_or(0), Ordering::Relaxed);
    }
}

/// Measures for as long as the partition is owned.
pub(crate) async fn run<M: Machine>(partition: &Partition<M>) -> Infallible {
    let deps = &partition.deps;
    let of = TopicPartition { topic: M::TOPIC, partition: partition.number };
    loop {
        // A log that does not answer is noticed by the reader.
        if let Ok(end) = deps.log.end(of).await {
            let records = end.saturating_sub(partition.progress.next.load(Ordering::Relaxed));
            let age = match partition.progress.oldest.load(Ordering::Relaxed) {
                0 => Duration::ZERO,
                oldest => Duration::from_micros(deps.config.clock.now_micros().saturating_sub(oldest)),
            };
            partition.metrics.lag(records, age);
        }
        tokio::time::sleep(EVERY).await;
    }
}
