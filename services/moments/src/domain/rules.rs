//! The decisions about posts. Whether the caller may see the post or the comment is the API's to know, from edges and settings that no state
//! here has; what is decided here follows from the record and the post alone.

use bytes::Bytes;
use plaza_processor::{Effects, Input, Outcome, ReplyWhen, outcome};
use plaza_proto::moments::v1 as api;
use plaza_topics::moments::{Act, Audience, AudienceKind, Comment as Commenting, Create, Kind as Command, Payload};
use plaza_types::{
    ClientId, Reason, UserId,
    limits::{DAY, POSTS_PER_DAY},
};
use prost::Message as _;

use super::{
    COMMENTS, LIKES, LIMITED, PARTICIPANTS, RECENT, emit,
    engagement::{CHUNK, Comment, Like, chunk},
    notice::{Kind, Notice},
    post::{Post, PostId},
    posts::{OfAuthor, OfPost, Posts, Recent, Row},
};

/// An author, while one record is applied.
pub(super) struct AtAuthor<'a> {
    pub(super) author: UserId,
    /// The record's write time, microseconds.
    pub(super) now: u64,
    pub(super) posts: &'a mut OfAuthor,
    pub(super) effects: &'a mut Effects<Posts>,
}

impl AtAuthor<'_> {
    pub(super) fn apply(&mut self, input: &Input<'_, Payload>) {
        match &input.payload.kind {
            Some(Command::Create(create)) => {
                if let Some(request) = ClientId::from_slice(&input.envelope.request) {
                    let is_limited = input.envelope.rules >= LIMITED;
                    self.create(PostId { author: self.author, request }, create, is_limited);
                }
            }
            Some(Command::Delete(delete)) => {
                let before = self.posts.recent.len();
                self.posts.recent.retain(|recent| recent.request().as_bytes()[..] != delete.post[..]);
                if self.posts.recent.len() != before {
                    self.effects.touch_cold();
                }
            }
            Some(Command::Backfill(backfill)) => {
                for emission in emit::backfilled(self.author, &backfill.viewer, &self.posts.recent) {
                    self.effects.emit(emission);
                }
            }
            _ => {}
        }
    }

    fn create(&mut self, id: PostId, create: &Create, is_limited: bool) {
        let OfAuthor { recent, day, made } = &mut *self.posts;
        let today = self.now / DAY;
        let made_today = if *day == today { *made } else { 0 };
        if is_limited && made_today as usize >= POSTS_PER_DAY {
            return self.refuse_today();
        }
        (*day, *made) = (today, made_today.saturating_add(1));
        self.effects.touch_cold();
        recent.push(Recent::new(self.now, id.request));
        let surplus = recent.len().saturating_sub(RECENT);
        recent.drain(..surplus);
        let post = Post {
            created: self.now,
            content: create.content.clone(),
            audience: create.audience.clone(),
            mentions: create.mentions.clone(),
            deleted: false,
        };
        let answer = api::CreatePostResponse { post: Some(emit::created(id, &post)) };
        self.effects.row(Row::Own { id, created: self.now });
        self.effects.row(Row::Post { id, post });
        for recipient in create.mentions.iter().filter_map(|user| UserId::from_slice(user)) {
            let notice = Notice { time: self.now, post: id, kind: Kind::Mention, actor: self.author, number: 0 };
            self.effects.row(Row::Notice { recipient, notice });
        }
        // Nobody else can ever see it, so nobody's timeline needs to know.
        if create.audience.kind() != AudienceKind::Private {
            self.effects.emit(emit::spread(id, self.now, create.idle_after));
            if !create.mentions.is_empty() {
                self.effects.emit(emit::act(&Act {
                    kind: Kind::Mention.into(),
                    recipients: create.mentions.clone(),
                    ..act(id, self.author, 0)
                }));
            }
        }
        self.effects.reply(Outcome::accepted(answer.encode_to_vec()), ReplyWhen::Written);
    }

    /// No more until the next day begins.
    fn refuse_today(&mut self) {
        let mut outcome = Outcome::refused(Reason::QuotaExceeded, "posts", "too many posts today");
        if let Some(outcome::Kind::Refused(refusal)) = &mut outcome.kind {
            refusal.retry_after = DAY - self.now % DAY;
        }
        self.effects.reply(outcome, ReplyWhen::Decided);
    }
}

