//! The conversation processor: who may write, and the one order of messages that everybody sees. It knows its members and how the two of a
//! direct conversation stand to each other because graph tells it; it never asks. A group is the same with more members, and its changes have
//! their places in the same order.

mod delivery;
mod group;
mod recall;
mod roster;
pub mod row;

use std::{ops::RangeInclusive, sync::Arc};

use bytes::Bytes;
use plaza_event_log::Topic;
use plaza_processor::{Effects, Emission, Envelope, Input, Key, Machine, Outcome, ReplyWhen, StateRow};
use plaza_proto::chat::v1::SendMessageResponse;
use plaza_topics::{
    CHAT, INBOX,
    conversation::{Kind, Payload, Send, Sides},
    inbox,
};
use plaza_types::{ClientId, ConversationId, Reason, UserId};
use prost::Message as _;
use smallvec::{SmallVec, smallvec};

use self::{
    delivery::Delivery,
    roster::{Role, Roster},
};
use super::event;
pub use group::Changed;
pub use row::Row;

/// The machine. Knows the number of inbox partitions, because it addresses them.
#[derive(Debug)]
pub struct Conversations {
    /// How many partitions the inbox topic has.
    pub inbox_partitions: u32,
}

/// What readers are told: a message was taken back. A replay tells it again, before anybody finds the row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recalled {
    /// Where.
    pub conversation: ConversationId,
    /// Its number.
    pub sequence: u64,
    /// What is left of it, as a stored message is encoded.
    pub event: Bytes,
}

/// What is kept of a conversation.
#[derive(Debug, Clone, Default)]
pub struct State {
    recent: Recent,
    roster: Arc<Roster>,
}

/// Changes with every message.
#[derive(Clone, PartialEq, prost::Message)]
struct Recent {
    /// The newest sequence.
    #[prost(uint64, tag = "1")]
    head: u64,
    /// When that was, microseconds.
    #[prost(uint64, tag = "2")]
    time: u64,
    /// How many of the sequences are changes of the group and no messages.
    #[prost(uint64, tag = "3")]
    notices: u64,
    /// The messages taken back most recently: each is told once.
    #[prost(uint64, repeated, tag = "4")]
    recalled: Vec<u64>,
    /// The newest message that calls everybody.
    #[prost(message, optional, tag = "5")]
    called: Option<CalledAll>,
}

/// A message that calls everybody.
#[derive(Clone, PartialEq, prost::Message)]
struct CalledAll {
    #[prost(uint64, tag = "1")]
    sequence: u64,
    #[prost(bytes = "bytes", tag = "2")]
    sender: Bytes,
    /// The newest such message before it by somebody else; 0 for none.
    #[prost(uint64, tag = "3")]
    before: u64,
}

impl Conversations {
    fn sides(&self, conversation: ConversationId, sides: &Sides, state: &mut State, effects: &mut Effects<Self>) {
        if let Some(mut roster) = state.roster.merged(conversation, &sides.sides) {
            let opens = !roster.open && roster.listed();
            roster.open |= opens;
            state.roster = Arc::new(roster);
            effects.touch_cold();
            if opens && self.open(conversation, sides, state, effects) {
                return;
            }
        }
        // Nobody else will answer: the conversation was open already, or is not to be.
        if let Some(answer) = decoded(&sides.answer) {
            effects.reply(answer, ReplyWhen::Written);
        }
    }

    /// Tells both; true when the inbox of one of them gives the answer.
    fn open(&self, conversation: ConversationId, sides: &Sides, state: &State, effects: &mut Effects<Self>) -> bool {
        let members = &state.roster.members;
        let event = event::joined(conversation, members.iter().map(|member| &member.user));
        let mut answered = false;
        for member in members {
            let peer = members.iter().find(|other| other.user != member.user);
            let answers = !sides.answer.is_empty() && sides.answer_to == member.user;
            answered |= answers;
            let opened = inbox::Opened {
                user: member.user.clone(),
                conversation: conversation.to_key(),
                peer: peer.map(|peer| peer.user.clone()).unwrap_or_default(),
                joined_at: 0,
                event: event.clone(),
                answer: if answers { sides.answer.clone() } else { Bytes::new() },
            };
            effects.emit(Emission {
                topic: INBOX,
                key: member.user.clone(),
                partition: None,
                payload: inbox::Payload { kind: Some(inbox::Kind::Opened(opened)) }.encode_to_vec().into(),
                carry_reply: answers,
            });
        }
        answered
    }

