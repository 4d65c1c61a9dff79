//! What random histories do not reach: the second at which a range ends, more than a page, ids that nobody was given.

use std::{sync::Arc, time::Duration};

use plaza_proto::moments::v1 as moments;
use plaza_testkit::wait::wait_for;

use crate::{
    history::History,
    model::{Hint, NoticeKind},
    run,
    services::Services,
    step::{Act, Audience, Range, Step, Who},
    system::System,
    world::World,
};

const ADA: Who = 0;
const BOB: Who = 1;
const CEM: Who = 2;
const DAY: Duration = Duration::from_secs(24 * 3600);
const SECOND: Duration = Duration::from_secs(1);

/// Ada and people who are her friends and not each other's.
async fn friends_of_ada(people: usize) -> (Arc<Services>, World) {
    let services = Services::start().await.expect("services");
    let mut world = World::new(services.clone(), people).await.expect("people");
    for friend in 1..people {
        world.act(&Act::Befriend(ADA, friend)).await.expect("friends");
    }
    (services, world)
}

fn post(who: Who, post: usize) -> Act {
    Act::Post { who, post, audience: Audience::All, mentions: Vec::new() }
}

fn comment(who: Who, post: usize, comment: usize) -> Act {
    Act::Comment { who, post, comment, answers: None }
}

#[tokio::test]
async fn a_range_ends_to_the_second() {
    for (range, days) in [(Range::ThreeDays, 3), (Range::OneMonth, 30), (Range::SixMonths, 183)] {
        let (services, mut world) = friends_of_ada(2).await;
        world.act(&post(ADA, 0)).await.unwrap();
        world.act(&Act::Range(ADA, range)).await.unwrap();
        services.wait(DAY * days - SECOND);
        assert_eq!(world.posts_of(BOB, ADA, 50, "").await.unwrap().0.len(), 1, "{range:?}");
        assert!(world.get(BOB, 0).await.is_ok());
        services.wait(SECOND * 2);
        let gone = world.get(BOB, 0).await;
        assert_eq!(gone, world.get(BOB, 1).await, "{range:?}");
        assert!(gone.is_err());
        assert_eq!(world.posts_of(BOB, ADA, 50, "").await.unwrap().0, []);
        assert_eq!(world.timeline(BOB, 50, "").await.unwrap().0, []);
        assert_eq!(world.timeline(ADA, 50, "").await.unwrap().0.len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_than_a_page_of_posts_and_comments() {
    let mut steps: Vec<Step> = [(ADA, BOB), (ADA, CEM), (ADA, 3), (BOB, 3)].map(|(one, other)| Step::Do(Act::Befriend(one, other))).into();
    steps.extend((0..80).map(|number| Step::Do(post(number % 3, number))));
    // Post 75 is Ada's; what Cem says there is seen by Ada alone, and so are the answers.
    steps.extend((0..90).map(|number| {
        let answers = (number % 5 == 4).then(|| number - 3);
        Step::Do(Act::Comment { who: number % 4, post: 75, comment: number, answers })
    }));
    steps.push(Step::While { viewer: BOB, size: 50, act: Act::Unfriend(ADA, CEM) });
    let history = History { seed: 1, people: 4, steps };
    let failures = run::together(&Services::start().await.unwrap(), vec![history]).await.unwrap();
    assert!(failures.is_empty(), "{}", failures[0].1);
}

#[tokio::test]
async fn an_id_that_was_never_given_is_as_one_that_is_hidden() {
    let (_services, mut world) = friends_of_ada(3).await;
    world.act(&post(BOB, 0)).await.unwrap();
    world.act(&comment(BOB, 0, 0)).await.unwrap();
    let hidden = world.post_id(0);
    let last = hidden.chars().last().unwrap();
    let never = format!("{}{}", &hidden[..hidden.len() - 1], if last == '1' { '2' } else { '1' });
    let mut answers = Vec::new();
    for id in [hidden, never] {
        let mut client = world.moments.clone();
        let get = world.request(CEM, moments::GetPostRequest { post_id: id.clone() });
        let like = world.request(CEM, moments::LikeRequest { post_id: id.clone(), request_id: String::new() });
        let list = world.request(CEM, moments::ListCommentsRequest { post_id: id.clone(), ..Default::default() });
        let delete = world.request(
            CEM,
            moments::DeleteCommentRequest { comment_id: world.comment_id(0).replace(&world.post_id(0), &id), request_id: String::new() },
        );
        let refused = [
            client.get_post(get).await.map(drop).unwrap_err(),
            client.like(like).await.map(drop).unwrap_err(),
            client.list_comments(list).await.map(drop).unwrap_err(),
            client.delete_comment(delete).await.map(drop).unwrap_err(),
        ];
        answers.push(refused.map(|status| (status.code(), status.message().to_owned(), status.details().to_vec())));
    }
    assert_eq!(answers[0], answers[1]);
    assert!(answers[0].iter().all(|(code, ..)| *code == tonic::Code::NotFound), "{:?}", answers[0]);
}

/// Bob sees nothing of what Cem says, not even by how much the ids of his own comments grow.
#[tokio::test]
async fn ids_of_comments_do_not_count_those_that_are_hidden() {
    let (_services, mut world) = friends_of_ada(3).await;
    world.act(&post(ADA, 0)).await.unwrap();
    for number in 0..4 {
        world.act(&comment(if number % 2 == 0 { BOB } else { CEM }, 0, number)).await.unwrap();
    }
    let own = |number| world.comment_id(number).replace(&world.post_id(0), "");
    for id in [own(0), own(2)] {
        assert!(id.len() >= 32, "{id} is short enough to be counted from one to the next");
    }
}

/// Cem and Bob both know Ada, who hears of both; they hear nothing of each other, also on their devices.
#[tokio::test]
async fn devices_are_told_as_notices_are() {
    let (_services, mut world) = friends_of_ada(3).await;
    world.act(&post(ADA, 0)).await.unwrap();
    world.act(&comment(BOB, 0, 0)).await.unwrap();
    world.act(&Act::Like(CEM, 0)).await.unwrap();
    world.act(&comment(ADA, 0, 1)).await.unwrap();
    let hint = |kind, actor, comment| Hint { kind, post: 0, actor, comment };
    let of_ada = hint(NoticeKind::Comment, ADA, Some(1));
    let expected = [vec![hint(NoticeKind::Comment, BOB, Some(0)), hint(NoticeKind::Like, CEM, None)], vec![of_ada.clone()], vec![of_ada]];
    let told = || async {
        let told = [ADA, BOB, CEM].map(|viewer| world.hints(viewer).unwrap());
        if told == expected { Ok(()) } else { Err(told) }
    };
    wait_for("all were told", Duration::from_secs(10), told).await.unwrap();
}
