//! Rule 6: what an emission is wrapped in. Everything about it follows from the record that caused it.

use bytes::Bytes;
use plaza_event_log::{EventLog, Record, Topic, TopicPartition};
use plaza_types::partition;
use prost::Message as _;

use crate::{Emission, Envelope, Machine, Origin, item::Item};

/// Emissions of one key of a record, at most.
const PER_KEY: u32 = 1024;

/// The `nth` emission of the key at `place`, as it is appended.
pub(crate) fn wrap<M: Machine>(
    log: &dyn EventLog,
    source: u32,
    item: &Item<M::Payload>,
    (place, nth): (u32, u32),
    emission: Emission,
    traceparent: Option<&Bytes>,
) -> (TopicPartition, Record) {
    debug_assert!(nth < PER_KEY, "{nth} emissions of one key");
    let partition = emission.partition.unwrap_or_else(|| partition::of(&emission.key, log.partitions(emission.topic)));
    let envelope = Envelope {
        rules: item.envelope.rules,
        time: item.time,
        deadline: 0,
        caller: Bytes::new(),
        request: Bytes::new(),
        fingerprint: 0,
        reply_to: item.envelope.reply_to.filter(|_| emission.carry_reply),
        origin: Some(Origin {
            topic: M::TOPIC.0.to_owned(),
            partition: source,
            generation: item.position.generation,
            offset: item.position.offset,
            index: place * PER_KEY + nth,
        }),
        payload: emission.payload,
    };
    let headers = traceparent.map(|value| ("traceparent", value.clone())).into_iter().collect();
    let record = Record { key: emission.key, value: envelope.encode_to_vec().into(), headers };
    (TopicPartition { topic: emission.topic, partition }, record)
}

/// Where a record that cannot be decided is parked; `None` where the log has no such topic.
pub(crate) fn parking(log: &dyn EventLog, topic: Topic, partition: u32) -> Option<TopicPartition> {
    partition.checked_rem(log.partitions(topic)).map(|partition| TopicPartition { topic, partition })
}
