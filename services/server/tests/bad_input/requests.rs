//! Requests that are none, that are too large, or whose ids are not what they must be.

use bytes::Bytes;
use plaza_client::{To, accounts, chat, graph, new_id, text};
use plaza_proto::policy;
use plaza_testkit::{people::befriend, raw};
use plaza_types::ClientId;
use prost::Message;
use tonic::{Code, Request, body::Body, codegen::http};

use super::{TEXT, World, call, mask, reason, refused, seen};

const SEND: &str = "/plaza.chat.v1.ChatService/SendMessage";
const GET_ME: &str = "/plaza.accounts.v1.AccountsService/GetMe";

#[tokio::test]
async fn bytes_that_are_no_request_are_refused() -> anyhow::Result<()> {
    let world = World::new().await?;
    let before = seen(&world.ada).await?;
    let no_text: [&[u8]; 4] = [
        b"\x0a\x04\xff\xfe\xfd\xfc",         // a string that is not UTF-8
        b"\x0a\xff\xff\xff\xff\x0f",         // longer than everything there is
        b"\x0f",                             // a wire type that does not exist
        b"\x08\xff\xff\xff\xff\xff\xff\xff", // a number that does not end
    ];
    for body in no_text {
        for path in [SEND, "/plaza.accounts.v1.AccountsService/UpdateProfile", "/plaza.graph.v1.GraphService/SendFriendRequest"] {
            let answer = world.connection.unary(path, raw::request(Bytes::from_static(body), Some(&world.token))?).await;
            refused(answer, Code::InvalidArgument, "INVALID_ARGUMENT", &format!("{path} {body:x?}"))?;
        }
    }
    // Below the messages: frames that end early, that claim to be compressed, or that are more than one.
    for frame in [&b"\x00\x00"[..], b"\x00\x00\x00\x00\x09\x0a", b"\x01\x00\x00\x00\x00", b"\x07\x00\x00\x00\x00", b""] {
        let request = http::Request::post(format!("{}{GET_ME}", world.server.address()))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("authorization", format!("Bearer {}", world.token))
            .body(Body::new(http_body_util::Full::new(Bytes::from_static(frame))))?;
        let answer = world.connection.send(request).await?;
        let status = tonic::Status::from_header_map(answer.headers()).expect("a status in the headers");
        refused(Err::<(), _>(status), Code::InvalidArgument, "INVALID_ARGUMENT", &format!("frame {frame:x?}"))?;
    }
    assert_eq!(seen(&world.ada).await?, before);
    world.close(&[]).await
}

#[tokio::test]
async fn what_is_too_large_is_refused() -> anyhow::Result<()> {
    let world = World::new().await?;
    let bob = world.newcomer("bob").await?;
    befriend(&world.ada, &bob).await?;
    let before = seen(&bob).await?;
    let long = |bytes| chat::SendMessageRequest {
        user_id: bob.user_id().into(),
        client_message_id: new_id(),
        content: Some(text("x".repeat(bytes))),
        ..Default::default()
    };
    refused(world.call(SEND, &long(16 * 1024 + 1)).await, Code::InvalidArgument, "INVALID_ARGUMENT", "a text of 16 KiB and a byte")?;
    for bytes in [40 << 10, 1 << 20, 8 << 20] {
        refused(world.call(SEND, &long(bytes)).await, Code::ResourceExhausted, "TOO_LARGE", &format!("{bytes} bytes"))?;
    }
    let mut much = raw::request(Bytes::new(), Some(&world.token))?;
    much.metadata_mut().insert("x-much", "m".repeat(9 << 10).parse()?);
    refused(world.connection.unary(GET_ME, much).await, Code::ResourceExhausted, "TOO_LARGE", "9 KiB of metadata")?;
    let mut more = raw::request(Bytes::new(), Some(&world.token))?;
    for number in 0..20 {
        more.metadata_mut()
            .insert(tonic::metadata::MetadataKey::from_bytes(format!("x-{number}").as_bytes())?, "m".repeat(8 << 10).parse()?);
    }
    assert!(world.connection.unary(GET_ME, more).await.is_err(), "160 KiB of metadata were taken");
    // That connection is lost for it, and nothing else.
    assert!(World::new().await?.call(GET_ME, &accounts::GetMeRequest {}).await.is_ok());
    assert_eq!(seen(&bob).await?, before);
    world.close(&[&bob]).await
}

