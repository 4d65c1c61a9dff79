//! Who sees what: the one place that decides. Lists, single reads, likes, comments, counts and notices all ask here, with what holds at that
//! moment, so a change of an edge, a tag or a setting changes every answer at once, and its undoing restores it.

use plaza_types::{UserId, limits::DAY};

use super::{
    engagement::Comment,
    post::{Post, admits},
};

/// How one user stands to another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stance {
    /// The one lists the other.
    pub lists: bool,
    /// The one blocks the other.
    pub blocks: bool,
    /// Neither sees the other's Moments.
    pub chat_only: bool,
    /// The other does not see the one's Moments.
    pub hide_my_moments: bool,
    /// The one does not see the other's Moments.
    pub hide_their_moments: bool,
    /// The one's tags on the other.
    pub tags: Vec<String>,
}

/// How a viewer and another stand to each other.
#[derive(Debug, Clone, Copy)]
pub struct Pair<'a> {
    /// The viewer's side.
    pub own: &'a Stance,
    /// The other's side.
    pub theirs: &'a Stance,
}

/// How far back an author lets friends look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Range {
    /// This long, microseconds.
    Last(u64),
    /// Everything.
    All,
}

impl Range {
    /// Three days.
    pub const THREE_DAYS: Self = Self::Last(3 * DAY);
    /// A month of 30 days.
    pub const ONE_MONTH: Self = Self::Last(30 * DAY);
    /// Six months of 183 days together.
    pub const SIX_MONTHS: Self = Self::Last(183 * DAY);

    /// When the oldest post was made that can be seen now, microseconds.
    #[must_use]
    pub fn begins(self, now: u64) -> u64 {
        match self {
            Self::Last(long) => now.saturating_sub(long),
            Self::All => 0,
        }
    }
}

/// Whether the two are friends: in each other's lists, and neither blocks the other.
#[must_use]
pub fn are_friends(pair: Pair<'_>) -> bool {
    [pair.own, pair.theirs].iter().all(|stance| stance.lists && !stance.blocks)
}

/// Whether the viewer sees anything at all of an author who is somebody else.
#[must_use]
pub fn sees_moments_of(pair: Pair<'_>) -> bool {
    are_friends(pair) && !pair.own.chat_only && !pair.theirs.chat_only && !pair.theirs.hide_my_moments && !pair.own.hide_their_moments
}

/// Whether the viewer sees a post. `range` is its author's.
#[must_use]
pub fn sees_post(viewer: UserId, author: UserId, post: &Post, pair: Pair<'_>, range: Range, now: u64) -> bool {
    if post.deleted {
        return false;
    }
    let admitted = || admits(&post.audience, viewer, &pair.theirs.tags) && post.created >= range.begins(now);
    viewer == author || (sees_moments_of(pair) && admitted())
}

/// Whether the viewer of a post sees what somebody did there. `pair` is the viewer and that one.
#[must_use]
pub fn sees_act(viewer: UserId, author: UserId, actor: UserId, pair: Pair<'_>) -> bool {
    actor == viewer || actor == author || are_friends(pair)
}

/// Which of a post's comments, all of them in order, its viewer sees: an answer only with what it answers.
pub fn seen_comments<'a>(viewer: UserId, author: UserId, comments: &[Comment], pair: impl Fn(UserId) -> Option<Pair<'a>>) -> Vec<bool> {
    let mut seen = Vec::with_capacity(comments.len());
    for comment in comments {
        let act =
            !comment.deleted && comment.user().is_some_and(|actor| pair(actor).is_some_and(|pair| sees_act(viewer, author, actor, pair)));
        // The answered comment came before: its verdict stands.
        let answered = match comment.reply_to {
            0 => true,
            number => seen.get(number as usize - 1).copied().unwrap_or(false),
        };
        seen.push(act && answered);
    }
    seen
}

#[cfg(test)]
mod tests;
