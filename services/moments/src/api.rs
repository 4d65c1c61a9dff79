//! The public calls: decode, check the form, find out whether the caller may see what is named, have its author's posts decide or read the
//! rows, encode. What a caller may not see is refused exactly as what does not exist.

use std::sync::Arc;

use bytes::Bytes;
use plaza_proto::moments::v1::{
    CommentRequest, CommentResponse, CreatePostRequest, CreatePostResponse, DeleteCommentRequest, DeleteCommentResponse, DeletePostRequest,
    DeletePostResponse, GetPostRequest, GetPostResponse, LikeRequest, LikeResponse, ListCommentsRequest, ListCommentsResponse,
    ListNoticesRequest, ListNoticesResponse, ListTimelineRequest, ListTimelineResponse, ListUserPostsRequest, ListUserPostsResponse,
    UnlikeRequest, UnlikeResponse, moments_service_server::MomentsService,
};
use plaza_rpc::{ApiError, Identity, PageTokens, Violations, page};
use plaza_topics::moments::{Comment, Create, DeleteComment, Kind, OnPost};
use plaza_types::UserId;
use prost::Message as _;
use tonic::{Request, Response, Status};

use crate::{
    commands::{Asker, Change, Commands, fingerprint, store},
    domain::post::PostId,
    form::{self, Posting},
    returning::Returning,
    store::Position,
    view::View,
};

const TIMELINE: &str = "timeline";
const NOTICES: &str = "notices";

/// The service.
pub(crate) struct Api {
    pub(crate) view: Arc<View>,
    pub(crate) commands: Arc<Commands>,
    pub(crate) returning: Returning,
    pub(crate) tokens: PageTokens,
    /// As `plaza_topics::moments::Create::idle_after`.
    pub(crate) idle_after: u64,
}

#[tonic::async_trait]
impl MomentsService for Api {
    async fn create_post(&self, request: Request<CreatePostRequest>) -> Result<Response<CreatePostResponse>, Status> {
        let asker = Asker::of(&request)?;
        let message = request.into_inner();
        let posting = form::posting(&message)?;
        let id = PostId { author: asker.user, request: posting.request };
        // A post that is there was checked when it was made. Whether this is the same one is for its author's posts to say.
        if self.view.store.posts(&[id]).await.map_err(store)?.iter().all(Option::is_none) {
            self.must_know(asker.user, &posting, &message).await?;
        }
        let fingerprint = fingerprint("create", &CreatePostRequest { request_id: String::new(), ..message.clone() });
        let create = Create {
            content: message.content.unwrap_or_default().encode_to_vec().into(),
            audience: posting.audience,
            mentions: posting.mentions.iter().map(UserId::to_key).collect(),
            idle_after: self.idle_after,
        };
        let change = Change { author: asker.user, id: Some(posting.request), fingerprint, kind: Kind::Create(create) };
        decode(self.commands.call(asker, change).await?)
    }

    async fn get_post(&self, request: Request<GetPostRequest>) -> Result<Response<GetPostResponse>, Status> {
        let user = Identity::of(&request)?.user;
        let id = form::post(&request.get_ref().post_id)?;
        Ok(Response::new(GetPostResponse { post: Some(self.view.shown(user, id).await?) }))
    }

    async fn delete_post(&self, request: Request<DeletePostRequest>) -> Result<Response<DeletePostResponse>, Status> {
        let asker = Asker::of(&request)?;
        let message = request.get_ref();
        let (id, request_id) = form::post_and_id(&message.post_id, &message.request_id)?;
        let known = self.view.store.posts(&[id]).await.map_err(store)?.iter().any(Option::is_some);
        if id.author != asker.user || !known {
            return Err(ApiError::not_found("post").into());
        }
        let kind = Kind::Delete(OnPost { post: id.request_key() });
        decode(self.on_post(asker, id, request_id, "delete", kind).await?)
    }

    async fn list_timeline(&self, request: Request<ListTimelineRequest>) -> Result<Response<ListTimelineResponse>, Status> {
        let asker = Asker::of(&request)?;
        let message = request.get_ref();
        let size = page::size(message.page_size)?;
        let from = self.position(asker.user, TIMELINE, &message.page_token)?;
        if message.page_token.is_empty() {
            self.returning.looks(asker).await?;
        }
        let page = self.view.timeline(asker.user, from, size).await?;
        let next_page_token = self.token(asker.user, TIMELINE, page.next);
        Ok(Response::new(ListTimelineResponse { posts: page.items, next_page_token }))
    }

