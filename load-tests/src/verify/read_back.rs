//! Reads back what one person has since the run began: the inbox, the touched conversations, their messages.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    time::Duration,
};

use anyhow::Context;
use plaza_checker::history::{Entry, Message, What};
use plaza_client::chat;
use plaza_types::limits::PAGE_MAX;
use tokio::time::Instant;

use crate::{
    api::again,
    run::{
        base::{Base, Stand, conversations},
        people::World,
    },
};

/// What one person has.
pub(super) struct Found {
    pub(super) inbox: Vec<Entry>,
    pub(super) conversations: BTreeMap<String, Stand>,
    pub(super) messages: BTreeMap<String, Vec<Message>>,
}

/// Reads it, waiting until then for acknowledged messages that are still on their way.
pub(super) async fn read_back(
    world: &World,
    person: usize,
    base: &Base,
    touched: &BTreeSet<String>,
    expected: Vec<String>,
    until: Instant,
) -> anyhow::Result<Found> {
    let identity = &world.people[person].identity;
    identity.refresh(&world.api).await?;
    let mut missing: HashSet<String> = expected.into_iter().collect();
    let (mut inbox, mut cursor) = (Vec::new(), base.cursor);
    loop {
        let asked = chat::SyncRequest { cursor, page_size: PAGE_MAX };
        let page = again(|| async { world.api.chat().sync(identity.request(asked)).await }).await.context("reading an inbox")?;
        for entry in page.entries.iter().map(Entry::from) {
            if let What::Message(message) = &entry.what {
                missing.remove(&message.id);
            }
            inbox.push(entry);
        }
        cursor = page.next_cursor;
        if page.more {
            continue;
        }
        // What never comes is for the checker to say.
        if missing.is_empty() || Instant::now() > until {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let listed = conversations(&world.api, identity).await?;
    let mut messages = BTreeMap::new();
    for conversation in touched.iter().filter(|conversation| listed.contains_key(*conversation)) {
        let head = base.conversations.get(conversation).copied().unwrap_or_default().head;
        messages.insert(conversation.clone(), self::messages(world, person, conversation, head).await?);
    }
    let conversations = listed.into_iter().filter(|(conversation, _)| touched.contains(conversation)).collect();
    Ok(Found { inbox, conversations, messages })
}

async fn messages(world: &World, person: usize, conversation: &str, mut after: u64) -> anyhow::Result<Vec<Message>> {
    let identity = &world.people[person].identity;
    let mut messages = Vec::new();
    loop {
        let page = again(|| {
            let asked = chat::ListMessagesRequest {
                conversation_id: conversation.to_owned(),
                before: None,
                after: Some(after),
                page_size: PAGE_MAX,
            };
            async { world.api.chat().list_messages(identity.request(asked)).await }
        });
        let page = page.await.context("listing messages")?;
        let Some(last) = page.messages.last() else { return Ok(messages) };
        after = last.sequence;
        messages.extend(page.messages.iter().map(Message::from));
    }
}
