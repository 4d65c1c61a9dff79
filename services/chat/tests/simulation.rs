//! Chat's two machines as they are, with a group of 500 whose members come and go under load, while everything fails that may: appends are
//! lost, late or twice, producers break, partitions move between two instances that overlap, writes fail after they happened and happen again
//! later. `PLAZA_SIM_SEED` repeats the choices of a run.

#[path = "simulation/member.rs"]
mod member;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
    time::Duration,
};

use plaza_chat::{
    domain::{
        conversation::{Conversations, row::Role},
        inbox::{Announcement, Inboxes, Reference},
    },
    store::{Store, embedded::Embedded},
};
use plaza_embedded_db::{Db, Options};
use plaza_event_log::{
    EventLog,
    embedded::EmbeddedLog,
    fault::{Faults, Faulty},
};
use plaza_processor::{
    Announce, Caller, Host, HostDeps, Machine, Replies,
    fault::{self, Odds},
};
use plaza_proto::chat::v1::{Entry, entry::Event};
use plaza_runtime::{Clock, Rng, Supervisor};
use plaza_testkit::wait::wait_for;
use plaza_topics::{CHAT, INBOX, conversation as chat};
use plaza_types::{ConversationId, UserId};
use prost::Message as _;
use tokio::task::JoinSet;

use self::member::{Asking, Member, message, people, person};

const PEOPLE: usize = 500;
const INBOXES: u32 = 4;
/// Of the others: those who are in at once, and need not be asked.
const AT_ONCE: usize = 39;
const LIMIT: Duration = Duration::from_secs(60);

/// What came of a run: who heard from where to where, and what is in the order. Known from the answers alone.
#[derive(Default)]
struct Story {
    /// By person: the first and the last place of each time; an open end is `None`.
    times: BTreeMap<usize, Vec<(u64, Option<u64>)>>,
    /// By place: who sent the message there.
    messages: BTreeMap<u64, usize>,
    recalled: Vec<u64>,
    /// How many changes have a place.
    changes: u64,
}

impl Story {
    fn enters(&mut self, who: usize, first: u64) {
        self.times.entry(who).or_default().push((first, None));
    }

    fn exits(&mut self, who: usize, last: u64) {
        self.times.get_mut(&who).and_then(|times| times.last_mut()).expect("was in").1 = Some(last);
        self.changes += 1;
    }

    fn head(&self) -> u64 {
        self.messages.len() as u64 + self.changes
    }

    fn heard(&self, who: usize) -> Vec<u64> {
        let head = self.head();
        self.times.get(&who).into_iter().flatten().flat_map(|(first, last)| *first..=last.unwrap_or(head)).collect()
    }
}

/// What devices were shown, by user and cursor: the place of the group's order, or nothing for another event.
#[derive(Default)]
struct Shown(Mutex<HashMap<(UserId, u64), Option<u64>>>);

impl Announce<Announcement> for Shown {
    fn announce(&self, _: u32, announcements: Vec<Announcement>) {
        let mut shown = self.0.lock().expect("nobody panicked");
        for announcement in announcements {
            match announcement {
                Announcement::Entry { user, cursor, message, .. } => {
                    let place = message.map(|(_, sequence)| sequence);
                    let before = *shown.entry((user, cursor)).or_insert(place);
                    // Owners may overlap and repeat each other, and must not differ. A panic would only park the record.
                    if before != place {
                        shown.insert((user, cursor), Some(u64::MAX));
                    }
                }
                Announcement::Irregular(_) => drop(shown.insert((UserId::from_bytes([0; 16]), 0), Some(u64::MAX))),
                Announcement::Recalled { .. } | Announcement::Head { .. } => {}
            }
        }
    }

    fn assigned(&self, _: u32) {}

    fn revoked(&self, _: u32) {}
}

/// One process's share of both machines, on its own failing way to the store.
fn instance(
    log: &Arc<dyn EventLog>,
    store: &Arc<Embedded>,
    replies: &Arc<Replies>,
    supervisor: &Supervisor,
    rng: &Rng,
    shown: &Arc<Shown>,
) {
    let config = || plaza_processor::Config {
        batch_records: 32,
        states: 200,
        remembered: 8,
        checkpoint_records: 60,
        checkpoint_every: Duration::from_millis(50),
        retry_first: Duration::from_millis(1),
        retry_max: Duration::from_millis(20),
        ..plaza_processor::Config::default()
    };
    let odds = Odds { before: 20, after: 40, late: 60 };
    macro_rules! start {
        ($machine:expr, $rows:ty, $announce:expr) => {
            let store = Arc::clone(store) as Arc<dyn plaza_processor::Store<$rows>>;
            let deps = HostDeps {
                log: Arc::clone(log),
                store: Arc::new(fault::Faulty::new(store, Rng::seeded(rng.next_u64()), odds)),
                replies: Arc::clone(replies),
                announce: $announce,
                supervisor: supervisor.clone(),
                config: config(),
            };
            Host::start(Arc::new($machine), deps);
        };
    }
    start!(Conversations { inbox_partitions: INBOXES }, <Conversations as Machine>::Row, None);
    start!(Inboxes, <Inboxes as Machine>::Row, Some(Arc::clone(shown) as Arc<_>));
}

