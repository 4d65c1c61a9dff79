//! Talking: the last messages, then the live stream on one side and the keyboard on the other.

use std::io::BufRead;

use plaza_client::{Account, Error, LiveEvent, To, chat, chat::content::Kind, chat::entry::Event, text};
use tokio::sync::mpsc;

use crate::people;

pub(crate) async fn send(account: &Account, handle: &str, words: &str) -> anyhow::Result<()> {
    let peer = people::find(account, handle).await?;
    let sent = account.send(To::User(peer), text(words)).await?;
    println!("sent as message {}", sent.sequence);
    Ok(())
}

pub(crate) async fn talk(account: &Account, handle: &str) -> anyhow::Result<()> {
    let peer = people::find(account, handle).await?;
    let (cursor, conversation) = opening(account, &peer, handle).await?;
    let mut live = account.live(cursor);
    let sender = live.sender();
    let (lines, mut typed) = mpsc::channel(16);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if lines.blocking_send(line).is_err() {
                return;
            }
        }
    });
    println!("talking with {handle}; a line is a message, Ctrl-D ends");
    loop {
        tokio::select! {
            line = typed.recv() => match line {
                None => return Ok(()),
                Some(line) if line.trim().is_empty() => {}
                Some(line) => match sender.send(To::User(peer.clone()), text(line)).await {
                    Ok(_) => {}
                    Err(Error::Refused { reason, message, .. }) => println!("not sent: {message} ({reason})"),
                    Err(error) => return Err(error.into()),
                },
            },
            event = live.next() => match event {
                None => return Ok(()),
                Some(Ok(LiveEvent::Welcome { .. })) => {}
                Some(Ok(LiveEvent::Entry(entry))) => {
                    if let Some(Event::Message(message)) = entry.event && message.conversation_id == conversation {
                        show(account, handle, &message);
                        sender.mark_read(&message.conversation_id, message.sequence).await?;
                    }
                }
                Some(Err(error)) => return Err(error.into()),
            },
        }
    }
}

/// Shows the last messages; answers where the live stream begins and which conversation it is.
async fn opening(account: &Account, peer: &str, handle: &str) -> anyhow::Result<(u64, String)> {
    let head = account
        .call(|mut services| async move { services.chat.sync(chat::SyncRequest { cursor: u64::MAX, page_size: 1 }).await })
        .await?
        .head;
    let (me, other) = (account.user_id().parse()?, peer.parse()?);
    let conversation = plaza_types::ConversationId::direct(me, other).to_string();
    let request = chat::ListMessagesRequest { conversation_id: conversation.clone(), before: None, after: None, page_size: 20 };
    let page = account
        .call(|mut services| {
            let request = request.clone();
            async move { services.chat.list_messages(request).await }
        })
        .await;
    match page {
        Ok(page) => page.messages.iter().for_each(|message| show(account, handle, message)),
        Err(error) if error.reason() == "NOT_FOUND" => {}
        Err(error) => return Err(error.into()),
    }
    Ok((head, conversation))
}

fn show(account: &Account, handle: &str, message: &chat::Message) {
    let who = if message.sender_id == account.user_id() { "me" } else { handle };
    let words = match message.content.as_ref().and_then(|content| content.kind.as_ref()) {
        Some(Kind::Text(text)) => text.text.clone(),
        Some(Kind::Location(place)) => format!("[place] {}", place.name),
        Some(Kind::ContactCard(card)) => format!("[card] {}", card.display_name),
        Some(Kind::Link(link)) => format!("[link] {} {}", link.title, link.url),
        None => "[something this version cannot show]".into(),
    };
    println!("{who}: {words}");
}
