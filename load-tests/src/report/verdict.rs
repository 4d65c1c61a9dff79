//! Whether a run is good: what is wrong with the server is a problem, and what is wrong with the figures is a doubt.

use super::{Failure, Report};
use crate::{operation::Measure, run::process::Processes, scenario::Kind};

/// More of the starts than this later than a second, and the run is not valid.
const LATE_MOST: f64 = 0.05;
/// Refusals that are rules of the product, which people come to whom many runs use: the end of a daily quota, and asking whom an earlier run made
/// their friend.
const RULES: [&str; 2] = ["QUOTA_EXCEEDED", "ALREADY_A_CONTACT"];
/// More of the cores that the generator may use than this, and the run is not valid.
const CPU_MOST: f64 = 0.7;

impl Report {
    /// How much failed or came to no end, and of how much: operations, and streams that were to be held. A stream that fails often is one. What
    /// was refused by a rule of the product did not fail.
    #[must_use]
    pub fn failed(&self) -> (u64, u64) {
        let (started, streams) = (self.generator.started, self.streams as u64);
        let of = |reconnects: bool| self.real_failures().filter(move |failure| (failure.measure == Measure::Reconnect) == reconnects);
        let (operations, lost) = (of(false).map(|failure| failure.count).sum::<u64>(), of(true).map(|failure| failure.count).sum::<u64>());
        let missing = (self.generator.unanswered + self.generator.undelivered) as u64;
        ((operations + missing).min(started) + lost.min(streams), started + streams)
    }

    /// Without what was refused by a rule of the product.
    fn real_failures(&self) -> impl Iterator<Item = &Failure> {
        self.failures.iter().filter(|failure| !RULES.contains(&&*failure.reason))
    }

    /// Says what is wrong.
    pub(super) fn judge(&mut self) {
        let generator = &self.generator;
        if let Some(checked) = self.checked.as_ref().filter(|checked| checked.violations > 0) {
            self.problems.push(format!("{} violations of what must always hold", checked.violations));
        }
        let ((failed, of), most) = (self.failed(), self.scenario.failed_most);
        // After a stop nobody waited for what was under way.
        if !self.stopped && failed as f64 > most * of as f64 {
            let often = self.real_failures().max_by_key(|failure| failure.count);
            let often =
                often.map(|Failure { measure, reason, count }| format!(", most of all {} with {reason}, {count} times", measure.name()));
            self.problems.push(format!(
                "{failed} of {of} operations and streams failed, or had no answer or no delivery{}; {:.1} % may (failed_most)",
                often.unwrap_or_default(),
                most * 100.0
            ));
        }
        if generator.late as f64 > LATE_MOST * generator.started as f64 {
            self.doubts.push(format!("{} of {} operations were started more than a second late", generator.late, generator.started));
        }
        let busiest = self.busiest().filter(|(_, cores)| *cores > CPU_MOST * generator.cores_allowed as f64);
        self.doubts.extend(busiest.map(|(kind, cores)| {
            let (kind, allowed) = (kind.name(), generator.cores_allowed);
            format!("the generator used {cores:.2} of {allowed} cores in a {kind} phase: it may have been the bottleneck")
        }));
        if generator.shed > 0 {
            self.doubts.push(format!("{} sends were not made because too many had no answer", generator.shed));
        }
        if self.stopped {
            let checked = match (&self.checked, self.scenario.peers.is_empty()) {
                (Some(_), _) => ", and not everything was checked",
                (None, true) => ", and nothing was checked",
                (None, false) => "",
            };
            self.doubts.push(format!("it was stopped before its end{checked}"));
        }
    }

    /// The phase that is judged in which the generator used the most cores, and how many in the mean.
    fn busiest(&self) -> Option<(Kind, f64)> {
        let samples = self.processes.get(Processes::GENERATOR)?;
        let mut begin = 0.0;
        let cores = self.scenario.ends().into_iter().filter_map(|(end, phase)| {
            let from = std::mem::replace(&mut begin, end.as_secs_f64());
            // A sample is of the second before it.
            let inside = samples.iter().filter(|sample| sample.at - 0.5 > from && sample.at - 0.5 <= begin).map(|sample| sample.cores);
            let inside: Vec<f64> = inside.collect();
            let judged = phase.kind != Kind::WarmUp && !inside.is_empty();
            judged.then(|| (phase.kind, inside.iter().sum::<f64>() / inside.len() as f64))
        });
        cores.max_by(|one, other| one.1.total_cmp(&other.1))
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        report::tests::{history, outcome},
        run::{Outcome, process::Sample, tests::options},
    };

    /// The verdict of a run that is good but for this, and what is wrong.
    fn verdict(failed_most: f64, change: impl FnOnce(&mut Outcome)) -> (&'static str, String) {
        let (mut options, mut outcome) = (options(), outcome(history(false)));
        options.scenario.failed_most = failed_most;
        options.scenario.seconds = 10.0;
        change(&mut outcome);
        let report = Report::new(&options, &outcome);
        (report.verdict(), [&*report.problems, &*report.doubts].concat().join("; "))
    }

