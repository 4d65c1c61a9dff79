//! The state machine of the topic `graph`: keyed by user, each record decided for the one user whose edges it is about.

use std::ops::RangeInclusive;

use bytes::Bytes;
use plaza_event_log::Topic;
use plaza_processor::{Effects, Envelope, Input, Key, Machine, StateRow};
use plaza_topics::{
    EDGES, GRAPH,
    graph::{Kind, Payload},
};
use plaza_types::{ClientId, UserId};
use prost::DecodeError;
use smallvec::{SmallVec, smallvec};

use super::{Row, State, emit, rules::Turn, stored};

/// The machine.
#[derive(Debug, Clone, Copy)]
pub struct Graph {
    /// Partitions of the topic `timeline`: what is spread names viewers of one partition in one record.
    pub timeline_partitions: u32,
}

impl Machine for Graph {
    type Payload = Payload;
    type State = State;
    type Row = Row;
    type Announcement = ();

    const NAME: &'static str = "graph";
    const TOPIC: Topic = GRAPH;
    /// What is spread has the number of the rules that its post was decided by. Nothing here differs between them.
    const RULES: RangeInclusive<u32> = 1..=2;

    /// A device that is told of a contact reads it. Copies of edges must be known to be old before a row says so.
    fn after_rows(&self, topic: Topic) -> bool {
        topic != EDGES
    }

    fn keys(&self, record_key: &Bytes, envelope: &Envelope, payload: &Payload) -> SmallVec<[Key; 4]> {
        let Some(owner) = UserId::from_slice(record_key) else { return smallvec![] };
        // Nobody decides over another user's edges, and nobody has an edge to themself but for the refusal of one.
        let own = match payload.kind {
            None => false,
            Some(Kind::Spread(_)) => payload.other.is_empty() && envelope.caller.is_empty(),
            Some(Kind::Asked(_) | Kind::Accepted(_)) => UserId::from_slice(&payload.other).is_some_and(|other| other != owner),
            Some(_) => {
                envelope.caller == *record_key
                    && ClientId::from_slice(&envelope.request).is_some()
                    && UserId::from_slice(&payload.other).is_some()
            }
        };
        if own { smallvec![Key(record_key.clone())] } else { smallvec![] }
    }

    fn apply(&self, input: Input<'_, Payload>, _place: usize, key: &Key, state: &mut State, effects: &mut Effects<Self>) {
        let Some(owner) = UserId::from_slice(&key.0) else { return };
        if let Some(Kind::Spread(spread)) = &input.payload.kind {
            return emit::spread(owner, state, spread, self.timeline_partitions, |emission| effects.emit(emission));
        }
        let Some(other) = UserId::from_slice(&input.payload.other) else { return };
        let mut turn = Turn { owner, other, now: input.time, state, effects };
        match &input.payload.kind {
            Some(Kind::Asked(asked)) => turn.asked(asked),
            Some(Kind::Accepted(accepted)) => turn.accepted(accepted),
            Some(_) if owner == other => turn.refuse_yourself(),
            Some(Kind::Ask(ask)) => {
                if let Some(request) = ClientId::from_slice(&input.envelope.request) {
                    turn.ask(ask, request);
                }
            }
            Some(Kind::Accept(_)) => turn.accept(),
            Some(Kind::Ignore(_)) => turn.ignore(),
            Some(Kind::Update(update)) => turn.update(update),
            Some(Kind::Remove(_)) => turn.remove(),
            Some(Kind::Block(_)) => turn.block(),
            Some(Kind::Unblock(_)) => turn.unblock(),
            Some(Kind::Spread(_)) | None => {}
        }
    }

    fn encode(&self, state: &State, cold: bool) -> (Bytes, Option<Bytes>) {
        stored::encode(state, cold)
    }

    fn decode(&self, row: &StateRow) -> Result<State, DecodeError> {
        stored::decode(row)
    }
}
