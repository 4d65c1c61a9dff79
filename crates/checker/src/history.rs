//! What clients did and saw, in a form the checker can judge without knowing how it came about.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// A user, by a number of the test's own.
pub type User = usize;

/// One attempt to send, as its sender knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// Who sent it.
    pub from: User,
    /// Its client message id: one for all tries.
    pub id: String,
    /// The conversation, as the answer said; empty while there is none.
    pub conversation: String,
    /// The sequences that answers gave, one for each answer that came; empty while there is none.
    pub acked: Vec<u64>,
    /// Its unique text.
    pub text: String,
}

/// A message as somebody saw it, or a change of a group that has a place in its order.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Message {
    /// The conversation.
    pub conversation: String,
    /// Its sequence.
    pub sequence: u64,
    /// UUID of the sender.
    pub sender: String,
    /// Its client message id; empty for a change.
    pub id: String,
    /// Its text.
    pub text: String,
    /// UUIDs of those whose time in the group begins with it.
    #[serde(default)]
    pub joined: Vec<String>,
    /// UUIDs of those whose time in the group ends with it.
    #[serde(default)]
    pub left: Vec<String>,
}

impl Message {
    /// Whether somebody sent it, so that it counts as a message.
    #[must_use]
    pub fn is_sent(&self) -> bool {
        !self.id.is_empty()
    }
}

/// What an inbox entry says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum What {
    /// A message.
    Message(Message),
    /// The read position of a conversation.
    Read {
        /// The conversation.
        conversation: String,
        /// Up to where.
        sequence: u64,
    },
    /// Anything else, in a form that can be compared.
    Other(String),
}

/// An inbox entry as somebody saw it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its cursor.
    pub cursor: u64,
    /// What it says.
    pub what: What,
}

/// What one device was shown on its live stream, in order, over all its connections: it resumes with the last cursor it was given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Whose.
    pub user: User,
    /// The cursor it began with.
    pub from: u64,
    /// In the order shown.
    pub shown: Vec<Entry>,
}

/// A conversation as a member's list shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conversation {
    /// The newest sequence.
    pub head: u64,
    /// The member's read position.
    pub read: u64,
    /// The member's unread count.
    pub unread: u64,
}

/// What one user finds after everything is quiet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Final {
    /// UUID.
    pub user_id: String,
    /// The whole inbox by Sync from 0.
    pub inbox: Vec<Entry>,
    /// Every message of every conversation by ListMessages.
    pub messages: BTreeMap<String, Vec<Message>>,
    /// Every conversation in the list.
    pub conversations: BTreeMap<String, Conversation>,
    /// UUIDs of the contacts.
    #[serde(default)]
    pub contacts: BTreeSet<String>,
    /// UUIDs of the blocked.
    #[serde(default)]
    pub blocked: BTreeSet<String>,
}

/// A whole history.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// Every send.
    pub sends: Vec<Sent>,
    /// The highest read position each user was told is set, by user and conversation.
    pub reads: BTreeMap<User, BTreeMap<String, u64>>,
    /// The highest read position each user asked for, answered or not: of those of whom no more is known.
    pub attempted: BTreeMap<User, BTreeMap<String, u64>>,
    /// Every read position each user asked for, answered or not: of those of whom all are known.
    #[serde(default)]
    pub asked: BTreeMap<User, BTreeMap<String, BTreeSet<u64>>>,
    /// Every device.
    pub devices: Vec<Device>,
    /// The cursor up to which each user's devices watched; nothing of a user whose devices may have stopped before.
    #[serde(default)]
    pub heads: BTreeMap<User, u64>,
    /// By user: what is there in the end.
    pub finals: Vec<Final>,
    /// The two members of each conversation.
    pub members: BTreeMap<String, Vec<User>>,
    /// The groups.
    #[serde(default)]
    pub groups: BTreeMap<String, Group>,
    /// The contacts each user has as answers said, and nobody is blocked; nothing of a user of whom that is not known.
    #[serde(default)]
    pub friends: BTreeMap<User, BTreeSet<User>>,
}

/// A group, as those who change it know it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Who is in it from the first place to the last.
    pub owner: User,
    /// How often others joined and left.
    pub changes: BTreeMap<User, Changes>,
}

/// How often a user joined and left a group, as answers said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    /// Joins, the creation of the group among them.
    pub joins: u64,
    /// Leaves and removals.
    pub leaves: u64,
    /// Whether the last change was never answered.
    pub unanswered: bool,
}
