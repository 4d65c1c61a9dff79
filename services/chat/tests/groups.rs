//! Groups through the generated client: every call, what it refuses, and what each side sees afterwards.

mod support;

use plaza_proto::chat::v1::{self as api, GroupRole, NoticeKind, content, entry::Event};
use plaza_types::{ConversationId, UserId};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use self::support::{Server, by, message};

fn reason(status: &Status) -> String {
    status.get_details_error_info().map(|info| info.reason).unwrap_or_default()
}

fn fields(status: &Status) -> Vec<String> {
    status
        .get_details_bad_request()
        .map(|bad| bad.field_violations.into_iter().map(|violation| violation.field).collect())
        .unwrap_or_default()
}

fn ids(users: &[UserId]) -> Vec<String> {
    users.iter().map(ToString::to_string).collect()
}

fn mask(paths: &[&str]) -> Option<prost_types::FieldMask> {
    Some(prost_types::FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() })
}

/// A call that is answered, or refused with a status.
macro_rules! call {
    ($server:expr, $user:expr, $method:ident, $request:expr) => {
        $server.client().$method(by($user, $request)).await.map(tonic::Response::into_inner)
    };
}

/// A group of these people, as its owner made it.
async fn made(server: &Server, owner: UserId, others: &[UserId]) -> String {
    let request = api::CreateGroupRequest { title: "the group".into(), user_ids: ids(others), request_id: server.client_id() };
    let group = call!(server, owner, create_group, request).expect("made").group.expect("a group");
    for user in others {
        server.until("the group is open", async || server.conversation(*user, group.conversation_id.parse().expect("an id")).await).await;
    }
    group.conversation_id
}

async fn sent(server: &Server, from: UserId, group: &str, text: &str) -> u64 {
    let request =
        api::SendMessageRequest { conversation_id: group.to_owned(), user_id: String::new(), ..message(from, text, &server.client_id()) };
    server.try_send(from, request).await.expect("sent").sequence
}

async fn conversation(server: &Server, user: UserId, group: &str) -> api::Conversation {
    server.conversation(user, group.parse().expect("an id")).await.expect("seen")
}

async fn listed(server: &Server, user: UserId, group: &str) -> Vec<api::Message> {
    let request = api::ListMessagesRequest { conversation_id: group.to_owned(), after: Some(0), page_size: 200, ..Default::default() };
    call!(server, user, list_messages, request).expect("a page").messages
}

