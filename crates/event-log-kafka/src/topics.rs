//! Which topics there are, and what they are called on the cluster.

use std::{collections::HashMap, sync::Arc};

use plaza_event_log::{Error, Topic, TopicPartition};

/// A topic as the processes know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicSpec {
    /// Its name.
    pub topic: Topic,
    /// How many partitions it has; never changes within a generation.
    pub partitions: u32,
    /// Which creation of it: offsets of another one mean nothing. From 1.
    pub generation: u32,
}

impl TopicSpec {
    /// Its name on the cluster: another generation is another topic there, so positions can never be mistaken.
    pub fn name(&self, prefix: &str) -> String {
        format!("{prefix}{}.{}", self.topic.0, self.generation)
    }
}

/// All of them.
pub(crate) struct Topics {
    named: HashMap<Topic, Named>,
    places: usize,
}

/// One, with its name on the cluster.
pub(crate) struct Named {
    pub(crate) spec: TopicSpec,
    pub(crate) name: Arc<str>,
    /// The place of its first partition among those of all topics.
    first: usize,
}

impl Topics {
    pub(crate) fn new(prefix: &str, specs: &[TopicSpec]) -> Self {
        let mut places = 0;
        let named = specs.iter().map(|spec| {
            let named = Named { spec: *spec, name: spec.name(prefix).into(), first: places };
            places += spec.partitions as usize;
            (spec.topic, named)
        });
        Self { named: named.collect(), places }
    }

    pub(crate) fn get(&self, topic: Topic) -> Option<&Named> {
        self.named.get(&topic)
    }

    /// How many partitions all topics have together.
    pub(crate) fn places(&self) -> usize {
        self.places
    }

    /// The name of a partition's topic, and the partition's number among those of all topics.
    ///
    /// # Errors
    /// `UnknownPartition`.
    pub(crate) fn place(&self, of: TopicPartition) -> Result<(&Arc<str>, usize), Error> {
        let topic = self.get(of.topic).filter(|topic| of.partition < topic.spec.partitions);
        topic.map(|topic| (&topic.name, topic.first + of.partition as usize)).ok_or(Error::UnknownPartition(of))
    }

    /// The name of a partition's topic.
    ///
    /// # Errors
    /// `UnknownPartition`.
    pub(crate) fn name(&self, of: TopicPartition) -> Result<&Arc<str>, Error> {
        self.place(of).map(|(name, _)| name)
    }
}
