//! The report of a run: JSON for machines, a page for people.

pub mod compare;
mod html;
pub(crate) mod plot;
mod verdict;

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::Context;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::{
    floor,
    operation::Measure,
    peers::Tested,
    population::prepare::Ready,
    record::{Interval, Totals, row},
    run::{
        Options, Outcome,
        lag::Lag,
        process::{Processes, Sample},
    },
    scenario::{Kind, Scenario},
    verify::{Broken, Verified, context},
};

/// Violations of one invariant that are shown.
const SHOWN: usize = 8;

/// Everything that is known of a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The name of the scenario.
    pub name: String,
    /// The scenario as it was run.
    pub scenario: Scenario,
    /// Where.
    pub target: String,
    /// What decided the arrivals and who acts.
    #[serde(default)]
    pub seed: u64,
    /// When it began, seconds since the epoch.
    pub began: u64,
    /// How long the phases took, seconds.
    pub lasted: f64,
    /// People, friendships, groups.
    pub people: [usize; 3],
    /// What was made of them before the run, and in how many seconds.
    pub prepared: [(usize, f64); 3],
    /// Live streams.
    pub streams: usize,
    /// Entries that the streams were shown.
    pub entries: u64,
    /// Memory of the generator for each live stream, KiB.
    pub stream_kib: f64,
    /// Memory of the watched servers for each live stream, KiB, if the run only held them.
    #[serde(default)]
    pub server_stream_kib: Option<f64>,
    /// Latencies by measure and phase.
    pub rows: Vec<Row>,
    /// Failures by measure and reason.
    pub failures: Vec<Failure>,
    /// The run second by second.
    pub intervals: Vec<Interval>,
    /// What processes used.
    pub processes: BTreeMap<String, Vec<Sample>>,
    /// How far the processors were behind their logs, if the deployment was asked.
    #[serde(default)]
    pub lags: Vec<Lag>,
    /// The generator's own state.
    pub generator: Generator,
    /// What the check found.
    pub checked: Option<Checked>,
    /// Floors of the same machine and time, if they were measured.
    #[serde(default)]
    pub floors: BTreeMap<String, f64>,
    /// Figures of the tests that other messengers were measured with, if they were run.
    #[serde(default)]
    pub peers: BTreeMap<String, f64>,
    /// The rates that a ramp tried, if it was one; the rest is of the best of them.
    #[serde(default)]
    pub steps: Vec<Tried>,
    /// Whether it was stopped.
    pub stopped: bool,
    /// What is wrong with the run; nothing if it is good.
    pub problems: Vec<String>,
    /// What is wrong with the figures, though not with the server; nothing if they are valid.
    pub doubts: Vec<String>,
}

/// A rate that a ramp tried.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tried {
    /// Operations a second.
    pub rate: f64,
    /// 99 % of the direct messages were acknowledged within this, milliseconds.
    pub ack_p99: f64,
    /// And delivered within this.
    pub delivery_p99: f64,
    /// Why it missed the objective; empty if it met it.
    pub missed: String,
}

/// One line of latencies, milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// What.
    pub measure: Measure,
    /// In which phases.
    pub phase: Kind,
    /// How many.
    pub count: u64,
    /// The median.
    pub p50: f64,
    /// 90 % are below.
    pub p90: f64,
    /// 99 % are below.
    pub p99: f64,
    /// 99.9 % are below.
    pub p999: f64,
    /// All are at most this.
    pub max: f64,
}

/// Calls that failed alike.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// What.
    pub measure: Measure,
    /// Why.
    pub reason: String,
    /// How many.
    pub count: u64,
}

/// The generator's own state: whether its figures can be believed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Generator {
    /// Operations started.
    pub started: u64,
    /// Of these, more than a second late.
    pub late: u64,
    /// The latest start, milliseconds.
    pub most_late_ms: f64,
    /// Cores it used in the mean.
    pub cores: f64,
    /// Cores it may use.
    pub cores_allowed: usize,
    /// Sends not made because too many were open.
    pub shed: u64,
    /// Sends without an answer after the end.
    pub unanswered: usize,
    /// Deliveries that no stream had shown after the end.
    pub undelivered: usize,
}

