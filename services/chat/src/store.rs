//! What the chat service keeps, and the questions it asks of it. The rows are written by the two processors only, each with its record's
//! write time; everything here but that is reading.
//!
//! # Contract, beyond that of `plaza_processor::Store`
//! - A watermark ([`Head`], an inbox's head) is seen only when every row up to it is seen; of the rows of one write it is written last.
//! - Messages and entries up to their watermark have no gaps. A message can be missing for a moment although an inbox refers to it: its
//!   row is written by another partition's owner.

pub mod embedded;
mod entry;
mod groups;
mod put;
pub mod scylla;

#[cfg(test)]
pub(crate) mod conformance;

use std::ops::RangeInclusive;

use async_trait::async_trait;
use bytes::Bytes;
use plaza_processor::StoreError;
use plaza_types::{ConversationId, UserId};

pub use self::groups::Groups;
use crate::domain::{
    conversation,
    inbox::{self, Membership, Reading, Reference},
};

/// Where a conversation stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Head {
    /// The newest sequence that can be read; 0 while there is none.
    pub sequence: u64,
    /// When that was sent, microseconds.
    pub time: u64,
}

/// A user in a conversation.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// That and how.
    pub membership: Membership,
    /// How far the user has read.
    pub reading: Reading,
}

impl Member {
    /// Where the conversation stands for this user: for a former member, where it stood then.
    #[must_use]
    pub fn until(&self, head: Head) -> Head {
        match self.membership.left_at {
            Some(left_at) if left_at < head.sequence => Head { sequence: left_at, time: self.membership.left },
            _ => head,
        }
    }
}

/// The store. See the module for the contract.
#[async_trait]
pub trait Store: plaza_processor::Store<conversation::Row> + plaza_processor::Store<inbox::Row> + Groups {
    /// The newest cursor of an inbox that can be read; 0 while it is empty.
    async fn inbox_head(&self, user: UserId) -> Result<u64, StoreError>;

    /// What stands at these places of an inbox, in order.
    async fn entries(&self, user: UserId, cursors: RangeInclusive<u64>) -> Result<Vec<(u64, Reference)>, StoreError>;

    /// The messages of a conversation with these numbers, in order, as [`crate::domain::event::message`] encoded them. What was taken back has
    /// no content, whoever writes the message again.
    async fn messages(&self, conversation: ConversationId, sequences: RangeInclusive<u64>) -> Result<Vec<(u64, Bytes)>, StoreError>;

    /// Where these conversations stand, in order; zeros for one without messages.
    async fn heads(&self, conversations: &[ConversationId]) -> Result<Vec<Head>, StoreError>;

    /// The newest message of one sender in a conversation; 0 for none.
    async fn sent(&self, conversation: ConversationId, user: UserId) -> Result<u64, StoreError>;

    /// A user in a conversation; `None` when the user never was.
    async fn member(&self, user: UserId, conversation: ConversationId) -> Result<Option<Member>, StoreError>;

    /// All conversations of a user, in the order of their ids.
    async fn conversations(&self, user: UserId) -> Result<Vec<(ConversationId, Member)>, StoreError>;
}

fn malformed(what: impl std::fmt::Display) -> StoreError {
    StoreError { message: format!("malformed row: {what}") }
}
