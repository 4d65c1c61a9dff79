//! The rules of who knows whom: one deterministic state machine for each user's edges and requests, the rows that follow from it and what it
//! tells others. Pure: no clock, no randomness, no I/O; the only time is the record's write time.

pub mod emit;
pub mod machine;
pub mod row;
pub mod rules;
pub mod state;
mod stored;

#[cfg(test)]
mod tests;

pub use machine::Graph;
pub use row::{Blocked, Contact, Folder, Permissions, Remark, Request, RequestStatus, Row, Status};
pub use state::{Edge, Sent, State};

use plaza_types::limits::DAY;

/// Characters of a request's source at most.
pub const SOURCE: usize = 32;
/// Characters of a remark at most.
pub const REMARK: usize = 64;
/// Tags of one contact at most.
pub const CONTACT_TAGS: usize = 20;
/// Characters of one tag at most.
pub const TAG: usize = 32;
/// People one user blocks at most.
pub const BLOCKED: usize = 10_000;
/// Waiting requests of one receiver at most. Later ones are dropped, unseen by either side, so that nobody's state can be grown by strangers.
pub const RECEIVED: usize = 5_000;
/// How long after its expiry an unanswered request still counts towards the limit of unanswered ones to its person.
pub const UNANSWERED_MEMORY: u64 = 180 * DAY;
