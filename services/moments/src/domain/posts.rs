//! The state machine of the topic `moments`, keyed by author. Two kinds of key share a partition: the author, who makes posts and remembers
//! the newest ones, and the author with one post, which keeps its likes and comments.

use std::ops::RangeInclusive;

use bytes::Bytes;
use plaza_event_log::Topic;
use plaza_processor::{Effects, Envelope, Input, Key, Machine, StateRow};
use plaza_topics::{
    MOMENTS,
    moments::{Kind, Payload},
};
use plaza_types::{ClientId, UserId};
use prost::{DecodeError, Message as _};
use smallvec::{SmallVec, smallvec};

use super::{
    engagement::{Comment, Engagement, Like},
    notice::Notice,
    post::{Post, PostId},
    rules::{AtAuthor, AtPost},
};

/// The machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct Posts;

/// What is kept of a key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum State {
    /// Nothing yet.
    #[default]
    New,
    /// Of an author.
    Author(OfAuthor),
    /// Of a post.
    Post(Box<OfPost>),
}

/// What decides about an author's posts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OfAuthor {
    /// The newest posts, the oldest of them first.
    pub recent: Vec<Recent>,
    /// The day (UTC, counted from the epoch) that `made` is about.
    pub day: u64,
    /// Posts made on that day, those deleted since included.
    pub made: u32,
}

/// A post that the author remembers.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Recent {
    /// When it was made, microseconds.
    #[prost(fixed64, tag = "1")]
    pub created: u64,
    /// The first half of the request's number.
    #[prost(fixed64, tag = "2")]
    pub high: u64,
    /// The second half.
    #[prost(fixed64, tag = "3")]
    pub low: u64,
}

/// What decides about likes and comments. That there is the post is the API's to know: it was shown to whoever asks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OfPost {
    /// Deleted.
    pub deleted: bool,
    /// What others did to it.
    pub engagement: Engagement,
}

/// A row that readers see. Rewritten whole; "gone" is a value.
#[derive(Debug, Clone, PartialEq)]
pub enum Row {
    /// A post.
    Post {
        /// Which.
        id: PostId,
        /// As it is now.
        post: Post,
    },
    /// A place in its author's list; it stays when the post is deleted.
    Own {
        /// Which.
        id: PostId,
        /// When it was made, microseconds.
        created: u64,
    },
    /// Some of a post's likes.
    Likes {
        /// The post.
        id: PostId,
        /// Which of the chunks, from 0 on.
        chunk: u32,
        /// Those in it.
        likes: Vec<Like>,
    },
    /// Some of a post's comments.
    Comments {
        /// The post.
        id: PostId,
        /// Which of the chunks, from 0 on.
        chunk: u32,
        /// Those in it.
        comments: Vec<Comment>,
    },
    /// The words of a comment; empty when it is deleted.
    Words {
        /// The post.
        id: PostId,
        /// The comment's number.
        number: u32,
        /// What it says.
        text: String,
    },
    /// A candidate for somebody's list of notices; never rewritten with other content.
    Notice {
        /// Whose list.
        recipient: UserId,
        /// What.
        notice: Notice,
    },
}

impl Recent {
    pub(super) fn new(created: u64, request: ClientId) -> Self {
        let number = u128::from_be_bytes(*request.as_bytes());
        Self { created, high: (number >> 64) as u64, low: number as u64 }
    }

