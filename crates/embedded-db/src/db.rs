//! The handle callers hold: enqueue, then wait for as much as is needed.

use std::{
    fmt,
    path::Path,
    sync::{Arc, atomic::Ordering},
    thread::JoinHandle,
};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::{
    Batch, Error, Expect, Keyspace, OpenError, Options, Position, Sequence,
    group::Store,
    maintenance::{Maintenance, Threads},
    open,
    open::Opened,
    queue::{Condition, End, Entry, Queue},
    table::{Kind, Tables},
    writer::Writer,
};

/// An open store. Cheap to clone; the last handle that goes closes it.
#[derive(Clone)]
pub struct Db {
    inner: Arc<Inner>,
}

struct Inner {
    tables: Arc<Tables>,
    queue: Arc<Queue>,
    writer: Mutex<Option<JoinHandle<()>>>,
    /// They end after the writer.
    _maintenance: Threads,
}

/// Counts since the store was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Times the journal was synced.
    pub fsyncs: u64,
    /// Groups of batches applied together.
    pub groups: u64,
    /// Batches taken.
    pub batches: u64,
    /// Rows written or removed, also those that lost to a later write.
    pub operations: u64,
    /// Bytes enqueued and not yet applied.
    pub queue_bytes: usize,
    /// What the last sync took.
    pub last_sync_micros: u64,
}

impl Db {
    /// Opens the store in a folder, creating it if need be. Blocks while journals are replayed.
    pub fn open(dir: &Path, options: Options) -> Result<Self, OpenError> {
        let Opened { tables, segments, last } = open::open(dir, &options)?;
        let queue = Arc::new(Queue::new(options.queue_limit_bytes, options.linger_max));
        let maintenance = Maintenance::new(Arc::clone(&tables), Arc::clone(&segments.complete), Arc::clone(&queue));
        let folder = |source| OpenError::Folder { path: dir.to_owned(), source };
        let threads = Arc::clone(&maintenance).start().map_err(folder)?;
        let journal_limit_bytes = options.journal_limit_bytes;
        let store = Store { tables: Arc::clone(&tables), segments, maintenance, last, journal_limit_bytes };
        let writer = Writer::new(store, Arc::clone(&queue));
        let thread = std::thread::Builder::new().name("db-writer".to_owned()).spawn(|| writer.run()).map_err(folder)?;
        Ok(Self { inner: Arc::new(Inner { tables, queue, writer: Mutex::new(Some(thread)), _maintenance: threads }) })
    }

    /// Opens or creates a keyspace for rows that are looked up by key. Blocks while it is created.
    ///
    /// # Panics
    /// If the name is empty, longer than 200 bytes, or has others than letters, digits, `.`, `_` and `-`.
    pub fn keyspace(&self, name: &str) -> Result<Keyspace, Error> {
        self.open_keyspace(name, Kind::Rows)
    }

    /// Opens or creates a keyspace that is read in ranges: larger blocks, compressed once they leave the
    /// first level, and no filters for single keys. Blocks while it is created.
    ///
    /// # Panics
    /// As [`keyspace`](Self::keyspace).
    pub fn range_keyspace(&self, name: &str) -> Result<Keyspace, Error> {
        self.open_keyspace(name, Kind::Ranges)
    }

    /// Opens or creates a sequence. Blocks while it is created. Its entries are not compressed.
    ///
    /// # Panics
    /// As [`keyspace`](Self::keyspace).
    pub fn sequence(&self, name: &str) -> Result<Sequence, Error> {
        self.open_keyspace(name, Kind::Runs).map(Sequence::new)
    }

    fn open_keyspace(&self, name: &str, kind: Kind) -> Result<Keyspace, Error> {
        Ok(Keyspace::new(self.inner.tables.table(name, kind)?))
    }

    /// Takes a batch and gives its position: the order of positions is the order in the journal. Whoever
    /// can wait awaits [`ready`](Self::ready) before.
    pub fn enqueue(&self, batch: Batch) -> Position {
        let entry = Entry { batch, condition: None };
        self.inner.queue.push(|_| (entry, ())).0
    }

