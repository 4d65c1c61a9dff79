//! Both machines of chat together, in memory, and what readers would see: what the pure tests share.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use bytes::Bytes;
use plaza_chat::domain::{
    conversation::{
        self, Conversations,
        row::{Group, GroupMember, Pending},
    },
    inbox::{self, Announcement, Inboxes, Membership, Reading, Reference},
};
use plaza_processor::{Effects, Envelope, Input, Key, Machine, Outcome, Position, StateRow, outcome};
use plaza_proto::chat::v1::{Content, Entry, MarkReadResponse, SendMessageResponse, Text, content, entry};
use plaza_topics::{conversation as chat, inbox as topic};
use plaza_types::{ClientId, ConversationId, Reason, UserId, partition};
use prost::Message as _;

pub(crate) const PARTITIONS: u32 = 4;

/// States as the runtime keeps them: encoded after every record, so that what is not stored is lost.
#[derive(Default)]
pub(crate) struct States(HashMap<Key, StateRow>);

impl States {
    pub(crate) fn apply<M: Machine>(
        &mut self,
        machine: &M,
        record_key: &Bytes,
        envelope: &Envelope,
        payload: &[u8],
        time: u64,
    ) -> Vec<Effects<M>> {
        let payload = M::Payload::decode(payload).expect("a payload");
        let position = Position { generation: 1, offset: time };
        let keys = machine.keys(record_key, envelope, &payload);
        let of_key = |(place, key): (usize, &Key)| {
            let row = self.0.entry(key.clone()).or_default();
            let mut state = machine.decode(row).expect("a state");
            let mut effects = Effects::default();
            machine.apply(Input { envelope, payload: &payload, position, time }, place, key, &mut state, &mut effects);
            let (hot, cold) = machine.encode(&state, effects.cold());
            row.hot = hot;
            row.cold = cold.unwrap_or_else(|| row.cold.clone());
            effects
        };
        keys.iter().enumerate().map(of_key).collect()
    }

    /// What an owner announces of a record that another one applied.
    pub(crate) fn repeat<M: Machine>(&self, machine: &M, payload: &M::Payload) -> Vec<M::Announcement> {
        let (envelope, position) = (Envelope::default(), Position::default());
        let mut announcements = Vec::new();
        for key in machine.keys(&Bytes::new(), &envelope, payload) {
            let state = self.0.get(&key).map(|row| machine.decode(row).expect("a state"));
            machine.repeat(Input { envelope: &envelope, payload, position, time: 0 }, &key, &state.unwrap_or_default(), &mut announcements);
        }
        announcements
    }
}

/// Both machines, and what readers would see.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) time: u64,
    pub(crate) conversations: States,
    pub(crate) inboxes: States,
    pub(crate) heads: HashMap<ConversationId, u64>,
    pub(crate) events: HashMap<(ConversationId, u64), Bytes>,
    pub(crate) entries: HashMap<UserId, Vec<Reference>>,
    pub(crate) announced: Vec<Announcement>,
    pub(crate) memberships: HashMap<(UserId, ConversationId), Membership>,
    pub(crate) readings: HashMap<(UserId, ConversationId), Reading>,
    pub(crate) emitted: Vec<topic::Payload>,
    pub(crate) recalled: HashMap<(ConversationId, u64), Bytes>,
    pub(crate) announced_recalls: Vec<conversation::Recalled>,
    pub(crate) notices: BTreeMap<(ConversationId, u64), u64>,
    pub(crate) calls: BTreeMap<(ConversationId, u64), (UserId, u64)>,
    pub(crate) groups: HashMap<ConversationId, Group>,
    pub(crate) members: BTreeMap<(ConversationId, UserId), GroupMember>,
    pub(crate) pending: BTreeMap<(ConversationId, UserId), Pending>,
    /// By sequence: of the last conversation that was told anything.
    pub(crate) sent_at: HashMap<u64, u64>,
    pub(crate) deleted: HashSet<(UserId, ConversationId, u64)>,
    /// Records appended to the inbox topic by conversations, and their bytes.
    pub(crate) fanned_out: (usize, usize),
    /// Rows written by conversations.
    pub(crate) written: usize,
}

