//! Two small machines of the shapes that matter: conversations with members and dense sequences that fan out, and inboxes with two kinds of
//! key, dense cursors, announcements and records to themselves.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use plaza_event_log::Topic;
use plaza_processor::{Effects, Emission, Envelope, Input, Key, Machine, Outcome, ReplyWhen, StateRow};
use plaza_types::{Reason, UserId};
use prost::Message;
use smallvec::{SmallVec, smallvec};

use crate::log::PARTITIONS;

pub(crate) const CHAT: Topic = Topic("chat");
pub(crate) const INBOX: Topic = Topic("inbox");
pub(crate) const USERS: [&str; 4] = ["u0", "u1", "u2", "u3"];
pub(crate) const CONVERSATIONS: [&str; 3] = ["A", "B", "C"];

/// The inbox partition of a user.
pub(crate) fn home(user: &str) -> u32 {
    USERS.iter().position(|known| *known == user).map_or(0, |place| place as u32 % PARTITIONS)
}

/// The user's id in envelopes.
pub(crate) fn id(user: &str) -> UserId {
    UserId::from_bytes([user.as_bytes()[1]; 16])
}

/// What is done to a conversation.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Command {
    #[prost(string, tag = "1")]
    pub(crate) user: String,
    /// `join`, `leave`, `send` or `nick`.
    #[prost(string, tag = "2")]
    pub(crate) kind: String,
    #[prost(uint64, tag = "3")]
    pub(crate) body: u64,
}

/// What reaches inboxes.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Delivery {
    /// Recipients, all of one partition.
    #[prost(string, repeated, tag = "1")]
    pub(crate) to: Vec<String>,
    #[prost(string, tag = "2")]
    pub(crate) sender: String,
    #[prost(string, tag = "3")]
    pub(crate) conversation: String,
    #[prost(uint64, tag = "4")]
    pub(crate) sequence: u64,
    #[prost(string, tag = "5")]
    pub(crate) body: String,
    /// A command: the sender has read up to `sequence`.
    #[prost(bool, tag = "6")]
    pub(crate) read: bool,
}

/// A row that readers see.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Row {
    Message {
        conversation: String,
        sequence: u64,
        body: String,
    },
    /// The last nickname taken in a conversation: one row that all members write.
    Nick {
        conversation: String,
        user: String,
        nick: u64,
    },
    Entry {
        user: String,
        cursor: u64,
        what: String,
    },
    Read {
        user: String,
        conversation: String,
        sequence: u64,
    },
    /// The watermark of an inbox.
    Head {
        user: String,
        cursor: u64,
    },
}

impl Row {
    pub(crate) fn place(&self) -> String {
        match self {
            Self::Message { conversation, sequence, .. } => format!("message {conversation} {sequence}"),
            Self::Nick { conversation, .. } => format!("nick {conversation}"),
            Self::Entry { user, cursor, .. } => format!("entry {user} {cursor}"),
            Self::Read { user, conversation, .. } => format!("read {user} {conversation}"),
            Self::Head { user, .. } => format!("head {user}"),
        }
    }
}

/// What a device is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shown {
    pub(crate) user: String,
    pub(crate) cursor: u64,
    pub(crate) what: String,
}

/// Decides conversations.
#[derive(Debug)]
pub(crate) struct Conversations {
    /// The first binary panics on some records.
    pub(crate) panics: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Conversation {
    #[prost(uint64, tag = "1")]
    head: u64,
    /// Users and nicknames: the cold part.
    #[prost(btree_map = "string, uint64", tag = "2")]
    members: BTreeMap<String, u64>,
}

/// Whether the first binary panics on it.
pub(crate) fn is_poison(command: &Command) -> bool {
    command.kind == "send" && command.body.is_multiple_of(7)
}

impl Machine for Conversations {
    type Payload = Command;
    type State = Conversation;
    type Row = Row;
    type Announcement = ();

    const NAME: &'static str = "conversations";
    const TOPIC: Topic = CHAT;

    fn keys(&self, record_key: &Bytes, _: &Envelope, _: &Command) -> SmallVec<[Key; 4]> {
        smallvec![Key(record_key.clone())]
    }

    fn apply(&self, input: Input<'_, Command>, _: usize, key: &Key, state: &mut Conversation, effects: &mut Effects<Self>) {
        let Command { user, kind, body } = input.payload;
        if self.panics && is_poison(input.payload) {
            state.head += 1000;
            panic!("poison");
        }
        let conversation = String::from_utf8_lossy(&key.0).into_owned();
        let is_member = state.members.contains_key(user);
        if is_member == (kind == "join") {
            effects.reply(Outcome::refused(Reason::NotFound, "member", kind.clone()), ReplyWhen::Decided);
            return;
        }
        let mut recipients = BTreeSet::new();
        match kind.as_str() {
            "join" => _ = state.members.insert(user.clone(), 0),
            "leave" => _ = state.members.remove(user),
            "nick" => {
                state.members.insert(user.clone(), *body);
                effects.touch_cold();
                effects.row(Row::Nick { conversation, user: user.clone(), nick: *body });
                effects.reply(Outcome::accepted("nick"), ReplyWhen::Written);
                return;
            }
            _ => {}
        }
        if kind != "send" {
            effects.touch_cold();
        }
        state.head += 1;
        let body = format!("{kind} {user} {body}");
        recipients.extend(state.members.keys().cloned());
        effects.row(Row::Message { conversation: conversation.clone(), sequence: state.head, body: body.clone() });
        for partition in 0..PARTITIONS {
            let to: Vec<_> = recipients.iter().filter(|user| home(user) == partition).cloned().collect();
            if !to.is_empty() {
                let (sender, conversation, body) = (user.clone(), conversation.clone(), body.clone());
                let delivery = Delivery { to, sender, conversation, sequence: state.head, body, read: false };
                effects.emit(emission(partition, &delivery));
            }
        }
        effects.reply(Outcome::accepted(state.head.to_string()), ReplyWhen::Decided);
    }

