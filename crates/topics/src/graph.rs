//! Payloads of the `graph` topic, keyed by the user whose edges decide. All user ids are 16 bytes.

use bytes::Bytes;

/// A command from the graph API (the user is the envelope's caller and the key) or an emission of another user's edges.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Payload {
    /// The person it is about; empty where it is about nobody.
    #[prost(bytes = "bytes", tag = "1")]
    pub other: Bytes,
    /// Which.
    #[prost(oneof = "Kind", tags = "2, 3, 4, 5, 6, 7, 8, 9, 10, 11")]
    pub kind: Option<Kind>,
}

/// Which.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Kind {
    /// Command: ask to be friends.
    #[prost(message, tag = "2")]
    Ask(Ask),
    /// Command: accept what the other asked.
    #[prost(message, tag = "3")]
    Accept(Plain),
    /// Command: set aside what the other asked.
    #[prost(message, tag = "4")]
    Ignore(Plain),
    /// Command: change remark, tags, star or permissions.
    #[prost(message, tag = "5")]
    Update(Update),
    /// Command: remove the other from the list.
    #[prost(message, tag = "6")]
    Remove(Plain),
    /// Command: block.
    #[prost(message, tag = "7")]
    Block(Plain),
    /// Command: unblock.
    #[prost(message, tag = "8")]
    Unblock(Plain),
    /// Emission: the other asked.
    #[prost(message, tag = "9")]
    Asked(Asked),
    /// Emission: the other accepted, or had asked too.
    #[prost(message, tag = "10")]
    Accepted(Accepted),
    /// Emission of the user's posts: tell those whom the user lists of a post.
    #[prost(message, tag = "11")]
    Spread(Spread),
}

/// Nothing more to say.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Plain {}

/// Ask to be friends.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Ask {
    /// At most 100 characters.
    #[prost(string, tag = "1")]
    pub note: String,
    /// How they met; empty for not said.
    #[prost(string, tag = "2")]
    pub source: String,
    /// Whether the other listed the asker when the API looked: the asker's own edges do not say.
    #[prost(bool, tag = "3")]
    pub listed_by: bool,
}

/// Change a contact.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Update {
    /// Another remark.
    #[prost(string, optional, tag = "1")]
    pub remark: Option<String>,
    /// Whether `tags` are to be set.
    #[prost(bool, tag = "2")]
    pub set_tags: bool,
    /// Other tags.
    #[prost(string, repeated, tag = "3")]
    pub tags: Vec<String>,
    /// Star or not.
    #[prost(bool, optional, tag = "4")]
    pub starred: Option<bool>,
    /// Chat only or not.
    #[prost(bool, optional, tag = "5")]
    pub chat_only: Option<bool>,
    /// Hide my Moments from them or not.
    #[prost(bool, optional, tag = "6")]
    pub hide_my_moments: Option<bool>,
    /// Hide their Moments from me or not.
    #[prost(bool, optional, tag = "7")]
    pub hide_their_moments: Option<bool>,
}

/// The other asked.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Asked {
    /// What they wrote.
    #[prost(string, tag = "1")]
    pub note: String,
    /// How they met.
    #[prost(string, tag = "2")]
    pub source: String,
    /// The request's id, 16 bytes.
    #[prost(bytes = "bytes", tag = "3")]
    pub request: Bytes,
    /// When they asked, microseconds.
    #[prost(uint64, tag = "4")]
    pub time: u64,
}

/// The other accepted, or had asked too.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Accepted {
    /// How the other stands to this user now.
    #[prost(message, optional, tag = "1")]
    pub side: Option<crate::conversation::Side>,
    /// The answer for the other's device, an encoded `plaza_processor::Outcome`, to be given once the conversation is open; empty when nobody waits.
    #[prost(bytes = "bytes", tag = "2")]
    pub answer: Bytes,
}

/// A post that those whom the user lists may come to see.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Spread {
    /// The post's id, 16 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub post: Bytes,
    /// When it was made, microseconds.
    #[prost(uint64, tag = "2")]
    pub created: u64,
    /// As [`crate::timeline::References::idle_after`].
    #[prost(uint64, tag = "3")]
    pub idle_after: u64,
}

/// The user's edge to somebody changed: what the user's list or blocks say of them.
#[derive(Clone, PartialEq, prost::Message)]
pub struct EdgeChanged {
    /// Whose edge, 16 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub owner: Bytes,
    /// To whom, 16 bytes.
    #[prost(bytes = "bytes", tag = "2")]
    pub other: Bytes,
}
