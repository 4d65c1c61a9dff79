//! A post that is spread: everybody listed is named once, in records of their own partitions, and nobody else.

use std::collections::BTreeSet;

use bytes::Bytes;
use plaza_processor::{Effects, Envelope, Input, Key, Machine, Position};
use plaza_topics::{
    TIMELINE,
    graph::{Kind, Payload, Spread},
    timeline,
};
use plaza_types::{UserId, limits::CONTACTS, partition};
use prost::Message;

use crate::domain::{Edge, Graph, Permissions, State};

const PARTITIONS: u32 = 3;

fn user(number: usize) -> UserId {
    UserId::from_bytes((number as u128 + 1).to_be_bytes())
}

#[test]
fn everybody_listed_is_named_once_whatever_is_allowed_to_them() {
    let mut state = State::default();
    for number in 0..CONTACTS + 10 {
        let permissions = Permissions { chat_only: number % 3 == 0, ..Permissions::default() };
        let edge = Edge { listed: number >= 10, blocked: number % 2 == 0, permissions, ..Edge::default() };
        state.edges.insert(user(number), edge);
    }
    let owner = user(20_000);
    let spread = Spread { post: Bytes::from_static(&[7; 16]), created: 5, idle_after: 6 };
    let payload = Payload { other: Bytes::new(), kind: Some(Kind::Spread(spread)) };
    let envelope = Envelope::default();
    let machine = Graph { timeline_partitions: PARTITIONS };
    let key = Key(owner.to_key());
    assert_eq!(machine.keys(&key.0, &envelope, &payload).as_slice(), std::slice::from_ref(&key));
    let asked = Envelope { caller: owner.to_key(), ..Envelope::default() };
    assert!(machine.keys(&key.0, &asked, &payload).is_empty(), "no command");

    let (before, mut effects) = (state.clone(), Effects::<Graph>::default());
    let input = Input { envelope: &envelope, payload: &payload, position: Position::default(), time: 9 };
    machine.apply(input, 0, &key, &mut state, &mut effects);
    assert_eq!(state, before);
    assert!(effects.rows().is_empty() && effects.emissions().len() <= CONTACTS / 1_000 + PARTITIONS as usize);
    let mut named = BTreeSet::new();
    for emission in effects.emissions() {
        assert_eq!(emission.topic, TIMELINE);
        let payload = timeline::Payload::decode(emission.payload.clone()).expect("a payload");
        let Some(timeline::Kind::References(references)) = payload.kind else { panic!("references") };
        assert!(references.viewers.len() <= 1_000);
        assert_eq!((references.posts[0].author.clone(), references.posts[0].created, references.idle_after), (owner.to_key(), 5, 6));
        for viewer in references.viewers {
            assert_eq!(emission.partition, Some(partition::of(&viewer, PARTITIONS)), "a viewer of another partition");
            assert!(named.insert(viewer), "named twice");
        }
    }
    assert_eq!(named, (10..CONTACTS + 10).map(|number| user(number).to_key()).collect());
}
