//! The people of one history as users of the running services: numbers become ids on the way in, and ids numbers on the way out.

use std::{collections::HashMap, sync::Arc, time::Duration};

use plaza_proto::{
    accounts::v1::{self as accounts, accounts_service_client::AccountsServiceClient},
    chat::v1::MomentsNotice,
    graph::v1::{self as graph, graph_service_client::GraphServiceClient, relations_service_client::RelationsServiceClient},
    moments::v1::{self as moments, audience, moments_service_client::MomentsServiceClient},
};
use plaza_rpc::{Identity, Peer};
use plaza_testkit::wait::wait_for;
use plaza_types::Reason;
use prost_types::{FieldMask, Timestamp};
use tonic::Status;
use tonic_types::StatusExt;

use crate::{
    model::{Hint, NoticeKind, SeenComment, SeenNotice, SeenPost},
    services::Services,
    step::{Act, Audience, Permissions, Range, Tag, Who},
    system::{Page, Refusal, System},
};

/// How long edges may take to hold on both sides.
const SOON: Duration = Duration::from_secs(10);

/// The people of a history and what they made.
pub(crate) struct World {
    services: Arc<Services>,
    people: Vec<Identity>,
    posts: Things,
    comments: Things,
    graph: GraphServiceClient<Peer>,
    pub(crate) moments: MomentsServiceClient<Peer>,
    /// The id of somebody who never was.
    nobody: String,
}

/// Ids and times of what was made, by number, and numbers by id.
#[derive(Default)]
struct Things {
    made: HashMap<usize, (String, Option<Timestamp>)>,
    numbers: HashMap<String, usize>,
}

impl Things {
    fn add(&mut self, number: usize, id: String, created: Option<Timestamp>) {
        self.numbers.insert(id.clone(), number);
        self.made.insert(number, (id, created));
    }

    /// The number of an id, if it has the time that it had when it was made.
    fn number(&self, id: &str, created: Option<Timestamp>) -> Result<usize, Refusal> {
        let number = *self.numbers.get(id).ok_or_else(|| strange(format!("{id} was never made")))?;
        match self.made[&number].1 == created {
            true => Ok(number),
            false => Err(strange(format!("{number} was made at {:?}, not at {created:?}", self.made[&number].1))),
        }
    }
}

impl World {
    pub(crate) async fn new(services: Arc<Services>, people: usize) -> anyhow::Result<Self> {
        let mut identities = Vec::new();
        for _ in 0..people {
            identities.push(services.newcomer().await?);
        }
        let (graph, moments) = (GraphServiceClient::new(services.graph.clone()), MomentsServiceClient::new(services.moments.clone()));
        let nobody = services.new_id();
        Ok(Self { services, people: identities, posts: Things::default(), comments: Things::default(), graph, moments, nobody })
    }

    fn user_id(&self, who: Who) -> String {
        self.people.get(who).map_or(self.nobody.clone(), |person| person.user.to_string())
    }

    fn user_ids(&self, people: &[Who]) -> Vec<String> {
        people.iter().map(|who| self.user_id(*who)).collect()
    }

    /// The id of a post; that of one that is gone for one that was never made.
    pub(crate) fn post_id(&self, post: usize) -> String {
        self.posts.made.get(&post).map_or(self.services.gone.0.clone(), |(id, _)| id.clone())
    }

    /// The id of a comment, in the same way.
    pub(crate) fn comment_id(&self, comment: usize) -> String {
        self.comments.made.get(&comment).map_or(self.services.gone.1.clone(), |(id, _)| id.clone())
    }

    /// The id of a comment on this post that was never made: an id that names another post is refused for its form.
    fn never_on(&self, post: usize) -> String {
        let (gone_post, gone_comment) = &self.services.gone;
        gone_comment.replace(gone_post, &self.post_id(post))
    }

    /// A call in somebody's name.
    pub(crate) fn request<T>(&self, who: Who, message: T) -> tonic::Request<T> {
        self.people[who].request(message)
    }

