//! What a user's edges tell others, in the encodings of the topics and of the public API.

use bytes::Bytes;
use plaza_processor::{Emission, Outcome};
use plaza_proto::{
    chat::v1::{ContactChanged, Entry, FriendRequestChanged, entry::Event},
    graph::v1 as api,
};
use plaza_topics::{
    CHAT, EDGES, GRAPH, INBOX, MOMENTS, TIMELINE,
    conversation::{self, Side, Sides},
    graph::{self, Accepted, Asked, EdgeChanged, Spread},
    inbox, moments, timeline,
};
use plaza_types::{ConversationId, UserId, limits::REQUEST_EXPIRY, partition};
use prost::Message;
use prost_types::Timestamp;

use super::{
    State,
    row::{Contact, Permissions, Request, Status, is_open},
};

/// Viewers named by one record at most.
const VIEWERS: usize = 1_000;

/// To the asked person's edges.
#[must_use]
pub fn asked(from: UserId, to: UserId, asked: Asked) -> Emission {
    graph(from, to, graph::Kind::Asked(asked), false)
}

/// To the edges of the person who had asked; the address of whoever waits for `answer` goes along.
#[must_use]
pub fn accepted(from: UserId, to: UserId, side: Option<Side>, answer: Bytes) -> Emission {
    let carry_reply = !answer.is_empty();
    graph(from, to, graph::Kind::Accepted(Accepted { side, answer }), carry_reply)
}

fn graph(from: UserId, to: UserId, kind: graph::Kind, carry_reply: bool) -> Emission {
    let payload = graph::Payload { other: from.to_key(), kind: Some(kind) };
    Emission { topic: GRAPH, key: to.to_key(), partition: None, payload: payload.encode_to_vec().into(), carry_reply }
}

/// To the pair's conversation; `answer` is given to `waiting` once it is open, and empty when nobody waits.
#[must_use]
pub fn sides(one: UserId, other: UserId, sides: Vec<Side>, waiting: Option<UserId>, answer: Bytes) -> Emission {
    let answer_to = waiting.map(|user| user.to_key()).unwrap_or_default();
    let payload = conversation::Payload { kind: Some(conversation::Kind::Sides(Sides { sides, answer_to, answer })) };
    let key = ConversationId::direct(one, other).to_key();
    Emission { topic: CHAT, key, partition: None, payload: payload.encode_to_vec().into(), carry_reply: waiting.is_some() }
}

/// To the user's own devices: a request came, or was accepted.
#[must_use]
pub fn request_changed(user: UserId, other: UserId, received: bool, pending: bool, note: String) -> Emission {
    let event = FriendRequestChanged { user_id: other.to_string(), received, pending, note };
    inbox(user, Event::FriendRequest(event))
}

/// To the user's own devices: a contact or a block changed.
#[must_use]
pub fn contact_changed(user: UserId, other: UserId, listed: bool) -> Emission {
    inbox(user, Event::ContactChanged(ContactChanged { user_id: other.to_string(), listed }))
}

fn inbox(user: UserId, event: Event) -> Emission {
    // An entry without its cursor is encoded as its event field alone.
    let event = Entry { cursor: 0, event: Some(event) }.encode_to_vec().into();
    let payload = inbox::Payload { kind: Some(inbox::Kind::Event(inbox::Event { user: user.to_key(), event })) };
    Emission { topic: INBOX, key: user.to_key(), partition: None, payload: payload.encode_to_vec().into(), carry_reply: false }
}

/// To everybody who keeps a copy of the edge.
#[must_use]
pub fn edge_changed(owner: UserId, other: UserId) -> Emission {
    let payload = EdgeChanged { owner: owner.to_key(), other: other.to_key() };
    Emission { topic: EDGES, key: owner.to_key(), partition: None, payload: payload.encode_to_vec().into(), carry_reply: false }
}

