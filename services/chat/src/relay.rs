//! Tells users' inboxes what happened to their accounts. It follows the accounts topic, whose records are bare, and appends events with the
//! record's place as their origin, so that what is appended again after a crash is dropped by the inbox's marks.

use std::{collections::HashMap, sync::Arc, time::Duration};

use plaza_event_log::{Assignment, Error, EventLog, Record, Stored, TopicPartition};
use plaza_processor::{Checkpoint, Envelope, Origin, Position, StoreError};
use plaza_runtime::{CancellationToken, Stage, Supervisor};
use plaza_topics::{ACCOUNTS, INBOX, account, inbox};
use plaza_types::{UserId, partition};
use prost::Message as _;

use crate::{
    domain::{event, inbox::Row},
    store::Store,
};

/// Its name in checkpoints and among the log's readers.
const NAME: &str = "chat.account-relay";
const BATCH: usize = 256;
const RETRY: Duration = Duration::from_millis(200);

/// The relay.
#[derive(Clone)]
pub(crate) struct Relay {
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) supervisor: Supervisor,
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Log(#[from] Error),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Relay {
    /// Follows the partitions that are this process's, until told to stop.
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let stopping = self.supervisor.stopping(Stage::Consumers);
        let mut assignments = self.log.assignments(NAME, ACCOUNTS).await?;
        let mut following: HashMap<u32, CancellationToken> = HashMap::new();
        while let Some(change) = stopping.run_until_cancelled(assignments.next()).await {
            match change? {
                Assignment::Assigned(partition) => {
                    let stop = stopping.child_token();
                    following.insert(partition, stop.clone());
                    let relay = self.clone();
                    self.supervisor.spawn("account-relay partition", Stage::Consumers, async move {
                        stop.run_until_cancelled(relay.follow(partition)).await.unwrap_or(Ok(()))
                    });
                }
                Assignment::Revoked(partition) => {
                    if let Some(stop) = following.remove(&partition) {
                        stop.cancel();
                    }
                }
            }
        }
        Ok(())
    }

    async fn follow(&self, partition: u32) -> anyhow::Result<()> {
        loop {
            match self.follow_until_failure(partition).await {
                Failure::Log(error @ Error::Fatal(_)) => return Err(error.into()),
                error => tracing::warn!(%error, partition, "account relay starts again"),
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn follow_until_failure(&self, partition: u32) -> Failure {
        match self.try_follow(partition).await {
            Ok(never) => match never {},
            Err(failure) => failure,
        }
    }

    async fn try_follow(&self, partition: u32) -> Result<std::convert::Infallible, Failure> {
        let store: Arc<dyn plaza_processor::Store<Row>> = self.store.clone();
        let generation = self.log.generation(ACCOUNTS);
        let mut checkpoint = store.checkpoint(NAME, partition).await?.unwrap_or_default();
        if checkpoint.next.generation != generation {
            checkpoint.next = Position { generation, offset: 0 };
        }
        let mut reader = self.log.reader(TopicPartition { topic: ACCOUNTS, partition }, checkpoint.next.offset).await?;
        let producer = self.log.producer();
        loop {
            let records = reader.next(BATCH).await?;
            let Some(last) = records.last() else { continue };
            checkpoint = Checkpoint {
                next: Position { generation, offset: last.offset + 1 },
                last_time: last.appended.max(checkpoint.last_time + 1),
                marks: Vec::new(),
            };
            let inboxes = self.log.partitions(INBOX);
            let appends: Vec<_> = records.iter().filter_map(|record| relayed(record, partition, generation, inboxes)).collect();
            if !appends.is_empty() {
                producer.send(appends).await?;
            }
            store.write_checkpoint(NAME, partition, &checkpoint).await?;
        }
    }
}

fn relayed(record: &Stored, source: u32, generation: u32, inboxes: u32) -> Option<(TopicPartition, Record)> {
    let event = account::Event::decode(record.record.value.clone()).ok()?;
    let user = UserId::from_slice(&event.user)?;
    let account::Kind::ProfileChanged(_) = event.kind? else { return None };
    let told = inbox::Event { user: user.to_key(), event: event::profile(user) };
    let envelope = Envelope {
        rules: crate::RULES,
        time: record.appended,
        origin: Some(Origin { topic: ACCOUNTS.0.to_owned(), partition: source, generation, offset: record.offset, index: 0 }),
        payload: inbox::Payload { kind: Some(inbox::Kind::Event(told)) }.encode_to_vec().into(),
        ..Envelope::default()
    };
    let to = TopicPartition { topic: INBOX, partition: partition::of(user.as_bytes(), inboxes) };
    Some((to, Record { key: user.to_key(), value: envelope.encode_to_vec().into(), headers: Vec::new() }))
}
