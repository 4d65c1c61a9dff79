//! Friend requests from asking to an answer, and everything their senders must not learn.

use plaza_proto::{
    chat::v1::{ContactChanged, FriendRequestChanged, entry::Event},
    graph::v1::{BlockRequest, IgnoreFriendRequestRequest, RemoveContactRequest, RequestBox, RequestState, UnblockRequest},
};
use plaza_types::limits::{DAY, REQUEST_EXPIRY, REQUESTS_PER_DAY};
use tonic::Code;
use tonic_types::StatusExt;

use crate::world::{Person, World, get_contact, refusal, requests, wait_for, why};

async fn ignore(one: &Person, other: &Person) -> Result<(), tonic::Status> {
    let request = IgnoreFriendRequestRequest { user_id: other.id.clone(), request_id: String::new() };
    one.graph.clone().ignore_friend_request(one.identity.request(request)).await.map(|_| ())
}

async fn block(one: &Person, other: &Person) {
    let request = BlockRequest { user_id: other.id.clone(), request_id: String::new() };
    one.graph.clone().block(one.identity.request(request)).await.expect("blocked");
}

async fn remove(one: &Person, other: &Person) {
    let request = RemoveContactRequest { user_id: other.id.clone(), request_id: String::new() };
    one.graph.clone().remove_contact(one.identity.request(request)).await.expect("removed");
}

#[tokio::test]
async fn asked_and_accepted() {
    let world = World::new().await;
    let (ann, bob) = (world.person(), world.person());
    let id = world.request_id();
    let sent = world.ask_with(&ann, &bob, "from the choir", &id).await.expect("asked");
    assert_eq!(
        (sent.state(), sent.request_id.as_str(), sent.note.as_str(), sent.source()),
        (RequestState::Pending, id.as_str(), "from the choir", "handle")
    );
    assert_eq!(requests(&ann, RequestBox::Sent).await, std::slice::from_ref(&sent), "one's own write is read");
    let received = world.received(&bob, &ann).await;
    assert_eq!((received.note.as_str(), received.state(), received.created), ("from the choir", RequestState::Pending, sent.created));

    let contact = world.accept(&bob, &ann).await.expect("accepted");
    assert_eq!((contact.user_id.as_str(), contact.remark.as_str(), contact.starred), (ann.id.as_str(), "", false));
    assert_eq!(get_contact(&bob, &ann).await.expect("listed"), contact);
    wait_for("Ann lists Bob", async || get_contact(&ann, &bob).await.is_ok()).await;
    assert_eq!(requests(&ann, RequestBox::Sent).await[0].state(), RequestState::Accepted);
    assert_eq!(requests(&bob, RequestBox::Received).await[0].state(), RequestState::Accepted);
    assert_eq!(why(world.ask(&ann, &bob).await), refusal(Code::AlreadyExists, "ALREADY_A_CONTACT"));
    assert_eq!(why(world.accept(&bob, &ann).await), refusal(Code::NotFound, "NOT_FOUND"));

    let told = |user: &Person| ContactChanged { user_id: user.id.clone(), listed: true };
    let came = FriendRequestChanged { user_id: ann.id.clone(), received: true, pending: true, note: "from the choir".to_owned() };
    let accepted = FriendRequestChanged { user_id: bob.id.clone(), received: false, pending: false, note: String::new() };
    assert_eq!(world.inbox(&bob).await, [Event::FriendRequest(came), Event::ContactChanged(told(&ann))]);
    assert_eq!(world.inbox(&ann).await, [Event::FriendRequest(accepted), Event::ContactChanged(told(&bob))]);
    let sides = world.sides.lock().clone();
    for person in [&ann, &bob] {
        assert!(sides.iter().any(|side| side.user == person.identity.user.to_key() && side.lists && !side.blocks));
    }
}

#[tokio::test]
async fn the_same_id_gets_the_same_answer() {
    let world = World::new().await;
    let (ann, bob, cem) = (world.person(), world.person(), world.person());
    let (asking, accepting) = (world.request_id(), world.request_id());
    let first = world.ask_with(&ann, &bob, "hi", &asking).await.expect("asked");
    assert_eq!(world.ask_with(&ann, &bob, "hi", &asking).await.expect("again"), first);
    assert_eq!(why(world.ask_with(&ann, &bob, "other", &asking).await), refusal(Code::AlreadyExists, "REQUEST_ID_REUSED"));
    world.received(&bob, &ann).await;
    let contact = world.accept_with(&bob, &ann, &accepting).await.expect("accepted");
    assert_eq!(world.accept_with(&bob, &ann, &accepting).await.expect("again"), contact);
    assert_eq!(world.ask_with(&ann, &bob, "hi", &asking).await.expect("again"), first, "friends by now, but this was the answer");
    let refused = world.request_id();
    for _ in 0..2 {
        assert_eq!(why(world.accept_with(&bob, &cem, &refused).await), refusal(Code::NotFound, "NOT_FOUND"));
        world.ask(&cem, &bob).await.expect("asked");
        world.received(&bob, &cem).await;
    }
    let request = RemoveContactRequest { user_id: ann.id.clone(), request_id: accepting };
    let reused = bob.graph.clone().remove_contact(bob.identity.request(request)).await;
    assert_eq!(why(reused), refusal(Code::AlreadyExists, "REQUEST_ID_REUSED"), "another method is other content");
    assert!(get_contact(&bob, &ann).await.is_ok());
}

