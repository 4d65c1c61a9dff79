//! The one thread that writes: it applies what is queued as one group, then makes at most one fsync for
//! everybody who waits for one.

use std::{
    collections::{HashMap, hash_map},
    hash::{BuildHasher as _, Hasher as _, RandomState},
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use bytes::Bytes;
use fjall::PersistMode;
use quick_cache::{DefaultHashBuilder, Weighter, unsync::Cache};
use tokio::sync::oneshot;

use crate::{
    Batch, Expect,
    batch::{Action, Operation},
    journal::{self, Marker},
    queue::{End, Entry, Position, Queue, Work},
    sequence::Growing,
};

/// Memory for merged rows that are likely to be written again.
const KNOWN_BYTES: usize = 4 << 20;
/// What one of them costs beyond its key and value.
const KNOWN_OVERHEAD_BYTES: usize = 128;

pub(crate) struct Writer {
    database: fjall::Database,
    group: Group,
    queue: Arc<Queue>,
    committed: Position,
    synced: Position,
}

type Decision = (oneshot::Sender<bool>, bool);

impl Writer {
    /// Goes on behind what was recovered, which the engine has synced.
    ///
    /// # Errors
    /// The engine's: the place in the journal cannot be read.
    pub(crate) fn new(database: fjall::Database, queue: Arc<Queue>) -> Result<Self, fjall::Error> {
        let group = Group::new(database.clone())?;
        Ok(Self { database, group, queue, committed: Position::default(), synced: Position::default() })
    }

    /// Writes until the queue is closed and empty, or until the first failure.
    pub(crate) fn run(mut self) {
        // A panic must not leave callers waiting for ever.
        let mut end = PublishEnd { queue: self.queue.clone(), end: End::Poisoned };
        match self.write_until_closed() {
            Ok(()) => end.end = End::Closed,
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "store poisoned");
            }
        }
        // The engine is let go of first: whoever sees the end may open the folder again.
        drop(self);
        drop(end);
    }

    fn write_until_closed(&mut self) -> Result<(), fjall::Error> {
        let mut due = None;
        loop {
            match self.queue.next(self.committed, self.synced, &mut due) {
                Work::Commit { entries, last } => self.commit(entries, last)?,
                Work::Sync => {
                    self.sync()?;
                    due = None;
                }
                Work::Stop => return self.sync(),
            }
        }
    }

    fn commit(&mut self, entries: Vec<Entry>, last: Position) -> Result<(), fjall::Error> {
        let counts = &self.queue.counts;
        let bytes = entries.iter().map(|entry| entry.batch.queue_bytes()).sum();
        let operations: usize = entries.iter().map(|entry| entry.batch.len()).sum();
        counts.groups.fetch_add(1, Ordering::Relaxed);
        counts.batches.fetch_add(entries.len() as u64, Ordering::Relaxed);
        counts.operations.fetch_add(operations as u64, Ordering::Relaxed);
        let decisions = self.apply(entries)?;
        self.committed = last;
        self.queue.publish_visible(last, bytes);
        for (waiter, holds) in decisions {
            // Nobody is left to be told if the caller gave up.
            let _ = waiter.send(holds);
        }
        Ok(())
    }

    fn apply(&mut self, entries: Vec<Entry>) -> Result<Vec<Decision>, fjall::Error> {
        let mut decisions = Vec::new();
        for entry in entries {
            if let Some(condition) = entry.condition {
                // The condition must see what stands before it in the queue.
                self.group.commit()?;
                let holds = all_hold(&condition.expects)?;
                decisions.push((condition.decision, holds));
                if !holds {
                    continue;
                }
            }
            let Batch { keyspaces, operations, .. } = entry.batch;
            for Operation { keyspace, key, action } in operations {
                self.group.add(&keyspaces[keyspace].rows, key, action)?;
            }
        }
        self.group.commit()?;
        Ok(decisions)
    }

    fn sync(&mut self) -> Result<(), fjall::Error> {
        let started = Instant::now();
        self.database.persist(PersistMode::SyncData)?;
        let micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.synced = self.committed;
        self.group.synced();
        let counts = &self.queue.counts;
        counts.fsyncs.fetch_add(1, Ordering::Relaxed);
        counts.last_sync_micros.store(micros, Ordering::Relaxed);
        self.queue.publish_durable(self.synced);
        Ok(())
    }
}