    async fn befriend(&self, one: Who, other: Who) -> Result<(), Refusal> {
        if self.list_each_other(one, other).await? {
            return Ok(());
        }
        for (from, to) in [(one, other), (other, one)] {
            let ask =
                graph::SendFriendRequestRequest { user_id: self.user_id(to), request_id: self.services.new_id(), ..Default::default() };
            match self.graph.clone().send_friend_request(self.request(from, ask)).await {
                Ok(_) => {}
                // The first one was enough.
                Err(status) if reason(&status) == Reason::AlreadyContact.as_str() => {}
                Err(status) => return Err(refusal(status, &[])),
            }
        }
        let friends = || async {
            match self.list_each_other(one, other).await {
                Ok(true) => Ok(()),
                seen => Err(seen),
            }
        };
        wait_for("both list each other", SOON, friends).await.map_err(|error| strange(error.to_string()))
    }

    async fn list_each_other(&self, one: Who, other: Who) -> Result<bool, Refusal> {
        let ask = graph::GetRelationsRequest { user_id: self.user_id(one), other_ids: vec![self.user_id(other)] };
        let answer = RelationsServiceClient::new(self.services.graph.clone()).get_relations(ask).await;
        let relations = answer.map_err(|status| refusal(status, &[]))?.into_inner().relations;
        Ok(relations.iter().all(|relation| relation.lists && relation.listed_by))
    }

    async fn update_contact(&self, one: Who, other: Who, path: &str, change: graph::UpdateContactRequest) -> Result<(), Status> {
        let update_mask = Some(FieldMask { paths: vec![path.to_owned()] });
        let update = graph::UpdateContactRequest { user_id: self.user_id(other), update_mask, ..change };
        self.graph.clone().update_contact(self.request(one, update)).await.map(drop)
    }

    async fn set_range(&self, who: Who, range: Range) -> Result<(), Status> {
        let range = match range {
            Range::ThreeDays => accounts::MomentsRange::ThreeDays,
            Range::OneMonth => accounts::MomentsRange::OneMonth,
            Range::SixMonths => accounts::MomentsRange::SixMonths,
            Range::All => accounts::MomentsRange::All,
        };
        let update = accounts::UpdateSettingsRequest {
            settings: Some(accounts::Settings { moments_range: range.into(), ..Default::default() }),
            update_mask: Some(FieldMask { paths: vec!["moments_range".to_owned()] }),
        };
        AccountsServiceClient::new(self.services.accounts.clone()).update_settings(self.request(who, update)).await.map(drop)
    }

    async fn create_post(&mut self, who: Who, post: usize, audience: &Audience, mentions: &[Who]) -> Result<Option<moments::Post>, Status> {
        let people = |people: &[Who], tags: &[Tag]| moments::People {
            user_ids: self.user_ids(people),
            tags: tags.iter().map(|tag| tag_name(*tag)).collect(),
        };
        let kind = match audience {
            Audience::All => audience::Kind::All(moments::AllFriends {}),
            Audience::Private => audience::Kind::Private(moments::OnlyMe {}),
            Audience::Only(named, tags) => audience::Kind::Only(people(named, tags)),
            Audience::Except(named, tags) => audience::Kind::Except(people(named, tags)),
        };
        let create = moments::CreatePostRequest {
            request_id: self.services.new_id(),
            content: Some(moments::PostContent { text: post_text(post), ..Default::default() }),
            audience: Some(moments::Audience { kind: Some(kind) }),
            mentions: self.user_ids(mentions),
        };
        let made = self.moments.clone().create_post(self.request(who, create)).await?.into_inner().post;
        if let Some(made) = &made {
            self.posts.add(post, made.post_id.clone(), made.created);
        }
        Ok(made)
    }

    async fn add_comment(&mut self, who: Who, post: usize, comment: usize, answers: Option<usize>) -> Result<(), Refusal> {
        let reply_to = answers.map(|answered| match self.comments.made.contains_key(&answered) {
            true => self.comment_id(answered),
            false => self.never_on(post),
        });
        let subjects = [self.post_id(post), reply_to.clone().unwrap_or_default()];
        let ask = moments::CommentRequest {
            post_id: self.post_id(post),
            text: comment_text(comment),
            reply_to,
            request_id: self.services.new_id(),
        };
        let made = self.moments.clone().comment(self.request(who, ask)).await;
        let made = made.map_err(|status| refusal(status, &subjects))?.into_inner().comment.ok_or_else(|| strange("no comment"))?;
        self.comments.add(comment, made.comment_id.clone(), made.created);
        let expected = SeenComment { comment, post, by: who, answers };
        match self.seen_comment(made)? {
            seen if seen == expected => Ok(()),
            seen => Err(strange(format!("{expected:?} was answered with {seen:?}"))),
        }
    }

