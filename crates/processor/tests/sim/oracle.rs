//! What the logs mean, read once, in order, by one reader with unlimited memory; and whether the run agrees.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use plaza_event_log::{Stored, TopicPartition};
use plaza_processor::{Effects, Emission, Envelope, Input, Key, Machine, Origin, Outcome, Position, outcome::Kind};
use plaza_types::{ClientId, Reason, limits};
use prost::Message;

use crate::{
    log::PARKED,
    machines::{CHAT, Conversations, INBOX, Inboxes, Row, Shown, is_poison},
    owners::partitions,
    world::World,
};

/// What should be.
#[derive(Default)]
pub(crate) struct Meaning {
    /// By reply address: what a record with it is answered.
    replies: BTreeMap<u64, Vec<Outcome>>,
    rows: BTreeMap<String, Row>,
    states: BTreeMap<(&'static str, Key), String>,
    shown: BTreeMap<(String, u64), String>,
    /// What is emitted to each partition, by origin.
    emitted: BTreeMap<(TopicPartition, Place), Vec<u8>>,
}

/// Source topic and partition, offset, index.
type Place = (String, u32, u64, u32);

fn place(origin: &Origin) -> Place {
    (origin.topic.clone(), origin.partition, origin.offset, origin.index)
}

/// Reads all logs and compares everything.
pub(crate) fn check(world: &World) {
    let mut meaning = Meaning::default();
    for of in partitions() {
        if of.topic == CHAT {
            meaning.read(world, of, &Conversations { panics: false }, is_poison, |_| None);
        } else {
            meaning.read(world, of, &Inboxes, |_| false, Some);
        }
    }
    meaning.compare(world);
}

/// Deciding key, caller, request.
type Id = (Key, Vec<u8>, Vec<u8>);

/// Finds out what one partition's records are decided on the way.
struct Reading {
    last_time: u64,
    seen: BTreeSet<Place>,
    known: HashMap<Id, (u64, Outcome)>,
}

impl Meaning {
    fn read<M: Machine<Row = Row>>(
        &mut self,
        world: &World,
        of: TopicPartition,
        machine: &M,
        is_poison: impl Fn(&M::Payload) -> bool,
        shown: impl Fn(M::Announcement) -> Option<Shown>,
    ) where
        M::Announcement: Clone,
    {
        let mut reading = Reading { last_time: 0, seen: BTreeSet::new(), known: HashMap::new() };
        let mut states: BTreeMap<Key, M::State> = BTreeMap::new();
        let records = world.logs.lock().records(of).to_vec();
        for record in &records {
            let envelope = Envelope::decode(record.record.value.clone()).expect("the simulation appends no garbage");
            let payload = M::Payload::decode(envelope.payload.clone()).expect("the simulation appends no garbage");
            let cap = record.appended.min(envelope.time + 300 * limits::SECOND);
            reading.last_time = cap.max(reading.last_time + 1);
            if envelope.origin.as_ref().is_some_and(|origin| !reading.seen.insert(place(origin))) {
                continue;
            }
            let keys = machine.keys(&record.record.key, &envelope, &payload);
            let (time, position) = (reading.last_time, Position { generation: 1, offset: record.offset });
            if let Some(told) = reading.before_the_machine(&envelope, &keys, time) {
                self.reply(&envelope, told);
                continue;
            }
            if world.odds.poison && is_poison(&payload) && was_parked(world, of, record, &envelope) {
                self.reply(&envelope, internal());
                continue;
            }
            for (which, key) in keys.iter().enumerate() {
                let mut effects = Effects::<M>::default();
                let input = Input { envelope: &envelope, payload: &payload, position, time };
                machine.apply(input, which, key, states.entry(key.clone()).or_default(), &mut effects);
                self.take(of, record.offset, which, &effects, &shown);
                if let Some(outcome) = effects.outcome() {
                    self.reply(&envelope, outcome.clone());
                    if which == 0 && !envelope.request.is_empty() {
                        let id = (key.clone(), envelope.caller.to_vec(), envelope.request.to_vec());
                        reading.known.insert(id, (envelope.fingerprint, outcome.clone()));
                    }
                }
            }
        }
        let states = states.into_iter().map(|(key, state)| ((M::NAME, key), format!("{state:?}")));
        self.states.extend(states);
        // What is stored is read as its machine reads it.
        let tables = world.tables.lock();
        for (name, key) in tables.hot.keys().filter(|(name, key)| *name == M::NAME && self.states.contains_key(&(*name, key.clone()))) {
            let row = tables.state(name, key).unwrap_or_default();
            let stored = machine.decode(&row).map(|state| format!("{state:?}")).unwrap_or_default();
            let expected = &self.states[&(*name, key.clone())];
            if stored != *expected && (of.topic != INBOX || is_of(of, key)) {
                world.broken(|| format!("state of {name} {key:?}: {stored} instead of {expected}"));
            }
        }
    }

    fn take<M: Machine<Row = Row>>(
        &mut self,
        of: TopicPartition,
        offset: u64,
        which: usize,
        effects: &Effects<M>,
        shown: &impl Fn(M::Announcement) -> Option<Shown>,
    ) where
        M::Announcement: Clone,
    {
        for row in effects.rows() {
            self.rows.insert(row.place(), row.clone());
        }
        for Shown { user, cursor, what } in effects.announcements().iter().cloned().filter_map(shown) {
            self.shown.insert((user, cursor), what);
        }
        for (nth, Emission { topic, partition, payload, .. }) in effects.emissions().iter().enumerate() {
            let to = TopicPartition { topic: *topic, partition: partition.unwrap_or_default() };
            let origin = (of.topic.0.to_owned(), of.partition, offset, (which * 1024 + nth) as u32);
            self.emitted.insert((to, origin), payload.to_vec());
        }
    }