fn all_hold(expects: &[Expect]) -> Result<bool, fjall::Error> {
    for expect in expects {
        let found = expect.keyspace.rows.get(&expect.key)?;
        if found.as_deref() != expect.expected.as_deref() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Batches applied together: all of them survive a crash, or none.
struct Group {
    database: fjall::Database,
    batch: fjall::OwnedWriteBatch,
    /// What is appended, by sequence. There are few of them.
    runs: Vec<Growing>,
    /// The winning writes so far.
    merged: HashMap<RowKey, (fjall::Keyspace, Bytes), DefaultHashBuilder>,
    /// What was merged lately. Most such rows are written again and again, and to look one up in the engine costs as much as to write it.
    known: Cache<RowKey, Bytes, ByLength>,
    /// Where the marker is kept, and what the last group said.
    markers: fjall::Keyspace,
    marker: Marker,
}

/// A keyspace's number, and a key in it.
type RowKey = (u64, Bytes);

#[derive(Clone)]
struct ByLength;

impl Weighter<RowKey, Bytes> for ByLength {
    fn weight(&self, (_, key): &RowKey, stored: &Bytes) -> u64 {
        (KNOWN_OVERHEAD_BYTES + key.len() + stored.len()) as u64
    }
}

impl Group {
    fn new(database: fjall::Database) -> Result<Self, fjall::Error> {
        let known = Cache::with_weighter(KNOWN_BYTES / (2 * KNOWN_OVERHEAD_BYTES), KNOWN_BYTES as u64, ByLength);
        let markers = database.keyspace(journal::KEYSPACE, fjall::KeyspaceCreateOptions::default)?;
        // The standard library seeds its hashers from the system's randomness.
        let store = || RandomState::new().build_hasher().finish();
        let found = markers.get(journal::MARKER)?.and_then(|stored| Marker::decode(&stored));
        let Marker { store, group, .. } = found.unwrap_or_else(|| Marker { store: store(), group: 0, synced: 0 });
        let marker = Marker { store, group, synced: group };
        Ok(Self { batch: begin(&database), database, runs: Vec::new(), merged: HashMap::default(), known, markers, marker })
    }

    /// All groups so far survive a power loss.
    fn synced(&mut self) {
        self.marker.synced = self.marker.group;
    }

    fn add(&mut self, rows: &fjall::Keyspace, key: Bytes, action: Action) -> Result<(), fjall::Error> {
        match action {
            Action::Insert(value) => self.batch.insert(rows, &key[..], &value[..]),
            Action::Remove => self.batch.remove(rows, &key[..]),
            Action::Append(number, entry) => {
                let place = self.runs.iter().position(|run| run.rows.id() == rows.id()).unwrap_or_else(|| {
                    self.runs.push(Growing::new(rows.clone()));
                    self.runs.len() - 1
                });
                let run = &mut self.runs[place];
                if !run.takes(number) {
                    run.put(&mut self.batch);
                }
                run.add(number, &entry);
            }
            Action::Merge(stored) => match self.merged.entry((rows.id(), key)) {
                hash_map::Entry::Occupied(mut pending) => {
                    if pending.get().1 < stored {
                        pending.get_mut().1 = stored;
                    }
                }
                hash_map::Entry::Vacant(vacant) => {
                    let wins = match self.known.get(vacant.key()) {
                        Some(known) => *known < stored,
                        None => rows.get(&vacant.key().1)?.is_none_or(|found| found[..] < stored[..]),
                    };
                    if wins {
                        vacant.insert((rows.clone(), stored));
                    }
                }
            },
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<(), fjall::Error> {
        let mut batch = std::mem::replace(&mut self.batch, begin(&self.database));
        for (key, (rows, stored)) in self.merged.drain() {
            batch.insert(&rows, &key.1[..], &stored[..]);
            self.known.insert(key, stored);
        }
        self.runs.iter_mut().for_each(|run| run.put(&mut batch));
        if batch.is_empty() {
            return Ok(());
        }
        self.marker.group += 1;
        batch.insert(&self.markers, journal::MARKER, self.marker.encode());
        batch.commit()
    }
}

fn begin(database: &fjall::Database) -> fjall::OwnedWriteBatch {
    database.batch().durability(Some(PersistMode::Buffer))
}

struct PublishEnd {
    queue: Arc<Queue>,
    end: End,
}

impl Drop for PublishEnd {
    fn drop(&mut self) {
        self.queue.publish_end(self.end);
    }
}
