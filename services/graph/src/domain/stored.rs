//! The stored form of a state. Ids are pairs of numbers here, so that every stored state that decodes is a state.

use bytes::Bytes;
use plaza_processor::StateRow;
use plaza_types::UserId;
use prost::{DecodeError, Message};

use super::{Permissions, state};

#[derive(Clone, PartialEq, Message)]
struct Hot {
    #[prost(uint64, tag = "1")]
    changes: u64,
    #[prost(uint64, tag = "2")]
    day: u64,
    #[prost(uint32, tag = "3")]
    asked_today: u32,
}

#[derive(Clone, PartialEq, Message)]
struct Cold {
    #[prost(message, repeated, tag = "1")]
    edges: Vec<Edge>,
    #[prost(message, repeated, tag = "2")]
    sent: Vec<Sent>,
    #[prost(message, repeated, tag = "3")]
    received: Vec<Received>,
    #[prost(message, repeated, tag = "4")]
    tags: Vec<Tag>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Id {
    #[prost(fixed64, tag = "1")]
    high: u64,
    #[prost(fixed64, tag = "2")]
    low: u64,
}

#[derive(Clone, PartialEq, Message)]
struct Edge {
    #[prost(message, required, tag = "1")]
    other: Id,
    #[prost(bool, tag = "2")]
    listed: bool,
    #[prost(bool, tag = "3")]
    blocked: bool,
    #[prost(uint64, tag = "4")]
    version: u64,
    #[prost(fixed64, tag = "5")]
    since: u64,
    #[prost(bool, tag = "6")]
    starred: bool,
    #[prost(bool, tag = "7")]
    chat_only: bool,
    #[prost(bool, tag = "8")]
    hide_my_moments: bool,
    #[prost(bool, tag = "9")]
    hide_their_moments: bool,
    #[prost(uint32, repeated, tag = "10")]
    tags: Vec<u32>,
}

#[derive(Clone, PartialEq, Message)]
struct Sent {
    #[prost(message, required, tag = "1")]
    other: Id,
    #[prost(fixed64, tag = "2")]
    time: u64,
    #[prost(uint32, tag = "3")]
    unanswered: u32,
}

#[derive(Clone, PartialEq, Message)]
struct Received {
    #[prost(message, required, tag = "1")]
    other: Id,
    #[prost(fixed64, tag = "2")]
    time: u64,
}

#[derive(Clone, PartialEq, Message)]
struct Tag {
    #[prost(uint32, tag = "1")]
    number: u32,
    #[prost(string, tag = "2")]
    name: String,
}

impl From<UserId> for Id {
    fn from(user: UserId) -> Self {
        let number = u128::from_be_bytes(*user.as_bytes());
        Self { high: (number >> 64) as u64, low: number as u64 }
    }
}

impl From<Id> for UserId {
    fn from(id: Id) -> Self {
        Self::from_bytes(((u128::from(id.high) << 64) | u128::from(id.low)).to_be_bytes())
    }
}

pub(super) fn encode(state: &state::State, cold: bool) -> (Bytes, Option<Bytes>) {
    let hot = Hot { changes: state.changes, day: state.day, asked_today: state.asked_today };
    let cold = cold.then(|| {
        let edges = state.edges.iter().map(|(other, edge)| Edge {
            other: (*other).into(),
            listed: edge.listed,
            blocked: edge.blocked,
            version: edge.version,
            since: edge.since,
            starred: edge.starred,
            chat_only: edge.permissions.chat_only,
            hide_my_moments: edge.permissions.hide_my_moments,
            hide_their_moments: edge.permissions.hide_their_moments,
            tags: edge.tags.clone(),
        });
        let sent = state.sent.iter().map(|(other, sent)| Sent { other: (*other).into(), time: sent.time, unanswered: sent.unanswered });
        let received = state.received.iter().map(|(other, time)| Received { other: (*other).into(), time: *time });
        let tags = state.tags.iter().map(|(number, name)| Tag { number: *number, name: name.clone() });
        let cold = Cold { edges: edges.collect(), sent: sent.collect(), received: received.collect(), tags: tags.collect() };
        cold.encode_to_vec().into()
    });
    (hot.encode_to_vec().into(), cold)
}

pub(super) fn decode(row: &StateRow) -> Result<state::State, DecodeError> {
    let hot = Hot::decode(row.hot.clone())?;
    let cold = Cold::decode(row.cold.clone())?;
    let edges = cold.edges.into_iter().map(|edge| {
        let permissions =
            Permissions { chat_only: edge.chat_only, hide_my_moments: edge.hide_my_moments, hide_their_moments: edge.hide_their_moments };
        let decoded = state::Edge {
            listed: edge.listed,
            blocked: edge.blocked,
            version: edge.version,
            since: edge.since,
            starred: edge.starred,
            permissions,
            tags: edge.tags,
        };
        (edge.other.into(), decoded)
    });
    Ok(state::State {
        changes: hot.changes,
        day: hot.day,
        asked_today: hot.asked_today,
        edges: edges.collect(),
        sent: cold.sent.into_iter().map(|sent| (sent.other.into(), state::Sent { time: sent.time, unanswered: sent.unanswered })).collect(),
        received: cold.received.into_iter().map(|received| (received.other.into(), received.time)).collect(),
        tags: cold.tags.into_iter().map(|tag| (tag.number, tag.name)).collect(),
    })
}
