//! Tells users' inboxes what happened to their accounts. It follows the accounts topic, whose records are bare.

use std::sync::Arc;

use async_trait::async_trait;
use plaza_event_log::{EventLog, Record, Stored, Topic, TopicPartition};
use plaza_processor::{
    Envelope, Origin,
    relay::{self, Failure},
};
use plaza_topics::{ACCOUNTS, INBOX, account, inbox};
use plaza_types::{UserId, partition};
use prost::Message as _;

use crate::domain::{event, inbox::Row};

/// The relay.
pub(crate) struct Relay {
    pub(crate) log: Arc<dyn EventLog>,
}

#[async_trait]
impl relay::Relay for Relay {
    type Row = Row;

    const NAME: &'static str = "chat.account-relay";
    const TOPIC: Topic = ACCOUNTS;
    const BATCH: usize = 256;

    async fn relayed(&self, record: &Stored, origin: Origin) -> Result<Vec<(TopicPartition, Record)>, Failure> {
        Ok(relayed(record, origin, self.log.partitions(INBOX)).into_iter().collect())
    }
}

fn relayed(record: &Stored, origin: Origin, inboxes: u32) -> Option<(TopicPartition, Record)> {
    let event = account::Event::decode(record.record.value.clone()).ok()?;
    let user = UserId::from_slice(&event.user)?;
    let account::Kind::ProfileChanged(_) = event.kind? else { return None };
    let told = inbox::Event { user: user.to_key(), event: event::profile(user) };
    let envelope = Envelope {
        rules: crate::RULES,
        time: record.appended,
        origin: Some(origin),
        payload: inbox::Payload { kind: Some(inbox::Kind::Event(told)) }.encode_to_vec().into(),
        ..Envelope::default()
    };
    let to = TopicPartition { topic: INBOX, partition: partition::of(user.as_bytes(), inboxes) };
    Some((to, Record { key: user.to_key(), value: envelope.encode_to_vec().into(), headers: Vec::new() }))
}
