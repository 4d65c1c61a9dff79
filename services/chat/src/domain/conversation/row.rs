//! The rows that a conversation writes for readers.

use bytes::Bytes;
use plaza_types::{ConversationId, UserId};

pub use super::roster::{Pending, Role, Waits};

/// A row that readers see.
#[derive(Debug, Clone, PartialEq)]
pub enum Row {
    /// A message, as [`super::event::message`] encodes it, or a change of a group.
    Message {
        /// Where.
        conversation: ConversationId,
        /// Its number.
        sequence: u64,
        /// What everybody is told.
        event: Bytes,
    },
    /// What is left of a message that was taken back. It stays in its place for good: an owner that is behind may write the message again.
    Recalled {
        /// Where.
        conversation: ConversationId,
        /// Its number.
        sequence: u64,
        /// The message without content.
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
    /// A change of a group has this place in the order, and so many have been up to it: what is between two places and no message is the
    /// difference of their counts.
    Notice {
        /// Where.
        conversation: ConversationId,
        /// Its number.
        sequence: u64,
        /// How many there are up to this one.
        count: u64,
    },
    /// A message that calls everybody.
    CalledAll {
        /// Where.
        conversation: ConversationId,
        /// Its number.
        sequence: u64,
        /// Who calls.
        sender: UserId,
        /// The newest such message before it by somebody else; 0 for none.
        before: u64,
    },
    /// A group.
    Group {
        /// Which.
        conversation: ConversationId,
        /// What there is to know.
        group: Group,
    },
    /// A member of a group, or that a user is none any more.
    Member {
        /// Where.
        conversation: ConversationId,
        /// Who.
        user: UserId,
        /// How; `None` for no longer.
        member: Option<GroupMember>,
    },
    /// Somebody who is asked to come into a group, or no longer.
    Pending {
        /// Where.
        conversation: ConversationId,
        /// Who.
        user: UserId,
        /// How; `None` for no longer.
        pending: Option<Pending>,
    },
}

/// A group as its members see it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Group {
    /// The title.
    #[prost(string, tag = "1")]
    pub title: String,
    /// The notice.
    #[prost(string, tag = "2")]
    pub notice: String,
    /// Whether owner or an admin must agree to those whom plain members add.
    #[prost(bool, tag = "3")]
    pub approval_required: bool,
    /// Whether it is dissolved.
    #[prost(bool, tag = "4")]
    pub dissolved: bool,
    /// When it was made, microseconds.
    #[prost(uint64, tag = "5")]
    pub created: u64,
    /// The owner, 16 bytes.
    #[prost(bytes = "bytes", tag = "6")]
    pub owner: Bytes,
    /// How many members there are.
    #[prost(uint32, tag = "7")]
    pub members: u32,
}

/// A member of a group.
#[derive(Clone, PartialEq, prost::Message)]
pub struct GroupMember {
    /// What the member may do.
    #[prost(enumeration = "Role", tag = "1")]
    pub role: i32,
    /// How the member is called in the group.
    #[prost(string, tag = "2")]
    pub nickname: String,
    /// When the member came in, microseconds.
    #[prost(uint64, tag = "3")]
    pub since: u64,
    /// Messages up to this sequence are before the member's time.
    #[prost(uint64, tag = "4")]
    pub joined_at: u64,
}
