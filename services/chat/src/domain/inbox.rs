//! The inbox processor: gives everything that reaches a user the next number of that user's inbox, and keeps what a user alone decides
//! about a conversation. Two kinds of key share a partition: the user, and the user with one conversation. A plain recipient of a message
//! costs a change of the first only; the second is touched by own sends, by being called, and by the user's own commands.

mod cursor;
mod member;

use std::ops::RangeInclusive;

use bytes::Bytes;
use plaza_event_log::Topic;
use plaza_processor::{Effects, Emission, Envelope, Input, Key, Machine, Outcome, ReplyWhen, StateRow};
use plaza_proto::chat::v1::MarkReadResponse;
use plaza_topics::{
    INBOX,
    inbox::{self, Kind, Opened, Payload, Told},
};
use plaza_types::{ConversationId, Reason, UserId};
use prost::Message as _;
use smallvec::SmallVec;

use super::event;
pub use cursor::{Cursors, Irregular};
pub use member::{Membership, Reading, Run};

/// The machine.
#[derive(Debug)]
pub struct Inboxes;

/// What is kept of a key.
#[derive(Debug, Clone, Default)]
pub enum State {
    /// Nothing yet.
    #[default]
    New,
    /// Of a user.
    User(Cursors),
    /// Of a user in a conversation.
    Member(Box<Member>),
}

/// What a user keeps about a conversation.
#[derive(Debug, Clone, Default)]
pub struct Member {
    reading: Reading,
    membership: Membership,
}

/// The part of a state written with every change.
#[derive(Clone, PartialEq, prost::Message)]
struct Hot {
    #[prost(oneof = "Which", tags = "1, 2")]
    which: Option<Which>,
}

const HOT_USER: u32 = 1;
const HOT_MEMBER: u32 = 2;

#[derive(Clone, PartialEq, prost::Oneof)]
enum Which {
    #[prost(message, tag = "1")]
    User(Cursors),
    #[prost(message, tag = "2")]
    Member(Reading),
}

/// What stands at one place of an inbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    /// A message, stored once with its conversation.
    Message {
        /// Where.
        conversation: ConversationId,
        /// Its number there.
        sequence: u64,
    },
    /// The `event` field of an `Entry`, encoded.
    Event(Bytes),
}

/// A row that readers see.
#[derive(Debug, Clone, PartialEq)]
pub enum Row {
    /// What stands at one place of an inbox.
    Entry {
        /// Whose inbox.
        user: UserId,
        /// The place.
        cursor: u64,
        /// What.
        reference: Reference,
    },
    /// The watermark: everything up to it can be read. Written after the entries.
    Head {
        /// Whose inbox.
        user: UserId,
        /// The newest cursor.
        head: u64,
    },
    /// That and how a user is in a conversation.
    Membership {
        /// The user.
        user: UserId,
        /// The conversation.
        conversation: ConversationId,
        /// How.
        membership: Membership,
    },
    /// How far a user has read, and what of the rest is the user's own.
    Reading {
        /// The user.
        user: UserId,
        /// The conversation.
        conversation: ConversationId,
        /// How far.
        reading: Reading,
    },
    /// A message that a user deleted for themself.
    Deleted {
        /// The user.
        user: UserId,
        /// The conversation.
        conversation: ConversationId,
        /// The message.
        sequence: u64,
    },
}

/// What the live side is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Announcement {
    /// A new entry.
    Entry {
        /// Whose inbox.
        user: UserId,
        /// Its place.
        cursor: u64,
        /// The `event` field of an `Entry`, encoded.
        event: Bytes,
        /// Which message it is, if it is one.
        message: Option<(ConversationId, u64)>,
    },
    /// There are entries up to this place, and another owner may have told its devices of them.
    Head {
        /// Whose inbox.
        user: UserId,
        /// The newest place.
        cursor: u64,
    },
    /// A message was taken back.
    Recalled {
        /// Where.
        conversation: ConversationId,
        /// Its number there.
        sequence: u64,
        /// What is left of it, as a stored message is encoded.
        event: Bytes,
    },
    /// A sequence that should not have come.
    Irregular(Irregular),
}

