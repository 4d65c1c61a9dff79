//! The people of a run: what each sent, was shown and knows. Everything that the checker judges later is noted here, as it happens.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize},
    },
};

use parking_lot::Mutex;
use plaza_checker::history::Entry;
use plaza_proto::{
    chat::v1::SendMessageRequest,
    gateway::v1::{ConnectRequest, connect_request::Frame},
};
use plaza_types::{ClientId, ConversationId};
use tokio::sync::{Notify, mpsc::UnboundedSender};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    api::{Api, Identity},
    operation::Measure,
    population::Plan,
    record::Recorder,
    target::Target,
};

/// To whom a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To {
    /// A person, by number.
    Person(u32),
    /// A group, by number.
    Group(u32),
}

/// What became of a send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// No answer yet.
    Open,
    /// Acknowledged with this sequence.
    Acked(u64),
    /// Refused.
    Refused,
}

/// One send.
#[derive(Debug, Clone, Copy)]
pub struct Send {
    /// When it was due, microseconds.
    pub scheduled: u64,
    /// To whom.
    pub to: To,
    /// What became of it.
    pub outcome: Outcome,
}

/// What somebody sends.
#[derive(Default)]
pub struct Outgoing {
    /// The way to the live stream, while there is one.
    pub frames: Option<UnboundedSender<ConnectRequest>>,
    /// Everything sent, in order.
    pub sends: Vec<Send>,
    /// All before this one are decided.
    pub decided: usize,
    /// Answers to what was answered before: number and sequence.
    pub answered_again: Vec<(usize, u64)>,
}

/// What somebody was shown.
#[derive(Default)]
pub struct Shown {
    /// The cursor the stream began with.
    pub from: u64,
    /// The newest cursor.
    pub cursor: u64,
    /// Cursor and fingerprint of each entry, in the order shown.
    pub entries: Vec<(u64, u64)>,
    /// The newest message: conversation and sequence.
    pub newest: Option<(String, u64)>,
    /// The highest read position asked for, and answered, by conversation.
    pub reads: BTreeMap<String, (u64, u64)>,
    /// Ids of posts on the last page of the timeline, newest first.
    pub posts: VecDeque<String>,
    /// When the stream was cut, until it is back.
    pub cut_at: Option<u64>,
}

/// Somebody in a run.
pub struct Member {
    /// Who they are.
    pub identity: Arc<Identity>,
    /// Whether they hold a live stream.
    pub connected: bool,
    /// Whether they do something themselves.
    pub active: bool,
    /// What they send.
    pub outgoing: Mutex<Outgoing>,
    /// What they were shown.
    pub shown: Mutex<Shown>,
    /// Cuts the live stream.
    pub cut: Notify,
}

/// A post that was made.
#[derive(Debug, Clone)]
pub struct Post {
    /// Its author.
    pub author: u32,
    /// Its id, once acknowledged.
    pub id: Option<String>,
    /// For whom.
    pub audience: Audience,
}

/// For whom a post is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Audience {
    /// All friends.
    All,
    /// Nobody.
    Private,
    /// These.
    Only(Vec<u32>),
    /// All but these.
    Except(Vec<u32>),
}

/// What was done on Moments.
#[derive(Default)]
pub struct Moments {
    /// The posts, by their number.
    pub posts: Vec<Post>,
    /// Likes: post and who; asked and answered.
    pub likes: Vec<(String, u32, bool)>,
    /// Comments: post and who; asked and answered.
    pub comments: Vec<(String, u32, bool)>,
    /// Pairs who may have become friends during the run: nothing is claimed of what they see of each other.
    pub changed: HashSet<(u32, u32)>,
}

/// Everything of a run.
pub struct World {
    /// Where.
    pub target: Target,
    /// The connections for calls.
    pub api: Api,
    /// Stands in every text: texts of earlier runs are not taken for this one's.
    pub tag: String,
    /// Bytes of a text.
    pub text_bytes: usize,
    /// What was planned.
    pub plan: Plan,
    /// The ids of the groups.
    pub groups: Vec<String>,
    /// The people.
    pub people: Vec<Member>,
    /// What was done on Moments.
    pub moments: Mutex<Moments>,
    /// Where latencies go.
    pub recorder: Recorder,
    /// Calls under way.
    pub tasks: TaskTracker,
    /// Sends without an answer.
    pub open: AtomicUsize,
    /// Live streams that are up.
    pub streams: AtomicUsize,
    /// Entries that streams were shown.
    pub entries: AtomicU64,
    /// Deliveries count only while the run is on.
    pub measuring: AtomicBool,
    /// Why a stream could not be opened before the run.
    pub trouble: Mutex<String>,
    /// The end of the run.
    pub stop: CancellationToken,
}

impl World {
    /// The client id of a send: the sender's number and the send's are in its random part, so that an answer finds its send.
    #[must_use]
    pub fn client_id(&self, person: usize, number: usize, epoch_micros: u64) -> String {
        let tag = u32::from_str_radix(&self.tag, 16).unwrap_or_default().to_be_bytes();
        let (person, number) = ((person as u32).to_be_bytes(), (number as u32).to_be_bytes());
        let random = [tag[0], tag[1], tag[2], person[1], person[2], person[3], number[0], number[1], number[2], number[3]];
        ClientId::new(epoch_micros, random).to_string()
    }

    /// The number of a send in its client id.
    #[must_use]
    pub fn number_in(client_id: &str) -> Option<usize> {
        let digits = client_id.get(client_id.len().checked_sub(8)?..)?;
        usize::from_str_radix(digits, 16).ok()
    }

