//! How many friends people have: the distribution of Facebook's friendships, which LDBC's Social Network Benchmark generates its people with.
//!
//! Sources. Ugander, Karrer, Backstrom, Marlow, "The Anatomy of the Facebook Social Graph" (2011, arXiv:1111.4503): median 99, mean 190, at most
//! 5,000. LDBC SNB Datagen (`FacebookDegreeDistribution`, github.com/ldbc/ldbc_snb_datagen_spark): degrees are drawn from a table of that distribution and scaled by the mean of the network's size,
//! N^(0.512 - 0.028 log10 N), over 190. The table itself (`facebookBucket100.dat`) is not here, because its licence, GPL 3, is another; a log-normal
//! with the published median and mean, cut at 5,000, stands for it.

use rand::Rng;
use rand_distr::{Distribution, LogNormal};

use crate::scenario::Population;

/// Friends of the person in the middle, and at the mean.
const MEDIAN: f64 = 99.0;
const MEAN: f64 = 190.0;
/// What Facebook allows.
const MOST: f64 = 5_000.0;

/// How many friends people have, in two numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Degrees {
    /// The mean.
    pub mean: f64,
    /// Of the person in the middle.
    pub median: usize,
}

impl Degrees {
    /// Of these people.
    #[must_use]
    pub fn of(mut degrees: Vec<usize>) -> Self {
        degrees.sort_unstable();
        let mean = degrees.iter().sum::<usize>() as f64 / degrees.len().max(1) as f64;
        Self { mean, median: degrees.get(degrees.len() / 2).copied().unwrap_or_default() }
    }
}

/// The mean number of friends in a network of this size, as LDBC's generator has it.
#[must_use]
pub fn mean_for(people: usize) -> f64 {
    let people = people as f64;
    people.powf(0.512 - 0.028 * people.log10()).min(MEAN)
}

/// A number of friends for each person. The hubs come first.
pub fn degrees(population: &Population, rng: &mut impl Rng) -> Vec<usize> {
    let mean = if population.friends_mean > 0.0 { population.friends_mean } else { mean_for(population.people) };
    // Of a log-normal, the mean is the median times exp(variance / 2).
    let spread = (2.0 * (MEAN / MEDIAN).ln()).sqrt();
    let distribution = LogNormal::new(MEDIAN.ln(), spread).expect("the spread is a number above 0");
    let most = population.friends_most.min(population.people - 1);
    let degree = |person: usize| {
        let friends = (distribution.sample(rng).min(MOST) * mean / MEAN).round();
        if person < population.hubs { population.hub_friends } else { (friends as usize).clamp(1, most) }
    };
    (0..population.people).map(degree).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    fn drawn(population: &Population) -> (f64, usize, usize) {
        let degrees = degrees(population, &mut ChaCha8Rng::seed_from_u64(3));
        let most = degrees.iter().copied().max().unwrap_or_default();
        let Degrees { mean, median } = Degrees::of(degrees);
        (mean, median, most)
    }

    #[test]
    fn the_median_is_99_and_the_mean_about_190() {
        let population = Population { people: 100_000, friends_mean: 190.0, friends_most: 5_000, ..Population::default() };
        let (mean, median, most) = drawn(&population);
        assert!((185.0..195.0).contains(&mean), "{mean}");
        assert!((97..=101).contains(&median), "{median}");
        assert!((2_000..=5_000).contains(&most), "{most}");
    }

    #[test]
    fn a_cap_cuts_and_a_small_network_has_fewer() {
        let (_, _, most) = drawn(&Population { people: 10_000, friends_mean: 190.0, friends_most: 300, ..Population::default() });
        assert_eq!(most, 300);
        let (mean, ..) = drawn(&Population { people: 10_000, friends_mean: 0.0, friends_most: 5_000, ..Population::default() });
        assert!((mean - mean_for(10_000)).abs() < 2.0 && (38.0..42.0).contains(&mean), "{mean}");
    }
}
