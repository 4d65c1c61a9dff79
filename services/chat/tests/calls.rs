//! Every public call: what it is for, malformed, of another user, without anybody, too late.

mod support;

use plaza_proto::chat::v1::{
    Conversation, Entry, GetConversationRequest, ListConversationsRequest, ListMessagesRequest, ListMessagesResponse, MarkReadRequest,
    Quote, SendMessageRequest, SyncRequest, UpdateConversationRequest, entry::Event,
};
use plaza_topics::account;
use plaza_types::{ConversationId, UserId};
use prost_types::FieldMask;
use support::{Server, by, message, side};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

fn reason(status: &Status) -> String {
    status.get_details_error_info().map(|info| info.reason).unwrap_or_default()
}

fn fields(status: &Status) -> Vec<String> {
    let bad = status.get_details_bad_request();
    bad.map(|bad| bad.field_violations.into_iter().map(|violation| violation.field).collect()).unwrap_or_default()
}

fn events(entries: Vec<Entry>) -> Vec<Event> {
    entries.into_iter().map(|entry| entry.event.expect("an event")).collect()
}

async fn list(server: &Server, user: UserId, request: ListMessagesRequest) -> Result<ListMessagesResponse, Status> {
    Ok(server.client().list_messages(by(user, request)).await?.into_inner())
}

async fn update(server: &Server, user: UserId, request: UpdateConversationRequest, paths: &[&str]) -> Result<Conversation, Status> {
    let update_mask = Some(FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() });
    let response = server.client().update_conversation(by(user, UpdateConversationRequest { update_mask, ..request })).await?;
    Ok(response.into_inner().conversation.expect("a conversation"))
}

