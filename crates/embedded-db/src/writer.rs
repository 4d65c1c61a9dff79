//! The one thread that writes: it applies what is queued as one group, then makes at most one fsync for
//! everybody who waits for one.

use std::{
    collections::{HashMap, hash_map},
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use bytes::Bytes;
use fjall::PersistMode;
use tokio::sync::oneshot;

use crate::{
    Expect,
    batch::{Action, Operation},
    queue::{End, Entry, Position, Queue, Work},
};

pub(crate) struct Writer {
    database: fjall::Database,
    queue: Arc<Queue>,
    committed: Position,
    synced: Position,
}

type Decision = (oneshot::Sender<bool>, bool);

impl Writer {
    pub(crate) fn new(database: fjall::Database, queue: Arc<Queue>) -> Self {
        Self { database, queue, committed: Position::default(), synced: Position::default() }
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

    fn apply(&self, entries: Vec<Entry>) -> Result<Vec<Decision>, fjall::Error> {
        let mut decisions = Vec::new();
        let mut group = Group::new(&self.database);
        for entry in entries {
            if let Some(condition) = entry.condition {
                // The condition must see what stands before it in the queue.
                std::mem::replace(&mut group, Group::new(&self.database)).commit()?;
                let holds = all_hold(&condition.expects)?;
                decisions.push((condition.decision, holds));
                if !holds {
                    continue;
                }
            }
            for operation in entry.batch.operations {
                group.add(operation)?;
            }
        }
        group.commit()?;
        Ok(decisions)
    }

    fn sync(&mut self) -> Result<(), fjall::Error> {
        let started = Instant::now();
        self.database.persist(PersistMode::SyncData)?;
        let micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.synced = self.committed;
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
    batch: fjall::OwnedWriteBatch,
    /// The winning writes so far, by keyspace and key.
    merged: HashMap<(u64, Bytes), (fjall::Keyspace, Bytes)>,
}

impl Group {
    fn new(database: &fjall::Database) -> Self {
        Self { batch: database.batch().durability(Some(PersistMode::Buffer)), merged: HashMap::new() }
    }

    fn add(&mut self, operation: Operation) -> Result<(), fjall::Error> {
        let Operation { keyspace, key, action } = operation;
        let rows = keyspace.rows;
        match action {
            Action::Insert(value) => self.batch.insert(&rows, &key[..], &value[..]),
            Action::Remove => self.batch.remove(&rows, &key[..]),
            Action::Merge(stored) => match self.merged.entry((rows.id(), key)) {
                hash_map::Entry::Occupied(mut pending) => {
                    if pending.get().1 < stored {
                        pending.insert((rows, stored));
                    }
                }
                hash_map::Entry::Vacant(vacant) => {
                    let found = rows.get(&vacant.key().1)?;
                    if found.is_none_or(|found| found[..] < stored[..]) {
                        vacant.insert((rows, stored));
                    }
                }
            },
        }
        Ok(())
    }

    fn commit(mut self) -> Result<(), fjall::Error> {
        for ((_, key), (rows, stored)) in self.merged {
            self.batch.insert(&rows, &key[..], &stored[..]);
        }
        self.batch.commit()
    }
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
