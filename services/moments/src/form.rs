//! What a request must look like before anything is asked of anybody: every broken rule is reported at once.

use std::collections::BTreeSet;

use plaza_proto::moments::v1::{Audience, CommentRequest, CreatePostRequest, Link, Location, People, PostContent, audience::Kind};
use plaza_rpc::{ApiError, Violations};
use plaza_topics::moments::{self, AudienceKind};
use plaza_types::{ClientId, UserId};

use crate::domain::{
    COMMENT, MENTIONS, PEOPLE, TAGS, TEXT,
    post::{CommentId, PostId},
};

const URL: usize = 2_048;
const TITLE: usize = 200;
const DESCRIPTION: usize = 500;
const PLACE: usize = 200;
const ADDRESS: usize = 500;
/// Characters of one tag at most, as graph has it.
const TAG: usize = 32;

/// A post, well formed.
pub(crate) struct Posting {
    /// The request, which is the post's id too.
    pub(crate) request: ClientId,
    /// For whom.
    pub(crate) audience: moments::Audience,
    /// Whom it names in the audience.
    pub(crate) people: BTreeSet<UserId>,
    /// Whom it calls, each once, in the order given.
    pub(crate) mentions: Vec<UserId>,
}

/// A post.
pub(crate) fn posting(request: &CreatePostRequest) -> Result<Posting, ApiError> {
    let id = ClientId::parse(&request.request_id);
    let mut violations = parsed(Violations::default(), "request_id", &id);
    violations = content(violations, request.content.as_ref());
    let (violations, audience, people) = audience(violations, request.audience.as_ref());
    let mut mentions = Vec::new();
    let mut readable = true;
    for mention in &request.mentions {
        match mention.parse::<UserId>() {
            Ok(user) if !mentions.contains(&user) && mentions.len() < MENTIONS => mentions.push(user),
            Ok(_) => {}
            Err(_) => readable = false,
        }
    }
    violations
        .check(readable, "mentions", "not all are user ids")
        .check(request.mentions.len() <= MENTIONS, "mentions", format!("at most {MENTIONS}"))
        .finish()?;
    let request = id.map_err(|_| ApiError::internal())?;
    Ok(Posting { request, audience, people, mentions })
}

fn content(violations: Violations, content: Option<&PostContent>) -> Violations {
    let nothing = PostContent::default();
    let PostContent { text, link, location } = content.unwrap_or(&nothing);
    let says = !text.trim().is_empty() || link.is_some() || location.is_some();
    let violations = violations.check(says, "content", "says nothing").check(
        text.chars().count() <= TEXT,
        "content.text",
        format!("at most {TEXT} characters"),
    );
    let violations = link.iter().fold(violations, |violations, Link { url, title, description }| {
        let web = ["http://", "https://"].iter().any(|scheme| url.strip_prefix(scheme).is_some_and(|rest| !rest.is_empty()));
        let plain = !url.chars().any(|letter| letter.is_whitespace() || letter.is_control());
        violations
            .check(web && plain, "content.link.url", "not an http or https address")
            .check(url.len() <= URL, "content.link.url", format!("at most {URL} bytes"))
            .check(title.chars().count() <= TITLE, "content.link.title", format!("at most {TITLE} characters"))
            .check(description.chars().count() <= DESCRIPTION, "content.link.description", format!("at most {DESCRIPTION} characters"))
    });
    location.iter().fold(violations, |violations, Location { latitude, longitude, name, address }| {
        // Neither holds for what is no number.
        violations
            .check((-90.0..=90.0).contains(latitude), "content.location.latitude", "from -90 to 90")
            .check((-180.0..=180.0).contains(longitude), "content.location.longitude", "from -180 to 180")
            .check(name.chars().count() <= PLACE, "content.location.name", format!("at most {PLACE} characters"))
            .check(address.chars().count() <= ADDRESS, "content.location.address", format!("at most {ADDRESS} characters"))
    })
}

fn audience(violations: Violations, audience: Option<&Audience>) -> (Violations, moments::Audience, BTreeSet<UserId>) {
    let Some(audience) = audience else { return (violations, plain(AudienceKind::All), BTreeSet::new()) };
    match &audience.kind {
        None => (violations.check(false, "audience", "none is set"), moments::Audience::default(), BTreeSet::new()),
        Some(Kind::All(_)) => (violations, plain(AudienceKind::All), BTreeSet::new()),
        Some(Kind::Private(_)) => (violations, plain(AudienceKind::Private), BTreeSet::new()),
        Some(Kind::Only(people)) => named(violations, AudienceKind::Only, "audience.only", people),
        Some(Kind::Except(people)) => named(violations, AudienceKind::Except, "audience.except", people),
    }
}

