//! Making, reading and deleting posts, and what a post must look like.

use std::time::Duration;

use plaza_proto::moments::v1::{self as api, audience::Kind as Audience};
use plaza_types::limits::{DAY, POSTS_PER_DAY};
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::world::{World, fields, people, refusal, why, words};

#[tokio::test]
async fn a_post_comes_back_as_it_was_made_and_only_its_author_is_told_for_whom() {
    let world = World::new().await;
    let [ada, bob, cyd] = world.people().await;
    world.change(&ada, &bob, |stance| stance.tags = vec!["work".into(), "home".into()]).await;
    let content = api::PostContent {
        text: "words".into(),
        link: Some(api::Link { url: "https://example.org/x".into(), title: "title".into(), description: "more".into() }),
        location: Some(api::Location { latitude: -90.0, longitude: 180.0, name: "pole".into(), address: "south".into() }),
    };
    let audience = api::Audience { kind: Some(Audience::Only(people(&[&cyd], &["work"]))) };
    let request = api::CreatePostRequest {
        request_id: world.request_id(),
        content: Some(content.clone()),
        audience: Some(audience.clone()),
        mentions: vec![bob.id.clone(), bob.id.clone()],
    };
    let made = ada.create(request).await.expect("posted");
    assert_eq!((made.content.as_ref(), made.audience.as_ref()), (Some(&content), Some(&audience)));
    assert_eq!((made.author_id.as_str(), made.mentions.as_slice()), (ada.id.as_str(), [bob.id.clone()].as_slice()));
    assert_eq!(ada.get(&made).await.expect("own"), made);
    for friend in [&bob, &cyd] {
        assert_eq!(friend.get(&made).await.expect("for them"), api::Post { audience: None, ..made.clone() });
    }
    assert!(!world.person().sees(&made).await);
    let text = "ü".repeat(2_000);
    assert_eq!(words(&[world.post(&ada, &text).await]), [text], "the longest");
}

#[tokio::test]
async fn the_same_request_is_the_same_post_and_another_content_is_refused() {
    let world = World::new().await;
    let [ada, bob, _] = world.people().await;
    let mut request = world.posting("once");
    request.audience = Some(api::Audience { kind: Some(Audience::Except(people(&[&bob], &[]))) });
    let first = ada.create(request.clone()).await.expect("posted");
    world.change(&ada, &bob, |stance| stance.lists = false).await;
    assert_eq!(ada.create(request.clone()).await.expect("the same"), first, "also when it could not be made any more");
    let other = api::CreatePostRequest { content: world.posting("twice").content, ..request.clone() };
    assert_eq!(why(ada.create(other).await), refusal(Code::AlreadyExists, "REQUEST_ID_REUSED"));
    assert_eq!(ada.reads().await, ["once"]);
    let theirs = api::CreatePostRequest { audience: None, ..request };
    assert_ne!(bob.create(theirs).await.expect("another's request").post_id, first.post_id);
}

#[tokio::test]
async fn so_many_posts_a_day_are_made_and_the_next_is_refused_until_tomorrow() {
    let world = World::new().await;
    let [ada, bob, _] = world.people().await;
    let first = world.posting("first");
    let made = ada.create(first.clone()).await.expect("posted");
    for _ in 1..POSTS_PER_DAY {
        world.post(&ada, "more").await;
    }
    let surplus = world.posting("surplus");
    let refused = ada.create(surplus.clone()).await.expect_err("one more");
    let details = refused.get_error_details();
    let quota = details.quota_failure().expect("a quota");
    assert_eq!((refused.code(), quota.violations[0].subject.as_str()), (Code::ResourceExhausted, "posts"));
    let left = DAY - world.clock.now_micros() % DAY;
    assert_eq!(details.retry_info().and_then(|retry| retry.retry_delay), Some(Duration::from_micros(left)));
    let full = || refusal(Code::ResourceExhausted, "QUOTA_EXCEEDED");
    ada.delete(&made, String::new()).await.expect("deleted");
    assert_eq!(why(ada.create(world.posting("for the deleted one")).await), full());
    assert_eq!(ada.create(first).await.expect("the same").post_id, made.post_id, "what was answered is answered again");
    assert_eq!(ada.reads().await.len(), POSTS_PER_DAY - 1);
    world.post(&bob, "another's").await;
    world.wait(left);
    assert_eq!(why(ada.create(surplus).await), full(), "what was refused is refused again");
    world.post(&ada, "tomorrow").await;
}

