//! The report of a run: JSON for machines, a page for people.

pub mod compare;
mod html;
pub(crate) mod plot;

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
    operation::Measure,
    population::prepare::Ready,
    record::{Interval, Totals, row},
    run::{
        Options, Outcome,
        lag::Lag,
        process::{Processes, Sample},
    },
    scenario::{Kind, Scenario},
    verify::context::around,
};

/// More of the starts than this later than a second, and the run is not valid.
const LATE_MOST: f64 = 0.05;
/// More of the cores that the generator may use than this, and the run is not valid.
const CPU_MOST: f64 = 0.7;
/// Violations whose surroundings are shown.
const SHOWN: usize = 20;

/// Everything that is known of a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The name of the scenario.
    pub name: String,
    /// The scenario as it was run.
    pub scenario: Scenario,
    /// Where.
    pub target: String,
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
    /// How many violations there are.
    pub violations: usize,
    /// The first of them, each with what was around it.
    pub shown: Vec<(String, String)>,
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
            violations: verified.violations.len(),
            shown: verified
                .violations
                .iter()
                .take(SHOWN)
                .map(|violation| (format!("invariant {}: {}", violation.invariant, violation.what), around(&verified.history, violation)))
                .collect(),
        });
        let mut report = Self {
            name: options.name.clone(),
            scenario: options.scenario.clone(),
            target: options.target.address.clone(),
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
            problems: Vec::new(),
            doubts: Vec::new(),
        };
        report.judge();
        report
    }

    /// Of the tests that other messengers were measured with. That they ended means that every message was acknowledged and delivered once.
    #[must_use]
    pub fn of_peers(options: &Options, ready: &Ready, figures: BTreeMap<String, f64>) -> Self {
        let began = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        Self {
            name: options.name.clone(),
            scenario: options.scenario.clone(),
            target: options.target.address.clone(),
            began,
            people: [ready.people.len(), ready.plan.friendships.len(), ready.groups.len()],
            prepared: ready.took,
            peers: figures,
            ..Self::default()
        }
    }

    /// Says what is wrong.
    fn judge(&mut self) {
        let generator = &self.generator;
        if let Some(checked) = self.checked.as_ref().filter(|checked| checked.violations > 0) {
            self.problems.push(format!("{} violations of what must always hold", checked.violations));
        }
        if generator.late as f64 > LATE_MOST * generator.started as f64 {
            self.doubts.push(format!("{} of {} operations were started more than a second late", generator.late, generator.started));
        }
        if generator.cores > CPU_MOST * generator.cores_allowed as f64 {
            self.doubts.push(format!(
                "the generator used {:.2} of {} cores: it may have been the bottleneck",
                generator.cores, generator.cores_allowed
            ));
        }
        if generator.shed > 0 {
            self.doubts.push(format!("{} sends were not made because too many had no answer", generator.shed));
        }
        if self.stopped {
            self.doubts.push("it was stopped before its end, and nothing was checked".to_owned());
        }
    }

    /// The verdict in one word or two.
    #[must_use]
    pub fn verdict(&self) -> &'static str {
        match (self.problems.is_empty(), self.doubts.is_empty()) {
            (false, _) => "failed",
            (true, false) => "not valid",
            (true, true) => "good",
        }
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
        lines.extend(self.ratios().unwrap_or_default().into_iter().map(|(name, ratio)| format!("  {name} beside its floor: {ratio:.2}")));
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
            lines.push(format!(
                "  checked: {} acknowledged messages, {} of unknown fate, {} conversations, {} entries, {} viewers with {} posts: {} violations",
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
    /// Ours beside the floors that were measured with it; nothing without floors.
    #[must_use]
    pub fn ratios(&self) -> Option<Vec<(String, f64)>> {
        let ack = self.row(Measure::AckDirect, Kind::Steady)?;
        let beside = [("ack p50", "ack floor p50, ms", ack.p50), ("ack p99", "ack floor p99, ms", ack.p99)];
        let ratios: Vec<_> =
            beside.into_iter().filter_map(|(name, floor, ours)| Some((name.to_owned(), ours / self.floors.get(floor)?))).collect();
        (!ratios.is_empty()).then_some(ratios)
    }
}

#[cfg(test)]
mod tests {
    use plaza_checker::{
        check,
        history::{Entry, Final, History, Message, Sent, What},
    };

    use super::*;
    use crate::{target::Target, verify::Verified};

    fn options() -> Options {
        Options {
            target: Target::new("http://127.0.0.1:7700", false).expect("loopback"),
            name: "chat".into(),
            scenario: Scenario::load("chat").expect("built in"),
            population: "nowhere".into(),
            seed: 1,
            call_connections: 1,
            server_pids: Vec::new(),
            metrics: Vec::new(),
            shown: false,
            check: true,
        }
    }

    /// Two people and one message, which both have unless it is lost.
    fn history(lost: bool) -> History {
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

    fn report(history: History, totals: Totals, shed: u64, stopped: bool) -> Report {
        let verified = Verified { violations: check(&history), history, ..Verified::default() };
        let outcome = Outcome {
            began: 1,
            lasted: 10.0,
            stopped,
            totals,
            intervals: Vec::new(),
            processes: Processes::new(&[]).expect("proc"),
            lags: Vec::new(),
            verified: Some(verified),
            unanswered: 0,
            undelivered: 0,
            shed,
            streams: 2,
            entries: 2,
            prepared: Default::default(),
            people: [2, 1, 0],
            stream_kib: 30.0,
            server_stream_kib: None,
        };
        Report::new(&options(), &outcome)
    }

    #[test]
    fn a_planted_violation_fails_the_run_and_shows_what_was_around_it() {
        let good = report(history(false), Totals::default(), 0, false);
        assert_eq!((good.verdict(), good.problems.len()), ("good", 0));
        let failed = report(history(true), Totals::default(), 0, false);
        assert_eq!(failed.verdict(), "failed");
        let shown = failed.summary();
        assert!(shown.contains("m1 was acknowledged as 1 and is not in the inbox of user 1"), "{shown}");
        assert!(shown.contains("inbox of user 0, 1 entries") && shown.contains("inbox of user 1, 0 entries"), "{shown}");
        let page = html::page(&failed).expect("drawn");
        assert!(page.contains("Verdict: failed") && page.contains("inbox of user 1"), "{page}");
    }

    #[test]
    fn figures_of_a_late_stopped_or_overfull_generator_are_not_valid() {
        let late = |late| Totals { started: 1_000, late, ..Totals::default() };
        assert_eq!(report(history(false), late(50), 0, false).verdict(), "good");
        assert_eq!(report(history(false), late(51), 0, false).verdict(), "not valid");
        assert_eq!(report(history(false), Totals::default(), 1, false).verdict(), "not valid");
        assert_eq!(report(history(false), Totals::default(), 0, true).verdict(), "not valid");
        assert_eq!(report(history(true), late(51), 0, false).verdict(), "failed");
    }
}