/// The key of a user in a conversation.
fn member_key(user: &[u8], conversation: &[u8]) -> Key {
    Key(Bytes::from([user, conversation].concat()))
}

fn split(key: &Key) -> Option<(UserId, Option<ConversationId>)> {
    let (user, rest) = key.0.split_at_checked(16)?;
    let conversation = if rest.is_empty() { None } else { Some(ConversationId::from_slice(rest)?) };
    Some((UserId::from_slice(user)?, conversation))
}

/// At the user's key: the next place is taken.
fn enter(user: UserId, cursors: &mut Cursors, event: &Bytes, message: Option<(ConversationId, u64)>, effects: &mut Effects<Inboxes>) {
    let cursor = cursors.next();
    let reference = match message {
        Some((conversation, sequence)) => Reference::Message { conversation, sequence },
        None => Reference::Event(event.clone()),
    };
    effects.row(Row::Entry { user, cursor, reference });
    effects.row(Row::Head { user, head: cursor });
    effects.announce(Announcement::Entry { user, cursor, event: event.clone(), message });
}

/// That a message was taken back, if a record says so.
fn recalled(payload: &Payload) -> Option<Announcement> {
    let Some(Kind::Told(Told { recalled: Some(recalled), .. })) = &payload.kind else { return None };
    let conversation = ConversationId::from_slice(&recalled.conversation)?;
    Some(Announcement::Recalled { conversation, sequence: recalled.sequence, event: recalled.event.clone() })
}

fn at_user(user: UserId, payload: &Payload, cursors: &mut Cursors, effects: &mut Effects<Inboxes>) {
    match &payload.kind {
        Some(Kind::Message(message)) => {
            let Some(conversation) = ConversationId::from_slice(&message.conversation) else { return };
            if message.joined.iter().any(|joined| *joined == user.as_bytes()[..]) {
                cursors.begin(conversation, message.sequence.saturating_sub(1));
            }
            if let Some(irregular) = cursors.follow(conversation, message.sequence) {
                effects.announce(Announcement::Irregular(irregular));
                if irregular == Irregular::Repeated {
                    return;
                }
            }
            enter(user, cursors, &message.event, Some((conversation, message.sequence)), effects);
            if let Some(answer) = super::conversation::decoded(&message.answer).filter(|_| message.answer_to == user.as_bytes()[..]) {
                effects.reply(answer, ReplyWhen::Written);
            }
        }
        Some(Kind::Told(told)) => {
            // Before the entry: whoever is told of it must not read the message any more.
            if let Some(recalled) = recalled(payload) {
                effects.announce(recalled);
            }
            enter(user, cursors, &told.event, None, effects);
        }
        Some(Kind::Event(event)) => enter(user, cursors, &event.event, None, effects),
        Some(Kind::Opened(opened)) => {
            if let Some(conversation) = ConversationId::from_slice(&opened.conversation) {
                cursors.begin(conversation, opened.joined_at);
            }
            if !opened.event.is_empty() {
                enter(user, cursors, &opened.event, None, effects);
            }
        }
        Some(Kind::MarkRead(_) | Kind::Update(_) | Kind::Delete(_)) | None => {}
    }
}

/// A user in a conversation, while one record is applied.
struct AtMember<'a> {
    user: UserId,
    conversation: ConversationId,
    member: &'a mut Member,
    effects: &'a mut Effects<Inboxes>,
}

