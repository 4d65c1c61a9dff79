//! Several reports as one: histograms are added, so the percentiles are those of all operations together.

use std::collections::BTreeMap;

use anyhow::{Context, bail, ensure};
use hdrhistogram::{
    Histogram,
    serialization::{Deserializer, Serializer, V2Serializer},
};

use super::protocol::{Latencies, Result as ResultStep};
use crate::{
    operation::Measure,
    record::{Interval, Totals},
    report::{Checked, Failure, Report, rows},
    run::Options,
    scenario::Kind,
};

/// What one generator brought.
pub struct Part {
    /// Its name.
    name: String,
    report: Report,
    totals: Totals,
}

/// A measure or a phase by the name it has in reports.
fn named<T: serde::Serialize>(value: T) -> anyhow::Result<String> {
    match serde_json::to_value(value)? {
        serde_json::Value::String(name) => Ok(name),
        other => bail!("{other} is no name"),
    }
}

fn of_name<T: serde::de::DeserializeOwned>(name: &str) -> anyhow::Result<T> {
    Ok(serde_json::from_value(serde_json::Value::String(name.to_owned()))?)
}

/// A generator's result on its way.
pub(super) fn encode(report: &Report, totals: &Totals) -> anyhow::Result<ResultStep> {
    let mut latencies = Vec::new();
    for ((measure, phase), histogram) in &totals.histograms {
        let mut bytes = Vec::new();
        V2Serializer::new().serialize(histogram, &mut bytes).context("encoding a histogram")?;
        latencies.push(Latencies { measure: named(measure)?, phase: named(phase)?, histogram: bytes });
    }
    Ok(ResultStep { report: serde_json::to_string(report)?, latencies, problem: String::new() })
}

impl Part {
    /// What a generator sent.
    pub(super) fn decode(name: String, result: &ResultStep) -> anyhow::Result<Self> {
        ensure!(result.problem.is_empty(), "{}", result.problem);
        let report: Report = serde_json::from_str(&result.report).context("a generator's report")?;
        let mut totals = Totals {
            started: report.generator.started,
            late: report.generator.late,
            most_late_micros: (report.generator.most_late_ms * 1000.0) as u64,
            ..Totals::default()
        };
        for latencies in &result.latencies {
            let histogram: Histogram<u64> =
                Deserializer::new().deserialize(&mut &latencies.histogram[..]).context("a generator's histogram")?;
            // Into the bounds that all have here.
            let mut bounded = crate::record::histogram();
            bounded.add(histogram).context("a generator's histogram has other bounds")?;
            totals.histograms.insert((of_name::<Measure>(&latencies.measure)?, of_name::<Kind>(&latencies.phase)?), bounded);
        }
        let failures = report.failures.iter().map(|failure| ((failure.measure, failure.reason.clone()), failure.count));
        totals.failures = failures.collect();
        Ok(Self { name, report, totals })
    }
}

/// One report of all parts.
pub(super) fn merge(options: &Options, parts: Vec<Part>) -> anyhow::Result<Report> {
    let mut totals = Totals::default();
    let mut parts = parts.into_iter();
    let first = parts.next().context("there is no part")?;
    let mut whole = Report { processes: BTreeMap::new(), scenario: options.scenario.clone(), seed: options.seed, ..first.report.clone() };
    let (problems, doubts) = (std::mem::take(&mut whole.problems), std::mem::take(&mut whole.doubts));
    whole.problems.extend(problems.iter().map(|problem| format!("{}: {problem}", first.name)));
    whole.doubts.extend(doubts.iter().map(|doubt| format!("{}: {doubt}", first.name)));
    processes(&mut whole, &first);
    totals.add(first.totals);
    for part in parts {
        let (name, report) = (&part.name, &part.report);
        whole.began = whole.began.min(report.began);
        whole.lasted = whole.lasted.max(report.lasted);
        for place in 0..3 {
            whole.people[place] += report.people[place];
            let (made, seconds) = report.prepared[place];
            whole.prepared[place] = (whole.prepared[place].0 + made, whole.prepared[place].1.max(seconds));
        }
        whole.streams += report.streams;
        whole.entries += report.entries;
        whole.stream_kib = whole.stream_kib.max(report.stream_kib);
        // Each knows of its own streams only.
        whole.server_stream_kib = None;
        whole.intervals = intervals(std::mem::take(&mut whole.intervals), &report.intervals);
        whole.generator.cores += report.generator.cores;
        whole.generator.cores_allowed += report.generator.cores_allowed;
        whole.generator.shed += report.generator.shed;
        whole.generator.unanswered += report.generator.unanswered;
        whole.generator.undelivered += report.generator.undelivered;
        match (&mut whole.checked, &report.checked) {
            (Some(checked), Some(other)) => checked.add(other),
            (Some(checked), None) => checked.complete = false,
            (None, other) => whole.checked = other.clone().map(|checked| Checked { complete: false, ..checked }),
        }
        whole.stopped |= report.stopped;
        whole.problems.extend(report.problems.iter().map(|problem| format!("{name}: {problem}")));
        whole.doubts.extend(report.doubts.iter().map(|doubt| format!("{name}: {doubt}")));
        if whole.lags.is_empty() {
            // Those of the deployment, whoever looked at it.
            whole.lags.clone_from(&report.lags);
        }
        processes(&mut whole, &part);
        totals.add(part.totals);
    }
    whole.generator.started = totals.started;
    whole.generator.late = totals.late;
    whole.generator.most_late_ms = totals.most_late_micros as f64 / 1000.0;
    whole.rows = rows(&totals);
    let failures = totals.failures.into_iter().map(|((measure, reason), count)| Failure { measure, reason, count });
    whole.failures = failures.collect();
    Ok(whole)
}