    /// The text of a send: unique, and it says who sent it and when it was due.
    #[must_use]
    pub fn text(&self, person: usize, number: usize, scheduled: u64) -> String {
        let mut text = format!("{} {person} {number} {scheduled} ", self.tag);
        let padding = self.text_bytes.saturating_sub(text.len());
        text.extend(std::iter::repeat_n('.', padding));
        text
    }

    /// Who sent a text of this run, and when it was due.
    #[must_use]
    pub fn read_text(&self, text: &str) -> Option<(usize, u64)> {
        let mut words = text.split(' ');
        if words.next() != Some(&self.tag) {
            return None;
        }
        let person = words.next()?.parse().ok()?;
        words.next()?;
        Some((person, words.next()?.parse().ok()?))
    }

    /// The frame of a send.
    #[must_use]
    pub fn frame(&self, person: usize, number: usize, send: &Send) -> ConnectRequest {
        let (user_id, conversation_id) = match send.to {
            To::Person(other) => (self.people[other as usize].identity.user_id.clone(), String::new()),
            To::Group(group) => (String::new(), self.groups[group as usize].clone()),
        };
        let request = SendMessageRequest {
            user_id,
            conversation_id,
            client_message_id: self.send_id(person, number, send),
            content: Some(plaza_client::text(self.text(person, number, send.scheduled))),
            ..Default::default()
        };
        ConnectRequest { frame: Some(Frame::Send(request)) }
    }

    /// The client id of a send that was made: the same for every try.
    #[must_use]
    pub fn send_id(&self, person: usize, number: usize, send: &Send) -> String {
        self.client_id(person, number, self.recorder.clock().epoch_micros(send.scheduled))
    }

    /// The conversation a send went to.
    #[must_use]
    pub fn conversation(&self, person: usize, to: To) -> String {
        match to {
            To::Group(group) => self.groups[group as usize].clone(),
            To::Person(other) => self.direct(person, other as usize),
        }
    }

    /// The direct conversation of two.
    #[must_use]
    pub fn direct(&self, one: usize, other: usize) -> String {
        let id = |person: usize| self.people[person].identity.user_id.parse();
        match (id(one), id(other)) {
            (Ok(one), Ok(other)) => ConversationId::direct(one, other).to_string(),
            // The server's own ids are well formed; if not, nothing will be found under this.
            _ => String::new(),
        }
    }

    /// Whether two were made friends.
    #[must_use]
    pub fn are_friends(&self, one: usize, other: usize) -> bool {
        let (one, other) =
            if self.plan.people[one].friends.len() < self.plan.people[other].friends.len() { (one, other) } else { (other, one) };
        self.plan.people[one].friends.contains(&(other as u32))
    }
}

/// What is measured of a send until its acknowledgement.
#[must_use]
pub fn ack_of(to: To) -> Measure {
    match to {
        To::Person(_) => Measure::AckDirect,
        To::Group(_) => Measure::AckGroup,
    }
}

/// A number that two different entries do not share, but by a chance of 1 to 2^64. The same in one process only.
#[must_use]
pub fn fingerprint(entry: &Entry) -> u64 {
    let mut hasher = DefaultHasher::new();
    entry.what.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        record::Clock,
        scenario::{Kind, Population},
    };

    /// A world of people with these friendships, whom no server knows. Inside a runtime.
    pub(crate) fn world(people: usize, friendships: &[(u32, u32)]) -> World {
        let mut plan = Plan::new(&Population { people: people.max(2), groups_per_person: 0.0, ..Population::default() });
        plan.friendships = friendships.to_vec();
        for (number, person) in plan.people.iter_mut().enumerate() {
            let friend = |(one, other): &(u32, u32)| match number as u32 {
                number if number == *one => Some(*other),
                number if number == *other => Some(*one),
                _ => None,
            };
            person.friends = friendships.iter().filter_map(friend).collect();
        }
        let target = Target::new("http://127.0.0.1:1", false).expect("loopback");
        let member = |number: usize| {
            let id = ClientId::new(1, [number as u8; 10]).to_string();
            Member {
                identity: Arc::new(Identity::named(&id).expect("a name")),
                connected: true,
                active: true,
                outgoing: Mutex::default(),
                shown: Mutex::default(),
                cut: Notify::new(),
            }
        };
        World {
            api: Api::new(&target, 1).expect("an address"),
            target,
            tag: "0a0b0c".into(),
            text_bytes: 100,
            people: (0..people).map(member).collect(),
            plan,
            groups: vec!["g-1".into()],
            moments: Mutex::default(),
            recorder: Recorder::new(Clock::standing(), &[(Duration::from_secs(1), Kind::Steady)]),
            tasks: TaskTracker::new(),
            open: AtomicUsize::new(0),
            streams: AtomicUsize::new(0),
            entries: AtomicU64::new(0),
            measuring: AtomicBool::new(true),
            trouble: Mutex::default(),
            stop: CancellationToken::new(),
        }
    }

    #[tokio::test]
    async fn texts_and_ids_are_unique_and_say_whose_they_are() {
        let world = world(3, &[(0, 1)]);
        let mut seen = HashSet::new();
        for person in 0..3 {
            for number in [0, 1, 255, 70_000] {
                let text = world.text(person, number, 12_345);
                assert_eq!((world.read_text(&text), text.len()), (Some((person, 12_345)), 100));
                let id = world.client_id(person, number, 1_700_000_000_000_000);
                assert_eq!(World::number_in(&id), Some(number));
                assert!(ClientId::parse(&id).is_ok() && seen.insert(text) && seen.insert(id));
            }
        }
        assert_eq!(world.read_text("another 0 0 1 ...."), None);
        assert_eq!(World::number_in("short"), None);
    }
}
