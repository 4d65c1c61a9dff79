//! Notices: to whom what is told, in the list and live, and that the same rule holds for both.

use plaza_proto::moments::v1::{
    self as api,
    NoticeKind::{self, Comment, Like, Mention, Reply},
};
use plaza_types::limits::SECOND;

use crate::world::{Person, World, people, wait_for};

async fn live(world: &World, person: &Person) -> Vec<(NoticeKind, String)> {
    world.inbox(person).await.into_iter().map(|notice| (notice.kind(), notice.actor_id)).collect()
}

/// Waits until a live notice like the newest of the list has come, and tells whether the two agree.
async fn agree(world: &World, person: &Person, expected: &[(NoticeKind, &Person)]) {
    let expected: Vec<_> = expected.iter().map(|(kind, actor)| (*kind, actor.id.clone())).collect();
    assert_eq!(person.notices().await, expected);
    let told: Vec<_> = expected.into_iter().rev().collect();
    wait_for("the same is told live", async || live(world, person).await == told).await;
}

#[tokio::test]
async fn the_author_and_common_friends_who_took_part_are_told() {
    let world = World::new().await;
    let [ada, bob, cyd] = world.people().await;
    let post = world.post(&ada, "hello").await;
    bob.like(&post).await.expect("liked");
    world.wait(SECOND);
    cyd.like(&post).await.expect("liked");
    world.wait(SECOND);
    let comment = world.comment(&ada, &post, None).await.expect("commented");
    world.wait(SECOND);
    world.comment(&bob, &post, Some(&comment)).await.expect("answered");
    agree(&world, &ada, &[(Reply, &bob), (Like, &cyd), (Like, &bob)]).await;
    agree(&world, &bob, &[(Comment, &ada)]).await;
    agree(&world, &cyd, &[(Comment, &ada)]).await;
    // Once the two are friends, the list shows what concerned them all along.
    world.befriend(&bob, &cyd).await;
    let of = |list: &[(NoticeKind, &Person)]| list.iter().map(|(kind, actor)| (*kind, actor.id.clone())).collect::<Vec<_>>();
    assert_eq!(cyd.notices().await, of(&[(Comment, &bob), (Comment, &ada)]));
    assert_eq!(bob.notices().await, of(&[(Comment, &ada), (Like, &cyd)]));
    let page = bob.page_of_notices(1, String::new()).await.expect("a page");
    let told = page.notices[0].comment.clone().expect("the comment");
    assert_eq!((told.comment_id, told.text), (comment.comment_id, comment.text));
    let next = bob.page_of_notices(1, page.next_page_token).await.expect("a page");
    assert_eq!((next.notices[0].kind(), next.next_page_token.as_str()), (Like, ""));
}

#[tokio::test]
async fn what_is_gone_or_hidden_is_told_no_more() {
    let world = World::new().await;
    let [ada, bob, cyd] = world.people().await;
    let post = world.post(&ada, "hello").await;
    bob.like(&post).await.expect("liked");
    world.wait(SECOND);
    let comment = world.comment(&bob, &post, None).await.expect("commented");
    world.wait(SECOND);
    world.comment(&cyd, &post, None).await.expect("commented");
    agree(&world, &ada, &[(Comment, &cyd), (Comment, &bob), (Like, &bob)]).await;
    let kinds = async |person: &Person| person.notices().await.into_iter().map(|(kind, _)| kind).collect::<Vec<_>>();
    bob.unlike(&post).await.expect("unliked");
    assert_eq!(kinds(&ada).await, [Comment, Comment]);
    world.wait(SECOND);
    bob.like(&post).await.expect("liked again");
    assert_eq!(kinds(&ada).await, [Like, Comment, Comment], "a new act, told once");
    bob.delete_comment(&comment).await.expect("deleted");
    assert_eq!(kinds(&ada).await, [Like, Comment]);
    world.change(&ada, &cyd, |stance| stance.lists = false).await;
    assert_eq!(kinds(&ada).await, [Like], "of somebody who is no friend any more");
    world.change(&ada, &cyd, |stance| stance.lists = true).await;
    assert_eq!(kinds(&ada).await, [Like, Comment]);
    ada.delete(&post, String::new()).await.expect("deleted");
    assert_eq!(kinds(&ada).await, []);
    assert_eq!(live(&world, &ada).await.len(), 3, "nothing was told again");
    assert_eq!((live(&world, &bob).await, live(&world, &cyd).await), (vec![], vec![]), "strangers were told of each other");
}

#[tokio::test]
async fn a_like_given_again_is_told_to_those_who_take_part_then() {
    let world = World::new().await;
    let [ada, bob, cyd] = world.people().await;
    world.befriend(&bob, &cyd).await;
    let post = world.post(&ada, "hello").await;
    cyd.like(&post).await.expect("liked");
    world.wait(SECOND);
    bob.like(&post).await.expect("liked");
    agree(&world, &cyd, &[(Like, &bob)]).await;
    for person in [&bob, &cyd] {
        person.unlike(&post).await.expect("unliked");
    }
    world.wait(SECOND);
    bob.like(&post).await.expect("liked again");
    assert_eq!(cyd.notices().await, [], "who takes no part any more");
    bob.unlike(&post).await.expect("unliked");
    world.comment(&cyd, &post, None).await.expect("commented");
    world.wait(SECOND);
    bob.like(&post).await.expect("liked once more");
    assert_eq!(cyd.notices().await, [(Like, bob.id.clone())]);
    world.wait(SECOND);
    world.comment(&bob, &post, None).await.expect("commented");
    agree(&world, &cyd, &[(Comment, &bob), (Like, &bob)]).await;
}

#[tokio::test]
async fn a_like_given_again_before_devices_are_told_is_told_once() {
    let world = World::new().await;
    let [ada, bob, _] = world.people().await;
    let post = world.post(&ada, "hello").await;
    world.stuck.send_replace(true);
    bob.like(&post).await.expect("liked");
    bob.unlike(&post).await.expect("unliked");
    world.wait(SECOND);
    bob.like(&post).await.expect("liked again");
    assert_eq!(live(&world, &ada).await, []);
    world.stuck.send_replace(false);
    agree(&world, &ada, &[(Like, &bob)]).await;
}

#[tokio::test]
async fn only_who_may_see_the_post_is_told_of_being_called() {
    let world = World::new().await;
    let [ada, bob, cyd] = world.people().await;
    let audience = Some(api::Audience { kind: Some(api::audience::Kind::Except(people(&[&cyd], &[]))) });
    let request = api::CreatePostRequest { audience, mentions: vec![bob.id.clone(), cyd.id.clone()], ..world.posting("you two") };
    ada.create(request).await.expect("posted");
    agree(&world, &bob, &[(Mention, &ada)]).await;
    // Both are told by one act, the other one behind.
    let all = api::CreatePostRequest { mentions: vec![cyd.id.clone()], ..world.posting("you") };
    ada.create(all).await.expect("posted");
    agree(&world, &cyd, &[(Mention, &ada)]).await;
    world.change(&ada, &bob, |stance| stance.blocks = true).await;
    assert_eq!(bob.notices().await, []);
}
