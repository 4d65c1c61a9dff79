//! After quiet: reads back what everybody has, and lets the shared checker judge it. What was there before the run is cut off first: a group
//! begins with its members, a conversation with the first message of the run.

pub mod context;
mod moments;
mod read_back;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::Context;
use futures::{StreamExt, TryStreamExt, stream};
use plaza_checker::{
    Violation, check,
    history::{Conversation, Device, Entry, Final, Group, History, Message, Sent, What},
};

use tokio::time::Instant;

use self::read_back::{Found, read_back};
use crate::run::{
    base::{Base, Stand, at_rest},
    people::{Outcome, To, World, fingerprint},
};

/// How long delivery may go on after the last acknowledgement.
const SOON: Duration = Duration::from_secs(60);
/// How long a server that was given too much may take for what it was given.
const REST: Duration = Duration::from_secs(600);
/// People read back at once.
const AT_ONCE: usize = 32;

/// What is wrong.
#[derive(Debug)]
pub struct Broken {
    /// The violation.
    pub violation: Violation,
    /// What was around it, where the history does not tell.
    pub around: Option<String>,
}

impl From<Violation> for Broken {
    fn from(violation: Violation) -> Self {
        Self { violation, around: None }
    }
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Verified {
    /// What is wrong.
    pub violations: Vec<Broken>,
    /// The history that was judged.
    pub history: History,
    /// Sends that were acknowledged.
    pub acknowledged: usize,
    /// Sends whose fate is unknown: never answered or refused. They may be there or not.
    pub unknown: usize,
    /// Conversations that were judged.
    pub conversations: usize,
    /// Entries of inboxes that were judged.
    pub entries: usize,
    /// Viewers whose timelines were read, and posts that they should see.
    pub viewers: usize,
    /// Posts that these should see or not see.
    pub judgements: usize,
}

/// Reads everything back and judges it. What was found before an error is in `verified`, too.
///
/// # Errors
/// The deployment cannot be reached.
pub async fn verify(world: &World, bases: &[Base], verified: &mut Verified, progress: impl Fn(usize, usize)) -> anyhow::Result<()> {
    let touched = Touched::of(world);
    let people: Vec<usize> = touched.conversations.keys().copied().collect();
    let places: BTreeMap<usize, usize> = people.iter().enumerate().map(|(place, person)| (*person, place)).collect();
    verified.history = touched.history(world, bases, &places);
    let history = &mut verified.history;
    verified.acknowledged = history.sends.iter().filter(|sent| !sent.acked.is_empty()).count();
    verified.unknown = history.sends.len() - verified.acknowledged;
    if touched.sends.iter().any(|sent| sent.acked.is_empty()) {
        // People are read one after the other, and a message that comes meanwhile would be in one inbox and not in another.
        let identities: Vec<_> = people.iter().map(|person| &*world.people[*person].identity).collect();
        at_rest(&world.api, &identities, REST).await.context("after the run")?;
    }
    // What was acknowledged is delivered by then; what is not is lost.
    let until = Instant::now() + SOON;
    let mut reading = stream::iter(&people)
        .map(|person| read_back(world, *person, &bases[*person], &touched.conversations[person], touched.expected(*person), until))
        .buffered(AT_ONCE);
    let mut place = 0;
    while let Some(found) = reading.try_next().await? {
        let person = people[place];
        let conversations = &touched.conversations[&person];
        let view = View { world, base: &bases[person], conversations };
        let (end, device, broken) = view.cut(person, place, found);
        verified.entries += end.inbox.len();
        verified.violations.extend(broken.into_iter().map(Broken::from));
        history.finals.push(end);
        history.devices.extend(device);
        for (conversation, (asked, answered)) in &world.people[person].shown.lock().reads {
            let asked = view.sequence(conversation, *asked);
            history.attempted.entry(place).or_default().insert(conversation.clone(), asked);
            if *answered > 0 && conversations.contains(conversation) {
                history.reads.entry(place).or_default().insert(conversation.clone(), view.sequence(conversation, *answered));
            }
        }
        place += 1;
        progress(place, people.len());
    }
    verified.conversations = history.members.len() + history.groups.len();
    verified.violations.extend(check(history).into_iter().map(Broken::from));
    moments::check(world, verified).await
}

/// What the run touched.
struct Touched {
    /// Everybody who sent, was sent to or read, with the conversations in which that was.
    conversations: BTreeMap<usize, BTreeSet<String>>,
    /// By conversation: the client ids that were acknowledged.
    acked: BTreeMap<String, Vec<String>>,
    /// Everything sent.
    sends: Vec<Sent>,
    /// Groups by id.
    groups: BTreeMap<String, usize>,
    /// The two of each direct conversation.
    pairs: BTreeMap<String, (usize, usize)>,
}

impl Touched {
    fn of(world: &World) -> Self {
        let mut touched = Self {
            conversations: BTreeMap::new(),
            acked: BTreeMap::new(),
            sends: Vec::new(),
            groups: BTreeMap::new(),
            pairs: BTreeMap::new(),
        };
        for (person, member) in world.people.iter().enumerate() {
            let outgoing = member.outgoing.lock();
            let mut again: BTreeMap<usize, Vec<u64>> = BTreeMap::new();
            outgoing.answered_again.iter().for_each(|(number, sequence)| again.entry(*number).or_default().push(*sequence));
            for (number, send) in outgoing.sends.iter().enumerate() {
                let conversation = world.conversation(person, send.to);
                touched.touch(world, person, send.to, &conversation);
                let mut sent = Sent {
                    from: person,
                    id: world.send_id(person, number, send),
                    conversation: conversation.clone(),
                    acked: Vec::new(),
                    text: world.text(person, number, send.scheduled),
                };
                if let Outcome::Acked(sequence) = send.outcome {
                    sent.acked.push(sequence);
                    touched.acked.entry(conversation).or_default().push(sent.id.clone());
                }
                sent.acked.extend(again.remove(&number).unwrap_or_default());
                touched.sends.push(sent);
            }
        }
        touched
    }

