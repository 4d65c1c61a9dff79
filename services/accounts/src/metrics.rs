//! What accounts counts.

use std::time::Duration;

use opentelemetry::{
    KeyValue,
    metrics::{Counter, Histogram},
};

/// What became of a sign-in or refresh.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Outcome {
    Good,
    Refused,
    /// A refresh token that was used before: its device was signed out.
    Reused,
}

impl Outcome {
    fn label(self) -> KeyValue {
        let name = match self {
            Self::Good => "good",
            Self::Refused => "refused",
            Self::Reused => "reused",
        };
        KeyValue::new("outcome", name)
    }
}

#[derive(Clone)]
pub(crate) struct Metrics {
    hash_time: Histogram<f64>,
    turned_away: Counter<u64>,
    logins: Counter<u64>,
    refreshes: Counter<u64>,
    registrations: Counter<u64>,
    events: Counter<u64>,
    conflicts: Counter<u64>,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let meter = opentelemetry::global::meter("plaza.accounts");
        let counter = |name: &'static str, what: &'static str| meter.u64_counter(name).with_description(what).build();
        Self {
            hash_time: meter
                .f64_histogram("plaza_accounts_password_hash_seconds")
                .with_description("time of one argon2id")
                .with_boundaries(vec![0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1.0])
                .build(),
            turned_away: counter("plaza_accounts_password_refusals", "calls refused because too many waited for a hash"),
            logins: counter("plaza_accounts_logins", "sign-ins by outcome"),
            refreshes: counter("plaza_accounts_refreshes", "refreshes by outcome"),
            registrations: counter("plaza_accounts_registrations", "accounts made"),
            events: counter("plaza_accounts_events", "events appended to the log"),
            conflicts: counter("plaza_accounts_write_conflicts", "changes tried again because another came first"),
        }
    }

    pub(crate) fn hashed(&self, took: Duration) {
        self.hash_time.record(took.as_secs_f64(), &[]);
    }

    pub(crate) fn turned_away(&self) {
        self.turned_away.add(1, &[]);
    }

    pub(crate) fn login(&self, outcome: Outcome) {
        self.logins.add(1, &[outcome.label()]);
    }

    pub(crate) fn refresh(&self, outcome: Outcome) {
        self.refreshes.add(1, &[outcome.label()]);
    }

    pub(crate) fn registered(&self) {
        self.registrations.add(1, &[]);
    }

    pub(crate) fn appended(&self, events: usize) {
        self.events.add(events as u64, &[]);
    }

    pub(crate) fn conflict(&self) {
        self.conflicts.add(1, &[]);
    }
}
