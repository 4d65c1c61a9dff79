//! What the log measures of itself.

use std::time::Duration;

use opentelemetry::{
    KeyValue, global,
    metrics::{Counter, Histogram},
};

/// Upper bounds of an append, in seconds.
const APPEND_BOUNDARIES: [f64; 11] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// The instruments of one log.
pub(crate) struct Metrics {
    append_time: Histogram<f64>,
    failures: Counter<u64>,
    moves: Counter<u64>,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let meter = global::meter("plaza.event_log_kafka");
        Self {
            append_time: meter
                .f64_histogram("plaza_kafka_append_seconds")
                .with_description("time until an append was acknowledged")
                .with_boundaries(APPEND_BOUNDARIES.to_vec())
                .build(),
            failures: meter.u64_counter("plaza_kafka_failures").with_description("calls of the log that failed").build(),
            moves: meter.u64_counter("plaza_kafka_assignments").with_description("partitions given to this process or taken").build(),
        }
    }

    pub(crate) fn appended(&self, took: Duration) {
        self.append_time.record(took.as_secs_f64(), &[]);
    }

    pub(crate) fn failed(&self, call: &'static str) {
        self.failures.add(1, &[KeyValue::new("call", call)]);
    }

    pub(crate) fn moved(&self, group: &'static str, change: &'static str) {
        self.moves.add(1, &[KeyValue::new("group", group), KeyValue::new("change", change)]);
    }
}
