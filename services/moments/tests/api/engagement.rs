//! Likes and comments: who may, who sees them, in lists and counts alike.

use plaza_proto::moments::v1 as api;
use tonic::Code;

use crate::world::{Person, World, fields, refusal, why};

/// Likes, likes counted, comments by their authors, comments counted.
async fn shown(person: &Person, post: &api::Post) -> (Vec<String>, u32, Vec<String>, u32) {
    let post = person.get(post).await.expect("seen");
    let likes = post.likes.iter().map(|like| like.user_id.clone()).collect();
    let comments: Vec<String> = post.comments.iter().map(|comment| comment.comment_id.clone()).collect();
    let listed = person.comments(&post, 200, String::new()).await.expect("comments");
    let listed: Vec<String> = listed.comments.iter().map(|comment| comment.comment_id.clone()).collect();
    assert_eq!(comments, listed, "the list and the post agree");
    let timeline = person.timeline(200, String::new()).await.expect("a timeline").posts;
    assert!(timeline.contains(&post), "the timeline and the post agree");
    (likes, post.like_count, comments, post.comment_count)
}

#[tokio::test]
async fn a_like_is_seen_by_its_author_the_posts_and_common_friends() {
    let world = World::new().await;
    let [ada, bob, cyd] = world.people().await;
    let post = world.post(&ada, "hello").await;
    for person in [&bob, &cyd] {
        person.will_read(&["hello"]).await;
        let liked = person.like(&post).await.expect("liked");
        assert!(liked.liked_by_me && liked.like_count == 1, "{liked:?}");
    }
    assert_eq!(bob.like(&post).await.expect("liked again").like_count, 1);
    let likes = async |person: &Person| shown(person, &post).await.0;
    assert_eq!(likes(&ada).await, ids(&[&bob, &cyd]));
    assert_eq!(likes(&bob).await, ids(&[&bob]));
    world.befriend(&bob, &cyd).await;
    assert_eq!(likes(&bob).await, ids(&[&bob, &cyd]));
    // Permissions do not matter for this; a block does.
    world.change(&bob, &cyd, |stance| stance.permissions = Some(hidden())).await;
    assert_eq!(likes(&bob).await.len(), 2);
    world.change(&cyd, &bob, |stance| stance.blocks = true).await;
    assert_eq!((likes(&bob).await, likes(&cyd).await), (ids(&[&bob]), ids(&[&cyd])));
    // Who is no friend of the author any more is not seen by the author either, until they are again.
    world.change(&ada, &bob, |stance| stance.lists = false).await;
    assert_eq!(likes(&ada).await, ids(&[&cyd]));
    world.change(&ada, &bob, |stance| stance.lists = true).await;
    assert_eq!(likes(&ada).await, ids(&[&bob, &cyd]));
    let unliked = bob.unlike(&post).await.expect("unliked");
    assert!(!unliked.liked_by_me && unliked.like_count == 0);
    assert_eq!(likes(&ada).await, ids(&[&cyd]));
    bob.like(&post).await.expect("liked once more");
    assert_eq!(likes(&ada).await, ids(&[&cyd, &bob]), "oldest first");
}

fn ids(people: &[&Person]) -> Vec<String> {
    people.iter().map(|person| person.id.clone()).collect()
}

fn hidden() -> plaza_proto::graph::v1::Permissions {
    plaza_proto::graph::v1::Permissions { chat_only: true, hide_my_moments: true, hide_their_moments: true }
}

#[tokio::test]
async fn an_answer_is_seen_only_with_what_it_answers() {
    let world = World::new().await;
    let [ada, bob, cyd] = world.people().await;
    let post = world.post(&ada, "hello").await;
    let by_bob = world.comment(&bob, &post, None).await.expect("commented");
    let by_ada = world.comment(&ada, &post, Some(&by_bob)).await.expect("answered");
    let again = world.comment(&bob, &post, Some(&by_ada)).await.expect("answered");
    let by_cyd = world.comment(&cyd, &post, None).await.expect("commented");
    assert_eq!((&by_ada.reply_to, &by_ada.user_id), (&Some(by_bob.comment_id.clone()), &ada.id));
    let all = [&by_bob, &by_ada, &again, &by_cyd];
    let ids = |comments: &[&api::PostComment]| comments.iter().map(|comment| comment.comment_id.clone()).collect::<Vec<_>>();
    let comments = async |person: &Person| {
        let (_, _, comments, count) = shown(person, &post).await;
        assert_eq!(comments.len(), count as usize);
        comments
    };
    cyd.will_read(&["hello"]).await;
    bob.will_read(&["hello"]).await;
    assert_eq!(comments(&ada).await, ids(&all));
    assert_eq!(comments(&bob).await, ids(&all[..3]));
    assert_eq!(comments(&cyd).await, ids(&all[3..]), "the author's answer to what is hidden is hidden");
    for hidden in &all[..3] {
        assert_eq!(why(world.comment(&cyd, &post, Some(hidden)).await), refusal(Code::NotFound, "NOT_FOUND"));
        assert_eq!(why(cyd.delete_comment(hidden).await), refusal(Code::NotFound, "NOT_FOUND"));
    }
    world.befriend(&bob, &cyd).await;
    assert_eq!(comments(&cyd).await, ids(&all));
    assert_eq!(why(cyd.delete_comment(&by_bob).await), refusal(Code::PermissionDenied, "NOT_THE_SENDER"), "seen, but another's");
    assert_eq!(comments(&cyd).await, ids(&all));
    bob.delete_comment(&by_bob).await.expect("own");
    for person in [&ada, &bob, &cyd] {
        assert_eq!(comments(person).await, ids(&all[3..]), "answers go with what they answered");
    }
    assert_eq!(why(world.comment(&bob, &post, Some(&by_bob)).await), refusal(Code::NotFound, "NOT_FOUND"));
    for person in [&bob, &cyd] {
        assert_eq!(why(person.delete_comment(&by_bob).await), refusal(Code::NotFound, "NOT_FOUND"));
    }
    ada.delete_comment(&by_cyd).await.expect("on the own post");
    assert_eq!(comments(&cyd).await, [""; 0]);
}