/// What the check found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Checked {
    /// Sends that were acknowledged.
    pub acknowledged: usize,
    /// Sends that may be there or not.
    pub unknown: usize,
    /// Conversations judged.
    pub conversations: usize,
    /// Entries of inboxes judged.
    pub entries: usize,
    /// Viewers whose timelines were judged.
    pub viewers: usize,
    /// Posts that these should see or not.
    pub judgements: usize,
    /// Whether everything was read back; what was not is not judged.
    #[serde(default = "complete")]
    pub complete: bool,
    /// How many violations there are.
    pub violations: usize,
    /// The first of them, each with what was around it.
    pub shown: Vec<(String, String)>,
}

/// A report is only of a whole check, unless it says otherwise.
fn complete() -> bool {
    true
}

impl Checked {
    /// Adds what another generator checked.
    pub(crate) fn add(&mut self, other: &Self) {
        self.acknowledged += other.acknowledged;
        self.unknown += other.unknown;
        self.conversations += other.conversations;
        self.entries += other.entries;
        self.viewers += other.viewers;
        self.judgements += other.judgements;
        self.complete &= other.complete;
        self.violations += other.violations;
        self.shown.extend(other.shown.iter().cloned());
    }
}

/// The lines of latencies.
pub(crate) fn rows(totals: &Totals) -> Vec<Row> {
    let line = |((measure, phase), histogram): (&(Measure, Kind), &Histogram<u64>)| {
        let [count, p50, p90, p99, p999, max] = row(histogram);
        Row { measure: *measure, phase: *phase, count: count as u64, p50, p90, p99, p999, max }
    };
    totals.histograms.iter().map(line).collect()
}

/// The first violations of each invariant, with what was around them.
fn shown(verified: &Verified) -> Vec<(String, String)> {
    let mut seen: BTreeMap<u32, usize> = BTreeMap::new();
    let mut first = |broken: &&Broken| {
        let seen = seen.entry(broken.violation.invariant).or_default();
        *seen += 1;
        *seen <= SHOWN
    };
    let shown = verified.violations.iter().filter(|broken| first(broken)).map(|Broken { violation, around }| {
        let around = around.clone().unwrap_or_else(|| context::around(&verified.history, violation));
        (format!("invariant {}: {}", violation.invariant, violation.what), around)
    });
    shown.collect()
}

impl Report {
    /// Of a run.
    #[must_use]
    pub fn new(options: &Options, outcome: &Outcome) -> Self {
        let totals = &outcome.totals;
        let failures =
            totals.failures.iter().map(|((measure, reason), count)| Failure { measure: *measure, reason: reason.clone(), count: *count });
        let checked = outcome.verified.as_ref().map(|verified| Checked {
            acknowledged: verified.acknowledged,
            unknown: verified.unknown,
            conversations: verified.conversations,
            entries: verified.entries,
            viewers: verified.viewers,
            judgements: verified.judgements,
            complete: !outcome.stopped && outcome.trouble.is_none(),
            violations: verified.violations.len(),
            shown: shown(verified),
        });
        let mut report = Self {
            name: options.name.clone(),
            scenario: options.scenario.clone(),
            target: options.target.address.clone(),
            seed: options.seed,
            began: outcome.began,
            lasted: outcome.lasted,
            people: outcome.people,
            prepared: outcome.prepared,
            streams: outcome.streams,
            entries: outcome.entries,
            stream_kib: outcome.stream_kib,
            server_stream_kib: outcome.server_stream_kib,
            rows: rows(totals),
            failures: failures.collect(),
            intervals: outcome.intervals.clone(),
            processes: outcome.processes.samples.clone(),
            lags: outcome.lags.clone(),
            generator: Generator {
                started: totals.started,
                late: totals.late,
                most_late_ms: totals.most_late_micros as f64 / 1000.0,
                cores: outcome.processes.mean_cores(Processes::GENERATOR),
                cores_allowed: std::thread::available_parallelism().map_or(1, usize::from),
                shed: outcome.shed,
                unanswered: outcome.unanswered,
                undelivered: outcome.undelivered,
            },
            checked,
            floors: BTreeMap::new(),
            peers: BTreeMap::new(),
            steps: Vec::new(),
            stopped: outcome.stopped,
            problems: outcome.trouble.iter().cloned().collect(),
            doubts: outcome.other_people.iter().cloned().collect(),
        };
        report.judge();
        report
    }

