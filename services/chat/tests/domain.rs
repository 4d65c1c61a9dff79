//! The two machines together against a model: dense numbers, exact unread counts, a read position that never goes back.

#[path = "domain/groups.rs"]
mod groups;
#[path = "domain/histories.rs"]
mod histories;
#[path = "domain/world.rs"]
mod world;

use bytes::Bytes;
use plaza_chat::domain::inbox::{Announcement, Inboxes, Irregular, Reference};
use plaza_processor::Outcome;
use plaza_proto::chat::v1::{Quote, entry};
use plaza_topics::{conversation as chat, inbox as topic};
use plaza_types::{ConversationId, Reason, UserId};
use proptest::prelude::*;
use prost::Message as _;

use self::world::{World, accepted, event, side, text, user};

#[test]
fn opens_once_when_both_list_each_other_and_answers_after_the_rows() {
    let (a, b) = (user(1), user(2));
    let conversation = ConversationId::direct(a, b);
    let mut world = World::default();
    assert_eq!(world.send(a, conversation, text("x")), Err(Reason::NotFound));
    world.sides(vec![side(a, b, 1, true, false)]);
    assert_eq!(world.send(a, conversation, text("x")), Err(Reason::NotFound), "one side alone opens nothing");
    assert!(world.entries.is_empty());

    assert_eq!(world.befriend(a, b, 2), Some(Outcome::accepted("open")));
    for (user, peer) in [(a, b), (b, a)] {
        assert_eq!(world.memberships[&(user, conversation)].peer, peer.to_key());
        let Reference::Event(bytes) = &world.entries[&user][0] else { panic!("an event") };
        let entry::Event::MembershipChanged(changed) = event(bytes) else { panic!("a membership") };
        assert_eq!(changed.joined.len(), 2);
    }
    assert_eq!(world.befriend(a, b, 3), Some(Outcome::accepted("open")), "answered by the conversation when it is open already");
    assert_eq!(world.entries[&a].len(), 1, "opened once");
    assert_eq!(world.send(a, conversation, text("x")), Ok(1));
}

#[test]
fn sides_converge_whatever_order_they_come_in() {
    let (a, b) = (user(1), user(2));
    let conversation = ConversationId::direct(a, b);
    let sides = [
        side(a, b, 1, true, false),
        side(b, a, 1, true, false),
        side(b, a, 2, true, true),
        side(b, a, 3, false, true),
        side(a, b, 2, true, false),
    ];
    for rotation in 0..sides.len() {
        let mut world = World::default();
        world.befriend(a, b, 1);
        for at in 0..sides.len() {
            world.sides(vec![sides[(at + rotation) % sides.len()].clone()]);
        }
        assert_eq!(world.send(a, conversation, text("x")), Err(Reason::NotAContact));
        assert_eq!(world.send(b, conversation, text("x")), Err(Reason::NotAContact));
        world.sides(vec![side(b, a, 4, true, false)]);
        assert_eq!(world.send(b, conversation, text("x")), Ok(1));
    }
}

#[test]
fn records_of_other_pairs_change_nothing() {
    let (a, b, c) = (user(1), user(2), user(3));
    let conversation = ConversationId::direct(a, b);
    let mut world = World::default();
    let foreign = chat::Sides { sides: vec![side(a, c, 9, true, false), side(c, a, 9, true, false)], ..chat::Sides::default() };
    world.chat(None, conversation, chat::Kind::Sides(foreign));
    assert_eq!(world.send(a, conversation, text("x")), Err(Reason::NotFound));
    world.befriend(a, b, 1);
    assert_eq!(world.send(c, conversation, text("x")), Err(Reason::NotFound), "not a member: as if it did not exist");
    assert_eq!(world.mark_read(c, conversation, 1), Err(Reason::NotFound));
    assert_eq!(
        world.update(c, topic::Update { conversation: conversation.to_key(), pinned: Some(true), ..topic::Update::default() }),
        Err(Reason::NotFound)
    );
    assert!(!world.entries.contains_key(&c));
}

#[test]
fn quotes_and_mentions_must_exist() {
    let (a, b) = (user(1), user(2));
    let conversation = ConversationId::direct(a, b);
    let mut world = World::default();
    world.befriend(a, b, 1);
    let quoting = |quoted| chat::Send { quoted, quote: Quote { sequence: quoted }.encode_to_vec().into(), ..text("q") };
    assert_eq!(world.send(a, conversation, quoting(1)), Err(Reason::InvalidArgument));
    assert_eq!(world.send(a, conversation, text("x")), Ok(1));
    assert_eq!(world.send(b, conversation, quoting(2)), Err(Reason::InvalidArgument), "not itself");
    assert_eq!(world.send(b, conversation, quoting(1)), Ok(2));
    let calling = |who: UserId| chat::Send { mentions: vec![who.to_key()], ..text("@") };
    assert_eq!(world.send(a, conversation, calling(user(3))), Err(Reason::InvalidArgument));
    assert_eq!(world.send(a, conversation, calling(b)), Ok(3));
    assert!(world.readings[&(b, conversation)].mentioned());
    assert!(!world.readings[&(a, conversation)].mentioned());
    world.mark_read(b, conversation, 3).expect("read");
    assert!(!world.readings[&(b, conversation)].mentioned());
}

