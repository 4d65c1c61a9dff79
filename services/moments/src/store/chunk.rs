//! The stored form of chunks of likes and comments.

use prost::Message;

use crate::domain::engagement::{Comment, Like};

#[derive(Clone, PartialEq, Message)]
pub(super) struct Likes {
    #[prost(message, repeated, tag = "1")]
    pub(super) likes: Vec<Like>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Comments {
    #[prost(message, repeated, tag = "1")]
    pub(super) comments: Vec<Comment>,
}
