//! Payloads of the `chat` topic, keyed by conversation.

use bytes::Bytes;

/// A command or an emission to one conversation.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Payload {
    /// Which.
    #[prost(oneof = "Kind", tags = "1, 2")]
    pub kind: Option<Kind>,
}

/// Which.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Kind {
    /// From the chat API: a message.
    #[prost(message, tag = "1")]
    Send(Send),
    /// From graph: who lists and blocks whom in a direct conversation.
    #[prost(message, tag = "2")]
    Sides(Sides),
}

/// A message to be decided. The caller and the client id are the envelope's.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Send {
    /// Encoded `plaza.chat.v1.Content`.
    #[prost(bytes = "bytes", tag = "1")]
    pub content: Bytes,
    /// Encoded `plaza.chat.v1.Quote`; empty for none.
    #[prost(bytes = "bytes", tag = "2")]
    pub quote: Bytes,
    /// Users called, 16 bytes each.
    #[prost(bytes = "bytes", repeated, tag = "3")]
    pub mentions: Vec<Bytes>,
    /// The sequence that the quote names; 0 for none.
    #[prost(uint64, tag = "4")]
    pub quoted: u64,
}

/// What graph says of a direct conversation: one or both of its sides. Sides converge whatever order they come in: the larger version counts.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Sides {
    /// One or two.
    #[prost(message, repeated, tag = "1")]
    pub sides: Vec<Side>,
    /// Whose device waits for the answer once the conversation is open: it is then given by that user's inbox, after its rows are written.
    /// Empty when nobody waits. 16 bytes.
    #[prost(bytes = "bytes", tag = "2")]
    pub answer_to: Bytes,
    /// The answer to give, an encoded `plaza_processor::Outcome`.
    #[prost(bytes = "bytes", tag = "3")]
    pub answer: Bytes,
}

/// How one of the two stands to the other.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Side {
    /// The one, 16 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub user: Bytes,
    /// The other, 16 bytes.
    #[prost(bytes = "bytes", tag = "2")]
    pub other: Bytes,
    /// Grows with every change of this edge: the count of all changes of its owner's edges, from 1.
    #[prost(uint64, tag = "3")]
    pub version: u64,
    /// The one lists the other.
    #[prost(bool, tag = "4")]
    pub lists: bool,
    /// The one blocks the other.
    #[prost(bool, tag = "5")]
    pub blocks: bool,
}
