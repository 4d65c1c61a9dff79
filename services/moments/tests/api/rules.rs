//! Every rule takes effect on the very next read, in every kind of read, and undoing it restores everything.

use plaza_proto::{
    accounts::v1::MomentsRange,
    graph::v1::Permissions,
    moments::v1::{self as api, audience::Kind as Audience},
};
use plaza_types::limits::DAY;
use tonic::Code;

use crate::world::{Person, World, people, refusal, why, words};

/// What one viewer sees of one post, in every kind of read; all of them must agree.
async fn sees(world: &World, viewer: &Person, author: &Person, post: &api::Post) -> bool {
    let seen = viewer.sees(post).await;
    let has = |posts: &[api::Post]| posts.iter().any(|other| other.post_id == post.post_id);
    assert_eq!(has(&viewer.timeline(200, String::new()).await.expect("a timeline").posts), seen, "timeline");
    assert_eq!(has(&viewer.posts_of(author, 200, String::new()).await.expect("posts").posts), seen, "posts of one");
    assert_eq!(viewer.comments(post, 0, String::new()).await.is_ok(), seen, "comments");
    assert_eq!(viewer.unlike(post).await.is_ok(), seen, "unliking");
    if !seen {
        assert_eq!(why(viewer.like(post).await), refusal(Code::NotFound, "NOT_FOUND"), "liking");
        assert_eq!(why(world.comment(viewer, post, None).await), refusal(Code::NotFound, "NOT_FOUND"), "commenting");
    }
    seen
}

#[tokio::test]
async fn edges_and_permissions_hide_and_restore_at_once() {
    let world = World::new().await;
    let [ada, bob, _] = world.people().await;
    let post = world.post(&ada, "hello").await;
    bob.will_read(&["hello"]).await;
    let chat_only = Permissions { chat_only: true, ..Default::default() };
    let hide_mine = Permissions { hide_my_moments: true, ..Default::default() };
    let hide_theirs = Permissions { hide_their_moments: true, ..Default::default() };
    // Who changes, how, and whether the friend still sees the post.
    let table = [
        (&ada, &bob, chat_only, false),
        (&bob, &ada, chat_only, false),
        (&ada, &bob, hide_mine, false),
        (&bob, &ada, hide_theirs, false),
        (&bob, &ada, hide_mine, true),
        (&ada, &bob, hide_theirs, true),
    ];
    for (one, other, permissions, seen) in table {
        world.permit(one, other, permissions).await;
        assert_eq!(sees(&world, &bob, &ada, &post).await, seen, "{permissions:?}");
        assert!(sees(&world, &ada, &ada, &post).await, "one's own");
        world.permit(one, other, Permissions::default()).await;
        assert!(sees(&world, &bob, &ada, &post).await, "{permissions:?} undone");
    }
    for (one, other) in [(&ada, &bob), (&bob, &ada)] {
        world.change(one, other, |stance| stance.blocks = true).await;
        assert!(!sees(&world, &bob, &ada, &post).await, "blocked");
        world.change(one, other, |stance| stance.blocks = false).await;
        assert!(sees(&world, &bob, &ada, &post).await, "no longer blocked");
        world.change(one, other, |stance| stance.lists = false).await;
        assert!(!sees(&world, &bob, &ada, &post).await, "removed");
        world.change(one, other, |stance| stance.lists = true).await;
        assert!(sees(&world, &bob, &ada, &post).await, "added again");
    }
    world.permit(&ada, &bob, hide_mine).await;
    assert!(bob.like(&post).await.is_err() && world.comment(&bob, &post, None).await.is_err());
    world.permit(&ada, &bob, Permissions::default()).await;
    let post = ada.get(&post).await.expect("one's own");
    assert_eq!((post.like_count, post.comment_count), (0, 0), "what was refused was done");
    assert_eq!(ada.notices().await, [], "what was refused was told");
}

