//! Payloads of the `timeline` topic. A record names viewers of its own partition only. User ids and the ids of posts are 16 bytes.

use bytes::Bytes;

/// A command from the moments API, or an emission of an author's edges or posts.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Payload {
    /// Which.
    #[prost(oneof = "Kind", tags = "1, 2, 3")]
    pub kind: Option<Kind>,
}

/// Which.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Kind {
    /// Posts that these viewers may come to see.
    #[prost(message, tag = "1")]
    References(References),
    /// The viewer looked. The viewer is the record's key.
    #[prost(message, tag = "2")]
    Seen(Seen),
    /// What was passed over was put in. The viewer is the record's key.
    #[prost(message, tag = "3")]
    Rebuilt(Rebuilt),
}

/// Posts for timelines.
#[derive(Clone, PartialEq, prost::Message)]
pub struct References {
    /// The viewers.
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub viewers: Vec<Bytes>,
    /// The posts.
    #[prost(message, repeated, tag = "2")]
    pub posts: Vec<Reference>,
    /// A viewer who has not looked for this long is passed over, microseconds; 0 for nobody.
    #[prost(uint64, tag = "3")]
    pub idle_after: u64,
}

/// A post.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Reference {
    /// Its author.
    #[prost(bytes = "bytes", tag = "1")]
    pub author: Bytes,
    /// Its id.
    #[prost(bytes = "bytes", tag = "2")]
    pub post: Bytes,
    /// When it was made, microseconds.
    #[prost(fixed64, tag = "3")]
    pub created: u64,
}

/// The viewer looked.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Seen {}

/// What was passed over was put in.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Rebuilt {
    /// From when on, microseconds.
    #[prost(uint64, tag = "1")]
    pub since: u64,
}
