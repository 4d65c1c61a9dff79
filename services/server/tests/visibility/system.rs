//! What a history is played on: the running services, or a made-up system with a planted mistake. Calls carry the numbers of the history,
//! never ids, so whatever a system answers about something it should not know of shows as a number that nobody gave.

use std::time::Duration;

use crate::{
    model::{Hint, SeenComment, SeenNotice, SeenPost},
    step::{Act, Who},
};

/// Why a call was refused, to the last detail that a caller can see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: String,
    pub(crate) reason: String,
    pub(crate) message: String,
    /// Everything else that came with it.
    pub(crate) details: String,
}

/// A page and where to go on; empty at the end.
pub(crate) type Page<T> = (Vec<T>, String);

/// Where a history happens.
pub(crate) trait System: Send + Sync {
    /// How long a post may be on its way into timelines, and a notice on its way.
    const PATIENCE: Duration;

    /// One more person, whom nobody knows.
    fn newcomer(&mut self) -> impl Future<Output = Result<Who, Refusal>> + Send;

    /// Somebody does something; it holds when this returns. Making, liking and unliking a post show the post.
    fn act(&mut self, act: &Act) -> impl Future<Output = Result<Option<SeenPost>, Refusal>> + Send;

    /// A page of somebody's timeline.
    fn timeline(&self, viewer: Who, size: u32, token: &str) -> impl Future<Output = Result<Page<SeenPost>, Refusal>> + Send;

    /// A page of one author's posts.
    fn posts_of(&self, viewer: Who, author: Who, size: u32, token: &str) -> impl Future<Output = Result<Page<SeenPost>, Refusal>> + Send;

    /// One post.
    fn get(&self, viewer: Who, post: usize) -> impl Future<Output = Result<SeenPost, Refusal>> + Send;

    /// A page of the comments on a post.
    fn comments(&self, viewer: Who, post: usize, size: u32, token: &str)
    -> impl Future<Output = Result<Page<SeenComment>, Refusal>> + Send;

    /// What somebody's devices were told of notices so far.
    fn hints(&self, viewer: Who) -> Result<Vec<Hint>, Refusal>;

    /// A page of somebody's notices.
    fn notices(&self, viewer: Who, size: u32, token: &str) -> impl Future<Output = Result<Page<SeenNotice>, Refusal>> + Send;
}
