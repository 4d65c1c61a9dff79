//! Timelines: pages, befriending, and viewers who did not look for long.

use std::sync::{Arc, OnceLock};

use plaza_moments::store::fault::Faulty;
use plaza_processor::fault::Odds;
use plaza_proto::moments::v1::{self as api, audience::Kind as Audience};
use plaza_runtime::Rng;
use plaza_types::limits::{DAY, POSTS_PER_DAY, SECOND};
use tonic::Code;

use crate::world::{Person, World, people, refusal, wait_for, why, words};

/// All pages, with something done after each.
async fn pages(person: &Person, size: u32, mut between: impl AsyncFnMut()) -> Vec<String> {
    let (mut found, mut token) = (Vec::new(), String::new());
    loop {
        let page = person.timeline(size, token).await.expect("a page");
        found.extend(words(&page.posts));
        between().await;
        token = page.next_page_token;
        if token.is_empty() {
            return found;
        }
        assert!(!page.posts.is_empty());
    }
}

#[tokio::test]
async fn pages_are_stable_while_posts_arrive_and_the_end_is_said() {
    let world = World::new().await;
    let [ada, bob, cyd] = world.people().await;
    let mut expected = Vec::new();
    for number in 0..25 {
        // Ada's timeline has three authors, and posts that she may not see are in between.
        let by = [&ada, &bob, &cyd][number % 3];
        world.post(by, &number.to_string()).await;
        world.post_for(&bob, "hidden", Audience::Private(api::OnlyMe {})).await;
        world.wait(SECOND);
        expected.insert(0, number.to_string());
    }
    let newest: Vec<&str> = expected.iter().map(String::as_str).collect();
    ada.will_read(&newest).await;
    for size in [1, 4, 5, 24, 25, 26] {
        world.wait(DAY);
        let found = pages(&ada, size, async || {
            world.post(&ada, "new").await;
            world.post(&bob, "new").await;
        })
        .await;
        let old: Vec<String> = found.into_iter().filter(|words| words != "new").collect();
        assert_eq!(old, expected, "{size}");
    }
    let token = ada.timeline(3, String::new()).await.expect("a page").next_page_token;
    assert_eq!(why(bob.timeline(3, token.clone()).await), refusal(Code::InvalidArgument, "PAGE_TOKEN"), "another's token");
    assert_eq!(why(ada.posts_of(&ada, 3, token).await), refusal(Code::InvalidArgument, "PAGE_TOKEN"), "of another list");
}

#[tokio::test]
async fn a_page_costs_the_same_however_many_posts_there_are() {
    let counted = Arc::new(OnceLock::new());
    let count = Arc::clone(&counted);
    let world = World::around(
        |log| log,
        |store| {
            let store = Arc::new(Faulty::new(store, Rng::seeded(1), Odds { before: 0, after: 0, late: 0 }));
            let _ = count.set(Arc::clone(&store));
            store
        },
    )
    .await;
    let store = counted.get().expect("it was built");
    let [ada, bob, _] = world.people().await;
    let cost = async || {
        let before = (store.reads(), world.asked());
        for _ in 0..3 {
            let page = bob.timeline(20, String::new()).await.expect("a page");
            assert_eq!(page.posts.len(), 20);
        }
        (store.reads() - before.0, world.asked() - before.1)
    };
    let mut costs = Vec::new();
    for posts in [25, 1_000] {
        for number in 0..posts {
            world.post(if number % 2 == 0 { &ada } else { &bob }, "x").await;
            if number % POSTS_PER_DAY == POSTS_PER_DAY - 1 {
                world.wait(DAY);
            }
        }
        let newest = world.post(&ada, "newest").await;
        wait_for("the newest is there", async || bob.timeline(1, String::new()).await.expect("a page").posts[0].post_id == newest.post_id)
            .await;
        costs.push(cost().await);
    }
    // References, own posts, posts, likes and comments with words: none of it for each post ever made.
    assert_eq!(costs[0], costs[1]);
}

#[tokio::test]
async fn posts_made_at_the_same_time_come_once_each() {
    let world = World::new().await;
    let [ada, bob, cyd] = world.people().await;
    for _ in 0..6 {
        for by in [&ada, &bob, &cyd] {
            by.create(world.posting("x")).await.expect("posted");
        }
    }
    ada.will_read(&["x"; 18]).await;
    for size in [1, 2, 5] {
        assert_eq!(pages(&ada, size, async || {}).await.len(), 18);
    }
}

