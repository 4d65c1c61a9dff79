//! A few users' machines with the log between them: emissions wait in one queue for each source and target, may come twice, and are taken in
//! any order that keeps each queue's own.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use plaza_processor::{Effects, Envelope, Input, Key, Machine, Outcome, Position, ReplyTo, StateRow, outcome};
use plaza_topics::{
    CHAT, EDGES, GRAPH, INBOX, MOMENTS,
    conversation::{self, Side},
    graph::{Ask, EdgeChanged, Kind, Payload, Plain},
};
use plaza_types::{ClientId, Reason, UserId};
use prost::Message;

use crate::domain::{Folder, Graph, Row, State};

const MACHINE: Graph = Graph { timeline_partitions: 2 };

/// What a user does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    Ask,
    Accept,
    Ignore,
    Remove,
    Block,
    Unblock,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum RowKey {
    Contact(UserId, UserId),
    Remark(UserId, UserId),
    Blocked(UserId, UserId),
    Request(UserId, Folder, u64, UserId),
    Status(UserId, Folder, UserId),
}

struct Waiting {
    number: u64,
    envelope: Envelope,
}

#[derive(Default)]
pub(super) struct World {
    pub(super) states: BTreeMap<UserId, State>,
    pub(super) rows: BTreeMap<RowKey, Row>,
    /// Everything the conversations were told, in the order emitted.
    pub(super) sides: Vec<Side>,
    /// Every answer by the call it is for.
    pub(super) answers: BTreeMap<u64, Vec<Outcome>>,
    pub(super) now: u64,
    calls: u64,
    queues: BTreeMap<(UserId, UserId), VecDeque<Waiting>>,
    sent: BTreeMap<(UserId, UserId), u64>,
    marks: BTreeMap<(UserId, UserId), u64>,
}

pub(super) fn user(number: usize) -> UserId {
    UserId::from_bytes([number as u8 + 1; 16])
}

pub(super) fn key_of(row: &Row) -> RowKey {
    match row {
        Row::Contact(row) => RowKey::Contact(row.owner, row.other),
        Row::Remark(row) => RowKey::Remark(row.owner, row.other),
        Row::Blocked(row) => RowKey::Blocked(row.owner, row.other),
        Row::Request(row) => RowKey::Request(row.owner, row.kept_in, row.time, row.other),
        Row::RequestStatus(row) => RowKey::Status(row.owner, row.kept_in, row.other),
    }
}

pub(super) fn reason(outcome: &Outcome) -> Option<Reason> {
    match &outcome.kind {
        Some(outcome::Kind::Refused(refusal)) => Reason::from_number(refusal.reason),
        _ => None,
    }
}

impl World {
    /// Begins at noon of some day.
    pub(super) fn new() -> Self {
        Self { now: 20_000 * 86_400_000_000 + 43_200_000_000, ..Self::default() }
    }

    pub(super) fn state(&self, user: UserId) -> State {
        self.states.get(&user).cloned().unwrap_or_default()
    }

    pub(super) fn lists(&self, one: UserId, other: UserId) -> bool {
        self.states.get(&one).is_some_and(|state| state.lists(other))
    }

    /// Gives a command and returns its call.
    pub(super) fn act(&mut self, act: Act, one: UserId, other: UserId) -> u64 {
        let kind = match act {
            Act::Ask => Kind::Ask(Ask { note: "hello".to_owned(), source: "handle".to_owned(), listed_by: self.lists(other, one) }),
            Act::Accept => Kind::Accept(Plain {}),
            Act::Ignore => Kind::Ignore(Plain {}),
            Act::Remove => Kind::Remove(Plain {}),
            Act::Block => Kind::Block(Plain {}),
            Act::Unblock => Kind::Unblock(Plain {}),
        };
        self.command(kind, one, other)
    }

    /// Gives a command and returns its call.
    pub(super) fn command(&mut self, kind: Kind, one: UserId, other: UserId) -> u64 {
        self.calls += 1;
        let request = ClientId::new(self.now, [self.calls as u8; 10]);
        let envelope = Envelope {
            caller: one.to_key(),
            request: Bytes::copy_from_slice(request.as_bytes()),
            reply_to: Some(ReplyTo::new(1, self.calls, None)),
            payload: Payload { other: other.to_key(), kind: Some(kind) }.encode_to_vec().into(),
            ..Envelope::default()
        };
        self.apply(one, &envelope);
        self.calls
    }

    /// The one answer of a call.
    pub(super) fn answer(&self, call: u64) -> &Outcome {
        let answers = self.answers.get(&call).map(Vec::as_slice).unwrap_or_default();
        assert_eq!(answers.len(), 1, "call {call} got {answers:?}");
        &answers[0]
    }

