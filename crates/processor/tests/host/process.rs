//! The machine of these tests, and a process that hosts it on the embedded log and tables.

use std::{collections::HashSet, ops::RangeInclusive, sync::Arc, time::Duration};

use bytes::Bytes;
use parking_lot::Mutex;
use plaza_embedded_db::{Db, Options};
use plaza_event_log::{Topic, embedded::EmbeddedLog};
use plaza_processor::{
    Announce, CallError, Caller, Command, Config, Effects, Envelope, Host, HostDeps, Input, Key, Machine, Outcome, Replies, ReplyWhen,
    StateRow, Store as _, embedded::StateTables,
};
use plaza_runtime::{Clock, Rng, Supervisor, shutdown};
use plaza_types::{ClientId, Reason, UserId};
use prost::Message as _;
use smallvec::{SmallVec, smallvec};
use tempfile::TempDir;

pub(crate) const COUNTS: Topic = Topic("counts");
pub(crate) const PARKED: Topic = Topic("counts.dead");
pub(crate) const BOMB: u64 = 13;
/// Refused until the sum is as large.
pub(crate) const LARGE: u64 = 20;
/// A key of another partition than "a".
pub(crate) const ELSEWHERE: &str = "d";

/// Adds what is sent to each key; panics on one number and refuses another at first. Knows the rules up to a number.
struct Counts<const RULES: u32>;

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct Number {
    #[prost(uint64, tag = "1")]
    pub(crate) value: u64,
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
        let Number { value } = *input.payload;
        if value == LARGE && state.value < LARGE {
            return effects.reply(Outcome::refused(Reason::QuotaExceeded, "number", "too large so far"), ReplyWhen::Decided);
        }
        state.value += value;
        assert_ne!(value, BOMB, "a bomb");
        effects.announce(state.value);
        effects.reply(Outcome::accepted(state.value.to_string()), ReplyWhen::Written);
    }

    fn repeat(&self, _: Input<'_, Number>, _: &Key, state: &Number, announcements: &mut Vec<u64>) {
        announcements.push(state.value);
    }

    fn encode(&self, state: &Number, _: bool) -> (Bytes, Option<Bytes>) {
        (state.encode_to_vec().into(), None)
    }

    fn decode(&self, row: &StateRow) -> Result<Number, prost::DecodeError> {
        Number::decode(row.hot.clone())
    }
}

pub(crate) struct Tables(StateTables);

plaza_processor::machine_store!(Tables: (), |store, _rows| store.0, |_, _| {});

/// Puts a partition's checkpoint back to the beginning, when no process runs.
pub(crate) async fn rewind(folder: &TempDir, partition: u32) {
    let db = Db::open(folder.path(), Options::default()).expect("a store");
    let tables = Tables(StateTables::open(&db, "test").expect("tables"));
    let mut checkpoint = tables.checkpoint("counts", partition).await.expect("the store works").expect("an orderly end writes one");
    checkpoint.next.offset = 0;
    // The last write wins.
    checkpoint.last_time += 1;
    tables.write_checkpoint("counts", partition, &checkpoint).await.expect("the store works");
    db.close().await.expect("closed");
}

#[derive(Default)]
pub(crate) struct Heard {
    pub(crate) numbers: Mutex<Vec<u64>>,
    pub(crate) owned: Mutex<HashSet<u32>>,
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
pub(crate) struct Process {
    pub(crate) log: Arc<EmbeddedLog>,
    pub(crate) tables: Arc<Tables>,
    db: Db,
    clock: Clock,
    caller: Caller,
    pub(crate) heard: Arc<Heard>,
    supervisor: Supervisor,
}

impl Process {
    pub(crate) fn start(folder: &TempDir) -> Self {
        Self::open::<1>(folder, Clock::system(), Config::default())
    }

    /// Of a binary that knows the rules up to this number.
    pub(crate) fn open<const RULES: u32>(folder: &TempDir, clock: Clock, config: Config) -> Self {
        let db = Db::open(folder.path(), Options::default()).expect("a store");
        let log_clock = clock.clone();
        let log = EmbeddedLog::open(&db, &[(COUNTS, 2), (PARKED, 2)], move || log_clock.now_micros()).expect("a log");
        let tables = Arc::new(Tables(StateTables::open(&db, "test").expect("tables")));
        let (replies, heard, supervisor) = (Replies::new(Rng::system().next_u64()), Arc::<Heard>::default(), Supervisor::new());
        let deps = HostDeps {
            log: log.clone(),
            store: tables.clone(),
            replies: Arc::clone(&replies),
            announce: Some(heard.clone()),
            supervisor: supervisor.clone(),
            config,
        };
        Host::start(Arc::new(Counts::<RULES>), deps);
        Self { caller: Caller::new(log.clone(), replies, 1), log, tables, db, clock, heard, supervisor }
    }

    pub(crate) async fn add(&self, key: &'static str, value: u64, request: ClientId) -> Outcome {
        self.add_within(Duration::from_secs(10), UserId::from_bytes([1; 16]), key, value, request).await.expect("a decision")
    }

    pub(crate) async fn add_within(
        &self,
        wait: Duration,
        caller: UserId,
        key: &'static str,
        value: u64,
        request: ClientId,
    ) -> Result<Outcome, CallError> {
        let now = self.clock.now_micros();
        let command = Command {
            topic: COUNTS,
            key: Bytes::from_static(key.as_bytes()),
            caller,
            request,
            fingerprint: value,
            payload: Number { value }.encode_to_vec().into(),
            now,
            deadline: now + wait.as_micros() as u64,
            traceparent: None,
        };
        self.caller.call(command).await
    }

    pub(crate) async fn stop(self) {
        shutdown::shut_down(&self.supervisor, shutdown::Limits { total: Duration::from_secs(5), ..Default::default() }).await;
        self.db.close().await.expect("closed");
    }
}
