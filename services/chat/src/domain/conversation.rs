//! The conversation processor: who may write, and the one order of messages that everybody sees. It knows its members and how the two of a
//! direct conversation stand to each other because graph tells it; it never asks.

use std::sync::Arc;

use bytes::Bytes;
use plaza_event_log::Topic;
use plaza_processor::{Effects, Emission, Envelope, Input, Key, Machine, Outcome, ReplyWhen, StateRow};
use plaza_proto::chat::v1::SendMessageResponse;
use plaza_topics::{
    CHAT, INBOX,
    conversation::{Kind, Payload, Send, Side, Sides},
    inbox,
};
use plaza_types::{ClientId, ConversationId, Reason, UserId, partition};
use prost::Message as _;
use smallvec::{SmallVec, smallvec};

use super::event;

/// The machine. Knows the number of inbox partitions, because it addresses them.
#[derive(Debug)]
pub struct Conversations {
    /// How many partitions the inbox topic has.
    pub inbox_partitions: u32,
}

/// What is kept of a conversation.
#[derive(Debug, Clone, Default)]
pub struct State {
    recent: Recent,
    roster: Arc<Roster>,
}

/// Changes with every message.
#[derive(Clone, Copy, PartialEq, prost::Message)]
struct Recent {
    /// The newest sequence.
    #[prost(uint64, tag = "1")]
    head: u64,
    /// When that was, microseconds.
    #[prost(uint64, tag = "2")]
    time: u64,
}

/// Who is in it.
#[derive(Clone, PartialEq, prost::Message)]
struct Roster {
    /// Whether it was ever opened; until then it does not exist for anybody.
    #[prost(bool, tag = "1")]
    open: bool,
    /// The members; of a direct conversation its two sides.
    #[prost(message, repeated, tag = "2")]
    members: Vec<Member>,
}

/// A member, and for a direct conversation how this one stands to the other.
#[derive(Clone, PartialEq, prost::Message)]
struct Member {
    #[prost(bytes = "bytes", tag = "1")]
    user: Bytes,
    #[prost(uint64, tag = "2")]
    version: u64,
    #[prost(bool, tag = "3")]
    lists: bool,
    #[prost(bool, tag = "4")]
    blocks: bool,
}

/// A row that readers see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Row {
    /// A message, as [`event::message`] encodes it.
    Message {
        /// Where.
        conversation: ConversationId,
        /// Its number.
        sequence: u64,
        /// What everybody is told.
        event: Bytes,
    },
    /// A member's newest message: tells a reader whether that member's own count of sends is complete.
    Sent {
        /// Where.
        conversation: ConversationId,
        /// Who.
        user: UserId,
        /// The newest sequence of this sender.
        sequence: u64,
    },
    /// The watermark: everything up to it can be read. Written after the messages.
    Head {
        /// Where.
        conversation: ConversationId,
        /// The newest sequence.
        head: u64,
        /// When that was, microseconds.
        time: u64,
    },
}

impl Roster {
    fn has(&self, user: &[u8]) -> bool {
        self.members.iter().any(|member| member.user == user)
    }

    /// Whether the two list each other and neither blocks.
    fn friends(&self) -> bool {
        self.listed() && self.members.iter().all(|member| !member.blocks)
    }

    fn listed(&self) -> bool {
        self.members.len() == 2 && self.members.iter().all(|member| member.lists)
    }

    /// Takes what is newer. `None` when nothing changes.
    fn merged(&self, conversation: ConversationId, sides: &[Side]) -> Option<Self> {
        let mut merged = None;
        for side in sides {
            let pair = UserId::from_slice(&side.user).zip(UserId::from_slice(&side.other));
            if pair.is_none_or(|(user, other)| ConversationId::direct(user, other) != conversation) {
                continue;
            }
            let roster: &mut Self = merged.get_or_insert_with(|| self.clone());
            let place = roster.members.iter().position(|member| member.user == side.user).unwrap_or_else(|| {
                roster.members.push(Member { user: Bytes::copy_from_slice(&side.user), ..Member::default() });
                roster.members.len() - 1
            });
            let known = &mut roster.members[place];
            if side.version > known.version {
                known.version = side.version;
                known.lists = side.lists;
                known.blocks = side.blocks;
            }
        }
        merged.filter(|merged| merged != self)
    }
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
        let roster = &state.roster;
        let Some((sender, client)) = asked.filter(|(sender, _)| roster.open && roster.has(sender.as_bytes())) else {
            return refuse(effects, Reason::NotFound, "conversation", "no such conversation");
        };
        if !roster.friends() {
            return refuse(effects, Reason::NotAContact, "conversation", "the two are not in each other's lists");
        }
        if !send.quote.is_empty() && !(1..=state.recent.head).contains(&send.quoted) {
            return refuse(effects, Reason::InvalidArgument, "quote.sequence", "no such message in the conversation");
        }
        if !send.mentions.iter().all(|user| roster.has(user)) {
            return refuse(effects, Reason::InvalidArgument, "mentions", "not a member of the conversation");
        }
        let sequence = state.recent.head + 1;
        state.recent = Recent { head: sequence, time: input.time };
        let event = event::message(&event::Message {
            conversation,
            sequence,
            sender,
            client,
            time: input.time,
            content: &send.content,
            quote: &send.quote,
            mentions: &send.mentions,
        });
        self.fan_out(conversation, sequence, sender, send, &event, &state.roster, effects);
        effects.row(Row::Message { conversation, sequence, event });
        effects.row(Row::Sent { conversation, user: sender, sequence });
        effects.row(Row::Head { conversation, head: sequence, time: input.time });
        let response =
            SendMessageResponse { conversation_id: conversation.to_string(), sequence, sent_at: Some(event::timestamp(input.time)) };
        effects.reply(Outcome::accepted(response.encode_to_vec()), ReplyWhen::Decided);
    }

    /// One record for each inbox partition that has members.
    #[expect(clippy::too_many_arguments, reason = "one message taken apart, used once")]
    fn fan_out(
        &self,
        conversation: ConversationId,
        sequence: u64,
        sender: UserId,
        send: &Send,
        event: &Bytes,
        roster: &Roster,
        effects: &mut Effects<Self>,
    ) {
        let mut parts: SmallVec<[(u32, Vec<Bytes>); 2]> = SmallVec::new();
        for member in &roster.members {
            let partition = partition::of(&member.user, self.inbox_partitions);
            match parts.iter_mut().find(|(known, _)| *known == partition) {
                Some((_, users)) => users.push(member.user.clone()),
                None => parts.push((partition, vec![member.user.clone()])),
            }
        }
        for (partition, recipients) in parts {
            let called = |user: &&Bytes| **user != sender.as_bytes()[..] && recipients.contains(*user);
            let message = inbox::Message {
                conversation: conversation.to_key(),
                sequence,
                sender: sender.to_key(),
                event: event.clone(),
                mentioned: send.mentions.iter().filter(called).cloned().collect(),
                recipients,
            };
            effects.emit(Emission {
                topic: INBOX,
                key: Bytes::new(),
                partition: Some(partition),
                payload: inbox::Payload { kind: Some(inbox::Kind::Message(message)) }.encode_to_vec().into(),
                carry_reply: false,
            });
        }
    }
}

impl Machine for Conversations {
    type Payload = Payload;
    type State = State;
    type Row = Row;
    type Announcement = ();

    const NAME: &'static str = "conversation";
    const TOPIC: Topic = CHAT;

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
