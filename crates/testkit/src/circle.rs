//! Authors and their friends while the server is killed under them: the author posts, deletes, hides, blocks, removes and adds again, the
//! friend likes. Each circle keeps count of what was acknowledged. Right after every acknowledged change the friend must see nothing that it
//! forbids; once it is quiet, exactly what is allowed.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, ensure};
use plaza_client::{Account, Endpoint, Error, graph, moments, moments::audience::Kind as Audience, new_id};
use plaza_types::limits::POSTS_PER_DAY;
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::sync::watch;
use tonic::Code;

use crate::{
    people::{SOON, befriend, blocked, contacts, newcomer},
    wait::wait_for,
};

/// An author and a friend.
pub struct Circle {
    author: Account,
    friend: Account,
    posts: Vec<Made>,
    hidden: bool,
    blocked: bool,
    /// How often the friend may still be asked again: a day has its limit.
    asks: usize,
}

struct Made {
    id: String,
    for_friend: bool,
    deleted: bool,
    liked: bool,
}

/// A call that is asked again until it is answered.
macro_rules! answered {
    ($account:expr, $service:ident, $method:ident, $request:expr) => {{
        let request = $request;
        let call = $account.call(|mut services| {
            let request = request.clone();
            async move { services.$service.$method(request).await }
        });
        call.await
    }};
}

/// Lives one circle's life until told to stop, with a pause after each step; counts what is done. Every step reads all posts there are, so without
/// a pause it loads the server more and more.
///
/// # Errors
/// A refusal where none is due, or somebody who sees what is forbidden.
pub async fn run(
    address: String,
    seed: u64,
    pause: Duration,
    progress: watch::Sender<u64>,
    stop: Arc<AtomicBool>,
) -> anyhow::Result<Circle> {
    let mut rng = StdRng::seed_from_u64(seed);
    let endpoint = Endpoint::new(&address)?.with_longest_wait(Duration::from_millis(300));
    let (author, friend) = (newcomer(&endpoint, "author").await?, newcomer(&endpoint, "friend").await?);
    befriend(&author, &friend).await?;
    let mut circle = Circle { author, friend, posts: Vec::new(), hidden: false, blocked: false, asks: 40 };
    while !stop.load(Ordering::Relaxed) {
        circle.step(&mut rng).await?;
        circle.sees_nothing_forbidden().await?;
        progress.send_modify(|steps| *steps += 1);
        tokio::time::sleep(pause).await;
    }
    Ok(circle)
}

impl Circle {
    async fn step(&mut self, rng: &mut StdRng) -> anyhow::Result<()> {
        let friend_id = self.friend.user_id().to_owned();
        match rng.random_range(0..10) {
            0..4 if self.posts.len() < POSTS_PER_DAY => {
                let people = moments::People { user_ids: vec![friend_id], tags: Vec::new() };
                let (kind, for_friend) = match rng.random_range(0..4) {
                    0 => (Audience::Private(moments::OnlyMe {}), false),
                    1 => (Audience::Only(people), true),
                    2 => (Audience::Except(people), false),
                    _ => (Audience::All(moments::AllFriends {}), true),
                };
                let audience = Some(moments::Audience { kind: Some(kind) });
                let request = moments::CreatePostRequest { audience, ..plaza_client::post("words") };
                let made = answered!(self.author, moments, create_post, request)?.post.unwrap_or_default();
                self.posts.push(Made { id: made.post_id, for_friend, deleted: false, liked: false });
            }
            4 => {
                let living: Vec<usize> = (0..self.posts.len()).filter(|place| !self.posts[*place].deleted).collect();
                if let Some(place) = living.get(rng.random_range(0..living.len().max(1))) {
                    let post = &mut self.posts[*place];
                    let request = moments::DeletePostRequest { post_id: post.id.clone(), request_id: new_id() };
                    answered!(self.author, moments, delete_post, request)?;
                    post.deleted = true;
                }
            }
            5 | 6 => {
                self.hidden = !self.hidden;
                let permissions = graph::Permissions { hide_my_moments: self.hidden, ..Default::default() };
                let request = graph::UpdateContactRequest {
                    user_id: friend_id,
                    permissions: Some(permissions),
                    update_mask: Some(prost_types::FieldMask { paths: vec!["permissions".into()] }),
                    request_id: new_id(),
                    ..Default::default()
                };
                answered!(self.author, graph, update_contact, request)?;
            }
            7 => {
                self.blocked = !self.blocked;
                if self.blocked {
                    answered!(self.author, graph, block, graph::BlockRequest { user_id: friend_id, request_id: new_id() })?;
                } else {
                    answered!(self.author, graph, unblock, graph::UnblockRequest { user_id: friend_id, request_id: new_id() })?;
                }
            }
            8 if self.asks > 0 => self.remove_and_add_again().await?,
            _ => self.like(rng).await?,
        }
        Ok(())
    }

    async fn remove_and_add_again(&mut self) -> anyhow::Result<()> {
        let other = self.friend.user_id().to_owned();
        answered!(self.author, graph, remove_contact, graph::RemoveContactRequest { user_id: other.clone(), request_id: new_id() })?;
        self.asks -= 1;
        // What was allowed is forgotten with the contact, the block is not.
        self.hidden = false;
        ensure!(self.shown().await?.is_empty(), "somebody removed sees posts");
        if self.blocked {
            answered!(self.author, graph, unblock, graph::UnblockRequest { user_id: other.clone(), request_id: new_id() })?;
            self.blocked = false;
        }
        let request = graph::SendFriendRequestRequest { user_id: other.clone(), request_id: new_id(), ..Default::default() };
        answered!(self.author, graph, send_friend_request, request)?;
        wait_for("the friend is in the list again", SOON, || async {
            answered!(self.author, graph, get_contact, graph::GetContactRequest { user_id: other.clone() }).map(drop)
        })
        .await
    }