    fn touch(&mut self, world: &World, person: usize, to: To, conversation: &str) {
        match to {
            To::Person(other) => {
                if self.pairs.insert(conversation.to_owned(), (person, other as usize)).is_none() {
                    for person in [person, other as usize] {
                        self.conversations.entry(person).or_default().insert(conversation.to_owned());
                    }
                }
            }
            To::Group(group) => {
                if self.groups.insert(conversation.to_owned(), group as usize).is_none() {
                    for member in world.plan.groups[group as usize].everybody() {
                        self.conversations.entry(member as usize).or_default().insert(conversation.to_owned());
                    }
                }
            }
        }
    }

    /// The client ids that a person's inbox must have.
    fn expected(&self, person: usize) -> Vec<String> {
        self.conversations[&person].iter().filter_map(|conversation| self.acked.get(conversation)).flatten().cloned().collect()
    }

    /// The history before anybody was read back.
    fn history(&self, world: &World, bases: &[Base], places: &BTreeMap<usize, usize>) -> History {
        let mut history = History::default();
        let pairs = self.pairs.iter().map(|(conversation, (one, other))| (conversation.clone(), vec![places[one], places[other]]));
        history.members = pairs.collect();
        let groups = self.groups.iter().map(|(conversation, group)| {
            let owner = places[&(world.plan.groups[*group].owner as usize)];
            (conversation.clone(), Group { owner, ..Group::default() })
        });
        history.groups = groups.collect();
        let sends = self.sends.iter().map(|sent| {
            let view = View { world, base: &bases[sent.from], conversations: &self.conversations[&sent.from] };
            let acked = sent.acked.iter().map(|sequence| view.sequence(&sent.conversation, *sequence)).collect();
            Sent { from: places[&sent.from], acked, ..sent.clone() }
        });
        history.sends = sends.collect();
        history
    }
}

/// How one person's conversations look when what was before the run is cut off.
struct View<'a> {
    world: &'a World,
    base: &'a Base,
    conversations: &'a BTreeSet<String>,
}

