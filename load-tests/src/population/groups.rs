//! Who is in which group: most groups are small and a few are as large as a group may be, a power law from three members up. An owner adds
//! their own friends, so a group is never larger than its owner has friends.

use rand::{Rng, seq::index};
use rand_distr::{Distribution, Pareto, weighted::WeightedAliasIndex};

use super::{Group, Person};
use crate::scenario::Population;

/// The smallest group and the exponent of the sizes' tail: half of the groups have at most five members, one in a hundred has more than 60.
const SMALLEST: f64 = 3.0;
const TAIL: f64 = 1.5;

pub(super) fn groups(population: &Population, people: &[Person], rng: &mut impl Rng) -> Vec<Group> {
    let full = (0..population.full_groups).map(|number| {
        let owner = (number % population.hubs.max(1)) as u32;
        let members = people[owner as usize].friends.iter().copied().take(population.group_most - 1).collect();
        Group { owner, members }
    });
    let mut groups: Vec<_> = full.collect();
    let sizes = Pareto::new(SMALLEST, TAIL).expect("both are above 0");
    // Who knows many makes many groups.
    let weights: Vec<f64> = people.iter().map(|person| if person.friends.len() < 2 { 0.0 } else { person.friends.len() as f64 }).collect();
    let Ok(owners) = WeightedAliasIndex::new(weights) else { return groups };
    for _ in 0..(people.len() as f64 * population.groups_per_person).round() as usize {
        let owner = owners.sample(rng);
        let friends = &people[owner].friends;
        let size = (sizes.sample(rng) as usize).min(population.group_most).min(friends.len() + 1).max(3);
        let members = index::sample(rng, friends.len(), size - 1).into_iter().map(|place| friends[place]).collect();
        groups.push(Group { owner: owner as u32, members });
    }
    groups
}