    async fn list_user_posts(&self, request: Request<ListUserPostsRequest>) -> Result<Response<ListUserPostsResponse>, Status> {
        let user = Identity::of(&request)?.user;
        let message = request.get_ref();
        let author = form::person(&message.user_id)?;
        let size = page::size(message.page_size)?;
        let query = format!("posts of {author}");
        let from = self.position(user, &query, &message.page_token)?;
        let page = self.view.posts_of(user, author, from, size).await?;
        let next_page_token = self.token(user, &query, page.next);
        Ok(Response::new(ListUserPostsResponse { posts: page.items, next_page_token }))
    }

    async fn like(&self, request: Request<LikeRequest>) -> Result<Response<LikeResponse>, Status> {
        let asker = Asker::of(&request)?;
        let message = request.get_ref();
        let (id, request_id) = form::post_and_id(&message.post_id, &message.request_id)?;
        self.must_see(asker.user, id).await?;
        self.on_post(asker, id, request_id, "like", Kind::Like(OnPost { post: id.request_key() })).await?;
        Ok(Response::new(LikeResponse { post: Some(self.view.shown(asker.user, id).await?) }))
    }

    async fn unlike(&self, request: Request<UnlikeRequest>) -> Result<Response<UnlikeResponse>, Status> {
        let asker = Asker::of(&request)?;
        let message = request.get_ref();
        let (id, request_id) = form::post_and_id(&message.post_id, &message.request_id)?;
        self.must_see(asker.user, id).await?;
        self.on_post(asker, id, request_id, "unlike", Kind::Unlike(OnPost { post: id.request_key() })).await?;
        Ok(Response::new(UnlikeResponse { post: Some(self.view.shown(asker.user, id).await?) }))
    }

    async fn comment(&self, request: Request<CommentRequest>) -> Result<Response<CommentResponse>, Status> {
        let asker = Asker::of(&request)?;
        let message = request.into_inner();
        let (id, reply_to, request_id) = form::commenting(&message)?;
        let mut sight = self.view.sight(asker.user).await;
        self.view.post(&mut sight, id).await?;
        let reply_to = match reply_to {
            None => 0,
            Some(comment) => self.view.seen_comment(&mut sight, comment).await?.ok_or_else(|| ApiError::not_found("comment"))?,
        };
        let fingerprint = fingerprint("comment", &CommentRequest { request_id: String::new(), ..message.clone() });
        let kind = Kind::Comment(Comment { post: id.request_key(), text: message.text, reply_to });
        decode(self.commands.call(asker, Change { author: id.author, id: Some(request_id), fingerprint, kind }).await?)
    }

    async fn delete_comment(&self, request: Request<DeleteCommentRequest>) -> Result<Response<DeleteCommentResponse>, Status> {
        let asker = Asker::of(&request)?;
        let message = request.get_ref();
        let (comment, id) = form::comment_and_id(&message.comment_id, &message.request_id)?;
        let mut sight = self.view.sight(asker.user).await;
        let seen = self.view.seen(&mut sight, &[comment.post]).await?;
        let number = if seen.is_empty() { None } else { self.view.to_delete(&mut sight, comment).await? };
        let number = number.ok_or_else(|| ApiError::not_found("comment"))?;
        let fingerprint = fingerprint("delete comment", &DeleteCommentRequest { request_id: String::new(), ..message.clone() });
        let kind = Kind::DeleteComment(DeleteComment { post: comment.post.request_key(), number });
        decode(self.commands.call(asker, Change { author: comment.post.author, id, fingerprint, kind }).await?)
    }