async fn run(seed: u64) {
    println!("seed {seed}: repeat with PLAZA_SIM_SEED={seed}");
    let folder = tempfile::tempdir().expect("a folder");
    let db = Db::open(folder.path(), Options::default()).expect("a store");
    let clock = Clock::system();
    let time = clock.clone();
    let inner = EmbeddedLog::open(&db, &[(CHAT, 2), (INBOX, INBOXES)], move || time.now_micros()).expect("a log");
    let log: Arc<dyn EventLog> = Arc::new(Faulty::new(inner, seed, Faults::all()));
    let (store, replies, supervisor) = (Arc::new(Embedded::open(&db).expect("tables")), Replies::new(seed), Supervisor::new());
    let (rng, shown) = (Rng::seeded(seed), Arc::<Shown>::default());
    for _ in 0..2 {
        instance(&log, &store, &replies, &supervisor, &rng, &shown);
    }
    let asking = Asking::new(Caller::new(log, replies, 2), clock, Rng::seeded(rng.next_u64()), ConversationId::group(seed, [3; 10]));
    let story = Arc::new(Mutex::new(Story::default()));
    gather(&asking, &story).await;
    live(&asking, &story, &rng).await;
    let story = Arc::into_inner(story).expect("everybody is done").into_inner().expect("nobody panicked");
    judge(&*store, asking.group, &story, seed).await;
    let shown = shown.0.lock().expect("nobody panicked").clone();
    assert!(!shown.is_empty(), "nobody was shown anything");
    for who in 0..PEOPLE {
        let (user, head) = (person(who), store.inbox_head(person(who)).await.expect("read"));
        for (cursor, reference) in store.entries(user, 1..=head.max(1)).await.expect("read") {
            let place = match reference {
                Reference::Message { sequence, .. } => Some(sequence),
                Reference::Event(_) => None,
            };
            let before = shown.get(&(user, cursor)).copied();
            assert!(before.is_none_or(|before| before == place), "seed {seed}: {who} was shown {before:?} at {cursor}, there is {place:?}");
        }
    }
    assert!(!shown.contains_key(&(UserId::from_bytes([0; 16]), 0)), "seed {seed}: a place came twice or was left out in an inbox");
}

/// The group is made, and everybody who is asked accepts, many at once.
async fn gather(asking: &Asking, story: &Arc<Mutex<Story>>) {
    let owner = Member { who: 0, asking: asking.clone() };
    let create = chat::Create { title: "t".into(), people: Some(people(1..PEOPLE)) };
    let made = owner.change(chat::Kind::Create(create)).await;
    assert_eq!((made.head, made.joined.len(), made.invited.len()), (1, AT_ONCE, PEOPLE - 1 - AT_ONCE));
    {
        let mut story = story.lock().expect("nobody panicked");
        story.changes = 1;
        (0..=AT_ONCE).for_each(|who| story.enters(who, 1));
    }
    let mut accepting = JoinSet::new();
    for who in AT_ONCE + 1..PEOPLE {
        let (member, story) = (Member { who, asking: asking.clone() }, Arc::clone(story));
        accepting.spawn(async move {
            let first = member.accept().await;
            let mut story = story.lock().expect("nobody panicked");
            story.enters(who, first);
            story.changes += 1;
        });
    }
    while let Some(accepted) = accepting.join_next().await {
        accepted.expect("accepted");
    }
}

