//! Whether a request about a group is well formed.

use plaza_proto::chat::v1::{
    CreateGroupRequest, DeleteMessagesRequest, GroupRole, RecallMessageRequest, SetRoleRequest, UpdateGroupRequest,
    UpdateMyMembershipRequest,
};
use plaza_rpc::{ApiError, Violations};
use plaza_topics::conversation::Describe;
use plaza_types::{ClientId, ConversationId, Reason, UserId, id::ConversationKind, limits};

use super::{NOT_A_CLIENT_ID, NOT_A_CONVERSATION, NOT_A_USER, at_most};

const NOT_A_GROUP: &str = "a group's id: 'g-' and 32 lowercase hexadecimal digits";

/// The request id, if the client made one.
pub(crate) fn request_id(id: &str) -> Result<Option<ClientId>, ApiError> {
    super::request_id(id).transpose().map_err(|()| ApiError::invalid("request_id", NOT_A_CLIENT_ID))
}

fn parsed(id: &str) -> Option<ConversationId> {
    id.parse().ok().filter(|id: &ConversationId| id.kind() == ConversationKind::Group)
}

/// The id of a group.
pub(crate) fn group(id: &str) -> Result<ConversationId, ApiError> {
    parsed(id).ok_or_else(|| ApiError::invalid("conversation_id", NOT_A_GROUP))
}

/// Different users, in the order named; `None` if one of them is none.
fn users(ids: &[String], limit: u32) -> Option<Vec<UserId>> {
    let mut users = Vec::with_capacity(ids.len().min(limit as usize));
    for id in ids.iter().take(limit as usize) {
        let user = id.parse().ok()?;
        if !users.contains(&user) {
            users.push(user);
        }
    }
    Some(users)
}

fn count(violations: Violations, ids: &[String], limit: u32) -> Violations {
    let most = limit.saturating_sub(1);
    violations.check((1..=most as usize).contains(&ids.len()), "user_ids", format!("1 to {most}"))
}

/// Checks a group to be made; gives the others.
pub(crate) fn creating(caller: UserId, request: &CreateGroupRequest, limit: u32) -> Result<Vec<UserId>, ApiError> {
    let others = users(&request.user_ids, limit);
    let violations = Violations::default()
        .check(limits::GROUP_TITLE.contains(&request.title.chars().count()), "title", "1 to 64 characters")
        .check(others.is_some(), "user_ids", NOT_A_USER);
    count(violations, &request.user_ids, limit).finish()?;
    let mut others = others.unwrap_or_default();
    others.retain(|other| *other != caller);
    if others.len() + 1 < limits::GROUP_SMALLEST {
        return Err(ApiError::refused(Reason::Yourself, "user_ids", "somebody else", 0));
    }
    Ok(others)
}

/// A group and different people.
pub(crate) fn people(conversation: &str, ids: &[String], limit: u32) -> Result<(ConversationId, Vec<UserId>), ApiError> {
    let (conversation, users) = (parsed(conversation), users(ids, limit));
    let violations =
        Violations::default().check(conversation.is_some(), "conversation_id", NOT_A_GROUP).check(users.is_some(), "user_ids", NOT_A_USER);
    count(violations, ids, limit).finish()?;
    conversation.zip(users).ok_or_else(ApiError::internal)
}

/// A group and one person.
pub(crate) fn person(conversation: &str, user: &str) -> Result<(ConversationId, UserId), ApiError> {
    let (conversation, user) = (parsed(conversation), user.parse().ok());
    Violations::default()
        .check(conversation.is_some(), "conversation_id", NOT_A_GROUP)
        .check(user.is_some(), "user_id", NOT_A_USER)
        .finish()?;
    conversation.zip(user).ok_or_else(ApiError::internal)
}

/// A group, a member, and whether that one is to be an admin.
pub(crate) fn role(request: &SetRoleRequest) -> Result<(ConversationId, UserId, bool), ApiError> {
    if !matches!(request.role(), GroupRole::Admin | GroupRole::Member) {
        return Err(ApiError::invalid("role", "admin or member"));
    }
    let (conversation, user) = person(&request.conversation_id, &request.user_id)?;
    Ok((conversation, user, request.role() == GroupRole::Admin))
}

/// Checks a change of a group.
pub(crate) fn describing(request: &UpdateGroupRequest) -> Result<(ConversationId, Describe), ApiError> {
    let conversation = parsed(&request.conversation_id);
    let paths = request.update_mask.as_ref().map(|mask| &mask.paths[..]).unwrap_or_default();
    let named = |name: &str| paths.iter().any(|path| path == name);
    let settings = named("settings") || named("settings.approval_required");
    let known = paths.iter().all(|path| matches!(path.as_str(), "title" | "notice" | "settings" | "settings.approval_required"));
    Violations::default()
        .check(conversation.is_some(), "conversation_id", NOT_A_GROUP)
        .check(!paths.is_empty() && known, "update_mask", "one or more of title, notice, settings")
        .check(!named("title") || limits::GROUP_TITLE.contains(&request.title.chars().count()), "title", "1 to 64 characters")
        .check(!named("notice") || at_most(&request.notice, limits::GROUP_NOTICE), "notice", "at most 2,000 characters")
        .finish()?;
    let describe = Describe {
        title: named("title").then(|| request.title.clone()),
        notice: named("notice").then(|| request.notice.clone()),
        approval_required: settings.then(|| request.settings.as_ref().is_some_and(|settings| settings.approval_required)),
    };
    conversation.map(|conversation| (conversation, describe)).ok_or_else(ApiError::internal)
}

/// Checks a name in a group.
pub(crate) fn nickname(request: &UpdateMyMembershipRequest) -> Result<ConversationId, ApiError> {
    let conversation = parsed(&request.conversation_id);
    Violations::default()
        .check(conversation.is_some(), "conversation_id", NOT_A_GROUP)
        .check(at_most(&request.nickname, limits::GROUP_NICKNAME), "nickname", "at most 64 characters")
        .finish()?;
    conversation.ok_or_else(ApiError::internal)
}

/// Checks which message is to be taken back.
pub(crate) fn recalling(request: &RecallMessageRequest) -> Result<ConversationId, ApiError> {
    let conversation = request.conversation_id.parse::<ConversationId>();
    Violations::default()
        .check(conversation.is_ok(), "conversation_id", NOT_A_CONVERSATION)
        .check(request.sequence > 0, "sequence", "from 1")
        .finish()?;
    conversation.map_err(|_| ApiError::internal())
}

/// Checks which messages are to be deleted; gives them in order, each once.
pub(crate) fn deleting(request: &DeleteMessagesRequest) -> Result<(ConversationId, Vec<u64>), ApiError> {
    let conversation = request.conversation_id.parse::<ConversationId>();
    let count = request.sequences.len();
    Violations::default()
        .check(conversation.is_ok(), "conversation_id", NOT_A_CONVERSATION)
        .check((1..=limits::DELETED_AT_ONCE).contains(&count), "sequences", "1 to 100")
        .check(request.sequences.iter().all(|sequence| *sequence > 0), "sequences", "from 1")
        .finish()?;
    let mut sequences = request.sequences.clone();
    sequences.sort_unstable();
    sequences.dedup();
    conversation.map(|conversation| (conversation, sequences)).map_err(|_| ApiError::internal())
}
