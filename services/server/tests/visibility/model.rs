//! The visibility rules of Moments written a second time, from the words of the product and from nothing else: lists that are searched from
//! end to end, and one function for each sentence. It must never share a line with the services, or both are wrong together.

use std::collections::{BTreeMap, BTreeSet};

use crate::step::{Act, Audience, Range, Tag, Who};

/// Comments shown with their post; all of them are counted.
const COMMENTS: usize = 20;

/// Everything there is.
#[derive(Debug, Clone, Default)]
pub(crate) struct Model {
    pub(crate) people: usize,
    /// Hours since the beginning.
    pub(crate) now: u64,
    /// Who lists whom, and what they keep about them.
    pub(crate) contacts: BTreeMap<(Who, Who), Contact>,
    /// Who blocks whom.
    pub(crate) blocks: BTreeSet<(Who, Who)>,
    /// Whoever is not in it shows everything.
    pub(crate) ranges: BTreeMap<Who, Range>,
    /// Posts, likes and comments in the order in which they were made; a like taken back is gone.
    pub(crate) posts: Vec<Post>,
    pub(crate) likes: Vec<Like>,
    pub(crate) comments: Vec<Comment>,
    /// Counts what was done, to order it.
    pub(crate) done: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Contact {
    pub(crate) chat_only: bool,
    pub(crate) hide_my_moments: bool,
    pub(crate) hide_their_moments: bool,
    pub(crate) tags: BTreeSet<Tag>,
}

#[derive(Debug, Clone)]
pub(crate) struct Post {
    pub(crate) post: usize,
    pub(crate) author: Who,
    pub(crate) audience: Audience,
    pub(crate) mentions: Vec<Who>,
    pub(crate) hour: u64,
    pub(crate) order: u64,
    pub(crate) deleted: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Like {
    pub(crate) post: usize,
    pub(crate) by: Who,
    /// Who is to be told.
    pub(crate) told: BTreeSet<Who>,
    pub(crate) order: u64,
}

#[derive(Debug, Clone)]
pub(crate) struct Comment {
    pub(crate) comment: usize,
    pub(crate) post: usize,
    pub(crate) by: Who,
    pub(crate) answers: Option<usize>,
    pub(crate) told: BTreeSet<Who>,
    pub(crate) order: u64,
    pub(crate) deleted: bool,
}

/// A post as somebody sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SeenPost {
    pub(crate) post: usize,
    pub(crate) author: Who,
    pub(crate) mentions: Vec<Who>,
    pub(crate) audience: Option<Audience>,
    pub(crate) liked_by_me: bool,
    pub(crate) likes: Vec<Who>,
    pub(crate) like_count: usize,
    pub(crate) comments: Vec<SeenComment>,
    pub(crate) comment_count: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SeenComment {
    pub(crate) comment: usize,
    pub(crate) post: usize,
    pub(crate) by: Who,
    pub(crate) answers: Option<usize>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SeenNotice {
    pub(crate) kind: NoticeKind,
    pub(crate) post: usize,
    pub(crate) actor: Who,
    pub(crate) comment: Option<SeenComment>,
}

/// What a live device is told of a notice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hint {
    pub(crate) kind: NoticeKind,
    pub(crate) post: usize,
    pub(crate) actor: Who,
    pub(crate) comment: Option<usize>,
}

impl SeenNotice {
    pub(crate) fn hint(&self) -> Hint {
        let comment = self.comment.as_ref().map(|comment| comment.comment);
        Hint { kind: self.kind, post: self.post, actor: self.actor, comment }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoticeKind {
    Like,
    Comment,
    Reply,
    Mention,
}

/// What somebody is answered who does something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Done,
    /// What it is about does not exist, as far as they can tell.
    Missing,
    /// They see it, but it is not theirs to do.
    NotTheirs,
}

/// Who sees what.
impl Model {
    pub(crate) fn lists(&self, one: Who, other: Who) -> bool {
        self.contacts.contains_key(&(one, other))
    }