fn text_of(message: &api::Message) -> Option<&str> {
    match message.content.as_ref()?.kind.as_ref()? {
        content::Kind::Text(text) => Some(&text.text),
        content::Kind::SystemNotice(notice) => Some(notice.kind().as_str_name()),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_lives_from_its_creation_to_its_end() {
    let server = Server::start().await;
    let [owner, one, other, late] = [(); 4].map(|()| server.user());
    let request = api::CreateGroupRequest { title: "the group".into(), user_ids: ids(&[one, other]), request_id: server.client_id() };
    let created = call!(server, owner, create_group, request.clone()).expect("made");
    let group = created.group.clone().expect("a group");
    assert_eq!(
        (group.title.as_str(), group.member_count, group.my_role(), group.owner_id.clone()),
        ("the group", 3, GroupRole::Owner, owner.to_string())
    );
    assert_eq!(call!(server, owner, create_group, request.clone()).expect("made"), created, "asked again it is the same");
    let other_title = api::CreateGroupRequest { title: "another".into(), ..request };
    assert_eq!(reason(&call!(server, owner, create_group, other_title).expect_err("refused")), "REQUEST_ID_REUSED");
    let id = group.conversation_id;
    let own = conversation(&server, owner, &id).await;
    assert_eq!((own.head, own.unread, own.title.as_str(), own.read_only), (1, 0, "the group", false), "who was answered sees it");

    assert_eq!(sent(&server, one, &id, "hello").await, 2);
    let seen = conversation(&server, owner, &id).await;
    assert_eq!((seen.unread, seen.last_message.as_ref().and_then(text_of)), (1, Some("hello")));

    let add = api::AddMembersRequest { conversation_id: id.clone(), user_ids: ids(&[late, one]), request_id: server.client_id() };
    let added = call!(server, other, add_members, add).expect("added");
    assert_eq!((added.joined, added.group.map(|group| group.member_count)), (ids(&[late]), Some(4)));
    server.until("the newcomer is in", async || server.conversation(late, id.parse().expect("an id")).await).await;
    assert_eq!(listed(&server, late, &id).await.iter().filter_map(text_of).collect::<Vec<_>>(), ["NOTICE_KIND_JOINED"], "no history");
    let mut members = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = api::ListMembersRequest { conversation_id: id.clone(), page_size: 3, page_token };
        let page = call!(server, late, list_members, request).expect("a page");
        members.extend(page.members.into_iter().map(|member| member.user_id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let mut all = ids(&[owner, one, other, late]);
    all.sort_unstable();
    assert_eq!(members, all);

    let role = api::SetRoleRequest {
        conversation_id: id.clone(),
        user_id: one.to_string(),
        role: GroupRole::Admin.into(),
        request_id: String::new(),
    };
    assert_eq!(call!(server, owner, set_role, role).expect("set").member.map(|member| member.role()), Some(GroupRole::Admin));
    let update = api::UpdateGroupRequest {
        conversation_id: id.clone(),
        title: "renamed".into(),
        notice: "read this".into(),
        update_mask: mask(&["title", "notice"]),
        ..Default::default()
    };
    let updated = call!(server, one, update_group, update).expect("updated").group.expect("a group");
    assert_eq!((updated.title.as_str(), updated.notice.as_str()), ("renamed", "read this"));
    let nickname = api::UpdateMyMembershipRequest { conversation_id: id.clone(), nickname: "nick".into(), request_id: String::new() };
    assert_eq!(
        call!(server, late, update_my_membership, nickname).expect("named").member.map(|member| member.nickname),
        Some("nick".into())
    );
    let remove = api::RemoveMembersRequest { conversation_id: id.clone(), user_ids: ids(&[late]), request_id: String::new() };
    assert_eq!(call!(server, one, remove_members, remove).expect("removed").group.map(|group| group.member_count), Some(3));
    let transfer = api::TransferOwnershipRequest { conversation_id: id.clone(), user_id: one.to_string(), request_id: String::new() };
    assert_eq!(
        call!(server, owner, transfer_ownership, transfer).expect("transferred").group.map(|group| group.my_role()),
        Some(GroupRole::Member)
    );
    call!(server, owner, leave_group, api::LeaveGroupRequest { conversation_id: id.clone(), request_id: String::new() }).expect("left");
    let dissolve = api::DissolveGroupRequest { conversation_id: id.clone(), request_id: String::new() };
    assert!(call!(server, one, dissolve_group, dissolve).expect("dissolved").group.is_some_and(|group| group.dissolved));

    let kinds: Vec<String> = listed(&server, one, &id).await.iter().filter_map(|message| text_of(message).map(str::to_owned)).collect();
    let expected = ["CREATED", "", "JOINED", "ADMIN", "TITLE", "NOTICE", "REMOVED", "OWNER", "LEFT", "DISSOLVED"];
    let expected: Vec<String> =
        expected.iter().map(|kind| if kind.is_empty() { "hello".into() } else { format!("NOTICE_KIND_{kind}") }).collect();
    assert_eq!(kinds, expected);
    let told = server.until("everything is told", async || match server.sync(other, 0).await {
        entries if entries.len() == expected.len() => Ok(entries),
        fewer => Err(fewer.len()),
    });
    for (entry, sequence) in told.await.iter().zip(1..) {
        match entry.event.as_ref().expect("an event") {
            Event::Message(message) => assert_eq!(message.sequence, sequence),
            Event::MembershipChanged(changed) => assert_eq!(changed.sequence, sequence),
            event => panic!("{event:?}"),
        }
    }
    let end = conversation(&server, other, &id).await;
    assert!(end.read_only && end.title == "renamed" && end.unread == 1 && end.head == 10, "{end:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_former_member_keeps_what_was_heard_and_nothing_else() {
    let server = Server::start().await;
    let [owner, removed, left] = [(); 3].map(|()| server.user());
    let id = made(&server, owner, &[removed, left]).await;
    let mentioned = api::SendMessageRequest {
        conversation_id: id.clone(),
        user_id: String::new(),
        mentions_all: true,
        ..message(owner, "while", &server.client_id())
    };
    server.try_send(owner, mentioned).await.expect("sent");
    let remove = api::RemoveMembersRequest { conversation_id: id.clone(), user_ids: ids(&[removed]), request_id: String::new() };
    call!(server, owner, remove_members, remove).expect("removed");
    call!(server, left, leave_group, api::LeaveGroupRequest { conversation_id: id.clone(), request_id: String::new() }).expect("left");
    sent(&server, owner, &id, "after").await;
    let rename = api::UpdateGroupRequest {
        conversation_id: id.clone(),
        title: "secret".into(),
        update_mask: mask(&["title"]),
        ..Default::default()
    };
    call!(server, owner, update_group, rename).expect("renamed");

    for (user, last) in [(removed, 3), (left, 4)] {
        let seen = server.until("the end is known", async || {
            let seen = conversation(&server, user, &id).await;
            if seen.read_only { Ok(seen) } else { Err(seen) }
        });
        let seen = seen.await;
        assert_eq!((seen.head, seen.unread, seen.mentioned, seen.title.as_str()), (last, 1, true, "the group"));
        let texts: Vec<String> =
            listed(&server, user, &id).await.iter().filter_map(|message| text_of(message).map(str::to_owned)).collect();
        assert!(texts.len() as u64 == last && !texts.contains(&"after".to_owned()), "{texts:?}");
        let beyond = api::ListMessagesRequest { conversation_id: id.clone(), after: Some(last), ..Default::default() };
        let beyond = call!(server, user, list_messages, beyond).expect("a page");
        assert_eq!((beyond.messages.len(), beyond.head), (0, last));
        assert_eq!(server.sync(user, 0).await.len() as u64, last);
        let read = api::MarkReadRequest { conversation_id: id.clone(), sequence: 99, request_id: String::new() };
        assert_eq!(call!(server, user, mark_read, read).expect("read").read, last);
        let own = call!(server, user, list_conversations, api::ListConversationsRequest::default()).expect("a page");
        assert_eq!(own.conversations.len(), usize::from(user == removed), "who left does not see it in the list");
        for status in outside(&server, user, &id).await {
            assert_eq!((status.1.code(), reason(&status.1).as_str()), (Code::FailedPrecondition, "NOT_A_MEMBER"), "{}", status.0);
        }
    }
    // Who comes back begins anew.
    let add = api::AddMembersRequest { conversation_id: id.clone(), user_ids: ids(&[left]), request_id: String::new() };
    call!(server, owner, add_members, add).expect("added");
    let back = server.until("back in the list", async || {
        let own = call!(server, left, list_conversations, api::ListConversationsRequest::default()).expect("a page");
        own.conversations.into_iter().next().ok_or("not yet")
    });
    let back = back.await;
    assert_eq!((back.head, back.unread, back.read_only, back.title.as_str()), (7, 0, false, "secret"));
    assert_eq!(listed(&server, left, &id).await.len(), 1);
}

/// Every call that is for members only.
async fn outside(server: &Server, user: UserId, id: &str) -> Vec<(&'static str, Status)> {
    let (conversation_id, someone) = (id.to_owned(), server.user().to_string());
    let request_id = || server.client_id();
    let send =
        api::SendMessageRequest { conversation_id: id.to_owned(), user_id: String::new(), ..message(user, "x", &server.client_id()) };
    let update =
        api::UpdateGroupRequest { conversation_id: id.to_owned(), title: "t".into(), update_mask: mask(&["title"]), ..Default::default() };
    let conversation_id = || conversation_id.clone();
    vec![
        ("send", server.try_send(user, send).await.expect_err("refused")),
        ("get", call!(server, user, get_group, api::GetGroupRequest { conversation_id: conversation_id() }).expect_err("refused")),
        ("update", call!(server, user, update_group, update).expect_err("refused")),
        (
            "members",
            call!(server, user, list_members, api::ListMembersRequest { conversation_id: conversation_id(), ..Default::default() })
                .expect_err("refused"),
        ),
        (
            "add",
            call!(
                server,
                user,
                add_members,
                api::AddMembersRequest { conversation_id: conversation_id(), user_ids: vec![someone.clone()], request_id: request_id() }
            )
            .expect_err("refused"),
        ),
        (
            "remove",
            call!(
                server,
                user,
                remove_members,
                api::RemoveMembersRequest { conversation_id: conversation_id(), user_ids: vec![someone.clone()], request_id: request_id() }
            )
            .expect_err("refused"),
        ),
        (
            "leave",
            call!(server, user, leave_group, api::LeaveGroupRequest { conversation_id: conversation_id(), request_id: request_id() })
                .expect_err("refused"),
        ),
        (
            "role",
            call!(
                server,
                user,
                set_role,
                api::SetRoleRequest { conversation_id: conversation_id(), user_id: someone.clone(), role: 2, request_id: request_id() }
            )
            .expect_err("refused"),
        ),
        (
            "transfer",
            call!(
                server,
                user,
                transfer_ownership,
                api::TransferOwnershipRequest { conversation_id: conversation_id(), user_id: someone.clone(), request_id: request_id() }
            )
            .expect_err("refused"),
        ),
        (
            "dissolve",
            call!(server, user, dissolve_group, api::DissolveGroupRequest { conversation_id: conversation_id(), request_id: request_id() })
                .expect_err("refused"),
        ),
        (
            "rename",
            call!(
                server,
                user,
                update_my_membership,
                api::UpdateMyMembershipRequest { conversation_id: conversation_id(), nickname: "n".into(), request_id: request_id() }
            )
            .expect_err("refused"),
        ),
        (
            "join requests",
            call!(
                server,
                user,
                list_join_requests,
                api::ListJoinRequestsRequest { conversation_id: conversation_id(), ..Default::default() }
            )
            .expect_err("refused"),
        ),
        (
            "agree",
            call!(
                server,
                user,
                answer_join_request,
                api::AnswerJoinRequestRequest {
                    conversation_id: conversation_id(),
                    user_id: someone,
                    accept: true,
                    request_id: request_id()
                }
            )
            .expect_err("refused"),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn somebody_elses_group_answers_as_a_missing_one() {
    let server = Server::start().await;
    let [owner, member, eve] = [(); 3].map(|()| server.user());
    let id = made(&server, owner, &[member]).await;
    sent(&server, owner, &id, "secret").await;
    let missing = ConversationId::group(support::now(), [5; 10]).to_string();
    let mine = |id: &str| api::RecallMessageRequest { conversation_id: id.to_owned(), sequence: 2, request_id: String::new() };
    let gone = |id: &str| api::DeleteMessagesRequest { conversation_id: id.to_owned(), sequences: vec![2], request_id: String::new() };
    let answer = |id: &str| api::AnswerInvitationRequest { conversation_id: id.to_owned(), accept: true, request_id: String::new() };
    let mut all = Vec::new();
    for id in [&id, &missing] {
        let mut statuses = outside(&server, eve, id).await;
        statuses.push(("recall", call!(server, eve, recall_message, mine(id)).expect_err("refused")));
        statuses.push(("delete", call!(server, eve, delete_messages, gone(id)).expect_err("refused")));
        statuses.push(("answer", call!(server, eve, answer_invitation, answer(id)).expect_err("refused")));
        all.push(statuses);
    }
    for ((call, foreign), (_, missing)) in all[0].iter().zip(&all[1]) {
        assert_eq!((foreign.code(), reason(foreign).as_str()), (Code::NotFound, "NOT_FOUND"), "{call}");
        assert_eq!((foreign.message(), foreign.details()), (missing.message(), missing.details()), "{call}");
    }
    assert!(server.sync(eve, 0).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_requests_name_their_fields() {
    let server = Server::with(plaza_chat::Config { group_members: 5, ..plaza_chat::Config::default() }).await;
    let [owner, member, stranger] = [(); 3].map(|()| server.user());
    let id = made(&server, owner, &[member]).await;
    let create =
        |title: &str, user_ids: Vec<String>| api::CreateGroupRequest { title: title.into(), user_ids, request_id: server.client_id() };
    for (title, users, expected) in [
        ("", vec![], vec!["title", "user_ids"]),
        (&*"ü".repeat(65), ids(&[member]), vec!["title"]),
        ("t", vec!["x".into()], vec!["user_ids"]),
        ("t", (0..5).map(|_| server.user().to_string()).collect(), vec!["user_ids"]),
        ("t", ids(&[owner]), vec!["user_ids"]),
    ] {
        let status = call!(server, owner, create_group, create(title, users)).expect_err("refused");
        assert_eq!(
            (status.code(), fields(&status)),
            (Code::InvalidArgument, expected.into_iter().map(str::to_owned).collect::<Vec<_>>()),
            "{title}"
        );
    }
    server.contacts.estrange(stranger);
    for request in [create("t", ids(&[member, stranger])), create("t", vec![stranger.to_string()])] {
        let status = call!(server, owner, create_group, request.clone()).expect_err("refused");
        assert_eq!((status.code(), fields(&status)), (Code::InvalidArgument, vec!["user_ids".to_owned()]), "not a contact, or nobody");
        assert_eq!(call!(server, owner, create_group, request).expect_err("refused").message(), status.message(), "the same again");
    }
    let add = |users: Vec<String>| api::AddMembersRequest { conversation_id: id.clone(), user_ids: users, request_id: server.client_id() };
    assert_eq!(fields(&call!(server, owner, add_members, add(ids(&[stranger]))).expect_err("refused")), ["user_ids"]);
    let four: Vec<UserId> = (0..4).map(|_| server.user()).collect();
    let status = call!(server, owner, add_members, add(ids(&four))).expect_err("refused");
    assert_eq!((status.code(), reason(&status).as_str()), (Code::ResourceExhausted, "QUOTA_EXCEEDED"));
    assert_eq!(call!(server, owner, add_members, add(ids(&four[1..]))).map(|added| added.joined.len()).ok(), Some(3));

    let group = api::GetGroupRequest { conversation_id: ConversationId::direct(owner, member).to_string() };
    assert_eq!(fields(&call!(server, owner, get_group, group).expect_err("refused")), ["conversation_id"]);
    let update = |title: &str, notice: &str, paths: &[&str]| api::UpdateGroupRequest {
        conversation_id: id.clone(),
        title: title.into(),
        notice: notice.into(),
        update_mask: mask(paths),
        ..Default::default()
    };
    assert_eq!(fields(&call!(server, owner, update_group, update("", "", &[])).expect_err("refused")), ["update_mask"]);
    assert_eq!(fields(&call!(server, owner, update_group, update("", "", &["owner"])).expect_err("refused")), ["update_mask"]);
    let long = "n".repeat(2001);
    assert_eq!(
        fields(&call!(server, owner, update_group, update("", &long, &["title", "notice"])).expect_err("refused")),
        ["title", "notice"]
    );
    let role =
        |role: i32| api::SetRoleRequest { conversation_id: id.clone(), user_id: member.to_string(), role, request_id: String::new() };
    for number in [0, 3, 9] {
        assert_eq!(fields(&call!(server, owner, set_role, role(number)).expect_err("refused")), ["role"]);
    }
    let nickname = api::UpdateMyMembershipRequest { conversation_id: id.clone(), nickname: "n".repeat(65), request_id: "x".into() };
    assert_eq!(fields(&call!(server, owner, update_my_membership, nickname).expect_err("refused")), ["request_id"]);
    let delete = |sequences: Vec<u64>| api::DeleteMessagesRequest { conversation_id: id.clone(), sequences, request_id: String::new() };
    for sequences in [vec![], vec![0], vec![1; 101], vec![99]] {
        assert_eq!(fields(&call!(server, owner, delete_messages, delete(sequences)).expect_err("refused")), ["sequences"]);
    }
    let notice = api::RecallMessageRequest { conversation_id: id.clone(), sequence: 1, request_id: String::new() };
    assert_eq!(fields(&call!(server, owner, recall_message, notice).expect_err("refused")), ["sequence"]);
    let forged = api::SendMessageRequest {
        conversation_id: id.clone(),
        user_id: String::new(),
        content: Some(api::Content { kind: Some(content::Kind::SystemNotice(api::SystemNotice::default())) }),
        ..message(owner, "x", &server.client_id())
    };
    assert_eq!(fields(&server.try_send(owner, forged).await.expect_err("refused")), ["content.system_notice"]);
    let members = api::ListMembersRequest { conversation_id: id.clone(), page_size: 201, page_token: String::new() };
    assert_eq!(fields(&call!(server, owner, list_members, members).expect_err("refused")), ["page_size"]);
    let members = api::ListMembersRequest { conversation_id: id, page_size: 0, page_token: "00".into() };
    assert_eq!(reason(&call!(server, owner, list_members, members).expect_err("refused")), "PAGE_TOKEN");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_invited_and_those_who_need_approval_are_asked_in_turn() {
    let server = Server::start().await;
    let owner = server.user();
    let others: Vec<UserId> = (0..40).map(|_| server.user()).collect();
    let request = api::CreateGroupRequest { title: "many".into(), user_ids: ids(&others), request_id: server.client_id() };
    let created = call!(server, owner, create_group, request).expect("made");
    let id = created.group.expect("a group").conversation_id;
    let guest = others[39];
    assert_eq!((created.joined.len(), created.invited), (39, ids(&[guest])));
    let invitations = |user| {
        let mut client = server.client();
        async move { client.list_invitations(by(user, api::ListInvitationsRequest::default())).await.expect("a page").into_inner().invitations }
    };
    let invitation = invitations(guest).await;
    assert_eq!((invitation.len(), invitation[0].title.as_str(), invitation[0].inviter_id.clone()), (1, "many", owner.to_string()));
    assert!(invitations(owner).await.is_empty());
    server
        .until("the guest is told", async || match server.sync(guest, 0).await.pop() {
            Some(entry) if matches!(&entry.event, Some(Event::GroupInvitation(told)) if told.pending) => Ok(()),
            other => Err(other),
        })
        .await;
    let settings = Some(api::GroupSettings { approval_required: true });
    let update = api::UpdateGroupRequest { conversation_id: id.clone(), settings, update_mask: mask(&["settings"]), ..Default::default() };
    call!(server, owner, update_group, update).expect("set");
    let answer = |accept| api::AnswerInvitationRequest { conversation_id: id.clone(), accept, request_id: server.client_id() };
    let accepted = call!(server, guest, answer_invitation, answer(true)).expect("accepted").group.expect("a group");
    assert_eq!((accepted.member_count, accepted.my_role()), (41, GroupRole::Member));
    assert!(invitations(guest).await.is_empty());
    assert_eq!(call!(server, guest, answer_invitation, answer(true)).expect_err("refused").code(), Code::NotFound);

    let late = server.user();
    let add = api::AddMembersRequest { conversation_id: id.clone(), user_ids: ids(&[late]), request_id: server.client_id() };
    let added = call!(server, guest, add_members, add).expect("asked");
    assert_eq!((added.joined.len(), added.invited.len(), added.waiting), (0, 0, ids(&[late])));
    let requests = || api::ListJoinRequestsRequest { conversation_id: id.clone(), ..Default::default() };
    assert_eq!(reason(&call!(server, guest, list_join_requests, requests()).expect_err("refused")), "ROLE_REQUIRED");
    let waiting = call!(server, owner, list_join_requests, requests()).expect("a page").join_requests;
    assert_eq!(
        waiting.iter().map(|wish| (wish.user_id.clone(), wish.inviter_id.clone())).collect::<Vec<_>>(),
        [(late.to_string(), guest.to_string())]
    );
    assert!(invitations(late).await.is_empty());
    let agree =
        api::AnswerJoinRequestRequest { conversation_id: id.clone(), user_id: late.to_string(), accept: true, request_id: String::new() };
    call!(server, owner, answer_join_request, agree).expect("agreed");
    assert!(call!(server, owner, list_join_requests, requests()).expect("a page").join_requests.is_empty());
    assert_eq!(invitations(late).await.len(), 1, "more than 40: the guest is asked too");
    assert!(call!(server, late, answer_invitation, answer(false)).expect("declined").group.is_none());
    assert!(invitations(late).await.is_empty());
    assert_eq!(
        reason(&call!(server, late, get_group, api::GetGroupRequest { conversation_id: id.clone() }).expect_err("refused")),
        "NOT_FOUND"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_taken_back_is_gone_everywhere() {
    let server = Server::start().await;
    let [owner, reader] = [(); 2].map(|()| server.user());
    let group = made(&server, owner, &[reader]).await;
    let direct = server.befriend(owner, reader).await.to_string();
    for id in [group, direct] {
        let sequence = sent(&server, owner, &id, "do not read this").await;
        // Read, and so kept in memory, before it is taken back.
        assert!(listed(&server, reader, &id).await.iter().any(|message| text_of(message) == Some("do not read this")));
        let before = server.until("told", async || {
            let entries = server.sync(reader, 0).await;
            if format!("{entries:?}").contains("do not read") { Ok(entries) } else { Err(entries.len()) }
        });
        let before = before.await.len();
        let recall = || api::RecallMessageRequest { conversation_id: id.clone(), sequence, request_id: server.client_id() };
        assert_eq!(reason(&call!(server, reader, recall_message, recall()).expect_err("refused")), "NOT_THE_SENDER");
        call!(server, owner, recall_message, recall()).expect("gone");
        call!(server, owner, recall_message, recall()).expect("again");
        let quote = api::SendMessageRequest {
            conversation_id: id.clone(),
            user_id: String::new(),
            quote: Some(api::Quote { sequence }),
            ..message(reader, "what was it?", &server.client_id())
        };
        let listing = listed(&server, reader, &id).await;
        let left = listing.iter().find(|message| message.sequence == sequence).expect("its place stays");
        assert!(left.recalled && left.content.is_none() && left.sender_id == owner.to_string(), "{left:?}");
        let shown = conversation(&server, reader, &id).await;
        assert!(shown.last_message.as_ref().is_some_and(|last| last.recalled && last.content.is_none()));
        assert_eq!(shown.unread, 1, "still a place nobody has read");
        server.try_send(reader, quote).await.expect("quoted");
        let told = server.until("the recall is told", async || match server.sync(reader, 0).await {
            entries if entries.len() >= before + 2 => Ok(entries),
            fewer => Err(fewer.len()),
        });
        let told = told.await;
        assert_eq!(told.len(), before + 2, "told once");
        assert!(
            matches!(&told[before].event, Some(Event::MessageRecalled(gone)) if gone.sequence == sequence && gone.conversation_id == id)
        );
        assert!(!format!("{told:?}").contains("do not read"), "nor in pages of the inbox");
        assert!(told.iter().zip(1..).all(|(entry, cursor)| entry.cursor == cursor));
    }
    let server = server.restart().await;
    for user in [owner, reader] {
        let entries = server.sync(user, 0).await;
        assert!(!format!("{entries:?}").contains("do not read"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleted_messages_are_gone_for_one_user_only() {
    let server = Server::start().await;
    let [owner, reader] = [(); 2].map(|()| server.user());
    let id = made(&server, owner, &[reader]).await;
    for n in 2..=12 {
        assert_eq!(sent(&server, owner, &id, &format!("number {n}")).await, n);
    }
    let before = server.until("told", async || match server.sync(reader, 0).await {
        entries if entries.len() == 12 => Ok(entries),
        fewer => Err(fewer.len()),
    });
    before.await;
    let delete = api::DeleteMessagesRequest { conversation_id: id.clone(), sequences: vec![12, 5, 6, 7, 11, 5], request_id: String::new() };
    call!(server, reader, delete_messages, delete).expect("deleted");
    let sequences = |messages: &[api::Message]| messages.iter().map(|message| message.sequence).collect::<Vec<_>>();
    assert_eq!(sequences(&listed(&server, reader, &id).await), [1, 2, 3, 4, 8, 9, 10]);
    assert_eq!(listed(&server, owner, &id).await.len(), 12);
    let page = |before, after, page_size| api::ListMessagesRequest { conversation_id: id.clone(), before, after, page_size };
    for (before, after, size, expected) in [
        (None, None, 3, vec![8, 9, 10]),
        (Some(9), None, 3, vec![3, 4, 8]),
        (None, Some(4), 2, vec![8, 9]),
        (Some(8), None, 3, vec![2, 3, 4]),
    ] {
        assert_eq!(sequences(&call!(server, reader, list_messages, page(before, after, size)).expect("a page").messages), expected);
    }
    let shown = conversation(&server, reader, &id).await;
    assert_eq!((shown.last_message.map(|last| last.sequence), shown.unread, shown.head), (Some(10), 11, 12));
    let told = server.until("told to the other devices", async || match server.sync(reader, 5).await {
        entries if entries.len() == 13 => Ok(entries),
        fewer => Err(fewer.len()),
    });
    let told = told.await;
    assert!(matches!(&told[12].event, Some(Event::MessagesDeleted(gone)) if gone.sequences == [5, 6, 7, 11, 12]));
    for entry in &told {
        if let Some(Event::Message(message)) = &entry.event {
            let gone = [5, 6, 7, 11, 12].contains(&message.sequence);
            assert_eq!((message.deleted, message.content.is_none()), (gone, gone), "{}", message.sequence);
        }
    }
    assert!(!format!("{:?}", server.sync(owner, 0).await).contains("deleted: true"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_is_called_by_owner_and_admins_only() {
    let server = Server::start().await;
    let [owner, one, other] = [(); 3].map(|()| server.user());
    let id = made(&server, owner, &[one, other]).await;
    let all = |from| api::SendMessageRequest {
        conversation_id: id.clone(),
        user_id: String::new(),
        mentions_all: true,
        ..message(from, "all", &server.client_id())
    };
    assert_eq!(reason(&server.try_send(one, all(one)).await.expect_err("refused")), "ROLE_REQUIRED");
    server.try_send(owner, all(owner)).await.expect("sent");
    for (user, called) in [(owner, false), (one, true), (other, true)] {
        assert_eq!(conversation(&server, user, &id).await.mentioned, called);
    }
    assert!(listed(&server, one, &id).await[1].mentions_all);
    call!(server, one, mark_read, api::MarkReadRequest { conversation_id: id.clone(), sequence: 2, request_id: String::new() })
        .expect("read");
    assert!(!conversation(&server, one, &id).await.mentioned);
    let direct = server.befriend(owner, one).await.to_string();
    let direct = api::SendMessageRequest { conversation_id: direct, ..all(owner) };
    assert_eq!(fields(&server.try_send(owner, direct).await.expect_err("refused")), ["mentions_all"]);
    let notices = listed(&server, one, &id).await;
    let Some(content::Kind::SystemNotice(notice)) = notices[0].content.as_ref().and_then(|content| content.kind.clone()) else {
        panic!("{notices:?}")
    };
    assert_eq!((notice.kind(), notice.user_ids), (NoticeKind::Created, ids(&[one, other])));
}