    /// As [`enqueue`](Self::enqueue), for a caller that numbers its rows in journal order: `fill` runs
    /// while no other batch can be enqueued. It must be short and must not call this store.
    pub fn enqueue_with<R>(&self, fill: impl FnOnce(Position, &mut Batch) -> R) -> (Position, R) {
        self.inner.queue.push(|position| {
            let mut batch = Batch::new();
            let result = fill(position, &mut batch);
            let entry = Entry { batch, condition: None };
            (entry, result)
        })
    }

    /// Writes the batch if every expectation holds at its place in the journal, else nothing; tells
    /// which once the outcome is visible. `durable(enqueued())` then waits for it to be durable.
    pub async fn conditional(&self, expects: Vec<Expect>, batch: Batch) -> Result<bool, Error> {
        let (decision, outcome) = oneshot::channel();
        let entry = Entry { batch, condition: Some(Condition { expects, decision }) };
        self.inner.queue.push(|_| (entry, ()));
        match outcome.await {
            Ok(holds) => Ok(holds),
            Err(_) => Err(self.inner.queue.end().await.into()),
        }
    }

    /// Waits while more is queued than the limit. The queue then exceeds it by at most what those who
    /// were let through enqueue.
    pub async fn ready(&self) {
        self.inner.queue.room().await;
    }

    /// Waits until reads see the batch. It then survives a kill of the process, but not power loss.
    pub async fn visible(&self, position: Position) -> Result<(), Error> {
        self.inner.queue.visible(position).await
    }

    /// Whether reads see the batch already; an error if they never will. Costs less than to wait.
    pub fn is_visible(&self, position: Position) -> Result<bool, Error> {
        self.inner.queue.is_visible(position)
    }

    /// Waits until the batch, and everything before it, survives power loss.
    pub async fn durable(&self, position: Position) -> Result<(), Error> {
        self.inner.queue.durable(position).await
    }

    /// The last position handed out: `durable(enqueued())` is a barrier behind everything so far.
    pub fn enqueued(&self) -> Position {
        self.inner.queue.enqueued()
    }

    /// Announces that more writes may follow at once. An fsync that is due waits for them, at most
    /// [`Options::linger_max`], so that a request and what follows from it share one.
    pub fn busy(&self) -> BusyGuard {
        self.inner.queue.begin_busy();
        BusyGuard { queue: self.inner.queue.clone() }
    }

    /// Resolves when a write or fsync has failed; the process should then exit, for only recovery finds
    /// out what is on disk. Never resolves after a clean close.
    pub async fn failed(&self) {
        if self.inner.queue.end().await == End::Closed {
            std::future::pending().await
        }
    }

    /// Writes and syncs everything enqueued so far, then stops. Later writes fail with
    /// [`Error::Closed`]; reads go on. The folder can be opened again once every handle is dropped.
    pub async fn close(&self) -> Result<(), Error> {
        self.inner.queue.close();
        match self.inner.queue.end().await {
            End::Closed => Ok(()),
            End::Poisoned => Err(Error::Poisoned),
        }
    }

    /// What the store has done so far.
    pub fn stats(&self) -> Stats {
        let queue = &self.inner.queue;
        let counts = &queue.counts;
        Stats {
            fsyncs: counts.fsyncs.load(Ordering::Relaxed),
            groups: counts.groups.load(Ordering::Relaxed),
            batches: counts.batches.load(Ordering::Relaxed),
            operations: counts.operations.load(Ordering::Relaxed),
            queue_bytes: queue.bytes(),
            last_sync_micros: counts.last_sync_micros.load(Ordering::Relaxed),
        }
    }
}

impl fmt::Debug for Db {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Db").field("stats", &self.stats()).finish()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.queue.close();
        if let Some(thread) = self.writer.get_mut().take() {
            // A panic of the writer was already published as a failure.
            let _ = thread.join();
        }
    }
}

/// While it lives, more writes may follow at once: see [`Db::busy`].
#[derive(Debug)]
#[must_use]
pub struct BusyGuard {
    queue: Arc<Queue>,
}

impl Drop for BusyGuard {
    fn drop(&mut self) {
        self.queue.end_busy();
    }
}