    fn seen_posts(&self, posts: Vec<moments::Post>) -> Result<Vec<SeenPost>, Refusal> {
        posts.into_iter().map(|post| self.seen_post(post)).collect()
    }

    fn seen_post(&self, seen: moments::Post) -> Result<SeenPost, Refusal> {
        let post = self.posts.number(&seen.post_id, seen.created)?;
        if seen.content.as_ref().is_none_or(|content| content.text != post_text(post)) {
            return Err(strange(format!("post {post} says {:?}", seen.content)));
        }
        let mut mentions = self.numbers(seen.mentions.iter())?;
        mentions.sort_unstable();
        Ok(SeenPost {
            post,
            author: self.number(&seen.author_id)?,
            mentions,
            audience: seen.audience.map(|audience| self.seen_audience(audience)).transpose()?,
            liked_by_me: seen.liked_by_me,
            likes: self.numbers(seen.likes.iter().map(|like| &like.user_id))?,
            like_count: seen.like_count as usize,
            comments: self.seen_comments(seen.comments)?,
            comment_count: seen.comment_count as usize,
        })
    }

    fn seen_comments(&self, comments: Vec<moments::PostComment>) -> Result<Vec<SeenComment>, Refusal> {
        comments.into_iter().map(|comment| self.seen_comment(comment)).collect()
    }

    fn seen_comment(&self, seen: moments::PostComment) -> Result<SeenComment, Refusal> {
        let comment = self.comments.number(&seen.comment_id, seen.created)?;
        if seen.text != comment_text(comment) {
            return Err(strange(format!("comment {comment} says {}", seen.text)));
        }
        let post = *self.posts.numbers.get(&seen.post_id).ok_or_else(|| strange(format!("comment {comment} on no post")))?;
        let answers = match &seen.reply_to {
            None => None,
            Some(answered) => Some(*self.comments.numbers.get(answered).ok_or_else(|| strange(format!("{comment} answers nothing")))?),
        };
        Ok(SeenComment { comment, post, by: self.number(&seen.user_id)?, answers })
    }

    fn seen_notice(&self, seen: moments::Notice) -> Result<SeenNotice, Refusal> {
        let kind = notice_kind(seen.kind())?;
        let post = *self.posts.numbers.get(&seen.post_id).ok_or_else(|| strange("a notice of no post"))?;
        let comment = seen.comment.map(|comment| self.seen_comment(comment)).transpose()?;
        Ok(SeenNotice { kind, post, actor: self.number(&seen.actor_id)?, comment })
    }

    fn seen_audience(&self, seen: moments::Audience) -> Result<Audience, Refusal> {
        let named = |people: moments::People| -> Result<(Vec<Who>, Vec<Tag>), Refusal> {
            let mut numbers = self.numbers(people.user_ids.iter())?;
            numbers.sort_unstable();
            let mut tags: Vec<Tag> = people.tags.iter().map(|tag| tag.trim_start_matches("tag ").parse().unwrap_or(Tag::MAX)).collect();
            tags.sort_unstable();
            Ok((numbers, tags))
        };
        Ok(match seen.kind.ok_or_else(|| strange("an audience of no kind"))? {
            audience::Kind::All(_) => Audience::All,
            audience::Kind::Private(_) => Audience::Private,
            audience::Kind::Only(people) => named(people).map(|(people, tags)| Audience::Only(people, tags))?,
            audience::Kind::Except(people) => named(people).map(|(people, tags)| Audience::Except(people, tags))?,
        })
    }

    fn number(&self, id: &str) -> Result<Who, Refusal> {
        let found = self.people.iter().position(|person| person.user.to_string() == id);
        found.ok_or_else(|| strange(format!("{id} is nobody of this history")))
    }

