//! What holds across services in Moments: who sees what as friendships, permissions, tags and settings change.

use std::sync::Arc;

use anyhow::ensure;
use plaza_client::{Account, Endpoint, accounts, chat, chat::entry::Event, graph, moments, moments::audience::Kind as Audience, new_id};
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

async fn post(account: &Account, words: &str, audience: Option<Audience>) -> anyhow::Result<moments::Post> {
    let audience = audience.map(|kind| moments::Audience { kind: Some(kind) });
    let request = moments::CreatePostRequest { audience, ..plaza_client::post(words) };
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

/// Changes what the contact is allowed or tagged with, as the mask says.
async fn update(account: &Account, other: &Account, path: &str, change: graph::UpdateContactRequest) -> anyhow::Result<()> {
    let update_mask = Some(prost_types::FieldMask { paths: vec![path.to_owned()] });
    let request = graph::UpdateContactRequest { user_id: other.user_id().into(), update_mask, ..change };
    account.services().await?.graph.update_contact(request).await?;
    Ok(())
}

async fn set_range(account: &Account, range: accounts::MomentsRange) -> anyhow::Result<()> {
    let request = accounts::UpdateSettingsRequest {
        settings: Some(accounts::Settings { moments_range: range.into(), ..Default::default() }),
        update_mask: Some(prost_types::FieldMask { paths: vec!["moments_range".into()] }),
    };
    account.services().await?.accounts.update_settings(request).await?;
    Ok(())
}

/// Whether a post shows, in every kind of read.
async fn shows(account: &Account, post: &moments::Post) -> anyhow::Result<bool> {
    let shown = get(account, post).await?.is_some();
    let listed = timeline(account).await?.iter().any(|other| other.post_id == post.post_id);
    ensure!(shown == listed, "the post alone and the timeline differ: {shown}, {listed}");
    Ok(shown)
}

#[tokio::test]
async fn every_change_takes_effect_on_the_very_next_read_and_its_undoing_restores() -> anyhow::Result<()> {
    let world = World::new().await?;
    let World { ada, bob, .. } = &world;
    let hello = post(ada, "hello", None).await?;
    reads(bob, &["hello"]).await?;
    let tagged =
        |tags: &[&str]| graph::UpdateContactRequest { tags: tags.iter().map(|tag| (*tag).to_owned()).collect(), ..Default::default() };
    update(ada, bob, "tags", tagged(&["work"])).await?;
    let work = moments::People { user_ids: Vec::new(), tags: vec!["work".into()] };
    let for_work = post(ada, "for work", Some(Audience::Only(work))).await?;
    reads(bob, &["for work", "hello"]).await?;
    // Again and again: what is kept in memory is warm each time.
    for round in 0..20 {
        let chat_only = graph::Permissions { chat_only: true, ..Default::default() };
        let hide_theirs = graph::Permissions { hide_their_moments: true, ..Default::default() };
        for (one, other, permissions) in [(ada, bob, chat_only), (bob, ada, hide_theirs)] {
            permit(one, other, permissions).await?;
            ensure!(!shows(bob, &hello).await?, "round {round}: {permissions:?} has no effect");
            permit(one, other, graph::Permissions::default()).await?;
            ensure!(shows(bob, &hello).await?, "round {round}: {permissions:?} is not undone");
        }
        for (one, other) in [(ada, bob), (bob, ada)] {
            one.services().await?.graph.block(graph::BlockRequest { user_id: other.user_id().into(), ..Default::default() }).await?;
            ensure!(!shows(bob, &hello).await?, "round {round}: a block has no effect");
            one.services().await?.graph.unblock(graph::UnblockRequest { user_id: other.user_id().into(), ..Default::default() }).await?;
            ensure!(shows(bob, &hello).await?, "round {round}: a block is not undone");
        }
        update(ada, bob, "tags", tagged(&["home"])).await?;
        ensure!(!shows(bob, &for_work).await? && shows(bob, &hello).await?, "round {round}: a tag has no effect");
        update(ada, bob, "tags", tagged(&["home", "work"])).await?;
        ensure!(shows(bob, &for_work).await?, "round {round}: a tag is not put on again");
    }
    // Nothing here is older than three days: the setting is read at once, and hides nothing.
    set_range(ada, accounts::MomentsRange::ThreeDays).await?;
    ensure!(shows(bob, &hello).await?, "what is recent is hidden");
    bob.services().await?.graph.remove_contact(graph::RemoveContactRequest { user_id: ada.user_id().into(), ..Default::default() }).await?;
    ensure!(!shows(bob, &hello).await?, "somebody removed shows");
    post(ada, "meanwhile", None).await?;
    let ask = graph::SendFriendRequestRequest { user_id: ada.user_id().into(), request_id: new_id(), ..Default::default() };
    bob.services().await?.graph.send_friend_request(ask).await?;
    // Ada never removed him, so her tag on him is still there.
    reads(bob, &["meanwhile", "for work", "hello"]).await?;
    world.server.assert_quiet_log(&[])
}

#[tokio::test]
async fn new_friends_get_each_others_earlier_posts() -> anyhow::Result<()> {
    let world = World::new().await?;
    let World { bob, cyd, endpoint, .. } = &world;
    let dan = newcomer(endpoint, "dan").await?;
    for (by, words) in [(bob, "b1"), (&dan, "d1"), (bob, "b2"), (&dan, "d2")] {
        post(by, words, None).await?;
    }
    befriend(bob, &dan).await?;
    reads(bob, &["d2", "b2", "d1", "b1"]).await?;
    reads(&dan, &["d2", "b2", "d1", "b1"]).await?;
    reads(cyd, &[]).await?;
    world.server.assert_quiet_log(&[])
}

#[tokio::test]
async fn devices_are_told_of_what_their_users_may_know() -> anyhow::Result<()> {
    let world = World::new().await?;
    let World { ada, bob, cyd, .. } = &world;
    let hello = post(ada, "hello", None).await?;
    reads(bob, &["hello"]).await?;
    like(bob, &hello).await?;
    let said = comment(cyd, &hello, "nice", None).await?;
    let told = |account: &Account| {
        let account = account.clone();
        async move {
            let sync = chat::SyncRequest { cursor: 0, page_size: 200 };
            let page = account.services().await?.chat.sync(sync).await?.into_inner();
            let notices = page.entries.into_iter().filter_map(|entry| match entry.event {
                Some(Event::MomentsNotice(notice)) => Some(notice),
                _ => None,
            });
            anyhow::Ok(notices.collect::<Vec<_>>())
        }
    };
    let expected = [(moments::NoticeKind::Like, bob.user_id(), None), (moments::NoticeKind::Comment, cyd.user_id(), Some(said.comment_id))];
    wait_for("the author's devices are told", SOON, || async {
        let notices = told(ada).await.map_err(|error| error.to_string())?;
        let seen: Vec<_> = notices.iter().map(|notice| (notice.kind(), notice.actor_id.as_str(), notice.comment_id.clone())).collect();
        if seen == expected { Ok(()) } else { Err(format!("{seen:?}")) }
    })
    .await?;
    let listed = ada.services().await?.moments.list_notices(moments::ListNoticesRequest::default()).await?.into_inner().notices;
    ensure!(listed.len() == 2 && listed[0].comment.as_ref().is_some_and(|comment| comment.text == "nice"), "{listed:?}");
    // Both took part; they are no friends.
    ensure!(told(bob).await?.is_empty() && told(cyd).await?.is_empty(), "strangers are told of each other");
    world.server.assert_quiet_log(&[])
}