#[tokio::test]
async fn what_is_not_for_outside_does_not_exist() -> anyhow::Result<()> {
    let world = World::new().await?;
    let bob = world.newcomer("bob").await?;
    let internal: Vec<_> = policy::methods().values().filter(|method| !method.is_public()).map(|method| method.path.as_str()).collect();
    assert!(internal.len() >= 4, "{internal:?}");
    let unknown = ["/plaza.chat.v1.ChatService/Nonsense", "/plaza.nonsense.v1.NonsenseService/Call", "/", "/../etc/passwd"];
    let mut answers = Vec::new();
    for path in internal.into_iter().chain(unknown) {
        for token in [None, Some(world.token.as_str())] {
            let status = call(&world.connection, path, &accounts::GetMeRequest {}, token).await.expect_err(path);
            assert_eq!((status.code(), reason(&status).as_str()), (Code::Unimplemented, "UNKNOWN_METHOD"), "{path}");
            answers.push((status.message().to_owned(), status.details().to_vec()));
        }
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "answers differ: {answers:?}");

    // Who says to be somebody else is who the token says.
    let claim = |token| {
        let mut request = raw::request(Bytes::new(), token)?;
        for (name, value) in
            [("x-plaza-user", bob.user_id()), ("x-plaza-device", bob.device_id()), ("x-plaza-priority", "1"), ("x-plaza-anything", "1")]
        {
            request.metadata_mut().insert(name, value.parse()?);
        }
        anyhow::Ok(request)
    };
    let me = accounts::GetMeResponse::decode(world.connection.unary(GET_ME, claim(Some(&world.token))?).await?)?;
    assert_eq!(me.user.unwrap_or_default().user_id, world.ada.user_id());
    refused(world.connection.unary(GET_ME, claim(None)?).await, Code::Unauthenticated, "TOKEN_MISSING", "only a claim")?;
    world.close(&[&bob]).await
}

#[tokio::test]
async fn ids_must_be_new_and_of_one_content() -> anyhow::Result<()> {
    let world = World::new().await?;
    let bob = world.newcomer("bob").await?;
    let eve = world.newcomer("eve").await?;
    let conversation = befriend(&world.ada, &bob).await?;
    let words = |words: &str, id: &str| chat::SendMessageRequest {
        conversation_id: conversation.clone(),
        client_message_id: id.to_owned(),
        content: Some(text(format!("{TEXT}: {words}"))),
        ..Default::default()
    };
    let before = (seen(&world.ada).await?, seen(&bob).await?, seen(&eve).await?);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_micros() as u64;
    let at = |micros: u64| ClientId::new(micros, rand::random()).to_string();
    let minutes = |count: u64| count * 60 * 1_000_000;
    let ask = |id: &str| graph::SendFriendRequestRequest { user_id: eve.user_id().into(), request_id: id.into(), ..Default::default() };
    for (id, expected) in [
        (at(now - minutes(24 * 60 + 1)), "REQUEST_ID_TIME"),
        (at(now + minutes(11)), "REQUEST_ID_TIME"),
        (at(0), "REQUEST_ID_TIME"),
        ("6ba7b810-9dad-11d1-80b4-00c04fd430c8".to_owned(), "INVALID_ARGUMENT"), // version 1
        ("9b2f8a6e-7f0e-4f3b-8a4e-0d5c1c9c7a11".to_owned(), "INVALID_ARGUMENT"), // version 4
        ("00000000-0000-0000-0000-000000000000".to_owned(), "INVALID_ARGUMENT"),
        (String::new(), "INVALID_ARGUMENT"),
        ("x".repeat(100), "INVALID_ARGUMENT"),
    ] {
        refused(world.call(SEND, &words("x", &id)).await, Code::InvalidArgument, expected, &format!("client_message_id {id}"))?;
        let asked = world.call("/plaza.graph.v1.GraphService/SendFriendRequest", &ask(&id)).await;
        refused(asked, Code::InvalidArgument, expected, &format!("request_id {id}"))?;
        let mark = chat::MarkReadRequest { conversation_id: conversation.clone(), sequence: 0, request_id: id.clone() };
        if !id.is_empty() {
            let marked = world.call("/plaza.chat.v1.ChatService/MarkRead", &mark).await;
            refused(marked, Code::InvalidArgument, expected, &format!("request_id {id} of MarkRead"))?;
        }
    }
    assert_eq!((seen(&world.ada).await?, seen(&bob).await?, seen(&eve).await?), before);

    // The same id once more is the same message, and no other one.
    let id = new_id();
    let first = world.call(SEND, &words("first", &id)).await?;
    let by_person = chat::SendMessageRequest { conversation_id: String::new(), user_id: bob.user_id().into(), ..words("first", &id) };
    for again in [words("first", &id), by_person] {
        assert_eq!(world.call(SEND, &again).await?, first);
    }
    refused(world.call(SEND, &words("second", &id)).await, Code::AlreadyExists, "REQUEST_ID_REUSED", "another text")?;
    // Ids are each sender's own.
    assert!(bob.services().await?.chat.send_message(words("mine", &id)).await.is_ok());

    // The same for what is refused, and for what changes a setting.
    let id = new_id();
    let to_eve = |words: &str| chat::SendMessageRequest {
        user_id: eve.user_id().into(),
        client_message_id: id.clone(),
        content: Some(text(words)),
        ..Default::default()
    };
    for _ in 0..2 {
        refused(world.call(SEND, &to_eve("hello")).await, Code::FailedPrecondition, "NOT_A_CONTACT", "a stranger")?;
    }
    refused(world.call(SEND, &to_eve("other")).await, Code::AlreadyExists, "REQUEST_ID_REUSED", "another text to a stranger")?;
    let id = new_id();
    let pin = |pinned| chat::UpdateConversationRequest {
        conversation_id: conversation.clone(),
        pinned,
        update_mask: mask("pinned"),
        request_id: id.clone(),
        ..Default::default()
    };
    let mut chat = world.ada.services().await?.chat;
    assert!(chat.update_conversation(pin(true)).await.is_ok() && chat.update_conversation(pin(true)).await.is_ok());
    refused(chat.update_conversation(pin(false)).await, Code::AlreadyExists, "REQUEST_ID_REUSED", "another setting")?;
    world.close(&[&bob, &eve]).await
}

