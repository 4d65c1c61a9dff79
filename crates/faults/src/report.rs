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

/// Above the rows.
const INTRODUCTION: &str = "\
# Faults

What clients get while a cluster is broken under them: two instances of each service on Kafka and Apache Cassandra (in place of ScyllaDB), all on
one machine of two cores with the load itself. Six clients on twelve devices are in direct conversations and in a group that some leave and come
back to all the time; six more talk in pairs, with devices that show when messages are delivered; there are two authors of Moments and their
friends; two more register newcomers, sometimes two at once for one handle, change their names and sign their devices in and out (\"account
changes\"). Each of them does something about twice a second, well below what the processes can do, so that a rate that is lower afterwards is a
fault's doing.

After each fault everything they were told is judged: nothing acknowledged is lost, nothing is there twice, every order is dense, every unread
count right, nothing forbidden was seen, every handle has one owner, every name and sign-out holds. Then all checkpoints are deleted and
everything is applied once more, which must change nothing (\"replayed\"). A send counts as acknowledged when its client was answered; not all
are, since who is out of the group at that moment is refused. \"Back to 90 %\" is the longest time, of all rounds, from the moment when what was
broken is whole again (a process is started or goes on, the way is open) until the rate of acknowledgements is at 90 % of that before the fault
and stays there for 3 s; it may be 30 s. With `kill-one` the next process may be killed meanwhile. A process that says nothing keeps its
partitions for 3 s.

Written by `cargo xtask faults --report docs/faults.md`, which repeats it; `--only` takes the names, `--seed` the seed of a row.

";

/// The cells of a row, under their headings.
fn row(outcome: &Outcome) -> [(&'static str, String); 19] {
    let back = outcome.back.map_or_else(|| format!("not within {} s", WITHIN.as_secs()), seconds);
    [
        ("name", outcome.fault.clone()),
        ("fault", outcome.what.clone()),
        ("rounds", outcome.rounds.to_string()),
        ("brokers, nodes", format!("{}, {}", outcome.brokers, outcome.nodes)),
        ("sends acknowledged", outcome.acknowledged.to_string()),
        ("posts", outcome.posts.to_string()),
        ("account changes", outcome.account_changes.to_string()),
        ("lost", outcome.lost.to_string()),
        ("duplicated", outcome.duplicated.to_string()),
        ("violations", (outcome.violations.len() + outcome.errors.len()).to_string()),
        ("replayed", if outcome.is_replayed { "yes" } else { "no" }.to_owned()),
        ("longest time without an ack", seconds(outcome.longest_gap)),
        ("of one sender", seconds(outcome.longest_of_one)),
        ("longest time without a delivery", seconds(outcome.longest_silence)),
        ("to one device", seconds(outcome.longest_to_one)),
        ("back to 90 % after", back),
        ("day", outcome.date.clone()),
        ("commit", outcome.commit.clone()),
        ("seed", outcome.seed.to_string()),
    ]
}

/// For `docs/faults.md`.
pub(crate) fn document(outcomes: &[Outcome]) -> String {
    let mut text = INTRODUCTION.to_owned();
    let headings = row(&Outcome::default()).map(|(heading, _)| heading);
    let rows = outcomes.iter().map(|outcome| row(outcome).map(|(_, cell)| cell).join(" | "));
    for cells in [headings.join(" | "), headings.map(|_| "---").join(" | ")].into_iter().chain(rows) {
        let _ = writeln!(text, "| {cells} |");
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
    fn a_row_says_under_its_heading_which_run_it_is_of() {
        let (date, commit) = ("2025-01-31".to_owned(), "0123abc-dirty".to_owned());
        let text = document(&[Outcome { fault: "freeze".to_owned(), date, commit, seed: 77, posts: 5, ..Outcome::default() }]);
        let rows: Vec<Vec<&str>> = text.lines().filter(|line| line.starts_with('|')).map(|line| line.split(" | ").collect()).collect();
        let [headings, line, row] = &rows[..] else { panic!("{text}") };
        assert_eq!((headings.len(), line.len()), (row.len(), row.len()), "{text}");
        let cell = |heading: &str| row[headings.iter().position(|found| found.trim_matches([' ', '|']) == heading).expect(heading)];
        assert_eq!([cell("posts"), cell("day"), cell("commit"), cell("seed")], ["5", "2025-01-31", "0123abc-dirty", "77 |"]);
    }
}
