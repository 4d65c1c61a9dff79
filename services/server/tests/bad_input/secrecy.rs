//! Nobody learns whether somebody hidden, or something of others, exists: it is answered exactly as what is missing.

use plaza_client::{Account, Device, accounts, chat, graph, new_id, text};
use plaza_testkit::people::{PASSWORD, befriend};
use plaza_types::{ConversationId, UserId};
use prost::Message;
use tonic::Code;

use super::{TEXT, World, call, mask, reason, seen};

const ACCOUNTS: &str = "/plaza.accounts.v1.AccountsService/";
const GRAPH: &str = "/plaza.graph.v1.GraphService/";
const CHAT: &str = "/plaza.chat.v1.ChatService/";

/// An answer with all that a client can see of it.
async fn answer(world: &World, path: &str, message: &impl Message) -> (Code, String, Vec<u8>) {
    match world.call(path, message).await {
        Ok(body) => (Code::Ok, String::new(), body.to_vec()),
        Err(status) => (status.code(), status.message().to_owned(), status.details().to_vec()),
    }
}

#[tokio::test]
async fn hidden_persons_and_unknown_ones_are_answered_alike() -> anyhow::Result<()> {
    let world = World::new().await?;
    let hidden = world.newcomer("hidden").await?;
    let hide = accounts::UpdateSettingsRequest {
        settings: Some(accounts::Settings { findable_by_handle: false, ..Default::default() }),
        update_mask: mask("findable_by_handle"),
    };
    hidden.services().await?.accounts.update_settings(hide).await?;
    let before = (seen(&world.ada).await?, seen(&hidden).await?);

    let unknown = UserId::new(1_700_000_000_000_000, rand::random()).to_string();
    let (id, other_id) = (new_id(), new_id());
    let mut pairs = Vec::new();
    for (user, handle, id) in [(hidden.user_id(), hidden.user().handle.as_str(), &id), (unknown.as_str(), "nobody_here", &other_id)] {
        let user_id = user.to_owned();
        let request_id = id.clone();
        let send = chat::SendMessageRequest {
            user_id: user_id.clone(),
            client_message_id: request_id.clone(),
            content: Some(text(TEXT)),
            ..Default::default()
        };
        let conversation = ConversationId::direct(world.ada.user_id().parse()?, user.parse()?).to_string();
        let get = chat::GetConversationRequest { conversation_id: conversation.clone() };
        let list = chat::ListMessagesRequest { conversation_id: conversation.clone(), ..Default::default() };
        let mark = chat::MarkReadRequest { conversation_id: conversation.clone(), sequence: 1, request_id: request_id.clone() };
        let update = chat::UpdateConversationRequest {
            conversation_id: conversation.clone(),
            muted: true,
            update_mask: mask("muted"),
            ..Default::default()
        };
        let to_conversation =
            chat::SendMessageRequest { conversation_id: conversation, user_id: String::new(), client_message_id: new_id(), ..send.clone() };
        let ask = graph::SendFriendRequestRequest { user_id: user_id.clone(), request_id: request_id.clone(), ..Default::default() };
        let contact =
            graph::UpdateContactRequest { user_id: user_id.clone(), starred: true, update_mask: mask("starred"), ..Default::default() };
        let accept = graph::AcceptFriendRequestRequest { user_id: user_id.clone(), request_id: new_id() };
        let ignore = graph::IgnoreFriendRequestRequest { user_id: user_id.clone(), ..Default::default() };
        let remove = graph::RemoveContactRequest { user_id: user_id.clone(), ..Default::default() };
        let block = graph::BlockRequest { user_id: user_id.clone(), ..Default::default() };
        let unblock = graph::UnblockRequest { user_id: user_id.clone(), ..Default::default() };
        let path = |service: &str, method: &str| format!("{service}{method}");
        pairs.push(vec![
            answer(&world, &path(ACCOUNTS, "FindByHandle"), &accounts::FindByHandleRequest { handle: handle.into() }).await,
            answer(&world, &path(ACCOUNTS, "GetUsers"), &accounts::GetUsersRequest { user_ids: vec![user_id.clone()] }).await,
            answer(&world, &path(GRAPH, "SendFriendRequest"), &ask).await,
            answer(&world, &path(GRAPH, "GetContact"), &graph::GetContactRequest { user_id: user_id.clone() }).await,
            answer(&world, &path(GRAPH, "UpdateContact"), &contact).await,
            answer(&world, &path(GRAPH, "AcceptFriendRequest"), &accept).await,
            answer(&world, &path(GRAPH, "IgnoreFriendRequest"), &ignore).await,
            answer(&world, &path(GRAPH, "RemoveContact"), &remove).await,
            answer(&world, &path(GRAPH, "Block"), &block).await,
            answer(&world, &path(GRAPH, "Unblock"), &unblock).await,
            answer(&world, &path(CHAT, "SendMessage"), &send).await,
            answer(&world, &path(CHAT, "SendMessage"), &to_conversation).await,
            answer(&world, &path(CHAT, "GetConversation"), &get).await,
            answer(&world, &path(CHAT, "ListMessages"), &list).await,
            answer(&world, &path(CHAT, "MarkRead"), &mark).await,
            answer(&world, &path(CHAT, "UpdateConversation"), &update).await,
        ]);
    }
    assert_eq!(pairs[0], pairs[1]);
    assert_eq!((seen(&world.ada).await?, seen(&hidden).await?), before);
    world.close(&[&hidden]).await
}