    fn reply(&mut self, envelope: &Envelope, outcome: Outcome) {
        if let Some(to) = envelope.reply_to {
            self.replies.entry(to.call).or_default().push(outcome);
        }
    }

    fn compare(&self, world: &World) {
        self.compare_told(world);
        self.compare_emissions(world);
        let tables = world.tables.lock();
        let rows: BTreeMap<_, _> = tables.rows.iter().map(|(place, (_, row))| (place.clone(), row.clone())).collect();
        if rows != self.rows {
            world.broken(|| format!("rows: {}", difference(&rows, &self.rows)));
        }
        for (key, expected) in &self.states {
            if !tables.hot.contains_key(key) {
                world.broken(|| format!("no state of {key:?}, expected {expected}"));
            }
        }
    }

    fn compare_told(&self, world: &World) {
        let told = world.told.lock();
        for (call, given) in &told.replies {
            let expected = self.replies.get(call).map_or(&[][..], Vec::as_slice);
            if let Some(wrong) = given.iter().find(|outcome| !expected.contains(outcome)) {
                world.broken(|| format!("reply {call}: {wrong:?}, expected one of {expected:?}"));
            }
        }
        if let Some(missing) = self.replies.keys().find(|call| !told.replies.contains_key(call) && !world.odds.poison) {
            // Deciding without answering happens only in a crash; then the state says so.
            world.say(|| format!("never answered: {missing}"));
        }
        if told.shown != self.shown {
            let missing = told.shown.iter().find(|(place, what)| self.shown.get(*place) != Some(what));
            if missing.is_some() {
                world.broken(|| format!("shown: {}", difference(&told.shown, &self.shown)));
            }
        }
    }

    /// All that should be there is, nothing else is, and what first appears of one source is in its order.
    fn compare_emissions(&self, world: &World) {
        let mut found = BTreeMap::new();
        for of in partitions() {
            let mut highest: HashMap<(String, u32), (u64, u32)> = HashMap::new();
            for record in world.logs.lock().records(of) {
                let envelope = Envelope::decode(record.record.value.clone()).unwrap_or_default();
                let Some(origin) = envelope.origin else { continue };
                let before = found.insert((of, place(&origin)), envelope.payload.to_vec());
                if before.as_ref().is_some_and(|before| *before != envelope.payload) {
                    world.broken(|| format!("emitted twice, differently: {origin:?}"));
                }
                if before.is_none() {
                    let highest = highest.entry((origin.topic.clone(), origin.partition)).or_default();
                    if (origin.offset, origin.index) < *highest {
                        world.broken(|| format!("{of}: {origin:?} first appears after {highest:?}"));
                    }
                    *highest = (origin.offset, origin.index);
                }
            }
        }
        if found != self.emitted {
            world.broken(|| format!("emissions: {}", difference(&found, &self.emitted)));
        }
    }
}

impl Reading {
    /// What the runtime decides about a command itself.
    fn before_the_machine(&self, envelope: &Envelope, keys: &[Key], time: u64) -> Option<Outcome> {
        let id = ClientId::from_slice(&envelope.request)?;
        if id.micros() > time + limits::REQUEST_AHEAD || id.micros() + limits::REQUEST_WINDOW < time {
            return Some(Outcome::refused(Reason::RequestIdTime, "request", "the request id is too old or ahead of time"));
        }
        let key = keys.first()?.clone();
        if let Some((fingerprint, outcome)) = self.known.get(&(key, envelope.caller.to_vec(), envelope.request.to_vec())) {
            let reused = || Outcome::refused(Reason::RequestIdReused, "request", "the request id was used for something else");
            return Some(if *fingerprint == envelope.fingerprint { outcome.clone() } else { reused() });
        }
        let late = envelope.deadline != 0 && time > envelope.deadline;
        late.then(|| Outcome::refused(Reason::Undecided, "request", "not decided within the deadline"))
    }
}

/// Keys of users are in their own partition only.
fn is_of(of: TopicPartition, key: &Key) -> bool {
    let name = String::from_utf8_lossy(&key.0);
    crate::machines::home(&name[..2]) == of.partition
}

/// A record that the first binary parks may be decided by the second all the same, if no state said so yet. Then it was answered; and an
/// answer never changes.
fn was_parked(world: &World, of: TopicPartition, record: &Stored, envelope: &Envelope) -> bool {
    let dead = TopicPartition { topic: PARKED[usize::from(of.topic == INBOX)], partition: of.partition };
    let is_there = world.logs.lock().records(dead).iter().any(|parked| parked.record.value == record.record.value);
    let told = world.told.lock();
    let replies = envelope.reply_to.and_then(|to| told.replies.get(&to.call));
    match replies.and_then(|replies| replies.first()) {
        Some(first) => is_there && *first == internal(),
        None => is_there,
    }
}

fn internal() -> Outcome {
    let text = "the call cannot be decided; it was set aside for the operators";
    let outcome = Outcome::refused(Reason::Internal, "", text);
    debug_assert!(matches!(outcome.kind, Some(Kind::Refused(_))));
    outcome
}

fn difference<K: Ord + std::fmt::Debug, V: PartialEq + std::fmt::Debug>(found: &BTreeMap<K, V>, expected: &BTreeMap<K, V>) -> String {
    let wrong = found.iter().find(|(key, value)| expected.get(key) != Some(value));
    let missing = expected.iter().find(|(key, value)| found.get(key) != Some(value));
    format!("found {wrong:?}, expected {missing:?}")
}
