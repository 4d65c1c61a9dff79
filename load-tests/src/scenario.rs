//! A scenario: who there is, what they do, in which proportions, and in which phases. A TOML file; some are built in.

use std::{collections::BTreeMap, path::Path, time::Duration};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use crate::operation::Operation;

/// The scenarios that come with the program: name and text.
const BUILT_IN: [(&str, &str); 8] = [
    ("chat", include_str!("../scenarios/chat.toml")),
    ("moments", include_str!("../scenarios/moments.toml")),
    ("day", include_str!("../scenarios/day.toml")),
    ("storm", include_str!("../scenarios/storm.toml")),
    ("idle", include_str!("../scenarios/idle.toml")),
    ("fanout", include_str!("../scenarios/fanout.toml")),
    ("newyear", include_str!("../scenarios/newyear.toml")),
    ("peers", include_str!("../scenarios/peers.toml")),
];

/// A scenario.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What it is for, in a sentence.
    pub about: String,
    /// Operations a second, all classes together, where a phase's factor is 1.
    pub rate: f64,
    /// How long all phases take together, seconds.
    pub seconds: f64,
    /// Bytes of a message's text.
    #[serde(default = "text_bytes")]
    pub text_bytes: usize,
    /// How many of the people hold a live stream, 0 to 1.
    #[serde(default = "one")]
    pub connected: f64,
    /// How many of the people are active. The others are only held or only receive. 0 to 1.
    #[serde(default = "one")]
    pub active: f64,
    /// The share of the operations and streams that may fail, or be without an answer or a delivery, in a good run, 0 to 1. Higher for a run
    /// in which the server is to refuse something.
    #[serde(default = "failed_most")]
    pub failed_most: f64,
    /// Who there is.
    #[serde(default)]
    pub population: Population,
    /// The proportions of the classes. Without any, nothing is sent, and connections are only held.
    #[serde(default)]
    pub mix: BTreeMap<Operation, f64>,
    /// For whom posts are.
    #[serde(default)]
    pub audience: Audience,
    /// What happens one after the other.
    pub phases: Vec<Phase>,
    /// Tests A to D that other messengers were measured with: a closed loop by their rules, in place of the mix.
    #[serde(default)]
    pub peers: Vec<Peers>,
}

fn text_bytes() -> usize {
    100
}

fn failed_most() -> f64 {
    0.001
}

fn one() -> f64 {
    1.0
}

/// The people of a scenario and how they know each other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Population {
    /// How many.
    pub people: usize,
    /// The mean number of friends; 0 = as LDBC's generator has it for a network of this size.
    pub friends_mean: f64,
    /// Friends of one person at most.
    pub friends_most: usize,
    /// On how many days friends are asked for: on one, nobody may ask more than 50. Beyond the first, `prepare` is started again on each.
    pub days: usize,
    /// People with a set number of friends, on top of the distribution.
    pub hubs: usize,
    /// Their number of friends.
    pub hub_friends: usize,
    /// Groups for each person: 0.1 is one group for ten people.
    pub groups_per_person: f64,
    /// Members of a group at most.
    pub group_most: usize,
    /// Groups as large as `group_most`, each owned by a hub.
    pub full_groups: usize,
    /// Decides everything about them.
    pub seed: u64,
}

impl Default for Population {
    fn default() -> Self {
        Self {
            people: 200,
            friends_mean: 0.0,
            friends_most: 1_000,
            days: 1,
            hubs: 0,
            hub_friends: 0,
            groups_per_person: 0.1,
            group_most: 500,
            full_groups: 0,
            seed: 1,
        }
    }
}

/// The proportions of the audiences of posts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Audience {
    /// All friends.
    pub all: f64,
    /// Nobody.
    pub private: f64,
    /// Some friends.
    pub only: f64,
    /// All friends but some.
    pub except: f64,
}

impl Default for Audience {
    fn default() -> Self {
        Self { all: 0.85, private: 0.05, only: 0.05, except: 0.05 }
    }
}

/// What a phase is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Not judged.
    WarmUp,
    /// What objectives are for.
    Steady,
    /// Something bad happens.
    Fault,
    /// After it.
    Recovery,
}