    pub(crate) fn blocks(&self, one: Who, other: Who) -> bool {
        self.blocks.contains(&(one, other))
    }

    /// Both list each other and neither blocks.
    pub(crate) fn friends(&self, one: Who, other: Who) -> bool {
        self.lists(one, other) && self.lists(other, one) && !self.blocks(one, other) && !self.blocks(other, one)
    }

    fn keeps(&self, one: Who, other: Who) -> Contact {
        self.contacts.get(&(one, other)).cloned().unwrap_or_default()
    }

    /// Whether the viewer sees anything of this author at all.
    fn sees_moments_of(&self, viewer: Who, author: Who) -> bool {
        if viewer == author {
            return true;
        }
        let (viewers, authors) = (self.keeps(viewer, author), self.keeps(author, viewer));
        self.friends(viewer, author) && !viewers.chat_only && !authors.chat_only && !viewers.hide_their_moments && !authors.hide_my_moments
    }

    fn is_within_range(&self, post: &Post) -> bool {
        let days = match self.ranges.get(&post.author) {
            None | Some(Range::All) => return true,
            Some(Range::ThreeDays) => 3,
            Some(Range::OneMonth) => 30,
            Some(Range::SixMonths) => 183,
        };
        self.now - post.hour <= days * 24
    }

    fn is_for(&self, viewer: Who, post: &Post) -> bool {
        let tags = self.keeps(post.author, viewer).tags;
        let named = |people: &[Who], named: &[Tag]| people.contains(&viewer) || named.iter().any(|tag| tags.contains(tag));
        match &post.audience {
            Audience::All => true,
            Audience::Private => false,
            Audience::Only(people, tags) => named(people, tags),
            Audience::Except(people, tags) => !named(people, tags),
        }
    }

    fn sees(&self, viewer: Who, post: &Post) -> bool {
        if post.deleted {
            return false;
        }
        let others = self.sees_moments_of(viewer, post.author) && self.is_within_range(post) && self.is_for(viewer, post);
        viewer == post.author || others
    }

    /// Whether the viewer sees what somebody does on a post of this author.
    fn sees_acts_of(&self, viewer: Who, author: Who, actor: Who) -> bool {
        actor == viewer || actor == author || self.friends(viewer, actor)
    }

    fn sees_comment(&self, viewer: Who, author: Who, comment: &Comment) -> bool {
        !comment.deleted
            && self.sees_acts_of(viewer, author, comment.by)
            && comment
                .answers
                .is_none_or(|answered| self.comment(answered).is_some_and(|answered| self.sees_comment(viewer, author, answered)))
    }

    fn comment(&self, comment: usize) -> Option<&Comment> {
        self.comments.iter().find(|known| known.comment == comment)
    }

    fn visible(&self, viewer: Who, post: usize) -> Option<&Post> {
        self.posts.iter().find(|known| known.post == post && self.sees(viewer, known))
    }
}

/// What somebody is shown.
impl Model {
    /// One post; `None` for one they do not see.
    pub(crate) fn get(&self, viewer: Who, post: usize) -> Option<SeenPost> {
        self.visible(viewer, post).map(|post| self.shown(viewer, post))
    }

    /// Their own posts and those of friends, newest first.
    pub(crate) fn timeline(&self, viewer: Who) -> Vec<SeenPost> {
        let seen = self.posts.iter().rev().filter(|post| self.sees(viewer, post));
        seen.map(|post| self.shown(viewer, post)).collect()
    }

    /// The posts of one author, newest first.
    pub(crate) fn posts_of(&self, viewer: Who, author: Who) -> Vec<SeenPost> {
        self.timeline(viewer).into_iter().filter(|post| post.author == author).collect()
    }

    /// The comments on a post, oldest first; `None` for one they do not see.
    pub(crate) fn comments(&self, viewer: Who, post: usize) -> Option<Vec<SeenComment>> {
        self.visible(viewer, post).map(|post| self.comments_shown(viewer, post))
    }