    pub(super) fn request(&self) -> ClientId {
        ClientId::from_bytes(((u128::from(self.high) << 64) | u128::from(self.low)).to_be_bytes())
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct Hot {
    /// 0: nothing, 1: of an author, 2: of a post, 3: of a deleted post.
    #[prost(uint32, tag = "1")]
    which: u32,
    /// Of an author: the day of the newest post.
    #[prost(uint64, tag = "2")]
    day: u64,
    /// Of an author: posts made on that day.
    #[prost(uint32, tag = "3")]
    made: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ColdAuthor {
    #[prost(message, repeated, tag = "1")]
    recent: Vec<Recent>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ColdPost {
    #[prost(message, repeated, tag = "1")]
    likes: Vec<Like>,
    #[prost(message, repeated, tag = "2")]
    comments: Vec<Comment>,
}

fn post_key(author: &Bytes, post: &Bytes) -> Key {
    Key([author.as_ref(), post].concat().into())
}

impl Machine for Posts {
    type Payload = Payload;
    type State = State;
    type Row = Row;
    type Announcement = ();

    const NAME: &'static str = "moments";
    const TOPIC: Topic = MOMENTS;
    const RULES: RangeInclusive<u32> = super::RULES;

    /// A reference in a timeline leads to a post that can be read.
    fn after_rows(&self, _: Topic) -> bool {
        true
    }

    fn keys(&self, record_key: &Bytes, envelope: &Envelope, payload: &Payload) -> SmallVec<[Key; 4]> {
        let asked = UserId::from_slice(&envelope.caller).is_some() && ClientId::from_slice(&envelope.request).is_some();
        let own = asked && envelope.caller == *record_key;
        let author_key = || Key(record_key.clone());
        let of_post = |post: &Bytes| PostId::from_parts(record_key, post).map(|_| post_key(record_key, post));
        match &payload.kind {
            Some(Kind::Create(_)) if own => smallvec![author_key()],
            Some(Kind::Delete(delete)) if own => of_post(&delete.post).map(|post| smallvec![post, author_key()]).unwrap_or_default(),
            Some(Kind::Like(on) | Kind::Unlike(on)) if asked => of_post(&on.post).into_iter().collect(),
            Some(Kind::Comment(comment)) if asked => of_post(&comment.post).into_iter().collect(),
            Some(Kind::DeleteComment(delete)) if asked => of_post(&delete.post).into_iter().collect(),
            Some(Kind::Backfill(backfill))
                if UserId::from_slice(record_key).is_some() && UserId::from_slice(&backfill.viewer).is_some() =>
            {
                smallvec![author_key()]
            }
            _ => smallvec![],
        }
    }

    fn apply(&self, input: Input<'_, Payload>, _: usize, key: &Key, state: &mut State, effects: &mut Effects<Self>) {
        if let Some(id) = PostId::from_slice(&key.0) {
            if !matches!(state, State::Post(_)) {
                *state = State::Post(Box::default());
            }
            let State::Post(post) = state else { return };
            AtPost { id, now: input.time, post, effects }.apply(&input);
        } else if let Some(author) = UserId::from_slice(&key.0) {
            if !matches!(state, State::Author(_)) {
                *state = State::Author(OfAuthor::default());
            }
            let State::Author(posts) = state else { return };
            AtAuthor { author, now: input.time, posts, effects }.apply(&input);
        }
    }

    fn encode(&self, state: &State, cold: bool) -> (Bytes, Option<Bytes>) {
        let (hot, rest) = match state {
            State::New => (Hot::default(), None),
            State::Author(OfAuthor { recent, day, made }) => {
                let rest = cold.then(|| ColdAuthor { recent: recent.clone() }.encode_to_vec());
                (Hot { which: 1, day: *day, made: *made }, rest)
            }
            State::Post(post) => {
                let Engagement { likes, comments } = &post.engagement;
                let rest = cold.then(|| ColdPost { likes: likes.clone(), comments: comments.clone() }.encode_to_vec());
                (Hot { which: 2 + u32::from(post.deleted), ..Hot::default() }, rest)
            }
        };
        (hot.encode_to_vec().into(), rest.map(Bytes::from))
    }

    fn decode(&self, row: &StateRow) -> Result<State, DecodeError> {
        let Hot { which, day, made } = Hot::decode(row.hot.clone())?;
        Ok(match which {
            1 => State::Author(OfAuthor { recent: ColdAuthor::decode(row.cold.clone())?.recent, day, made }),
            which @ (2 | 3) => {
                let ColdPost { likes, comments } = ColdPost::decode(row.cold.clone())?;
                State::Post(Box::new(OfPost { deleted: which == 3, engagement: Engagement { likes, comments } }))
            }
            _ => State::New,
        })
    }
}