fn processes(whole: &mut Report, part: &Part) {
    for (process, samples) in &part.report.processes {
        let name = if process.starts_with("server") { process.clone() } else { format!("{} of {}", process, part.name) };
        // Two generators on the server's machine watch the same process.
        whole.processes.entry(name).or_insert_with(|| samples.clone());
    }
}

/// Second by second: rates are added. Percentiles cannot be, so the worst of the parts stands for all.
fn intervals(mut one: Vec<Interval>, other: &[Interval]) -> Vec<Interval> {
    for (mine, theirs) in one.iter_mut().zip(other) {
        mine.offered += theirs.offered;
        mine.achieved += theirs.achieved;
        for (measure, row) in &theirs.latencies {
            let mine = mine.latencies.entry(*measure).or_insert([0.0; 6]);
            mine[0] += row[0];
            mine.iter_mut().zip(row).skip(1).for_each(|(mine, theirs)| *mine = mine.max(*theirs));
        }
    }
    // One that was lost stopped earlier.
    let longer = other.get(one.len()..).unwrap_or_default();
    one.extend_from_slice(longer);
    one
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{record::histogram, report::Generator, run::tests::options};

    fn part(name: &str, values: std::ops::Range<u64>, problem: &str) -> Part {
        let mut own = histogram();
        values.for_each(|value| own.saturating_record(value));
        let mut totals = Totals::default();
        totals.histograms.insert((Measure::AckDirect, Kind::Steady), own);
        let interval =
            |at| Interval { at, offered: 10.0, achieved: 9.0, latencies: [(Measure::AckDirect, [5.0, 1.0, 2.0, 3.0, 4.0, 5.0])].into() };
        let mut report = Report { intervals: vec![interval(1.0), interval(2.0)], streams: 7, ..Report::default() };
        report.generator = Generator { started: 100, late: 1, ..Generator::default() };
        report.problems.extend((!problem.is_empty()).then(|| problem.to_owned()));
        report.failures.push(Failure { measure: Measure::Sync, reason: "X".into(), count: 2 });
        Part::decode(name.into(), &encode(&report, &totals).expect("encoded")).expect("decoded")
    }

    #[test]
    fn a_merged_report_is_that_of_all_operations() {
        let options = options();
        let merged = merge(&options, vec![part("one", 1..10_000, ""), part("two", 50_000..59_999, "a violation")]).expect("merged");
        let row = merged.row(Measure::AckDirect, Kind::Steady).expect("there");
        assert_eq!(row.count, 19_998);
        // Half of all are below 10 ms and half above 50 ms, which no mean of percentiles would say.
        assert!((9.9..10.1).contains(&row.p50) && (59.0..60.1).contains(&row.p99), "{row:?}");
        assert_eq!((merged.streams, merged.generator.started, merged.failures[0].count), (14, 200, 4));
        assert_eq!((merged.intervals.len(), merged.intervals[0].offered.to_string()), (2, "20".to_owned()));
        assert_eq!((merged.verdict(), merged.problems.as_slice()), ("failed", &["two: a violation".to_owned()][..]));
        assert!(merge(&options, Vec::new()).is_err());
    }

    #[test]
    fn who_went_on_for_longer_is_in_it_whichever_comes_first() {
        let [short, long] = [1, 3].map(|seconds| {
            let second = |at: i32| Interval { at: at.into(), offered: 10.0, achieved: 9.0, latencies: BTreeMap::new() };
            (1..=seconds).map(second).collect::<Vec<_>>()
        });
        for (one, other) in [(short.clone(), &long), (long.clone(), &short)] {
            let offered: Vec<_> = intervals(one, other).iter().map(|interval| interval.offered.to_string()).collect();
            assert_eq!(offered, ["20", "10", "10"]);
        }
    }

    #[test]
    fn a_problem_is_no_part() {
        let problem = ResultStep { problem: "no stream".into(), ..ResultStep::default() };
        assert!(Part::decode("one".into(), &problem).is_err_and(|error| error.to_string() == "no stream"));
    }
}