    /// What others did that concerns them, newest first.
    pub(crate) fn notices(&self, viewer: Who) -> Vec<SeenNotice> {
        let mut found = Vec::new();
        for post in self.posts.iter().filter(|post| self.sees(viewer, post)) {
            let notice = |kind, actor, comment| SeenNotice { kind, post: post.post, actor, comment };
            if post.mentions.contains(&viewer) && viewer != post.author {
                found.push((post.order, notice(NoticeKind::Mention, post.author, None)));
            }
            for like in self.likes.iter().filter(|like| like.post == post.post && like.told.contains(&viewer)) {
                if self.sees_acts_of(viewer, post.author, like.by) {
                    found.push((like.order, notice(NoticeKind::Like, like.by, None)));
                }
            }
            for comment in self.comments.iter().filter(|comment| comment.post == post.post && comment.told.contains(&viewer)) {
                let answered = comment.answers.and_then(|answered| self.comment(answered));
                let kind = if answered.is_some_and(|answered| answered.by == viewer) { NoticeKind::Reply } else { NoticeKind::Comment };
                if self.sees_comment(viewer, post.author, comment) {
                    found.push((comment.order, notice(kind, comment.by, Some(comment.shown()))));
                }
            }
        }
        found.sort_by_key(|(order, _)| *order);
        found.into_iter().rev().map(|(_, notice)| notice).collect()
    }

    fn shown(&self, viewer: Who, post: &Post) -> SeenPost {
        let likes = self.likes.iter().filter(|like| like.post == post.post);
        let likes: Vec<Who> = likes.map(|like| like.by).filter(|by| self.sees_acts_of(viewer, post.author, *by)).collect();
        let comments = self.comments_shown(viewer, post);
        SeenPost {
            post: post.post,
            author: post.author,
            mentions: post.mentions.clone(),
            audience: Some(post.audience.clone()).filter(|_| viewer == post.author),
            liked_by_me: likes.contains(&viewer),
            like_count: likes.len(),
            likes,
            comment_count: comments.len(),
            comments: comments.into_iter().take(COMMENTS).collect(),
        }
    }

    fn comments_shown(&self, viewer: Who, post: &Post) -> Vec<SeenComment> {
        let comments = self.comments.iter().filter(|comment| comment.post == post.post);
        comments.filter(|comment| self.sees_comment(viewer, post.author, comment)).map(Comment::shown).collect()
    }
}

impl Comment {
    fn shown(&self) -> SeenComment {
        SeenComment { comment: self.comment, post: self.post, by: self.by, answers: self.answers }
    }
}

/// What somebody does.
impl Model {
    /// Whether it can be done in this state by people who use their contact lists as the apps let them. Nothing else is tried.
    pub(crate) fn can(&self, act: &Act) -> bool {
        match *act {
            Act::Befriend(one, other) => one != other && !self.blocks(one, other) && !self.blocks(other, one),
            Act::Unfriend(one, other) | Act::Permit(one, other, ..) | Act::Tag(one, other, _) => self.lists(one, other),
            Act::Block(one, other) | Act::Unblock(one, other) => one != other,
            Act::Post { who, ref audience, ref mentions, .. } => {
                let (people, tags) = match audience {
                    Audience::All | Audience::Private => (&[][..], &[][..]),
                    Audience::Only(people, tags) | Audience::Except(people, tags) => (people.as_slice(), tags.as_slice()),
                };
                let used = self.tags_of(who);
                people.iter().chain(mentions).all(|named| self.lists(who, *named)) && tags.iter().all(|tag| used.contains(tag))
            }
            _ => true,
        }
    }

    /// The tags that somebody has on anybody.
    pub(crate) fn tags_of(&self, who: Who) -> BTreeSet<Tag> {
        self.contacts.iter().filter(|((one, _), _)| *one == who).flat_map(|(_, kept)| kept.tags.iter().copied()).collect()
    }

