//! The one thread that writes: it applies what is queued as one group, then makes at most one fsync for
//! everybody who waits for one.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use tokio::sync::oneshot;

use crate::{
    Batch, Expect,
    batch::Operation,
    group::{Group, Store},
    queue::{End, Entry, Position, Queue, Work},
};

pub(crate) struct Writer {
    group: Group,
    queue: Arc<Queue>,
    committed: Position,
    synced: Position,
}

type Decision = (oneshot::Sender<bool>, bool);

impl Writer {
    pub(crate) fn new(store: Store, queue: Arc<Queue>) -> Self {
        Self { group: Group::new(store), queue, committed: Position::default(), synced: Position::default() }
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
        // The files are let go of first: whoever sees the end may open the folder again.
        drop(self);
        drop(end);
    }

    fn write_until_closed(&mut self) -> lsm_tree::Result<()> {
        self.group.shorten_journal()?;
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

    fn commit(&mut self, entries: Vec<Entry>, last: Position) -> lsm_tree::Result<()> {
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
        if self.group.is_full() {
            // What is flushed must not outlive what the journal lost of others, and a complete journal is synced.
            self.sync()?;
            self.group.make_room()?;
        }
        Ok(())
    }

    fn apply(&mut self, entries: Vec<Entry>) -> lsm_tree::Result<Vec<Decision>> {
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
                self.group.add(&keyspaces[keyspace].table, key, action)?;
            }
        }
        self.group.commit()?;
        Ok(decisions)
    }

    fn sync(&mut self) -> lsm_tree::Result<()> {
        let started = Instant::now();
        self.group.sync()?;
        let micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.synced = self.committed;
        let counts = &self.queue.counts;
        counts.fsyncs.fetch_add(1, Ordering::Relaxed);
        counts.last_sync_micros.store(micros, Ordering::Relaxed);
        self.queue.publish_durable(self.synced);
        Ok(())
    }
}

fn all_hold(expects: &[Expect]) -> lsm_tree::Result<bool> {
    for expect in expects {
        let found = expect.keyspace.table.get(&expect.key)?;
        if found.as_deref() != expect.expected.as_deref() {
            return Ok(false);
        }
    }
    Ok(true)
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
