//! The rules of Moments, pure: what an author's posts decide, what a timeline makes of it, and who may see what. No clock, no randomness, no
//! I/O, and nothing of gRPC but the shapes of its messages.

pub mod emit;
pub mod engagement;
pub mod notice;
pub mod post;
pub mod posts;
pub mod rules;
pub mod timeline;
pub mod visibility;

use std::ops::RangeInclusive;

use plaza_types::limits::DAY;

/// The rules that commands are to be decided by: 1 knew no limit of posts a day.
pub const RULES: RangeInclusive<u32> = 1..=2;
/// From these on an author's posts of a day have a limit.
const LIMITED: u32 = 2;

/// Posts of an author that somebody new in the list is given, the newest ones.
pub const RECENT: usize = 2_000;
/// People who ever liked one post, at most.
pub const LIKES: usize = 10_000;
/// Comments ever made on one post, at most.
pub const COMMENTS: usize = 10_000;
/// Earlier participants who may be told of one act, the newest ones.
pub const PARTICIPANTS: usize = 200;
/// For how long a viewer must not have looked to be passed over when posts are spread, at first. Microseconds.
pub const IDLE_AFTER: u64 = 30 * DAY;

/// Characters of a post's text at most.
pub const TEXT: usize = 2_000;
/// Characters of a comment at most.
pub const COMMENT: usize = 1_000;
/// People named by one audience at most.
pub const PEOPLE: usize = 10_000;
/// Tags named by one audience at most.
pub const TAGS: usize = 200;
/// People called by one post at most.
pub const MENTIONS: usize = 50;

#[cfg(test)]
mod tests;