impl Kind {
    /// Every kind, in order.
    pub const ALL: [Self; 4] = [Self::WarmUp, Self::Steady, Self::Fault, Self::Recovery];

    /// Its name in words.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::WarmUp => "warm-up",
            Self::Steady => "steady",
            Self::Fault => "fault",
            Self::Recovery => "recovery",
        }
    }
}

/// A part of the time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Phase {
    /// What it is for.
    pub kind: Kind,
    /// Its part of the whole time, beside the others'.
    pub share: f64,
    /// The rate in it, beside the scenario's.
    #[serde(default = "one")]
    pub rate: f64,
    /// At its start this part of the live streams is cut and comes back at once, 0 to 1.
    #[serde(default)]
    pub reconnect: f64,
}

/// A test that other messengers were measured with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Peers {
    /// One pair, one message at a time.
    A,
    /// 64 pairs, 8 sends in flight each.
    B,
    /// A group of 100 online, 20 messages a second.
    C,
    /// Idle signed-in streams.
    D,
}

impl Scenario {
    /// A built-in scenario by its name, or one of the caller's own by its path, which ends in `.toml`.
    ///
    /// # Errors
    /// There is none, or what is wrong with it.
    pub fn load(name: &str) -> anyhow::Result<Self> {
        let text = match BUILT_IN.iter().find(|(built_in, _)| *built_in == name) {
            Some((_, text)) => (*text).to_owned(),
            None if name.ends_with(".toml") => std::fs::read_to_string(Path::new(name)).with_context(|| format!("reading {name}"))?,
            None => bail!("no scenario '{name}'; there are {}, or a path that ends in .toml", Self::names().join(", ")),
        };
        Self::parse(&text).with_context(|| format!("scenario {name}"))
    }

