//! The parts of a scenario that several generators have: together they are what was asked for.

use anyhow::ensure;

use crate::{operation::Operation, scenario::Scenario};

/// A part for each of so many generators.
///
/// # Errors
/// They cannot have it together: a part would be too small for what it is to do.
pub fn parts(scenario: &Scenario, of: usize) -> anyhow::Result<Vec<Scenario>> {
    ensure!(of > 0, "there is no generator");
    ensure!(scenario.peers.is_empty(), "the tests of other messengers are of one generator: use `run`");
    let parts: Vec<Scenario> = (0..of).map(|place| part(scenario, place, of)).collect();
    for (place, part) in parts.iter().enumerate() {
        let people = &part.population;
        let mut problems = part.problems();
        let groups = people.full_groups + (people.people as f64 * people.groups_per_person).round() as usize;
        if groups == 0 && part.mix.get(&Operation::SendGroup).is_some_and(|share| *share > 0.0) {
            problems.push("mix.send_group: it has no group".to_owned());
        }
        let shown =
            format!("{} of {} people, {} hubs, {} full groups", people.people, scenario.population.people, people.hubs, people.full_groups);
        let problems = problems.join("; ");
        ensure!(problems.is_empty(), "generator {} of {of} would have {shown}, which do not know the others': {problems}", place + 1);
    }
    Ok(parts)
}

/// The part of the generator at this place: hubs and full groups that are not enough for all are the first ones'.
fn part(scenario: &Scenario, place: usize, of: usize) -> Scenario {
    let share = |whole: usize, of: usize| whole / of + usize::from(place < whole % of);
    let mut part = scenario.clone();
    part.rate /= of as f64;
    let whole = &scenario.population;
    let people = &mut part.population;
    people.people = share(whole.people, of);
    people.hubs = share(whole.hubs, of);
    let with_hubs = whole.hubs.min(of);
    people.full_groups = if place < with_hubs { share(whole.full_groups, with_hubs) } else { 0 };
    if people.hubs == 0 {
        people.hub_friends = 0;
    }
    // Other people, not the same ones twice.
    people.seed = people.seed.wrapping_mul(1_000_003).wrapping_add(place as u64);
    part
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_together_what_was_asked_for() {
        let mut whole = Scenario::load("fanout").expect("built in");
        whole.population.people = 2_001;
        whole.population.hub_friends = 520;
        whole.population.full_groups = 3;
        whole.population.groups_per_person = 0.01;
        for of in 1..=3 {
            let parts = parts(&whole, of).expect("enough for all");
            assert!((parts.iter().map(|part| part.rate).sum::<f64>() - whole.rate).abs() < 1e-9);
            let sum = |count: fn(&Scenario) -> usize| parts.iter().map(count).sum::<usize>();
            let sums = (sum(|part| part.population.people), sum(|part| part.population.hubs), sum(|part| part.population.full_groups));
            assert_eq!(sums, (2_001, 2, 3), "{of}");
            assert!(of == 1 || parts[0].population.seed != parts[1].population.seed);
        }
    }

    #[test]
    fn what_cannot_be_shared_is_refused_before_anybody_joins() {
        let refused = |scenario: &Scenario, of| parts(scenario, of).expect_err("too small").to_string();
        let mut fanout = Scenario::load("fanout").expect("built in");
        let error = refused(&fanout, 2);
        assert!(error.contains("2600 of 5200 people") && error.contains("population.hub_friends"), "{error}");
        fanout.population.people = 3_000;
        fanout.population.hub_friends = 520;
        assert!(parts(&fanout, 2).is_ok());
        let error = refused(&fanout, 3);
        assert!(error.contains("generator 3 of 3") && error.contains("mix.send_group"), "{error}");
        let error = refused(&Scenario::load("peers").expect("built in"), 2);
        assert!(error.contains("use `run`"), "{error}");
        assert!(refused(&fanout, 0).contains("no generator"));
    }
}