impl AtMember<'_> {
    fn apply(&mut self, input: &Input<'_, Payload>) {
        let known = self.member.membership.known();
        match &input.payload.kind {
            Some(Kind::Opened(opened)) => self.opened(opened, input.time),
            Some(Kind::Message(message)) if message.sender.is_empty() => self.changed(message, input.time),
            Some(Kind::Message(message)) if known => self.message(message),
            Some(Kind::MarkRead(mark)) if known => self.mark_read(mark.sequence),
            Some(Kind::Update(update)) if known => self.update(update),
            Some(Kind::Delete(delete)) if known => self.delete(&delete.sequences),
            Some(Kind::MarkRead(_) | Kind::Update(_) | Kind::Delete(_)) => {
                let refusal = Outcome::refused(Reason::NotFound, "conversation", "no such conversation");
                self.effects.reply(refusal, ReplyWhen::Decided);
            }
            Some(Kind::Message(_) | Kind::Event(_) | Kind::Told(_)) | None => {}
        }
    }

    /// The user's time in a group begins or ends.
    fn changed(&mut self, message: &inbox::Message, time: u64) {
        let is_among = |users: &[Bytes]| users.iter().any(|user| *user == self.user.as_bytes()[..]);
        let (joins, leaves) = (is_among(&message.joined), is_among(&message.left));
        let membership = &mut self.member.membership;
        if joins {
            let joined_at = message.sequence.saturating_sub(1);
            membership.joined(joined_at, time);
            self.member.reading.move_to(joined_at);
            self.write_reading();
        } else if leaves {
            membership.leave(message.sequence, time, message.by_themselves, &message.title);
        }
        self.write_membership();
    }

    fn delete(&mut self, sequences: &[u64]) {
        let membership = &self.member.membership;
        let sequences: Vec<u64> = sequences.iter().copied().filter(|sequence| membership.covers(*sequence)).collect();
        for sequence in &sequences {
            self.effects.row(Row::Deleted { user: self.user, conversation: self.conversation, sequence: *sequence });
        }
        if !sequences.is_empty() {
            self.tell(event::deleted(self.conversation, &sequences));
        }
        self.effects.reply(Outcome::accepted(Bytes::new()), ReplyWhen::Written);
    }

    fn opened(&mut self, opened: &Opened, time: u64) {
        self.member.membership.open(opened, time);
        self.member.reading.move_to(opened.joined_at);
        self.write_membership();
        self.write_reading();
        if let Some(answer) = super::conversation::decoded(&opened.answer) {
            self.effects.reply(answer, ReplyWhen::Written);
        }
    }

    fn message(&mut self, message: &inbox::Message) {
        let reading = &mut self.member.reading;
        let before = reading.read;
        if message.sender == self.user.as_bytes()[..] {
            reading.sent(message.sequence);
        } else {
            reading.called(message.sequence);
        }
        let read = reading.read;
        self.write_reading();
        if read != before {
            self.tell(event::read(self.conversation, read));
        }
    }

    fn mark_read(&mut self, sequence: u64) {
        if self.member.reading.move_to(sequence) {
            self.write_reading();
            self.tell(event::read(self.conversation, sequence));
        }
        let response = MarkReadResponse { read: self.member.reading.read };
        self.effects.reply(Outcome::accepted(response.encode_to_vec()), ReplyWhen::Written);
    }

    fn update(&mut self, update: &inbox::Update) {
        if self.member.membership.update(update) {
            self.write_membership();
            self.tell(event::settings(self.member.membership.changed(self.conversation, update.head)));
        }
        self.effects.reply(Outcome::accepted(Bytes::new()), ReplyWhen::Written);
    }

    /// The place in the inbox is for the user's own key to give, so this travels as a record.
    fn tell(&mut self, event: Bytes) {
        let user = self.user.to_key();
        let event = inbox::Event { user: user.clone(), event };
        self.effects.emit(Emission {
            topic: INBOX,
            key: user,
            partition: None,
            payload: Payload { kind: Some(Kind::Event(event)) }.encode_to_vec().into(),
            carry_reply: false,
        });
    }

    fn write_membership(&mut self) {
        self.effects.touch_cold();
        let membership = self.member.membership.clone();
        self.effects.row(Row::Membership { user: self.user, conversation: self.conversation, membership });
    }

    fn write_reading(&mut self) {
        let reading = self.member.reading.clone();
        self.effects.row(Row::Reading { user: self.user, conversation: self.conversation, reading });
    }
}

