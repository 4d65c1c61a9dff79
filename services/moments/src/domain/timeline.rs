//! The state machine of the topic `timeline`, keyed by viewer: puts references to posts into timelines, and passes over viewers who have not
//! looked for long. References are candidates: they are never taken out, and what a viewer may see is decided when the viewer looks.

use std::ops::RangeInclusive;

use bytes::Bytes;
use plaza_event_log::Topic;
use plaza_processor::{Effects, Envelope, Input, Key, Machine, Outcome, ReplyWhen, StateRow};
use plaza_topics::{
    TIMELINE,
    timeline::{Kind, Payload, References},
};
use plaza_types::UserId;
use prost::{DecodeError, Message as _};
use smallvec::SmallVec;

use super::post::PostId;

/// The machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct Timelines;

/// What is kept of a viewer. It is a row too, for the API.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Viewer {
    /// When the viewer last looked, or was first given a reference; microseconds.
    #[prost(fixed64, tag = "1")]
    pub seen: u64,
    /// When the oldest post was made that the viewer was not given; 0 for none.
    #[prost(fixed64, tag = "2")]
    pub skipped: u64,
}

/// A row that readers see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Row {
    /// A post that the viewer may come to see; only ever written the same.
    Reference {
        /// Whose timeline.
        viewer: UserId,
        /// When the post was made, microseconds.
        created: u64,
        /// The post.
        post: PostId,
    },
    /// How the viewer stands.
    Viewer {
        /// Who.
        user: UserId,
        /// How.
        viewer: Viewer,
    },
}

impl Viewer {
    /// Whether somebody is passed over at this time who is passed over after `idle_after` without looking; 0 for never.
    #[must_use]
    pub fn is_idle(&self, idle_after: u64, now: u64) -> bool {
        idle_after > 0 && now >= self.seen.saturating_add(idle_after)
    }
}

fn references(user: UserId, references: &References, now: u64, viewer: &mut Viewer, effects: &mut Effects<Timelines>) {
    if viewer.seen == 0 {
        // Whoever never looks is idle so long after the first reference.
        viewer.seen = now;
    }
    let posts = references.posts.iter().filter_map(|post| Some((post.created, PostId::from_parts(&post.author, &post.post)?)));
    if !viewer.is_idle(references.idle_after, now) {
        return posts.for_each(|(created, post)| effects.row(Row::Reference { viewer: user, created, post }));
    }
    if let Some(oldest) = posts.map(|(created, _)| created).min().filter(|oldest| viewer.skipped == 0 || *oldest < viewer.skipped) {
        viewer.skipped = oldest;
        effects.row(Row::Viewer { user, viewer: *viewer });
    }
}

impl Machine for Timelines {
    type Payload = Payload;
    type State = Viewer;
    type Row = Row;
    type Announcement = ();

    const NAME: &'static str = "timeline";
    const TOPIC: Topic = TIMELINE;
    const RULES: RangeInclusive<u32> = super::RULES;

    fn keys(&self, record_key: &Bytes, envelope: &Envelope, payload: &Payload) -> SmallVec<[Key; 4]> {
        // Keys are copies, because they outlive their record.
        let key = |user: &Bytes| UserId::from_slice(user).map(|user| Key(user.to_key()));
        match &payload.kind {
            Some(Kind::References(references)) => references.viewers.iter().filter_map(key).collect(),
            Some(Kind::Seen(_) | Kind::Rebuilt(_)) if envelope.caller == *record_key => key(record_key).into_iter().collect(),
            Some(Kind::Seen(_) | Kind::Rebuilt(_)) | None => SmallVec::new(),
        }
    }

    fn apply(&self, input: Input<'_, Payload>, _: usize, key: &Key, viewer: &mut Viewer, effects: &mut Effects<Self>) {
        let Some(user) = UserId::from_slice(&key.0) else { return };
        match &input.payload.kind {
            Some(Kind::References(posts)) => return references(user, posts, input.time, viewer, effects),
            // From here on nothing is passed over, until the viewer has not looked for long again.
            Some(Kind::Seen(_)) => viewer.seen = viewer.seen.max(input.time),
            // Another time says that the viewer was passed over once more since, after a repeated or late call.
            Some(Kind::Rebuilt(rebuilt)) if rebuilt.since == viewer.skipped => viewer.skipped = 0,
            Some(Kind::Rebuilt(_)) | None => {}
        }
        effects.row(Row::Viewer { user, viewer: *viewer });
        effects.reply(Outcome::accepted(Bytes::new()), ReplyWhen::Written);
    }

    fn encode(&self, viewer: &Viewer, _: bool) -> (Bytes, Option<Bytes>) {
        (viewer.encode_to_vec().into(), None)
    }

    fn decode(&self, row: &StateRow) -> Result<Viewer, DecodeError> {
        Viewer::decode(row.hot.clone())
    }
}
