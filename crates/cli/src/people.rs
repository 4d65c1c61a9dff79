//! Finding people, asking, accepting, listing.

use anyhow::bail;
use plaza_client::{Account, accounts, chat, graph, new_id};

/// The user id behind a handle.
pub(crate) async fn find(account: &Account, handle: &str) -> anyhow::Result<String> {
    let request = accounts::FindByHandleRequest { handle: handle.to_owned() };
    let answer = account
        .call(|mut services| {
            let request = request.clone();
            async move { services.accounts.find_by_handle(request).await }
        })
        .await?;
    match answer.user {
        Some(user) => Ok(user.user_id),
        None => bail!("nobody has the handle {handle}"),
    }
}

/// The names of users, where they may be seen; ids where not.
pub(crate) async fn names(account: &Account, ids: &[String]) -> anyhow::Result<Vec<String>> {
    let mut names = ids.to_vec();
    for (chunk, names) in ids.chunks(100).zip(names.chunks_mut(100)) {
        let request = accounts::GetUsersRequest { user_ids: chunk.to_vec() };
        let answer = account
            .call(|mut services| {
                let request = request.clone();
                async move { services.accounts.get_users(request).await }
            })
            .await?;
        for user in answer.users {
            // The same id may come several times.
            for (_, name) in chunk.iter().zip(names.iter_mut()).filter(|(id, _)| **id == user.user_id) {
                *name = format!("{} ({})", user.display_name, user.handle);
            }
        }
    }
    Ok(names)
}

pub(crate) async fn add(account: &Account, handle: &str, note: &str) -> anyhow::Result<()> {
    let request = graph::SendFriendRequestRequest {
        user_id: find(account, handle).await?,
        note: note.to_owned(),
        source: Some("handle".into()),
        request_id: new_id(),
    };
    let answer = account
        .call(|mut services| {
            let request = request.clone();
            async move { services.graph.send_friend_request(request).await }
        })
        .await?;
    match answer.request.map(|request| request.state()) {
        Some(graph::RequestState::Accepted) => println!("you and {handle} are friends"),
        _ => println!("asked {handle}"),
    }
    Ok(())
}

pub(crate) async fn requests(account: &Account) -> anyhow::Result<()> {
    let mut page_token = String::new();
    loop {
        let request = graph::ListFriendRequestsRequest { r#box: graph::RequestBox::Received as i32, page_size: 0, page_token };
        let answer = account
            .call(|mut services| {
                let request = request.clone();
                async move { services.graph.list_friend_requests(request).await }
            })
            .await?;
        let ids: Vec<_> = answer.requests.iter().map(|request| request.user_id.clone()).collect();
        for (request, name) in answer.requests.iter().zip(names(account, &ids).await?) {
            println!("{name}: {} [{}]", request.note, request.state().as_str_name().trim_start_matches("REQUEST_STATE_").to_lowercase());
        }
        page_token = answer.next_page_token;
        if page_token.is_empty() {
            return Ok(());
        }
    }
}

pub(crate) async fn accept(account: &Account, handle: &str) -> anyhow::Result<()> {
    let request = graph::AcceptFriendRequestRequest { user_id: find(account, handle).await?, request_id: new_id() };
    account
        .call(|mut services| {
            let request = request.clone();
            async move { services.graph.accept_friend_request(request).await }
        })
        .await?;
    println!("you and {handle} are friends");
    Ok(())
}

pub(crate) async fn list(account: &Account) -> anyhow::Result<()> {
    println!("contacts");
    let mut page_token = String::new();
    loop {
        let request = graph::ListContactsRequest { page_size: 0, page_token };
        let answer = account
            .call(|mut services| {
                let request = request.clone();
                async move { services.graph.list_contacts(request).await }
            })
            .await?;
        let ids: Vec<_> = answer.contacts.iter().map(|contact| contact.user_id.clone()).collect();
        for name in names(account, &ids).await? {
            println!("  {name}");
        }
        page_token = answer.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    println!("conversations");
    let mut page_token = String::new();
    loop {
        let request = chat::ListConversationsRequest { page_size: 0, page_token };
        let answer = account
            .call(|mut services| {
                let request = request.clone();
                async move { services.chat.list_conversations(request).await }
            })
            .await?;
        let ids: Vec<_> =
            answer.conversations.iter().map(|conversation| conversation.peer_id.clone()).filter(|id| !id.is_empty()).collect();
        let mut peers = names(account, &ids).await?.into_iter();
        for conversation in &answer.conversations {
            let group = || format!("{} ({})", conversation.title, conversation.conversation_id);
            let name = if conversation.peer_id.is_empty() { group() } else { peers.next().unwrap_or_default() };
            println!("  {name}: {} messages, {} unread", conversation.head, conversation.unread);
        }
        page_token = answer.next_page_token;
        if page_token.is_empty() {
            return Ok(());
        }
    }
}