    fn numbers<'a>(&self, ids: impl Iterator<Item = &'a String>) -> Result<Vec<Who>, Refusal> {
        ids.map(|id| self.number(id)).collect()
    }
}

impl System for World {
    const PATIENCE: Duration = Duration::from_secs(5);

    async fn newcomer(&mut self) -> Result<Who, Refusal> {
        let newcomer = self.services.newcomer().await.map_err(|error| strange(error.to_string()))?;
        self.people.push(newcomer);
        Ok(self.people.len() - 1)
    }

    async fn act(&mut self, act: &Act) -> Result<Option<SeenPost>, Refusal> {
        self.services.tick();
        let request_id = self.services.new_id();
        let (mut graph, mut moments) = (self.graph.clone(), self.moments.clone());
        let mut subjects = Vec::new();
        let answer = match act.clone() {
            Act::Befriend(one, other) => return self.befriend(one, other).await.map(|()| None),
            Act::Comment { who, post, comment, answers } => return self.add_comment(who, post, comment, answers).await.map(|()| None),
            Act::Unfriend(one, other) => {
                let remove = graph::RemoveContactRequest { user_id: self.user_id(other), request_id };
                graph.remove_contact(self.request(one, remove)).await.map(|_| None)
            }
            Act::Block(one, other) => {
                let block = graph::BlockRequest { user_id: self.user_id(other), request_id };
                graph.block(self.request(one, block)).await.map(|_| None)
            }
            Act::Unblock(one, other) => {
                let unblock = graph::UnblockRequest { user_id: self.user_id(other), request_id };
                graph.unblock(self.request(one, unblock)).await.map(|_| None)
            }
            Act::Permit(one, other, Permissions { chat_only, hide_my_moments, hide_their_moments }) => {
                let permissions = Some(graph::Permissions { chat_only, hide_my_moments, hide_their_moments });
                let change = graph::UpdateContactRequest { permissions, request_id, ..Default::default() };
                self.update_contact(one, other, "permissions", change).await.map(|()| None)
            }
            Act::Tag(one, other, tags) => {
                let tags = tags.into_iter().map(tag_name).collect();
                let change = graph::UpdateContactRequest { tags, request_id, ..Default::default() };
                self.update_contact(one, other, "tags", change).await.map(|()| None)
            }
            Act::Range(who, range) => self.set_range(who, range).await.map(|()| None),
            Act::Post { who, post, audience, mentions } => self.create_post(who, post, &audience, &mentions).await,
            Act::DeletePost(who, post) => {
                subjects.push(self.post_id(post));
                let delete = moments::DeletePostRequest { post_id: self.post_id(post), request_id };
                moments.delete_post(self.request(who, delete)).await.map(|_| None)
            }
            Act::Like(who, post) => {
                subjects.push(self.post_id(post));
                let like = moments::LikeRequest { post_id: self.post_id(post), request_id };
                moments.like(self.request(who, like)).await.map(|answer| answer.into_inner().post)
            }
            Act::Unlike(who, post) => {
                subjects.push(self.post_id(post));
                let unlike = moments::UnlikeRequest { post_id: self.post_id(post), request_id };
                moments.unlike(self.request(who, unlike)).await.map(|answer| answer.into_inner().post)
            }
            Act::DeleteComment(who, comment) => {
                subjects.push(self.comment_id(comment));
                let delete = moments::DeleteCommentRequest { comment_id: self.comment_id(comment), request_id };
                moments.delete_comment(self.request(who, delete)).await.map(|_| None)
            }
        };
        answer.map_err(|status| refusal(status, &subjects))?.map(|post| self.seen_post(post)).transpose()
    }

    async fn timeline(&self, viewer: Who, size: u32, token: &str) -> Result<Page<SeenPost>, Refusal> {
        let ask = moments::ListTimelineRequest { page_size: size, page_token: token.to_owned() };
        let page = self.moments.clone().list_timeline(self.request(viewer, ask)).await.map_err(|status| refusal(status, &[]))?.into_inner();
        Ok((self.seen_posts(page.posts)?, page.next_page_token))
    }

