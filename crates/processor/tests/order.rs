//! What waits for what: an emission for the rows that came with it, as the machine asks for, and attached readers for the checkpoint.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use plaza_embedded_db::{Db, Options};
use plaza_event_log::{EventLog, Record, Topic, TopicPartition, embedded::EmbeddedLog};
use plaza_processor::{
    Announce, Checkpoint, Config, Effects, Emission, Envelope, Host, HostDeps, IdKey, Input, Key, Machine, Remembered, Replies, StateRow,
    StateWrite, Store, StoreError, Timed, embedded::StateTables,
};
use plaza_runtime::{Clock, Supervisor, shutdown};
use prost::Message as _;
use smallvec::{SmallVec, smallvec};
use tokio::sync::Semaphore;

const HEARD: Topic = Topic("heard");
const TOLD: Topic = Topic("told");
const PARKED: Topic = Topic("heard.dead");

/// Writes a row for each record and tells of it.
struct Telling<const ROWS_FIRST: bool>;

impl<const ROWS_FIRST: bool> Machine for Telling<ROWS_FIRST> {
    type Payload = ();
    type State = ();
    type Row = ();
    type Announcement = ();

    const NAME: &'static str = "telling";
    const TOPIC: Topic = HEARD;

    fn after_rows(&self, topic: Topic) -> bool {
        ROWS_FIRST && topic == TOLD
    }

    fn keys(&self, record_key: &Bytes, _: &Envelope, (): &()) -> SmallVec<[Key; 4]> {
        smallvec![Key(record_key.clone())]
    }

    fn apply(&self, _: Input<'_, ()>, _: usize, key: &Key, (): &mut (), effects: &mut Effects<Self>) {
        effects.row(());
        effects.emit(Emission { topic: TOLD, key: key.0.clone(), partition: None, payload: Bytes::new(), carry_reply: false });
    }

    fn encode(&self, (): &(), _: bool) -> (Bytes, Option<Bytes>) {
        (Bytes::new(), None)
    }

    fn decode(&self, _: &StateRow) -> Result<(), prost::DecodeError> {
        Ok(())
    }
}

/// Writes rows and reads a checkpoint only while it is let.
struct Slow {
    tables: StateTables,
    asked: Semaphore,
    let_go: Semaphore,
}

impl Slow {
    async fn gate(&self) -> Result<(), StoreError> {
        self.asked.add_permits(1);
        self.let_go.acquire().await.map_err(|error| StoreError { message: error.to_string() })?.forget();
        Ok(())
    }

    /// Returns when something waits.
    async fn is_asked(&self) {
        within(self.asked.acquire()).await.expect("open").forget();
    }
}

/// Whether readers may come.
#[derive(Default)]
struct Readers(AtomicBool);

impl Announce<()> for Readers {
    fn announce(&self, _: u32, _: Vec<()>) {}

    fn assigned(&self, _: u32) {
        self.0.store(true, Ordering::Release);
    }

    fn revoked(&self, _: u32) {}
}

async fn within<T>(wait: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), wait).await.expect("soon")
}

#[async_trait]
impl Store<()> for Slow {
    async fn checkpoint(&self, machine: &'static str, partition: u32) -> Result<Option<Checkpoint>, StoreError> {
        self.gate().await?;
        self.tables.checkpoint(machine, partition).await
    }
    async fn write_checkpoint(&self, machine: &'static str, partition: u32, checkpoint: &Checkpoint) -> Result<(), StoreError> {
        self.tables.write_checkpoint(machine, partition, checkpoint).await
    }
    async fn states(&self, machine: &'static str, keys: &[Key]) -> Result<Vec<Option<StateRow>>, StoreError> {
        self.tables.states(machine, keys).await
    }
    async fn write_states(&self, machine: &'static str, states: &[StateWrite]) -> Result<(), StoreError> {
        self.tables.write_states(machine, states).await
    }
    async fn remembered(&self, machine: &'static str, ids: &[IdKey]) -> Result<Vec<Option<Remembered>>, StoreError> {
        self.tables.remembered(machine, ids).await
    }
    async fn write_rows(&self, machine: &'static str, rows: &[Timed<()>], remembered: &[Timed<Remembered>]) -> Result<(), StoreError> {
        self.gate().await?;
        self.tables.write_rows(machine, rows, remembered, |_, _| {}).await
    }
}

/// Whether the emission is in the log while the rows are not written yet; returns once it is there in the end.
async fn is_told_before_rows<const ROWS_FIRST: bool>() -> bool {
    let folder = tempfile::tempdir().expect("a folder");
    let db = Db::open(folder.path(), Options::default()).expect("a store");
    let clock = Clock::system();
    let log = EmbeddedLog::open(&db, &[(HEARD, 1), (TOLD, 1), (PARKED, 1)], move || clock.now_micros()).expect("a log");
    let tables = StateTables::open(&db, "test").expect("tables");
    let store = Arc::new(Slow { tables, asked: Semaphore::new(0), let_go: Semaphore::new(0) });
    let (supervisor, readers) = (Supervisor::new(), Arc::<Readers>::default());
    let deps = HostDeps {
        log: log.clone(),
        store: store.clone(),
        replies: Replies::new(7),
        announce: Some(readers.clone()),
        supervisor: supervisor.clone(),
        config: Config::default(),
    };
    Host::start(Arc::new(Telling::<ROWS_FIRST>), deps);
    store.is_asked().await;
    assert!(!readers.0.load(Ordering::Acquire), "the checkpoint is not read");
    store.let_go.add_permits(1);
    let record = Record {
        key: Bytes::from_static(b"key"),
        value: Envelope { rules: 1, ..Envelope::default() }.encode_to_vec().into(),
        headers: Vec::new(),
    };
    let told = TopicPartition { topic: TOLD, partition: 0 };
    log.append(TopicPartition { topic: HEARD, partition: 0 }, record).await.expect("the log works");
    store.is_asked().await;
    assert!(readers.0.load(Ordering::Acquire));
    // Everything that does not wait for the rows is queued by now, and the log keeps the order of what is queued.
    log.append(TopicPartition { topic: PARKED, partition: 0 }, Record::default()).await.expect("the log works");
    let before = log.end(told).await.expect("the log works");
    store.let_go.add_permits(1);
    let mut reader = log.reader(told, 0).await.expect("the log works");
    within(reader.next(1)).await.expect("the log works");
    shutdown::shut_down(&supervisor, shutdown::Limits { total: Duration::from_secs(5), ..Default::default() }).await;
    before > 0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_wait_for_the_checkpoint_and_emissions_for_rows_only_where_the_machine_asks_for_it() {
    assert!(!is_told_before_rows::<true>().await);
    assert!(is_told_before_rows::<false>().await);
}
