//! Talking: the last messages, then the live stream on one side and the keyboard on the other. With a friend, or in a group.

use std::{collections::HashMap, io::BufRead};

use futures::future::OptionFuture;
use plaza_client::{Account, Error, LiveEvent, To, chat, chat::content::Kind, chat::entry::Event, text};
use tokio::sync::mpsc;

use crate::people;

/// Whom or what a handle or a group's id names, and its conversation.
async fn target(account: &Account, name: &str) -> anyhow::Result<(To, String)> {
    if name.starts_with("g-") {
        return Ok((To::Conversation(name.to_owned()), name.to_owned()));
    }
    let peer = people::find(account, name).await?;
    let conversation = plaza_types::ConversationId::direct(account.user_id().parse()?, peer.parse()?);
    Ok((To::User(peer), conversation.to_string()))
}

pub(crate) async fn send(account: &Account, name: &str, words: &str) -> anyhow::Result<()> {
    let (to, _) = target(account, name).await?;
    let sent = account.send(to, text(words)).await?;
    println!("sent as message {}", sent.sequence);
    Ok(())
}

pub(crate) async fn recall(account: &Account, name: &str, sequence: u64) -> anyhow::Result<()> {
    let (_, conversation) = target(account, name).await?;
    account.recall(&conversation, sequence).await?;
    println!("message {sequence} is gone");
    Ok(())
}

pub(crate) async fn talk(account: &Account, name: &str) -> anyhow::Result<()> {
    let (to, conversation) = target(account, name).await?;
    let mut shown = Shown { account, names: HashMap::from([(account.user_id().to_owned(), "me".to_owned())]) };
    if let To::User(peer) = &to {
        shown.names.insert(peer.clone(), name.to_owned());
    }
    let (cursor, listed) = opening(account, &conversation, &mut shown).await?;
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
    println!("talking with {name}; a line is a message, Ctrl-D ends");
    // One at a time, so that they come in order; what others say is shown meanwhile.
    let mut sending = None;
    loop {
        tokio::select! {
            line = typed.recv(), if sending.is_none() => match line {
                None => return Ok(()),
                Some(line) if line.trim().is_empty() => {}
                Some(line) => sending = Some(Box::pin(sender.send(to.clone(), text(line)))),
            },
            Some(answer) = OptionFuture::from(sending.as_mut()) => {
                sending = None;
                match answer {
                    Ok(_) => {}
                    Err(Error::Refused { reason, message, .. }) => println!("not sent: {message} ({reason})"),
                    Err(error) => return Err(error.into()),
                }
            }
            event = live.next() => match event {
                None => return Ok(()),
                Some(Ok(LiveEvent::Welcome { .. })) => {}
                Some(Ok(LiveEvent::Entry(entry))) => match entry.event {
                    Some(Event::Message(message)) if message.conversation_id == conversation => {
                        if message.sequence > listed {
                            shown.message(&message).await?;
                        }
                        sender.mark_read(&message.conversation_id, message.sequence).await?;
                    }
                    Some(Event::MessageRecalled(gone)) if gone.conversation_id == conversation => {
                        println!("* message {} was taken back", gone.sequence);
                    }
                    Some(Event::MembershipChanged(changed)) if changed.conversation_id == conversation => {
                        shown.notice(&changed.notice.unwrap_or_default()).await?;
                    }
                    _ => {}
                },
                Some(Err(error)) => return Err(error.into()),
            },
        }
    }
}

/// Shows the last messages; answers where the live stream begins, and up to which message all that it tells is shown already.
async fn opening(account: &Account, conversation: &str, shown: &mut Shown<'_>) -> anyhow::Result<(u64, u64)> {
    let head = account
        .call(|mut services| async move { services.chat.sync(chat::SyncRequest { cursor: u64::MAX, page_size: 1 }).await })
        .await?
        .head;
    let request = chat::ListMessagesRequest { conversation_id: conversation.to_owned(), before: None, after: None, page_size: 20 };
    let page = account
        .call(|mut services| {
            let request = request.clone();
            async move { services.chat.list_messages(request).await }
        })
        .await;
    let mut listed = 0;
    match page {
        Ok(page) => {
            for message in &page.messages {
                shown.message(message).await?;
                listed = listed.max(message.sequence);
            }
        }
        // Nothing was said between the two yet; a group that is not there is an error.
        Err(error) if error.reason() == "NOT_FOUND" && conversation.starts_with("d-") => {}
        Err(error) => return Err(error.into()),
    }
    Ok((head, listed))
}

/// Shows messages under the names of those who sent them.
struct Shown<'a> {
    account: &'a Account,
    names: HashMap<String, String>,
}

impl Shown<'_> {
    async fn name(&mut self, user: &str) -> anyhow::Result<String> {
        if let Some(name) = self.names.get(user) {
            return Ok(name.clone());
        }
        let name = people::names(self.account, &[user.to_owned()]).await?.pop().unwrap_or_default();
        self.names.insert(user.to_owned(), name.clone());
        Ok(name)
    }

    async fn message(&mut self, message: &chat::Message) -> anyhow::Result<()> {
        let words = match message.content.as_ref().and_then(|content| content.kind.as_ref()) {
            Some(Kind::SystemNotice(notice)) => return self.notice(notice).await,
            Some(Kind::Text(text)) => text.text.clone(),
            Some(Kind::Location(place)) => format!("[place] {}", place.name),
            Some(Kind::ContactCard(card)) => format!("[card] {}", card.display_name),
            Some(Kind::Link(link)) => format!("[link] {} {}", link.title, link.url),
            None if message.recalled => "[taken back]".into(),
            None => "[something this version cannot show]".into(),
        };
        println!("{}: {words}", self.name(&message.sender_id).await?);
        Ok(())
    }

    async fn notice(&mut self, notice: &chat::SystemNotice) -> anyhow::Result<()> {
        let what = notice.kind().as_str_name().trim_start_matches("NOTICE_KIND_").to_lowercase();
        let mut line = format!("* {what} by {}", self.name(&notice.actor_id).await?);
        for user in &notice.user_ids {
            line.push_str(&format!(" {}", self.name(user).await?));
        }
        println!("{line} {}", notice.text);
        Ok(())
    }
}
