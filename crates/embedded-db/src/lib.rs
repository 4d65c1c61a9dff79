//! The embedded ordered store: the event log and the rows of every service in one process share one
//! journal, so what survives a crash is always a prefix of what was enqueued.
//!
//! [`Db::enqueue`] gives a [`Batch`] its [`Position`] at once; one writer thread applies batches in that
//! order. A position becomes *visible* (readers see it, and it survives a kill of the process), then
//! *durable* (it survives power loss). One `fdatasync` serves everybody who waits for one, and none is
//! made when nobody waits. Reads are synchronous: microseconds from memory or the page cache, so they
//! may run on async worker threads.
//!
//! The crate never decides what a row means, and holds no write in memory beyond its queue limit as
//! long as callers await [`Db::ready`].

mod batch;
mod db;
mod error;
mod group;
mod horizon;
mod journal;
mod keyspace;
mod maintenance;
mod memtable;
mod needless;
mod open;
mod pace;
mod queue;
mod scan;
mod segments;
mod sequence;
mod table;
mod timed;
mod writer;

pub use batch::{Batch, Expect};
pub use db::{BusyGuard, Db, Stats};
pub use error::{Error, OpenError};
pub use keyspace::{Keyspace, Rows};
pub use open::Options;
pub use queue::Position;
pub use sequence::{Entries, Sequence};
