//! Every public method, as the descriptors list them, is called without credentials, with a deadline already past, with bytes that are no
//! message, with fields that break their rules, and with another user's ids. A method without a line here fails the test.

use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;
use plaza_client::{Account, Device, Endpoint, accounts, chat, graph, moments, new_id, text};
use plaza_proto::{options::v1::Access, policy};
use plaza_testkit::{people::befriend, raw, server::Server};
use prost::Message;
use tonic::{Code, Status};
use tonic_types::StatusExt;

/// What a request that names another user's things must be answered with.
enum Foreign {
    /// This code, and nothing that says whether the thing exists.
    Refused(Vec<u8>, Code),
    /// The method takes no ids; why.
    NoIds,
    /// It answers without the thing.
    Silent(Vec<u8>),
}

struct Case {
    path: &'static str,
    malformed: Vec<Vec<u8>>,
    foreign: Foreign,
}

/// The people of the test: a caller, a stranger, and two others who are friends.
struct World {
    caller: Account,
    stranger: String,
    stranger_device: String,
    poster: String,
    foreign_conversation: String,
    foreign_group: String,
    foreign_post: String,
    foreign_comment: String,
}

fn encoded(message: impl Message) -> Vec<u8> {
    message.encode_to_vec()
}

#[expect(clippy::too_many_lines, reason = "one line for each method, in one table")]
fn cases(world: &World) -> Vec<Case> {
    use Foreign::{NoIds, Refused, Silent};
    let conversation_id = world.foreign_conversation.clone();
    let group_id = world.foreign_group.clone();
    let user_id = world.stranger.clone();
    let bad_token = "0000".to_owned();
    let device = Some(accounts::Device { device_id: None, name: "d".into(), platform: "p".into() });
    let case = |path, malformed, foreign| Case { path, malformed, foreign };
    let register = |handle: &str, password: &str, name: &str, request_id: String| {
        let request = accounts::RegisterRequest {
            handle: handle.into(),
            password: password.into(),
            display_name: name.into(),
            device: device.clone(),
            request_id,
        };
        encoded(request)
    };
    let send = |conversation_id: &str, user_id: &str, id: String, content| {
        let request = chat::SendMessageRequest {
            conversation_id: conversation_id.into(),
            user_id: user_id.into(),
            client_message_id: id,
            content,
            ..Default::default()
        };
        encoded(request)
    };
    vec![
        case(
            "/plaza.accounts.v1.AccountsService/Register",
            vec![
                register("short", "password", "name", new_id()),
                register("1starts_with_digit", "password", "name", new_id()),
                register("good_handle", "short", "name", new_id()),
                register("good_handle", "password", "", new_id()),
                register("good_handle", "password", "name", "no uuid".into()),
                register("good_handle", "password", "name", "0163f5a0-0000-7000-8000-000000000000".into()),
            ],
            NoIds,
        ),
        case(
            "/plaza.accounts.v1.AccountsService/Login",
            vec![encoded(accounts::LoginRequest { handle: "x".repeat(400), password: "p".repeat(2000), device: None })],
            NoIds,
        ),
        case(
            "/plaza.accounts.v1.AccountsService/Refresh",
            vec![],
            Refused(encoded(accounts::RefreshRequest { refresh_token: "ab".repeat(32) }), Code::Unauthenticated),
        ),
        case("/plaza.accounts.v1.AccountsService/Logout", vec![], NoIds),
        case(
            "/plaza.accounts.v1.AccountsService/RevokeDevice",
            vec![encoded(accounts::RevokeDeviceRequest { device_id: "x".into() })],
            Refused(encoded(accounts::RevokeDeviceRequest { device_id: world.stranger_device.clone() }), Code::NotFound),
        ),
        case(
            "/plaza.accounts.v1.AccountsService/ListDevices",
            vec![
                encoded(accounts::ListDevicesRequest { page_size: 201, page_token: String::new() }),
                encoded(accounts::ListDevicesRequest { page_size: 0, page_token: bad_token.clone() }),
            ],
            NoIds,
        ),
        case(
            "/plaza.accounts.v1.AccountsService/ChangePassword",
            vec![encoded(accounts::ChangePasswordRequest { old_password: "x".into(), new_password: "x".into() })],
            NoIds,
        ),
        case("/plaza.accounts.v1.AccountsService/GetMe", vec![], NoIds),
        case(
            "/plaza.accounts.v1.AccountsService/UpdateProfile",
            vec![
                encoded(accounts::UpdateProfileRequest { update_mask: mask(&["handle"]), ..Default::default() }),
                encoded(accounts::UpdateProfileRequest {
                    display_name: "n".repeat(65),
                    update_mask: mask(&["display_name"]),
                    ..Default::default()
                }),
            ],
            NoIds,
        ),
        case(
            "/plaza.accounts.v1.AccountsService/GetUsers",
            vec![
                encoded(accounts::GetUsersRequest { user_ids: vec!["x".into()] }),
                encoded(accounts::GetUsersRequest { user_ids: vec![user_id.clone(); 101] }),
            ],
            Silent(encoded(accounts::GetUsersRequest { user_ids: vec![user_id.clone()] })),
        ),
        case(
            "/plaza.accounts.v1.AccountsService/FindByHandle",
            vec![encoded(accounts::FindByHandleRequest { handle: "x".into() })],
            Refused(encoded(accounts::FindByHandleRequest { handle: "hidden_person".into() }), Code::NotFound),
        ),
        case("/plaza.accounts.v1.AccountsService/GetSettings", vec![], NoIds),
        case(
            "/plaza.accounts.v1.AccountsService/UpdateSettings",
            vec![encoded(accounts::UpdateSettingsRequest {
                settings: Some(accounts::Settings { findable_by_handle: true, moments_range: 99 }),
                update_mask: mask(&["moments_range"]),
            })],
            NoIds,
        ),
        case(
            "/plaza.graph.v1.GraphService/SendFriendRequest",
            vec![
                encoded(graph::SendFriendRequestRequest { user_id: "x".into(), request_id: new_id(), ..Default::default() }),
                encoded(graph::SendFriendRequestRequest { user_id: user_id.clone(), request_id: String::new(), ..Default::default() }),
                encoded(graph::SendFriendRequestRequest {
                    user_id: user_id.clone(),
                    note: "n".repeat(101),
                    request_id: new_id(),
                    source: None,
                }),
                encoded(graph::SendFriendRequestRequest {
                    user_id: world.caller.user_id().into(),
                    request_id: new_id(),
                    ..Default::default()
                }),
            ],
            Refused(
                encoded(graph::SendFriendRequestRequest { user_id: user_id.clone(), request_id: new_id(), ..Default::default() }),
                Code::NotFound,
            ),
        ),
        case(
            "/plaza.graph.v1.GraphService/ListFriendRequests",
            vec![
                encoded(graph::ListFriendRequestsRequest { r#box: 0, ..Default::default() }),
                encoded(graph::ListFriendRequestsRequest { r#box: 7, ..Default::default() }),
                encoded(graph::ListFriendRequestsRequest { r#box: 1, page_size: 0, page_token: bad_token.clone() }),
            ],
            NoIds,
        ),
        case(
            "/plaza.graph.v1.GraphService/AcceptFriendRequest",
            vec![
                encoded(graph::AcceptFriendRequestRequest { user_id: "x".into(), request_id: new_id() }),
                encoded(graph::AcceptFriendRequestRequest { user_id: user_id.clone(), request_id: "x".into() }),
            ],
            Refused(encoded(graph::AcceptFriendRequestRequest { user_id: user_id.clone(), request_id: new_id() }), Code::NotFound),
        ),
        case(
            "/plaza.graph.v1.GraphService/IgnoreFriendRequest",
            vec![encoded(graph::IgnoreFriendRequestRequest { user_id: "x".into(), request_id: new_id() })],
            Refused(encoded(graph::IgnoreFriendRequestRequest { user_id: user_id.clone(), request_id: new_id() }), Code::NotFound),
        ),
        case(
            "/plaza.graph.v1.GraphService/ListContacts",
            vec![encoded(graph::ListContactsRequest { page_size: 0, page_token: bad_token.clone() })],
            NoIds,
        ),
        case(
            "/plaza.graph.v1.GraphService/GetContact",
            vec![encoded(graph::GetContactRequest { user_id: "x".into() })],
            Refused(encoded(graph::GetContactRequest { user_id: user_id.clone() }), Code::NotFound),
        ),
        case(
            "/plaza.graph.v1.GraphService/UpdateContact",
            vec![
                encoded(graph::UpdateContactRequest { user_id: "x".into(), ..Default::default() }),
                encoded(graph::UpdateContactRequest {
                    user_id: user_id.clone(),
                    update_mask: mask(&["since"]),
                    request_id: new_id(),
                    ..Default::default()
                }),
            ],
            Refused(
                encoded(graph::UpdateContactRequest {
                    user_id: user_id.clone(),
                    remark: "r".into(),
                    update_mask: mask(&["remark"]),
                    request_id: new_id(),
                    ..Default::default()
                }),
                Code::NotFound,
            ),
        ),
        case(
            "/plaza.graph.v1.GraphService/RemoveContact",
            vec![encoded(graph::RemoveContactRequest { user_id: "x".into(), request_id: new_id() })],
            Refused(encoded(graph::RemoveContactRequest { user_id: user_id.clone(), request_id: new_id() }), Code::NotFound),
        ),
        case(
            "/plaza.graph.v1.GraphService/Block",
            vec![encoded(graph::BlockRequest { user_id: "x".into(), request_id: new_id() })],
            Refused(
                encoded(graph::BlockRequest { user_id: "0190a5d4-0000-7000-8000-000000000000".into(), request_id: new_id() }),
                Code::NotFound,
            ),
        ),
        case(
            "/plaza.graph.v1.GraphService/Unblock",
            vec![encoded(graph::UnblockRequest { user_id: "x".into(), request_id: new_id() })],
            Silent(encoded(graph::UnblockRequest { user_id: user_id.clone(), request_id: new_id() })),
        ),
        case(
            "/plaza.graph.v1.GraphService/ListBlocked",
            vec![encoded(graph::ListBlockedRequest { page_size: 0, page_token: bad_token.clone() })],
            NoIds,
        ),
        case(
            "/plaza.chat.v1.ChatService/SendMessage",
            vec![
                send("", "", new_id(), Some(text("x"))),
                send(&conversation_id, &user_id, new_id(), Some(text("x"))),
                send("x", "", new_id(), Some(text("x"))),
                send("", &user_id, "x".into(), Some(text("x"))),
                send("", &user_id, new_id(), None),
                send("", &user_id, new_id(), Some(text(""))),
                send("", &user_id, new_id(), Some(text("x".repeat(16 * 1024 + 1)))),
            ],
            Refused(send(&conversation_id, "", new_id(), Some(text("x"))), Code::NotFound),
        ),
        case(
            "/plaza.chat.v1.ChatService/ListMessages",
            vec![
                encoded(chat::ListMessagesRequest { conversation_id: "x".into(), ..Default::default() }),
                encoded(chat::ListMessagesRequest {
                    conversation_id: conversation_id.clone(),
                    before: Some(1),
                    after: Some(1),
                    page_size: 0,
                }),
                encoded(chat::ListMessagesRequest { conversation_id: conversation_id.clone(), page_size: 201, ..Default::default() }),
            ],
            Refused(encoded(chat::ListMessagesRequest { conversation_id: conversation_id.clone(), ..Default::default() }), Code::NotFound),
        ),
        case(
            "/plaza.chat.v1.ChatService/RecallMessage",
            vec![
                encoded(chat::RecallMessageRequest { conversation_id: "x".into(), sequence: 1, ..Default::default() }),
                encoded(chat::RecallMessageRequest { conversation_id: group_id.clone(), sequence: 0, ..Default::default() }),
            ],
            Refused(
                encoded(chat::RecallMessageRequest { conversation_id: group_id.clone(), sequence: 1, ..Default::default() }),
                Code::NotFound,
            ),
        ),
        case(
            "/plaza.chat.v1.ChatService/DeleteMessages",
            vec![
                encoded(chat::DeleteMessagesRequest { conversation_id: group_id.clone(), ..Default::default() }),
                encoded(chat::DeleteMessagesRequest { conversation_id: group_id.clone(), sequences: vec![1; 101], ..Default::default() }),
            ],
            Refused(
                encoded(chat::DeleteMessagesRequest { conversation_id: group_id.clone(), sequences: vec![1], ..Default::default() }),
                Code::NotFound,
            ),
        ),
        case(
            "/plaza.chat.v1.ChatService/CreateGroup",
            vec![
                encoded(chat::CreateGroupRequest { title: "t".into(), ..Default::default() }),
                encoded(chat::CreateGroupRequest { title: "t".repeat(65), user_ids: vec![user_id.clone()], ..Default::default() }),
                encoded(chat::CreateGroupRequest { title: "t".into(), user_ids: vec![user_id.clone(); 500], ..Default::default() }),
                encoded(chat::CreateGroupRequest { title: "t".into(), user_ids: vec!["x".into()], ..Default::default() }),
            ],
            Refused(
                encoded(chat::CreateGroupRequest { title: "t".into(), user_ids: vec![user_id.clone()], request_id: new_id() }),
                Code::InvalidArgument,
            ),
        ),
        case(
            "/plaza.chat.v1.ChatService/GetGroup",
            vec![
                encoded(chat::GetGroupRequest { conversation_id: "x".into() }),
                encoded(chat::GetGroupRequest { conversation_id: conversation_id.clone() }),
            ],
            Refused(encoded(chat::GetGroupRequest { conversation_id: group_id.clone() }), Code::NotFound),
        ),
        case(
            "/plaza.chat.v1.ChatService/UpdateGroup",
            vec![
                encoded(chat::UpdateGroupRequest { conversation_id: group_id.clone(), title: "t".into(), ..Default::default() }),
                encoded(chat::UpdateGroupRequest {
                    conversation_id: group_id.clone(),
                    update_mask: mask(&["title"]),
                    ..Default::default()
                }),
            ],
            Refused(
                encoded(chat::UpdateGroupRequest {
                    conversation_id: group_id.clone(),
                    title: "t".into(),
                    update_mask: mask(&["title"]),
                    ..Default::default()
                }),
                Code::NotFound,
            ),
        ),
        case(
            "/plaza.chat.v1.ChatService/ListMembers",
            vec![
                encoded(chat::ListMembersRequest { conversation_id: group_id.clone(), page_size: 201, ..Default::default() }),
                encoded(chat::ListMembersRequest {
                    conversation_id: group_id.clone(),
                    page_token: bad_token.clone(),
                    ..Default::default()
                }),
            ],
            Refused(encoded(chat::ListMembersRequest { conversation_id: group_id.clone(), ..Default::default() }), Code::NotFound),
        ),
        case(
            "/plaza.chat.v1.ChatService/AddMembers",
            vec![
                encoded(chat::AddMembersRequest { conversation_id: group_id.clone(), ..Default::default() }),
                encoded(chat::AddMembersRequest { conversation_id: group_id.clone(), user_ids: vec!["x".into()], ..Default::default() }),
            ],
            Refused(
                encoded(chat::AddMembersRequest {
                    conversation_id: group_id.clone(),
                    user_ids: vec![user_id.clone()],
                    ..Default::default()
                }),
                Code::NotFound,
            ),
        ),
        case(
            "/plaza.chat.v1.ChatService/RemoveMembers",
            vec![
                encoded(chat::RemoveMembersRequest { conversation_id: group_id.clone(), ..Default::default() }),
                encoded(chat::RemoveMembersRequest { conversation_id: group_id.clone(), user_ids: vec!["x".into()], ..Default::default() }),
            ],
            Refused(
                encoded(chat::RemoveMembersRequest {
                    conversation_id: group_id.clone(),
                    user_ids: vec![user_id.clone()],
                    ..Default::default()
                }),
                Code::NotFound,
            ),
        ),
        case(
            "/plaza.chat.v1.ChatService/LeaveGroup",
            vec![
                encoded(chat::LeaveGroupRequest { conversation_id: "x".into(), ..Default::default() }),
                encoded(chat::LeaveGroupRequest { conversation_id: group_id.clone(), request_id: "x".into() }),
            ],
            Refused(encoded(chat::LeaveGroupRequest { conversation_id: group_id.clone(), ..Default::default() }), Code::NotFound),
        ),
        case(
            "/plaza.chat.v1.ChatService/DissolveGroup",
            vec![
                encoded(chat::DissolveGroupRequest { conversation_id: "x".into(), ..Default::default() }),
                encoded(chat::DissolveGroupRequest { conversation_id: group_id.clone(), request_id: "x".into() }),
            ],
            Refused(encoded(chat::DissolveGroupRequest { conversation_id: group_id.clone(), ..Default::default() }), Code::NotFound),
        ),
        case(
            "/plaza.chat.v1.ChatService/SetRole",
            vec![
                encoded(chat::SetRoleRequest { conversation_id: group_id.clone(), user_id: user_id.clone(), ..Default::default() }),
                encoded(chat::SetRoleRequest { conversation_id: group_id.clone(), user_id: "x".into(), role: 2, ..Default::default() }),
            ],
            Refused(
                encoded(chat::SetRoleRequest {
                    conversation_id: group_id.clone(),
                    user_id: user_id.clone(),
                    role: 2,
                    ..Default::default()
                }),
                Code::NotFound,
            ),
        ),
        case(
            "/plaza.chat.v1.ChatService/TransferOwnership",
            vec![encoded(chat::TransferOwnershipRequest { conversation_id: group_id.clone(), user_id: "x".into(), ..Default::default() })],
            Refused(
                encoded(chat::TransferOwnershipRequest {
                    conversation_id: group_id.clone(),
                    user_id: user_id.clone(),
                    ..Default::default()
                }),
                Code::NotFound,
            ),
        ),
        case(
            "/plaza.chat.v1.ChatService/UpdateMyMembership",
            vec![encoded(chat::UpdateMyMembershipRequest {
                conversation_id: group_id.clone(),
                nickname: "n".repeat(65),
                ..Default::default()
            })],
            Refused(
                encoded(chat::UpdateMyMembershipRequest { conversation_id: group_id.clone(), nickname: "n".into(), ..Default::default() }),
                Code::NotFound,
            ),
        ),
        case(
            "/plaza.chat.v1.ChatService/ListInvitations",
            vec![
                encoded(chat::ListInvitationsRequest { page_size: 201, ..Default::default() }),
                encoded(chat::ListInvitationsRequest { page_token: bad_token.clone(), ..Default::default() }),
            ],
            NoIds,
        ),
        case(
            "/plaza.chat.v1.ChatService/AnswerInvitation",
            vec![encoded(chat::AnswerInvitationRequest { conversation_id: "x".into(), accept: true, ..Default::default() })],
            Refused(
                encoded(chat::AnswerInvitationRequest { conversation_id: group_id.clone(), accept: true, ..Default::default() }),
                Code::NotFound,
            ),
        ),
        case(
            "/plaza.chat.v1.ChatService/ListJoinRequests",
            vec![encoded(chat::ListJoinRequestsRequest { conversation_id: group_id.clone(), page_size: 201, ..Default::default() })],
            Refused(encoded(chat::ListJoinRequestsRequest { conversation_id: group_id.clone(), ..Default::default() }), Code::NotFound),
        ),
        case(
            "/plaza.chat.v1.ChatService/AnswerJoinRequest",
            vec![encoded(chat::AnswerJoinRequestRequest {
                conversation_id: group_id.clone(),
                user_id: "x".into(),
                accept: true,
                ..Default::default()
            })],
            Refused(
                encoded(chat::AnswerJoinRequestRequest {
                    conversation_id: group_id.clone(),
                    user_id: user_id.clone(),
                    accept: true,
                    ..Default::default()
                }),
                Code::NotFound,
            ),
        ),
        case("/plaza.chat.v1.ChatService/Sync", vec![encoded(chat::SyncRequest { cursor: 0, page_size: 201 })], NoIds),
        case(
            "/plaza.chat.v1.ChatService/ListConversations",
            vec![encoded(chat::ListConversationsRequest { page_size: 0, page_token: bad_token })],
            NoIds,
        ),
        case(
            "/plaza.chat.v1.ChatService/GetConversation",
            vec![encoded(chat::GetConversationRequest { conversation_id: "x".into() })],
            Refused(encoded(chat::GetConversationRequest { conversation_id: conversation_id.clone() }), Code::NotFound),
        ),
        case(
            "/plaza.chat.v1.ChatService/MarkRead",
            vec![encoded(chat::MarkReadRequest { conversation_id: "x".into(), sequence: 1, request_id: String::new() })],
            Refused(
                encoded(chat::MarkReadRequest { conversation_id: conversation_id.clone(), sequence: 1, request_id: String::new() }),
                Code::NotFound,
            ),
        ),
        case(
            "/plaza.chat.v1.ChatService/UpdateConversation",
            vec![encoded(chat::UpdateConversationRequest {
                conversation_id: conversation_id.clone(),
                update_mask: mask(&["head"]),
                ..Default::default()
            })],
            Refused(
                encoded(chat::UpdateConversationRequest {
                    conversation_id,
                    pinned: true,
                    update_mask: mask(&["pinned"]),
                    ..Default::default()
                }),
                Code::NotFound,
            ),
        ),
    ]
    .into_iter()
    .chain(moments_cases(world))
    .collect()
}

#[expect(clippy::too_many_lines, reason = "one line for each method, in one table")]
fn moments_cases(world: &World) -> Vec<Case> {
    use Foreign::{NoIds, Refused, Silent};
    use moments::audience::Kind;
    let case = |path, malformed, foreign| Case { path, malformed, foreign };
    let (post_id, comment_id) = (world.foreign_post.clone(), world.foreign_comment.clone());
    let bad_token = "0000".to_owned();
    let words = |text: &str| Some(moments::PostContent { text: text.into(), ..Default::default() });
    let create = |content: Option<moments::PostContent>, kind: Option<Kind>, mentions: &[&str], request_id: &str| {
        let audience = kind.map(|kind| moments::Audience { kind: Some(kind) });
        let mentions = mentions.iter().map(|mention| (*mention).to_owned()).collect();
        encoded(moments::CreatePostRequest { request_id: request_id.to_owned(), content, audience, mentions })
    };
    let people = |user: &str, tag: &str| moments::People {
        user_ids: Some(user.to_owned()).filter(|user| !user.is_empty()).into_iter().collect(),
        tags: Some(tag.to_owned()).filter(|tag| !tag.is_empty()).into_iter().collect(),
    };
    let link =
        |url: &str| moments::PostContent { link: Some(moments::Link { url: url.into(), ..Default::default() }), ..Default::default() };
    let place = |latitude: f64, longitude: f64| moments::PostContent {
        location: Some(moments::Location { latitude, longitude, ..Default::default() }),
        ..Default::default()
    };
    let comment = |post_id: &str, text: &str, reply_to: Option<&str>, request_id: &str| {
        encoded(moments::CommentRequest {
            post_id: post_id.into(),
            text: text.into(),
            reply_to: reply_to.map(Into::into),
            request_id: request_id.into(),
        })
    };
    let stranger = world.stranger.as_str();
    vec![
        case(
            "/plaza.moments.v1.MomentsService/CreatePost",
            vec![
                create(words("x"), None, &[], ""),
                create(words("x"), None, &[], "6ba7b810-9dad-11d1-80b4-00c04fd430c8"),
                create(words("x"), None, &[], "0163f5a0-0000-7000-8000-000000000000"),
                create(None, None, &[], &new_id()),
                create(words(" \n"), None, &[], &new_id()),
                create(words(&"x".repeat(2001)), None, &[], &new_id()),
                create(Some(link("javascript:alert(1)")), None, &[], &new_id()),
                create(Some(link("https://")), None, &[], &new_id()),
                create(Some(link(&format!("https://{}", "x".repeat(2048)))), None, &[], &new_id()),
                create(Some(place(f64::NAN, 0.0)), None, &[], &new_id()),
                create(Some(place(0.0, 180.5)), None, &[], &new_id()),
                encoded(moments::CreatePostRequest {
                    request_id: new_id(),
                    content: words("x"),
                    audience: Some(moments::Audience { kind: None }),
                    mentions: Vec::new(),
                }),
                create(words("x"), Some(Kind::Only(people("", ""))), &[], &new_id()),
                create(words("x"), Some(Kind::Only(people("x", ""))), &[], &new_id()),
                create(words("x"), Some(Kind::Only(people(stranger, ""))), &[], &new_id()),
                create(words("x"), Some(Kind::Except(people("", "nobody has it"))), &[], &new_id()),
                create(words("x"), None, &["x"], &new_id()),
                create(words("x"), None, &[stranger], &new_id()),
            ],
            NoIds,
        ),
        case(
            "/plaza.moments.v1.MomentsService/GetPost",
            vec![
                encoded(moments::GetPostRequest { post_id: "x".into() }),
                encoded(moments::GetPostRequest { post_id: post_id.to_uppercase() }),
            ],
            Refused(encoded(moments::GetPostRequest { post_id: post_id.clone() }), Code::NotFound),
        ),
        case(
            "/plaza.moments.v1.MomentsService/DeletePost",
            vec![
                encoded(moments::DeletePostRequest { post_id: "x".into(), request_id: String::new() }),
                encoded(moments::DeletePostRequest { post_id: post_id.clone(), request_id: "x".into() }),
            ],
            Refused(encoded(moments::DeletePostRequest { post_id: post_id.clone(), request_id: String::new() }), Code::NotFound),
        ),
        case(
            "/plaza.moments.v1.MomentsService/ListTimeline",
            vec![
                encoded(moments::ListTimelineRequest { page_size: 201, page_token: String::new() }),
                encoded(moments::ListTimelineRequest { page_size: 0, page_token: bad_token.clone() }),
            ],
            NoIds,
        ),
        case(
            "/plaza.moments.v1.MomentsService/ListUserPosts",
            vec![
                encoded(moments::ListUserPostsRequest { user_id: "x".into(), ..Default::default() }),
                encoded(moments::ListUserPostsRequest { user_id: stranger.into(), page_size: 201, page_token: String::new() }),
                encoded(moments::ListUserPostsRequest { user_id: stranger.into(), page_size: 0, page_token: bad_token.clone() }),
            ],
            Silent(encoded(moments::ListUserPostsRequest { user_id: world.poster.clone(), ..Default::default() })),
        ),
        case(
            "/plaza.moments.v1.MomentsService/Like",
            vec![encoded(moments::LikeRequest { post_id: "x".into(), request_id: String::new() })],
            Refused(encoded(moments::LikeRequest { post_id: post_id.clone(), request_id: String::new() }), Code::NotFound),
        ),
        case(
            "/plaza.moments.v1.MomentsService/Unlike",
            vec![encoded(moments::UnlikeRequest { post_id: "x".into(), request_id: String::new() })],
            Refused(encoded(moments::UnlikeRequest { post_id: post_id.clone(), request_id: String::new() }), Code::NotFound),
        ),
        case(
            "/plaza.moments.v1.MomentsService/Comment",
            vec![
                comment("x", "x", None, &new_id()),
                comment(&post_id, "", None, &new_id()),
                comment(&post_id, &"x".repeat(1001), None, &new_id()),
                comment(&post_id, "x", Some("x"), &new_id()),
                comment(&post_id, "x", Some(&comment_id.replace(&post_id[..8], "00000000")), &new_id()),
                comment(&post_id, "x", None, ""),
            ],
            Refused(comment(&post_id, "x", Some(&comment_id), &new_id()), Code::NotFound),
        ),
        case(
            "/plaza.moments.v1.MomentsService/DeleteComment",
            vec![encoded(moments::DeleteCommentRequest { comment_id: post_id.clone(), request_id: String::new() })],
            Refused(encoded(moments::DeleteCommentRequest { comment_id, request_id: String::new() }), Code::NotFound),
        ),
        case(
            "/plaza.moments.v1.MomentsService/ListComments",
            vec![
                encoded(moments::ListCommentsRequest { post_id: "x".into(), ..Default::default() }),
                encoded(moments::ListCommentsRequest { post_id: post_id.clone(), page_size: 201, page_token: String::new() }),
                encoded(moments::ListCommentsRequest { post_id: post_id.clone(), page_size: 0, page_token: bad_token.clone() }),
            ],
            Refused(encoded(moments::ListCommentsRequest { post_id, ..Default::default() }), Code::NotFound),
        ),
        case(
            "/plaza.moments.v1.MomentsService/ListNotices",
            vec![
                encoded(moments::ListNoticesRequest { page_size: 201, page_token: String::new() }),
                encoded(moments::ListNoticesRequest { page_size: 0, page_token: bad_token }),
            ],
            NoIds,
        ),
    ]
}

fn mask(paths: &[&str]) -> Option<prost_types::FieldMask> {
    Some(prost_types::FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() })
}

#[tokio::test]
async fn every_method_refuses_what_it_must() -> anyhow::Result<()> {
    let server = Server::temporary(env!("CARGO_BIN_EXE_plaza"), &[]).await?;
    let endpoint = Endpoint::new(&server.address())?;
    let somebody = |handle: &'static str| {
        let endpoint = &endpoint;
        async move { Account::register(endpoint, handle, "correct horse", handle, &Device::new("test", "test")).await }
    };
    let (caller, hidden) = (somebody("the_caller").await?, somebody("hidden_person").await?);
    let (one, other) = (somebody("friend_one").await?, somebody("friend_other").await?);
    let hide = accounts::UpdateSettingsRequest {
        settings: Some(accounts::Settings { findable_by_handle: false, moments_range: 0 }),
        update_mask: mask(&["findable_by_handle"]),
    };
    hidden.services().await?.accounts.update_settings(hide).await?;
    let foreign_conversation = befriend(&one, &other).await?;
    let post = moments::CreatePostRequest {
        request_id: new_id(),
        content: Some(moments::PostContent { text: "for friends".into(), ..Default::default() }),
        ..Default::default()
    };
    let foreign_post = one.services().await?.moments.create_post(post).await?.into_inner().post.unwrap_or_default().post_id;
    let comment = moments::CommentRequest { post_id: foreign_post.clone(), text: "mine".into(), reply_to: None, request_id: new_id() };
    let foreign_comment = one.services().await?.moments.comment(comment).await?.into_inner().comment.unwrap_or_default().comment_id;
    let world = World {
        stranger: hidden.user_id().into(),
        stranger_device: hidden.device_id().into(),
        foreign_group: one.create_group("theirs", vec![other.user_id().to_owned()]).await?.conversation_id,
        poster: one.user_id().into(),
        foreign_conversation,
        foreign_post,
        foreign_comment,
        caller,
    };
    let connection = raw::Connection::open(&server.address()).await?;
    let token = world.caller.access_token().await?;
    let cases = cases(&world);

    let (streams, declared): (BTreeSet<_>, BTreeSet<_>) = policy::methods()
        .values()
        .filter(|method| method.is_public())
        .map(|method| method.path.as_str())
        .partition(|path| policy::methods()[*path].client_streaming);
    assert_eq!(
        streams,
        BTreeSet::from(["/plaza.gateway.v1.GatewayService/Connect"]),
        "another stream than the one in bad_input.rs: {streams:?}"
    );
    let covered: BTreeSet<_> = cases.iter().map(|case| case.path).collect();
    assert_eq!(declared, covered, "every public method needs a line in this file");

    for case in &cases {
        let method = &policy::methods()[case.path];
        let call = |body: &[u8], token: Option<&str>, timeout: Option<Duration>| {
            let mut request = raw::request(Bytes::copy_from_slice(body), token).expect("a token is text");
            if let Some(timeout) = timeout {
                request.set_timeout(timeout);
            }
            let connection = &connection;
            async move { connection.unary(&method.path, request).await }
        };
        if method.policy.access() != Access::Open {
            let status = call(&[], None, None).await.expect_err(case.path);
            assert_eq!((status.code(), reason(&status).as_str()), (Code::Unauthenticated, "TOKEN_MISSING"), "{}", case.path);
        }
        let status = call(&[], Some(&token), Some(Duration::ZERO)).await.expect_err(case.path);
        assert_eq!((status.code(), reason(&status).as_str()), (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"), "{}", case.path);
        let status = call(&[0xff; 16], Some(&token), None).await.expect_err(case.path);
        assert_eq!(status.code(), Code::InvalidArgument, "{}: {status:?}", case.path);
        for body in &case.malformed {
            let status = call(body, Some(&token), None).await.expect_err(case.path);
            assert_eq!(status.code(), Code::InvalidArgument, "{}: {status:?}", case.path);
            assert_eq!(status.get_details_error_info().map(|info| info.domain), Some("plaza".to_owned()), "{}", case.path);
        }
        match &case.foreign {
            Foreign::NoIds => {}
            Foreign::Refused(body, code) => {
                let status = call(body, Some(&token), None).await.expect_err(case.path);
                assert_eq!(status.code(), *code, "{}: {status:?}", case.path);
            }
            Foreign::Silent(body) => assert!(call(body, Some(&token), None).await?.is_empty(), "{}", case.path),
        }
    }
    server.assert_quiet_log(&[])
}

fn reason(status: &Status) -> String {
    status.get_details_error_info().map(|info| info.reason).unwrap_or_default()
}
