//! What the graph service keeps, and the questions it asks of it. The rows are written by the processor only, each with its record's write
//! time; everything here but that is reading.
//!
//! # Contract, beyond that of `plaza_processor::Store`
//! - What is gone is not given, though its row stays: the later write wins whatever order they arrive in.
//! - Lists are in a fixed order, so going on after the last one given neither repeats nor skips what was there all the time.
//! - Two rows of one thing (a contact and its remark, a request and its status) may be of different moments for a moment.

pub mod embedded;
pub mod scylla;

#[cfg(test)]
mod conformance;

use async_trait::async_trait;
use plaza_processor::StoreError;
use plaza_types::UserId;

use crate::domain::{Contact, Folder, Permissions, Request, Row, Status};

/// A contact with the owner's own name for them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// The contact.
    pub contact: Contact,
    /// Empty for none.
    pub remark: String,
}

/// The place of a request in its list: newest first, then by the other side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// When it was sent, microseconds.
    pub time: u64,
    /// The other side.
    pub other: UserId,
}

/// How one user stands to another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Relation {
    /// The one lists the other.
    pub lists: bool,
    /// The other lists the one.
    pub listed_by: bool,
    /// The one blocks the other.
    pub blocks: bool,
    /// The other blocks the one.
    pub blocked_by: bool,
    /// When the newest request between them was sent that the one has as pending, microseconds; it may have expired.
    pub asked: Option<u64>,
    /// The one has met the other before: there is or was a contact, a block or a request in the one's lists.
    pub known: bool,
}

/// How one user stands to another, with all that decides who sees whose Moments.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stance {
    /// The one lists the other.
    pub lists: bool,
    /// The one blocks the other.
    pub blocks: bool,
    /// What the one allows the other.
    pub permissions: Permissions,
    /// The one's tags on the other.
    pub tags: Vec<String>,
    /// The write time of the newest change it tells of, microseconds.
    pub version: u64,
}

/// Both sides of a pair.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stances {
    /// How the one asked about stands to the other.
    pub own: Stance,
    /// How the other stands to the one.
    pub theirs: Stance,
}

/// The store. See the module for the contract.
#[async_trait]
pub trait Store: plaza_processor::Store<Row> {
    /// At most `limit` contacts of a user, in the order of their ids, from behind `after` on.
    async fn contacts(&self, owner: UserId, after: Option<UserId>, limit: usize) -> Result<Vec<Named>, StoreError>;

    /// One contact.
    async fn contact(&self, owner: UserId, other: UserId) -> Result<Option<Named>, StoreError>;

    /// At most `limit` requests of a list, newest first, from behind `after` on; of each other side only the newest.
    async fn requests(
        &self,
        owner: UserId,
        folder: Folder,
        after: Option<Place>,
        limit: usize,
    ) -> Result<Vec<(Request, Status)>, StoreError>;

    /// At most `limit` of those a user blocks, in the order of their ids, from behind `after` on.
    async fn blocked(&self, owner: UserId, after: Option<UserId>, limit: usize) -> Result<Vec<UserId>, StoreError>;

    /// How a user stands to others, in order.
    async fn relations(&self, user: UserId, others: &[UserId]) -> Result<Vec<Relation>, StoreError>;

    /// How a user and others stand to each other, in order.
    async fn stances(&self, user: UserId, others: &[UserId]) -> Result<Vec<Stances>, StoreError>;
}
