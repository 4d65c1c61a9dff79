//! The page: one file with everything in it, nothing is fetched.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{
    Report,
    plot::{self, Line},
};
use crate::{operation::Measure, record::Interval};

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:960px;margin:2em auto;padding:0 1em;color:#222}\
h1{margin-bottom:0}h2{margin-top:2em;border-bottom:1px solid #ddd}table{border-collapse:collapse;width:100%}\
th,td{padding:.25em .6em;text-align:right;border-bottom:1px solid #eee}th:first-child,td:first-child{text-align:left}\
.good{color:#2c804c}.failed{color:#b3261e}.valid{color:#a8620a}pre{background:#f6f6f6;padding:.6em;overflow:auto;font-size:12px}\
svg{max-width:100%;height:auto}.note{color:#666}";

/// The page of a report.
///
/// # Errors
/// A plot cannot be drawn.
pub(super) fn page(report: &Report) -> anyhow::Result<String> {
    let verdict = report.verdict();
    let (offered, achieved) = report.rates();
    let body = html! {
        h1 { "Load test: " (report.name) }
        p.note { (report.scenario.about) }
        p { strong class=(verdict.split(' ').next_back().unwrap_or_default()) { "Verdict: " (verdict) } }
        ul {
            @for problem in &report.problems { li.failed { (problem) } }
            @for doubt in &report.doubts { li.valid { "The figures are not valid: " (doubt) } }
        }
        (overview(report, offered, achieved))
        (steps(report)?)
        h2 { "Latencies" }
        p.note { "Milliseconds, each from the time at which the operation was due, not from when it could be started." }
        (latencies(report))
        (failures(report))
        (checked(report))
        (figures("Tests that other messengers were measured with", &report.peers))
        (floors(report))
        h2 { "Over time" }
        (over_time(report)?)
        h2 { "Scenario" }
        pre { (toml::to_string_pretty(&report.scenario).unwrap_or_default()) }
    };
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head { meta charset="utf-8"; title { "Load test: " (report.name) } style { (PreEscaped(STYLE)) } }
            body { (body) }
        }
    };
    Ok(page.into_string())
}

fn overview(report: &Report, offered: f64, achieved: f64) -> Markup {
    let generator = &report.generator;
    let [people, friendships, groups] = report.people;
    html! {
        table {
            tr { td { "Target" } td { (report.target) } }
            tr { td { "Seed" } td { (report.seed) } }
            tr { td { "Began" } td { (humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + std::time::Duration::from_secs(report.began))) } }
            tr { td { "Lasted" } td { (format!("{:.1} s", report.lasted)) } }
            tr { td { "Offered, answered" } td { (format!("{offered:.0}/s, {achieved:.0}/s")) } }
            tr { td { "People, friendships, groups" } td { (people) ", " (friendships) ", " (groups) } }
            @for (what, (made, seconds)) in ["people", "friendships", "groups"].iter().zip(report.prepared) {
                @if made > 0 { tr { td { "Prepared before: " (what) } td { (made) " in " (format!("{seconds:.1} s")) } } }
            }
            tr { td { "Live streams, entries shown on them" } td { (report.streams) ", " (report.entries) } }
            @if let Some(kib) = report.server_stream_kib { tr { td { "Server: memory for each idle stream" } td { (format!("{kib:.1} KiB")) } } }
            tr { td { "Generator: memory for each stream" } td { (format!("{:.1} KiB", report.stream_kib)) } }
            tr { td { "Generator: cores used of allowed" } td { (format!("{:.2} of {}", generator.cores, generator.cores_allowed)) } }
            tr { td { "Generator: starts, more than 1 s late, latest" } td { (generator.started) ", " (generator.late) ", " (format!("{:.1} ms", generator.most_late_ms)) } }
            tr { td { "Sends without an answer, deliveries not shown, after the end" } td { (generator.unanswered) ", " (generator.undelivered) } }
        }
    }
}

/// The rates that a ramp tried.
fn steps(report: &Report) -> anyhow::Result<Markup> {
    if report.steps.is_empty() {
        return Ok(html! {});
    }
    let mut steps = report.steps.clone();
    steps.sort_by(|one, other| one.rate.total_cmp(&other.rate));
    let line = |name: &str, of: fn(&super::Tried) -> f64| Line {
        name: name.to_owned(),
        points: steps.iter().map(|step| (step.rate, of(step))).filter(|(_, value)| *value > 0.0).collect(),
    };
    let lines = [line("ack p99", |step| step.ack_p99), line("delivery p99", |step| step.delivery_p99)];
    let svg = plot::lines(("operations/s offered", "ms"), &lines, true)?;
    Ok(html! {
        h2 { "Rates tried" }
        (PreEscaped(svg))
        table {
            tr { th { "operations/s" } th { "ack p99, ms" } th { "delivery p99, ms" } th { "" } }
            @for step in &steps {
                tr {
                    td { (format!("{:.0}", step.rate)) } td { (format!("{:.1}", step.ack_p99)) } td { (format!("{:.1}", step.delivery_p99)) }
                    td { @if step.missed.is_empty() { "met" } @else { (step.missed) } }
                }
            }
        }
        p.note { "What follows is of the highest rate that met the objective, or of the lowest if none did." }
    })
}

fn latencies(report: &Report) -> Markup {
    html! {
        table {
            tr { th { "" } th { "phase" } th { "count" } th { "p50" } th { "p90" } th { "p99" } th { "p99.9" } th { "max" } }
            @for row in &report.rows {
                tr {
                    td { (row.measure.name()) } td { (row.phase.name()) } td { (row.count) }
                    @for value in [row.p50, row.p90, row.p99, row.p999, row.max] { td { (format!("{value:.2}")) } }
                }
            }
        }
    }
}

fn failures(report: &Report) -> Markup {
    html! {
        @if !report.failures.is_empty() {
            h2 { "Failures" }
            table {
                tr { th { "" } th { "reason" } th { "count" } }
                @for failure in &report.failures { tr { td { (failure.measure.name()) } td { (failure.reason) } td { (failure.count) } } }
            }
        }
    }
}

fn checked(report: &Report) -> Markup {
    html! {
        h2 { "Correctness" }
        @match &report.checked {
            None => p { "Nothing was checked." },
            Some(checked) => {
                p {
                    (checked.acknowledged) " acknowledged messages and " (checked.unknown) " of unknown fate in " (checked.conversations) " conversations, "
                    (checked.entries) " inbox entries; " (checked.viewers) " timelines with " (checked.judgements) " posts to be seen or not."
                }
                @if !checked.complete { p.valid { "That is as far as the check came; what was not read back is not judged." } }
                p class=(if checked.violations == 0 { "good" } else { "failed" }) { (checked.violations) " violations" }
                @for (what, around) in &checked.shown { p.failed { (what) } pre { (around) } }
            }
        }
    }
}

fn figures(title: &str, figures: &std::collections::BTreeMap<String, f64>) -> Markup {
    html! {
        @if !figures.is_empty() {
            h2 { (title) }
            table { @for (name, value) in figures { tr { td { (name) } td { (format!("{value:.3}")) } } } }
        }
    }
}

/// The floors of the same machine, and ours beside them.
fn floors(report: &Report) -> Markup {
    html! {
        (figures("Floors of this machine, in the same run", &report.floors))
        @if !report.ratios().is_empty() {
            table { tr { th { "ours beside the floors" } th { "ratio" } } @for (name, ratio) in report.ratios() { tr { td { (name) } td { (format!("{ratio:.2}")) } } } }
        }
    }
}

fn over_time(report: &Report) -> anyhow::Result<Markup> {
    let line = |name: &str, of: &dyn Fn(&Interval) -> Option<f64>| Line {
        name: name.to_owned(),
        points: report.intervals.iter().filter_map(|interval| Some((interval.at, of(interval)?))).collect(),
    };
    let rates = plot::lines(
        ("s", "operations/s"),
        &[line("offered", &|interval| Some(interval.offered)), line("answered", &|interval| Some(interval.achieved))],
        false,
    )?;
    let mut latencies = Vec::new();
    for measure in Measure::ALL {
        if !report.intervals.iter().any(|interval| interval.latencies.contains_key(&measure)) {
            continue;
        }
        let at = |place: usize| move |interval: &Interval| interval.latencies.get(&measure).map(|row| row[place]);
        let lines = [line("p50", &at(1)), line("p90", &at(2)), line("p99", &at(3)), line("p99.9", &at(4)), line("max", &at(5))];
        latencies.push((measure.name(), plot::lines(("s", "ms"), &lines, true)?));
    }
    let process = |unit: &str, of: fn(&crate::run::process::Sample) -> f64| {
        let lines: Vec<_> = report
            .processes
            .iter()
            .map(|(name, samples)| Line { name: name.clone(), points: samples.iter().map(|sample| (sample.at, of(sample))).collect() })
            .collect();
        plot::lines(("s", unit), &lines, false)
    };
    let lag = |unit: &str, of: fn(&crate::run::lag::Lag) -> f64| {
        let points = report.lags.iter().map(|lag| (lag.at, of(lag))).collect();
        plot::lines(("s", unit), &[Line { name: "behind the log".to_owned(), points }], false)
    };
    let lags = match report.lags.is_empty() {
        true => None,
        false => Some([lag("records", |lag| lag.records)?, lag("s", |lag| lag.seconds)?]),
    };
    let (cpu, memory) = (process("cores", |sample| sample.cores)?, process("MiB", |sample| sample.memory_mib)?);
    Ok(html! {
        h3 { "Rate" } (PreEscaped(rates))
        @for (name, svg) in latencies { h3 { (name) } (PreEscaped(svg)) }
        h3 { "CPU" } (PreEscaped(cpu))
        h3 { "Memory" } (PreEscaped(memory))
        @if let Some(lags) = lags { h3 { "Processors' lag" } @for svg in lags { (PreEscaped(svg)) } }
    })
}
