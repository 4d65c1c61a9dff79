//! Two runs side by side, with their noise: how much the same figure moves from second to second within one run.

use std::fmt::Write;

use super::Report;
use crate::operation::Measure;

/// A difference counts when the ratio is further from 1 than the noise of both together, and than this.
const LEAST: f64 = 0.1;

/// The table of both, for a terminal.
#[must_use]
pub fn table(one: &Report, other: &Report) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "A: {} on {}, {} ({})", one.name, one.target, one.began, one.verdict());
    let _ = writeln!(text, "B: {} on {}, {} ({})", other.name, other.target, other.began, other.verdict());
    if one.scenario != other.scenario {
        let _ = writeln!(text, "the scenarios differ: the figures mean different things");
    }
    let (a, b) = (one.rates(), other.rates());
    let _ = writeln!(text, "offered  A {:.0}/s  B {:.0}/s; answered  A {:.0}/s  B {:.0}/s", a.0, b.0, a.1, b.1);
    let _ = writeln!(text, "{:22} {:9} {:7} {:>10} {:>10} {:>8} {:>8}", "", "phase", "", "A ms", "B ms", "B / A", "noise");
    for row in &one.rows {
        let Some(with) = other.row(row.measure, row.phase) else { continue };
        for (name, place, a, b) in [("p50", 1, row.p50, with.p50), ("p99", 3, row.p99, with.p99), ("p99.9", 4, row.p999, with.p999)] {
            let noise = noise(one, row.measure, place).hypot(noise(other, row.measure, place));
            let ratio = b / a;
            let differs = (ratio.ln()).abs() > (1.0 + noise.max(LEAST)).ln();
            let mark = if !differs {
                ""
            } else if ratio < 1.0 {
                "better"
            } else {
                "worse"
            };
            let _ = writeln!(
                text,
                "{:22} {:9} {name:7} {a:>10.2} {b:>10.2} {ratio:>8.2} {:>7.0}% {mark}",
                row.measure.name(),
                row.phase.name(),
                noise * 100.0
            );
        }
    }
    text
}

/// The mean distance of one second's figure from the median of all seconds, as a part of it, without the first fifth.
fn noise(report: &Report, measure: Measure, place: usize) -> f64 {
    let from = report.lasted * 0.2;
    let seconds = report.intervals.iter().filter(|interval| interval.at > from).filter_map(|interval| interval.latencies.get(&measure));
    let values: Vec<f64> = seconds.map(|row| row[place]).collect();
    let middle = median(values.clone());
    let count = values.len().max(1) as f64;
    values.into_iter().map(|value| (value - middle).abs()).sum::<f64>() / count / middle.max(1e-6)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{record::Interval, report::Row, scenario::Kind};

    /// A run whose p99 is this in the mean and moves by this part of it from second to second.
    fn report(p99: f64, moves: f64) -> Report {
        let row = Row { measure: Measure::AckDirect, phase: Kind::Steady, count: 1_000, p50: 1.0, p90: 2.0, p99, p999: 9.0, max: 10.0 };
        let second = |number: u32| {
            let p99 = p99 * (1.0 + if number.is_multiple_of(2) { moves } else { -moves });
            let latencies = [(Measure::AckDirect, [10.0, 1.0, 2.0, p99, 9.0, 10.0])].into();
            Interval { at: f64::from(number), offered: 10.0, achieved: 10.0, latencies }
        };
        Report { rows: vec![row], intervals: (1..40).map(second).collect(), lasted: 40.0, ..Report::default() }
    }

    fn line(one: &Report, other: &Report, figure: &str) -> String {
        let table = table(one, other);
        table.lines().find(|line| line.contains(&format!(" {figure} "))).expect(figure).to_owned()
    }

    #[test]
    fn a_difference_counts_only_beyond_the_noise() {
        assert!(line(&report(10.0, 0.02), &report(15.0, 0.02), "p99").ends_with("worse"));
        assert!(line(&report(15.0, 0.02), &report(10.0, 0.02), "p99").ends_with("better"));
        assert!(line(&report(10.0, 0.4), &report(15.0, 0.4), "p99").trim_end().ends_with('%'));
        assert!(line(&report(10.0, 0.0), &report(10.5, 0.0), "p99").trim_end().ends_with('%'));
    }
}
