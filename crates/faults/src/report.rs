//! What came of the faults, as a table.

use std::{fmt::Write as _, time::Duration};

use plaza_testkit::checker::Violation;

/// What came of one fault.
pub(crate) struct Outcome {
    pub(crate) fault: &'static str,
    pub(crate) what: &'static str,
    pub(crate) rounds: u32,
    pub(crate) sends: usize,
    pub(crate) acknowledged: usize,
    pub(crate) posts: usize,
    pub(crate) lost: usize,
    pub(crate) duplicated: usize,
    pub(crate) violations: Vec<Violation>,
    /// Error lines of the processes.
    pub(crate) errors: Vec<String>,
    pub(crate) longest_gap: Duration,
    /// Acknowledged in a second before the fault.
    pub(crate) rate: f64,
    /// How long after the last round it was back to nearly that.
    pub(crate) back: Option<Duration>,
}

impl Outcome {
    pub(crate) fn is_good(&self) -> bool {
        self.violations.is_empty() && self.errors.is_empty() && self.back.is_some()
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

/// For the terminal.
pub(crate) fn line(outcome: &Outcome) -> String {
    format!(
        "{:<14} {} rounds, {} of {} sends acknowledged, {} posts, {} lost, {} duplicated, {} violations, {} error lines, longest gap {}, {:.0}/s before, back after {}",
        outcome.fault,
        outcome.rounds,
        outcome.acknowledged,
        outcome.sends,
        outcome.posts,
        outcome.lost,
        outcome.duplicated,
        outcome.violations.len(),
        outcome.errors.len(),
        seconds(outcome.longest_gap),
        outcome.rate,
        outcome.back.map_or_else(|| "never".to_owned(), seconds),
    )
}

/// For `docs/faults.md`.
pub(crate) fn document(outcomes: &[Outcome], servers: usize) -> String {
    let mut text = format!(
        "# Faults\n\nWhat clients get while a cluster is broken under them: two instances of each service on {servers} Kafka brokers and {servers} CQL \
         nodes (Apache\nCassandra), all on one machine of two cores, six clients on twelve devices in direct conversations and a group, two authors of \
         Moments and their\nfriends. After each fault everything they were told is judged: nothing acknowledged is lost, nothing is there twice, every \
         order is dense, every\nunread count right, nothing forbidden was seen. A send counts as acknowledged when its client was answered.\n\n\
         Written by `cargo xtask faults --report docs/faults.md`.\n\n\
         | fault | rounds | sends acknowledged | posts | lost | duplicated | longest time without an ack | back to 90 % after |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- |\n"
    );
    for outcome in outcomes {
        let back = outcome.back.map_or_else(|| "not within 30 s".to_owned(), seconds);
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} | {back} |",
            outcome.what,
            outcome.rounds,
            outcome.acknowledged,
            outcome.posts,
            outcome.lost,
            outcome.duplicated,
            seconds(outcome.longest_gap),
        );
    }
    text
}