#[tokio::test]
async fn comments_come_in_pages_and_once_for_each_request() {
    let world = World::new().await;
    let [ada, bob, cyd] = world.people().await;
    let post = world.post(&ada, "hello").await;
    let mut expected = Vec::new();
    for number in 0..150 {
        // Those of a stranger are in between.
        let (by, counts) = if number % 3 == 0 { (&cyd, false) } else { (&bob, true) };
        let comment = world.comment(by, &post, None).await.expect("commented");
        expected.extend(counts.then_some(comment.comment_id));
    }
    let (mut found, mut token) = (Vec::new(), String::new());
    loop {
        let page = bob.comments(&post, 7, token).await.expect("a page");
        found.extend(page.comments.iter().map(|comment| comment.comment_id.clone()));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
        assert_eq!(page.comments.len(), 7);
        let last = page.comments[6].created.as_ref().map(|time| time.seconds as u64 * 1_000_000 + time.nanos as u64 / 1_000);
        assert_eq!(u64::from_str_radix(&token[64..], 16).ok(), last, "all that a token tells is a time that was told");
        assert_eq!(why(cyd.comments(&post, 7, token.clone()).await), refusal(Code::InvalidArgument, "PAGE_TOKEN"), "another's token");
    }
    assert_eq!(found, expected);
    let shown = bob.get(&post).await.expect("seen");
    assert_eq!((shown.comments.len(), shown.comment_count), (20, 100));
    let request = api::CommentRequest {
        post_id: post.post_id.clone(),
        text: "once".into(),
        reply_to: Some(found[0].clone()),
        request_id: world.request_id(),
    };
    let first = bob.comment(request.clone()).await.expect("commented");
    let plain = |uuid: &str| uuid.replace('-', "");
    let id = format!("{}-{}-{}", post.post_id, plain(&bob.id), plain(&request.request_id));
    assert_eq!(first.comment_id, id, "an id tells nothing of those that are hidden");
    // A request id is its user's own: another's of the same makes another comment.
    let same = api::CommentRequest { reply_to: None, ..request.clone() };
    let others = ada.comment(same).await.expect("commented");
    assert_eq!(others.comment_id, format!("{}-{}-{}", post.post_id, plain(&ada.id), plain(&request.request_id)));
    ada.delete_comment(&others).await.expect("deleted");
    assert!(bob.comments(&post, 200, String::new()).await.expect("a page").comments.contains(&first), "the wrong one is deleted");
    assert_eq!(bob.comment(request.clone()).await.expect("the same"), first);
    let other = api::CommentRequest { text: "twice".into(), ..request };
    assert_eq!(why(bob.comment(other).await), refusal(Code::AlreadyExists, "REQUEST_ID_REUSED"));
}

#[tokio::test]
async fn what_breaks_a_rule_is_named() {
    let world = World::new().await;
    let [ada, bob, _] = world.people().await;
    let (post, other) = (world.post(&ada, "hello").await, world.post(&ada, "other").await);
    let elsewhere = world.comment(&ada, &other, None).await.expect("commented");
    let request = |text: &str, reply_to: Option<&str>| api::CommentRequest {
        post_id: post.post_id.clone(),
        text: text.into(),
        reply_to: reply_to.map(Into::into),
        request_id: world.request_id(),
    };
    for (request, field) in [
        (request("", None), "text"),
        (request(" \n ", None), "text"),
        (request(&"x".repeat(1_001), None), "text"),
        (request("x", Some("x")), "reply_to"),
        (request("x", Some(&format!("{}-7", post.post_id))), "reply_to"),
        (request("x", Some(&elsewhere.comment_id)), "reply_to"),
        (api::CommentRequest { post_id: "x".into(), ..request("x", None) }, "post_id"),
        (api::CommentRequest { request_id: String::new(), ..request("x", None) }, "request_id"),
    ] {
        assert_eq!(fields(bob.comment(request.clone()).await), [field], "{request:?}");
    }
    assert_eq!(bob.comment(request(&"ü".repeat(1_000), None)).await.expect("the longest").text.chars().count(), 1_000);
    let never = elsewhere.comment_id.replace(&other.post_id, &post.post_id);
    assert_eq!(why(bob.comment(request("x", Some(&never))).await), refusal(Code::NotFound, "NOT_FOUND"));
}
