//! A notice: a candidate for somebody's list of notices. Whether they may know is decided when they look.

use bytes::Bytes;
use plaza_types::UserId;

use super::post::PostId;

/// What it tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, prost::Enumeration)]
pub enum Kind {
    /// Nothing.
    Unspecified = 0,
    /// Somebody likes a post.
    Like = 1,
    /// Somebody commented on a post.
    Comment = 2,
    /// Somebody answered the recipient's comment.
    Reply = 3,
    /// A post calls the recipient.
    Mention = 4,
}

/// A candidate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// When it happened, microseconds.
    pub time: u64,
    /// The post.
    pub post: PostId,
    /// What.
    pub kind: Kind,
    /// Who did it.
    pub actor: UserId,
    /// The number of the comment; 0 for none.
    pub number: u32,
}

/// The stored form of what is not in its key.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Stored {
    /// What.
    #[prost(enumeration = "Kind", tag = "1")]
    pub kind: i32,
    /// Who did it, 16 bytes.
    #[prost(bytes = "bytes", tag = "2")]
    pub actor: Bytes,
    /// The number of the comment; 0 for none.
    #[prost(uint32, tag = "3")]
    pub number: u32,
}
