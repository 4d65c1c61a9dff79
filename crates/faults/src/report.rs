//! What came of the faults: lines for the terminal, a file that several runs can add to, and the table of the documentation, made from that.

use std::{collections::BTreeSet, fmt::Write as _, fs, path::Path, time::Duration};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::{fault::Fault, recovery::WITHIN};

/// What came of one fault.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) fault: String,
    pub(crate) what: String,
    pub(crate) rounds: u32,
    pub(crate) sends: usize,
    pub(crate) acknowledged: usize,
    pub(crate) posts: usize,
    /// Registrations, changes of names, sign-ins and sign-outs acknowledged.
    pub(crate) account_changes: usize,
    pub(crate) lost: usize,
    pub(crate) duplicated: usize,
    pub(crate) violations: Vec<String>,
    /// Error lines of the processes that were not to be.
    pub(crate) errors: Vec<String>,
    /// Without an acknowledgement: to anybody, to one sender.
    pub(crate) longest_gap: Duration,
    pub(crate) longest_of_one: Duration,
    /// Without a delivery: to any device, to one device.
    pub(crate) longest_silence: Duration,
    pub(crate) longest_to_one: Duration,
    /// Acknowledged in a second before the fault.
    pub(crate) rate: f64,
    /// How long after what was broken was whole again it was back to nearly that, at the longest of all rounds.
    pub(crate) back: Option<Duration>,
    /// Whether everything was replayed after it.
    pub(crate) is_replayed: bool,
    pub(crate) brokers: usize,
    pub(crate) nodes: usize,
    /// The day of the run.
    pub(crate) date: String,
    /// What the binary was built from.
    pub(crate) commit: String,
    pub(crate) seed: u64,
    /// How the binary was built.
    pub(crate) build: String,
    /// What is to be known of the run.
    pub(crate) note: String,
}

impl Outcome {
    pub(crate) fn is_good(&self) -> bool {
        self.violations.is_empty() && self.errors.is_empty() && self.back.is_some()
    }
}

/// What a file holds; nothing if there is none.
pub(crate) fn read(path: &Path) -> anyhow::Result<Vec<Outcome>> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    serde_json::from_str(&fs::read_to_string(path)?).with_context(|| path.display().to_string())
}