#[tokio::test]
async fn asking_again_refreshes() {
    let world = World::new().await;
    let (ann, bob) = (world.person(), world.person());
    world.ask_with(&ann, &bob, "one", &world.request_id()).await.expect("asked");
    world.wait(DAY);
    let id = world.request_id();
    let again = world.ask_with(&ann, &bob, "two", &id).await.expect("again");
    assert_eq!(requests(&ann, RequestBox::Sent).await, std::slice::from_ref(&again), "it is the same request");
    wait_for("the new note arrives", async || world.received(&bob, &ann).await.note == "two").await;
    assert_eq!(requests(&bob, RequestBox::Received).await.len(), 1);
    world.ask(&ann, &bob).await.expect("third");
    let fourth = world.ask(&ann, &bob).await.expect_err("three are unanswered");
    assert_eq!(fourth.get_details_quota_failure().expect("a quota").violations[0].subject, "friend_requests_unanswered");
    assert_eq!(why(Err::<(), _>(fourth)), refusal(Code::ResourceExhausted, "QUOTA_EXCEEDED"));
}

#[tokio::test]
async fn fifty_new_ones_a_day() {
    let world = World::new().await;
    let ann = world.person();
    for _ in 0..REQUESTS_PER_DAY {
        world.ask(&ann, &world.person()).await.expect("asked");
    }
    let status = world.ask(&ann, &world.person()).await.expect_err("too many");
    assert_eq!(status.get_details_quota_failure().expect("a quota").violations[0].subject, "friend_requests_per_day");
    assert!(status.get_details_retry_info().and_then(|retry| retry.retry_delay).is_some());
    assert_eq!(requests(&ann, RequestBox::Sent).await.len(), REQUESTS_PER_DAY);
    world.wait(DAY);
    world.ask(&ann, &world.person()).await.expect("tomorrow");
}

#[tokio::test]
async fn both_asked() {
    let world = World::new().await;
    let (ann, bob) = (world.person(), world.person());
    world.ask(&ann, &bob).await.expect("asked");
    world.received(&bob, &ann).await;
    let answer = world.ask(&bob, &ann).await.expect("asked too");
    assert_eq!(answer.state(), RequestState::Accepted);
    assert!(get_contact(&bob, &ann).await.is_ok());
    wait_for("Ann lists Bob", async || get_contact(&ann, &bob).await.is_ok()).await;
    assert_eq!(requests(&bob, RequestBox::Sent).await, [answer]);

    let (cem, dee) = (world.person(), world.person());
    let (one, other) = tokio::join!(world.ask(&cem, &dee), world.ask(&dee, &cem));
    assert!(one.is_ok() && other.is_ok());
    wait_for("crossed requests make friends", async || get_contact(&cem, &dee).await.is_ok() && get_contact(&dee, &cem).await.is_ok())
        .await;
}

#[tokio::test]
async fn expires_after_ten_days() {
    let world = World::new().await;
    let (ann, bob) = (world.person(), world.person());
    world.ask(&ann, &bob).await.expect("asked");
    world.received(&bob, &ann).await;
    assert!(world.relation(&ann, &bob).await.requested && world.relation(&bob, &ann).await.requested);
    world.wait(REQUEST_EXPIRY);
    assert_eq!(why(world.accept(&bob, &ann).await), refusal(Code::NotFound, "NOT_FOUND"));
    assert_eq!(why(ignore(&bob, &ann).await), refusal(Code::NotFound, "NOT_FOUND"));
    assert_eq!(requests(&ann, RequestBox::Sent).await[0].state(), RequestState::Expired);
    assert_eq!(requests(&bob, RequestBox::Received).await[0].state(), RequestState::Expired);
    assert!(!world.relation(&ann, &bob).await.requested && !world.relation(&bob, &ann).await.requested);
    world.ask(&ann, &bob).await.expect("a new one");
    wait_for("the new one arrives", async || world.received(&bob, &ann).await.state() == RequestState::Pending).await;
    world.accept(&bob, &ann).await.expect("accepted");
}

#[tokio::test]
async fn ignoring_is_silent() {
    let world = World::new().await;
    let (ann, bob) = (world.person(), world.person());
    world.ask(&ann, &bob).await.expect("asked");
    world.received(&bob, &ann).await;
    ignore(&bob, &ann).await.expect("ignored");
    assert_eq!(requests(&bob, RequestBox::Received).await[0].state(), RequestState::Ignored);
    assert_eq!(requests(&ann, RequestBox::Sent).await[0].state(), RequestState::Pending);
    assert_eq!(why(world.accept(&bob, &ann).await), refusal(Code::NotFound, "NOT_FOUND"));
    assert_eq!(world.inbox(&ann).await, []);
    world.wait(REQUEST_EXPIRY);
    assert_eq!(requests(&ann, RequestBox::Sent).await[0].state(), RequestState::Expired);
}

