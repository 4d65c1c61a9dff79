//! The limits, each at its edge, and what stays silent.

use plaza_processor::outcome;
use plaza_proto::graph::v1::{RequestState, SendFriendRequestResponse};
use plaza_topics::graph::{Kind, Update};
use plaza_types::{
    Reason, UserId,
    limits::{CONTACTS, DAY, REQUEST_EXPIRY, REQUESTS_PENDING, REQUESTS_PER_DAY, TAGS},
};
use prost::Message;

use super::world::{Act, World, reason, user};
use crate::domain::{Edge, RECEIVED, Sent};

fn stranger(number: usize) -> UserId {
    UserId::from_bytes((number as u128 + (1 << 64)).to_be_bytes())
}

fn refused(world: &World, call: u64) -> Option<(Reason, String)> {
    let outcome = world.answer(call);
    match &outcome.kind {
        Some(outcome::Kind::Refused(refusal)) => reason(outcome).map(|reason| (reason, refusal.subject.clone())),
        _ => None,
    }
}

fn quota(subject: &str) -> Option<(Reason, String)> {
    Some((Reason::QuotaExceeded, subject.to_owned()))
}

fn request_state(world: &World, call: u64) -> RequestState {
    let Some(outcome::Kind::Accepted(answer)) = world.answer(call).kind.clone() else { panic!("refused") };
    SendFriendRequestResponse::decode(answer).expect("an answer").request.expect("a request").state()
}

#[test]
fn fifty_new_requests_a_day() {
    let (mut world, asker) = (World::new(), user(0));
    for number in 0..REQUESTS_PER_DAY {
        let call = world.act(Act::Ask, asker, stranger(number));
        assert_eq!(refused(&world, call), None);
    }
    let call = world.act(Act::Ask, asker, stranger(REQUESTS_PER_DAY));
    assert_eq!(refused(&world, call), quota("friend_requests_per_day"));
    let refresh = world.act(Act::Ask, asker, stranger(0));
    assert_eq!(refused(&world, refresh), None, "asking again is not new");
    world.now += DAY;
    let tomorrow = world.act(Act::Ask, asker, stranger(REQUESTS_PER_DAY));
    assert_eq!(refused(&world, tomorrow), None);
}

#[test]
fn five_hundred_pending() {
    let (mut world, asker) = (World::new(), user(0));
    let mut state = world.state(asker);
    state.sent = (0..REQUESTS_PENDING).map(|number| (stranger(number), Sent { time: world.now, unanswered: 1 })).collect();
    world.states.insert(asker, state);
    let call = world.act(Act::Ask, asker, user(1));
    assert_eq!(refused(&world, call), quota("friend_requests_pending"));
    world.now += REQUEST_EXPIRY;
    let later = world.act(Act::Ask, asker, user(1));
    assert_eq!(refused(&world, later), None, "expired ones do not count");
}

#[test]
fn three_unanswered_to_one_person() {
    let (mut world, asker, asked) = (World::new(), user(0), user(1));
    for _ in 0..3 {
        let call = world.act(Act::Ask, asker, asked);
        assert_eq!(request_state(&world, call), RequestState::Pending);
        world.quiet();
    }
    world.now += REQUEST_EXPIRY;
    let call = world.act(Act::Ask, asker, asked);
    assert_eq!(refused(&world, call), quota("friend_requests_unanswered"), "expiry is no answer");
    world.act(Act::Ask, asked, asker);
    world.quiet();
    let answers = world.act(Act::Ask, asker, asked);
    world.quiet();
    assert_eq!(request_state(&world, answers), RequestState::Accepted, "answering the other's is always possible");
    assert!(world.lists(asker, asked) && world.lists(asked, asker));
}

#[test]
fn expires_after_ten_days() {
    let (mut world, asker, asked) = (World::new(), user(0), user(1));
    world.act(Act::Ask, asker, asked);
    let sent = world.now;
    world.quiet();
    world.now = sent + REQUEST_EXPIRY - 1;
    let late = world.act(Act::Accept, asked, asker);
    assert_eq!(refused(&world, late), Some((Reason::NotFound, "friend_request".to_owned())));
    assert!(world.states.values().all(|state| state.contacts() == 0));
    world.now = sent + REQUEST_EXPIRY - 2;
    let early = world.act(Act::Accept, asked, asker);
    world.quiet();
    assert_eq!(refused(&world, early), None, "the last moment counts");
    assert!(world.lists(asker, asked) && world.lists(asked, asker));
}