    async fn list_comments(&self, request: Request<ListCommentsRequest>) -> Result<Response<ListCommentsResponse>, Status> {
        let user = Identity::of(&request)?.user;
        let message = request.get_ref();
        let id = form::post(&message.post_id)?;
        let size = page::size(message.page_size)?;
        let query = format!("comments on {id}");
        let after = match message.page_token.as_str() {
            "" => 0,
            token => time(&self.tokens.open(user, &query, token)?)?,
        };
        let mut sight = self.view.sight(user).await;
        self.view.post(&mut sight, id).await?;
        let (comments, next) = self.view.page_of_comments(&mut sight, id, after, size).await?;
        let next_page_token = next.map(|next| self.tokens.seal(user, &query, &next.to_be_bytes())).unwrap_or_default();
        Ok(Response::new(ListCommentsResponse { comments, next_page_token }))
    }

    async fn list_notices(&self, request: Request<ListNoticesRequest>) -> Result<Response<ListNoticesResponse>, Status> {
        let user = Identity::of(&request)?.user;
        let message = request.get_ref();
        let size = page::size(message.page_size)?;
        let from = self.position(user, NOTICES, &message.page_token)?;
        let page = self.view.notices_of(user, from, size).await?;
        let next_page_token = self.token(user, NOTICES, page.next);
        Ok(Response::new(ListNoticesResponse { notices: page.items, next_page_token }))
    }
}

impl Api {
    async fn on_post(
        &self,
        asker: Asker,
        id: PostId,
        request: Option<plaza_types::ClientId>,
        method: &str,
        kind: Kind,
    ) -> Result<Bytes, ApiError> {
        let fingerprint = fingerprint(method, &OnPost { post: id.request_key() });
        self.commands.call(asker, Change { author: id.author, id: request, fingerprint, kind }).await
    }

    async fn must_see(&self, user: UserId, id: PostId) -> Result<(), Status> {
        let mut sight = self.view.sight(user).await;
        self.view.post(&mut sight, id).await.map(drop)
    }

    /// Whom a post names must be contacts of its author, and the tags must be the author's. All of that the author knows anyway.
    async fn must_know(&self, author: UserId, posting: &Posting, message: &CreatePostRequest) -> Result<(), Status> {
        let field = |name: &str| {
            use plaza_proto::moments::v1::audience::Kind as Audience;
            match message.audience.as_ref().and_then(|audience| audience.kind.as_ref()) {
                Some(Audience::Only(_)) => format!("audience.only.{name}"),
                _ => format!("audience.except.{name}"),
            }
        };
        let named: Vec<UserId> = posting.people.iter().chain(&posting.mentions).copied().collect();
        let stances = self.view.knowledge.stances(author, &named, false).await?;
        let lists = |user: &UserId| stances.get(user).is_some_and(|stances| stances.own.lists);
        let tags = match posting.audience.tags.is_empty() {
            true => Default::default(),
            false => self.view.knowledge.tags(author).await?,
        };
        Violations::default()
            .check(posting.people.iter().all(lists), field("user_ids"), "not all are contacts")
            .check(posting.audience.tags.iter().all(|tag| tags.contains(tag)), field("tags"), "not all are tags of contacts")
            .check(posting.mentions.iter().all(lists), "mentions", "not all are contacts")
            .finish()?;
        Ok(())
    }

    fn position(&self, user: UserId, query: &str, token: &str) -> Result<Position, ApiError> {
        if token.is_empty() {
            return Ok(Position::NEWEST);
        }
        let position = self.tokens.open(user, query, token)?;
        let read = || {
            let (time, after) = position.split_first_chunk()?;
            let after = if after.is_empty() { None } else { Some(PostId::from_slice(after)?) };
            Some(Position { time: u64::from_be_bytes(*time), after })
        };
        read().ok_or_else(ApiError::internal)
    }

    fn token(&self, user: UserId, query: &str, next: Option<Position>) -> String {
        let Some(Position { time, after }) = next else { return String::new() };
        let after = after.map(PostId::to_bytes);
        let position = [time.to_be_bytes().as_slice(), after.as_ref().map(<[u8; 32]>::as_slice).unwrap_or_default()].concat();
        self.tokens.seal(user, query, &position)
    }
}

fn time(position: &[u8]) -> Result<u64, ApiError> {
    position.try_into().map(u64::from_be_bytes).map_err(|_| ApiError::internal())
}

fn decode<M: prost::Message + Default>(answer: Bytes) -> Result<Response<M>, Status> {
    M::decode(answer).map(Response::new).map_err(|_| ApiError::internal().into())
}
