//! When things are to happen: for each class of operation a Poisson process of its own, whose rate changes from phase to phase. Nothing that
//! the server does moves an arrival: that is what makes the loop open.

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Exp1};

use crate::operation::Operation;

/// One class's arrivals.
struct Class {
    operation: Operation,
    /// Ends of the phases in seconds, each with the class's rate in it.
    phases: Vec<(f64, f64)>,
    phase: usize,
    at: f64,
    rng: ChaCha8Rng,
}

impl Class {
    /// The time rescaling of a Poisson process: unit-rate gaps, spent at the rate of the phase they fall into.
    fn next(&mut self) -> Option<f64> {
        let mut gap: f64 = Exp1.sample(&mut self.rng);
        while let Some((end, rate)) = self.phases.get(self.phase).copied() {
            let room = (end - self.at).max(0.0) * rate;
            if gap <= room {
                self.at += gap / rate;
                return Some(self.at);
            }
            gap -= room;
            self.at = end;
            self.phase += 1;
        }
        None
    }
}

/// The arrivals of all classes, in order of time.
pub struct Arrivals {
    classes: Vec<Class>,
    // Times in nanoseconds: they must be ordered.
    next: BinaryHeap<Reverse<(u64, usize)>>,
}

impl Arrivals {
    /// `rates` at a factor of 1; `phases` as their ends and factors; the same seed gives the same arrivals.
    #[must_use]
    pub fn new(rates: &[(Operation, f64)], phases: &[(Duration, f64)], seed: u64) -> Self {
        let class = |(number, (operation, rate)): (usize, &(Operation, f64))| Class {
            operation: *operation,
            phases: phases.iter().map(|(end, factor)| (end.as_secs_f64(), rate * factor)).collect(),
            phase: 0,
            at: 0.0,
            rng: ChaCha8Rng::seed_from_u64(seed ^ (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)),
        };
        let mut arrivals = Self { classes: rates.iter().enumerate().map(class).collect(), next: BinaryHeap::new() };
        for class in 0..arrivals.classes.len() {
            arrivals.draw(class);
        }
        arrivals
    }

    fn draw(&mut self, class: usize) {
        if let Some(at) = self.classes[class].next() {
            self.next.push(Reverse(((at * 1e9) as u64, class)));
        }
    }
}

impl Iterator for Arrivals {
    type Item = (Duration, Operation);

    fn next(&mut self) -> Option<Self::Item> {
        let Reverse((at, class)) = self.next.pop()?;
        self.draw(class);
        Some((Duration::from_nanos(at), self.classes[class].operation))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PHASES: [(Duration, f64); 2] = [(Duration::from_secs(100), 1.0), (Duration::from_secs(150), 4.0)];
    const RATES: [(Operation, f64); 2] = [(Operation::SendDirect, 300.0), (Operation::Sync, 100.0)];

    fn arrivals(operation: Operation) -> Vec<f64> {
        let all = Arrivals::new(&RATES, &PHASES, 7);
        all.filter(|(_, arrived)| *arrived == operation).map(|(at, _)| at.as_secs_f64()).collect()
    }

    #[test]
    fn they_come_in_order_and_the_same_seed_gives_the_same() {
        let all: Vec<_> = Arrivals::new(&RATES, &PHASES, 7).collect();
        assert!(all.windows(2).all(|pair| pair[0].0 <= pair[1].0));
        assert!(all.iter().copied().eq(Arrivals::new(&RATES, &PHASES, 7)));
        assert!(!all.iter().copied().eq(Arrivals::new(&RATES, &PHASES, 8)));
        assert!(all.last().is_some_and(|(at, _)| *at <= PHASES[1].0));
    }

    /// Kolmogorov and Smirnov's test at 1 %: the gaps of each phase are exponential with its rate, so nothing makes them even.
    #[test]
    fn gaps_are_exponential_in_each_phase() {
        for (operation, rate) in RATES {
            for (from, to, factor) in [(0.0, 100.0, 1.0), (100.0, 150.0, 4.0)] {
                let times: Vec<_> = arrivals(operation).into_iter().filter(|at| (from..to).contains(at)).collect();
                let mut gaps: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
                gaps.sort_by(f64::total_cmp);
                let count = gaps.len() as f64;
                let furthest = gaps.iter().enumerate().map(|(place, gap)| {
                    let expected = 1.0 - (-gap * rate * factor).exp();
                    (expected - place as f64 / count).abs().max((expected - (place + 1) as f64 / count).abs())
                });
                let furthest = furthest.fold(0.0, f64::max);
                assert!(furthest < 1.63 / count.sqrt(), "{operation:?} from {from}: {furthest} of {count}");
            }
        }
    }

    /// Counts of one second have a variance as large as their mean, and those of two seconds in a row know nothing of each other.
    #[test]
    fn counts_are_poisson_and_independent() {
        let mut counts = vec![0.0; 100];
        for at in arrivals(Operation::SendDirect).into_iter().filter(|at| *at < 100.0) {
            counts[at as usize] += 1.0;
        }
        let mean = counts.iter().sum::<f64>() / 100.0;
        let variance = counts.iter().map(|count| (count - mean).powi(2)).sum::<f64>() / 99.0;
        let lag: f64 = counts.windows(2).map(|pair| (pair[0] - mean) * (pair[1] - mean)).sum::<f64>() / 99.0 / variance;
        // Five standard errors.
        assert!((mean - 300.0).abs() < 5.0 * (300.0f64 / 100.0).sqrt(), "{mean}");
        assert!((0.4..1.9).contains(&(variance / mean)), "{variance} beside {mean}");
        assert!(lag.abs() < 0.4, "{lag}");
    }
}
