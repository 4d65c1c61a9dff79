//! People for tests: newcomers with handles that nobody else has, and how they become friends.

use std::{collections::BTreeSet, time::Duration};

use plaza_client::{Account, Device, Endpoint, Error, chat, chat::entry::Event, graph, new_id};

use crate::wait::wait_for;

/// The password of everybody here.
pub const PASSWORD: &str = "correct horse battery";

/// How long anything that follows from a call at once may take on a busy machine.
pub const SOON: Duration = Duration::from_secs(20);

/// Registers somebody; the name comes back with something random behind it.
///
/// # Errors
/// Any refusal.
pub async fn newcomer(endpoint: &Endpoint, name: &str) -> Result<Account, Error> {
    let handle = format!("{name}_{:08x}", rand::random::<u32>());
    Account::register(endpoint, &handle, PASSWORD, name, &Device::new("first", "test")).await
}

/// Signs in another device of somebody.
///
/// # Errors
/// Any refusal.
pub async fn another_device(endpoint: &Endpoint, account: &Account) -> Result<Account, Error> {
    Account::login(endpoint, &account.user().handle, PASSWORD, &Device::new("another", "test")).await
}

/// Makes two users friends who were none before; answers their conversation once both were told all of it.
///
/// # Errors
/// Any refusal.
pub async fn befriend(asker: &Account, accepter: &Account) -> anyhow::Result<String> {
    let ask =
        graph::SendFriendRequestRequest { user_id: accepter.user_id().into(), note: "hello".into(), source: None, request_id: new_id() };
    asker
        .call(|mut services| {
            let ask = ask.clone();
            async move { services.graph.send_friend_request(ask).await }
        })
        .await?;
    // The request travels through the log to the other side.
    wait_for("the request arrives and is accepted", SOON, || async {
        let accept = graph::AcceptFriendRequestRequest { user_id: asker.user_id().into(), request_id: new_id() };
        accepter
            .call(|mut services| {
                let accept = accept.clone();
                async move { services.graph.accept_friend_request(accept).await }
            })
            .await
            .map(drop)
    })
    .await?;
    let conversation = conversation_of(asker, accepter)?;
    for (one, other) in [(asker, accepter), (accepter, asker)] {
        wait_for("both were told", SOON, || was_told(one, other, &conversation)).await?;
    }
    Ok(conversation)
}

/// Of the request, the contact and the conversation.
async fn was_told(one: &Account, other: &Account, conversation: &str) -> Result<(), String> {
    let (mut cursor, mut told) = (0, [false; 3]);
    loop {
        let sync = chat::SyncRequest { cursor, page_size: 200 };
        let page = one.call(|mut services| async move { services.chat.sync(sync).await }).await.map_err(|error| error.to_string())?;
        for event in page.entries.iter().filter_map(|entry| entry.event.as_ref()) {
            match event {
                Event::FriendRequest(request) => told[0] |= request.user_id == other.user_id(),
                Event::ContactChanged(contact) => told[1] |= contact.user_id == other.user_id(),
                Event::MembershipChanged(members) => told[2] |= members.conversation_id == conversation,
                _ => {}
            }
        }
        cursor = page.next_cursor;
        if !page.more {
            return if told == [true; 3] { Ok(()) } else { Err(format!("request, contact, conversation: {told:?}")) };
        }
    }
}

/// The direct conversation of two users.
///
/// # Errors
/// Their ids are none.
pub fn conversation_of(one: &Account, other: &Account) -> anyhow::Result<String> {
    Ok(plaza_types::ConversationId::direct(one.user_id().parse()?, other.user_id().parse()?).to_string())
}

/// UUIDs of somebody's contacts.
///
/// # Errors
/// Any refusal.
pub async fn contacts(account: &Account) -> Result<BTreeSet<String>, Error> {
    let (mut found, mut page_token) = (BTreeSet::new(), String::new());
    loop {
        let request = graph::ListContactsRequest { page_size: 200, page_token };
        let page = account.call(|mut services| {
            let request = request.clone();
            async move { services.graph.list_contacts(request).await }
        });
        let page = page.await?;
        found.extend(page.contacts.into_iter().map(|contact| contact.user_id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(found);
        }
    }
}

/// UUIDs of those whom somebody blocks: the first 200.
///
/// # Errors
/// Any refusal.
pub async fn blocked(account: &Account) -> Result<BTreeSet<String>, Error> {
    let request = graph::ListBlockedRequest { page_size: 200, page_token: String::new() };
    let page = account.call(|mut services| {
        let request = request.clone();
        async move { services.graph.list_blocked(request).await }
    });
    Ok(page.await?.user_ids.into_iter().collect())
}