#[test]
fn every_recipient_is_told_the_same_bytes_that_are_stored() {
    let (a, b) = (user(1), user(2));
    let conversation = ConversationId::direct(a, b);
    let mut world = World::default();
    world.befriend(a, b, 1);
    world.announced.clear();
    world.send(a, conversation, text("hello")).expect("sent");
    let stored = world.events[&(conversation, 1)].clone();
    let told = world.announced.iter().map(|told| match told {
        Announcement::Entry { user, event, cursor: 2, message } if *event == stored && *message == Some((conversation, 1)) => *user,
        other => panic!("{other:?}"),
    });
    let mut told = told.collect::<Vec<_>>();
    told.sort_unstable();
    assert_eq!(told, [a, b]);
}

#[test]
fn an_owner_repeats_how_far_an_inbox_goes_and_what_was_taken_back() {
    let (a, b) = (user(1), user(2));
    let conversation = ConversationId::direct(a, b);
    let mut world = World::default();
    world.befriend(a, b, 1);
    world.send(a, conversation, text("hello")).expect("sent");
    world.emitted.clear();
    let client = Bytes::from_static(&[7; 16]);
    let recall = chat::Recall { sequence: 1, sender: a.to_key(), client, sent_at: world.time_of(1) };
    accepted(world.chat(Some(a), conversation, chat::Kind::Recall(recall))).expect("taken back");
    let told: Vec<_> = world.emitted.iter().flat_map(|payload| world.inboxes.repeat(&Inboxes, payload)).collect();
    for user in [a, b] {
        assert!(told.contains(&Announcement::Head { user, cursor: 3 }), "{told:?}");
    }
    assert!(told.iter().any(|told| matches!(told, Announcement::Recalled { sequence: 1, .. })), "{told:?}");
}

#[test]
fn a_direct_message_costs_nothing_for_groups() {
    let (a, b) = (user(1), user(2));
    let conversation = ConversationId::direct(a, b);
    let mut world = World::default();
    world.befriend(a, b, 1);
    world.send(a, conversation, text("hello")).expect("sent");
    (world.fanned_out, world.written) = ((0, 0), 0);
    world.emitted.clear();
    world.send(b, conversation, text("hello")).expect("sent");
    assert_eq!(world.written, 3, "the message, the sender's newest, the head");
    assert!(world.fanned_out.0 <= 2 && world.fanned_out.0 == world.emitted.len(), "one record for each inbox partition");
    for payload in &world.emitted {
        let Some(topic::Kind::Message(message)) = &payload.kind else { panic!("{payload:?}") };
        let plain = topic::Message {
            conversation: message.conversation.clone(),
            sequence: 2,
            sender: b.to_key(),
            recipients: message.recipients.clone(),
            event: message.event.clone(),
            ..topic::Message::default()
        };
        assert_eq!(*message, plain);
    }
}

#[test]
fn a_repeated_message_is_dropped_and_a_gap_is_reported() {
    let (a, b) = (user(1), user(2));
    let conversation = ConversationId::direct(a, b);
    let mut world = World::default();
    world.befriend(a, b, 1);
    let message = |sequence| {
        let message = topic::Message {
            conversation: conversation.to_key(),
            sequence,
            sender: a.to_key(),
            recipients: vec![b.to_key()],
            ..topic::Message::default()
        };
        Bytes::from(topic::Payload { kind: Some(topic::Kind::Message(message)) }.encode_to_vec())
    };
    world.announced.clear();
    for sequence in [1, 2, 2, 1, 5, 6] {
        world.inbox(None, message(sequence), None);
    }
    let irregular = world.announced.iter().filter_map(|told| match told {
        Announcement::Irregular(irregular) => Some(*irregular),
        Announcement::Entry { .. } | Announcement::Recalled { .. } | Announcement::Head { .. } => None,
    });
    assert_eq!(irregular.collect::<Vec<_>>(), [Irregular::Repeated, Irregular::Repeated, Irregular::Gap]);
    assert_eq!(world.entries[&b].len(), 1 + 4);
}