pub(crate) fn write(path: &Path, outcomes: &[Outcome]) -> anyhow::Result<()> {
    Ok(fs::write(path, serde_json::to_string_pretty(outcomes)?)?)
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

/// For the terminal.
pub(crate) fn line(outcome: &Outcome) -> String {
    format!(
        "{:<14} {} rounds, {} of {} sends acknowledged, {} posts, {} account changes, {} lost, {} duplicated, {} violations, {} error lines, longest time without an ack {} (of one {}), without a delivery {} (to one {}), {:.0}/s before, back after {}{}",
        outcome.fault,
        outcome.rounds,
        outcome.acknowledged,
        outcome.sends,
        outcome.posts,
        outcome.account_changes,
        outcome.lost,
        outcome.duplicated,
        outcome.violations.len(),
        outcome.errors.len(),
        seconds(outcome.longest_gap),
        seconds(outcome.longest_of_one),
        seconds(outcome.longest_silence),
        seconds(outcome.longest_to_one),
        outcome.rate,
        outcome.back.map_or_else(|| "never".to_owned(), seconds),
        if outcome.is_replayed { ", replayed" } else { "" },
    )
}

/// For `docs/faults.md`.
pub(crate) fn document(outcomes: &[Outcome]) -> String {
    let mut text = "# Faults\n\nWhat clients get while a cluster is broken under them: two instances of each service on Kafka and Apache Cassandra \
         (in place of ScyllaDB), all on\none machine of two cores with the load itself; six clients on twelve devices in direct conversations and in a \
         group that some leave and\ncome back to all the time, two authors of Moments and their friends, and six more friends in pairs whose devices show when messages are delivered; two that register newcomers, sometimes two at once for one handle, change their names and sign their devices in and out (\"account changes\"). Each of them does something twice a second, well below \
         what the\nprocesses can do, so that a rate that is lower afterwards is a fault's doing. After each fault everything they were told is judged: nothing acknowledged is lost, nothing is \
         there twice, every order is dense,\nevery unread count right, nothing forbidden was seen. Then all checkpoints are deleted and everything is \
         applied once more, which must change\nnothing (\"replayed\"). A send counts as acknowledged when its client was answered; not all are, since who is out of\nthe group at \
         that moment is refused. \"Back to 90 %\" is the longest time of all rounds from the moment\nwhen what was broken is whole again (a process is started or goes on, the way is open) \
         until the rate of acknowledgements is at 90 % of\nthat before the fault and stays there for 3 s; it may be 30 s. After `kill-one` the next one may be killed before. A process that says nothing keeps its partitions for 3 s.\n\nWritten by `cargo xtask faults --report docs/faults.md`, which repeats it; `--only` takes the names, `--seed` a row's seed.\n\n\
         | name | fault | rounds | brokers, nodes | sends acknowledged | posts | account changes | lost | duplicated | violations | replayed | longest time without an ack | of one sender | longest time without a delivery | to one device | back to 90 % after | day | commit | seed |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n"
        .to_owned();
    for outcome in outcomes {
        let back = outcome.back.map_or_else(|| format!("not within {} s", WITHIN.as_secs()), seconds);
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {}, {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {back} | {} | {} | {} |",
            outcome.fault,
            outcome.what,
            outcome.rounds,
            outcome.brokers,
            outcome.nodes,
            outcome.acknowledged,
            outcome.posts,
            outcome.account_changes,
            outcome.lost,
            outcome.duplicated,
            outcome.violations.len() + outcome.errors.len(),
            if outcome.is_replayed { "yes" } else { "no" },
            seconds(outcome.longest_gap),
            seconds(outcome.longest_of_one),
            seconds(outcome.longest_silence),
            seconds(outcome.longest_to_one),
            outcome.date,
            outcome.commit,
            outcome.seed,
        );
    }
    let missing: Vec<_> = Fault::ALL.iter().filter(|fault| outcomes.iter().all(|outcome| outcome.fault != fault.name())).collect();
    if !missing.is_empty() {
        let names: Vec<_> = missing.into_iter().map(|fault| format!("`{}` ({})", fault.name(), fault.what())).collect();
        let _ = writeln!(text, "\nNot in these runs: {}.", names.join("; "));
    }
    let builds: BTreeSet<_> = outcomes.iter().map(|outcome| format!("{} binary", outcome.build)).collect();
    let notes: BTreeSet<_> = outcomes.iter().map(|outcome| outcome.note.clone()).filter(|note| !note.is_empty()).collect();
    let _ = writeln!(text, "\n{}.", builds.into_iter().chain(notes).collect::<Vec<_>>().join("; "));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_a_cell_for_each_heading_and_says_which_run_it_is_of() {
        let (date, commit) = ("2025-01-31".to_owned(), "0123abc-dirty".to_owned());
        let text = document(&[Outcome { fault: "freeze".to_owned(), date, commit, seed: 77, ..Outcome::default() }]);
        let rows: Vec<Vec<&str>> = text.lines().filter(|line| line.starts_with('|')).map(|line| line.split('|').collect()).collect();
        let [headings, line, row] = &rows[..] else { panic!("{text}") };
        assert_eq!((headings.len(), line.len()), (row.len(), row.len()), "{text}");
        let cell = |heading: &str| row[headings.iter().position(|found| found.trim() == heading).expect(heading)].trim();
        assert_eq!([cell("name"), cell("day"), cell("commit"), cell("seed")], ["freeze", "2025-01-31", "0123abc-dirty", "77"]);
    }
}