    /// Of the tests that other messengers were measured with. That one ended means that every message was acknowledged and delivered once.
    #[must_use]
    pub fn of_peers(options: &Options, ready: &Ready, tested: Tested) -> Self {
        let began = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut report = Self {
            name: options.name.clone(),
            scenario: options.scenario.clone(),
            target: options.target.address.clone(),
            seed: options.seed,
            began,
            people: [ready.people.len(), ready.plan.friendships.len(), ready.groups.len()],
            prepared: ready.took,
            peers: tested.figures,
            stopped: tested.stopped,
            problems: tested.problem.into_iter().collect(),
            ..Self::default()
        };
        report.judge();
        report
    }

    /// A line of latencies.
    #[must_use]
    pub fn row(&self, measure: Measure, phase: Kind) -> Option<&Row> {
        self.rows.iter().find(|row| row.measure == measure && row.phase == phase)
    }

    /// Operations that were due and that were answered, a second, without the first quarter of the run.
    #[must_use]
    pub fn rates(&self) -> (f64, f64) {
        let inside: Vec<_> =
            self.intervals.iter().filter(|interval| interval.at > 0.25 * self.lasted && interval.at <= self.lasted).collect();
        // A sum of nothing is -0.
        let mean = |of: fn(&Interval) -> f64| inside.iter().map(|interval| of(interval)).sum::<f64>().max(0.0) / inside.len().max(1) as f64;
        (mean(|interval| interval.offered), mean(|interval| interval.achieved))
    }

    /// Writes `NAME.json` and `NAME.html` into a folder; answers the page's path.
    ///
    /// # Errors
    /// The files cannot be written.
    pub fn write(&self, folder: &Path) -> anyhow::Result<std::path::PathBuf> {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        let stem = format!("{}-{}", self.name, self.began);
        fs::write(folder.join(format!("{stem}.json")), serde_json::to_vec_pretty(self)?)?;
        let page = folder.join(format!("{stem}.html"));
        fs::write(&page, html::page(self)?).with_context(|| page.display().to_string())?;
        Ok(page)
    }