/// A post, while one record is applied.
pub(super) struct AtPost<'a> {
    pub(super) id: PostId,
    /// The record's write time, microseconds.
    pub(super) now: u64,
    pub(super) post: &'a mut OfPost,
    pub(super) effects: &'a mut Effects<Posts>,
}

impl AtPost<'_> {
    pub(super) fn apply(&mut self, input: &Input<'_, Payload>) {
        let Some(caller) = UserId::from_slice(&input.envelope.caller) else { return };
        match &input.payload.kind {
            // As the command for a post that never was: the author alone can ask, and may ask twice.
            Some(Command::Delete(_)) if caller == self.id.author => self.delete(),
            Some(_) if self.post.deleted => self.refuse_missing("post"),
            Some(Command::Like(_)) => self.like(caller),
            Some(Command::Unlike(_)) => self.unlike(caller),
            Some(Command::Comment(comment)) => self.comment(caller, &input.envelope.request, comment),
            Some(Command::DeleteComment(delete)) => self.delete_comment(caller, delete.number),
            _ => {}
        }
    }

    fn delete(&mut self) {
        if self.post.deleted {
            return self.refuse_missing("post");
        }
        // What others did to it is gone with it.
        *self.post = OfPost { deleted: true, ..OfPost::default() };
        self.effects.touch_cold();
        let gone = Post { deleted: true, audience: Audience::default(), ..Post::default() };
        self.effects.row(Row::Post { id: self.id, post: gone });
        self.effects.reply(Outcome::accepted(Bytes::new()), ReplyWhen::Written);
    }

    fn like(&mut self, caller: UserId) {
        let likes = &mut self.post.engagement.likes;
        let known = likes.iter().position(|like| like.user[..] == caller.as_bytes()[..]);
        match known {
            Some(place) if likes[place].gone => {
                likes[place].gone = false;
                likes[place].time = self.now;
                self.write_like(place);
                // A new act, but devices are not told again: who likes over and over must not ring.
                let told = self.participants(caller);
                self.notice(Kind::Like, caller, 0, &told, None);
            }
            Some(_) => {}
            None if likes.len() >= LIKES => {
                let full = Outcome::refused(Reason::QuotaExceeded, "likes", "too many people like this post");
                return self.effects.reply(full, ReplyWhen::Decided);
            }
            None => {
                let place = likes.len();
                let told = self.participants(caller);
                self.post.engagement.likes.push(Like { user: caller.to_key(), time: self.now, gone: false });
                self.write_like(place);
                self.tell(Kind::Like, caller, 0, told, None);
            }
        }
        self.effects.reply(Outcome::accepted(Bytes::new()), ReplyWhen::Written);
    }

    fn unlike(&mut self, caller: UserId) {
        let likes = &mut self.post.engagement.likes;
        if let Some(place) = likes.iter().position(|like| !like.gone && like.user[..] == caller.as_bytes()[..]) {
            likes[place].gone = true;
            self.write_like(place);
        }
        self.effects.reply(Outcome::accepted(Bytes::new()), ReplyWhen::Written);
    }

    fn comment(&mut self, caller: UserId, request: &Bytes, asked: &Commenting) {
        let comments = &self.post.engagement.comments;
        let answered = asked.reply_to.checked_sub(1).map(|place| comments.get(place as usize).filter(|comment| !comment.deleted));
        let answered = match answered {
            Some(None) => return self.refuse_missing("comment"),
            Some(Some(comment)) => comment.user(),
            None => None,
        };
        if comments.len() >= COMMENTS {
            let full = Outcome::refused(Reason::QuotaExceeded, "comments", "too many comments on this post");
            return self.effects.reply(full, ReplyWhen::Decided);
        }
        let place = comments.len();
        let told = self.participants(caller);
        let comment = Comment { user: caller.to_key(), time: self.now, reply_to: asked.reply_to, deleted: false, request: request.clone() };
        // Never above COMMENTS.
        let number = u32::try_from(place + 1).unwrap_or(u32::MAX);
        self.post.engagement.comments.push(comment);
        self.write_comment(place);
        self.effects.row(Row::Words { id: self.id, number, text: asked.text.clone() });
        self.tell(Kind::Comment, caller, number, told, answered);
        let answer = api::CommentResponse { comment: emit::comment(self.id, &self.post.engagement, number, asked.text.clone()) };
        self.effects.reply(Outcome::accepted(answer.encode_to_vec()), ReplyWhen::Written);
    }

    fn delete_comment(&mut self, caller: UserId, number: u32) {
        let author = self.id.author;
        let found = number.checked_sub(1).and_then(|place| Some((place as usize, self.post.engagement.comments.get_mut(place as usize)?)));
        let Some((place, comment)) = found.filter(|(_, comment)| !comment.deleted) else { return self.refuse_missing("comment") };
        // Only who sees it gets as far as this.
        if caller != author && comment.user[..] != caller.as_bytes()[..] {
            let others = Outcome::refused(Reason::NotTheSender, "comment_id", "only its author and the post's delete a comment");
            return self.effects.reply(others, ReplyWhen::Decided);
        }
        comment.deleted = true;
        self.write_comment(place);
        self.effects.row(Row::Words { id: self.id, number, text: String::new() });
        self.effects.reply(Outcome::accepted(Bytes::new()), ReplyWhen::Written);
    }

    /// The author and the newest of those who like the post or commented on it, without who acts.
    fn participants(&self, actor: UserId) -> Vec<UserId> {
        let engagement = &self.post.engagement;
        let likes = engagement.likes.iter().filter(|like| !like.gone).filter_map(|like| Some((like.time, like.user()?)));
        let comments =
            engagement.comments.iter().filter(|comment| !comment.deleted).filter_map(|comment| Some((comment.time, comment.user()?)));
        let mut all: Vec<(u64, UserId)> = likes.chain(comments).filter(|(_, user)| *user != actor && *user != self.id.author).collect();
        all.sort_unstable_by(|one, other| other.cmp(one));
        let mut told: Vec<UserId> = Some(self.id.author).filter(|author| *author != actor).into_iter().collect();
        for (_, user) in all {
            if told.len() > PARTICIPANTS {
                break;
            }
            if !told.contains(&user) {
                told.push(user);
            }
        }
        told
    }

    fn tell(&mut self, kind: Kind, actor: UserId, number: u32, mut told: Vec<UserId>, answered: Option<UserId>) {
        let answered = answered.filter(|user| *user != actor);
        // Whose comment is answered is told, however long ago that was.
        if let Some(user) = answered.filter(|user| !told.contains(user)) {
            told.push(user);
        }
        if told.is_empty() {
            return;
        }
        self.notice(kind, actor, number, &told, answered);
        self.effects.emit(emit::act(&Act {
            kind: kind.into(),
            recipients: told.iter().map(UserId::to_key).collect(),
            answered: answered.map(|user| user.to_key()).unwrap_or_default(),
            ..act(self.id, actor, number)
        }));
    }

    fn notice(&mut self, kind: Kind, actor: UserId, number: u32, told: &[UserId], answered: Option<UserId>) {
        for recipient in told {
            let kind = if Some(*recipient) == answered { Kind::Reply } else { kind };
            let notice = Notice { time: self.now, post: self.id, kind, actor, number };
            self.effects.row(Row::Notice { recipient: *recipient, notice });
        }
    }

    fn write_like(&mut self, place: usize) {
        self.effects.touch_cold();
        let likes = chunk(&self.post.engagement.likes, place / CHUNK);
        self.effects.row(Row::Likes { id: self.id, chunk: number(place / CHUNK), likes });
    }

    fn write_comment(&mut self, place: usize) {
        self.effects.touch_cold();
        let comments = chunk(&self.post.engagement.comments, place / CHUNK);
        self.effects.row(Row::Comments { id: self.id, chunk: number(place / CHUNK), comments });
    }

    fn refuse_missing(&mut self, kind: &str) {
        self.effects.reply(Outcome::refused(Reason::NotFound, kind, ""), ReplyWhen::Decided);
    }
}

fn act(id: PostId, actor: UserId, number: u32) -> Act {
    Act { author: id.author.to_key(), post: id.request_key(), actor: actor.to_key(), number, ..Act::default() }
}

fn number(chunk: usize) -> u32 {
    u32::try_from(chunk).unwrap_or(u32::MAX)
}
