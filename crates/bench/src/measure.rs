//! Figures: percentiles, and the report that puts ours beside the floors.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use hdrhistogram::Histogram;
use serde::Serialize;

/// Latencies in microseconds, to three digits, up to a minute.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(60_000_000, 3).expect("bounds are constants")
}

/// Records a latency.
pub(crate) fn record(histogram: &mut Histogram<u64>, took: Duration) {
    histogram.saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1));
}

/// A percentile in milliseconds.
pub(crate) fn percentile_ms(histogram: &Histogram<u64>, percentile: f64) -> f64 {
    histogram.value_at_quantile(percentile / 100.0) as f64 / 1000.0
}

/// One measured path.
#[derive(Debug, Serialize)]
struct Row {
    path: String,
    unit: &'static str,
    floor: f64,
    ours: f64,
    ratio: f64,
    reach: f64,
    aim: f64,
}

/// Everything measured in one run.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    rows: Vec<Row>,
    figures: BTreeMap<String, f64>,
}

impl Report {
    /// A path beside its floor: median over the rounds of the ratio, with the medians of both.
    pub(crate) fn ratio(&mut self, path: &str, unit: &'static str, rounds: &[(f64, f64)], reach: f64, aim: f64) {
        let floor = median(rounds.iter().map(|(floor, _)| *floor));
        let ours = median(rounds.iter().map(|(_, ours)| *ours));
        let ratio = median(rounds.iter().map(|(floor, ours)| ours / floor));
        println!("{path:44} floor {floor:9.3} ours {ours:9.3} {unit:4} ratio {ratio:5.2} (reach {reach:.2}, aim {aim:.2})");
        self.rows.push(Row { path: path.to_owned(), unit, floor, ours, ratio, reach, aim });
    }

    /// A figure of its own.
    pub(crate) fn note(&mut self, name: &str, value: f64) {
        println!("{name:44} {value:.3}");
        self.figures.insert(name.to_owned(), value);
    }

    /// Writes the results.
    pub(crate) fn finish(&self, out: &Path) -> anyhow::Result<()> {
        if let Some(folder) = out.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(out, serde_json::to_string_pretty(self)?)?;
        println!("written to {}", out.display());
        Ok(())
    }
}

/// The middle of some figures.
pub(crate) fn median(figures: impl Iterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.collect();
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()).to_string(), "2");
    }
}