    /// Reads one back.
    ///
    /// # Errors
    /// It is none.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let bytes = fs::read(path).with_context(|| path.display().to_string())?;
        serde_json::from_slice(&bytes).with_context(|| format!("{} is no report", path.display()))
    }

    /// What a terminal shows of it.
    #[must_use]
    pub fn summary(&self) -> String {
        let (offered, achieved) = self.rates();
        let mut lines = vec![format!("{}: {}", self.name, self.verdict())];
        if self.lasted > 0.0 {
            lines.push(format!("  offered {offered:.0}/s, answered {achieved:.0}/s, {} streams, {:.1} s", self.streams, self.lasted));
            lines.push(format!(
                "  {:22} {:9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
                "", "phase", "count", "p50 ms", "p90 ms", "p99 ms", "p99.9 ms", "max ms"
            ));
        }
        lines.extend(self.rows.iter().map(|row| {
            format!(
                "  {:22} {:9} {:>9} {:>9.2} {:>9.2} {:>9.2} {:>9.2} {:>9.2}",
                row.measure.name(),
                row.phase.name(),
                row.count,
                row.p50,
                row.p90,
                row.p99,
                row.p999,
                row.max
            )
        }));
        lines.extend(
            self.failures.iter().map(|failure| format!("  {} failed {} times: {}", failure.measure.name(), failure.count, failure.reason)),
        );
        lines.extend(self.peers.iter().chain(&self.floors).map(|(name, value)| format!("  {name}: {value:.3}")));
        lines.extend(self.ratios().into_iter().map(|(name, ratio)| format!("  {name}: {ratio:.2}")));
        for (what, count) in [("sends without an answer", self.generator.unanswered), ("deliveries not shown", self.generator.undelivered)]
        {
            lines.extend((count > 0).then(|| format!("  {what} after the end: {count}")));
        }
        lines.extend(self.server_stream_kib.map(|kib| format!("  memory of the server for each idle stream: {kib:.1} KiB")));
        for (name, samples) in &self.processes {
            let most = samples.iter().map(|sample| sample.memory_mib).fold(0.0, f64::max);
            let cores = samples.iter().map(|sample| sample.cores).sum::<f64>() / samples.len().max(1) as f64;
            lines.push(format!("  {name}: {cores:.2} cores in the mean, {most:.0} MiB at most"));
        }
        if !self.lags.is_empty() {
            let most = |of: fn(&Lag) -> f64| self.lags.iter().map(of).fold(0.0, f64::max);
            lines.push(format!("  processors behind by {:.0} records, {:.1} s at most", most(|lag| lag.records), most(|lag| lag.seconds)));
        }
        if let Some(checked) = &self.checked {
            let so_far = if checked.complete { "" } else { " so far" };
            lines.push(format!(
                "  checked{so_far}: {} acknowledged messages, {} of unknown fate, {} conversations, {} entries, {} viewers with {} posts: {} violations",
                checked.acknowledged, checked.unknown, checked.conversations, checked.entries, checked.viewers, checked.judgements, checked.violations
            ));
            for (what, around) in &checked.shown {
                lines.push(format!("  {what}"));
                lines.extend(around.lines().map(|line| format!("      {line}")));
            }
        }
        lines.extend(self.problems.iter().map(|problem| format!("  FAILED: {problem}")));
        lines.extend(self.doubts.iter().map(|doubt| format!("  not valid: {doubt}")));
        lines.join("\n")
    }
}

