//! The floor of a timeline page: the rows of its posts read one by one, and the same bytes in one unary answer.

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use plaza_embedded_db::{Batch, Db, Keyspace};
use plaza_proto::moments::v1 as moments;
use prost::Message;
use tonic::{Status, body::Body, server::NamedService};

/// Posts of the page.
pub const POSTS: usize = 20;
/// Likes of each.
pub const LIKES: usize = 10;
/// Comments of each.
pub const COMMENTS: usize = 5;
/// Rows that a page of posts takes: for each post its reference, itself, and its likes and comments.
const ROWS_PER_POST: usize = 3;

/// Serves the page.
#[derive(Clone)]
pub(crate) struct Timeline {
    rows: Keyspace,
}

impl Timeline {
    /// Writes the rows of the page. Of each post's rows one has the answer's bytes, and the others as many as such a row has.
    pub(crate) async fn new(db: &Db) -> anyhow::Result<Self> {
        let rows = db.keyspace("timeline")?;
        let mut batch = Batch::new();
        for post in 0..POSTS {
            batch.insert(&rows, key(post, 0), post_as_read().encode_to_vec());
            for other in 1..ROWS_PER_POST {
                batch.insert(&rows, key(post, other), vec![7; 200]);
            }
        }
        db.visible(db.enqueue(batch)).await?;
        Ok(Self { rows })
    }

    fn page(&self) -> Result<moments::ListTimelineResponse, Status> {
        let failed = |error: plaza_embedded_db::Error| Status::internal(error.to_string());
        let mut posts = Vec::with_capacity(POSTS);
        for post in 0..POSTS {
            let row = self.rows.get(&key(post, 0)).map_err(failed)?.unwrap_or_default();
            for other in 1..ROWS_PER_POST {
                std::hint::black_box(self.rows.get(&key(post, other)).map_err(failed)?);
            }
            posts.push(moments::Post::decode(row).map_err(|error| Status::internal(error.to_string()))?);
        }
        Ok(moments::ListTimelineResponse { posts, next_page_token: "0".repeat(80) })
    }
}

fn key(post: usize, row: usize) -> Vec<u8> {
    format!("a user's and a post's {post:06} {row}").into_bytes()
}

/// What a post of a measurement says.
#[must_use]
pub fn content() -> moments::PostContent {
    moments::PostContent { text: "0123456789".repeat(10), link: None, location: None }
}

/// What a comment of a measurement says.
#[must_use]
pub fn comment_text() -> String {
    "0123456789".repeat(4)
}

fn post_as_read() -> moments::Post {
    let now = Some(prost_types_now());
    let id = "0".repeat(69);
    let like = moments::PostLike { user_id: plaza_client::new_id(), created: now };
    let comment = moments::PostComment {
        comment_id: format!("{id}-{}", "0".repeat(65)),
        post_id: id.clone(),
        user_id: plaza_client::new_id(),
        text: comment_text(),
        reply_to: None,
        created: now,
    };
    moments::Post {
        post_id: id,
        author_id: plaza_client::new_id(),
        created: now,
        content: Some(content()),
        likes: vec![like; LIKES],
        like_count: LIKES as u32,
        comments: vec![comment; COMMENTS],
        comment_count: COMMENTS as u32,
        ..Default::default()
    }
}

fn prost_types_now() -> prost_types::Timestamp {
    prost_types::Timestamp::from(std::time::SystemTime::now())
}

impl tower::Service<http::Request<Body>> for Timeline {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let timeline = self.clone();
        crate::server::unary(request, async move |_: moments::ListTimelineRequest| timeline.page())
    }
}

impl NamedService for Timeline {
    const NAME: &'static str = "plaza.moments.v1.MomentsService";
}
