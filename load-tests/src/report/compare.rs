//! Two sides, each of one run or of several, with their noise: how far apart the runs of one side are. One run does not know it, since seconds
//! of one run are far closer to each other than two runs are.

use std::{collections::BTreeMap, fmt::Write};

use super::Report;
use crate::{run::process::Processes, scenario::Kind};

/// The noise at least, where both sides have several runs.
const SEVERAL: f64 = 0.1;
/// And where one has a single run: what identical runs on a shared machine differ by.
const SINGLE: f64 = 0.3;

/// A figure of a report.
struct Figure {
    name: String,
    value: f64,
    /// Whether more is better.
    more: bool,
    /// Whether a difference means something.
    judged: bool,
}

/// The table of both sides, for a terminal.
#[must_use]
pub fn table(one: &[Report], other: &[Report]) -> String {
    let mut text = String::new();
    for (side, reports) in [("A", one), ("B", other)] {
        for report in reports {
            let _ = writeln!(text, "{side}: {} on {}, {} ({})", report.name, report.target, report.began, report.verdict());
        }
    }
    let all = || one.iter().chain(other);
    if all().any(|report| all().next().is_some_and(|first| first.scenario != report.scenario)) {
        let _ = writeln!(text, "the scenarios differ: the figures mean different things");
    }
    let _ = writeln!(text, "{:48} {:>10} {:>10} {:>8} {:>8}", "", "A", "B", "B / A", "noise");
    let sides = [values(one), values(other)];
    let mut seen = Vec::new();
    for figure in all().flat_map(figures) {
        if seen.contains(&figure.name) {
            continue;
        }
        let [a, b] = sides.each_ref().map(|side| side.get(&figure.name).map_or(&[][..], Vec::as_slice));
        let _ = writeln!(text, "{:48} {}", figure.name, line(&figure, a, b));
        seen.push(figure.name);
    }
    text
}

/// The values of a side by the figures' names.
fn values(reports: &[Report]) -> BTreeMap<String, Vec<f64>> {
    let mut values: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    reports.iter().flat_map(figures).for_each(|figure| values.entry(figure.name).or_default().push(figure.value));
    values
}

fn line(figure: &Figure, a: &[f64], b: &[f64]) -> String {
    let (Some(one), Some(other)) = (median(a), median(b)) else {
        // What is missing on one side may be what failed there.
        let shown = |side: &[f64]| median(side).map_or("-".to_owned(), |value| format!("{value:.2}"));
        return format!("{:>10} {:>10}", shown(a), shown(b));
    };
    if one <= 0.0 || other <= 0.0 {
        return format!("{one:>10.2} {other:>10.2}");
    }
    let noise = match (spread(a), spread(b)) {
        (Some(a), Some(b)) => a.max(b).max(SEVERAL),
        (a, b) => a.or(b).unwrap_or_default().max(SINGLE),
    };
    let ratio = other / one;
    let mark = match ratio.ln().abs() > noise.ln_1p() && figure.judged {
        false => "",
        true if (ratio > 1.0) == figure.more => " better",
        true => " worse",
    };
    format!("{one:>10.2} {other:>10.2} {ratio:>8.2} {:>7.0}%{mark}", noise * 100.0)
}

/// How far the highest of several is above the lowest, as a part of it.
fn spread(values: &[f64]) -> Option<f64> {
    let (least, most) = values.iter().fold((f64::MAX, 0.0f64), |(least, most), value| (least.min(*value), most.max(*value)));
    (values.len() > 1 && least > 0.0).then(|| most / least - 1.0)
}

fn median(values: &[f64]) -> Option<f64> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    Some(if values.len().is_multiple_of(2) { f64::midpoint(values[middle - 1], upper) } else { upper })
}