    fn encode(&self, state: &Conversation, cold: bool) -> (Bytes, Option<Bytes>) {
        let hot = Conversation { head: state.head, members: BTreeMap::new() };
        let members = cold.then(|| Conversation { head: 0, members: state.members.clone() }.encode_to_vec().into());
        (hot.encode_to_vec().into(), members)
    }

    fn decode(&self, row: &StateRow) -> Result<Conversation, prost::DecodeError> {
        let members = Conversation::decode(row.cold.clone())?.members;
        Ok(Conversation { members, ..Conversation::decode(row.hot.clone())? })
    }
}

fn emission(partition: u32, delivery: &Delivery) -> Emission {
    let payload = delivery.encode_to_vec().into();
    Emission { topic: INBOX, key: Bytes::new(), partition: Some(partition), payload, carry_reply: false }
}

/// Decides inboxes.
#[derive(Debug)]
pub(crate) struct Inboxes;

/// Of a user: head, and the last sequence of each conversation. Of a user in a conversation: how far it is read, as `head`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Inbox {
    #[prost(uint64, tag = "1")]
    head: u64,
    #[prost(btree_map = "string, uint64", tag = "2")]
    last: BTreeMap<String, u64>,
}

impl Machine for Inboxes {
    type Payload = Delivery;
    type State = Inbox;
    type Row = Row;
    type Announcement = Shown;

    const NAME: &'static str = "inboxes";
    const TOPIC: Topic = INBOX;

    fn keys(&self, _: &Bytes, _: &Envelope, delivery: &Delivery) -> SmallVec<[Key; 4]> {
        let mut keys: SmallVec<_> = delivery.to.iter().map(|user| Key(user.clone().into())).collect();
        if delivery.read || delivery.to.contains(&delivery.sender) && delivery.sequence > 0 {
            keys.push(Key(format!("{} {}", delivery.sender, delivery.conversation).into()));
        }
        keys
    }

    fn apply(&self, input: Input<'_, Delivery>, _: usize, key: &Key, state: &mut Inbox, effects: &mut Effects<Self>) {
        let Delivery { conversation, sequence, body, read, .. } = input.payload;
        let name = String::from_utf8_lossy(&key.0).into_owned();
        if let Some((user, _)) = name.split_once(' ') {
            let user = user.to_owned();
            if *sequence > state.head {
                state.head = *sequence;
                effects.row(Row::Read { user: user.clone(), conversation: conversation.clone(), sequence: *sequence });
                let body = format!("read {sequence}");
                let to = vec![user.clone()];
                let event = Delivery { to, sender: user.clone(), conversation: conversation.clone(), sequence: 0, body, read: false };
                effects.emit(emission(home(&user), &event));
            }
            if *read {
                effects.reply(Outcome::accepted(format!("{user} {conversation} {}", state.head)), ReplyWhen::Written);
            }
            return;
        }
        // The second guard of rule 11: a repeated sequence is not taken.
        if *sequence > 0 && state.last.insert(conversation.clone(), *sequence).is_some_and(|last| last >= *sequence) {
            effects.announce(Shown { user: name.clone(), cursor: 0, what: format!("repeated {conversation} {sequence}") });
            return;
        }
        state.head += 1;
        effects.touch_cold();
        let shown = Shown { user: name.clone(), cursor: state.head, what: format!("{conversation} {sequence} {body}") };
        effects.row(Row::Entry { user: name.clone(), cursor: shown.cursor, what: shown.what.clone() });
        effects.row(Row::Head { user: name, cursor: shown.cursor });
        effects.announce(shown);
    }

    fn encode(&self, state: &Inbox, cold: bool) -> (Bytes, Option<Bytes>) {
        let hot = Inbox { head: state.head, last: BTreeMap::new() };
        let last = cold.then(|| Inbox { head: 0, last: state.last.clone() }.encode_to_vec().into());
        (hot.encode_to_vec().into(), last)
    }

    fn decode(&self, row: &StateRow) -> Result<Inbox, prost::DecodeError> {
        Ok(Inbox { last: Inbox::decode(row.cold.clone())?.last, ..Inbox::decode(row.hot.clone())? })
    }
}
