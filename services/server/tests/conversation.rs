//! What holds across services in a direct conversation: who may write as friendship changes, what counts as unread, what the list shows, and
//! that nobody learns what only the other does.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use anyhow::ensure;
use plaza_client::{
    Account, Endpoint, To,
    chat::{self, content::Kind, entry::Event},
    graph, new_id, text,
};
use plaza_testkit::{
    people::{SOON, another_device, befriend, conversation_of, newcomer},
    raw::{self, Connection},
    server::{Server, Shared},
    wait::wait_for,
};
use prost::Message;
use tonic::{Code, Status};
use tonic_types::StatusExt;

static SERVER: Shared = Shared::new();

/// A server, and a pair of friends on it with their conversation.
struct World {
    server: Arc<Server>,
    endpoint: Endpoint,
    ada: Account,
    bob: Account,
    conversation: String,
}

impl World {
    async fn new() -> anyhow::Result<Self> {
        let server = SERVER.get(env!("CARGO_BIN_EXE_plaza"), &[]).await?;
        let endpoint = Endpoint::new(&server.address())?;
        let (ada, bob) = (newcomer(&endpoint, "ada").await?, newcomer(&endpoint, "bob").await?);
        let conversation = befriend(&ada, &bob).await?;
        Ok(Self { server, endpoint, ada, bob, conversation })
    }

    async fn view(&self, account: &Account) -> anyhow::Result<chat::Conversation> {
        let get = chat::GetConversationRequest { conversation_id: self.conversation.clone() };
        Ok(account.services().await?.chat.get_conversation(get).await?.into_inner().conversation.unwrap_or_default())
    }

    async fn mark(&self, account: &Account, sequence: u64) -> anyhow::Result<u64> {
        let mark = chat::MarkReadRequest { conversation_id: self.conversation.clone(), sequence, request_id: new_id() };
        Ok(account.services().await?.chat.mark_read(mark).await?.into_inner().read)
    }

    async fn say(&self, account: &Account, words: &str) -> anyhow::Result<u64> {
        Ok(account.send(To::Conversation(self.conversation.clone()), text(words)).await?.sequence)
    }

    fn update(&self, path: &str, change: chat::UpdateConversationRequest) -> chat::UpdateConversationRequest {
        let update_mask = Some(prost_types::FieldMask { paths: vec![path.to_owned()] });
        chat::UpdateConversationRequest { conversation_id: self.conversation.clone(), update_mask, ..change }
    }

    /// Waits until somebody's conversation is as expected.
    async fn shows(&self, account: &Account, what: &str, expected: impl Fn(&chat::Conversation) -> bool) -> anyhow::Result<()> {
        wait_for(what, SOON, || async {
            let view = self.view(account).await.map_err(|error| error.to_string())?;
            if expected(&view) { Ok(()) } else { Err(format!("{view:?}")) }
        })
        .await
    }