impl Report {
    /// The acknowledgement of a direct message beside each floor that was measured with it.
    #[must_use]
    pub fn ratios(&self) -> Vec<(String, f64)> {
        let Some(ack) = self.row(Measure::AckDirect, Kind::Steady) else { return Vec::new() };
        let mut ratios = Vec::new();
        for (quantile, ours) in [("p50", ack.p50), ("p99", ack.p99)] {
            for (what, floor) in [
                ("a bare server's", self.floors.get(&floor::name(floor::ACK, quantile))),
                ("a record produced and consumed", self.floors.get(&floor::name(floor::RECORD, quantile))),
                ("a row inserted", self.floors.get(&floor::name(floor::ROW, quantile))),
                ("an append and fdatasync", self.floors.get(&floor::name(floor::DISK, quantile))),
            ] {
                ratios.extend(floor.map(|floor| (format!("ack {quantile} beside {what}"), ours / floor)));
            }
        }
        ratios
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use plaza_checker::{
        check,
        history::{Entry, Final, History, Message, Sent, What},
    };

    use super::*;
    use crate::run::tests::options;

    /// Two people and one message, which both have unless it is lost.
    pub(crate) fn history(lost: bool) -> History {
        let message = Message {
            conversation: "d".into(),
            sequence: 1,
            sender: "ada".into(),
            id: "m1".into(),
            text: "t".into(),
            ..Message::default()
        };
        let mut history = History { members: [("d".to_owned(), vec![0, 1])].into(), ..History::default() };
        for user in ["ada", "bob"] {
            let has = user == "ada" || !lost;
            let inbox = has.then(|| Entry { cursor: 1, what: What::Message(message.clone()) }).into_iter().collect();
            let messages = [("d".to_owned(), has.then(|| message.clone()).into_iter().collect())].into();
            history.finals.push(Final { user_id: user.into(), inbox, messages, ..Final::default() });
        }
        history.sends.push(Sent { from: 0, id: "m1".into(), conversation: "d".into(), acked: vec![1], text: "t".into() });
        history
    }

    /// Ten seconds of two people, and what was read back.
    pub(crate) fn outcome(history: History) -> Outcome {
        let violations = check(&history).into_iter().map(Broken::from).collect();
        Outcome {
            began: 1,
            lasted: 10.0,
            stopped: false,
            trouble: None,
            other_people: None,
            totals: Totals { started: 1_000, ..Totals::default() },
            intervals: Vec::new(),
            processes: Processes::new(&[]).expect("proc"),
            lags: Vec::new(),
            verified: Some(Verified { violations, history, ..Verified::default() }),
            unanswered: 0,
            undelivered: 0,
            shed: 0,
            streams: 2,
            entries: 2,
            prepared: Default::default(),
            people: [2, 1, 0],
            stream_kib: 30.0,
            server_stream_kib: None,
        }
    }

    #[test]
    fn ours_stands_beside_each_floor_that_was_measured() {
        let row = Row { measure: Measure::AckDirect, phase: Kind::Steady, count: 9, p50: 6.0, p90: 7.0, p99: 20.0, p999: 30.0, max: 40.0 };
        let mut report = Report { rows: vec![row], ..Report::default() };
        assert_eq!(report.ratios(), []);
        let floors = [
            ("ack floor p50, ms", 2.0),
            ("ack floor p99, ms", 4.0),
            ("ack floor of one client alone p50, ms", 0.1),
            ("append of 512 bytes and fdatasync p50, ms", 0.2),
            ("append of 512 bytes and fdatasync p99, ms", 1.0),
            ("a record produced and consumed p50, ms", 1.5),
            ("a record produced and consumed p99, ms", 2.0),
            ("a row inserted p50, ms", 1.0),
            ("a row inserted p99, ms", 8.0),
        ];
        report.floors = floors.map(|(name, value)| (name.to_owned(), value)).into();
        let ratios: Vec<String> = report.ratios().iter().map(|(name, ratio)| format!("{name} {ratio:.1}")).collect();
        let wanted = [
            "ack p50 beside a bare server's 3.0",
            "ack p50 beside a record produced and consumed 4.0",
            "ack p50 beside a row inserted 6.0",
            "ack p50 beside an append and fdatasync 30.0",
            "ack p99 beside a bare server's 5.0",
            "ack p99 beside a record produced and consumed 10.0",
            "ack p99 beside a row inserted 2.5",
            "ack p99 beside an append and fdatasync 20.0",
        ];
        assert_eq!(ratios, wanted);
        assert!(report.summary().contains("ack p50 beside a row inserted: 6.00"));
        assert!(html::page(&report).is_ok_and(|page| page.contains("ack p99 beside a row inserted</td><td>2.50")));
        // The names are those that the floors have.
        let mut named = BTreeMap::new();
        for what in [floor::ACK, floor::RECORD, floor::ROW, floor::DISK] {
            floor::note(&mut named, what, &crate::record::histogram());
        }
        assert!(named.keys().all(|name| report.floors.contains_key(name)), "{named:?}");
    }

    #[test]
    fn a_planted_violation_fails_the_run_and_shows_what_was_around_it() {
        let good = Report::new(&options(), &outcome(history(false)));
        assert_eq!((good.verdict(), good.problems.len()), ("good", 0));
        let failed = Report::new(&options(), &outcome(history(true)));
        assert_eq!(failed.verdict(), "failed");
        let shown = failed.summary();
        assert!(shown.contains("m1 was acknowledged as 1 and is not in the inbox of user 1"), "{shown}");
        assert!(shown.contains("inbox of user 0, 1 of 1 entries") && shown.contains("inbox of user 1, 0 of 0 entries"), "{shown}");
        let page = html::page(&failed).expect("drawn");
        assert!(page.contains("Verdict: failed") && page.contains("inbox of user 1"), "{page}");
    }
}
