//! A machine hosted on the embedded log and tables, called as services call it.

use std::{collections::HashSet, ops::RangeInclusive, sync::Arc, time::Duration};

use bytes::Bytes;
use parking_lot::Mutex;
use plaza_embedded_db::{Db, Options};
use plaza_event_log::{EventLog, Record, Topic, TopicPartition, embedded::EmbeddedLog};
use plaza_processor::{
    Announce, CallError, Caller, Command, Config, Effects, Envelope, Host, HostDeps, Input, Key, Machine, Outcome, Replies, ReplyWhen,
    StateRow, Store, embedded::StateTables, outcome::Kind,
};
use plaza_runtime::{Clock, Rng, Supervisor, shutdown};
use plaza_types::{ClientId, Reason, UserId, partition};
use prost::Message as _;
use smallvec::{SmallVec, smallvec};
use tempfile::TempDir;

const COUNTS: Topic = Topic("counts");
const PARKED: Topic = Topic("counts.dead");
const BOMB: u64 = 13;
/// A key of another partition than "a".
const ELSEWHERE: &str = "d";

/// Adds what is sent to each key; panics on one number. Knows the rules up to a number.
struct Counts<const RULES: u32>;

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct Number {
    #[prost(uint64, tag = "1")]
    value: u64,
}

impl<const RULES: u32> Machine for Counts<RULES> {
    type Payload = Number;
    type State = Number;
    type Row = ();
    type Announcement = u64;

    const NAME: &'static str = "counts";
    const TOPIC: Topic = COUNTS;
    const RULES: RangeInclusive<u32> = 1..=RULES;

    fn keys(&self, record_key: &Bytes, _: &Envelope, _: &Number) -> SmallVec<[Key; 4]> {
        smallvec![Key(record_key.clone())]
    }

    fn apply(&self, input: Input<'_, Number>, _: usize, _: &Key, state: &mut Number, effects: &mut Effects<Self>) {
        state.value += input.payload.value;
        assert_ne!(input.payload.value, BOMB, "a bomb");
        effects.announce(state.value);
        effects.reply(Outcome::accepted(state.value.to_string()), ReplyWhen::Written);
    }

    fn encode(&self, state: &Number, _: bool) -> (Bytes, Option<Bytes>) {
        (prost::Message::encode_to_vec(state).into(), None)
    }

    fn decode(&self, row: &StateRow) -> Result<Number, prost::DecodeError> {
        prost::Message::decode(row.hot.clone())
    }
}

struct Tables(StateTables);

plaza_processor::machine_store!(Tables: (), |store, _rows| store.0, |_, _| {});

#[derive(Default)]
struct Heard {
    numbers: Mutex<Vec<u64>>,
    owned: Mutex<HashSet<u32>>,
}

impl Announce<u64> for Heard {
    fn announce(&self, _: u32, announcements: Vec<u64>) {
        self.numbers.lock().extend(announcements);
    }

    fn assigned(&self, partition: u32) {
        self.owned.lock().insert(partition);
    }

    fn revoked(&self, partition: u32) {
        self.owned.lock().remove(&partition);
    }
}

/// One process.
struct Process {
    log: Arc<EmbeddedLog>,
    tables: Arc<Tables>,
    db: Db,
    caller: Caller,
    heard: Arc<Heard>,
    supervisor: Supervisor,
}

impl Process {
    fn start(folder: &TempDir) -> Self {
        Self::knowing::<1>(folder)
    }

    /// Of a binary that knows the rules up to this number.
    fn knowing<const RULES: u32>(folder: &TempDir) -> Self {
        let db = Db::open(folder.path(), Options::default()).expect("a store");
        let clock = Clock::system();
        let log = EmbeddedLog::open(&db, &[(COUNTS, 2), (PARKED, 2)], move || clock.now_micros()).expect("a log");
        let tables = Arc::new(Tables(StateTables::open(&db, "test").expect("tables")));
        let (replies, heard, supervisor) = (Replies::new(Rng::system().next_u64()), Arc::<Heard>::default(), Supervisor::new());
        let deps = HostDeps {
            log: log.clone(),
            store: tables.clone(),
            replies: Arc::clone(&replies),
            announce: Some(heard.clone()),
            supervisor: supervisor.clone(),
            config: Config::default(),
        };
        Host::start(Arc::new(Counts::<RULES>), deps);
        Self { caller: Caller::new(log.clone(), replies, 1), log, tables, db, heard, supervisor }
    }

    async fn add(&self, key: &'static str, value: u64, request: ClientId) -> Outcome {
        self.add_within(Duration::from_secs(10), key, value, request).await.expect("a decision")
    }

    async fn add_within(&self, wait: Duration, key: &'static str, value: u64, request: ClientId) -> Result<Outcome, CallError> {
        let now = Clock::system().now_micros();
        let command = Command {
            topic: COUNTS,
            key: Bytes::from_static(key.as_bytes()),
            caller: UserId::from_bytes([1; 16]),
            request,
            fingerprint: value,
            payload: prost::Message::encode_to_vec(&Number { value }).into(),
            now,
            deadline: now + wait.as_micros() as u64,
            traceparent: None,
        };
        self.caller.call(command).await
    }

