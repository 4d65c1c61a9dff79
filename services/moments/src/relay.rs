//! Tells users' inboxes what others did, so that live devices look at their notices. It follows the topic `notices`, asks the same rule as
//! the list of notices whether each recipient may know.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use plaza_event_log::{EventLog, Record, Stored, Topic, TopicPartition};
use plaza_processor::{
    Envelope, Origin, StoreError,
    relay::{self, Failure},
};
use plaza_proto::{
    chat::v1::{Entry, MomentsNotice, entry::Event},
    moments::v1 as api,
};
use plaza_topics::{INBOX, NOTICES, inbox, moments::Act};
use plaza_types::{UserId, partition};
use prost::Message as _;

use crate::{
    domain::{
        notice::{Kind, Notice},
        post::PostId,
        posts::Row,
    },
    view::View,
};

/// What the owner is about to write is looked for this often, this many times.
/// The number of the inbox's rules, which are chat's, under which it knows what is told here.
const INBOX_RULES: u32 = 1;
const LOOK_AGAIN: Duration = Duration::from_millis(2);
const LOOKS: usize = 500;

/// The relay.
pub(crate) struct Relay {
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) view: Arc<View>,
}

#[async_trait]
impl relay::Relay for Relay {
    type Row = Row;

    const NAME: &'static str = "moments.notice-relay";
    const TOPIC: Topic = NOTICES;
    const BATCH: usize = 64;

    /// What one act makes known, to those who may know it.
    async fn relayed(&self, record: &Stored, origin: Origin) -> Result<Vec<(TopicPartition, Record)>, Failure> {
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
            let known = self
                .view
                .notices(&mut sight, std::slice::from_ref(&notice))
                .await
                .map_err(|status| Failure::Undecided(Box::new(status)))?;
            let Some((_, known)) = known.into_iter().next() else { continue };
            let envelope = Envelope {
                rules: INBOX_RULES,
                time,
                origin: Some(Origin { index, ..origin.clone() }),
                payload: event(user, known).encode_to_vec().into(),
                ..Envelope::default()
            };
            let to = TopicPartition { topic: INBOX, partition: partition::of(user.as_bytes(), self.log.partitions(INBOX)) };
            told.push((to, Record { key: user.to_key(), value: envelope.encode_to_vec().into(), headers: Vec::new() }));
        }
        Ok(told)
    }
}

impl Relay {
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
