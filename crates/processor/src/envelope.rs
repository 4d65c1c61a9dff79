//! What every record of a processed topic is wrapped in.

use bytes::Bytes;

/// The value of a record: who asks, by when, where the answer goes, where it came from, and the payload of the topic.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Envelope {
    /// The number of the rules the record is to be decided by, stamped by who appends it.
    #[prost(uint32, tag = "1")]
    pub rules: u32,
    /// When it was made, microseconds since the epoch. An emission carries the write time of the record that caused it.
    #[prost(uint64, tag = "2")]
    pub time: u64,
    /// Past this write time nobody waits for it and it is refused, microseconds; 0 for emissions.
    #[prost(uint64, tag = "3")]
    pub deadline: u64,
    /// Who asks: the scope of the request id, 16 bytes; empty for emissions.
    #[prost(bytes = "bytes", tag = "4")]
    pub caller: Bytes,
    /// The caller's request id (UUIDv7), 16 bytes; empty for emissions.
    #[prost(bytes = "bytes", tag = "5")]
    pub request: Bytes,
    /// A hash of what is asked: the same id with another one is refused.
    #[prost(fixed64, tag = "6")]
    pub fingerprint: u64,
    /// Where the decision goes. An emission may carry the address of the command that caused it.
    #[prost(message, optional, tag = "7")]
    pub reply_to: Option<ReplyTo>,
    /// Of an emission: the record that caused it.
    #[prost(message, optional, tag = "8")]
    pub origin: Option<Origin>,
    /// The topic's payload.
    #[prost(bytes = "bytes", tag = "9")]
    pub payload: Bytes,
}

/// Where a decision goes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, prost::Message)]
pub struct ReplyTo {
    /// The process that waits: a random number it made at start.
    #[prost(fixed64, tag = "1")]
    pub instance: u64,
    /// Which of its calls.
    #[prost(uint64, tag = "2")]
    pub call: u64,
}

/// The record an emission comes from, and its place among that record's emissions.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Origin {
    /// The topic.
    #[prost(string, tag = "1")]
    pub topic: String,
    /// The partition.
    #[prost(uint32, tag = "2")]
    pub partition: u32,
    /// The topic's generation.
    #[prost(uint32, tag = "3")]
    pub generation: u32,
    /// The offset.
    #[prost(uint64, tag = "4")]
    pub offset: u64,
    /// A function of the record alone: key's place in the record and place among the key's emissions.
    #[prost(uint32, tag = "5")]
    pub index: u32,
}