#[tokio::test]
async fn audiences_follow_names_and_current_tags() {
    let world = World::new().await;
    let [ada, bob, cyd] = world.people().await;
    world.change(&ada, &bob, |stance| stance.tags = vec!["work".into()]).await;
    let only_bob = world.post_for(&ada, "only bob", Audience::Only(people(&[&bob], &[]))).await;
    let only_work = world.post_for(&ada, "only work", Audience::Only(people(&[], &["work"]))).await;
    let not_bob = world.post_for(&ada, "not bob", Audience::Except(people(&[&bob], &[]))).await;
    let not_work = world.post_for(&ada, "not work", Audience::Except(people(&[], &["work"]))).await;
    let mine = world.post_for(&ada, "mine", Audience::Private(api::OnlyMe {})).await;
    let all = world.post_for(&ada, "all", Audience::All(api::AllFriends {})).await;
    bob.will_read(&["all", "only work", "only bob"]).await;
    cyd.will_read(&["all", "not work", "not bob"]).await;
    assert_eq!(ada.reads().await.len(), 6);
    for (post, by_bob, by_cyd) in [
        (&only_bob, true, false),
        (&only_work, true, false),
        (&not_bob, false, true),
        (&not_work, false, true),
        (&mine, false, false),
        (&all, true, true),
    ] {
        assert_eq!((sees(&world, &bob, &ada, post).await, sees(&world, &cyd, &ada, post).await), (by_bob, by_cyd), "{post:?}");
    }
    // The tag goes from one to the other.
    world.change(&ada, &bob, |stance| stance.tags.clear()).await;
    world.change(&ada, &cyd, |stance| stance.tags = vec!["work".into()]).await;
    assert_eq!(bob.reads().await, ["all", "not work", "only bob"]);
    assert_eq!(cyd.reads().await, ["all", "not bob", "only work"]);
}

#[tokio::test]
async fn the_visible_range_takes_effect_at_once_both_ways() {
    let world = World::new().await;
    let [ada, bob, _] = world.people().await;
    let mut posts = Vec::new();
    for days in [100, 80, 18, 2] {
        posts.push(world.post(&ada, &format!("{days}")).await);
        world.wait(days * DAY);
    }
    // Made 200, 100, 20 and 2 days ago.
    let table = [
        (MomentsRange::ThreeDays, 1),
        (MomentsRange::All, 4),
        (MomentsRange::OneMonth, 2),
        (MomentsRange::SixMonths, 3),
        (MomentsRange::Unspecified, 4),
    ];
    bob.will_read(&["2", "18", "80", "100"]).await;
    for (range, seen) in table {
        world.set_range(&ada, range).await;
        for (place, post) in posts.iter().rev().enumerate() {
            assert_eq!(sees(&world, &bob, &ada, post).await, place < seen, "{range:?}, {place}");
            assert!(ada.sees(post).await, "one's own");
        }
        // Nothing tells how much there is before.
        let page = bob.posts_of(&ada, 200, String::new()).await.expect("a page");
        assert_eq!((page.posts.len(), page.next_page_token.as_str()), (seen, ""));
    }
    // Time alone hides too.
    world.set_range(&ada, MomentsRange::ThreeDays).await;
    world.wait(DAY);
    assert_eq!(bob.reads().await, [""; 0]);
}

#[tokio::test]
async fn who_sees_nothing_of_somebody_gets_an_empty_page_that_ends() {
    let world = World::new().await;
    let [ada, ..] = world.people().await;
    let stranger = world.person();
    for number in 0..30 {
        world.post(&ada, &number.to_string()).await;
    }
    let page = stranger.posts_of(&ada, 1, String::new()).await.expect("a page");
    assert_eq!((page.posts.len(), page.next_page_token.as_str()), (0, ""));
    assert_eq!(words(&ada.posts_of(&ada, 2, String::new()).await.expect("own").posts), ["29", "28"]);
}
