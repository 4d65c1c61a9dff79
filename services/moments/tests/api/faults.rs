//! With a log and a store that fail in every way they may, whoever asks again until there is an answer finds everything done once.

use std::sync::Arc;

use plaza_event_log::fault::{Faults, Faulty as FaultyLog};
use plaza_moments::store::fault::Faulty as FaultyStore;
use plaza_processor::fault::Odds;
use plaza_proto::moments::v1 as api;
use plaza_runtime::Rng;
use tonic::{Code, Status};

use crate::world::{World, wait_for, words};

/// Asks the same again until there is an answer.
async fn until_answered<T>(mut ask: impl AsyncFnMut() -> Result<T, Status>) -> T {
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(status) if [Code::Unavailable, Code::DeadlineExceeded].contains(&status.code()) => {}
            Err(status) => panic!("{status:?}"),
        }
    }
}

async fn everything_is_done_once(seed: u64) {
    // Slow calls would only make the test slow.
    let faults = Faults { slow: std::time::Duration::ZERO, late_appends: 0.05, ..Faults::all() };
    let odds = Odds { before: 50, after: 50, late: 50 };
    let world = World::around(
        |log| Arc::new(FaultyLog::new(log, seed, faults)),
        |store| Arc::new(FaultyStore::new(store, Rng::seeded(seed), odds)),
    )
    .await;
    let [ada, bob, _] = world.people().await;
    let mut expected = Vec::new();
    for number in 0..15 {
        let request = world.posting(&number.to_string());
        let post = until_answered(async || ada.create_within(request.clone()).await).await;
        assert_eq!(until_answered(async || ada.create_within(request.clone()).await).await, post, "seed {seed}");
        let comment =
            api::CommentRequest { post_id: post.post_id.clone(), text: "once".into(), reply_to: None, request_id: world.request_id() };
        for _ in 0..2 {
            until_answered(async || bob.like_within(&post).await).await;
            until_answered(async || bob.comment_within(comment.clone()).await).await;
        }
        expected.insert(0, number.to_string());
        world.wait(1_000_000);
    }
    for person in [&ada, &bob] {
        wait_for(&format!("seed {seed}: every post is there once"), async || {
            let page = until_answered(async || person.timeline(200, String::new()).await).await;
            words(&page.posts) == expected && page.posts.iter().all(|post| (post.like_count, post.comment_count) == (1, 1))
        })
        .await;
    }
    let notices = until_answered(async || ada.page_of_notices(200, String::new()).await).await.notices;
    assert_eq!(notices.len(), 30, "seed {seed}: one for each like and comment");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_fails_everything_is_done_once() {
    for seed in 1..4 {
        everything_is_done_once(seed).await;
    }
}
