//! What a processor's author writes: a pure state machine.

use std::{fmt, ops::RangeInclusive};

use bytes::Bytes;
use plaza_event_log::Topic;
use smallvec::SmallVec;

use crate::{Envelope, Outcome, StateRow};

/// What a state is kept under, at most 64 bytes; unique within the machine.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(pub Bytes);

/// A place in a topic's log, as everything that is compared with one carries it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Message)]
pub struct Position {
    /// The topic's generation; positions of another generation compare as "not applied".
    #[prost(uint32, tag = "1")]
    pub generation: u32,
    /// The offset.
    #[prost(uint64, tag = "2")]
    pub offset: u64,
}

/// One record as one of its keys sees it.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a, P> {
    /// The wrapping: caller, request id, reply address.
    pub envelope: &'a Envelope,
    /// The payload, decoded once per record.
    pub payload: &'a P,
    /// Where the record is.
    pub position: Position,
    /// The record's write time, microseconds: the only time a decision may use.
    pub time: u64,
}

/// A deterministic state machine: the same state and input always give the same state and effects. No clock, no randomness, no I/O.
pub trait Machine: Send + Sync + 'static {
    /// What the records of the input topic carry.
    type Payload: prost::Message + Default + Send + Sync + 'static;
    /// What is kept for each key. `Default` is the state of a key never seen.
    type State: Clone + Default + fmt::Debug + Send + Sync + 'static;
    /// A row outside the state, written with the record's write time.
    type Row: Clone + fmt::Debug + Send + Sync + 'static;
    /// What attached readers are told, in log order, once the record is durable (possibly before its rows are written).
    type Announcement: fmt::Debug + Send + 'static;

    /// Its name in tables and metrics.
    const NAME: &'static str;
    /// What it reads.
    const TOPIC: Topic;
    /// The rules it knows; a record stamped with another number makes the owner give the partition up.
    const RULES: RangeInclusive<u32> = 1..=1;

    /// The keys a record touches, in an order that is a function of the record. The first one decides a command and remembers its request id.
    /// All of them belong to the record's partition. An empty list is a record that concerns nobody.
    fn keys(&self, record_key: &Bytes, envelope: &Envelope, payload: &Self::Payload) -> SmallVec<[Key; 4]>;

    /// Decides one record for one of its keys (`place` is the key's place in [`Machine::keys`]). Called only for records above the key's
    /// `applied`, and for a command only when its request id is new and its deadline has not passed. A panic parks the record.
    fn apply(&self, input: Input<'_, Self::Payload>, place: usize, key: &Key, state: &mut Self::State, effects: &mut Effects<Self>);

    /// Tells attached readers what a record came to that its key had applied before: another owner did that, and told its own readers of it, while
    /// those of this one may have looked into the store earlier. The state can be that of later records; what is told twice must do no harm.
    fn repeat(&self, input: Input<'_, Self::Payload>, key: &Key, state: &Self::State, announcements: &mut Vec<Self::Announcement>) {
        let _ = (input, key, state, announcements);
    }

    /// Whether whoever hears of an emission to a topic can read the rows that came with it: it is then appended once they are written, which costs
    /// the time of a write on the way. For emissions that make others read. Those that make others forget what they keep go before the rows.
    fn after_rows(&self, topic: Topic) -> bool {
        let _ = topic;
        false
    }

    /// The stored form: `hot` is written with every change, `cold` only when [`Effects::touch_cold`] was called since the last write.
    fn encode(&self, state: &Self::State, cold: bool) -> (Bytes, Option<Bytes>);

    /// The state of a stored row (`hot` and `cold` as `encode` gave them; empty when never written).
    ///
    /// # Errors
    /// Bytes that this binary cannot read: the partition is given up.
    fn decode(&self, row: &StateRow) -> Result<Self::State, prost::DecodeError>;
}

/// When a reply is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplyWhen {
    /// As soon as the record is durable: the decision can no longer change.
    Decided,
    /// When the rows that follow from it can be read too.
    Written,
}

