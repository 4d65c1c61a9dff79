//! Payloads of the topics `moments`, keyed by a post's author, and `notices`. User ids and the ids of posts (unique for one author) are 16
//! bytes.

use bytes::Bytes;

/// A command from the moments API, or an emission of the author's edges.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Payload {
    /// Which.
    #[prost(oneof = "Kind", tags = "1, 2, 3, 4, 5, 6, 7")]
    pub kind: Option<Kind>,
}

/// Which.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Kind {
    /// Command of the author: a post, whose id is the request's.
    #[prost(message, tag = "1")]
    Create(Create),
    /// Command of the author: delete a post.
    #[prost(message, tag = "2")]
    Delete(OnPost),
    /// Command: like a post.
    #[prost(message, tag = "3")]
    Like(OnPost),
    /// Command: take a like back.
    #[prost(message, tag = "4")]
    Unlike(OnPost),
    /// Command: comment on a post, or answer a comment.
    #[prost(message, tag = "5")]
    Comment(Comment),
    /// Command: delete a comment.
    #[prost(message, tag = "6")]
    DeleteComment(DeleteComment),
    /// Emission of edges: the author's posts are to be put into somebody's timeline.
    #[prost(message, tag = "7")]
    Backfill(Backfill),
}

/// A post.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Create {
    /// Encoded `plaza.moments.v1.PostContent`.
    #[prost(bytes = "bytes", tag = "1")]
    pub content: Bytes,
    /// For whom.
    #[prost(message, required, tag = "2")]
    pub audience: Audience,
    /// Users called.
    #[prost(bytes = "bytes", repeated, tag = "3")]
    pub mentions: Vec<Bytes>,
    /// For how long a viewer must not have looked to be passed over, microseconds. In the record, because it decides what is written.
    #[prost(uint64, tag = "4")]
    pub idle_after: u64,
}

/// For whom a post is.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Audience {
    /// Which.
    #[prost(enumeration = "AudienceKind", tag = "1")]
    pub kind: i32,
    /// The users named, in order, 16 bytes each, one after the other.
    #[prost(bytes = "bytes", tag = "2")]
    pub users: Bytes,
    /// The author's tags named.
    #[prost(string, repeated, tag = "3")]
    pub tags: Vec<String>,
}

/// Which audience.
#[derive(Debug, Clone, Copy, PartialEq, Eq, prost::Enumeration)]
pub enum AudienceKind {
    /// Nobody but the author: what an unreadable one is taken for.
    Private = 0,
    /// All friends.
    All = 1,
    /// Those named.
    Only = 2,
    /// All friends but those named.
    Except = 3,
}

/// Something about one post.
#[derive(Clone, PartialEq, prost::Message)]
pub struct OnPost {
    /// The post.
    #[prost(bytes = "bytes", tag = "1")]
    pub post: Bytes,
}

/// A comment.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Comment {
    /// The post.
    #[prost(bytes = "bytes", tag = "1")]
    pub post: Bytes,
    /// What it says.
    #[prost(string, tag = "2")]
    pub text: String,
    /// The number of the comment it answers; 0 for none.
    #[prost(uint32, tag = "3")]
    pub reply_to: u32,
}

/// Delete a comment.
#[derive(Clone, PartialEq, prost::Message)]
pub struct DeleteComment {
    /// The post.
    #[prost(bytes = "bytes", tag = "1")]
    pub post: Bytes,
    /// The comment's number.
    #[prost(uint32, tag = "2")]
    pub number: u32,
}

/// The author's posts are to be put into somebody's timeline: one of the two came into the other's list.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Backfill {
    /// Who.
    #[prost(bytes = "bytes", tag = "1")]
    pub viewer: Bytes,
}

/// What somebody did, in the topic `notices`: whom it may concern. Whether they may know is decided when they are told.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Act {
    /// A number of `plaza.moments.v1.NoticeKind`, for everybody but `answered`.
    #[prost(int32, tag = "1")]
    pub kind: i32,
    /// The post's author.
    #[prost(bytes = "bytes", tag = "2")]
    pub author: Bytes,
    /// The post.
    #[prost(bytes = "bytes", tag = "3")]
    pub post: Bytes,
    /// Who did it.
    #[prost(bytes = "bytes", tag = "4")]
    pub actor: Bytes,
    /// The number of the comment; 0 for none.
    #[prost(uint32, tag = "5")]
    pub number: u32,
    /// Whom it may concern.
    #[prost(bytes = "bytes", repeated, tag = "6")]
    pub recipients: Vec<Bytes>,
    /// The one of them whose comment is answered; empty for none.
    #[prost(bytes = "bytes", tag = "7")]
    pub answered: Bytes,
}