    /// Takes the head of the queue that the choice names, perhaps leaving it to come again; whether there was one.
    pub(super) fn deliver(&mut self, choice: usize) -> bool {
        let waiting: Vec<_> = self.queues.iter().filter(|(_, queue)| !queue.is_empty()).map(|(pair, _)| *pair).collect();
        let Some(&(from, to)) = waiting.get(choice % waiting.len().max(1)) else { return false };
        let Some(message) = self.queues.get_mut(&(from, to)).and_then(VecDeque::pop_front) else { return false };
        let mark = self.marks.entry((from, to)).or_default();
        if message.number <= *mark {
            return true;
        }
        *mark = message.number;
        self.apply(to, &message.envelope);
        if choice.is_multiple_of(5)
            && let Some(queue) = self.queues.get_mut(&(from, to))
        {
            queue.push_front(message);
        }
        true
    }

    /// Delivers until nothing is under way.
    pub(super) fn quiet(&mut self) {
        while self.deliver(1) {}
    }

    fn apply(&mut self, owner: UserId, envelope: &Envelope) {
        self.now += 1;
        let payload = Payload::decode(envelope.payload.clone()).expect("a payload");
        let key = Key(owner.to_key());
        assert_eq!(MACHINE.keys(&key.0, envelope, &payload).as_slice(), std::slice::from_ref(&key));
        let before = self.state(owner);
        let mut state = before.clone();
        let mut effects = Effects::<Graph>::default();
        let input = Input { envelope, payload: &payload, position: Position::default(), time: self.now };
        MACHINE.apply(input, 0, &key, &mut state, &mut effects);
        assert_stored(&before, &state, &effects);
        let mut written = Vec::new();
        for row in effects.rows() {
            written.push(key_of(row));
            self.rows.insert(key_of(row), row.clone());
        }
        // Whoever keeps a copy of an edge is told of every row of it, and of nothing else.
        let edge = |key: &RowKey| match key {
            RowKey::Contact(_, other) | RowKey::Blocked(_, other) => Some(*other),
            _ => None,
        };
        let told = |emission: &&plaza_processor::Emission| emission.topic == EDGES;
        let changed = |emission: &plaza_processor::Emission| EdgeChanged::decode(emission.payload.clone()).expect("a change");
        let told: Vec<_> = effects.emissions().iter().filter(told).map(changed).collect();
        let expected: Vec<_> = written.iter().filter_map(edge).collect();
        assert_eq!(told.iter().filter_map(|change| UserId::from_slice(&change.other)).collect::<Vec<_>>(), expected);
        assert!(told.iter().all(|change| change.owner == key.0));
        // Whoever comes into the list is given what there is, and gives.
        let listed = state.edges.iter().filter(|(other, edge)| edge.listed && !before.lists(**other)).count();
        assert_eq!(effects.emissions().iter().filter(|emission| emission.topic == MOMENTS).count(), 2 * listed);
        let rows = written.len();
        written.sort();
        written.dedup();
        assert_eq!(written.len(), rows, "one record writes a row once: {:?}", effects.rows());
        if let (Some(outcome), Some(to)) = (effects.outcome(), envelope.reply_to) {
            self.answers.entry(to.call).or_default().push(outcome.clone());
        }
        if !envelope.caller.is_empty() {
            assert!(effects.to_remember().is_some(), "every command has an outcome to remember");
        }
        self.states.insert(owner, state);
        for emission in effects.emissions() {
            let reply_to = envelope.reply_to.filter(|_| emission.carry_reply);
            if emission.topic == GRAPH {
                let to = UserId::from_slice(&emission.key).expect("a user");
                let number = self.sent.entry((owner, to)).or_default();
                *number += 1;
                let envelope = Envelope { reply_to, payload: emission.payload.clone(), ..Envelope::default() };
                self.queues.entry((owner, to)).or_default().push_back(Waiting { number: *number, envelope });
            } else if emission.topic == CHAT {
                let payload = conversation::Payload::decode(emission.payload.clone()).expect("a payload");
                let Some(conversation::Kind::Sides(sides)) = payload.kind else { panic!("graph sends nothing else") };
                self.sides.extend(sides.sides);
                if let Some(to) = reply_to {
                    let answer = Outcome::decode(sides.answer).expect("an outcome");
                    assert!(!sides.answer_to.is_empty());
                    self.answers.entry(to.call).or_default().push(answer);
                }
            } else {
                // What goes to posts is told to nobody.
                let own = [INBOX, EDGES].contains(&emission.topic) && emission.key == key.0;
                assert!(own || emission.topic == MOMENTS, "only the own devices are told: {:?}", emission.topic);
            }
        }
    }
}

fn assert_stored(before: &State, after: &State, effects: &Effects<Graph>) {
    let (_, cold) = MACHINE.encode(before, true);
    let (hot, touched) = MACHINE.encode(after, effects.cold());
    let row = StateRow { hot, cold: touched.or(cold).unwrap_or_default(), ..StateRow::default() };
    assert_eq!(MACHINE.decode(&row).as_ref(), Ok(after), "what is written is the state");
}