    #[test]
    fn figures_of_a_late_stopped_or_overfull_generator_are_not_valid() {
        assert_eq!(verdict(0.0, |outcome| outcome.totals.late = 50).0, "good");
        assert_eq!(verdict(0.0, |outcome| outcome.totals.late = 51).0, "not valid");
        assert_eq!(verdict(0.0, |outcome| outcome.shed = 1).0, "not valid");
        let (verdict, why) = verdict(0.0, |outcome| (outcome.stopped, outcome.verified) = (true, None));
        assert!(verdict == "not valid" && why.contains("nothing was checked"), "{why}");
    }

    #[test]
    fn a_run_in_which_much_failed_is_not_good() {
        type Change = fn(&mut Outcome, usize);
        let refused: Change = |outcome, count| _ = outcome.totals.failures.insert((Measure::AckDirect, "X".into()), count as u64);
        let changes: [Change; 3] = [refused, |outcome, count| outcome.unanswered = count, |outcome, count| outcome.undelivered = count];
        for change in changes {
            // Of 1,000 operations and two streams.
            for (share, count, good) in [(0.001, 1, true), (0.001, 2, false), (0.5, 501, true), (0.5, 502, false), (1.0, 9_000, true)] {
                let (verdict, why) = verdict(share, |outcome| change(outcome, count));
                assert_eq!(verdict, if good { "good" } else { "failed" }, "{share} {count}: {why}");
            }
        }
        let all = verdict(0.001, |outcome| refused(outcome, 1_000)).1;
        assert!(all.contains("1000 of 1002 operations and streams failed"), "{all}");
        assert!(all.contains("most of all send direct: ack with X, 1000 times"), "{all}");
        // Two streams that come back again and again are two that failed.
        let lost = verdict(0.001, |outcome| _ = outcome.totals.failures.insert((Measure::Reconnect, "X".into()), 500)).1;
        assert!(lost.contains("2 of 1002 operations and streams failed"), "{lost}");
        for (measure, rule) in [(Measure::Post, RULES[0]), (Measure::Request, RULES[1])] {
            let refused = verdict(0.001, |outcome| _ = outcome.totals.failures.insert((measure, rule.into()), 500));
            assert_eq!(refused.0, "good", "{}", refused.1);
        }
        // What a stop cut off did not fail.
        assert_eq!(verdict(0.001, |outcome| (outcome.stopped, outcome.unanswered) = (true, 100)).0, "not valid");
    }

    #[test]
    fn a_check_that_came_to_no_end_is_a_problem_and_one_that_was_stopped_a_doubt() {
        let (failed, why) = verdict(0.0, |outcome| outcome.trouble = Some("nobody answers".into()));
        assert_eq!((failed, &*why), ("failed", "nobody answers"));
        let (verdict_of_others, why) = verdict(0.0, |outcome| outcome.other_people = Some("fewer friends".into()));
        assert!(verdict_of_others == "not valid" && why.contains("fewer friends"), "{why}");
        let (stopped, why) = verdict(0.0, |outcome| outcome.stopped = true);
        assert!(stopped == "not valid" && why.contains("not everything was checked"), "{why}");
    }

    /// The phases of `chat` in 10 s: 2 s of warm-up, 8 s that are judged.
    #[test]
    fn a_generator_that_was_busy_in_one_phase_says_nothing_of_the_server() {
        let allowed = std::thread::available_parallelism().map_or(1, usize::from) as f64;
        let busy = |from: u32, to: u32, cores: f64| {
            verdict(0.0, |outcome| {
                let cores = |second| if (from..to).contains(&second) { cores * allowed } else { 0.1 * allowed };
                let samples = (1..=10).map(|second| Sample { at: second.into(), cores: cores(second), memory_mib: 1.0 });
                outcome.processes.samples.insert(Processes::GENERATOR.to_owned(), samples.collect());
            })
        };
        assert_eq!(busy(0, 0, 0.0).0, "good");
        // Only in the warm-up, a second of eight, seven of eight.
        assert_eq!(busy(1, 3, 1.0).0, "good");
        assert_eq!(busy(5, 6, 1.0).0, "good");
        let (verdict, why) = busy(4, 11, 0.9);
        assert!(verdict == "not valid" && why.contains("in a steady phase"), "{why}");
        // A burst that the mean of the run would hide.
        let mut options = options();
        options.scenario = crate::scenario::Scenario::load("newyear").expect("built in");
        options.scenario.seconds = 100.0;
        let mut outcome = outcome(history(false));
        let cores = |second| if second > 40 && second <= 60 { 0.8 } else { 0.2 };
        let samples = (1..=100).map(|second| Sample { at: second.into(), cores: cores(second) * allowed, memory_mib: 1.0 });
        outcome.processes.samples.insert(Processes::GENERATOR.to_owned(), samples.collect());
        let report = Report::new(&options, &outcome);
        assert!(report.verdict() == "not valid" && report.doubts[0].contains("in a fault phase"), "{:?}", report.doubts);
    }
}
