//! What posts tell others, in the encodings of the topics and of the public API.

use bytes::Bytes;
use plaza_processor::Emission;
use plaza_proto::moments::v1 as api;
use plaza_topics::{
    GRAPH, NOTICES, TIMELINE, graph,
    moments::{self, AudienceKind},
    timeline,
};
use plaza_types::UserId;
use prost::Message as _;
use prost_types::Timestamp;

use super::{
    engagement::{Comment, Engagement},
    post::{Post, PostId},
    posts::Recent,
};

/// Posts named by one record at most.
const REFERENCES: usize = 1_000;

/// To the author's edges, which know whom to tell of a post.
#[must_use]
pub fn spread(id: PostId, created: u64, idle_after: u64) -> Emission {
    let spread = graph::Spread { post: id.request_key(), created, idle_after };
    let payload = graph::Payload { other: Bytes::new(), kind: Some(graph::Kind::Spread(spread)) };
    Emission { topic: GRAPH, key: id.author.to_key(), partition: None, payload: payload.encode_to_vec().into(), carry_reply: false }
}

/// To the timeline of somebody new in the author's list: what the author remembers.
pub fn backfilled(author: UserId, viewer: &Bytes, recent: &[Recent]) -> impl Iterator<Item = Emission> {
    recent.chunks(REFERENCES).map(move |chunk| {
        let references = chunk.iter().map(|recent| (PostId { author, request: recent.request() }, recent.created));
        let payload = references_payload(std::slice::from_ref(viewer), references).into();
        Emission { topic: TIMELINE, key: viewer.clone(), partition: None, payload, carry_reply: false }
    })
}

/// References that reach their viewers whether they look or not, as a payload of the topic `timeline`.
#[must_use]
pub fn references_payload(viewers: &[Bytes], posts: impl Iterator<Item = (PostId, u64)>) -> Vec<u8> {
    let reference = |(id, created): (PostId, u64)| timeline::Reference { author: id.author.to_key(), post: id.request_key(), created };
    let references = timeline::References { viewers: viewers.to_vec(), posts: posts.map(reference).collect(), idle_after: 0 };
    timeline::Payload { kind: Some(timeline::Kind::References(references)) }.encode_to_vec()
}

/// To whoever tells live devices.
#[must_use]
pub fn act(act: &moments::Act) -> Emission {
    Emission { topic: NOTICES, key: act.author.clone(), partition: None, payload: act.encode_to_vec().into(), carry_reply: false }
}

/// A new post as its author is shown it.
#[must_use]
pub fn created(id: PostId, post: &Post) -> api::Post {
    api::Post { audience: Some(audience(&post.audience)), ..shown(id, post) }
}

/// A post without what others did to it, and without what only its author is told.
#[must_use]
pub fn shown(id: PostId, post: &Post) -> api::Post {
    api::Post {
        post_id: id.to_string(),
        author_id: id.author.to_string(),
        created: Some(timestamp(post.created)),
        // Only what was encoded by the API is stored.
        content: api::PostContent::decode(post.content.clone()).ok(),
        mentions: post.mentions.iter().filter_map(|user| UserId::from_slice(user)).map(|user| user.to_string()).collect(),
        ..api::Post::default()
    }
}

/// An audience as the author of its post is shown it.
fn audience(audience: &moments::Audience) -> api::Audience {
    use api::audience::Kind;
    let people = || api::People {
        user_ids: audience.users.as_chunks::<16>().0.iter().map(|user| UserId::from_bytes(*user).to_string()).collect(),
        tags: audience.tags.clone(),
    };
    let kind = match audience.kind() {
        AudienceKind::Private => Kind::Private(api::OnlyMe {}),
        AudienceKind::All => Kind::All(api::AllFriends {}),
        AudienceKind::Only => Kind::Only(people()),
        AudienceKind::Except => Kind::Except(people()),
    };
    api::Audience { kind: Some(kind) }
}

/// A comment on a post as it is shown; its number is not. `None` if there is none.
#[must_use]
pub fn comment(post: PostId, engagement: &Engagement, number: u32, text: String) -> Option<api::PostComment> {
    let comment = engagement.comment(number)?;
    let id = |comment: &Comment| comment.id(post).map(|id| id.to_string());
    Some(api::PostComment {
        comment_id: id(comment)?,
        post_id: post.to_string(),
        user_id: comment.user()?.to_string(),
        text,
        reply_to: engagement.comment(comment.reply_to).and_then(id),
        created: Some(timestamp(comment.time)),
    })
}

/// A time at the edge.
#[must_use]
pub fn timestamp(micros: u64) -> Timestamp {
    // Both fit: the remainder is below 10^9, and the seconds of any u64 of microseconds are below 2^63.
    Timestamp { seconds: (micros / 1_000_000) as i64, nanos: (micros % 1_000_000 * 1_000) as i32 }
}