    fn send(&self, input: &Input<'_, Payload>, conversation: ConversationId, send: &Send, state: &mut State, effects: &mut Effects<Self>) {
        let asked = UserId::from_slice(&input.envelope.caller).zip(ClientId::from_slice(&input.envelope.request));
        let roster = Arc::clone(&state.roster);
        let member = roster.member(&input.envelope.caller).filter(|_| roster.open);
        let Some(((sender, client), member)) = asked.zip(member) else {
            return refuse(effects, Reason::NotFound, "conversation", "no such conversation");
        };
        match &roster.group {
            None if roster.friends() => {}
            None => return refuse(effects, Reason::NotAContact, "conversation", "the two are not in each other's lists"),
            Some(group) if group.dissolved => return refuse(effects, Reason::GroupDissolved, "conversation", "the group is dissolved"),
            Some(_) => {}
        }
        if !send.quote.is_empty() && !(member.joined_at + 1..=state.recent.head).contains(&send.quoted) {
            return refuse(effects, Reason::InvalidArgument, "quote.sequence", "no such message in the conversation");
        }
        if !send.mentions.iter().all(|user| roster.has(user)) {
            return refuse(effects, Reason::InvalidArgument, "mentions", "not a member of the conversation");
        }
        if send.mentions_all && roster.group.is_none() {
            return refuse(effects, Reason::InvalidArgument, "mentions_all", "only in a group");
        }
        if send.mentions_all && member.role() < Role::Admin {
            return refuse(effects, Reason::RoleRequired, "mentions_all", "only owner and admins call everybody");
        }
        let sequence = state.recent.head + 1;
        (state.recent.head, state.recent.time) = (sequence, input.time);
        let event = event::message(&event::Message {
            conversation,
            sequence,
            sender,
            client,
            time: input.time,
            content: &send.content,
            quote: &send.quote,
            mentions: &send.mentions,
            mentions_all: send.mentions_all,
        });
        let delivery = Delivery { sender: Some(sender), mentions: &send.mentions, ..Delivery::of(conversation, sequence, &event) };
        self.deliver(&roster, delivery, effects);
        effects.row(Row::Message { conversation, sequence, event });
        effects.row(Row::Sent { conversation, user: sender, sequence });
        if send.mentions_all {
            effects.row(state.call_everybody(conversation, sender));
        }
        effects.row(Row::Head { conversation, head: sequence, time: input.time });
        let response =
            SendMessageResponse { conversation_id: conversation.to_string(), sequence, sent_at: Some(event::timestamp(input.time)) };
        effects.reply(Outcome::accepted(response.encode_to_vec()), ReplyWhen::Decided);
    }
}

impl State {
    /// The message at the head calls everybody.
    fn call_everybody(&mut self, conversation: ConversationId, sender: UserId) -> Row {
        let sequence = self.recent.head;
        let before = match &self.recent.called {
            Some(last) if last.sender == sender.as_bytes()[..] => last.before,
            Some(last) => last.sequence,
            None => 0,
        };
        self.recent.called = Some(CalledAll { sequence, sender: sender.to_key(), before });
        Row::CalledAll { conversation, sequence, sender, before }
    }
}

impl Machine for Conversations {
    type Payload = Payload;
    type State = State;
    type Row = Row;
    type Announcement = Recalled;

    const NAME: &'static str = "conversation";
    const TOPIC: Topic = CHAT;
    const RULES: RangeInclusive<u32> = super::RULES;

    fn keys(&self, record_key: &Bytes, _: &Envelope, _: &Payload) -> SmallVec<[Key; 4]> {
        match ConversationId::from_slice(record_key) {
            // Copied, because a key outlives its record.
            Some(conversation) => smallvec![Key(conversation.to_key())],
            None => SmallVec::new(),
        }
    }

    fn apply(&self, input: Input<'_, Payload>, _: usize, key: &Key, state: &mut State, effects: &mut Effects<Self>) {
        let Some(conversation) = ConversationId::from_slice(&key.0) else { return };
        match &input.payload.kind {
            Some(Kind::Send(send)) => self.send(&input, conversation, send, state, effects),
            Some(Kind::Sides(sides)) => self.sides(conversation, sides, state, effects),
            Some(Kind::Recall(recall)) => self.recall(&input, conversation, recall, state, effects),
            Some(kind) => group::decide(self, &input, conversation, kind, state, effects),
            None => {}
        }
    }

    fn encode(&self, state: &State, cold: bool) -> (Bytes, Option<Bytes>) {
        (state.recent.encode_to_vec().into(), cold.then(|| state.roster.encode_to_vec().into()))
    }

    fn decode(&self, row: &StateRow) -> Result<State, prost::DecodeError> {
        Ok(State { recent: Recent::decode(row.hot.clone())?, roster: Arc::new(Roster::decode(&row.cold[..])?) })
    }
}

fn refuse(effects: &mut Effects<Conversations>, reason: Reason, subject: &str, message: &str) {
    effects.reply(Outcome::refused(reason, subject, message), ReplyWhen::Decided);
}

/// The answer that came with a record, if one did.
pub(super) fn decoded(answer: &Bytes) -> Option<Outcome> {
    if answer.is_empty() { None } else { Outcome::decode(answer.clone()).ok() }
}