#[tokio::test]
async fn page_tokens_are_their_callers_and_their_querys() -> anyhow::Result<()> {
    let world = World::new().await?;
    let mut friends = Vec::new();
    for name in ["one", "two", "three"] {
        let friend = world.newcomer(name).await?;
        befriend(&friend, &world.ada).await?;
        friends.push(friend);
    }
    befriend(&friends[0], &friends[1]).await?;
    befriend(&friends[0], &friends[2]).await?;
    let list = |page_token: String| graph::ListContactsRequest { page_size: 1, page_token };
    const CONTACTS: &str = "/plaza.graph.v1.GraphService/ListContacts";
    let page = graph::ListContactsResponse::decode(world.call(CONTACTS, &list(String::new())).await?)?;
    let token = page.next_page_token;
    assert!(!token.is_empty());
    assert!(world.call(CONTACTS, &list(token.clone())).await.is_ok());

    let others = friends[0].services().await?.graph.list_contacts(list(token.clone())).await;
    refused(others, Code::InvalidArgument, "PAGE_TOKEN", "another caller's token")?;
    let blocked = graph::ListBlockedRequest { page_size: 1, page_token: token.clone() };
    let other_query = world.call("/plaza.graph.v1.GraphService/ListBlocked", &blocked).await;
    refused(other_query, Code::InvalidArgument, "PAGE_TOKEN", "another query's token")?;
    let conversations = chat::ListConversationsRequest { page_size: 1, page_token: token.clone() };
    let other_service = world.call("/plaza.chat.v1.ChatService/ListConversations", &conversations).await;
    refused(other_service, Code::InvalidArgument, "PAGE_TOKEN", "another service's token")?;
    for at in 0..token.len() {
        let mut altered = token.clone().into_bytes();
        altered[at] = if altered[at] == b'A' { b'B' } else { b'A' };
        let answer = world.call(CONTACTS, &list(String::from_utf8(altered)?)).await;
        refused(answer, Code::InvalidArgument, "PAGE_TOKEN", &format!("byte {at} altered"))?;
    }
    for cut in ["", "A", " ", "=", "\u{e9}"] {
        let answer = world.call(CONTACTS, &list(format!("{}{cut}x", &token[..4]))).await;
        refused(answer, Code::InvalidArgument, "PAGE_TOKEN", "no token")?;
    }
    let friends: Vec<_> = friends.iter().collect();
    world.close(&friends).await
}

#[tokio::test]
async fn a_deadline_that_is_past_or_no_deadline_is_refused() -> anyhow::Result<()> {
    let world = World::new().await?;
    let bob = world.newcomer("bob").await?;
    befriend(&world.ada, &bob).await?;
    let before = seen(&bob).await?;
    let send = chat::SendMessageRequest {
        user_id: bob.user_id().into(),
        client_message_id: new_id(),
        content: Some(text(TEXT)),
        ..Default::default()
    };
    for (timeout, code, expected) in [
        ("0n", Code::DeadlineExceeded, "DEADLINE_EXCEEDED"),
        ("0S", Code::DeadlineExceeded, "DEADLINE_EXCEEDED"),
        ("soon", Code::InvalidArgument, "INVALID_ARGUMENT"),
        ("-1S", Code::InvalidArgument, "INVALID_ARGUMENT"),
        ("99999999999S", Code::InvalidArgument, "INVALID_ARGUMENT"),
    ] {
        let mut request: Request<Bytes> = raw::request(send.encode_to_vec().into(), Some(&world.token))?;
        request.metadata_mut().insert("grpc-timeout", timeout.parse()?);
        refused(world.connection.unary(SEND, request).await, code, expected, timeout)?;
    }
    assert_eq!(seen(&bob).await?, before);
    assert!(world.ada.send(To::User(bob.user_id().into()), text(TEXT)).await.is_ok());
    world.close(&[&bob]).await
}
