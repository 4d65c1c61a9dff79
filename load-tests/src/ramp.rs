//! The highest rate that meets an objective: doubles the rate until a run misses it, then halves the gap.

use std::sync::atomic::Ordering;

use anyhow::ensure;
use serde::{Deserialize, Serialize};

use crate::{
    operation::Measure,
    report::{Report, Tried},
    run::{Options, Stop},
    scenario::Kind,
};

/// What must be met in the steady time, milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Objective {
    /// 99 % of the acknowledgements and answers.
    pub ack_p99: f64,
    /// 99 % of the deliveries.
    pub delivery_p99: f64,
}

impl Default for Objective {
    fn default() -> Self {
        Self { ack_p99: 200.0, delivery_p99: 500.0 }
    }
}

impl Objective {
    /// Why a run missed it; nothing if it met it.
    #[must_use]
    pub fn missed(&self, report: &Report) -> Vec<String> {
        let mut missed = Vec::new();
        for row in report.rows.iter().filter(|row| row.phase == Kind::Steady) {
            for (judged, most) in [(row.measure.is_ack(), self.ack_p99), (row.measure.is_delivery(), self.delivery_p99)] {
                if judged && row.p99 > most {
                    missed.push(format!("{}: p99 is {:.0} ms, more than {most:.0}", row.measure.name(), row.p99));
                }
            }
        }
        if !report.rows.iter().any(|row| row.phase == Kind::Steady) {
            missed.push("nothing was measured in a steady phase".to_owned());
        }
        missed.extend(report.problems.iter().cloned());
        // A generator that was too slow says nothing of the server: its rate is not one that was met.
        missed.extend(report.doubts.iter().map(|doubt| format!("not valid: {doubt}")));
        missed
    }
}

/// The search for a border: the highest rate that was met, the lowest that was missed.
#[derive(Debug, Clone, PartialEq)]
pub struct Search {
    from: f64,
    most: f64,
    met: Option<f64>,
    missed: Option<f64>,
}

/// Below this nothing is searched for.
const LEAST: f64 = 1.0;

impl Search {
    /// From a rate up to another; also below it, if it is missed.
    #[must_use]
    pub fn new(from: f64, most: f64) -> Self {
        Self { from: from.clamp(LEAST, most.max(LEAST)), most, met: None, missed: None }
    }

    /// The next rate to try; `None` when the border is known to a tenth.
    #[must_use]
    pub fn next(&self) -> Option<f64> {
        match (self.met, self.missed) {
            (None, None) => Some(self.from),
            (None, Some(missed)) => Some(missed / 2.0).filter(|rate| *rate >= LEAST),
            (Some(met), None) => Some((met * 2.0).min(self.most)).filter(|rate| *rate > met),
            (Some(met), Some(missed)) => Some((missed * met).sqrt()).filter(|_| missed / met >= 1.1),
        }
    }

    /// What came of a rate.
    pub fn tell(&mut self, rate: f64, met: bool) {
        if met {
            self.met = Some(self.met.map_or(rate, |met| met.max(rate)));
        } else {
            self.missed = Some(self.missed.map_or(rate, |missed| missed.min(rate)));
        }
    }
}

/// One step of a ramp.
pub struct Step {
    /// The rate offered.
    pub rate: f64,
    /// Why the objective was missed; nothing if it was met.
    pub missed: Vec<String>,
    /// The run.
    pub report: Report,
}

/// What came of a ramp.
pub struct Ramped {
    /// Every step that was made, one at least.
    pub steps: Vec<Step>,
    /// Whether it was stopped before the border was found.
    stopped: bool,
    /// Why the last step could not be made.
    trouble: Option<String>,
}

/// Makes runs of the scenario at rate after rate, each by `run`.
///
/// # Errors
/// The scenario has no rate, or not one run could be made.
pub async fn ramp(
    options: &Options,
    (objective, most): (Objective, f64),
    stop: &Stop,
    run: impl AsyncFn(&Options) -> anyhow::Result<Report>,
    mut told: impl FnMut(&Step),
) -> anyhow::Result<Ramped> {
    ensure!(!options.scenario.rates().is_empty(), "{} has no mix: there is no rate to search for", options.name);
    let mut search = Search::new(options.scenario.rate, most);
    let mut ramped = Ramped { steps: Vec::new(), stopped: false, trouble: None };
    while let Some(rate) = search.next() {
        let mut options = options.clone();
        options.scenario.rate = rate;
        options.seed += ramped.steps.len() as u64;
        let report = match run(&options).await {
            Ok(report) => report,
            Err(error) if ramped.steps.is_empty() => return Err(error),
            Err(error) => {
                ramped.stopped = stop.asked.load(Ordering::Relaxed);
                ramped.trouble = (!ramped.stopped).then(|| format!("at {rate:.0}/s: {error:#}"));
                break;
            }
        };
        let missed = objective.missed(&report);
        search.tell(rate, missed.is_empty());
        let step = Step { rate, missed, report };
        told(&step);
        ramped.stopped = step.report.stopped;
        ramped.steps.push(step);
        if ramped.stopped {
            break;
        }
    }
    Ok(ramped)
}

