//! What a topic is like beyond its partitions, as text: it is recorded when a deployment is migrated and compared at each start, for within what
//! the log can live with somebody may still have changed what the deployment relies on, such as how long records are kept.

use std::{collections::BTreeMap, convert::Infallible, fmt, str::FromStr};

use rdkafka::admin::ConfigResource;

use crate::{Config, MAX_MESSAGE_BYTES};

/// Copies of each partition, where there are as many brokers.
const REPLICAS: usize = 3;
/// Records must be there for longer than a request may come again and a checkpoint may be old; retention is checked to be above this.
const SHORTEST_RETENTION_MS: i64 = 24 * 3600 * 1000;
/// Is none of Kafka's settings.
const COPIES: &str = "copies";

/// What a topic is created with, as Kafka names it.
pub(crate) fn wanted(config: &Config, copies: usize) -> [(&'static str, String); 7] {
    [
        ("message.timestamp.type", "LogAppendTime".to_owned()),
        ("cleanup.policy", "delete".to_owned()),
        ("retention.ms", config.retention.as_millis().to_string()),
        ("retention.bytes", "-1".to_owned()),
        ("max.message.bytes", MAX_MESSAGE_BYTES.to_string()),
        ("min.insync.replicas", if copies >= REPLICAS { "2" } else { "1" }.to_owned()),
        ("unclean.leader.election.enable", "false".to_owned()),
    ]
}

/// How many copies of each partition there are to be.
pub(crate) fn copies(config: &Config, brokers: usize) -> usize {
    match config.replicas {
        0 => brokers.clamp(1, REPLICAS),
        replicas => replicas as usize,
    }
}

/// What a topic is like: Kafka's settings that the log relies on, and how many copies there are. Its text is for [`Settings::from_str`], which
/// takes any: what it does not say is not compared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings(BTreeMap<String, String>);

impl Settings {
    pub(crate) fn found(config: &Config, copies: usize, resource: &ConfigResource) -> Self {
        let value = |key: &str| resource.get(key).and_then(|entry| entry.value.clone()).unwrap_or_default();
        let kept = wanted(config, copies).map(|(key, _)| (key.to_owned(), value(key)));
        Self(kept.into_iter().chain([(COPIES.to_owned(), copies.to_string())]).collect())
    }

    /// To be recorded. While copies move to other brokers there are more of them, which nobody was promised.
    pub(crate) fn promised(mut self, config: &Config) -> Self {
        let most = copies(config, REPLICAS);
        let promised = (self.number(COPIES) as usize).min(most);
        self.0.insert(COPIES.to_owned(), promised.to_string());
        self
    }

    fn value(&self, key: &str) -> &str {
        self.0.get(key).map(String::as_str).unwrap_or_default()
    }

    fn number(&self, key: &str) -> i64 {
        self.value(key).parse().unwrap_or_default()
    }

    /// What the log cannot live with, and what to do, on a cluster that is to have so many copies.
    pub(crate) fn wrong(&self, copies: usize) -> Vec<String> {
        let (retention, largest) = (self.number("retention.ms"), MAX_MESSAGE_BYTES as i64);
        let in_sync = if copies.max(self.number(COPIES) as usize) >= REPLICAS { 2 } else { 1 };
        let rules = [
            ("message.timestamp.type", "LogAppendTime", self.value("message.timestamp.type") == "LogAppendTime"),
            ("cleanup.policy", "delete", self.value("cleanup.policy") == "delete"),
            ("retention.ms", "above a day, or -1", retention == -1 || retention > SHORTEST_RETENTION_MS),
            ("retention.bytes", "-1", self.number("retention.bytes") == -1),
            ("max.message.bytes", &format!("at least {largest}"), self.number("max.message.bytes") >= largest),
            ("min.insync.replicas", &format!("at least {in_sync}"), self.number("min.insync.replicas") >= in_sync),
            ("unclean.leader.election.enable", "false", self.value("unclean.leader.election.enable") == "false"),
        ];
        let wrong = rules.into_iter().filter(|(_, _, is_right)| !is_right);
        let mut wrong: Vec<_> = wrong
            .map(|(key, must, _)| format!("{key} is '{}' and must be {must}: alter the topic's configuration", self.value(key)))
            .collect();
        if (self.number(COPIES) as usize) < copies {
            let found = self.value(COPIES);
            wrong.push(format!("it has {found} copies of a partition and must have {copies}: add copies, or say kafka.replicas = {found}"));
        }
        wrong
    }

    /// What is not as it was recorded, and what to do. More copies than that are no difference.
    pub(crate) fn differences(&self, recorded: &Self) -> Vec<String> {
        let differs = |key: &str| match key {
            COPIES => self.number(key) < recorded.number(key),
            _ => self.value(key) != recorded.value(key),
        };
        let keys = self.0.keys().filter(|key| recorded.0.contains_key(*key) && differs(key));
        keys.map(|key| {
            let (found, was) = (self.value(key), recorded.value(key));
            format!("{key} is '{found}' and was recorded as '{was}': set it back, or accept it with `plaza migrate --accept-settings`")
        })
        .collect()
    }
}

impl fmt::Display for Settings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs: Vec<_> = self.0.iter().map(|(key, value)| format!("{key}={value}")).collect();
        formatter.write_str(&pairs.join(" "))
    }
}