/// Everything of a report that can be compared.
fn figures(report: &Report) -> Vec<Figure> {
    let less = |name: String, value: f64| Figure { name, value, more: false, judged: true };
    let mut figures = Vec::new();
    if report.lasted > 0.0 {
        let (offered, answered) = report.rates();
        figures.push(Figure { judged: false, ..less("offered, operations/s".to_owned(), offered) });
        figures.push(Figure { more: true, ..less("answered, operations/s".to_owned(), answered) });
    }
    for row in &report.rows {
        for (quantile, value) in [("p50", row.p50), ("p99", row.p99), ("p99.9", row.p999)] {
            let name = format!("{}, {} {quantile}, ms", row.measure.name(), row.phase.name());
            figures.push(Figure { judged: row.phase != Kind::WarmUp, ..less(name, value) });
        }
    }
    figures.extend(report.peers.iter().map(|(name, value)| Figure { more: name.ends_with("/s"), ..less(name.clone(), *value) }));
    figures.extend(report.ratios().into_iter().map(|(name, value)| less(name, value)));
    // Of the servers together: another run has other processes.
    for (what, is_one) in [("servers", false), (Processes::GENERATOR, true)] {
        let watched = report.processes.iter().filter(|(name, _)| name.starts_with(Processes::GENERATOR) == is_one);
        let samples: Vec<_> = watched.map(|(_, samples)| samples).filter(|samples| !samples.is_empty()).collect();
        if !samples.is_empty() {
            let cores = |samples: &&Vec<_>| {
                samples.iter().map(|sample: &crate::run::process::Sample| sample.cores).sum::<f64>() / samples.len() as f64
            };
            let memory =
                |samples: &&Vec<_>| samples.iter().map(|sample: &crate::run::process::Sample| sample.memory_mib).fold(0.0, f64::max);
            figures.push(less(format!("{what}, cores in the mean"), samples.iter().map(cores).sum()));
            figures.push(less(format!("{what}, MiB at most"), samples.iter().map(memory).sum()));
        }
    }
    figures.extend(report.server_stream_kib.map(|kib| less("servers, KiB for each idle stream".to_owned(), kib)));
    figures
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{operation::Measure, report::Row, run::process::Sample};

    /// A run with this p99.
    fn report(p99: f64) -> Report {
        let row = |phase| Row { measure: Measure::AckDirect, phase, count: 1_000, p50: 1.0, p90: 2.0, p99, p999: 9.0, max: 10.0 };
        Report { rows: vec![row(Kind::WarmUp), row(Kind::Steady)], lasted: 40.0, ..Report::default() }
    }

    fn reports<const COUNT: usize>(p99s: [f64; COUNT]) -> Vec<Report> {
        p99s.into_iter().map(report).collect()
    }

    /// The line of a figure, its words.
    fn line(one: &[Report], other: &[Report], figure: &str) -> String {
        let table = table(one, other);
        let line = table.lines().find_map(|line| line.strip_prefix(figure)).unwrap_or_else(|| panic!("{figure}: {table}"));
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    const P99: &str = "send direct: ack, steady p99, ms";

    #[test]
    fn of_single_runs_a_difference_counts_beyond_what_identical_runs_differ_by() {
        assert_eq!(line(&reports([10.0]), &reports([14.0]), P99), "10.00 14.00 1.40 30% worse");
        assert_eq!(line(&reports([14.0]), &reports([10.0]), P99), "14.00 10.00 0.71 30% better");
        assert_eq!(line(&reports([10.0]), &reports([12.9]), P99), "10.00 12.90 1.29 30%");
        assert_eq!(line(&reports([10.0]), &reports([14.0]), "send direct: ack, warm-up p99, ms"), "10.00 14.00 1.40 30%");
    }

    #[test]
    fn of_several_runs_the_noise_is_how_far_they_are_apart() {
        let steady = [10.0, 10.1, 10.2];
        assert_eq!(line(&reports(steady), &reports([12.0, 12.1, 12.2]), P99), "10.10 12.10 1.20 10% worse");
        // One run of a side was more than twice as slow as another: so may the other side be.
        assert_eq!(line(&reports([10.0, 25.0]), &reports([20.0, 21.0]), P99), "17.50 20.50 1.17 150%");
        assert_eq!(line(&reports(steady), &reports([12.0, 25.0]), P99), "10.10 18.50 1.83 108%");
        assert_eq!(line(&reports([10.0, 15.0]), &reports([17.0]), P99), "12.50 17.00 1.36 50%");
        assert_eq!(line(&reports([10.0, 10.1]), &reports([12.0]), P99), "10.05 12.00 1.19 30%");
    }

    #[test]
    fn peers_processes_and_floors_are_compared_too() {
        let made = |factor: f64, pid: u32| {
            let mut report = report(10.0);
            report.peers =
                [("B: acknowledged and delivered, messages/s".to_owned(), 100.0 * factor), ("A: ack p50, ms".to_owned(), factor)].into();
            report.floors = [("ack floor p50, ms".to_owned(), 1.0 / factor)].into();
            let samples = |cores: f64| {
                vec![
                    Sample { at: 1.0, cores: cores * factor, memory_mib: 50.0 },
                    Sample { at: 2.0, cores: cores * factor, memory_mib: 60.0 },
                ]
            };
            report.processes = [
                (format!("server {pid}"), samples(0.5)),
                (format!("server {}", pid + 1), samples(0.25)),
                (Processes::GENERATOR.to_owned(), samples(0.1)),
            ]
            .into();
            report
        };
        let (one, other) = ([made(1.0, 10)], [made(2.0, 20)]);
        assert_eq!(line(&one, &other, "B: acknowledged and delivered, messages/s"), "100.00 200.00 2.00 30% better");
        assert_eq!(line(&one, &other, "A: ack p50, ms"), "1.00 2.00 2.00 30% worse");
        assert_eq!(line(&one, &other, "ack p50 beside a bare server's"), "1.00 2.00 2.00 30% worse");
        assert_eq!(line(&one, &other, "servers, cores in the mean"), "0.75 1.50 2.00 30% worse");
        assert_eq!(line(&one, &other, "servers, MiB at most"), "120.00 120.00 1.00 30%");
        assert_eq!(line(&one, &other, "generator, cores in the mean"), "0.10 0.20 2.00 30% worse");
        // What is only on one side is shown: it may have failed on the other.
        assert_eq!(line(&one, &reports([10.0]), "A: ack p50, ms"), "1.00 -");
    }
}