impl Machine for Inboxes {
    type Payload = Payload;
    type State = State;
    type Row = Row;
    type Announcement = Announcement;

    const NAME: &'static str = "inbox";
    const TOPIC: Topic = INBOX;
    const RULES: RangeInclusive<u32> = super::RULES;

    fn keys(&self, _: &Bytes, envelope: &Envelope, payload: &Payload) -> SmallVec<[Key; 4]> {
        let mut keys = SmallVec::new();
        // Keys are copies, because they outlive their record.
        let user_key = |user: &Bytes| Key(Bytes::copy_from_slice(user));
        match &payload.kind {
            Some(Kind::Message(message)) => {
                keys.extend(message.recipients.iter().map(user_key));
                let sender = message.recipients.iter().find(|user| **user == message.sender);
                let touched = sender.into_iter().chain(&message.mentioned).chain(&message.joined).chain(&message.left);
                keys.extend(touched.map(|user| member_key(user, &message.conversation)));
            }
            Some(Kind::Event(event)) => keys.push(user_key(&event.user)),
            Some(Kind::Told(told)) => keys.extend(told.users.iter().map(user_key)),
            Some(Kind::Opened(opened)) => {
                keys.push(member_key(&opened.user, &opened.conversation));
                keys.push(user_key(&opened.user));
            }
            Some(Kind::MarkRead(mark)) => keys.push(member_key(&envelope.caller, &mark.conversation)),
            Some(Kind::Update(update)) => keys.push(member_key(&envelope.caller, &update.conversation)),
            Some(Kind::Delete(delete)) => keys.push(member_key(&envelope.caller, &delete.conversation)),
            None => {}
        }
        keys
    }

    fn apply(&self, input: Input<'_, Payload>, _: usize, key: &Key, state: &mut State, effects: &mut Effects<Self>) {
        match split(key) {
            Some((user, None)) => {
                if !matches!(state, State::User(_)) {
                    *state = State::User(Cursors::default());
                }
                if let State::User(cursors) = state {
                    at_user(user, input.payload, cursors, effects);
                }
            }
            Some((user, Some(conversation))) => {
                if !matches!(state, State::Member(_)) {
                    *state = State::Member(Box::default());
                }
                if let State::Member(member) = state {
                    AtMember { user, conversation, member, effects }.apply(&input);
                }
            }
            None => {}
        }
    }

    fn repeat(&self, input: Input<'_, Payload>, key: &Key, state: &State, announcements: &mut Vec<Announcement>) {
        let Some(((user, None), State::User(cursors))) = split(key).map(|key| (key, state)) else { return };
        announcements.extend(recalled(input.payload));
        announcements.push(Announcement::Head { user, cursor: cursors.head() });
    }

    fn encode(&self, state: &State, cold: bool) -> (Bytes, Option<Bytes>) {
        // As `Hot`, without a copy of what is in it: this happens for every delivery.
        let mut hot = Vec::new();
        let mut membership = None;
        match state {
            State::New => {}
            State::User(cursors) => prost::encoding::message::encode(HOT_USER, cursors, &mut hot),
            State::Member(member) => {
                prost::encoding::message::encode(HOT_MEMBER, &member.reading, &mut hot);
                membership = Some(&member.membership);
            }
        }
        (hot.into(), membership.filter(|_| cold).map(|membership| membership.encode_to_vec().into()))
    }

    fn decode(&self, row: &StateRow) -> Result<State, prost::DecodeError> {
        Ok(match Hot::decode(row.hot.clone())?.which {
            None => State::New,
            Some(Which::User(cursors)) => State::User(cursors),
            Some(Which::Member(reading)) => State::Member(Box::new(Member { reading, membership: Membership::decode(row.cold.clone())? })),
        })
    }
}
