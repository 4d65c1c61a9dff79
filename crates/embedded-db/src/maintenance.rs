//! What goes on beside the writer: memtables become files, files are merged, and journals that nobody needs any more are removed.
//!
//! A thread of its own flushes, so that a merge, which takes seconds, never keeps memtables waiting. The writer is stopped only when so much
//! waits that memory would grow without bound.

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering},
    thread::JoinHandle,
};

use lsm_tree::compaction::{CompactionStrategy, Leveled};
use parking_lot::{Condvar, Mutex};

use crate::{
    queue::{End, Queue},
    segments::Complete,
    table::{Table, Tables},
};

/// Bytes of memtables that may wait to be flushed before the writer waits for them.
const WAITING_BYTES: u64 = 128 << 20;
/// Bytes of memtables that wait above which they are flushed as fast as can be.
const HURRY_BYTES: u64 = 48 << 20;
/// Files of a table that reads have to look into at once above which they are merged as fast as can be.
const HURRY_FILES: usize = 8;

/// What the writer and the threads share.
pub(crate) struct Maintenance {
    tables: Arc<Tables>,
    complete: Arc<Complete>,
    /// Where a failure is told.
    queue: Arc<Queue>,
    state: Mutex<State>,
    /// Something is to do.
    work: Condvar,
    /// Less waits than before.
    room: Condvar,
}

#[derive(Debug, Default)]
struct State {
    to_flush: VecDeque<(Arc<Table>, u64)>,
    to_merge: Vec<Arc<Table>>,
    waiting_bytes: u64,
    stopping: bool,
}

/// Joins the threads when it is dropped.
pub(crate) struct Threads {
    maintenance: Arc<Maintenance>,
    handles: Vec<JoinHandle<()>>,
}

impl Maintenance {
    pub(crate) fn new(tables: Arc<Tables>, complete: Arc<Complete>, queue: Arc<Queue>) -> Arc<Self> {
        Arc::new(Self {
            // What was not merged when the store was last closed.
            state: Mutex::new(State { to_merge: tables.all(), ..State::default() }),
            tables,
            complete,
            queue,
            work: Condvar::new(),
            room: Condvar::new(),
        })
    }

    pub(crate) fn start(self: Arc<Self>) -> std::io::Result<Threads> {
        let mut threads = Threads { maintenance: Arc::clone(&self), handles: Vec::new() };
        for (name, run) in
            [("db-flush", Self::flush as fn(&Self) -> lsm_tree::Result<()>), ("db-merge", Self::merge), ("db-remove", Self::remove)]
        {
            let maintenance = Arc::clone(&self);
            threads.handles.push(std::thread::Builder::new().name(name.to_owned()).spawn(move || maintenance.run(run))?);
        }
        Ok(threads)
    }

    /// A memtable of so many bytes was sealed, and everything in it is synced.
    pub(crate) fn sealed(&self, table: Arc<Table>, bytes: u64) {
        let mut state = self.state.lock();
        state.waiting_bytes += bytes;
        state.to_flush.push_back((table, bytes));
        drop(state);
        self.work.notify_all();
    }

    /// Waits while more is sealed than memory is meant for.
    pub(crate) fn room(&self) {
        let mut state = self.state.lock();
        self.room.wait_while(&mut state, |state| state.waiting_bytes > WAITING_BYTES && !state.stopping);
    }

    fn run(&self, run: fn(&Self) -> lsm_tree::Result<()>) {
        // A panic must not leave the writer waiting for ever.
        let failed = Failed(self);
        match run(self) {
            Ok(()) => std::mem::forget(failed),
            Err(error) => tracing::error!(error = &error as &dyn std::error::Error, "store poisoned: its files cannot be written"),
        }
    }

    fn flush(&self) -> lsm_tree::Result<()> {
        loop {
            let mut state = self.state.lock();
            self.work.wait_while(&mut state, |state| state.to_flush.is_empty() && !state.stopping);
            let Some((table, bytes)) = state.to_flush.pop_front().filter(|_| !state.stopping) else { return Ok(()) };
            drop(state);
            table.flush(|| {
                let state = self.state.lock();
                state.stopping || state.waiting_bytes > HURRY_BYTES
            })?;
            // A merge under way that takes its time is not waited for while files pile up.
            if table.overlapping_files() > HURRY_FILES {
                self.tables.merge_in_hurry.store(true, Ordering::Relaxed);
            }
            self.complete.remove_before(|| self.tables.first_unflushed(), &self.tables.needless)?;
            let mut state = self.state.lock();
            state.waiting_bytes -= bytes;
            if !state.to_merge.iter().any(|waiting| Arc::ptr_eq(waiting, &table)) {
                state.to_merge.push(table);
            }
            drop(state);
            self.work.notify_all();
            self.room.notify_all();
        }
    }

    fn merge(&self) -> lsm_tree::Result<()> {
        let strategy: Arc<dyn CompactionStrategy> = Arc::new(Leveled::default());
        loop {
            let mut state = self.state.lock();
            self.work.wait_while(&mut state, |state| state.to_merge.is_empty() && !state.stopping);
            if state.stopping {
                return Ok(());
            }
            // What reads wait for most comes first.
            let most = state.to_merge.iter().enumerate().max_by_key(|(_, table)| table.overlapping_files()).map(|(place, _)| place);
            let table = state.to_merge.swap_remove(most.unwrap_or_default());
            self.tables.merge_in_hurry.store(table.overlapping_files() > HURRY_FILES, Ordering::Relaxed);
            drop(state);
            if table.compact(Arc::clone(&strategy), &self.tables.needless)? {
                self.state.lock().to_merge.push(table);
            }
        }
    }

    fn remove(&self) -> lsm_tree::Result<()> {
        self.tables.needless.remove();
        Ok(())
    }

    fn stop(&self) {
        self.tables.needless.stop();
        let mut state = self.state.lock();
        state.stopping = true;
        self.tables.merge_in_hurry.store(true, Ordering::Relaxed);
        drop(state);
        self.work.notify_all();
        self.room.notify_all();
    }
}

struct Failed<'m>(&'m Maintenance);

impl Drop for Failed<'_> {
    fn drop(&mut self) {
        self.0.queue.publish_end(End::Poisoned);
        self.0.stop();
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.maintenance.stop();
        for handle in self.handles.drain(..) {
            // A panic was already published as a failure.
            let _ = handle.join();
        }
    }
}
