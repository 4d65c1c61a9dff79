//! What the kit measures: how long requests take and what becomes of them. How many wait is seen in those that are turned away.

use std::time::Duration;

use opentelemetry::{
    KeyValue, global,
    metrics::{Counter, Histogram},
};
use scylla::errors::ExecutionError;

use crate::Error;

/// What a request is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Read,
    Write,
    Conditional,
    Tables,
}

impl Kind {
    /// What an error of such a request means for the rows.
    pub(crate) fn means(self, error: &ExecutionError) -> Error {
        match self {
            Self::Read => Error::of_read(error),
            Self::Write | Self::Tables => Error::of_write(error),
            Self::Conditional => Error::of_single_attempt(error),
        }
    }

    fn label(self) -> KeyValue {
        let name = match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Conditional => "conditional",
            Self::Tables => "tables",
        };
        KeyValue::new("kind", name)
    }
}

#[derive(Clone)]
pub(crate) struct Metrics {
    duration: Histogram<f64>,
    turned_away: Counter<u64>,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let meter = global::meter("plaza-scylla-kit");
        Self {
            duration: meter
                .f64_histogram("plaza_cql_request_duration_seconds")
                .with_description("How long requests to the cluster took, waiting for their turn not counted.")
                .with_boundaries(vec![0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0])
                .build(),
            turned_away: meter
                .u64_counter("plaza_cql_requests_turned_away_total")
                .with_description("Requests that were not sent because too many were under way.")
                .build(),
        }
    }

    pub(crate) fn done(&self, kind: Kind, took: Duration, error: Option<&Error>) {
        let outcome = match error {
            None => "good",
            Some(Error::Unavailable(_)) => "unavailable",
            Some(Error::Unknown(_)) => "unknown",
            Some(Error::Refused(_)) => "refused",
            Some(Error::Malformed(_)) => "malformed",
        };
        self.duration.record(took.as_secs_f64(), &[kind.label(), KeyValue::new("outcome", outcome)]);
    }

    pub(crate) fn turned_away(&self, kind: Kind) {
        self.turned_away.add(1, &[kind.label()]);
    }
}
