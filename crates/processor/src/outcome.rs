//! What a command's caller is told, and what the same request id is told again.

use bytes::Bytes;
use plaza_types::Reason;

/// The decision on a command: an answer or a refusal. It never changes once given.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Outcome {
    /// Which.
    #[prost(oneof = "Kind", tags = "1, 2")]
    pub kind: Option<Kind>,
}

/// Which.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Kind {
    /// It is done; the answer, in the encoding of its service.
    #[prost(bytes = "bytes", tag = "1")]
    Accepted(Bytes),
    /// It is not done and changed nothing.
    #[prost(message, tag = "2")]
    Refused(Refusal),
}

/// Why a command was not done.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Refusal {
    /// `plaza_types::Reason::number`.
    #[prost(uint32, tag = "1")]
    pub reason: u32,
    /// What it is about: a field, a quota, a kind of thing. No private data.
    #[prost(string, tag = "2")]
    pub subject: String,
    /// In words, for the developer of the client.
    #[prost(string, tag = "3")]
    pub message: String,
    /// When trying again makes sense, microseconds from now; 0 for never.
    #[prost(uint64, tag = "4")]
    pub retry_after: u64,
}

impl Outcome {
    /// It is done, with this answer.
    #[must_use]
    pub fn accepted(answer: impl Into<Bytes>) -> Self {
        Self { kind: Some(Kind::Accepted(answer.into())) }
    }

    /// It is not done.
    #[must_use]
    pub fn refused(reason: Reason, subject: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            kind: Some(Kind::Refused(Refusal {
                reason: reason.number(),
                subject: subject.into(),
                message: message.into(),
                retry_after: 0,
            })),
        }
    }
}
