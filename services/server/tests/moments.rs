//! What holds across services in Moments: who sees what as friendships, permissions, tags and settings change.

use std::sync::Arc;

use anyhow::ensure;
use plaza_client::{Account, Endpoint, accounts, graph, moments, new_id};
use plaza_testkit::{
    people::{SOON, befriend, newcomer},
    server::{Server, Shared},
    wait::wait_for,
};
use tonic::Code;

static SERVER: Shared = Shared::new();

/// A server, and three people: both others are friends of the first, and not of each other.
struct World {
    server: Arc<Server>,
    endpoint: Endpoint,
    ada: Account,
    bob: Account,
    cyd: Account,
}

impl World {
    async fn new() -> anyhow::Result<Self> {
        let server = SERVER.get(env!("CARGO_BIN_EXE_plaza"), &[]).await?;
        let endpoint = Endpoint::new(&server.address())?;
        let (ada, bob, cyd) = (newcomer(&endpoint, "ada").await?, newcomer(&endpoint, "bob").await?, newcomer(&endpoint, "cyd").await?);
        befriend(&ada, &bob).await?;
        befriend(&ada, &cyd).await?;
        Ok(Self { server, endpoint, ada, bob, cyd })
    }
}

async fn post(account: &Account, words: &str, audience: Option<moments::audience::Kind>) -> anyhow::Result<moments::Post> {
    let request = moments::CreatePostRequest {
        request_id: new_id(),
        content: Some(moments::PostContent { text: words.into(), ..Default::default() }),
        audience: audience.map(|kind| moments::Audience { kind: Some(kind) }),
        mentions: Vec::new(),
    };
    Ok(account.services().await?.moments.create_post(request).await?.into_inner().post.unwrap_or_default())
}

async fn timeline(account: &Account) -> anyhow::Result<Vec<moments::Post>> {
    let request = moments::ListTimelineRequest { page_size: 200, page_token: String::new() };
    Ok(account.services().await?.moments.list_timeline(request).await?.into_inner().posts)
}

async fn words(account: &Account) -> anyhow::Result<Vec<String>> {
    Ok(timeline(account).await?.into_iter().map(|post| post.content.unwrap_or_default().text).collect())
}

/// Waits until somebody's timeline says this.
async fn reads(account: &Account, expected: &[&str]) -> anyhow::Result<()> {
    wait_for("the timeline is as it should be", SOON, || async {
        let words = words(account).await.map_err(|error| error.to_string())?;
        if words == expected { Ok(()) } else { Err(format!("{words:?}")) }
    })
    .await
}

async fn get(account: &Account, post: &moments::Post) -> anyhow::Result<Option<moments::Post>> {
    match account.services().await?.moments.get_post(moments::GetPostRequest { post_id: post.post_id.clone() }).await {
        Ok(answer) => Ok(answer.into_inner().post),
        Err(status) if status.code() == Code::NotFound => Ok(None),
        Err(status) => Err(status.into()),
    }
}

async fn like(account: &Account, post: &moments::Post) -> anyhow::Result<moments::Post> {
    let request = moments::LikeRequest { post_id: post.post_id.clone(), request_id: String::new() };
    Ok(account.services().await?.moments.like(request).await?.into_inner().post.unwrap_or_default())
}

async fn comment(account: &Account, post: &moments::Post, words: &str, reply_to: Option<String>) -> anyhow::Result<moments::PostComment> {
    let request = moments::CommentRequest { post_id: post.post_id.clone(), text: words.into(), reply_to, request_id: new_id() };
    Ok(account.services().await?.moments.comment(request).await?.into_inner().comment.unwrap_or_default())
}

async fn permit(account: &Account, other: &Account, permissions: graph::Permissions) -> anyhow::Result<()> {
    let request = graph::UpdateContactRequest {
        user_id: other.user_id().into(),
        permissions: Some(permissions),
        update_mask: Some(prost_types::FieldMask { paths: vec!["permissions".into()] }),
        ..Default::default()
    };
    account.services().await?.graph.update_contact(request).await?;
    Ok(())
}

#[tokio::test]
async fn a_post_reaches_friends_and_its_likes_only_the_friends_of_who_likes() -> anyhow::Result<()> {
    let world = World::new().await?;
    let World { ada, bob, cyd, .. } = &world;
    let hello = post(ada, "hello", None).await?;
    ensure!(words(ada).await? == ["hello"], "the author does not read their own post at once");
    reads(bob, &["hello"]).await?;
    reads(cyd, &["hello"]).await?;
    let liked = like(bob, &hello).await?;
    ensure!(liked.liked_by_me && liked.like_count == 1 && liked.audience.is_none(), "{liked:?}");
    let first = comment(bob, &hello, "first", None).await?;
    comment(ada, &hello, "thanks", Some(first.comment_id.clone())).await?;
    let of = |post: moments::Post| (post.like_count, post.comment_count);
    ensure!(get(ada, &hello).await?.map(of) == Some((1, 2)), "the author sees what a friend did");
    ensure!(get(cyd, &hello).await?.map(of) == Some((0, 0)), "a stranger's like or comment, or an answer to it, shows");
    permit(ada, bob, graph::Permissions { hide_my_moments: true, ..Default::default() }).await?;
    ensure!(get(bob, &hello).await?.is_none() && words(bob).await?.is_empty(), "what is hidden shows");
    permit(ada, bob, graph::Permissions::default()).await?;
    ensure!(get(bob, &hello).await?.map(of) == Some((1, 2)), "what is no longer hidden does not show");
    world.server.assert_quiet_log(&[])
}