    async fn like(&mut self, rng: &mut StdRng) -> anyhow::Result<()> {
        let allowed: Vec<usize> = (0..self.posts.len()).filter(|place| self.allows(&self.posts[*place])).collect();
        let Some(place) = allowed.get(rng.random_range(0..allowed.len().max(1))).copied() else { return Ok(()) };
        let post_id = self.posts[place].id.clone();
        answered!(self.friend, moments, like, moments::LikeRequest { post_id: post_id.clone(), request_id: new_id() })?;
        self.posts[place].liked = true;
        let post = answered!(self.author, moments, get_post, moments::GetPostRequest { post_id })?.post.unwrap_or_default();
        ensure!(post.like_count == 1, "an acknowledged like does not show, or more than once: {post:?}");
        Ok(())
    }

    fn allows(&self, post: &Made) -> bool {
        post.for_friend && !post.deleted && !self.hidden && !self.blocked
    }

    /// Everything in the friend's timeline.
    async fn shown(&self) -> anyhow::Result<BTreeSet<String>> {
        let (mut shown, mut page_token) = (BTreeSet::new(), String::new());
        loop {
            let request = moments::ListTimelineRequest { page_size: 50, page_token };
            let page = answered!(self.friend, moments, list_timeline, request)?;
            for post in page.posts {
                ensure!(shown.insert(post.post_id.clone()), "a post came twice: {post:?}");
            }
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(shown);
            }
        }
    }

    async fn sees_nothing_forbidden(&self) -> anyhow::Result<()> {
        let shown = self.shown().await?;
        for post in self.posts.iter().filter(|post| !self.allows(post)) {
            ensure!(!shown.contains(&post.id), "the timeline shows what is forbidden");
        }
        if let Some(post) = self.posts.iter().rev().find(|post| !self.allows(post)) {
            match answered!(self.friend, moments, get_post, moments::GetPostRequest { post_id: post.id.clone() }) {
                Err(Error::Refused { code: Code::NotFound, .. }) => {}
                other => anyhow::bail!("what is forbidden was answered {other:?}"),
            }
        }
        Ok(())
    }

    /// Nothing acknowledged is missing, and nothing else is there. Answers the number of posts.
    ///
    /// # Errors
    /// What is missing or too much.
    pub async fn is_complete(&self) -> anyhow::Result<usize> {
        let allowed: BTreeSet<String> = self.posts.iter().filter(|post| self.allows(post)).map(|post| post.id.clone()).collect();
        wait_for("the timeline has every acknowledged post", SOON, || async {
            let shown = self.shown().await.map_err(|error| error.to_string())?;
            let missing = allowed.difference(&shown).count();
            if shown == allowed { Ok(()) } else { Err(format!("{missing} missing, {} there of {}", shown.len(), allowed.len())) }
        })
        .await?;
        for post in self.posts.iter().filter(|post| !post.deleted) {
            let request = moments::GetPostRequest { post_id: post.id.clone() };
            let now = answered!(self.author, moments, get_post, request)?.post.unwrap_or_default();
            ensure!(now.like_count == u32::from(post.liked && !self.blocked), "likes are not as acknowledged: {now:?}");
        }
        self.agree().await?;
        Ok(self.posts.len())
    }

    /// Both lists of contacts and of the blocked, and what the author hides, are as acknowledged.
    async fn agree(&self) -> anyhow::Result<()> {
        let (author, friend) = (self.author.user_id(), self.friend.user_id());
        // A change through the log: what of it is read again has been read then.
        for (account, other) in [(&self.author, friend), (&self.friend, author)] {
            let request = graph::UpdateContactRequest {
                user_id: other.to_owned(),
                starred: true,
                update_mask: Some(prost_types::FieldMask { paths: vec!["starred".into()] }),
                request_id: new_id(),
                ..Default::default()
            };
            answered!(account, graph, update_contact, request).context("the two are in each other's lists")?;
        }
        let only = |user: &str| BTreeSet::from([user.to_owned()]);
        let hidden = || async {
            let contact = answered!(self.author, graph, get_contact, graph::GetContactRequest { user_id: friend.to_owned() });
            contact.map(|answer| answer.contact.unwrap_or_default().permissions.unwrap_or_default().hide_my_moments)
        };
        let expected =
            ([only(friend), only(author)], [if self.blocked { only(friend) } else { BTreeSet::new() }, BTreeSet::new()], self.hidden);
        wait_for("contacts and blocks are as acknowledged", SOON, || async {
            let found = async {
                let contacts = [contacts(&self.author).await?, contacts(&self.friend).await?];
                let blocked = [blocked(&self.author).await?, blocked(&self.friend).await?];
                Ok::<_, Error>((contacts, blocked, hidden().await?))
            };
            let found = found.await.map_err(|error| error.to_string())?;
            if found == expected { Ok(()) } else { Err(format!("{found:?}, not {expected:?}")) }
        })
        .await
    }
}