fn plain(kind: AudienceKind) -> moments::Audience {
    moments::Audience { kind: kind.into(), ..moments::Audience::default() }
}

fn named(violations: Violations, kind: AudienceKind, field: &str, people: &People) -> (Violations, moments::Audience, BTreeSet<UserId>) {
    let users: Result<BTreeSet<UserId>, _> = people.user_ids.iter().take(PEOPLE).map(|user| user.parse()).collect();
    let tags: BTreeSet<&String> = people.tags.iter().take(TAGS).collect();
    let violations = parsed(violations, &format!("{field}.user_ids"), &users)
        .check(!people.user_ids.is_empty() || !people.tags.is_empty(), field, "names nobody")
        .check(people.user_ids.len() <= PEOPLE, format!("{field}.user_ids"), format!("at most {PEOPLE}"))
        .check(people.tags.len() <= TAGS, format!("{field}.tags"), format!("at most {TAGS}"))
        .check(
            tags.iter().all(|tag| (1..=TAG).contains(&tag.chars().count())),
            format!("{field}.tags"),
            format!("1 to {TAG} characters each"),
        );
    let users = users.unwrap_or_default();
    let audience = moments::Audience {
        kind: kind.into(),
        users: users.iter().flat_map(|user| *user.as_bytes()).collect(),
        tags: tags.into_iter().cloned().collect(),
    };
    (violations, audience, users)
}

/// A comment: its post, the comment it answers, and its request.
pub(crate) fn commenting(request: &CommentRequest) -> Result<(PostId, Option<CommentId>, ClientId), ApiError> {
    let (id, request_id) = (request.post_id.parse::<PostId>(), ClientId::parse(&request.request_id));
    let reply_to = request.reply_to.as_ref().map(|comment| comment.parse::<CommentId>()).transpose();
    let same = match (&id, &reply_to) {
        (Ok(post), Ok(Some(comment))) => comment.post == *post,
        _ => true,
    };
    let characters = request.text.chars().count();
    let violations = parsed(parsed(Violations::default(), "post_id", &id), "request_id", &request_id);
    parsed(violations, "reply_to", &reply_to)
        .check(same, "reply_to", "a comment on another post")
        .check(characters <= COMMENT && !request.text.trim().is_empty(), "text", format!("1 to {COMMENT} characters"))
        .finish()?;
    match (id, reply_to, request_id) {
        (Ok(post), Ok(reply_to), Ok(request_id)) => Ok((post, reply_to, request_id)),
        // Whatever did not parse was noted.
        _ => Err(ApiError::internal()),
    }
}

/// A post, with a request id that may be left out.
pub(crate) fn post_and_id(post_id: &str, request_id: &str) -> Result<(PostId, Option<ClientId>), ApiError> {
    named_and_id("post_id", post_id.parse::<PostId>(), request_id)
}

/// A comment, with a request id that may be left out.
pub(crate) fn comment_and_id(comment_id: &str, request_id: &str) -> Result<(CommentId, Option<ClientId>), ApiError> {
    named_and_id("comment_id", comment_id.parse::<CommentId>(), request_id)
}

fn named_and_id<T, E: std::fmt::Display>(field: &str, id: Result<T, E>, request_id: &str) -> Result<(T, Option<ClientId>), ApiError> {
    let request = Some(request_id).filter(|id| !id.is_empty()).map(ClientId::parse).transpose();
    parsed(parsed(Violations::default(), field, &id), "request_id", &request).finish()?;
    // Whatever did not parse was noted.
    id.ok().zip(request.ok()).ok_or_else(ApiError::internal)
}

/// A post.
pub(crate) fn post(post_id: &str) -> Result<PostId, ApiError> {
    post_and_id(post_id, "").map(|(post, _)| post)
}

/// Somebody named.
pub(crate) fn person(user_id: &str) -> Result<UserId, ApiError> {
    user_id.parse().map_err(|error: plaza_types::ParseError| ApiError::invalid("user_id", error.to_string()))
}

fn parsed<T, E: std::fmt::Display>(violations: Violations, field: &str, value: &Result<T, E>) -> Violations {
    let why = value.as_ref().err().map(ToString::to_string);
    violations.check(why.is_none(), field, why.unwrap_or_default())
}
