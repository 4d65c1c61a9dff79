//! Posts of a day: so many are made, whatever is deleted, and no more. Histories of one author against a count by day.

use std::collections::BTreeMap;

use bytes::Bytes;
use plaza_processor::{Effects, Envelope, Input, Machine, Position, StateRow, outcome::Kind as Decided};
use plaza_topics::moments::{Backfill, Create, Kind, OnPost, Payload};
use plaza_types::{
    ClientId, Reason, UserId,
    limits::{DAY, POSTS_PER_DAY},
};
use proptest::prelude::*;
use prost::Message as _;

use crate::domain::posts::{OfAuthor, Posts, Recent, State};

const BEGIN: u64 = 20_000 * DAY;
const NOW: u32 = *crate::domain::RULES.end();

#[derive(Debug, Clone, Copy)]
enum Step {
    Post,
    Delete(usize),
    Backfill,
    Wait(u64),
}

struct World {
    state: State,
    now: u64,
    calls: u64,
    living: Vec<Bytes>,
}

impl World {
    fn new() -> Self {
        Self { state: State::New, now: BEGIN, calls: 0, living: Vec::new() }
    }

    /// Decides one record by these rules, and forgets what is not stored. Tells whether it changed the state, and what followed.
    fn apply(&mut self, rules: u32, kind: Kind) -> (bool, Effects<Posts>) {
        self.now += 1;
        self.calls += 1;
        let author = UserId::from_bytes([1; 16]).to_key();
        let caller = if matches!(kind, Kind::Backfill(_)) { Bytes::new() } else { author.clone() };
        let envelope = Envelope { rules, caller, request: self.request(), ..Envelope::default() };
        let payload = Payload { kind: Some(kind) };
        let keys = Posts.keys(&author, &envelope, &payload);
        let key = keys.iter().find(|key| key.0 == author).expect("the author");
        let input = Input { envelope: &envelope, payload: &payload, position: Position::default(), time: self.now };
        let (before, mut effects) = (self.state.clone(), Effects::default());
        Posts.apply(input, 0, key, &mut self.state, &mut effects);
        let (_, cold) = Posts.encode(&before, true);
        let (hot, touched) = Posts.encode(&self.state, effects.cold());
        let row = StateRow { hot, cold: touched.or(cold).unwrap_or_default(), ..StateRow::default() };
        self.state = Posts.decode(&row).expect("a state");
        (self.state != before, effects)
    }

    fn request(&self) -> Bytes {
        Bytes::copy_from_slice(ClientId::new(BEGIN + self.calls * 1_000, [1; 10]).as_bytes())
    }

    /// Makes a post by these rules; if it is refused, it says when to come again.
    fn post(&mut self, rules: u32) -> Result<(), u64> {
        let (changed, effects) = self.apply(rules, Kind::Create(Create::default()));
        match effects.outcome().and_then(|outcome| outcome.kind.clone()).expect("an answer") {
            Decided::Accepted(_) => {
                assert!(changed && !effects.rows().is_empty());
                self.living.push(self.request());
                Ok(())
            }
            Decided::Refused(refusal) => {
                assert_eq!((Reason::from_number(refusal.reason), refusal.subject.as_str()), (Some(Reason::QuotaExceeded), "posts"));
                assert!(!changed && effects.rows().is_empty() && effects.emissions().is_empty() && !effects.cold());
                Err(refusal.retry_after)
            }
        }
    }

    fn delete(&mut self, which: usize) {
        if !self.living.is_empty() {
            let post = self.living.swap_remove(which % self.living.len());
            self.apply(NOW, Kind::Delete(OnPost { post }));
        }
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        30 => Just(Step::Post),
        5 => any::<usize>().prop_map(Step::Delete),
        1 => Just(Step::Backfill),
        1 => (1..DAY / 2).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..400)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_post_is_made_if_and_only_if_the_day_has_room(steps in steps()) {
        let (mut world, mut made) = (World::new(), BTreeMap::<u64, usize>::new());
        for step in steps {
            match step {
                Step::Post => {
                    let answer = world.post(NOW);
                    let today = made.entry(world.now / DAY).or_default();
                    if *today < POSTS_PER_DAY {
                        prop_assert_eq!(answer, Ok(()));
                        *today += 1;
                    } else {
                        prop_assert_eq!(answer, Err(DAY - world.now % DAY));
                    }
                }
                Step::Delete(which) => world.delete(which),
                Step::Backfill => _ = world.apply(NOW, Kind::Backfill(Backfill { viewer: UserId::from_bytes([2; 16]).to_key() })),
                Step::Wait(time) => world.now += time,
            }
        }
    }
}

#[test]
fn whoever_comes_when_told_to_is_let_in() {
    let mut world = World::new();
    world.now += DAY / 3;
    assert!((0..POSTS_PER_DAY).all(|_| world.post(NOW).is_ok()));
    while !world.living.is_empty() {
        world.delete(0);
    }
    let wait = world.post(NOW).expect_err("no room for those that are deleted");
    // Each record takes a microsecond.
    world.now += wait - 2;
    assert_eq!(world.post(NOW), Err(1), "the last moment of the day");
    assert_eq!(world.post(NOW), Ok(()));
}

#[test]
fn rules_before_the_limit_refuse_nothing_and_are_counted() {
    let mut world = World::new();
    assert!((0..POSTS_PER_DAY * 2).all(|_| world.post(1).is_ok()));
    assert!(world.post(NOW).is_err());
    assert_eq!(world.post(1), Ok(()), "decided as it was");
}

#[test]
fn a_state_from_before_the_limit_has_nothing_counted() {
    // As they were written then: that it is an author's, and the newest posts.
    let recent = Recent { created: BEGIN, high: 1, low: 2 };
    let cold = [&[0x0a, 27][..], &recent.encode_to_vec()].concat();
    let row = StateRow { hot: Bytes::from_static(&[0x08, 1]), cold: cold.into(), ..StateRow::default() };
    let state = Posts.decode(&row).expect("a state");
    assert_eq!(state, State::Author(OfAuthor { recent: vec![recent], day: 0, made: 0 }));
    let mut world = World { state, ..World::new() };
    assert!((0..POSTS_PER_DAY).all(|_| world.post(NOW).is_ok()));
    assert!(world.post(NOW).is_err());
}