/// Some talk and take back what they said; others leave or are removed, and come again.
async fn live(asking: &Asking, story: &Arc<Mutex<Story>>, rng: &Rng) {
    let mut tasks = JoinSet::new();
    for who in 0..4 {
        let (member, story, rng) = (Member { who, asking: asking.clone() }, Arc::clone(story), Rng::seeded(rng.next_u64()));
        tasks.spawn(async move {
            for number in 0..30 {
                let sent = member.send(message(&format!("secret {who} {number}"))).await;
                story.lock().expect("nobody panicked").messages.insert(sent.sequence, who);
                if rng.next_u64().is_multiple_of(5) {
                    member.recall(&sent).await;
                    story.lock().expect("nobody panicked").recalled.push(sent.sequence);
                }
            }
        });
    }
    for lane in 0..4 {
        let (owner, story, rng) = (Member { who: 0, asking: asking.clone() }, Arc::clone(story), Rng::seeded(rng.next_u64()));
        tasks.spawn(async move {
            for round in 0..6 {
                // Nobody is in two lanes, so that what becomes of each is known.
                let who = 4 + lane * 124 + usize::try_from(rng.next_u64() % 124).expect("small");
                let member = Member { who, asking: owner.asking.clone() };
                let last = if (lane + round) % 2 == 0 { member.leave().await } else { owner.remove(who).await };
                story.lock().expect("nobody panicked").exits(who, last);
                // While there are more than 40, whoever comes is asked.
                let added = owner.change(chat::Kind::Add(people([who]))).await;
                assert_eq!(added.invited, [person(who).to_key()]);
                let first = member.accept().await;
                let mut story = story.lock().expect("nobody panicked");
                story.enters(who, first);
                story.changes += 1;
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.expect("no task panicked");
    }
}

async fn judge(store: &dyn Store, group: ConversationId, story: &Story, seed: u64) {
    let head = story.head();
    let told_of_recall = story.recalled.len();
    for who in 0..PEOPLE {
        let expected = story.heard(who);
        let heard = wait_for("everything is heard", LIMIT, || async {
            let (heard, recalls) = heard(store, who, group).await;
            if heard.len() >= expected.len() && (who >= 4 || recalls >= told_of_recall) {
                Ok((heard, recalls))
            } else {
                Err((heard.len(), recalls))
            }
        });
        let (heard, recalls) = heard.await.unwrap_or_else(|error| panic!("seed {seed}: {who}: {error}"));
        assert_eq!(heard, expected, "seed {seed}: what {who} heard");
        if who < 4 {
            assert_eq!(recalls, told_of_recall, "seed {seed}: what {who} was told of messages taken back");
        }
        let (member, last) =
            (store.member(person(who), group).await.expect("read").expect("a member"), story.times[&who].last().expect("a time").1);
        assert_eq!(member.membership.left_at, last, "seed {seed}: {who}");
        // Nobody marked anything read, so unread is what others said since the newest time began.
        let (read, last) = (member.reading.read, last.unwrap_or(head));
        let notices = store.notices(group, last).await.expect("read") - store.notices(group, read).await.expect("read");
        let recount = story.messages.range(read + 1..=last).filter(|(_, sender)| **sender != who).count() as u64;
        assert_eq!(member.reading.unread(last) - notices, recount, "seed {seed}: unread of {who}");
    }
    let order = store.messages(group, 1..=head + 9).await.expect("read");
    assert_eq!(
        order.iter().map(|(sequence, _)| *sequence).collect::<Vec<_>>(),
        (1..=head).collect::<Vec<_>>(),
        "seed {seed}: one dense order"
    );
    for (sequence, event) in order {
        let message = match Entry::decode(event.clone()).expect("an entry").event {
            Some(Event::Message(message)) => message,
            Some(Event::MembershipChanged(changed)) if changed.sequence == sequence => continue,
            other => panic!("{other:?}"),
        };
        let sender = person(story.messages[&sequence]).to_string();
        let gone = story.recalled.contains(&sequence);
        assert_eq!((message.sender_id, message.recalled, message.content.is_none()), (sender, gone, gone), "seed {seed}: {sequence}");
    }
    let row = store.group(group).await.expect("read").expect("a group");
    let members = store.group_members(group, None, PEOPLE + 1).await.expect("read");
    assert_eq!(
        (row.members as usize, members.len(), members.iter().filter(|(_, member)| member.role() == Role::Owner).count()),
        (PEOPLE, PEOPLE, 1)
    );
}

/// The places of the group's order in an inbox, and how often it was told of messages taken back. Cursors are dense or it panics.
async fn heard(store: &dyn Store, who: usize, group: ConversationId) -> (Vec<u64>, usize) {
    let user: UserId = person(who);
    let head = store.inbox_head(user).await.expect("read");
    let entries = store.entries(user, 1..=head.max(1)).await.expect("read");
    assert!(entries.iter().map(|(cursor, _)| *cursor).eq(1..=head), "cursors of {who}");
    let mut heard = Vec::new();
    let mut recalls = 0;
    for (_, reference) in entries {
        match reference {
            Reference::Message { conversation, sequence } => {
                assert_eq!(conversation, group);
                heard.push(sequence);
            }
            Reference::Event(event) => {
                let event = Entry::decode(event).expect("an entry").event;
                recalls += usize::from(matches!(event, Some(Event::MessageRecalled(_))));
            }
        }
    }
    (heard, recalls)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_people_hear_one_order_whatever_fails() {
    let seeds = match std::env::var("PLAZA_SIM_SEED") {
        Ok(seed) => vec![seed.parse().expect("a number")],
        Err(_) => (1..=3).collect(),
    };
    for seed in seeds {
        run(seed).await;
    }
}
