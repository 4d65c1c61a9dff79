//! Who there is: people, friendships and groups, as a pure function of the scenario's numbers and its seed. [`prepare`] makes them real.

pub mod degree;
mod friends;
mod groups;
pub mod prepare;
pub mod state;

use plaza_types::limits::REQUESTS_PER_DAY;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use self::degree::Degrees;
use crate::scenario::Population;

/// Spread of activity among people with as many friends, as the standard deviation of its logarithm.
const ACTIVITY_SPREAD: f64 = 0.5;

/// One person to be.
#[derive(Debug, Clone, PartialEq)]
pub struct Person {
    /// The numbers of their friends, the likest first.
    pub friends: Vec<u32>,
    /// Where they live: friends are mostly from the same place.
    pub place: u32,
    /// How often they act, beside the others. Grows with the number of friends.
    pub activity: f64,
}

/// A group to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Who makes it, a friend of all members.
    pub owner: u32,
    /// Everybody else in it.
    pub members: Vec<u32>,
}

impl Group {
    /// Everybody in it, the owner first.
    pub fn everybody(&self) -> impl Iterator<Item = u32> + '_ {
        std::iter::once(self.owner).chain(self.members.iter().copied())
    }
}

/// Everybody and everything.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The people.
    pub people: Vec<Person>,
    /// The friendships: who asks and who accepts.
    pub friendships: Vec<(u32, u32)>,
    /// The groups.
    pub groups: Vec<Group>,
    /// How many friends people were to have.
    pub drawn: Degrees,
    /// Friendships that nobody may ask for on the scenario's days.
    pub left_out: usize,
}

