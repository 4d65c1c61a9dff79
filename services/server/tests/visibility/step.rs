//! What happens in a history. People, posts and comments have numbers that a step keeps when others are left out, so that a history can be
//! made shorter; what a step names that was never made is missing.

use std::collections::BTreeSet;

/// A person of a history.
pub(crate) type Who = usize;
/// A tag of anybody.
pub(crate) type Tag = u8;

/// How far back friends may look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Range {
    ThreeDays,
    OneMonth,
    SixMonths,
    All,
}

/// For whom a post is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Audience {
    All,
    Private,
    Only(Vec<Who>, Vec<Tag>),
    Except(Vec<Who>, Vec<Tag>),
}

/// What one allows a contact.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct Permissions {
    pub(crate) chat_only: bool,
    pub(crate) hide_my_moments: bool,
    pub(crate) hide_their_moments: bool,
}

/// Something that somebody does: the first person named.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Act {
    /// Both ask each other, unless they are friends.
    Befriend(Who, Who),
    Unfriend(Who, Who),
    Block(Who, Who),
    Unblock(Who, Who),
    Permit(Who, Who, Permissions),
    Tag(Who, Who, BTreeSet<Tag>),
    Range(Who, Range),
    Post {
        who: Who,
        post: usize,
        audience: Audience,
        mentions: Vec<Who>,
    },
    DeletePost(Who, usize),
    Like(Who, usize),
    Unlike(Who, usize),
    Comment {
        who: Who,
        post: usize,
        comment: usize,
        answers: Option<usize>,
    },
    DeleteComment(Who, usize),
}

/// A step of a history.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Step {
    Do(Act),
    /// It happens while somebody reads their timeline in pages of this size, after the first page.
    While {
        viewer: Who,
        size: u32,
        act: Act,
    },
    /// So many hours pass.
    Wait(u64),
}
