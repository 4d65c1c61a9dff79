//! What a request must look like before anything is asked of anybody: every broken rule is reported at once.

use std::collections::HashSet;

use plaza_proto::graph::v1::{RequestBox, SendFriendRequestRequest, UpdateContactRequest};
use plaza_rpc::{ApiError, Violations};
use plaza_topics::graph::Update;
use plaza_types::{ClientId, UserId, limits::REQUEST_NOTE};

use crate::domain::{CONTACT_TAGS, Folder, REMARK, SOURCE, TAG};

/// Somebody named, with a request id that must be there.
pub(crate) fn person_and_id(user_id: &str, request_id: &str) -> Result<(UserId, ClientId), ApiError> {
    let (user, request) = (user_id.parse(), ClientId::parse(request_id));
    let violations = parsed(parsed(Violations::default(), "user_id", &user), "request_id", &request);
    finish(violations, (user, request))
}

/// Somebody named, with a request id that may be left out.
pub(crate) fn person_and_any_id(user_id: &str, request_id: &str) -> Result<(UserId, Option<ClientId>), ApiError> {
    if request_id.is_empty() {
        return person(user_id).map(|user| (user, None));
    }
    person_and_id(user_id, request_id).map(|(user, request)| (user, Some(request)))
}

/// Somebody named.
pub(crate) fn person(user_id: &str) -> Result<UserId, ApiError> {
    user_id.parse().map_err(|error: plaza_types::ParseError| ApiError::invalid("user_id", error.to_string()))
}

/// Who is asked, and by which request.
pub(crate) fn asking(request: &SendFriendRequestRequest) -> Result<(UserId, ClientId), ApiError> {
    let (user, id) = (request.user_id.parse(), ClientId::parse(&request.request_id));
    let violations = parsed(parsed(Violations::default(), "user_id", &user), "request_id", &id)
        .check(request.note.chars().count() <= REQUEST_NOTE, "note", format!("at most {REQUEST_NOTE} characters"))
        .check(request.source().chars().count() <= SOURCE, "source", format!("at most {SOURCE} characters"));
    finish(violations, (user, id))
}

/// Whose contact is changed, by which request if it says, and how.
pub(crate) fn updating(request: &UpdateContactRequest) -> Result<(UserId, Option<ClientId>, Update), ApiError> {
    let mut update = Update::default();
    let permissions = request.permissions.unwrap_or_default();
    let paths = request.update_mask.as_ref().map(|mask| mask.paths.as_slice()).unwrap_or_default();
    let mut violations = Violations::default().check(!paths.is_empty(), "update_mask", "names no field");
    for path in paths {
        let all = path == "permissions";
        match path.as_str() {
            "remark" => update.remark = Some(request.remark.clone()),
            "tags" => (update.set_tags, update.tags) = (true, request.tags.clone()),
            "starred" => update.starred = Some(request.starred),
            "permissions" | "permissions.chat_only" | "permissions.hide_my_moments" | "permissions.hide_their_moments" => {
                if all || path.ends_with("chat_only") {
                    update.chat_only = Some(permissions.chat_only);
                }
                if all || path.ends_with("hide_my_moments") {
                    update.hide_my_moments = Some(permissions.hide_my_moments);
                }
                if all || path.ends_with("hide_their_moments") {
                    update.hide_their_moments = Some(permissions.hide_their_moments);
                }
            }
            _ => violations = violations.check(false, "update_mask", "names a field that cannot be changed"),
        }
    }
    let remark = update.remark.as_deref().unwrap_or_default();
    let different: HashSet<&String> = update.tags.iter().collect();
    let user = request.user_id.parse();
    let id = Some(&request.request_id).filter(|id| !id.is_empty()).map(|id| ClientId::parse(id)).transpose();
    let violations = parsed(parsed(violations, "user_id", &user), "request_id", &id)
        .check(remark.chars().count() <= REMARK, "remark", format!("at most {REMARK} characters"))
        .check(update.tags.len() <= CONTACT_TAGS, "tags", format!("at most {CONTACT_TAGS}"))
        .check(update.tags.iter().all(|tag| (1..=TAG).contains(&tag.chars().count())), "tags", format!("1 to {TAG} characters each"))
        .check(different.len() == update.tags.len(), "tags", "one comes twice");
    let (user, id) = finish(violations, (user, id))?;
    Ok((user, id, update))
}

/// Which list of requests.
pub(crate) fn folder(number: i32) -> Result<Folder, ApiError> {
    match RequestBox::try_from(number) {
        Ok(RequestBox::Received) => Ok(Folder::Received),
        Ok(RequestBox::Sent) => Ok(Folder::Sent),
        Ok(RequestBox::Unspecified) | Err(_) => Err(ApiError::invalid("box", "neither received nor sent")),
    }
}

/// One user and the others asked about, at most `limit`.
pub(crate) fn people(user_id: &str, other_ids: &[String], limit: usize) -> Result<(UserId, Vec<UserId>), ApiError> {
    let user = user_id.parse();
    let others = other_ids.iter().take(limit).map(|id| id.parse()).collect();
    let violations = parsed(parsed(Violations::default(), "user_id", &user), "other_ids", &others).check(
        other_ids.len() <= limit,
        "other_ids",
        format!("at most {limit}"),
    );
    finish(violations, (user, others))
}

type Parsed<T> = Result<T, plaza_types::ParseError>;

fn parsed<T>(violations: Violations, field: &str, value: &Parsed<T>) -> Violations {
    let why = value.as_ref().err().map(ToString::to_string);
    violations.check(why.is_none(), field, why.unwrap_or_default())
}

fn finish<A, B>(violations: Violations, values: (Parsed<A>, Parsed<B>)) -> Result<(A, B), ApiError> {
    violations.finish()?;
    match values {
        (Ok(one), Ok(other)) => Ok((one, other)),
        // Whoever did not parse was noted.
        _ => Err(ApiError::internal()),
    }
}