impl Plan {
    /// The plan for these numbers: the same numbers give the same plan.
    #[must_use]
    pub fn new(population: &Population) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(population.seed);
        let degrees = degree::degrees(population, &mut rng);
        let places = friends::places(population.people, &mut rng);
        let edges = friends::edges(&degrees, &places, population, &mut rng);
        let drawn = Degrees::of(degrees);
        let (friendships, left_out) = friends::asked(&edges, population.people, population.days);
        let mut lists = vec![Vec::new(); population.people];
        for (asker, accepter) in &friendships {
            lists[*asker as usize].push(*accepter);
            lists[*accepter as usize].push(*asker);
        }
        let people = lists.into_iter().enumerate().map(|(person, mut friends)| {
            // People of the same place are the likest; a sort that is stable keeps the order of making otherwise.
            friends.sort_by_key(|friend| places[*friend as usize] != places[person]);
            let spread: f64 = StandardNormal.sample(&mut rng);
            let activity = friends.len() as f64 * (ACTIVITY_SPREAD * spread).exp();
            Person { friends, place: places[person], activity }
        });
        let people: Vec<_> = people.collect();
        let groups = groups::groups(population, &people, &mut rng);
        Self { people, friendships, groups, drawn, left_out }
    }

    /// How many friends people have.
    #[must_use]
    pub fn degrees(&self) -> Degrees {
        Degrees::of(self.people.iter().map(|person| person.friends.len()).collect())
    }

    /// Why these people are not as they were asked for; nothing if they are.
    #[must_use]
    pub fn doubt(&self) -> Option<String> {
        let (all, kept) = (self.friendships.len() + self.left_out, self.degrees());
        (self.left_out > 0).then(|| {
            format!(
                "{} of {all} friendships were left out, because nobody may ask more than {REQUESTS_PER_DAY} people on a day (population.days): people have {:.0} friends in the \
                mean and {} in the middle, not {:.0} and {}",
                self.left_out, kept.mean, kept.median, self.drawn.mean, self.drawn.median
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn population(people: usize) -> Population {
        Population { people, groups_per_person: 0.2, ..Population::default() }
    }

    #[test]
    fn the_same_seed_gives_the_same_people_and_another_others() {
        let plan = Plan::new(&population(500));
        assert_eq!(plan, Plan::new(&population(500)));
        assert_ne!(plan, Plan::new(&Population { seed: 2, ..population(500) }));
    }

    #[test]
    fn friendship_is_mutual_and_nobody_asks_too_much() {
        let plan = Plan::new(&Population { friends_mean: 60.0, ..population(1_000) });
        let mut seen = BTreeSet::new();
        let mut asks = vec![0; 1_000];
        for (asker, accepter) in &plan.friendships {
            assert!(asker != accepter && seen.insert((asker.min(accepter), asker.max(accepter))));
            assert!(plan.people[*asker as usize].friends.contains(accepter) && plan.people[*accepter as usize].friends.contains(asker));
            asks[*asker as usize] += 1;
        }
        assert!(asks.into_iter().all(|asks| asks <= REQUESTS_PER_DAY));
    }

    #[test]
    fn a_network_of_the_size_of_most_runs_has_all_its_friends_within_a_day() {
        for people in [2_000, 10_000] {
            let plan = Plan::new(&population(people));
            let Degrees { mean, median } = plan.degrees();
            assert!((mean / plan.drawn.mean - 1.0).abs() < 0.05 && median.abs_diff(plan.drawn.median) <= 1, "{people}: {mean}, {median}");
            assert_eq!((plan.left_out, plan.doubt()), (0, None), "{people}");
        }
    }

    /// Those who have fewer than twice the limit of friends cannot ask for the friends that others have beyond it.
    #[test]
    fn the_friends_of_facebook_take_three_days() {
        let facebook = Population { friends_mean: 190.0, friends_most: 5_000, ..population(6_000) };
        let days = Plan::new(&Population { days: 3, ..facebook.clone() });
        let Degrees { mean, median } = days.degrees();
        assert!((170.0..195.0).contains(&mean) && (96..=102).contains(&median) && days.left_out == 0, "{mean} {median}");
        let day = Plan::new(&facebook);
        let kept = day.degrees();
        assert!((80.0..100.0).contains(&kept.mean) && day.left_out > 200_000, "{kept:?}, {} left out", day.left_out);
        let doubt = day.doubt().expect("a doubt");
        assert!(
            doubt.starts_with(&format!("{} of ", day.left_out)) && doubt.contains(&format!("{:.0} friends in the mean", kept.mean)),
            "{doubt}"
        );
    }

    #[test]
    fn friends_live_in_the_same_place_far_more_often_than_strangers() {
        let plan = Plan::new(&population(2_000));
        let place = |person: u32| plan.people[person as usize].place;
        let same = plan.friendships.iter().filter(|(one, other)| place(*one) == place(*other)).count() as f64;
        let among_friends = same / plan.friendships.len() as f64;
        let pairs = (0..2_000u32).map(|one| (one, (one * 7 + 13) % 2_000));
        let among_all = pairs.filter(|(one, other)| place(*one) == place(*other)).count() as f64 / 2_000.0;
        assert!(among_friends > 0.2 && among_friends > 4.0 * among_all, "{among_friends} {among_all}");
    }

    #[test]
    fn active_people_have_more_friends() {
        let plan = Plan::new(&population(2_000));
        let whole: f64 = plan.people.iter().map(|person| person.activity).sum();
        let met: f64 = plan.people.iter().map(|person| person.activity * person.friends.len() as f64).sum::<f64>() / whole;
        let mean = 2.0 * plan.friendships.len() as f64 / 2_000.0;
        assert!(met > 1.5 * mean, "{met} beside {mean}");
    }

    #[test]
    fn groups_are_of_the_owners_friends_and_some_are_large() {
        let hubs = Population { hubs: 2, hub_friends: 499, full_groups: 2, ..population(1_000) };
        let plan = Plan::new(&hubs);
        assert_eq!(plan.groups.len(), 202);
        for group in &plan.groups {
            let owner = &plan.people[group.owner as usize];
            let members: BTreeSet<_> = group.members.iter().collect();
            assert!(members.len() == group.members.len() && group.members.len() >= 2);
            assert!(group.members.iter().all(|member| owner.friends.contains(member)));
        }
        assert_eq!(plan.groups.iter().filter(|group| group.members.len() == 499).count(), 2);
        let sizes: Vec<_> = plan.groups.iter().map(|group| group.members.len() + 1).collect();
        assert!(sizes.iter().filter(|size| **size < 10).count() > sizes.len() / 2, "most are small: {sizes:?}");
    }
}