impl FromStr for Settings {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        let pairs = text.split_whitespace().filter_map(|pair| pair.split_once('='));
        Ok(Self(pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(copies: usize, changes: &[(&str, &str)]) -> Settings {
        let mut settings = Settings(wanted(&Config::default(), copies).map(|(key, value)| (key.to_owned(), value)).into());
        settings.0.insert(COPIES.to_owned(), copies.to_string());
        settings.0.extend(changes.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
        settings
    }

    #[test]
    fn copies_and_those_in_sync_are_as_many_as_the_cluster_can_have() {
        assert_eq!(settings(3, &[]).wrong(3), [""; 0]);
        assert_eq!(settings(1, &[]).wrong(1), [""; 0], "a cluster of one broker");
        assert_eq!(settings(3, &[]).wrong(2), [""; 0], "while one broker is away");
        for few in [1, 2] {
            let wrong = settings(few, &[]).wrong(3).join("; ");
            assert!(wrong.contains(&format!("has {few} copies of a partition and must have 3")), "{wrong}");
            assert!(wrong.contains("min.insync.replicas is '1' and must be at least 2"), "{wrong}");
        }
        let wrong = settings(3, &[("min.insync.replicas", "1")]).wrong(2);
        assert!(wrong[0].starts_with("min.insync.replicas is '1' and must be at least 2"), "{wrong:?}");
        assert_eq!(copies(&Config::default(), 5), 3);
        assert_eq!(copies(&Config { replicas: 1, ..Config::default() }, 5), 1, "as it was said");
    }

    #[test]
    fn what_was_recorded_is_compared_and_nothing_else() {
        let recorded: Settings = settings(3, &[]).to_string().parse().unwrap();
        assert_eq!(recorded, settings(3, &[]));
        assert_eq!(recorded.differences(&recorded), [""; 0]);
        let changed = settings(2, &[("retention.ms", "90000000")]);
        let found = changed.differences(&recorded);
        assert!(found[0].starts_with("copies is '2' and was recorded as '3'"), "{found:?}");
        assert!(found[2].starts_with("retention.ms is '90000000' and was recorded as '604800000'"), "{found:?}");
        assert_eq!(found.len(), 3, "{found:?}");
        assert_eq!(settings(6, &[("min.insync.replicas", "2")]).differences(&recorded), [""; 0], "copies that move");
        assert_eq!(changed.differences(&Settings::default()), [""; 0], "an earlier build recorded nothing");
        assert_eq!(changed.differences(&"of.a.newer.build=1".parse().unwrap()), [""; 0]);
    }

    #[test]
    fn no_more_copies_are_recorded_than_were_asked_for() {
        let recorded = |found, replicas| settings(found, &[]).promised(&Config { replicas, ..Config::default() }).value(COPIES).to_owned();
        assert_eq!([recorded(6, 0), recorded(1, 0), recorded(6, 5), recorded(3, 1)], ["3", "1", "5", "1"]);
    }
}