/// To an author's posts: a viewer is to be given those there are. When it is because the author's edges came to list the viewer, none is
/// missed: a post either reached the author's posts before this does, and is put into the viewer's timeline by it; or it is spread after.
#[must_use]
pub fn backfill(author: UserId, viewer: UserId) -> Emission {
    let payload = moments::Payload { kind: Some(moments::Kind::Backfill(moments::Backfill { viewer: viewer.to_key() })) };
    Emission { topic: MOMENTS, key: author.to_key(), partition: None, payload: payload.encode_to_vec().into(), carry_reply: false }
}

/// To the timelines of everybody in the list, whatever is allowed to them: what they may see is decided when they look.
pub fn spread(owner: UserId, state: &State, spread: &Spread, partitions: u32, mut emit: impl FnMut(Emission)) {
    let mut viewers = vec![Vec::new(); partitions as usize];
    for (viewer, _) in state.edges.iter().filter(|(_, edge)| edge.listed) {
        if let Some(viewers) = viewers.get_mut(partition::of(viewer.as_bytes(), partitions) as usize) {
            viewers.push(viewer.to_key());
        }
    }
    let post = timeline::Reference { author: owner.to_key(), post: spread.post.clone(), created: spread.created };
    for (partition, viewers) in (0..).zip(&viewers) {
        for chunk in viewers.chunks(VIEWERS) {
            let references = timeline::References { viewers: chunk.to_vec(), posts: vec![post.clone()], idle_after: spread.idle_after };
            let payload = timeline::Payload { kind: Some(timeline::Kind::References(references)) }.encode_to_vec().into();
            emit(Emission { topic: TIMELINE, key: owner.to_key(), partition: Some(partition), payload, carry_reply: false });
        }
    }
}

/// The answer to an asking.
#[must_use]
pub fn ask_answer(asking: &Request, status: Status) -> Outcome {
    let request = Some(request(asking, status, asking.time));
    Outcome::accepted(api::SendFriendRequestResponse { request }.encode_to_vec())
}

/// The answer to accepting: somebody new in the list has no remark yet.
#[must_use]
pub fn accept_answer(accepted: Contact) -> Outcome {
    let contact = Some(contact(accepted, String::new()));
    Outcome::accepted(api::AcceptFriendRequestResponse { contact }.encode_to_vec())
}

/// A request as its owner is shown it at this time, microseconds.
#[must_use]
pub fn request(request: &Request, status: Status, now: u64) -> api::FriendRequest {
    let state = match status {
        Status::Accepted => api::RequestState::Accepted,
        Status::Ignored => api::RequestState::Ignored,
        Status::Pending if is_open(request.time, now) => api::RequestState::Pending,
        Status::Pending | Status::Withdrawn => api::RequestState::Expired,
    };
    api::FriendRequest {
        request_id: request.request.to_string(),
        user_id: request.other.to_string(),
        note: request.note.clone(),
        state: state.into(),
        created: Some(timestamp(request.time)),
        expires: Some(timestamp(request.time.saturating_add(REQUEST_EXPIRY))),
        source: Some(request.source.clone()).filter(|source| !source.is_empty()),
    }
}

/// A contact as its owner is shown it.
#[must_use]
pub fn contact(contact: Contact, remark: String) -> api::Contact {
    api::Contact {
        user_id: contact.other.to_string(),
        remark,
        tags: contact.tags,
        starred: contact.starred,
        permissions: Some(permissions(contact.permissions)),
        since: Some(timestamp(contact.since)),
    }
}

/// Permissions as they are shown.
#[must_use]
pub fn permissions(permissions: Permissions) -> api::Permissions {
    let Permissions { chat_only, hide_my_moments, hide_their_moments } = permissions;
    api::Permissions { chat_only, hide_my_moments, hide_their_moments }
}

fn timestamp(micros: u64) -> Timestamp {
    // Both fit: the remainder is below 10^9, and the seconds of any u64 of microseconds are below 2^63.
    Timestamp { seconds: (micros / 1_000_000) as i64, nanos: (micros % 1_000_000 * 1_000) as i32 }
}