    /// The names of those that are built in.
    #[must_use]
    pub fn names() -> Vec<&'static str> {
        BUILT_IN.iter().map(|(name, _)| *name).collect()
    }

    /// Reads a scenario's text.
    ///
    /// # Errors
    /// Everything that is wrong with it, with the key's name.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let scenario: Self = toml::from_str(text)?;
        let problems = scenario.problems();
        if problems.is_empty() { Ok(scenario) } else { bail!("{}", problems.join("; ")) }
    }

    /// What is wrong with it: each with the key's name.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut require = |good: bool, problem: String| {
            if !good {
                problems.push(problem);
            }
        };
        let population = &self.population;
        require(self.rate.is_finite() && (0.0..=1e6).contains(&self.rate), "rate: must be 0 to 1,000,000".into());
        require(self.seconds.is_finite() && (0.1..=86_400.0).contains(&self.seconds), "seconds: must be 0.1 to 86,400".into());
        require((40..=16_000).contains(&self.text_bytes), "text_bytes: must be 40 to 16,000: the text says who sent it and when".into());
        for (key, share) in [("connected", self.connected), ("active", self.active), ("failed_most", self.failed_most)] {
            require((0.0..=1.0).contains(&share), format!("{key}: must be 0 to 1"));
        }
        require((2..=1_000_000).contains(&population.people), "population.people: must be 2 to 1,000,000".into());
        require((0.0..=1_000.0).contains(&population.friends_mean), "population.friends_mean: must be 0 to 1,000".into());
        require((1..=10_000).contains(&population.friends_most), "population.friends_most: must be 1 to 10,000".into());
        require((1..=200).contains(&population.days), "population.days: must be 1 to 200".into());
        require(population.hubs <= population.people, "population.hubs: more than there are people".into());
        require(
            population.hub_friends < population.people && population.hub_friends <= 10_000,
            "population.hub_friends: must be less than people, and at most 10,000".into(),
        );
        require((0.0..=100.0).contains(&population.groups_per_person), "population.groups_per_person: must be 0 to 100".into());
        require((3..=2_000).contains(&population.group_most), "population.group_most: must be 3 to 2,000".into());
        require(
            population.full_groups == 0 || (population.hubs > 0 && population.hub_friends + 1 >= population.group_most),
            "population.full_groups: needs hubs with group_most - 1 friends".into(),
        );
        let shares = [self.audience.all, self.audience.private, self.audience.only, self.audience.except];
        require(
            shares.iter().all(|share| *share >= 0.0) && shares.iter().sum::<f64>() > 0.0,
            "audience: no share below 0, and one above".into(),
        );
        for (operation, share) in &self.mix {
            require(share.is_finite() && *share >= 0.0, format!("mix.{operation:?}: must not be below 0"));
        }
        require(!self.phases.is_empty() || !self.peers.is_empty(), "phases: there is none".into());
        for (number, phase) in self.phases.iter().enumerate() {
            require(phase.share.is_finite() && phase.share > 0.0, format!("phases[{number}].share: must be above 0"));
            require((0.0..=1_000.0).contains(&phase.rate), format!("phases[{number}].rate: must be 0 to 1,000"));
            require((0.0..=1.0).contains(&phase.reconnect), format!("phases[{number}].reconnect: must be 0 to 1"));
        }
        problems
    }

    /// The phases, each with its end, from the start of the run.
    #[must_use]
    pub fn ends(&self) -> Vec<(Duration, &Phase)> {
        let whole: f64 = self.phases.iter().map(|phase| phase.share).sum();
        let mut until = 0.0;
        let end = |phase| {
            let phase: &Phase = phase;
            until += phase.share / whole * self.seconds;
            (Duration::from_secs_f64(until), phase)
        };
        self.phases.iter().map(end).collect()
    }

    /// The rate of each class where a phase's factor is 1.
    #[must_use]
    pub fn rates(&self) -> Vec<(Operation, f64)> {
        let whole: f64 = self.mix.values().sum();
        self.mix.iter().filter(|(_, share)| **share > 0.0).map(|(operation, share)| (*operation, self.rate * share / whole)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_ones_are_good() {
        for name in Scenario::names() {
            let scenario = Scenario::load(name).expect(name);
            let sum: f64 = scenario.rates().iter().map(|(_, rate)| rate).sum();
            assert!(scenario.mix.is_empty() || (sum - scenario.rate).abs() < 1e-6, "{name}: {sum}");
        }
    }

    #[test]
    fn a_day_is_a_third_sends_of_which_seventy_percent_are_direct() {
        let day = Scenario::load("day").expect("built in");
        let whole: f64 = day.mix.values().sum();
        let direct = day.mix[&Operation::SendDirect] / whole;
        let group = day.mix[&Operation::SendGroup] / whole;
        assert!((direct + group - 0.33).abs() < 1e-9 && (direct / 0.33 - 0.7).abs() < 1e-9, "{direct} {group}");
    }

    #[test]
    fn what_is_unknown_or_out_of_bounds_is_refused_by_name() {
        let good = "about = 'x'\nrate = 10\nseconds = 3\n[[phases]]\nkind = 'steady'\nshare = 1\n";
        assert!(Scenario::parse(good).is_ok());
        for (text, named) in [
            (good.replace("rate = 10", "rate = 10\nrates = 11"), "rates"),
            (good.replace("rate = 10", "rate = -1"), "rate"),
            (good.replace("share = 1", "share = 0"), "phases[0].share"),
            (good.replace("share = 1", "share = 1\nreconnect = 2"), "reconnect"),
            (format!("{good}[population]\npeoples = 3\n"), "peoples"),
            (format!("{good}[population]\npeople = 1\n"), "population.people"),
            (format!("{good}[population]\ndays = 0\n"), "population.days"),
            (format!("{good}[mix]\nsend_directly = 3\n"), "send_directly"),
            (good.replace("steady", "stead"), "stead"),
        ] {
            let error = format!("{:#}", Scenario::parse(&text).expect_err(named));
            assert!(error.contains(named), "{named}: {error}");
        }
        let both = good.replace("rate = 10", "rate = -1").replace("seconds = 3", "seconds = 0");
        let error = format!("{:#}", Scenario::parse(&both).expect_err("two"));
        assert!(error.contains("rate") && error.contains("seconds"), "{error}");
    }

    #[test]
    fn phases_share_the_time() {
        let mut scenario = Scenario::load("chat").expect("built in");
        scenario.seconds = 100.0;
        let ends = scenario.ends();
        assert_eq!(ends.last().map(|(end, _)| end.as_millis()), Some(100_000));
        assert!(ends.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }
}