#[tokio::test]
async fn what_breaks_a_rule_is_named_and_changes_nothing() {
    let world = World::new().await;
    let [ada, bob, _] = world.people().await;
    let stranger = world.person();
    let with = |change: &dyn Fn(&mut api::CreatePostRequest)| {
        let mut request = world.posting("words");
        change(&mut request);
        request
    };
    let for_whom = |kind| Some(api::Audience { kind: Some(kind) });
    let link = |url: &str| api::PostContent { link: Some(api::Link { url: url.into(), ..Default::default() }), ..Default::default() };
    let place = |latitude, longitude| api::PostContent {
        location: Some(api::Location { latitude, longitude, ..Default::default() }),
        ..Default::default()
    };
    let table = [
        (with(&|request| request.request_id = "x".into()), "request_id"),
        (with(&|request| request.content = None), "content"),
        (with(&|request| request.content = Some(api::PostContent { text: " \n".into(), ..Default::default() })), "content"),
        (with(&|request| request.content = Some(api::PostContent { text: "x".repeat(2_001), ..Default::default() })), "content.text"),
        (with(&|request| request.content = Some(link("ftp://example.org"))), "content.link.url"),
        (with(&|request| request.content = Some(link("https://exa mple.org"))), "content.link.url"),
        (with(&|request| request.content = Some(place(f64::NAN, 0.0))), "content.location.latitude"),
        (with(&|request| request.content = Some(place(0.0, f64::INFINITY))), "content.location.longitude"),
        (with(&|request| request.audience = Some(api::Audience { kind: None })), "audience"),
        (with(&|request| request.audience = for_whom(Audience::Only(people(&[], &[])))), "audience.only"),
        (with(&|request| request.audience = for_whom(Audience::Only(people(&[&stranger], &[])))), "audience.only.user_ids"),
        (with(&|request| request.audience = for_whom(Audience::Only(people(&[&ada], &[])))), "audience.only.user_ids"),
        (with(&|request| request.audience = for_whom(Audience::Except(people(&[&bob], &["nobody's"])))), "audience.except.tags"),
        (with(&|request| request.audience = for_whom(Audience::Except(people(&[], &[""])))), "audience.except.tags"),
        (with(&|request| request.mentions = vec![stranger.id.clone()]), "mentions"),
        (with(&|request| request.mentions = vec!["x".into()]), "mentions"),
        (with(&|request| request.mentions = vec![bob.id.clone(); 51]), "mentions"),
    ];
    for (request, field) in table {
        assert_eq!(fields(ada.create(request.clone()).await), [field], "{request:?}");
    }
    let both = with(&|request| (request.content, request.mentions) = (None, vec!["x".into()]));
    assert_eq!(fields(ada.create(both).await), ["content", "mentions"], "all at once");
    let old = with(&|request| request.request_id = "0163f5a0-0000-7000-8000-000000000000".into());
    assert_eq!(why(ada.create(old).await), refusal(Code::InvalidArgument, "REQUEST_ID_TIME"));
    assert_eq!(ada.reads().await, [""; 0]);
}

#[tokio::test]
async fn a_deleted_post_is_gone_for_everybody_at_once() {
    let world = World::new().await;
    let [ada, bob, _] = world.people().await;
    let (kept, deleted) = (world.post(&ada, "kept").await, world.post(&ada, "deleted").await);
    bob.will_read(&["deleted", "kept"]).await;
    bob.like(&deleted).await.expect("liked");
    assert_eq!(why(bob.delete(&deleted, String::new()).await), refusal(Code::NotFound, "NOT_FOUND"), "another's");
    let request = world.request_id();
    ada.delete(&deleted, request.clone()).await.expect("deleted");
    ada.delete(&deleted, request).await.expect("the same request again");
    assert_eq!(why(ada.delete(&deleted, world.request_id()).await), refusal(Code::NotFound, "NOT_FOUND"));
    for person in [&ada, &bob] {
        assert_eq!(person.reads().await, ["kept"]);
        assert_eq!(words(&person.posts_of(&ada, 0, String::new()).await.expect("posts").posts), ["kept"]);
        assert!(!person.sees(&deleted).await && person.sees(&kept).await);
        assert_eq!(why(person.like(&deleted).await), refusal(Code::NotFound, "NOT_FOUND"));
        assert_eq!(why(person.unlike(&deleted).await), refusal(Code::NotFound, "NOT_FOUND"));
        assert_eq!(why(world.comment(person, &deleted, None).await), refusal(Code::NotFound, "NOT_FOUND"));
        assert_eq!(why(person.comments(&deleted, 0, String::new()).await), refusal(Code::NotFound, "NOT_FOUND"));
        assert_eq!(person.notices().await, []);
    }
}

#[tokio::test]
async fn an_id_of_nothing_answers_as_what_is_hidden() {
    let world = World::new().await;
    let [ada, bob, _] = world.people().await;
    let hidden = world.post_for(&ada, "mine", Audience::Private(api::OnlyMe {})).await;
    let (author, request) = hidden.post_id.split_once('-').expect("two parts");
    let (other_author, other_request) = (bob.id.replace('-', ""), format!("{}0", &request[..31]));
    for post_id in [format!("{author}-{other_request}"), format!("{other_author}-{request}"), hidden.post_id.clone()] {
        let nothing = api::Post { post_id, ..Default::default() };
        assert!(!bob.sees(&nothing).await);
        let like = bob.like(&nothing).await.expect_err("nothing to like");
        let comment = world.comment(&bob, &nothing, None).await.expect_err("nothing to comment on");
        let answered = api::PostComment { comment_id: format!("{0}-{0}", nothing.post_id), ..Default::default() };
        let answer = world.comment(&bob, &nothing, Some(&answered)).await.expect_err("nothing to answer");
        for status in [like, comment, answer] {
            assert_eq!((status.code(), status.message()), (Code::NotFound, "no such post"));
        }
        assert_eq!(why(bob.delete_comment(&answered).await), refusal(Code::NotFound, "NOT_FOUND"));
    }
}
