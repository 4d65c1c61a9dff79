//! Where everybody stands when a run begins. The checker judges what comes after it, so that a population can be used for many runs.

use std::{collections::HashMap, sync::Arc, time::Duration};

use anyhow::{Context, bail};
use futures::{StreamExt, TryStreamExt, stream};
use plaza_client::chat;
use plaza_types::limits::PAGE_MAX;
use tokio::time::Instant;

use crate::{
    api::{Api, Identity, again},
    population::Plan,
};

const AT_ONCE: usize = 64;
/// Until what was prepared has come to rest.
const SETTLE: Duration = Duration::from_secs(60);

/// What nobody answered for is done, or never will be, when no inbox has grown for so long.
const QUIET: Duration = Duration::from_secs(2);

/// Where one person stands.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Base {
    /// The newest cursor.
    pub cursor: u64,
    /// Their conversations.
    pub conversations: HashMap<String, Stand>,
}

/// A conversation as its list shows it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stand {
    /// The newest sequence.
    pub head: u64,
    /// The read position.
    pub read: u64,
    /// What is unread.
    pub unread: u64,
}

/// Everybody's stand, when all members of each group see the same of it.
///
/// # Errors
/// A refusal, or no rest within a minute.
pub async fn bases(api: &Api, people: &[Arc<Identity>], plan: &Plan, groups: &[String]) -> anyhow::Result<Vec<Base>> {
    let until = Instant::now() + SETTLE;
    // A group is listed a moment before everybody in it is told of who came last.
    let identities: Vec<_> = people.iter().map(|person| &**person).collect();
    at_rest(api, &identities, SETTLE).await.context("before the run")?;
    loop {
        let bases: Vec<Base> = stream::iter(people).map(|person| base(api, person)).buffered(AT_ONCE).try_collect().await?;
        let differs = plan.groups.iter().zip(groups).find(|(group, id)| {
            let mut heads = group.everybody().map(|member| bases[member as usize].conversations.get(*id).map(|stand| stand.head));
            let first = heads.next().flatten();
            first.is_none() || !heads.all(|head| head == first)
        });
        match differs {
            None => return Ok(bases),
            Some((_, id)) if Instant::now() > until => bail!("the members of group {id} do not see the same of it after {SETTLE:?}"),
            Some(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Waits until nobody's inbox grows any more.
///
/// # Errors
/// A refusal, or one still grows after so long.
pub async fn at_rest(api: &Api, people: &[&Identity], within: Duration) -> anyhow::Result<()> {
    let until = Instant::now() + within;
    let mut before: Vec<u64> = Vec::new();
    loop {
        let heads = stream::iter(people).map(|person| async {
            person.refresh(api).await?;
            head(api, person).await
        });
        let heads: Vec<u64> = heads.buffered(AT_ONCE).try_collect().await?;
        if heads == before {
            return Ok(());
        }
        if Instant::now() > until {
            bail!("inboxes still grow after {within:?}");
        }
        before = heads;
        tokio::time::sleep(QUIET).await;
    }
}

async fn base(api: &Api, person: &Identity) -> anyhow::Result<Base> {
    Ok(Base { cursor: head(api, person).await?, conversations: conversations(api, person).await? })
}

/// The newest cursor of a person's inbox.
///
/// # Errors
/// A refusal.
pub async fn head(api: &Api, person: &Identity) -> anyhow::Result<u64> {
    let asked = chat::SyncRequest { cursor: 0, page_size: 1 };
    Ok(again(|| async { api.chat().sync(person.request(asked)).await }).await.context("the head of an inbox")?.head)
}

/// A person's conversations, all pages.
///
/// # Errors
/// A refusal.
pub async fn conversations(api: &Api, person: &Identity) -> anyhow::Result<HashMap<String, Stand>> {
    let mut conversations = HashMap::new();
    let mut page_token = String::new();
    loop {
        let page = again(|| {
            let asked = chat::ListConversationsRequest { page_size: PAGE_MAX, page_token: page_token.clone() };
            async { api.chat().list_conversations(person.request(asked)).await }
        });
        let page = page.await.context("listing conversations")?;
        let stand = |shown: chat::Conversation| (shown.conversation_id, Stand { head: shown.head, read: shown.read, unread: shown.unread });
        conversations.extend(page.conversations.into_iter().map(stand));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(conversations);
        }
    }
}
