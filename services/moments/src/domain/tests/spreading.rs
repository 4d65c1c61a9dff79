//! No post is missed: posting, deleting, coming into a list and going from it, in every interleaving that the log allows. The author's posts
//! and the author's edges are two keys, each of which takes its records one at a time; what one tells the other waits in a queue that keeps
//! its order. Records may come twice.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use plaza_processor::{Effects, Envelope, Input, Machine, Position};
use plaza_topics::{
    GRAPH, TIMELINE, graph,
    moments::{Backfill, Create, Kind, OnPost, Payload},
    timeline,
};
use plaza_types::{ClientId, UserId};
use proptest::prelude::*;
use prost::Message as _;

use crate::domain::posts::{Posts, State};

#[derive(Debug, Clone, Copy)]
enum Step {
    Post,
    Delete(usize),
    List(u8),
    Unlist(u8),
    /// The author's edges take the next post to be spread.
    ToEdges,
    /// The author's posts take the next word of the edges.
    ToPosts,
}

fn user(number: u8) -> UserId {
    UserId::from_bytes([number; 16])
}

#[derive(Default)]
struct World {
    posts: State,
    deleted: BTreeSet<Bytes>,
    made: Vec<Bytes>,
    listed: BTreeSet<u8>,
    to_edges: VecDeque<Bytes>,
    to_posts: VecDeque<u8>,
    timelines: BTreeMap<u8, BTreeSet<Bytes>>,
    now: u64,
}

impl World {
    fn apply(&mut self, kind: Kind, request: Option<ClientId>) {
        self.now += 1;
        let author = user(1).to_key();
        let request = request.map(|request| Bytes::copy_from_slice(request.as_bytes())).unwrap_or_default();
        let caller = if request.is_empty() { Bytes::new() } else { author.clone() };
        let envelope = Envelope { caller, request, ..Envelope::default() };
        let payload = Payload { kind: Some(kind) };
        for key in Posts.keys(&author, &envelope, &payload).iter().filter(|key| key.0 == author) {
            let mut effects = Effects::<Posts>::default();
            let input = Input { envelope: &envelope, payload: &payload, position: Position::default(), time: self.now };
            Posts.apply(input, 0, key, &mut self.posts, &mut effects);
            for emission in effects.emissions() {
                if emission.topic == GRAPH {
                    let payload = graph::Payload::decode(emission.payload.clone()).expect("a payload");
                    let Some(graph::Kind::Spread(spread)) = payload.kind else { panic!("posts ask nothing else of edges") };
                    self.to_edges.push_back(spread.post);
                } else if emission.topic == TIMELINE {
                    let payload = timeline::Payload::decode(emission.payload.clone()).expect("a payload");
                    let Some(timeline::Kind::References(references)) = payload.kind else { panic!("references") };
                    let viewer = references.viewers[0][0];
                    self.timelines.entry(viewer).or_default().extend(references.posts.into_iter().map(|post| post.post));
                }
            }
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Post => {
                let request = ClientId::new(1_700_000_000_000_000 + self.now * 1_000, [1; 10]);
                self.made.push(Bytes::copy_from_slice(request.as_bytes()));
                let audience = plaza_topics::moments::Audience { kind: 1, ..Default::default() };
                self.apply(Kind::Create(Create { audience, ..Create::default() }), Some(request));
            }
            Step::Delete(which) => {
                if let Some(post) = self.made.get(which % self.made.len().max(1)).cloned() {
                    self.deleted.insert(post.clone());
                    self.apply(Kind::Delete(OnPost { post }), Some(ClientId::new(1, [2; 10])));
                }
            }
            // As graph's rules have it: the edge changes and the word of it goes out in one record.
            Step::List(viewer) => {
                if self.listed.insert(viewer) {
                    self.to_posts.push_back(viewer);
                }
            }
            Step::Unlist(viewer) => {
                self.listed.remove(&viewer);
            }
            Step::ToEdges => {
                if let Some(post) = self.to_edges.pop_front() {
                    for viewer in &self.listed {
                        self.timelines.entry(*viewer).or_default().insert(post.clone());
                    }
                }
            }
            Step::ToPosts => {
                if let Some(viewer) = self.to_posts.pop_front() {
                    let backfill = Kind::Backfill(Backfill { viewer: user(viewer).to_key() });
                    self.apply(backfill.clone(), None);
                    if self.now.is_multiple_of(3) {
                        self.apply(backfill, None);
                    }
                }
            }
        }
    }

    fn quiet(&mut self) {
        while !self.to_edges.is_empty() || !self.to_posts.is_empty() {
            self.step(Step::ToEdges);
            self.step(Step::ToPosts);
        }
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => Just(Step::Post),
        1 => any::<usize>().prop_map(Step::Delete),
        2 => (2u8..5).prop_map(Step::List),
        1 => (2u8..5).prop_map(Step::Unlist),
        2 => Just(Step::ToEdges),
        2 => Just(Step::ToPosts),
    ];
    prop::collection::vec(step, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whoever_is_in_the_list_has_every_post(steps in steps()) {
        let mut world = World::default();
        for step in steps {
            world.step(step);
        }
        world.quiet();
        for viewer in &world.listed {
            let timeline = world.timelines.get(viewer).cloned().unwrap_or_default();
            for post in world.made.iter().filter(|post| !world.deleted.contains(*post)) {
                prop_assert!(timeline.contains(post), "viewer {viewer} misses a post of {}", world.made.len());
            }
        }
    }
}
