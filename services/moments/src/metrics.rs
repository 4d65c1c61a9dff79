//! The moments service's own metrics. What the processors and the calls cost is measured by `processor` and `rpc`.

use std::sync::OnceLock;

use opentelemetry::{global, metrics::Counter};

/// The instruments.
pub(crate) struct Metrics {
    /// Calls turned away because too many were under way.
    pub(crate) turned_away: Counter<u64>,
    /// Calls that failed because the store could not be read.
    pub(crate) store_errors: Counter<u64>,
    /// Reads that went without the caches because a follower was behind.
    pub(crate) uncached: Counter<u64>,
}

/// The process's instruments.
pub(crate) fn get() -> &'static Metrics {
    static METRICS: OnceLock<Metrics> = OnceLock::new();
    METRICS.get_or_init(|| {
        let meter = global::meter("plaza.moments");
        let counter = |name: &'static str, about: &'static str| meter.u64_counter(name).with_description(about).build();
        Metrics {
            turned_away: counter("plaza_moments_calls_turned_away", "calls turned away because too many were under way"),
            store_errors: counter("plaza_moments_store_errors", "calls that failed because the store could not be read"),
            uncached: counter("plaza_moments_reads_uncached", "reads that went without the caches because a follower was behind"),
        }
    })
}
