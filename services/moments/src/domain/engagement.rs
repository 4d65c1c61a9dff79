//! What others did to a post: likes and comments, in the form in which a post's state and its rows keep them. They are kept in chunks: the
//! row of a chunk is rewritten whole, so what one like costs does not grow with the number of likes.

use bytes::Bytes;
use plaza_types::{ClientId, UserId};

use super::post::{CommentId, PostId};

/// Likes or comments of one row.
pub const CHUNK: usize = 128;

/// Somebody who likes a post, or did.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Like {
    /// Who, 16 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub user: Bytes,
    /// Since when, microseconds.
    #[prost(fixed64, tag = "2")]
    pub time: u64,
    /// No longer. The place stays: devices are not told again of who likes again.
    #[prost(bool, tag = "3")]
    pub gone: bool,
}

/// A comment without its words, which only those need who are shown it.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Comment {
    /// Whose, 16 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub user: Bytes,
    /// When it was made, microseconds.
    #[prost(fixed64, tag = "2")]
    pub time: u64,
    /// The number of the comment it answers; 0 for none. Always a smaller one.
    #[prost(uint32, tag = "3")]
    pub reply_to: u32,
    /// Deleted.
    #[prost(bool, tag = "4")]
    pub deleted: bool,
    /// The request that made it, 16 bytes: with the user its id on the post.
    #[prost(bytes = "bytes", tag = "5")]
    pub request: Bytes,
}

impl Like {
    /// Who.
    #[must_use]
    pub fn user(&self) -> Option<UserId> {
        UserId::from_slice(&self.user)
    }
}

impl Comment {
    /// Whose.
    #[must_use]
    pub fn user(&self) -> Option<UserId> {
        UserId::from_slice(&self.user)
    }

    /// Its id, on its post.
    #[must_use]
    pub fn id(&self, post: PostId) -> Option<CommentId> {
        Some(CommentId { post, user: self.user()?, request: ClientId::from_slice(&self.request)? })
    }
}

/// All likes and comments of a post.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Engagement {
    /// Everybody who likes it or did, in the order of their first likes.
    pub likes: Vec<Like>,
    /// All comments, in the order of their numbers from 1 on.
    pub comments: Vec<Comment>,
}

impl Engagement {
    /// Everybody who has to do with it, some more than once.
    pub fn actors(&self) -> impl Iterator<Item = UserId> {
        let likers = self.likes.iter().filter(|like| !like.gone).filter_map(Like::user);
        likers.chain(self.comments.iter().filter_map(Comment::user))
    }

    /// The comment of a number; there is none of 0.
    #[must_use]
    pub fn comment(&self, number: u32) -> Option<&Comment> {
        self.comments.get(number.checked_sub(1)? as usize)
    }

    /// The number of the comment with an id.
    #[must_use]
    pub fn number_of(&self, id: CommentId) -> Option<u32> {
        (1..).zip(&self.comments).find(|(_, comment)| comment.id(id.post) == Some(id)).map(|(number, _)| number)
    }
}

/// The part of all likes or comments that one row keeps.
#[must_use]
pub fn chunk<T: Clone>(all: &[T], chunk: usize) -> Vec<T> {
    all.chunks(CHUNK).nth(chunk).unwrap_or_default().to_vec()
}