impl World {
    pub(crate) fn chat(&mut self, caller: Option<UserId>, conversation: ConversationId, kind: chat::Kind) -> Option<Outcome> {
        self.time += 1;
        let envelope = Envelope {
            caller: caller.map(|caller| caller.to_key()).unwrap_or_default(),
            request: Bytes::copy_from_slice(ClientId::new(self.time, [0; 10]).as_bytes()),
            ..Envelope::default()
        };
        let payload = chat::Payload { kind: Some(kind) }.encode_to_vec();
        let machine = Conversations { inbox_partitions: PARTITIONS };
        let mut answer = None;
        let effects = self.conversations.apply(&machine, &conversation.to_key(), &envelope, &payload, self.time);
        for effects in effects {
            answer = answer.or_else(|| effects.outcome().cloned());
            assert_rows_are_written_once(effects.rows());
            self.written += effects.rows().len();
            self.announced_recalls.extend(effects.announcements().iter().cloned());
            for row in effects.rows() {
                match row.clone() {
                    conversation::Row::Message { conversation, sequence, event } => {
                        assert!(self.events.insert((conversation, sequence), event).is_none())
                    }
                    conversation::Row::Head { conversation, head, time } => {
                        self.sent_at.insert(head, time);
                        assert_eq!(self.heads.insert(conversation, head).unwrap_or_default() + 1, head)
                    }
                    conversation::Row::Sent { user, .. } => assert_eq!(Some(user), caller),
                    conversation::Row::Recalled { conversation, sequence, event } => {
                        drop(self.recalled.insert((conversation, sequence), event))
                    }
                    conversation::Row::Notice { conversation, sequence, count } => {
                        self.notices.insert((conversation, sequence), count);
                    }
                    conversation::Row::CalledAll { conversation, sequence, sender, before } => {
                        self.calls.insert((conversation, sequence), (sender, before));
                    }
                    conversation::Row::Group { conversation, group } => drop(self.groups.insert(conversation, group)),
                    conversation::Row::Member { conversation, user, member: Some(member) } => {
                        self.members.insert((conversation, user), member);
                    }
                    conversation::Row::Member { conversation, user, member: None } => drop(self.members.remove(&(conversation, user))),
                    conversation::Row::Pending { conversation, user, pending: Some(pending) } => {
                        self.pending.insert((conversation, user), pending);
                    }
                    conversation::Row::Pending { conversation, user, pending: None } => drop(self.pending.remove(&(conversation, user))),
                }
            }
            for emission in effects.emissions() {
                self.fanned_out.0 += 1;
                self.fanned_out.1 += emission.payload.len();
                let to = emission.partition.unwrap_or_else(|| partition::of(&emission.key, PARTITIONS));
                let told = self.inbox(None, emission.payload.clone(), Some(to));
                answer = answer.or(told);
            }
        }
        answer
    }

    pub(crate) fn inbox(&mut self, caller: Option<UserId>, payload: Bytes, partition: Option<u32>) -> Option<Outcome> {
        let mut answer = None;
        let mut queue = VecDeque::from([(caller, payload)]);
        while let Some((caller, payload)) = queue.pop_front() {
            self.time += 1;
            let envelope = Envelope { caller: caller.map(|caller| caller.to_key()).unwrap_or_default(), ..Envelope::default() };
            self.emitted.push(topic::Payload::decode(payload.clone()).expect("a payload"));
            let keys = Inboxes.keys(&Bytes::new(), &envelope, self.emitted.last().expect("just pushed"));
            if let Some(partition) = partition {
                assert!(keys.iter().all(|key| partition::of(&key.0[..16], PARTITIONS) == partition), "a key of another partition");
            }
            for effects in self.inboxes.apply(&Inboxes, &Bytes::new(), &envelope, &payload, self.time) {
                answer = answer.or_else(|| effects.outcome().cloned());
                queue.extend(effects.emissions().iter().map(|emission| (None, emission.payload.clone())));
                self.announced.extend(effects.announcements().iter().cloned());
                for row in effects.rows().iter().cloned() {
                    self.put(row);
                }
            }
        }
        answer
    }