    pub(crate) fn act(&mut self, act: &Act) -> Answer {
        self.done += 1;
        match act.clone() {
            Act::Befriend(one, other) => {
                self.contacts.entry((one, other)).or_default();
                self.contacts.entry((other, one)).or_default();
            }
            Act::Unfriend(one, other) => {
                self.contacts.remove(&(one, other));
            }
            Act::Block(one, other) => {
                self.blocks.insert((one, other));
            }
            Act::Unblock(one, other) => {
                self.blocks.remove(&(one, other));
            }
            Act::Permit(one, other, permissions) => {
                let contact = self.contacts.entry((one, other)).or_default();
                contact.chat_only = permissions.chat_only;
                contact.hide_my_moments = permissions.hide_my_moments;
                contact.hide_their_moments = permissions.hide_their_moments;
            }
            Act::Tag(one, other, tags) => self.contacts.entry((one, other)).or_default().tags = tags,
            Act::Range(who, range) => {
                self.ranges.insert(who, range);
            }
            Act::Post { who, post, audience, mentions } => {
                let (hour, order) = (self.now, self.done);
                self.posts.push(Post { post, author: who, audience, mentions, hour, order, deleted: false });
            }
            Act::DeletePost(who, post) => return self.delete_post(who, post),
            Act::Like(who, post) => return self.like(who, post),
            Act::Unlike(who, post) => {
                if self.visible(who, post).is_none() {
                    return Answer::Missing;
                }
                self.likes.retain(|like| (like.post, like.by) != (post, who));
            }
            Act::Comment { who, post, comment, answers } => return self.add_comment(who, post, comment, answers),
            Act::DeleteComment(who, comment) => return self.delete_comment(who, comment),
        }
        Answer::Done
    }

    fn delete_post(&mut self, who: Who, post: usize) -> Answer {
        match self.visible(who, post).map(|post| post.author) {
            None => Answer::Missing,
            Some(author) if author != who => Answer::NotTheirs,
            Some(_) => {
                self.posts.iter_mut().filter(|known| known.post == post).for_each(|known| known.deleted = true);
                Answer::Done
            }
        }
    }

    fn like(&mut self, who: Who, post: usize) -> Answer {
        if self.visible(who, post).is_none() {
            return Answer::Missing;
        }
        if !self.likes.iter().any(|like| (like.post, like.by) == (post, who)) {
            let told = self.concerned(who, post);
            self.likes.push(Like { post, by: who, told, order: self.done });
        }
        Answer::Done
    }

    fn add_comment(&mut self, who: Who, post: usize, comment: usize, answers: Option<usize>) -> Answer {
        let Some(shown) = self.comments(who, post) else { return Answer::Missing };
        if answers.is_some_and(|answered| !shown.iter().any(|shown| shown.comment == answered)) {
            return Answer::Missing;
        }
        let told = self.concerned(who, post);
        self.comments.push(Comment { comment, post, by: who, answers, told, order: self.done, deleted: false });
        Answer::Done
    }

    fn delete_comment(&mut self, who: Who, comment: usize) -> Answer {
        let Some(found) = self.comment(comment) else { return Answer::Missing };
        let Some(post) = self.visible(who, found.post) else { return Answer::Missing };
        if !self.sees_comment(who, post.author, found) {
            return Answer::Missing;
        }
        if who != found.by && who != post.author {
            return Answer::NotTheirs;
        }
        self.comments.iter_mut().filter(|known| known.comment == comment).for_each(|known| known.deleted = true);
        Answer::Done
    }

    /// Whom it concerns that somebody does something on a post now: its author, and everybody whose like or comment is there.
    fn concerned(&self, actor: Who, post: usize) -> BTreeSet<Who> {
        let author = self.posts.iter().filter(|known| known.post == post).map(|known| known.author);
        let likers = self.likes.iter().filter(|like| like.post == post).map(|like| like.by);
        let commenters = self.comments.iter().filter(|comment| comment.post == post && !comment.deleted).map(|comment| comment.by);
        author.chain(likers).chain(commenters).filter(|who| *who != actor).collect()
    }
}
