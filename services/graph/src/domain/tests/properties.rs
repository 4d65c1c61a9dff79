//! Invariant 6: friendships, one-sided removals and blocks converge, whatever the order in which the two sides hear of each other.

use std::collections::{BTreeMap, BTreeSet};

use plaza_types::{UserId, limits::DAY};
use proptest::prelude::*;

use super::{
    model::Model,
    world::{Act, RowKey, World, reason, user},
};
use crate::domain::{Folder, Row, Status, row::is_open};

#[derive(Debug, Clone)]
enum Step {
    Do(Act, usize, usize),
    Days(u64),
    Deliver(usize),
}

fn acts(all: &'static [Act]) -> impl Strategy<Value = Step> {
    (prop::sample::select(all), 0..4usize, 0..4usize).prop_map(|(act, one, other)| Step::Do(act, one, other))
}

const ALL: [Act; 8] = [Act::Ask, Act::Ask, Act::Accept, Act::Accept, Act::Ignore, Act::Remove, Act::Block, Act::Unblock];
const KIND: [Act; 4] = [Act::Ask, Act::Ask, Act::Accept, Act::Ignore];

fn everybody() -> impl Iterator<Item = (UserId, UserId)> {
    (0..4).flat_map(|one| (0..4).filter(move |other| *other != one).map(move |other| (user(one), user(other))))
}

/// After quiet: rows, states and what the conversations were told say the same.
fn assert_agreement(world: &World) -> Result<(), TestCaseError> {
    let mut told: BTreeMap<_, _> = BTreeMap::new();
    for side in world.sides.iter().rev() {
        let newest = told.entry((side.user.clone(), side.other.clone())).or_insert(side);
        if side.version > newest.version {
            *newest = side;
        } else if side.version == newest.version {
            prop_assert_eq!(side, *newest, "one version says one thing");
        }
    }
    for (one, other) in everybody() {
        let state = world.state(one);
        let (lists, blocks) = (state.lists(other), state.blocks(other));
        let side = told.get(&(one.to_key(), other.to_key()));
        prop_assert_eq!(side.map(|side| (side.lists, side.blocks)).unwrap_or_default(), (lists, blocks), "conversation");
        let contact = world.rows.get(&RowKey::Contact(one, other));
        prop_assert_eq!(matches!(contact, Some(Row::Contact(row)) if row.listed), lists, "contact row");
        if lists {
            prop_assert_eq!(contact.cloned(), state.contact(one, other).map(Row::Contact));
        }
        let blocked = world.rows.get(&RowKey::Blocked(one, other));
        prop_assert_eq!(matches!(blocked, Some(Row::Blocked(row)) if row.blocked), blocks, "blocked row");
        for (folder, time) in
            [(Folder::Sent, state.sent.get(&other).map(|sent| sent.time)), (Folder::Received, state.received.get(&other).copied())]
        {
            let open = |time: &u64| is_open(*time, world.now);
            let row = match world.rows.get(&RowKey::Status(one, folder, other)) {
                Some(Row::RequestStatus(row)) => {
                    prop_assert!(world.rows.contains_key(&RowKey::Request(one, folder, row.time, other)), "a status is of a request");
                    Some(row.time).filter(|_| row.status == Status::Pending)
                }
                _ => None,
            };
            prop_assert_eq!(row.filter(open), time.filter(open), "request rows");
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// One thing at a time, the machines and the model agree on every answer and every edge.
    #[test]
    fn follows_the_model(steps in prop::collection::vec(prop_oneof![8 => acts(&ALL), 1 => prop::sample::select(&[1u64, 5, 11][..]).prop_map(Step::Days)], 1..60)) {
        let (mut world, mut model) = (World::new(), Model::default());
        for step in steps {
            match step {
                Step::Days(days) => world.now += days * DAY,
                Step::Deliver(_) => {}
                Step::Do(act, one, other) => {
                    let call = world.act(act, user(one), user(other));
                    let expected = model.act(act, user(one), user(other), world.now);
                    world.quiet();
                    prop_assert_eq!(reason(world.answer(call)), expected, "{:?}", (act, one, other));
                }
            }
            let lists: BTreeSet<_> = everybody().filter(|(one, other)| world.lists(*one, *other)).collect();
            let blocks: BTreeSet<_> = everybody().filter(|(one, other)| world.state(*one).blocks(*other)).collect();
            prop_assert_eq!(&lists, &model.lists);
            prop_assert_eq!(&blocks, &model.blocks);
            for (one, other) in everybody() {
                let state = world.state(one);
                let open = |time: &u64| is_open(*time, world.now);
                prop_assert_eq!(state.sent.get(&other).map(|sent| sent.time).filter(open), model.sent.get(&(one, other)).copied().filter(open), "sent");
                prop_assert_eq!(state.received.get(&other).copied().filter(open), model.received.get(&(one, other)).copied().filter(open), "received");
            }
        }
        assert_agreement(&world)?;
    }

    /// In any interleaving: every call is answered once, everything agrees after quiet, nobody is listed without having wanted it, and a
    /// friendship is one-sided only by a removal or a block.
    #[test]
    fn converges(steps in prop::collection::vec(prop_oneof![6 => acts(&ALL), 6 => any::<usize>().prop_map(Step::Deliver), 1 => prop::sample::select(&[1u64, 5, 11][..]).prop_map(Step::Days)], 1..120)) {
        let mut world = World::new();
        let mut calls = Vec::new();
        let (mut wanted, mut broken) = (BTreeSet::new(), BTreeSet::new());
        for step in steps {
            match step {
                Step::Days(days) => world.now += days * DAY,
                Step::Deliver(choice) => { world.deliver(choice); }
                Step::Do(act, one, other) => {
                    let pair = (user(one), user(other));
                    match act {
                        Act::Ask | Act::Accept => { wanted.insert(pair); }
                        Act::Remove if world.lists(pair.0, pair.1) => { broken.insert(pair); wanted.remove(&pair); }
                        Act::Block => { broken.insert(pair); }
                        _ => {}
                    }
                    calls.push(world.act(act, pair.0, pair.1));
                }
            }
        }
        world.quiet();
        for call in calls {
            world.answer(call);
        }
        assert_agreement(&world)?;
        for (one, other) in everybody().filter(|(one, other)| world.lists(*one, *other)) {
            prop_assert!(wanted.contains(&(one, other)), "{one} lists {other} unwanted");
            prop_assert!(world.lists(other, one) || broken.contains(&(other, one)), "{other} does not list {one}");
        }
    }

    /// Where nobody removes or blocks and no request expires, two who asked each other are friends.
    #[test]
    fn both_asked_are_friends(steps in prop::collection::vec(prop_oneof![acts(&KIND), any::<usize>().prop_map(Step::Deliver)], 1..80)) {
        let mut world = World::new();
        let mut asked = BTreeSet::new();
        for step in steps {
            match step {
                Step::Do(act, one, other) => {
                    world.act(act, user(one), user(other));
                    if act == Act::Ask { asked.insert((user(one), user(other))); }
                }
                Step::Deliver(choice) => { world.deliver(choice); }
                Step::Days(_) => {}
            }
        }
        world.quiet();
        assert_agreement(&world)?;
        for (one, other) in everybody() {
            prop_assert_eq!(world.lists(one, other), world.lists(other, one));
            if asked.contains(&(one, other)) && asked.contains(&(other, one)) {
                prop_assert!(world.lists(one, other));
            }
        }
    }
}