#[test]
fn a_full_list_refuses_and_still_answers() {
    let (mut world, asker, asked) = (World::new(), user(0), user(1));
    let mut full = world.state(asker);
    full.edges = (0..CONTACTS).map(|number| (stranger(number), Edge { listed: true, ..Edge::default() })).collect();
    world.states.insert(asked, full.clone());
    world.act(Act::Ask, asker, asked);
    world.quiet();
    let call = world.act(Act::Accept, asked, asker);
    assert_eq!(refused(&world, call), quota("contacts"));
    let call = world.act(Act::Ask, asked, user(2));
    assert_eq!(refused(&world, call), quota("contacts"));

    full.sent = world.state(asker).sent;
    world.states.insert(asker, full);
    let mut room = world.state(asked);
    room.edges.clear();
    world.states.insert(asked, room);
    let call = world.act(Act::Accept, asked, asker);
    world.quiet();
    assert_eq!(refused(&world, call), None, "the asker became full meanwhile: answered all the same");
    assert!(world.lists(asked, asker) && !world.lists(asker, asked));
}

#[test]
fn a_block_meanwhile_still_answers() {
    let (mut world, asker, asked) = (World::new(), user(0), user(1));
    world.act(Act::Ask, asker, asked);
    world.quiet();
    let call = world.act(Act::Accept, asked, asker);
    world.act(Act::Block, asker, asked);
    world.quiet();
    assert_eq!(refused(&world, call), None);
    assert!(world.lists(asked, asker) && !world.lists(asker, asked));
}

#[test]
fn two_hundred_different_tags() {
    let (mut world, owner) = (World::new(), user(0));
    let mut state = world.state(owner);
    state.edges = (0..=TAGS / 20).map(|number| (stranger(number), Edge { listed: true, ..Edge::default() })).collect();
    world.states.insert(owner, state);
    let tags =
        |from: usize| Update { set_tags: true, tags: (from..from + 20).map(|tag| format!("tag {tag}")).collect(), ..Update::default() };
    for contact in 0..TAGS / 20 {
        let call = world.command(Kind::Update(tags(contact * 20)), owner, stranger(contact));
        assert_eq!(refused(&world, call), None);
    }
    let call = world.command(Kind::Update(tags(TAGS)), owner, stranger(TAGS / 20));
    assert_eq!(refused(&world, call), quota("tags"));
    let known = world.command(Kind::Update(tags(40)), owner, stranger(TAGS / 20));
    assert_eq!(refused(&world, known), None, "tags in use are not new");
    world.act(Act::Remove, owner, stranger(0));
    let call = world.command(Kind::Update(tags(TAGS)), owner, stranger(TAGS / 20));
    assert_eq!(refused(&world, call), None, "tags nobody has are forgotten");
    let contact = world.state(owner).contact(owner, stranger(TAGS / 20)).expect("a contact");
    assert_eq!(contact.tags, tags(TAGS).tags);
}

#[test]
fn a_flooded_receiver_drops_silently() {
    let (mut world, asked) = (World::new(), user(0));
    let mut state = world.state(asked);
    state.received = (0..RECEIVED).map(|number| (stranger(number), world.now)).collect();
    world.states.insert(asked, state);
    let call = world.act(Act::Ask, user(1), asked);
    world.quiet();
    assert_eq!(request_state(&world, call), RequestState::Pending);
    assert_eq!(world.state(asked).received.len(), RECEIVED);
}

#[test]
fn a_removal_takes_back_what_was_asked() {
    let (mut world, one, other) = (World::new(), user(0), user(1));
    world.act(Act::Ask, one, other);
    world.quiet();
    world.act(Act::Ask, other, one);
    let again = world.act(Act::Ask, other, one);
    assert_eq!(request_state(&world, again), RequestState::Pending, "the first answer is still under way");
    world.act(Act::Remove, other, one);
    world.quiet();
    assert!(world.lists(one, other) && !world.lists(other, one));
}