    pub(crate) fn put(&mut self, row: inbox::Row) {
        match row {
            inbox::Row::Entry { user, cursor, reference } => {
                let entries = self.entries.entry(user).or_default();
                entries.push(reference);
                assert_eq!(entries.len() as u64, cursor, "cursors are dense");
            }
            inbox::Row::Head { user, head } => assert_eq!(self.entries[&user].len() as u64, head),
            inbox::Row::Membership { user, conversation, membership } => drop(self.memberships.insert((user, conversation), membership)),
            inbox::Row::Reading { user, conversation, reading } => drop(self.readings.insert((user, conversation), reading)),
            inbox::Row::Deleted { user, conversation, sequence } => drop(self.deleted.insert((user, conversation, sequence))),
        }
    }

    pub(crate) fn befriend(&mut self, one: UserId, other: UserId, version: u64) -> Option<Outcome> {
        let sides = vec![side(one, other, version, true, false), side(other, one, version, true, false)];
        let answer = Outcome::accepted("open").encode_to_vec().into();
        self.chat(None, ConversationId::direct(one, other), chat::Kind::Sides(chat::Sides { sides, answer_to: one.to_key(), answer }))
    }

    pub(crate) fn send(&mut self, from: UserId, conversation: ConversationId, send: chat::Send) -> Result<u64, Reason> {
        let sent = accepted(self.chat(Some(from), conversation, chat::Kind::Send(send)))?;
        Ok(SendMessageResponse::decode(sent).expect("a response").sequence)
    }

    pub(crate) fn mark_read(&mut self, user: UserId, conversation: ConversationId, sequence: u64) -> Result<u64, Reason> {
        let kind = topic::Kind::MarkRead(topic::MarkRead { conversation: conversation.to_key(), sequence });
        let answer = self.inbox(Some(user), topic::Payload { kind: Some(kind) }.encode_to_vec().into(), None);
        Ok(MarkReadResponse::decode(accepted(answer)?).expect("a response").read)
    }

    /// When a message of the group was accepted, microseconds.
    pub(crate) fn time_of(&self, sequence: u64) -> u64 {
        self.sent_at[&sequence]
    }

    pub(crate) fn update(&mut self, user: UserId, update: topic::Update) -> Result<Bytes, Reason> {
        let kind = topic::Kind::Update(update);
        accepted(self.inbox(Some(user), topic::Payload { kind: Some(kind) }.encode_to_vec().into(), None))
    }

    pub(crate) fn sides(&mut self, sides: Vec<chat::Side>) -> Option<Outcome> {
        let of = |id: &Bytes| UserId::from_slice(id).expect("a user");
        let conversation = ConversationId::direct(of(&sides[0].user), of(&sides[0].other));
        self.chat(None, conversation, chat::Kind::Sides(chat::Sides { sides, ..chat::Sides::default() }))
    }
}

/// All rows of a command have one write time, so that of two different ones with the same key it is not said which one stays.
fn assert_rows_are_written_once(rows: &[conversation::Row]) {
    let key = |row: &conversation::Row| match row {
        conversation::Row::Member { user, .. } => Some((0, *user)),
        conversation::Row::Pending { user, .. } => Some((1, *user)),
        conversation::Row::Group { .. } => Some((2, UserId::from_bytes([0; 16]))),
        _ => None,
    };
    let mut written: HashMap<_, &conversation::Row> = HashMap::new();
    for row in rows {
        let Some(key) = key(row) else { continue };
        let before = written.insert(key, row);
        assert!(before.is_none_or(|before| before == row), "{before:?} and {row:?} by one command");
    }
}

pub(crate) fn accepted(outcome: Option<Outcome>) -> Result<Bytes, Reason> {
    match outcome.and_then(|outcome| outcome.kind).expect("an answer") {
        outcome::Kind::Accepted(answer) => Ok(answer),
        outcome::Kind::Refused(refusal) => Err(Reason::from_number(refusal.reason).expect("a reason")),
    }
}

pub(crate) fn side(user: UserId, other: UserId, version: u64, lists: bool, blocks: bool) -> chat::Side {
    chat::Side { user: user.to_key(), other: other.to_key(), version, lists, blocks }
}

pub(crate) fn user(n: u8) -> UserId {
    UserId::from_bytes([n; 16])
}

pub(crate) fn text(text: &str) -> chat::Send {
    let content = Content { kind: Some(content::Kind::Text(Text { text: text.to_owned() })) };
    chat::Send { content: content.encode_to_vec().into(), ..chat::Send::default() }
}

pub(crate) fn event(bytes: &Bytes) -> entry::Event {
    Entry::decode(bytes.clone()).expect("an entry").event.expect("an event")
}