    async fn stop(self) {
        shutdown::shut_down(&self.supervisor, shutdown::Limits { total: Duration::from_secs(5), ..Default::default() }).await;
        self.db.close().await.expect("closed");
    }
}

fn request(number: u8) -> ClientId {
    ClientId::new(Clock::system().now_micros(), [number; 10])
}

#[tokio::test]
async fn a_machine_answers_remembers_and_goes_on_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let process = Process::start(&folder);
    let first = request(1);
    assert_eq!(process.add("a", 5, first).await, Outcome::accepted("5"));
    assert_eq!(process.add("b", 1, request(2)).await, Outcome::accepted("1"));
    assert_eq!(process.add("a", 5, first).await, Outcome::accepted("5"), "asked again");
    assert_eq!(process.add("a", 2, request(3)).await, Outcome::accepted("7"));
    let reused = process.add("a", 9, first).await;
    assert!(matches!(&reused.kind, Some(Kind::Refused(refusal)) if refusal.reason == Reason::RequestIdReused.number()), "{reused:?}");
    assert_eq!(process.heard.owned.lock().len(), 2);
    let mut heard = process.heard.numbers.lock().clone();
    heard.sort_unstable();
    assert_eq!(heard, [1, 5, 7]);
    let ends = [0, 1].map(|partition| TopicPartition { topic: COUNTS, partition });
    let (log, tables) = (Arc::clone(&process.log), Arc::clone(&process.tables));
    process.stop().await;
    for of in ends {
        let checkpoint = tables.checkpoint("counts", of.partition).await.expect("the store works").expect("an orderly end writes one");
        assert_eq!(checkpoint.next.offset, log.end(of).await.expect("the log works"));
    }
    drop((log, tables));

    let process = Process::start(&folder);
    assert_eq!(process.add("a", 5, first).await, Outcome::accepted("5"), "remembered in the store");
    assert_eq!(process.add("a", 1, request(4)).await, Outcome::accepted("8"));
    process.stop().await;
}

#[tokio::test]
async fn poison_is_parked_and_its_key_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let process = Process::start(&folder);
    assert_eq!(process.add("a", 5, request(1)).await, Outcome::accepted("5"));
    let parked = process.add("a", BOMB, request(2)).await;
    assert!(matches!(&parked.kind, Some(Kind::Refused(refusal)) if refusal.reason == Reason::Internal.number()), "{parked:?}");
    assert_eq!(process.add("a", 2, request(3)).await, Outcome::accepted("7"), "nothing of the poison is left");
    let parked = process.add("a", BOMB, request(4)).await;
    assert!(matches!(&parked.kind, Some(Kind::Refused(_))), "the first one is not decided again: {parked:?}");
    for partition in 0..2 {
        for value in [Bytes::new(), Bytes::from_static(&[0xff; 8])] {
            let record = Record { value, ..Record::default() };
            process.log.append(TopicPartition { topic: COUNTS, partition }, record).await.expect("the log works");
        }
    }
    assert_eq!(process.add("a", 1, request(5)).await, Outcome::accepted("8"), "what is no record at all is passed over");
    assert_eq!(process.add(ELSEWHERE, 1, request(6)).await, Outcome::accepted("1"), "in the other partition too");
    let mut dead = 0;
    for partition in 0..2 {
        dead += process.log.end(TopicPartition { topic: PARKED, partition }).await.expect("the log works");
    }
    assert_eq!(dead, 6);
    process.stop().await;
}

#[tokio::test]
async fn a_partition_waits_for_a_binary_that_knows_the_rules() {
    let folder = tempfile::tempdir().expect("a folder");
    let process = Process::start(&folder);
    assert_eq!(process.add("a", 5, request(1)).await, Outcome::accepted("5"));
    let number = partition::of(b"a", 2);
    let of = TopicPartition { topic: COUNTS, partition: number };
    assert_ne!(number, partition::of(ELSEWHERE.as_bytes(), 2));
    let unknown = process.log.end(of).await.expect("the log works");
    let envelope = Envelope { rules: 99, payload: Number { value: 2 }.encode_to_vec().into(), ..Envelope::default() };
    let record = Record { key: Bytes::from_static(b"a"), value: envelope.encode_to_vec().into(), headers: Vec::new() };
    process.log.append(of, record).await.expect("the log works");
    let behind = request(2);
    let undecided = process.add_within(Duration::from_millis(300), "a", 1, behind).await;
    assert!(matches!(undecided, Err(CallError::Undecided)), "what is behind it waits: {undecided:?}");
    assert_eq!(process.add(ELSEWHERE, 1, request(3)).await, Outcome::accepted("1"), "the other partition goes on");
    let (log, tables) = (Arc::clone(&process.log), Arc::clone(&process.tables));
    process.stop().await;
    let checkpoint = tables.checkpoint("counts", number).await.expect("the store works").unwrap_or_default();
    assert!(checkpoint.next.offset <= unknown, "it is not passed over");
    for partition in 0..2 {
        assert_eq!(log.end(TopicPartition { topic: PARKED, partition }).await.expect("the log works"), 0, "nor parked");
    }
    drop((log, tables));

    let process = Process::knowing::<99>(&folder);
    assert_eq!(process.add("a", 1, behind).await, Outcome::accepted("8"), "5 and 2 and this");
    process.stop().await;
}
