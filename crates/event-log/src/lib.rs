//! The event log: the truth of which every table is a view. This module is the seam and its contract in words; [`embedded`] is the
//! implementation in the process, [`fault`] a wrapper that does everything the contract allows, `conformance` (a feature of this crate) the
//! suite that every implementation passes. It knows nothing of what records mean.
//!
//! # Contract
//! - A topic has a fixed number of partitions. A partition is an ordered sequence of records at increasing offsets, **which may have gaps**.
//! - A record that a reader was given never changes, moves or vanishes, but it is only sure to outlive a power loss once [`EventLog::durable`],
//!   called after it was given, has returned. Nothing that follows from it may be shown to anybody outside before.
//! - [`EventLog::append`] is at least once: after an error the record may be there or come later, and a caller that tries again may append it twice.
//! - One [`Producer`]'s records are in each partition in the order of its `send` calls, none left out in the middle: after one failure every
//!   later one fails.
//! - A reader that starts again sees the same records again; readers are independent.
//! - An assignment can be given to another process, or twice, while the former owner still works on it: two owners can overlap for a while.
//! - Append times are the log's own clock in microseconds; they may go back.

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod embedded;
pub mod fault;
pub mod limits;

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;

/// A topic. Declared once in `plaza_topics`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Topic(pub &'static str);

/// One partition of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic.
    pub topic: Topic,
    /// From 0 to the topic's partition count.
    pub partition: u32,
}

/// A position in a partition.
pub type Offset = u64;

/// What is appended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// What decides the partition; at most 64 bytes.
    pub key: Bytes,
    /// At most 1 MiB.
    pub value: Bytes,
    /// Few and small, such as `traceparent`.
    pub headers: Vec<(&'static str, Bytes)>,
}

/// A record with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its position.
    pub offset: Offset,
    /// When it was appended, by the log's clock, microseconds since the epoch.
    pub appended: u64,
    /// What was appended; header names that this process does not know are left out.
    pub record: Record,
}

/// Why the log did not do it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The record is too large for the log.
    #[error("record of {size} bytes is larger than {limit}")]
    TooLarge {
        /// Bytes of key and value.
        size: usize,
        /// What the log takes.
        limit: usize,
    },
    /// There is no such partition.
    #[error("no partition {0}")]
    UnknownPartition(TopicPartition),
    /// It did not work, and may work later; an append may or may not have happened.
    #[error("log unavailable: {0}")]
    Unavailable(String),
    /// It can never work again in this process: give up what depends on it.
    #[error("log failed: {0}")]
    Fatal(String),
}

impl Error {
    /// A stable name for logs and metrics.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "too_large",
            Self::UnknownPartition(_) => "unknown_partition",
            Self::Unavailable(_) => "unavailable",
            Self::Fatal(_) => "fatal",
        }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic.0, self.partition)
    }
}

/// A change of what this process owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Assignment {
    /// This process owns the partition from now on.
    Assigned(u32),
    /// It owns it no more; whatever it holds of it must be forgotten.
    Revoked(u32),
}

/// The log. See the module for the contract.
#[async_trait]
pub trait EventLog: Send + Sync {
    /// How many partitions the topic has; 0 for an unknown topic.
    fn partitions(&self, topic: Topic) -> u32;

    /// The topic's generation: another one means that offsets started anew.
    fn generation(&self, topic: Topic) -> u32;

    /// Appends a record; when it returns, readers will be given it.
    ///
    /// # Errors
    /// `TooLarge` and `UnknownPartition` append nothing; after `Unavailable` it is unknown.
    async fn append(&self, to: TopicPartition, record: Record) -> Result<(), Error>;

    /// A new producer whose records keep their order.
    fn producer(&self) -> Box<dyn Producer>;

    /// Reads a partition from an offset on (the first record at or above it).
    ///
    /// # Errors
    /// `UnknownPartition`, `Unavailable`.
    async fn reader(&self, from: TopicPartition, offset: Offset) -> Result<Box<dyn Reader>, Error>;

    /// The offset above every record that can be read now.
    ///
    /// # Errors
    /// `UnknownPartition`, `Unavailable`.
    async fn end(&self, of: TopicPartition) -> Result<Offset, Error>;

    /// The offset of the first record appended at or after a time, or [`EventLog::end`].
    ///
    /// # Errors
    /// `UnknownPartition`, `Unavailable`.
    async fn offset_at(&self, of: TopicPartition, micros: u64) -> Result<Offset, Error>;

    /// The partitions of a topic that this process owns as a member of a group, as it changes.
    async fn assignments(&self, group: &'static str, topic: Topic) -> Result<Box<dyn Assignments>, Error>;

    /// Returns when every record that was given to a reader, or acknowledged to a producer, before the call survives a power loss.
    ///
    /// # Errors
    /// `Fatal` when it can no longer be promised.
    async fn durable(&self) -> Result<(), Error>;

    /// Marks that records are being worked on, from the call until the guard is dropped, so that the log can wait a moment for what follows
    /// from them before it makes all of it durable at once. Costs nothing where the log has no use for it.
    fn working(&self) -> Box<dyn Send + Sync> {
        Box::new(())
    }
}

/// An ordered, gapless way to append.
pub trait Producer: Send + Sync {
    /// Queues records in this order, at once; the future resolves when all of them are acknowledged, that is: readers will be given them.
    /// The future need not be polled for the records to be sent.
    ///
    /// # Errors
    /// Any error is final: every later `send` of this producer fails too.
    fn send(&self, records: Vec<(TopicPartition, Record)>) -> BoxFuture<'static, Result<(), Error>>;
}

/// Reads one partition in order.
#[async_trait]
pub trait Reader: Send {
    /// The next records, at least one and at most `max`; waits for them. Dropping the future loses nothing.
    ///
    /// # Errors
    /// `Unavailable` (try again), `Fatal`.
    async fn next(&mut self, max: usize) -> Result<Vec<Stored>, Error>;
}

/// What this process owns, as it changes.
#[async_trait]
pub trait Assignments: Send {
    /// The next change; waits for it. Dropping the future loses nothing.
    ///
    /// # Errors
    /// `Fatal` when the membership is lost for good.
    async fn next(&mut self) -> Result<Assignment, Error>;
}