    /// Waits until somebody may write, or may not.
    async fn may_write(&self, from: &Account, to: &Account, may: bool) -> anyhow::Result<()> {
        wait_for("who may write is as it should be", SOON, || async {
            match from.send(To::User(to.user_id().into()), text("may I")).await {
                Ok(_) if may => Ok(()),
                Err(error) if !may && error.reason() == "NOT_A_CONTACT" => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await
    }
}

async fn inbox(account: &Account) -> anyhow::Result<Vec<chat::Entry>> {
    let sync = chat::SyncRequest { cursor: 0, page_size: 200 };
    Ok(account.services().await?.chat.sync(sync).await?.into_inner().entries)
}

/// Waits until the newest entry of somebody's inbox is this; answers the inbox.
async fn arrives(account: &Account, what: &str, expected: impl Fn(&Event) -> bool) -> anyhow::Result<Vec<chat::Entry>> {
    wait_for(what, SOON, || async {
        let inbox = inbox(account).await.map_err(|error| error.to_string())?;
        let last = inbox.last().and_then(|entry| entry.event.as_ref());
        if last.is_some_and(&expected) { Ok(inbox) } else { Err(format!("{last:?}")) }
    })
    .await
}

fn says(event: &Event, words: &str) -> bool {
    let content = |message: &chat::Message| message.content.clone().and_then(|content| content.kind);
    matches!(event, Event::Message(message) if matches!(content(message), Some(Kind::Text(text)) if text.text == words))
}

fn reason(status: &Status) -> String {
    status.get_details_error_info().map(|info| info.reason).unwrap_or_default()
}

async fn ask(from: &Account, to: &Account) -> anyhow::Result<graph::RequestState> {
    let ask = graph::SendFriendRequestRequest { user_id: to.user_id().into(), request_id: new_id(), ..Default::default() };
    Ok(from.services().await?.graph.send_friend_request(ask).await?.into_inner().request.unwrap_or_default().state())
}

async fn lists(one: &Account, other: &Account) -> anyhow::Result<bool> {
    match one.services().await?.graph.get_contact(graph::GetContactRequest { user_id: other.user_id().into() }).await {
        Ok(_) => Ok(true),
        Err(status) if status.code() == Code::NotFound => Ok(false),
        Err(status) => Err(status.into()),
    }
}

async fn become_friends(one: &Account, other: &Account) -> anyhow::Result<()> {
    wait_for("both list each other", SOON, || async {
        let both =
            (lists(one, other).await.map_err(|error| error.to_string())?, lists(other, one).await.map_err(|error| error.to_string())?);
        if both == (true, true) { Ok(()) } else { Err(format!("{both:?}")) }
    })
    .await
}

#[tokio::test]
async fn one_who_removes_a_friend_tells_nobody_and_can_add_them_again() -> anyhow::Result<()> {
    let world = World::new().await?;
    let World { ada, bob, .. } = &world;
    world.say(ada, "before").await?;
    let before = arrives(bob, "the message arrives", |event| says(event, "before")).await?;
    ada.services().await?.graph.remove_contact(graph::RemoveContactRequest { user_id: bob.user_id().into(), ..Default::default() }).await?;
    ensure!(!lists(ada, bob).await?, "the removed contact is still there");
    world.may_write(bob, ada, false).await?;
    world.may_write(ada, bob, false).await?;
    ensure!(lists(bob, ada).await?, "the other side's contact went too");
    let after = inbox(bob).await?;
    ensure!(after == before, "the other side was told: {:?}", &after[before.len()..]);
    ensure!(world.view(bob).await?.head == 1 && world.view(ada).await?.head == 1, "the conversation is not what it was");

    // Who is still listed by the other needs no answer.
    let state = ask(ada, bob).await?;
    ensure!(matches!(state, graph::RequestState::Pending | graph::RequestState::Accepted), "{state:?}");
    become_friends(ada, bob).await?;
    world.may_write(ada, bob, true).await?;
    world.may_write(bob, ada, true).await?;
    let numbers: Vec<_> =
        arrives(bob, "the next messages arrive", |event| matches!(event, Event::Message(message) if message.sequence == 3))
            .await?
            .iter()
            .filter_map(|entry| match &entry.event {
                Some(Event::Message(message)) => Some((message.conversation_id.clone(), message.sequence)),
                _ => None,
            })
            .collect();
    ensure!(numbers == (1..=3).map(|sequence| (world.conversation.clone(), sequence)).collect::<Vec<_>>(), "{numbers:?}");
    world.server.assert_quiet_log(&[])
}

#[tokio::test]
async fn one_who_is_blocked_is_told_nothing() -> anyhow::Result<()> {
    let world = World::new().await?;
    let World { ada, bob, .. } = &world;
    world.say(bob, "before").await?;
    let before = arrives(ada, "the message arrives", |event| says(event, "before")).await?;
    let mut graph = bob.services().await?.graph;
    graph.block(graph::BlockRequest { user_id: ada.user_id().into(), ..Default::default() }).await?;
    world.may_write(ada, bob, false).await?;
    world.may_write(bob, ada, false).await?;
    ensure!(lists(ada, bob).await?, "the blocked side's contact went");
    ensure!(inbox(ada).await? == before, "the blocked side was told");
    let quiet = inbox(bob).await?;

    // A request of somebody blocked looks sent, and arrives nowhere.
    ada.services().await?.graph.remove_contact(graph::RemoveContactRequest { user_id: bob.user_id().into(), ..Default::default() }).await?;
    ensure!(ask(ada, bob).await? == graph::RequestState::Pending, "the blocked side is told by the answer");
    let list = graph::ListFriendRequestsRequest { r#box: graph::RequestBox::Received.into(), ..Default::default() };
    let nothing = graph.list_friend_requests(list).await?.into_inner().requests;
    ensure!(nothing.iter().all(|request| request.state() != graph::RequestState::Pending), "{nothing:?}");

    graph.unblock(graph::UnblockRequest { user_id: ada.user_id().into(), ..Default::default() }).await?;
    let after = inbox(bob).await?;
    let told = after[quiet.len()..].iter().all(|entry| matches!(&entry.event, Some(Event::ContactChanged(_))));
    ensure!(told, "something of the blocked side arrived: {:?}", &after[quiet.len()..]);
    ensure!(ask(ada, bob).await? != graph::RequestState::Unspecified, "asked again");
    become_friends(ada, bob).await?;
    world.may_write(ada, bob, true).await?;
    world.may_write(bob, ada, true).await?;
    world.server.assert_quiet_log(&[])
}

#[tokio::test]
async fn two_who_both_ask_are_friends() -> anyhow::Result<()> {
    let world = World::new().await?;
    for at_once in [false, true, true, true] {
        let (one, other) = (newcomer(&world.endpoint, "one").await?, newcomer(&world.endpoint, "other").await?);
        if at_once {
            let (first, second) = tokio::join!(ask(&one, &other), ask(&other, &one));
            first?;
            second?;
        } else {
            ensure!(ask(&one, &other).await? == graph::RequestState::Pending, "accepted by nobody");
            let list = graph::ListFriendRequestsRequest { r#box: graph::RequestBox::Received.into(), ..Default::default() };
            wait_for("the request arrives", SOON, || async {
                let mut services = other.services().await.map_err(|error| error.to_string())?;
                let found = services.graph.list_friend_requests(list.clone()).await.map_err(|status| status.to_string())?;
                if found.get_ref().requests.len() == 1 { Ok(()) } else { Err("nothing".to_owned()) }
            })
            .await?;
            ensure!(ask(&other, &one).await? == graph::RequestState::Accepted, "both asked and are no friends");
        }
        become_friends(&one, &other).await?;
        world.may_write(&one, &other, true).await?;
        world.may_write(&other, &one, true).await?;
        let again = graph::SendFriendRequestRequest { user_id: other.user_id().into(), request_id: new_id(), ..Default::default() };
        let status = one.services().await?.graph.send_friend_request(again).await.expect_err("they are friends");
        ensure!((status.code(), reason(&status).as_str()) == (Code::AlreadyExists, "ALREADY_A_CONTACT"), "{status:?}");
        let get = chat::GetConversationRequest { conversation_id: conversation_of(&one, &other)? };
        ensure!(one.services().await?.chat.get_conversation(get).await?.into_inner().conversation.is_some_and(|c| c.head == 2));
    }
    world.server.assert_quiet_log(&[])
}

#[tokio::test]
async fn unread_counts_what_others_sent_after_what_was_read() -> anyhow::Result<()> {
    let world = World::new().await?;
    let World { ada, bob, .. } = &world;
    for number in 1..=10 {
        ensure!(world.say(bob, &format!("{number}")).await? == number, "not in order");
    }
    world.shows(ada, "ten are unread", |shown| (shown.head, shown.read, shown.unread) == (10, 0, 10)).await?;
    world.shows(bob, "one's own are not unread", |shown| shown.unread == 0).await?;
    for (asked, read, unread) in [(4, 4, 6), (2, 4, 6), (4, 4, 6), (0, 4, 6), (9, 9, 1)] {
        ensure!(world.mark(ada, asked).await? == read, "{asked} was asked for");
        world.shows(ada, "the rest is unread", |shown| (shown.read, shown.unread) == (read, unread)).await?;
    }
    // One's own messages among those of the other.
    for (from, expected) in [(ada, 11), (bob, 12), (ada, 13), (ada, 14), (bob, 15)] {
        ensure!(world.say(from, "more").await? == expected, "not in order");
    }
    world.shows(ada, "10, 12 and 15", |shown| (shown.read, shown.unread) == (9, 3)).await?;
    world.shows(bob, "11, 13 and 14", |shown| (shown.read, shown.unread) == (0, 3)).await?;
    for (asked, unread) in [(10, 2), (11, 2), (12, 1), (14, 1), (15, 0)] {
        ensure!(world.mark(ada, asked).await? == asked, "{asked} was asked for");
        world.shows(ada, "the rest is unread", |shown| shown.unread == unread).await?;
    }
    ensure!(world.mark(bob, u64::MAX).await? == 15, "beyond the newest is the newest");
    world.shows(bob, "all is read", |shown| (shown.read, shown.unread) == (15, 0)).await?;
    world.say(ada, "the last").await?;
    world.shows(bob, "what comes later is unread", |shown| (shown.read, shown.unread) == (15, 1)).await?;
    world.server.assert_quiet_log(&[])
}

#[tokio::test]
async fn what_one_reads_or_sets_follows_to_the_own_devices_and_nobody_else() -> anyhow::Result<()> {
    let world = World::new().await?;
    let World { ada, bob, endpoint, .. } = &world;
    let second = another_device(endpoint, ada).await?;
    world.say(bob, "hello").await?;
    arrives(ada, "the message arrives", |event| says(event, "hello")).await?;
    let (others_inbox, others_view) = (inbox(bob).await?, world.view(bob).await?);

    let mut chat = ada.services().await?.chat;
    for (path, change) in [
        ("pinned", chat::UpdateConversationRequest { pinned: true, ..Default::default() }),
        ("muted", chat::UpdateConversationRequest { muted: true, ..Default::default() }),
        ("draft", chat::UpdateConversationRequest { draft: "dear bob".into(), ..Default::default() }),
        ("hidden", chat::UpdateConversationRequest { hidden: true, ..Default::default() }),
    ] {
        let answer = chat.update_conversation(world.update(path, change)).await?.into_inner().conversation.unwrap_or_default();
        ensure!(answer == world.view(&second).await?, "the devices see different things after {path}");
    }
    let shown = world.view(&second).await?;
    ensure!((shown.pinned, shown.muted, shown.hidden, shown.draft.as_str()) == (true, true, true, "dear bob"), "{shown:?}");
    world.mark(&second, 1).await?;
    let told = arrives(&second, "the own devices are told", |event| matches!(event, Event::ReadChanged(read) if read.read == 1)).await?;
    let settings = told.iter().filter(|entry| matches!(entry.event, Some(Event::ConversationChanged(_)))).count();
    ensure!(settings == 4, "{settings} changes of settings in {told:?}");
    world.shows(ada, "the first device sees it read", |shown| shown.read == 1 && shown.unread == 0).await?;

    // The next message shows it again, and leaves the rest as it is.
    world.say(bob, "are you there").await?;
    world.shows(ada, "shown again", |shown| !shown.hidden && shown.pinned && shown.muted && shown.draft == "dear bob").await?;
    let now = arrives(bob, "the second message arrives", |event| says(event, "are you there")).await?;
    ensure!(now[..now.len() - 1] == others_inbox[..], "the other side was told: {:?}", &now[others_inbox.len()..]);
    let view = world.view(bob).await?;
    let alike = chat::Conversation { head: others_view.head, last_message: others_view.last_message.clone(), ..view };
    ensure!(alike == others_view, "the other side's view changed: {alike:?}, was {others_view:?}");
    world.server.assert_quiet_log(&[])
}

#[tokio::test]
async fn the_list_shows_pinned_ones_first_and_then_the_most_recent() -> anyhow::Result<()> {
    let world = World::new().await?;
    let ada = &world.ada;
    let mut friends = vec![world.bob.clone()];
    for number in 0..4 {
        let friend = newcomer(&world.endpoint, &format!("friend{number}")).await?;
        befriend(&friend, ada).await?;
        friends.push(friend);
    }
    // Most recent at the end of `order`.
    let order = [3, 0, 4, 1, 2];
    for friend in order {
        friends[friend].send(To::User(ada.user_id().into()), text(format!("from {friend}"))).await?;
    }
    let ids: Vec<_> = friends.iter().map(|friend| conversation_of(ada, friend)).collect::<Result<_, _>>()?;
    let pin = chat::UpdateConversationRequest { conversation_id: ids[0].clone(), pinned: true, ..Default::default() };
    let update_mask = Some(prost_types::FieldMask { paths: vec!["pinned".to_owned()] });
    ada.services().await?.chat.update_conversation(chat::UpdateConversationRequest { update_mask, ..pin }).await?;
    let expected: Vec<_> = [0, 2, 1, 4, 3].map(|friend| ids[friend].clone()).into();
    let page = async |page_size, page_token: &str| {
        let list = chat::ListConversationsRequest { page_size, page_token: page_token.to_owned() };
        anyhow::Ok(ada.services().await?.chat.list_conversations(list).await?.into_inner())
    };
    let listed = async |page_size| {
        let (mut listed, mut token) = (Vec::new(), String::new());
        loop {
            let page = page(page_size, &token).await?;
            listed.extend(page.conversations);
            token = page.next_page_token;
            if token.is_empty() {
                return anyhow::Ok(listed);
            }
        }
    };
    wait_for("every message shows in the list", SOON, || async {
        let shown = listed(200).await.map_err(|error| error.to_string())?;
        let shown: Vec<_> = shown.into_iter().map(|shown| (shown.conversation_id, shown.unread)).collect();
        let wanted: Vec<_> = expected.iter().map(|id| (id.clone(), 1)).collect();
        if shown == wanted { Ok(()) } else { Err(format!("{shown:?}, not {wanted:?}")) }
    })
    .await?;
    for page_size in [1, 2, 3, 5] {
        let shown: Vec<_> = listed(page_size).await?.into_iter().map(|shown| shown.conversation_id).collect();
        ensure!(shown == expected, "in pages of {page_size}: {shown:?}, not {expected:?}");
    }

    // What comes while somebody pages neither repeats nor leaves out a conversation.
    let first = page(2, "").await?;
    for friend in [3, 1] {
        friends[friend].send(To::User(ada.user_id().into()), text("meanwhile")).await?;
    }
    arrives(ada, "the messages arrive", |event| says(event, "meanwhile")).await?;
    let (mut shown, mut token) = (first.conversations, first.next_page_token);
    while !token.is_empty() {
        let next = page(2, &token).await?;
        shown.extend(next.conversations);
        token = next.next_page_token;
    }
    let shown: Vec<_> = shown.into_iter().map(|shown| shown.conversation_id).collect();
    ensure!(shown.len() == 5 && shown.iter().collect::<BTreeSet<_>>().len() == 5, "{shown:?}");
    world.server.assert_quiet_log(&[])
}

#[tokio::test]
async fn a_message_may_be_a_place_a_card_or_a_link_may_quote_and_may_call_somebody() -> anyhow::Result<()> {
    let world = World::new().await?;
    let World { ada, bob, .. } = &world;
    let kinds = [
        Kind::Location(chat::Location { latitude: 31.2, longitude: 121.5, name: "the Bund".into(), ..Default::default() }),
        Kind::ContactCard(chat::ContactCard { user_id: bob.user_id().into(), display_name: "Bob".into() }),
        Kind::Link(chat::Link { url: "https://example.org/".into(), title: "an example".into(), ..Default::default() }),
    ];
    let mut chat = ada.services().await?.chat;
    for (number, kind) in (1..).zip(&kinds) {
        let send = chat::SendMessageRequest {
            conversation_id: world.conversation.clone(),
            client_message_id: new_id(),
            content: Some(chat::Content { kind: Some(kind.clone()) }),
            quote: (number > 1).then_some(chat::Quote { sequence: number - 1 }),
            mentions: if number == 3 { vec![bob.user_id().into()] } else { Vec::new() },
            ..Default::default()
        };
        ensure!(chat.send_message(send).await?.into_inner().sequence == number, "not in order");
    }
    world.shows(bob, "bob is called", |shown| shown.mentioned && shown.unread == 3).await?;
    let list = chat::ListMessagesRequest { conversation_id: world.conversation.clone(), ..Default::default() };
    let messages = bob.services().await?.chat.list_messages(list).await?.into_inner().messages;
    let seen: Vec<_> = messages.iter().filter_map(|message| message.content.clone()?.kind).collect();
    ensure!(seen == kinds, "{seen:?}");
    ensure!(messages.iter().map(|message| message.quote.map_or(0, |quote| quote.sequence)).eq([0, 1, 2]), "{messages:?}");
    world.mark(bob, 3).await?;
    world.shows(bob, "nobody calls any more", |shown| !shown.mentioned).await?;
    world.shows(ada, "nobody called ada", |shown| !shown.mentioned).await?;
    let quote_of_nothing = chat::SendMessageRequest {
        conversation_id: world.conversation.clone(),
        client_message_id: new_id(),
        content: Some(text("?")),
        quote: Some(chat::Quote { sequence: 99 }),
        ..Default::default()
    };
    let status = chat.send_message(quote_of_nothing).await.expect_err("there is no such message");
    ensure!((status.code(), reason(&status).as_str()) == (Code::InvalidArgument, "INVALID_ARGUMENT"), "{status:?}");
    world.server.assert_quiet_log(&[])
}

#[tokio::test]
async fn a_send_that_ran_out_of_time_is_decided_once() -> anyhow::Result<()> {
    const MESSAGES: u64 = 40;
    let world = World::new().await?;
    let mut chat = world.ada.services().await?.chat;
    let (connection, token) = (Connection::open(&world.server.address()).await?, world.ada.access_token().await?);
    let mut late = 0;
    for number in 1..=MESSAGES {
        let send = chat::SendMessageRequest {
            conversation_id: world.conversation.clone(),
            client_message_id: new_id(),
            content: Some(text(format!("{number}"))),
            ..Default::default()
        };
        // From far too little time to enough of it.
        let mut hasty = raw::request(send.encode_to_vec().into(), Some(&token))?;
        hasty.set_timeout(Duration::from_micros(number * 100));
        let first = connection.unary("/plaza.chat.v1.ChatService/SendMessage", hasty).await;
        let again = chat.send_message(send).await?.into_inner();
        ensure!(again.sequence == number, "message {number} became {again:?}");
        match first {
            Ok(first) => ensure!(first == again.encode_to_vec(), "answered {first:?}, then {again:?}"),
            Err(status) => {
                let code = status.code();
                ensure!(matches!(code, Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled), "{status:?}");
                late += 1;
            }
        }
    }
    ensure!(late > 0, "every send had time enough: nothing was tested");
    let texts: Vec<_> = arrives(&world.bob, "the last one arrives", |event| says(event, "40"))
        .await?
        .into_iter()
        .filter_map(|entry| match entry.event {
            Some(Event::Message(message)) => Some(message.sequence),
            _ => None,
        })
        .collect();
    ensure!(texts == (1..=MESSAGES).collect::<Vec<_>>(), "{texts:?}");
    world.server.assert_quiet_log(&[])
}
