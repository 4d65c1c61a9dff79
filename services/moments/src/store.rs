//! What the moments service keeps, and the questions it asks of it. The rows are written by the two processors only, each with its record's
//! write time; everything here but that is reading.
//!
//! # Contract, beyond that of `plaza_processor::Store`
//! - A row that is rewritten is the one of the latest write time, whatever order the writes arrive in.
//! - Lists are newest first, then in the order of the posts' ids; going on behind a position neither repeats nor skips what was there all
//!   the time. What they name may be gone: they are candidates.
//! - Of one write, what names a post, a comment or a reference is seen only together with it or after it: a list shows no post that cannot be
//!   read, a comment no words that are missing, and a viewer who is said to miss nothing misses nothing.

mod chunk;
pub mod embedded;
pub mod fault;
pub mod scylla;

#[cfg(test)]
pub(crate) mod conformance;

use async_trait::async_trait;
use plaza_processor::StoreError;
use plaza_types::UserId;

use crate::domain::{
    engagement::Engagement,
    notice::Notice,
    post::{Post, PostId},
    posts, timeline,
};

/// A post in a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// When it was made, microseconds.
    pub created: u64,
    /// Which.
    pub post: PostId,
}

/// Where a list goes on: with what is from this time or older, and of what is from this very time only with what comes behind a post.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The time, microseconds.
    pub time: u64,
    /// The post, if one of this time was given already.
    pub after: Option<PostId>,
}

impl Position {
    /// The beginning of every list.
    pub const NEWEST: Self = Self { time: u64::MAX, after: None };
}

/// The store. See the module for the contract.
#[async_trait]
pub trait Store: plaza_processor::Store<posts::Row> + plaza_processor::Store<timeline::Row> {
    /// Posts by their ids, in order; also deleted ones.
    async fn posts(&self, ids: &[PostId]) -> Result<Vec<Option<Post>>, StoreError>;

    /// What others did to posts, in order.
    async fn engagements(&self, ids: &[PostId]) -> Result<Vec<Engagement>, StoreError>;

    /// The words of some of a post's comments, in order; empty for those that are not there.
    async fn words(&self, post: PostId, numbers: &[u32]) -> Result<Vec<String>, StoreError>;

    /// At most `limit` of an author's posts.
    async fn own(&self, author: UserId, from: Position, limit: usize) -> Result<Vec<Place>, StoreError>;

    /// At most `limit` of the posts in a timeline. The viewer's own are not among them.
    async fn references(&self, viewer: UserId, from: Position, limit: usize) -> Result<Vec<Place>, StoreError>;

    /// How a viewer stands; all zero for one who never looked.
    async fn viewer(&self, user: UserId) -> Result<timeline::Viewer, StoreError>;

    /// At most `limit` of a user's notices.
    async fn notices(&self, recipient: UserId, from: Position, limit: usize) -> Result<Vec<Notice>, StoreError>;
}

fn malformed(error: impl std::fmt::Display) -> StoreError {
    StoreError { message: format!("a stored row cannot be read: {error}") }
}
