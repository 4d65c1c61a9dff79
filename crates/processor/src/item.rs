//! From a record of the log to something that can be decided.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use plaza_event_log::Stored;
use plaza_types::{ClientId, UserId};
use prost::Message as _;
use smallvec::SmallVec;

use crate::{
    Envelope, IdKey, Input, Key, Machine, Position, ReplyTo,
    marks::Marks,
    remembered::{Asked, Known},
    write_time::WriteTimes,
};

/// A record that is to be decided.
pub(crate) struct Item<P> {
    pub(crate) position: Position,
    /// Its write time.
    pub(crate) time: u64,
    pub(crate) envelope: Envelope,
    pub(crate) payload: P,
    pub(crate) keys: SmallVec<[Key; 4]>,
    /// Of a command: by whom it was asked under which id.
    pub(crate) asked: Option<Asked>,
    /// Of a command: what the store knew of its id.
    pub(crate) history: Option<Known>,
    /// As it was, for parking and for its headers.
    pub(crate) record: Stored,
}

impl<P> Item<P> {
    pub(crate) fn input(&self) -> Input<'_, P> {
        Input { envelope: &self.envelope, payload: &self.payload, position: self.position, time: self.time }
    }

    /// What a command's request id is remembered under: the deciding key, the caller and the id.
    pub(crate) fn id(&self) -> Option<IdKey> {
        let key = self.keys.first().filter(|_| self.asked.is_some())?;
        Some(IdKey { key: key.clone(), caller: self.envelope.caller.clone(), request: self.envelope.request.clone() })
    }
}

/// What a record turned out to be.
#[expect(clippy::large_enum_variant, reason = "taken apart at once, and nearly all are items")]
pub(crate) enum Read<P> {
    /// To be decided.
    Item(Item<P>),
    /// An emission that was seen before.
    Duplicate,
    /// To be parked: nothing says which keys it concerns.
    Undecodable(Stored, Option<ReplyTo>),
}

/// An envelope, or why there is none.
pub(crate) fn envelope<M: Machine>(record: &Stored) -> Result<Option<Envelope>, u32> {
    match Envelope::decode(record.record.value.clone()) {
        Ok(envelope) if M::RULES.contains(&envelope.rules) => Ok(Some(envelope)),
        // Nobody stamps 0. An empty value, for one, is an envelope with nothing in it, and no binary will ever know what to do with that.
        Ok(Envelope { rules: 0, .. }) => Ok(None),
        // The number that this binary does not know is no reason to park: another binary will.
        Ok(envelope) => Err(envelope.rules),
        Err(_) => Ok(None),
    }
}

/// Reads one record. Its write time is taken and its mark is set, whatever it is.
pub(crate) fn read<M: Machine>(
    machine: &M,
    record: Stored,
    envelope: Option<Envelope>,
    generation: u32,
    times: &mut WriteTimes,
    marks: &mut Marks,
) -> Read<M::Payload> {
    let time = times.next(record.appended, envelope.as_ref().map_or(0, |envelope| envelope.time));
    let Some(envelope) = envelope else { return Read::Undecodable(record, None) };
    if envelope.origin.as_ref().is_some_and(|origin| marks.has_seen(origin)) {
        return Read::Duplicate;
    }
    let reply_to = envelope.reply_to;
    let decoded = asked(&envelope).zip(M::Payload::decode(envelope.payload.clone()).ok());
    let Some((asked, payload)) = decoded else { return Read::Undecodable(record, reply_to) };
    let Ok(keys) = catch_unwind(AssertUnwindSafe(|| machine.keys(&record.record.key, &envelope, &payload))) else {
        return Read::Undecodable(record, reply_to);
    };
    let position = Position { generation, offset: record.offset };
    Read::Item(Item { position, time, envelope, payload, keys, asked, history: None, record })
}

/// Who asks under which id; `Some(None)` for an emission, `None` for ids that are none.
fn asked(envelope: &Envelope) -> Option<Option<Asked>> {
    if envelope.request.is_empty() {
        return Some(None);
    }
    let request = ClientId::from_slice(&envelope.request)?;
    // A service that asks on nobody's behalf has no caller.
    let nobody = Bytes::from_static(&[0; 16]);
    let caller = if envelope.caller.is_empty() || mistake!(IdOfAnySender) { &nobody } else { &envelope.caller };
    Some(Some((UserId::from_slice(caller)?, request)))
}
