//! Tells users' inboxes what others did, so that live devices look at their notices. It follows the topic `notices`, asks the same rule as
//! the list of notices whether each recipient may know, and appends events with the record's place as their origin, so that what is
//! appended again after a crash is dropped by the inbox's marks.

use std::{collections::HashMap, sync::Arc, time::Duration};

use plaza_event_log::{Assignment, Error, EventLog, Record, Stored, TopicPartition};
use plaza_processor::{Checkpoint, Envelope, Origin, Position, StoreError};
use plaza_proto::{
    chat::v1::{Entry, MomentsNotice, entry::Event},
    moments::v1 as api,
};
use plaza_runtime::{CancellationToken, Stage, Supervisor};
use plaza_topics::{INBOX, NOTICES, inbox, moments::Act};
use plaza_types::{UserId, partition};
use prost::Message as _;
use tonic::Status;

use crate::{
    domain::{
        notice::{Kind, Notice},
        post::PostId,
        posts::Row,
    },
    view::View,
};

/// Its name in checkpoints and among the log's readers.
const NAME: &str = "moments.notice-relay";
const BATCH: usize = 64;
const RETRY: Duration = Duration::from_millis(200);
/// What the owner is about to write is looked for this often, this many times.
const LOOK_AGAIN: Duration = Duration::from_millis(2);
const LOOKS: usize = 500;

/// The relay.
#[derive(Clone)]
pub(crate) struct Relay {
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) view: Arc<View>,
    pub(crate) supervisor: Supervisor,
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Log(#[from] Error),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("cannot be decided: {0}")]
    Undecided(#[from] Box<Status>),
}

impl Relay {
    /// Follows the partitions that are this process's, until told to stop.
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let stopping = self.supervisor.stopping(Stage::Consumers);
        let mut assignments = self.log.assignments(NAME, NOTICES).await?;
        let mut following: HashMap<u32, CancellationToken> = HashMap::new();
        while let Some(change) = stopping.run_until_cancelled(assignments.next()).await {
            match change? {
                Assignment::Assigned(partition) => {
                    let stop = stopping.child_token();
                    following.insert(partition, stop.clone());
                    let relay = self.clone();
                    self.supervisor.spawn("notice-relay partition", Stage::Consumers, async move {
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
            let failure = match Box::pin(self.try_follow(partition)).await {
                Ok(never) => match never {},
                Err(failure) => failure,
            };
            match failure {
                Failure::Log(error @ Error::Fatal(_)) => return Err(error.into()),
                // While the process starts, whom it asks may not be there yet.
                Failure::Undecided(status) => tracing::debug!(%status, partition, "notice relay starts again"),
                error => tracing::warn!(%error, partition, "notice relay starts again"),
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn try_follow(&self, partition: u32) -> Result<std::convert::Infallible, Failure> {
        let store: Arc<dyn plaza_processor::Store<Row>> = self.view.store.clone();
        let generation = self.log.generation(NOTICES);
        let mut checkpoint = store.checkpoint(NAME, partition).await?.unwrap_or_default();
        if checkpoint.next.generation != generation {
            checkpoint.next = Position { generation, offset: 0 };
        }
        let mut reader = self.log.reader(TopicPartition { topic: NOTICES, partition }, checkpoint.next.offset).await?;
        let producer = self.log.producer();
        loop {
            let records = reader.next(BATCH).await?;
            let Some(last) = records.last() else { continue };
            checkpoint = Checkpoint {
                next: Position { generation, offset: last.offset + 1 },
                last_time: last.appended.max(checkpoint.last_time + 1),
                marks: Vec::new(),
            };
            let mut appends = Vec::new();
            for record in &records {
                appends.extend(self.relayed(record, partition, generation).await?);
            }
            if !appends.is_empty() {
                producer.send(appends).await?;
            }
            store.write_checkpoint(NAME, partition, &checkpoint).await?;
        }
    }

    /// What one act makes known, to those who may know it.
    async fn relayed(&self, record: &Stored, source: u32, generation: u32) -> Result<Vec<(TopicPartition, Record)>, Failure> {
        let act = Envelope::decode(record.record.value.clone()).ok().and_then(|envelope| {
            let act = Act::decode(envelope.payload).ok()?;
            let actor = UserId::from_slice(&act.actor)?;
            Some((PostId::from_parts(&act.author, &act.post)?, actor, act, envelope.time))
        });
        // Nothing follows from a record that is none of ours.
        let Some((post, actor, act, time)) = act else { return Ok(Vec::new()) };
        let notice = Notice { time, post, kind: Kind::try_from(act.kind).unwrap_or(Kind::Unspecified), actor, number: act.number };
        let notice = Notice { time: self.wait_for(&notice).await?, ..notice };
        let mut told = Vec::new();
        for (index, recipient) in (0..).zip(&act.recipients) {
            let Some(user) = UserId::from_slice(recipient) else { continue };
            let kind = if *recipient == act.answered { Kind::Reply } else { notice.kind };
            let notice = Notice { kind, ..notice.clone() };
            let mut sight = self.view.sight(user).await;
            let known = self.view.notices(&mut sight, std::slice::from_ref(&notice)).await.map_err(Box::new)?;
            let Some((_, known)) = known.into_iter().next() else { continue };
            let envelope = Envelope {
                rules: crate::RULES,
                time,
                origin: Some(Origin { topic: NOTICES.0.to_owned(), partition: source, generation, offset: record.offset, index }),
                payload: event(user, known).encode_to_vec().into(),
                ..Envelope::default()
            };
            let to = TopicPartition { topic: INBOX, partition: partition::of(user.as_bytes(), self.log.partitions(INBOX)) };
            told.push((to, Record { key: user.to_key(), value: envelope.encode_to_vec().into(), headers: Vec::new() }));
        }
        Ok(told)
    }

    /// An act can be told before its rows can be read. Gives its time: that of a like given again meanwhile is later, and as nobody is told of
    /// that one anew, it is told now.
    async fn wait_for(&self, notice: &Notice) -> Result<u64, StoreError> {
        for _ in 0..LOOKS {
            let written = match notice.kind {
                Kind::Mention | Kind::Unspecified => {
                    self.view.store.posts(&[notice.post]).await?.iter().any(Option::is_some).then_some(notice.time)
                }
                Kind::Like | Kind::Comment | Kind::Reply => {
                    let engagements = self.view.store.engagements(&[notice.post]).await?;
                    engagements.iter().find_map(|engagement| match notice.kind {
                        Kind::Like => engagement.likes.iter().find(|like| like.user() == Some(notice.actor)).map(|like| like.time),
                        _ => engagement.comment(notice.number).map(|_| notice.time),
                    })
                }
            };
            if let Some(time) = written {
                return Ok(time);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        Ok(notice.time)
    }
}

fn event(user: UserId, notice: api::Notice) -> inbox::Payload {
    let told = MomentsNotice {
        kind: notice.kind,
        post_id: notice.post_id,
        actor_id: notice.actor_id,
        comment_id: notice.comment.map(|comment| comment.comment_id),
    };
    // An entry without its cursor is encoded as its event field alone.
    let event = Entry { cursor: 0, event: Some(Event::MomentsNotice(told)) }.encode_to_vec().into();
    inbox::Payload { kind: Some(inbox::Kind::Event(inbox::Event { user: user.to_key(), event })) }
}
