//! What is kept in memory is used, and never past its bound: a change that was acknowledged is seen by the very next read, also when nothing
//! tells this process of it.

use plaza_proto::{accounts::v1::MomentsRange, graph::v1::Permissions};
use plaza_types::limits::DAY;

use crate::world::World;

#[tokio::test]
async fn reading_again_asks_nobody_until_something_changes() {
    let world = World::new().await;
    let [ada, bob, cyd] = world.people().await;
    let post = world.post(&ada, "hello").await;
    bob.will_read(&["hello"]).await;
    assert!(bob.sees(&post).await);
    let asked = world.asked();
    for _ in 0..20 {
        assert!(bob.sees(&post).await);
    }
    assert_eq!(world.asked(), asked, "what is kept is not used");
    world.change(&ada, &cyd, |stance| stance.tags = vec!["work".into()]).await;
    assert!(bob.sees(&post).await);
    assert_eq!(world.asked(), asked, "another edge");
    world.permit(&ada, &bob, Permissions { hide_my_moments: true, ..Default::default() }).await;
    assert!(!bob.sees(&post).await);
}

#[tokio::test]
async fn a_follower_that_stands_still_never_leads_to_a_stale_answer() {
    let world = World::new().await;
    let [ada, bob, _] = world.people().await;
    let post = world.post(&ada, "hello").await;
    world.wait(5 * DAY);
    bob.will_read(&["hello"]).await;
    assert!(bob.sees(&post).await);
    world.stuck.send_replace(true);
    for hidden in [true, false, true, false] {
        world.permit(&ada, &bob, Permissions { hide_my_moments: hidden, ..Default::default() }).await;
        assert_eq!(bob.sees(&post).await, !hidden, "an edge");
        assert_eq!(bob.reads().await.len(), usize::from(!hidden), "an edge, in the timeline");
    }
    for (range, seen) in [(MomentsRange::ThreeDays, false), (MomentsRange::All, true)] {
        world.set_range(&ada, range).await;
        assert_eq!(bob.sees(&post).await, seen, "a setting");
    }
    world.stuck.send_replace(false);
    world.permit(&ada, &bob, Permissions { chat_only: true, ..Default::default() }).await;
    assert!(!bob.sees(&post).await, "after it goes on");
    world.permit(&ada, &bob, Permissions::default()).await;
    assert!(bob.sees(&post).await);
}