#[tokio::test]
async fn a_page_full_of_hidden_posts_says_where_to_go_on_and_not_what_is_there() {
    let world = World::new().await;
    let [ada, bob, _] = world.people().await;
    world.post(&ada, "old").await;
    let mut hiding = Vec::new();
    for _ in 0..46 {
        let author = world.person();
        world.befriend(&author, &bob).await;
        for _ in 0..POSTS_PER_DAY {
            world.post_for(&author, "hidden", Audience::Except(people(&[&bob], &[]))).await;
            world.wait(1_000);
        }
        hiding.push(author.id.replace('-', ""));
    }
    let newest = world.post(&ada, "new").await;
    bob.will_read(&["new"]).await;
    let page = bob.timeline(200, String::new()).await.expect("a page");
    assert_eq!(words(&page.posts), ["new"]);
    let token = &page.next_page_token;
    assert!(!token.is_empty() && hiding.iter().all(|author| !token.contains(author)), "the token names a hidden post");
    let rest = bob.timeline(200, page.next_page_token).await.expect("a page");
    assert_eq!((words(&rest.posts), rest.next_page_token.as_str()), (vec!["old".to_owned()], ""));
    assert!(bob.sees(&newest).await);
}

#[tokio::test]
async fn new_friends_get_each_others_earlier_posts_at_their_times() {
    let world = World::new().await;
    let (ada, bob) = (world.person(), world.person());
    for (by, what) in [(&ada, "a1"), (&bob, "b1"), (&ada, "a2"), (&bob, "b2")] {
        world.post(by, what).await;
    }
    assert_eq!((ada.reads().await, bob.reads().await), (vec!["a2".into(), "a1".into()], vec!["b2".into(), "b1".into()]));
    world.befriend(&ada, &bob).await;
    for person in [&ada, &bob] {
        person.will_read(&["b2", "a2", "b1", "a1"]).await;
    }
    // What is posted while one does not list the other comes with adding again.
    world.change(&ada, &bob, |stance| stance.lists = false).await;
    world.post(&ada, "a3").await;
    world.post(&bob, "b3").await;
    assert_eq!((ada.reads().await[0].as_str(), bob.reads().await[0].as_str()), ("a3", "b3"));
    world.change(&ada, &bob, |stance| stance.lists = true).await;
    for person in [&ada, &bob] {
        person.will_read(&["b3", "a3", "b2", "a2", "b1", "a1"]).await;
    }
}

#[tokio::test]
async fn who_did_not_look_for_a_month_is_passed_over_and_finds_everything_on_return() {
    let world = World::new().await;
    let [ada, bob, _] = world.people().await;
    let never = world.person();
    world.befriend(&ada, &never).await;
    world.post(&ada, "first").await;
    bob.will_read(&["first"]).await;
    world.wait(31 * DAY);
    let mut expected = vec!["first".to_owned()];
    for number in 0..5 {
        world.post(&ada, &number.to_string()).await;
        expected.insert(0, number.to_string());
    }
    let deleted = world.post(&ada, "deleted").await;
    ada.delete(&deleted, String::new()).await.expect("deleted");
    let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
    // Who is blocked when they return finds everything when that ends.
    world.change(&ada, &never, |stance| stance.blocks = true).await;
    wait_for("the last post was passed over", async || world.is_passed_over(&never).await).await;
    assert_eq!(never.reads().await, [""; 0]);
    assert!(!world.is_passed_over(&never).await);
    world.change(&ada, &never, |stance| stance.blocks = false).await;
    assert_eq!(never.reads().await, expected);
    wait_for("the last post was passed over", async || world.is_passed_over(&bob).await).await;
    // The very first page of the return has everything.
    assert_eq!(bob.reads().await, expected);
    assert!(!world.is_passed_over(&bob).await);
    // From then on posts come as ever.
    world.post(&ada, "after").await;
    bob.will_read(&[&["after"], expected.as_slice()].concat()).await;
    assert!(!world.is_passed_over(&bob).await);
}