async fn mark_read(server: &Server, user: UserId, id: ConversationId, sequence: u64) -> u64 {
    let request = MarkReadRequest { conversation_id: id.to_string(), sequence, request_id: String::new() };
    server.client().mark_read(by(user, request)).await.expect("marked").into_inner().read
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_reaches_both_inboxes_and_the_conversation() {
    let server = Server::start().await;
    let (a, b) = (server.user(), server.user());
    let id = server.befriend(a, b).await;
    let sent = server.send(a, b, "hello").await;
    assert_eq!((sent.conversation_id.as_str(), sent.sequence), (id.to_string().as_str(), 1));
    let answer =
        SendMessageRequest { quote: Some(Quote { sequence: 1 }), mentions: vec![a.to_string()], ..message(a, "hi", &server.client_id()) };
    assert_eq!(server.try_send(b, answer).await.expect("sent").sequence, 2);

    let listed =
        list(&server, a, ListMessagesRequest { conversation_id: id.to_string(), ..ListMessagesRequest::default() }).await.expect("listed");
    assert_eq!(listed.head, 2);
    assert_eq!(listed.messages.iter().map(|message| message.sequence).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(listed.messages[0].sent_at, sent.sent_at);
    assert_eq!((listed.messages[1].quote, &listed.messages[1].mentions), (Some(Quote { sequence: 1 }), &vec![a.to_string()]));
    for user in [a, b] {
        let entries = server.until("three entries", async || match server.sync(user, 0).await {
            entries if entries.len() == 3 => Ok(entries),
            fewer => Err(fewer),
        });
        let events = events(entries.await);
        assert!(
            matches!(&events[0], Event::MembershipChanged(changed) if changed.conversation_id == id.to_string() && changed.joined.len() == 2)
        );
        assert_eq!(events[1..], [Event::Message(listed.messages[0].clone()), Event::Message(listed.messages[1].clone())]);
    }
    let seen = server.conversation(a, id).await.expect("seen");
    assert_eq!((seen.head, seen.unread, seen.last_message), (2, 1, Some(listed.messages[1].clone())));
    assert_eq!((seen.peer_id, seen.title), (b.to_string(), String::new()));
    server
        .until("called", async || {
            server.conversation(a, id).await.map(|seen| seen.mentioned).unwrap_or_default().then_some(()).ok_or("not yet")
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_client_id_is_the_same_message() {
    let server = Server::start().await;
    let (a, b) = (server.user(), server.user());
    let id = server.befriend(a, b).await;
    let request = message(b, "once", &server.client_id());
    let first = server.try_send(a, request.clone()).await.expect("sent");
    let by_conversation = SendMessageRequest { conversation_id: id.to_string(), user_id: String::new(), ..request.clone() };
    assert_eq!(server.try_send(a, request.clone()).await.expect("sent"), first);
    assert_eq!(server.try_send(a, by_conversation).await.expect("sent"), first);
    let refused = server.try_send(a, message(b, "other", &request.client_message_id)).await.expect_err("refused");
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::AlreadyExists, "REQUEST_ID_REUSED"));
    let of_another = SendMessageRequest { user_id: a.to_string(), ..request };
    assert_eq!(server.try_send(b, of_another).await.expect("ids are scoped by sender").sequence, 2);
    let old = message(b, "old", &plaza_types::ClientId::new(support::now() - 25 * 3_600_000_000, [1; 10]).to_string());
    let refused = server.try_send(a, old).await.expect_err("refused");
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::InvalidArgument, "REQUEST_ID_TIME"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_and_the_blocked_are_told_the_same() {
    let server = Server::start().await;
    let (a, b) = (server.user(), server.user());
    let stranger = server.try_send(a, message(server.user(), "x", &server.client_id())).await.expect_err("refused");
    server.befriend(a, b).await;
    server.sides(a, b, vec![side(b, a, 2, true, true)]).await;
    let blocked = server.try_send(a, message(b, "x", &server.client_id())).await.expect_err("refused");
    server.sides(a, b, vec![side(b, a, 3, false, false)]).await;
    let deleted = server.try_send(a, message(b, "x", &server.client_id())).await.expect_err("refused");
    for status in [&stranger, &blocked, &deleted] {
        assert_eq!((status.code(), reason(status).as_str()), (Code::FailedPrecondition, "NOT_A_CONTACT"));
        assert_eq!((status.message(), status.details()), (stranger.message(), stranger.details()));
    }
    assert_eq!(server.sync(b, 0).await.len(), 1, "nothing was delivered");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unread_counts_are_exact_right_after_each_call() {
    let server = Server::start().await;
    let (a, b) = (server.user(), server.user());
    let id = server.befriend(a, b).await;
    let mut senders = Vec::new();
    for n in 0..40 {
        let (from, to) = if n % 3 == 0 { (b, a) } else { (a, b) };
        server.send(from, to, "x").await;
        senders.push(from);
        let seen = server.conversation(from, id).await.expect("seen");
        let expected = senders.iter().skip(usize::try_from(seen.read).expect("small")).filter(|sender| **sender != from).count();
        assert_eq!((seen.head, seen.unread), (senders.len() as u64, expected as u64));
        if n % 7 == 0 {
            assert_eq!(mark_read(&server, from, id, u64::MAX).await, senders.len() as u64, "beyond the newest is the newest");
            assert_eq!(mark_read(&server, from, id, 1).await, senders.len() as u64, "never back");
            assert_eq!(server.conversation(from, id).await.expect("seen").unread, 0);
        }
    }
    let told = server.until("told of reading", async || {
        let read = events(server.sync(a, 7).await).into_iter().filter_map(|event| match event {
            Event::ReadChanged(changed) => Some(changed.read),
            _ => None,
        });
        let read: Vec<u64> = read.collect();
        if read.len() == 4 { Ok(read) } else { Err(read) }
    });
    assert!(told.await.is_sorted());
    let others: Vec<Event> = events(server.sync(b, 0).await);
    let own = others.iter().filter(|event| matches!(event, Event::ReadChanged(_))).count();
    assert_eq!(own, 2, "nobody learns what another has read");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_are_the_users_own_and_follow_the_mask() {
    let server = Server::start().await;
    let (a, b) = (server.user(), server.user());
    let id = server.befriend(a, b).await;
    let request = || UpdateConversationRequest {
        conversation_id: id.to_string(),
        pinned: true,
        muted: true,
        hidden: true,
        draft: "d".into(),
        ..UpdateConversationRequest::default()
    };
    let changed = update(&server, a, request(), &["pinned", "hidden"]).await.expect("updated");
    assert_eq!((changed.pinned, changed.muted, changed.hidden, changed.draft.as_str()), (true, false, true, ""));
    let changed = update(&server, a, request(), &["draft"]).await.expect("updated");
    assert_eq!((changed.pinned, changed.muted, changed.hidden, changed.draft.as_str()), (true, false, true, "d"));
    let others = server.conversation(b, id).await.expect("seen");
    assert!(!others.pinned && !others.hidden && others.draft.is_empty());
    server.send(b, a, "x").await;
    assert!(!server.conversation(a, id).await.expect("seen").hidden, "a message shows it again");
    let told = server.until("told of settings", async || {
        let told = events(server.sync(a, 0).await).into_iter().filter_map(|event| match event {
            Event::ConversationChanged(changed) => Some((changed.pinned, changed.hidden, changed.draft)),
            _ => None,
        });
        let told: Vec<_> = told.collect();
        if told.len() == 2 { Ok(told) } else { Err(told) }
    });
    assert_eq!(told.await, [(true, true, String::new()), (true, true, "d".to_owned())]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_are_listed_from_both_ends() {
    let server = Server::start().await;
    let (a, b) = (server.user(), server.user());
    let id = server.befriend(a, b).await;
    for _ in 0..12 {
        server.send(a, b, "x").await;
    }
    let cases = [
        (None, None, 5, vec![8, 9, 10, 11, 12]),
        (Some(8), None, 3, vec![5, 6, 7]),
        (Some(3), None, 9, vec![1, 2]),
        (Some(0), None, 9, vec![]),
        (Some(1), None, 9, vec![]),
        (Some(u64::MAX), None, 2, vec![11, 12]),
        (None, Some(0), 2, vec![1, 2]),
        (None, Some(10), 9, vec![11, 12]),
        (None, Some(12), 9, vec![]),
        (None, Some(u64::MAX), 9, vec![]),
    ];
    for (before, after, page_size, expected) in cases {
        let page =
            list(&server, b, ListMessagesRequest { conversation_id: id.to_string(), before, after, page_size }).await.expect("a page");
        assert_eq!(page.messages.iter().map(|message| message.sequence).collect::<Vec<_>>(), expected, "{before:?} {after:?}");
        assert_eq!(page.head, 12);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cursor_above_the_head_is_valid() {
    let server = Server::start().await;
    let user = server.user();
    let page = server.client().sync(by(user, SyncRequest { cursor: 99, page_size: 0 })).await.expect("a page").into_inner();
    assert_eq!((page.entries.len(), page.next_cursor, page.more, page.head), (0, 99, false, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conversations_are_listed_in_order_and_pages_stay_stable_while_messages_come() {
    let server = Server::start().await;
    let me = server.user();
    let mut ids = Vec::new();
    let mut friends = Vec::new();
    for n in 0..9 {
        let friend = server.user();
        ids.push(server.befriend(me, friend).await);
        friends.push(friend);
        if n % 2 == 0 {
            server.send(friend, me, "x").await;
        }
    }
    let pinned = UpdateConversationRequest { conversation_id: ids[4].to_string(), pinned: true, ..UpdateConversationRequest::default() };
    update(&server, me, pinned, &["pinned"]).await.expect("pinned");
    let mut listed: Vec<String> = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListConversationsRequest { page_size: 2, page_token: page_token.clone() };
        let page = server.client().list_conversations(by(me, request)).await.expect("a page").into_inner();
        listed.extend(page.conversations.iter().map(|conversation| conversation.conversation_id.clone()));
        // One that was shown already, and one that was not, move to the top.
        server.send(friends[8], me, "up").await;
        server.send(me, friends[1], "up").await;
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let expected: Vec<String> = [4, 8, 7, 6, 5, 3, 2, 1, 0].map(|n: usize| ids[n].to_string()).into();
    assert_eq!(listed, expected);
    let first = server
        .client()
        .list_conversations(by(me, ListConversationsRequest { page_size: 3, page_token: String::new() }))
        .await
        .expect("a page")
        .into_inner();
    let order: Vec<&str> = first.conversations.iter().map(|conversation| conversation.conversation_id.as_str()).collect();
    assert_eq!(order, [&expected[0], &ids[1].to_string(), &ids[8].to_string()]);
    let token = first.next_page_token;
    for (user, page_token) in [(friends[0], token.clone()), (me, token.to_uppercase()), (me, "x".to_owned())] {
        let refused =
            server.client().list_conversations(by(user, ListConversationsRequest { page_size: 3, page_token })).await.expect_err("refused");
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::InvalidArgument, "PAGE_TOKEN"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_happens_to_an_account_is_told_to_its_devices() {
    let server = Server::start().await;
    let user = server.user();
    server.account_event(user, account::Kind::DeviceRevoked(account::DeviceRevoked::default())).await;
    server.account_event(user, account::Kind::ProfileChanged(account::ProfileChanged {})).await;
    let entries = server.until("an entry", async || match server.sync(user, 0).await {
        entries if entries.is_empty() => Err("none"),
        entries => Ok(entries),
    });
    assert!(matches!(&events(entries.await)[..], [Event::ProfileChanged(changed)] if changed.user_id == user.to_string()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_the_same_after_a_restart() {
    let server = Server::start().await;
    let (a, b) = (server.user(), server.user());
    let id = server.befriend(a, b).await;
    let request = message(b, "once", &server.client_id());
    let first = server.try_send(a, request.clone()).await.expect("sent");
    for _ in 0..5 {
        server.send(a, b, "x").await;
        server.send(b, a, "y").await;
    }
    mark_read(&server, b, id, 4).await;
    let before = [server.conversation(a, id).await.expect("seen"), server.conversation(b, id).await.expect("seen")];
    let told = server.until("all told", async || match server.sync(b, 0).await {
        entries if entries.len() == 13 => Ok(entries),
        fewer => Err(fewer.len()),
    });
    let told = told.await;

    let server = server.restart().await;
    assert_eq!(before, [server.conversation(a, id).await.expect("seen"), server.conversation(b, id).await.expect("seen")]);
    assert_eq!((before[0].unread, before[1].unread), (5, 3));
    assert_eq!(server.sync(b, 3).await, told);
    assert_eq!(server.try_send(a, request).await.expect("sent"), first, "still the same message");
    assert_eq!(server.send(a, b, "next").await.sequence, 12);
    server.until("told", async || server.sync(b, 0).await.get(13).cloned().ok_or("not yet")).await;
}

/// Every call about one conversation.
async fn about(server: &Server, user: UserId, conversation_id: &str) -> Vec<(&'static str, Status)> {
    let conversation_id = conversation_id.to_owned();
    let send =
        SendMessageRequest { conversation_id: conversation_id.clone(), user_id: String::new(), ..message(user, "x", &server.client_id()) };
    let read = MarkReadRequest { conversation_id: conversation_id.clone(), sequence: 1, request_id: String::new() };
    let setting = UpdateConversationRequest { conversation_id: conversation_id.clone(), ..UpdateConversationRequest::default() };
    vec![
        ("send", server.try_send(user, send).await.expect_err("refused")),
        (
            "list",
            list(server, user, ListMessagesRequest { conversation_id: conversation_id.clone(), ..ListMessagesRequest::default() })
                .await
                .expect_err("refused"),
        ),
        ("get", server.client().get_conversation(by(user, GetConversationRequest { conversation_id })).await.expect_err("refused")),
        ("read", server.client().mark_read(by(user, read)).await.expect_err("refused")),
        ("update", update(server, user, setting, &["pinned"]).await.expect_err("refused")),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn somebody_elses_conversation_answers_as_a_missing_one() {
    let server = Server::start().await;
    let (a, b, eve) = (server.user(), server.user(), server.user());
    let id = server.befriend(a, b).await;
    server.send(a, b, "secret").await;
    let foreign = about(&server, eve, &id.to_string()).await;
    let missing = about(&server, eve, &ConversationId::direct(server.user(), server.user()).to_string()).await;
    for ((call, foreign), (_, missing)) in foreign.iter().zip(&missing) {
        assert_eq!((foreign.code(), reason(foreign).as_str()), (Code::NotFound, "NOT_FOUND"), "{call}");
        assert_eq!(
            (foreign.code(), foreign.message(), foreign.details()),
            (missing.code(), missing.message(), missing.details()),
            "{call}"
        );
    }
    assert!(server.sync(eve, 0).await.is_empty());
    let own = server.client().list_conversations(by(eve, ListConversationsRequest::default())).await.expect("a page").into_inner();
    assert!(own.conversations.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_requests_name_their_fields() {
    let server = Server::start().await;
    let (a, b) = (server.user(), server.user());
    let id = server.befriend(a, b).await.to_string();
    for (call, status) in about(&server, a, "d-nonsense").await {
        assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, "INVALID_ARGUMENT"), "{call}");
        assert!(fields(&status).contains(&"conversation_id".to_owned()), "{call}: {:?}", fields(&status));
    }
    let empty = server.try_send(a, SendMessageRequest::default()).await.expect_err("refused");
    assert_eq!(fields(&empty), ["conversation_id", "client_message_id", "content"]);
    let both = ListMessagesRequest { conversation_id: id.clone(), before: Some(1), after: Some(1), page_size: 201 };
    assert_eq!(fields(&list(&server, a, both).await.expect_err("refused")), ["before", "page_size"]);
    let large = server.client().sync(by(a, SyncRequest { cursor: 0, page_size: 201 })).await.expect_err("refused");
    assert_eq!(fields(&large), ["page_size"]);
    let large = server
        .client()
        .list_conversations(by(a, ListConversationsRequest { page_size: 201, page_token: String::new() }))
        .await
        .expect_err("refused");
    assert_eq!(fields(&large), ["page_size"]);
    let setting = || UpdateConversationRequest {
        conversation_id: id.clone(),
        draft: "d".repeat(16 * 1024 + 1),
        request_id: "x".into(),
        ..UpdateConversationRequest::default()
    };
    assert_eq!(fields(&update(&server, a, setting(), &["draft"]).await.expect_err("refused")), ["request_id", "draft"]);
    assert_eq!(fields(&update(&server, a, setting(), &["title"]).await.expect_err("refused")), ["request_id", "update_mask"]);
    assert_eq!(fields(&update(&server, a, setting(), &[]).await.expect_err("refused")), ["request_id", "update_mask"]);
    let read = MarkReadRequest { conversation_id: id.clone(), sequence: 1, request_id: "x".into() };
    assert_eq!(fields(&server.client().mark_read(by(a, read)).await.expect_err("refused")), ["request_id"]);
    let quote = SendMessageRequest { quote: Some(Quote { sequence: 7 }), ..message(b, "x", &server.client_id()) };
    assert_eq!(fields(&server.try_send(a, quote).await.expect_err("refused")), ["quote.sequence"]);
    let mention = SendMessageRequest { mentions: vec![server.user().to_string()], ..message(b, "x", &server.client_id()) };
    assert_eq!(fields(&server.try_send(a, mention).await.expect_err("refused")), ["mentions"]);
    assert_eq!(reason(&server.try_send(a, message(a, "x", &server.client_id())).await.expect_err("refused")), "YOURSELF");
}

/// Every call, well formed, made through `wrap`.
async fn every_call(server: &Server, wrap: impl Fn(Request<()>) -> Request<()>) -> Vec<Status> {
    fn with<T>(wrapped: Request<()>, message: T) -> Request<T> {
        wrapped.map(|()| message)
    }
    let request = || wrap(Request::new(()));
    let mut client = server.client();
    let id = ConversationId::direct(server.user(), server.user()).to_string();
    let send = message(server.user(), "x", &server.client_id());
    let messages = ListMessagesRequest { conversation_id: id.clone(), ..ListMessagesRequest::default() };
    let read = MarkReadRequest { conversation_id: id.clone(), ..MarkReadRequest::default() };
    let setting = UpdateConversationRequest { conversation_id: id.clone(), ..UpdateConversationRequest::default() };
    vec![
        client.send_message(with(request(), send)).await.expect_err("refused"),
        client.list_messages(with(request(), messages)).await.expect_err("refused"),
        client.sync(with(request(), SyncRequest::default())).await.expect_err("refused"),
        client.list_conversations(with(request(), ListConversationsRequest::default())).await.expect_err("refused"),
        client.get_conversation(with(request(), GetConversationRequest { conversation_id: id })).await.expect_err("refused"),
        client.mark_read(with(request(), read)).await.expect_err("refused"),
        client.update_conversation(with(request(), setting)).await.expect_err("refused"),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_turned_away_and_so_is_a_call_whose_deadline_has_passed() {
    let server = Server::start().await;
    for status in every_call(&server, |request| request).await {
        assert_eq!((status.code(), reason(&status).as_str()), (Code::Unauthenticated, "TOKEN_MISSING"));
    }
    let user = server.user();
    let late = |_| {
        let mut request = by(user, ());
        request.metadata_mut().insert("grpc-timeout", "0n".parse().expect("ascii"));
        request
    };
    for status in every_call(&server, late).await {
        assert_eq!((status.code(), reason(&status).as_str()), (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_calls_at_once_are_turned_away() {
    let server = Server::with(plaza_chat::Config { calls_under_way: 0, ..plaza_chat::Config::default() }).await;
    let refused = server.try_send(server.user(), message(server.user(), "x", &server.client_id())).await.expect_err("refused");
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Unavailable, "UNAVAILABLE"));
    assert!(refused.get_details_retry_info().is_some());
}