impl Ramped {
    /// The report of the best step, or of the one with the lowest rate if none met the objective, with all steps in it.
    #[must_use]
    pub fn report(&self) -> Report {
        let lowest = || self.steps.iter().min_by(|one, other| one.rate.total_cmp(&other.rate));
        let best = best(&self.steps);
        let mut report = best.or_else(lowest).map(|step| step.report.clone()).unwrap_or_default();
        let p99 = |step: &Step, measure| step.report.row(measure, Kind::Steady).map_or(0.0, |row| row.p99);
        let tried = |step: &Step| Tried {
            rate: step.rate,
            ack_p99: p99(step, Measure::AckDirect),
            delivery_p99: p99(step, Measure::DeliverDirect),
            missed: step.missed.join("; "),
        };
        report.steps = self.steps.iter().map(tried).collect();
        report.name = format!("ramp-{}", report.name);
        report.problems.extend(best.is_none().then(|| "no rate met the objective".to_owned()));
        report.problems.extend(self.trouble.clone());
        if self.stopped && !report.stopped {
            report.stopped = true;
            report.doubts.push("it was stopped before the highest rate was found".to_owned());
        }
        report
    }
}

/// The step with the highest rate that met the objective.
#[must_use]
pub fn best(steps: &[Step]) -> Option<&Step> {
    steps.iter().filter(|step| step.missed.is_empty()).max_by(|one, other| one.rate.total_cmp(&other.rate))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        report::{Generator, Row},
        scenario::Scenario,
    };

    fn found(border: f64, most: f64) -> (f64, usize) {
        let mut search = Search::new(100.0, most);
        let mut steps = 0;
        while let Some(rate) = search.next().filter(|_| steps < 50) {
            steps += 1;
            search.tell(rate, rate <= border);
        }
        (search.met.unwrap_or_default(), steps)
    }

    #[test]
    fn the_border_is_found_to_a_tenth() {
        for border in [2.0, 55.0, 130.0, 1_000.0, 7_777.0] {
            let (met, steps) = found(border, 100_000.0);
            assert!(met <= border && met * 1.1 >= border, "{met} for {border}");
            assert!(steps <= 13, "{steps} steps for {border}");
        }
    }

    #[test]
    fn an_objective_is_for_the_steady_time_and_for_valid_runs() {
        let row = |measure, phase, p99| Row { measure, phase, count: 1, p50: 1.0, p90: 1.0, p99, p999: p99, max: p99 };
        let report = |rows| Report { rows, generator: Generator { started: 10_000, ..Generator::default() }, ..Report::default() };
        let missed = |report: &Report| Objective::default().missed(report).len();
        assert_eq!(
            missed(&report(vec![row(Measure::AckDirect, Kind::Steady, 199.0), row(Measure::DeliverDirect, Kind::Steady, 499.0)])),
            0
        );
        assert_eq!(missed(&report(vec![row(Measure::AckDirect, Kind::WarmUp, 900.0), row(Measure::Reconnect, Kind::Steady, 900.0)])), 0);
        assert_eq!(missed(&report(vec![row(Measure::Sync, Kind::Steady, 201.0), row(Measure::DeliverGroup, Kind::Steady, 501.0)])), 2);
        // A run in which nothing was measured met nothing.
        let mut failing = report(vec![row(Measure::Sync, Kind::WarmUp, 1.0)]);
        assert_eq!(missed(&failing), 1);
        failing.doubts.push("late".into());
        failing.problems.push("lost".into());
        assert_eq!(missed(&failing), 3);
    }

    #[test]
    fn a_ramp_that_came_to_no_end_reports_the_steps_it_made() {
        let step = |rate, missed: &str| {
            let mut report = Report { name: "chat".into(), ..Report::default() };
            report.scenario.rate = rate;
            Step { rate, missed: (!missed.is_empty()).then(|| missed.to_owned()).into_iter().collect(), report }
        };
        let ramped = |steps, stopped, trouble: Option<&str>| Ramped { steps, stopped, trouble: trouble.map(str::to_owned) }.report();
        let of = |report: &Report| (report.scenario.rate as u64, report.steps.len(), report.verdict());
        assert_eq!(of(&ramped(vec![step(100.0, ""), step(200.0, ""), step(400.0, "late")], false, None)), (200, 3, "good"));
        assert_eq!(of(&ramped(vec![step(100.0, "")], true, None)), (100, 1, "not valid"));
        let broken = ramped(vec![step(100.0, ""), step(200.0, "")], false, Some("at 400/s: nobody answers"));
        assert_eq!((of(&broken), broken.problems.len()), ((200, 2, "failed"), 1));
        let never = ramped(vec![step(100.0, "late"), step(50.0, "late")], false, None);
        assert_eq!((of(&never), never.problems[0].as_str()), ((50, 2, "failed"), "no rate met the objective"));
    }

    #[tokio::test]
    async fn a_scenario_without_a_rate_has_no_highest_one() {
        for name in ["idle", "peers"] {
            let mut options = crate::run::tests::options();
            options.scenario = Scenario::load(name).expect("built in");
            let ramped =
                ramp(&options, (Objective::default(), 1e3), &Stop::default(), async |_: &Options| Ok(Report::default()), |_| ()).await;
            assert!(ramped.is_err_and(|error| error.to_string().contains("no mix")), "{name}");
        }
    }

    #[test]
    fn it_ends_at_the_most_that_was_allowed() {
        assert_eq!(found(1e9, 1_000.0).0.to_string(), "1000");
        assert_eq!(found(0.1, 1_000.0).0.to_string(), "0");
    }
}