#[tokio::test]
async fn blocking_is_silent() {
    let world = World::new().await;
    let (ann, bob, cem) = (world.person(), world.person(), world.person());
    block(&bob, &ann).await;
    let sent = world.ask(&ann, &bob).await.expect("it looks as if");
    assert_eq!(sent.state(), RequestState::Pending);
    // What comes to Bob after it shows that it came to nothing.
    world.ask(&ann, &cem).await.expect("asked");
    world.received(&cem, &ann).await;
    world.ask(&cem, &bob).await.expect("asked");
    world.received(&bob, &cem).await;
    assert_eq!(requests(&bob, RequestBox::Received).await.len(), 1);
    assert_eq!(why(world.accept(&bob, &ann).await), refusal(Code::NotFound, "NOT_FOUND"));
    assert_eq!(requests(&ann, RequestBox::Sent).await.len(), 2);
    assert_eq!(world.inbox(&ann).await, []);
    let request = UnblockRequest { user_id: ann.id.clone(), request_id: String::new() };
    bob.graph.clone().unblock(bob.identity.request(request)).await.expect("unblocked");
    world.ask(&ann, &bob).await.expect("again");
    world.received(&bob, &ann).await;
    world.accept(&bob, &ann).await.expect("now");
}

#[tokio::test]
async fn a_pending_request_of_the_blocked_is_gone() {
    let world = World::new().await;
    let (ann, bob) = (world.person(), world.person());
    world.ask(&ann, &bob).await.expect("asked");
    world.received(&bob, &ann).await;
    block(&bob, &ann).await;
    assert_eq!(why(world.accept(&bob, &ann).await), refusal(Code::NotFound, "NOT_FOUND"));
    assert_eq!(requests(&ann, RequestBox::Sent).await[0].state(), RequestState::Pending);
    assert_eq!(world.inbox(&ann).await, []);
}

#[tokio::test]
async fn removal_is_one_sided_and_asking_undoes_it() {
    let world = World::new().await;
    let (ann, bob) = (world.person(), world.person());
    world.befriend(&ann, &bob).await;
    let before = world.inbox(&bob).await;
    remove(&ann, &bob).await;
    assert_eq!(why(get_contact(&ann, &bob).await), refusal(Code::NotFound, "NOT_FOUND"));
    assert!(get_contact(&bob, &ann).await.is_ok());
    assert_eq!(world.inbox(&bob).await, before, "nobody told Bob");
    let relation = world.relation(&ann, &bob).await;
    assert!(!relation.lists && relation.listed_by);

    world.set_findable(&bob, false);
    world.ask(&ann, &bob).await.expect("Bob lists her, so she may ask");
    wait_for("Ann lists Bob again", async || get_contact(&ann, &bob).await.is_ok()).await;
    assert_eq!(world.inbox(&bob).await, before, "Bob was not asked");
    assert_eq!(requests(&ann, RequestBox::Sent).await[0].state(), RequestState::Accepted);

    remove(&bob, &ann).await;
    world.set_findable(&bob, true);
    assert_eq!(world.ask(&ann, &bob).await.expect("asked").state(), RequestState::Pending, "Bob must want it again");
    wait_for("the request arrives", async || world.received(&bob, &ann).await.state() == RequestState::Pending).await;
    world.accept(&bob, &ann).await.expect("accepted");
    assert!(get_contact(&bob, &ann).await.is_ok());
}

#[tokio::test]
async fn unknown_and_hidden_look_the_same() {
    let world = World::new().await;
    let (ann, hidden, unknown) = (world.person(), world.person(), world.stranger());
    world.set_findable(&hidden, false);
    let answers = [world.ask(&ann, &hidden).await, world.ask(&ann, &unknown).await].map(|answer| answer.expect_err("not found"));
    assert_eq!(
        (answers[0].code(), answers[0].message(), answers[0].details()),
        (answers[1].code(), answers[1].message(), answers[1].details())
    );
    assert_eq!(answers[0].code(), Code::NotFound);
    for nobody in [&hidden, &unknown] {
        let request = BlockRequest { user_id: nobody.id.clone(), request_id: String::new() };
        assert_eq!(why(ann.graph.clone().block(ann.identity.request(request)).await), refusal(Code::NotFound, "NOT_FOUND"));
    }
    assert_eq!(requests(&ann, RequestBox::Sent).await, []);
    world.ask(&hidden, &ann).await.expect("who hides may ask");
    world.received(&ann, &hidden).await;
    assert_eq!(world.ask(&ann, &hidden).await.expect("and be answered").state(), RequestState::Accepted);
}