#[test]
fn settings_follow_the_mask_and_the_next_message_shows_a_hidden_conversation() {
    let (a, b) = (user(1), user(2));
    let conversation = ConversationId::direct(a, b);
    let mut world = World::default();
    world.befriend(a, b, 1);
    world.send(a, conversation, text("x")).expect("sent");
    let update = |update: topic::Update| topic::Update { conversation: conversation.to_key(), head: 1, ..update };
    world.update(b, update(topic::Update { hidden: Some(true), pinned: Some(true), ..topic::Update::default() })).expect("updated");
    let entries = world.entries[&b].len();
    world.update(b, update(topic::Update { pinned: Some(true), ..topic::Update::default() })).expect("updated");
    assert_eq!(world.entries[&b].len(), entries, "nothing changed, nothing told");
    world.update(b, update(topic::Update { draft: Some("d".into()), ..topic::Update::default() })).expect("updated");
    let membership = world.memberships[&(b, conversation)].clone();
    assert!(membership.pinned && !membership.muted && membership.draft == "d");
    assert!(membership.hidden(1));
    world.send(a, conversation, text("y")).expect("sent");
    assert!(!world.memberships[&(b, conversation)].hidden(2));
    assert!(!world.memberships[&(a, conversation)].pinned, "nobody else's");
    let Some(Reference::Event(last)) = world.entries[&b].iter().rev().find(|entry| matches!(entry, Reference::Event(_))) else {
        panic!("an event")
    };
    assert!(matches!(event(last), entry::Event::ConversationChanged(changed) if changed.draft == "d" && changed.hidden));
}

#[test]
fn the_memory_of_own_messages_is_bounded_and_still_exact() {
    let (a, b) = (user(1), user(2));
    let conversation = ConversationId::direct(a, b);
    let mut world = World::default();
    world.befriend(a, b, 1);
    let mut senders = Vec::new();
    for n in 0..1300 {
        let from = if n % 2 == 0 { a } else { b };
        senders.push(from);
        world.send(from, conversation, text("x")).expect("sent");
    }
    for user in [a, b] {
        let reading = &world.readings[&(user, conversation)];
        assert!(reading.read > 0 && reading.runs.len() <= 512, "{}", reading.runs.len());
        assert_eq!(reading.unread(1300), recount(&senders, user, reading.read));
        let told = world.entries[&user].iter().filter_map(|entry| match entry {
            Reference::Event(bytes) => match event(bytes) {
                entry::Event::ReadChanged(changed) => Some(changed.read),
                _ => None,
            },
            Reference::Message { .. } => None,
        });
        assert_eq!(told.last(), Some(reading.read), "the devices know");
    }
}

fn recount(senders: &[UserId], user: UserId, read: u64) -> u64 {
    senders.iter().skip(usize::try_from(read).expect("small")).filter(|sender| **sender != user).count() as u64
}

#[derive(Debug, Clone)]
enum Step {
    Send(bool),
    Read(bool, u64),
    Block(bool, bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => any::<bool>().prop_map(Step::Send),
        3 => (any::<bool>(), 0..60u64).prop_map(|(who, at)| Step::Read(who, at)),
        1 => (any::<bool>(), any::<bool>()).prop_map(|(who, blocks)| Step::Block(who, blocks)),
    ]
}

proptest! {
    #[test]
    fn any_history_keeps_numbers_dense_and_counts_exact(steps in prop::collection::vec(step(), 1..80)) {
        let users = [user(1), user(2)];
        let conversation = ConversationId::direct(users[0], users[1]);
        let mut world = World::default();
        world.befriend(users[0], users[1], 1);
        let mut senders: Vec<UserId> = Vec::new();
        let mut blocks = [false; 2];
        let mut read = [0u64; 2];
        for (version, step) in (2u64..).zip(steps) {
            match step {
                Step::Send(who) => {
                    let from = users[usize::from(who)];
                    let sent = world.send(from, conversation, text("x"));
                    if blocks.contains(&true) {
                        prop_assert_eq!(sent, Err(Reason::NotAContact));
                    } else {
                        senders.push(from);
                        prop_assert_eq!(sent, Ok(senders.len() as u64));
                    }
                }
                Step::Read(who, at) => {
                    let at = at.min(senders.len() as u64);
                    let who = usize::from(who);
                    read[who] = read[who].max(at);
                    prop_assert_eq!(world.mark_read(users[who], conversation, at), Ok(read[who]));
                }
                Step::Block(who, blocked) => {
                    let who = usize::from(who);
                    blocks[who] = blocked;
                    world.sides(vec![side(users[who], users[1 - who], version, true, blocked)]);
                }
            }
            for (who, user) in users.into_iter().enumerate() {
                let reading = world.readings[&(user, conversation)].clone();
                prop_assert_eq!(reading.read, read[who]);
                prop_assert_eq!(reading.unread(senders.len() as u64), recount(&senders, user, read[who]));
            }
        }
        for user in users {
            let messages = world.entries[&user].iter().filter(|entry| matches!(entry, Reference::Message { .. }));
            let sequences: Vec<u64> = messages.map(|entry| match entry { Reference::Message { sequence, .. } => *sequence, Reference::Event(_) => 0 }).collect();
            prop_assert_eq!(sequences, (1..=senders.len() as u64).collect::<Vec<_>>());
        }
    }
}