/// A record for another topic (or the same), caused by this one.
#[derive(Debug, Clone)]
pub struct Emission {
    /// Where to.
    pub topic: Topic,
    /// Decides the partition unless `partition` is set; the key of the record.
    pub key: Bytes,
    /// The partition, for a record that names several keys of it.
    pub partition: Option<u32>,
    /// The payload of that topic, encoded.
    pub payload: Bytes,
    /// Whether the reply address of this record travels on with it: whoever applies it answers the caller.
    pub carry_reply: bool,
}

/// What follows from one record for one key. Collected by `apply`; everything in it is written idempotently by the runtime.
pub struct Effects<M: Machine + ?Sized> {
    pub(crate) rows: Vec<M::Row>,
    pub(crate) emissions: Vec<Emission>,
    pub(crate) outcome: Option<(Outcome, ReplyWhen)>,
    pub(crate) remembered_outcome: Option<Outcome>,
    pub(crate) announcements: Vec<M::Announcement>,
    pub(crate) cold: bool,
}

impl<M: Machine + ?Sized> Default for Effects<M> {
    fn default() -> Self {
        Self { rows: Vec::new(), emissions: Vec::new(), outcome: None, remembered_outcome: None, announcements: Vec::new(), cold: false }
    }
}

impl<M: Machine + ?Sized> Effects<M> {
    /// Writes a row. Rewriting the same key later is fine; deleting is writing a value that says "gone".
    pub fn row(&mut self, row: M::Row) {
        self.rows.push(row);
    }

    /// Emits a record. Its place among this key's emissions must follow from the record and the state alone. At most 1,023 for one key.
    pub fn emit(&mut self, emission: Emission) {
        self.emissions.push(emission);
    }

    /// Answers the command (remembered for its request id when this is the deciding key), or the caller whose reply address came with an emission.
    /// A command whose deciding key gives no outcome is answered by somebody further on, who got the address with an emission.
    pub fn reply(&mut self, outcome: Outcome, when: ReplyWhen) {
        self.outcome = Some((outcome, when));
    }

    /// Remembers an outcome for the command's request id without answering: somebody further on answers, who got the address with an emission.
    pub fn remember(&mut self, outcome: Outcome) {
        self.remembered_outcome = Some(outcome);
    }

    /// Tells attached readers.
    pub fn announce(&mut self, announcement: M::Announcement) {
        self.announcements.push(announcement);
    }

    /// Says that the cold part of the state changed.
    pub fn touch_cold(&mut self) {
        self.cold = true;
    }

    /// The rows so far, for tests of machines.
    #[must_use]
    pub fn rows(&self) -> &[M::Row] {
        &self.rows
    }

    /// The emissions so far, for tests of machines.
    #[must_use]
    pub fn emissions(&self) -> &[Emission] {
        &self.emissions
    }

    /// The outcome so far, for tests of machines.
    #[must_use]
    pub fn outcome(&self) -> Option<&Outcome> {
        self.outcome.as_ref().map(|(outcome, _)| outcome)
    }

    /// What is remembered for the command's request id so far, for tests of machines.
    #[must_use]
    pub fn to_remember(&self) -> Option<&Outcome> {
        self.remembered_outcome.as_ref().or_else(|| self.outcome())
    }

    /// Whether the cold part is to be written, for tests of machines.
    #[must_use]
    pub fn cold(&self) -> bool {
        self.cold
    }

    /// The announcements so far, for tests of machines.
    #[must_use]
    pub fn announcements(&self) -> &[M::Announcement] {
        &self.announcements
    }
}

/// Who is told announcements: the live side of a service.
pub trait Announce<A>: Send + Sync {
    /// Told in log order for each partition, when the records are durable. Must not block.
    fn announce(&self, partition: u32, announcements: Vec<A>);

    /// The partition is this process's from now on. Of every record before its checkpoint the rows can be read by now, and every record from
    /// there on will be announced, or repeated: whoever looks into the store from now on misses nothing.
    fn assigned(&self, partition: u32);

    /// The partition is no longer this process's: its attached readers must go elsewhere.
    fn revoked(&self, partition: u32);
}