#[tokio::test]
async fn things_of_others_and_missing_ones_are_answered_alike() -> anyhow::Result<()> {
    let world = World::new().await?;
    let (one, other) = (world.newcomer("one").await?, world.newcomer("other").await?);
    let conversation = befriend(&one, &other).await?;
    one.send(plaza_client::To::Conversation(conversation.clone()), text(TEXT)).await?;
    let before = (seen(&one).await?, seen(&other).await?);
    let missing = ConversationId::direct(UserId::new(1, rand::random()), UserId::new(1, rand::random())).to_string();
    let mut answers = Vec::new();
    for (conversation_id, device_id) in [(conversation, one.device_id().to_owned()), (missing, new_id())] {
        let send = chat::SendMessageRequest {
            conversation_id: conversation_id.clone(),
            client_message_id: new_id(),
            content: Some(text(TEXT)),
            ..Default::default()
        };
        let get = chat::GetConversationRequest { conversation_id: conversation_id.clone() };
        let list = chat::ListMessagesRequest { conversation_id: conversation_id.clone(), ..Default::default() };
        let mark = chat::MarkReadRequest { conversation_id: conversation_id.clone(), sequence: 1, ..Default::default() };
        let update = chat::UpdateConversationRequest { conversation_id, pinned: true, update_mask: mask("pinned"), ..Default::default() };
        let revoke = accounts::RevokeDeviceRequest { device_id: device_id.clone() };
        answers.push(vec![
            answer(&world, &format!("{CHAT}SendMessage"), &send).await,
            answer(&world, &format!("{CHAT}GetConversation"), &get).await,
            answer(&world, &format!("{CHAT}ListMessages"), &list).await,
            answer(&world, &format!("{CHAT}MarkRead"), &mark).await,
            answer(&world, &format!("{CHAT}UpdateConversation"), &update).await,
            answer(&world, &format!("{ACCOUNTS}RevokeDevice"), &revoke).await,
        ]);
    }
    assert!(answers[0].iter().all(|(code, ..)| *code == Code::NotFound), "{answers:?}");
    assert_eq!(answers[0], answers[1]);
    assert_eq!((seen(&one).await?, seen(&other).await?), before);
    world.close(&[&one, &other]).await
}

#[tokio::test]
async fn who_is_blocked_is_answered_as_a_stranger() -> anyhow::Result<()> {
    let world = World::new().await?;
    let (friend, stranger) = (world.newcomer("friend").await?, world.newcomer("stranger").await?);
    befriend(&world.ada, &friend).await?;
    friend.services().await?.graph.block(graph::BlockRequest { user_id: world.ada.user_id().into(), ..Default::default() }).await?;
    let send = |to: &Account| chat::SendMessageRequest {
        user_id: to.user_id().into(),
        client_message_id: new_id(),
        content: Some(text(TEXT)),
        ..Default::default()
    };
    let (blocked, unknown) = (
        answer(&world, &format!("{CHAT}SendMessage"), &send(&friend)).await,
        answer(&world, &format!("{CHAT}SendMessage"), &send(&stranger)).await,
    );
    assert_eq!(blocked.0, Code::FailedPrecondition);
    assert_eq!(blocked, unknown);
    // The one who blocks sees nothing of it, and the one who is blocked nothing of the block.
    assert!(seen(&friend).await?.iter().all(|part| !String::from_utf8_lossy(part).contains(TEXT)));
    let mut graph = world.ada.services().await?.graph;
    assert!(graph.get_contact(graph::GetContactRequest { user_id: friend.user_id().into() }).await.is_ok());
    world.close(&[&friend, &stranger]).await
}

#[tokio::test]
async fn an_unknown_handle_and_a_wrong_password_are_answered_alike() -> anyhow::Result<()> {
    let world = World::new().await?;
    let login = |handle: &str, password: &str| accounts::LoginRequest {
        handle: handle.into(),
        password: password.into(),
        device: Some(accounts::Device { device_id: None, name: "d".into(), platform: "p".into() }),
    };
    let path = format!("{ACCOUNTS}Login");
    let mut answers = Vec::new();
    for request in [login(&world.ada.user().handle, "not the password"), login("nobody_here", PASSWORD)] {
        let status = call(&world.connection, &path, &request, None).await.expect_err("refused");
        assert_eq!((status.code(), reason(&status).as_str()), (Code::Unauthenticated, "BAD_CREDENTIALS"));
        answers.push((status.message().to_owned(), status.details().to_vec()));
    }
    assert_eq!(answers[0], answers[1]);
    // A device of somebody else is none of one's own.
    let bob = world.newcomer("bob").await?;
    let stolen = Device { device_id: Some(world.ada.device_id().into()), ..Device::new("stolen", "test") };
    let answer = Account::login(&world.endpoint, &bob.user().handle, PASSWORD, &stolen).await;
    let unknown = Device { device_id: Some(new_id()), ..stolen };
    let missing = Account::login(&world.endpoint, &bob.user().handle, PASSWORD, &unknown).await;
    let texts = [answer, missing].map(|answer| answer.err().map(|error| error.to_string()));
    assert!(texts[0].as_ref().is_some_and(|text| text.starts_with("NotFound NOT_FOUND")), "{texts:?}");
    assert_eq!(texts[0], texts[1]);
    world.close(&[&bob]).await
}