    async fn posts_of(&self, viewer: Who, author: Who, size: u32, token: &str) -> Result<Page<SeenPost>, Refusal> {
        let user_id = self.user_id(author);
        let ask = moments::ListUserPostsRequest { user_id, page_size: size, page_token: token.to_owned() };
        let page =
            self.moments.clone().list_user_posts(self.request(viewer, ask)).await.map_err(|status| refusal(status, &[]))?.into_inner();
        Ok((self.seen_posts(page.posts)?, page.next_page_token))
    }

    async fn get(&self, viewer: Who, post: usize) -> Result<SeenPost, Refusal> {
        let ask = moments::GetPostRequest { post_id: self.post_id(post) };
        let answer = self.moments.clone().get_post(self.request(viewer, ask)).await;
        let shown = answer.map_err(|status| refusal(status, &[self.post_id(post)]))?.into_inner().post;
        self.seen_post(shown.ok_or_else(|| strange("no post"))?)
    }

    async fn comments(&self, viewer: Who, post: usize, size: u32, token: &str) -> Result<Page<SeenComment>, Refusal> {
        let ask = moments::ListCommentsRequest { post_id: self.post_id(post), page_size: size, page_token: token.to_owned() };
        let answer = self.moments.clone().list_comments(self.request(viewer, ask)).await;
        let page = answer.map_err(|status| refusal(status, &[self.post_id(post)]))?.into_inner();
        Ok((self.seen_comments(page.comments)?, page.next_page_token))
    }

    fn hints(&self, viewer: Who) -> Result<Vec<Hint>, Refusal> {
        let hint = |told: MomentsNotice| {
            let known = |things: &Things, id: &str| things.numbers.get(id).copied().ok_or_else(|| strange(format!("a hint of {id}")));
            let comment = told.comment_id.as_deref().map(|comment| known(&self.comments, comment)).transpose()?;
            let (kind, post) = (notice_kind(told.kind())?, known(&self.posts, &told.post_id)?);
            Ok(Hint { kind, post, actor: self.number(&told.actor_id)?, comment })
        };
        self.services.hints(self.people[viewer].user).into_iter().map(hint).collect()
    }

    async fn notices(&self, viewer: Who, size: u32, token: &str) -> Result<Page<SeenNotice>, Refusal> {
        let ask = moments::ListNoticesRequest { page_size: size, page_token: token.to_owned() };
        let page = self.moments.clone().list_notices(self.request(viewer, ask)).await.map_err(|status| refusal(status, &[]))?.into_inner();
        let notices = page.notices.into_iter().map(|notice| self.seen_notice(notice)).collect::<Result<_, _>>()?;
        Ok((notices, page.next_page_token))
    }
}

fn notice_kind(kind: moments::NoticeKind) -> Result<NoticeKind, Refusal> {
    match kind {
        moments::NoticeKind::Like => Ok(NoticeKind::Like),
        moments::NoticeKind::Comment => Ok(NoticeKind::Comment),
        moments::NoticeKind::Reply => Ok(NoticeKind::Reply),
        moments::NoticeKind::Mention => Ok(NoticeKind::Mention),
        moments::NoticeKind::Unspecified => Err(strange("a notice of no kind")),
    }
}

fn tag_name(tag: Tag) -> String {
    format!("tag {tag}")
}

fn post_text(post: usize) -> String {
    format!("post {post}")
}

fn comment_text(comment: usize) -> String {
    format!("comment {comment}")
}

fn reason(status: &Status) -> String {
    status.get_details_error_info().map(|info| info.reason).unwrap_or_default()
}

/// The refusal with the ids that it is about left out: they differ, and are known to the caller.
fn refusal(status: Status, subjects: &[String]) -> Refusal {
    let without_ids = |text: String| {
        let named = subjects.iter().filter(|subject| !subject.is_empty());
        named.fold(text, |text, subject| text.replace(subject.as_str(), "ID"))
    };
    Refusal {
        code: format!("{:?}", status.code()),
        reason: reason(&status),
        message: without_ids(status.message().to_owned()),
        details: without_ids(format!("{:?}", status.get_error_details())),
    }
}

/// Something in an answer that no system should say.
fn strange(what: impl Into<String>) -> Refusal {
    Refusal { code: "strange".to_owned(), reason: String::new(), message: what.into(), details: String::new() }
}