impl View<'_> {
    fn stand(&self, conversation: &str) -> Stand {
        self.base.conversations.get(conversation).copied().unwrap_or_default()
    }

    /// A sequence as the history has it. A group's first place is that of its members.
    fn sequence(&self, conversation: &str, sequence: u64) -> u64 {
        sequence.saturating_sub(self.stand(conversation).head) + u64::from(is_group(conversation))
    }

    fn message(&self, mut message: Message) -> Message {
        message.sequence = self.sequence(&message.conversation, message.sequence);
        message
    }

    fn what(&self, what: What) -> What {
        match what {
            What::Message(message) => What::Message(self.message(message)),
            What::Read { conversation, sequence } => What::Read { sequence: self.sequence(&conversation, sequence), conversation },
            other => other,
        }
    }

    fn created(&self, conversation: &str) -> Message {
        let group = self.world.groups.iter().position(|id| id == conversation);
        let everybody = group.into_iter().flat_map(|group| self.world.plan.groups[group].everybody());
        let joined = everybody.map(|member| self.world.people[member as usize].identity.user_id.clone()).collect();
        Message { conversation: conversation.to_owned(), sequence: 1, joined, text: "before the run".into(), ..Message::default() }
    }

    /// What one person found, cut off; what their device was shown; and what does not even add up.
    fn cut(&self, person: usize, place: usize, found: Found) -> (Final, Option<Device>, Vec<Violation>) {
        let mut broken = Vec::new();
        let mut end = Final { user_id: self.world.people[person].identity.user_id.clone(), ..Final::default() };
        for conversation in self.conversations.iter().filter(|conversation| is_group(conversation)) {
            let cursor = end.inbox.len() as u64 + 1;
            end.inbox.push(Entry { cursor, what: What::Message(self.created(conversation)) });
        }
        let before = end.inbox.len() as u64;
        let cursor = |cursor: u64| (cursor + before).wrapping_sub(self.base.cursor);
        let device = self.world.people[person].connected.then(|| {
            let shown = self.world.people[person].shown.lock();
            let entries = shown.entries.iter().map(|(at, print)| {
                let place = (*at).checked_sub(self.base.cursor + 1).and_then(|place| usize::try_from(place).ok());
                let kept =
                    place.and_then(|place| found.inbox.get(place)).filter(|entry| entry.cursor == *at && fingerprint(entry) == *print);
                let what = kept.map_or_else(|| What::Other("not what the inbox has".into()), |entry| self.what(entry.what.clone()));
                Entry { cursor: cursor(*at), what }
            });
            Device { user: place, from: cursor(shown.from), shown: entries.collect() }
        });
        end.inbox.extend(found.inbox.into_iter().map(|entry| Entry { cursor: cursor(entry.cursor), what: self.what(entry.what) }));
        for (conversation, messages) in found.messages {
            let messages = messages.into_iter().map(|message| self.message(message));
            let first = is_group(&conversation).then(|| self.created(&conversation));
            end.messages.insert(conversation, first.into_iter().chain(messages).collect());
        }
        for (conversation, shown) in found.conversations {
            let stand = self.stand(&conversation);
            // Who has not read on since has what was unread before as well.
            let before = if shown.read < stand.head { stand.unread } else { 0 };
            let Some(unread) = shown.unread.checked_sub(before) else {
                let what = format!(
                    "user {place}: {conversation} had {before} unread before the run, nothing was read, and has {} now",
                    shown.unread
                );
                broken.push(Violation { invariant: 5, what });
                continue;
            };
            let (head, read) = (self.sequence(&conversation, shown.head), self.sequence(&conversation, shown.read));
            end.conversations.insert(conversation, Conversation { head, read, unread });
        }
        (end, device, broken)
    }
}

fn is_group(conversation: &str) -> bool {
    conversation.starts_with('g')
}
