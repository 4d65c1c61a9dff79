//! What callers and the writer share: the queue of batches, how far the writer has come, who is busy.

use std::{
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};
use tokio::sync::{Notify, oneshot, watch};

use crate::{Batch, Error, Expect};

/// How long an fsync that is due gives way to batches already queued, which would otherwise need the
/// next one. Applying them is cheap; the bound is for a queue that never runs empty.
const DRAIN_MAX: Duration = Duration::from_micros(200);

/// A place in the order of writes of one open store. Meaningless after it is reopened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(u64);

#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) batch: Batch,
    pub(crate) condition: Option<Condition>,
}

#[derive(Debug)]
pub(crate) struct Condition {
    pub(crate) expects: Vec<Expect>,
    pub(crate) decision: oneshot::Sender<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Closed,
    Poisoned,
}

impl From<End> for Error {
    fn from(end: End) -> Self {
        match end {
            End::Closed => Self::Closed,
            End::Poisoned => Self::Poisoned,
        }
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Progress {
    pub(crate) reached: Position,
    pub(crate) end: Option<End>,
}

/// What the writer does next.
#[derive(Debug)]
pub(crate) enum Work {
    /// Apply these; `last` is the position of the last one.
    Commit {
        entries: Vec<Entry>,
        last: Position,
    },
    Sync,
    Stop,
}

#[derive(Debug, Default)]
struct State {
    entries: Vec<Entry>,
    /// The last position handed out.
    enqueued: Position,
    /// The last position taken: those handed out while closing are never reached.
    taken: Position,
    /// The last position somebody wants to be durable.
    wanted: Position,
    /// No batch is taken any more.
    closing: bool,
}

#[derive(Debug)]
pub(crate) struct Queue {
    state: Mutex<State>,
    wake: Condvar,
    visible: watch::Sender<Progress>,
    durable: watch::Sender<Progress>,
    /// Bytes of the batches not yet applied.
    bytes: AtomicUsize,
    limit_bytes: usize,
    room: Notify,
    busy: AtomicUsize,
    linger_max: Duration,
    pub(crate) counts: Counts,
}

#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) fsyncs: AtomicU64,
    pub(crate) groups: AtomicU64,
    pub(crate) batches: AtomicU64,
    pub(crate) operations: AtomicU64,
    pub(crate) last_sync_micros: AtomicU64,
}

impl Queue {
    pub(crate) fn new(limit_bytes: usize, linger_max: Duration) -> Self {
        Self {
            state: Mutex::default(),
            wake: Condvar::new(),
            visible: watch::Sender::default(),
            durable: watch::Sender::default(),
            bytes: AtomicUsize::new(0),
            limit_bytes,
            room: Notify::new(),
            busy: AtomicUsize::new(0),
            linger_max,
            counts: Counts::default(),
        }
    }

    /// Gives the next position and takes the entry that `fill` makes for it. After the end nothing is
    /// taken and the position is never reached.
    pub(crate) fn push<R>(&self, fill: impl FnOnce(Position) -> (Entry, R)) -> (Position, R) {
        let mut state = self.state.lock();
        let position = Position(state.enqueued.0 + 1);
        let (entry, result) = fill(position);
        state.enqueued = position;
        if !state.closing {
            self.bytes.fetch_add(entry.batch.queue_bytes(), Ordering::Relaxed);
            state.entries.push(entry);
            state.taken = position;
        }
        drop(state);
        self.wake.notify_one();
        (position, result)
    }

    pub(crate) fn enqueued(&self) -> Position {
        self.state.lock().enqueued
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(crate) async fn room(&self) {
        loop {
            let freed = self.room.notified();
            if self.bytes() <= self.limit_bytes {
                return;
            }
            freed.await;
        }
    }

    pub(crate) async fn visible(&self, position: Position) -> Result<(), Error> {
        reach(&self.visible, position).await
    }

    /// Whether reads see a position, or why it will never be reached.
    pub(crate) fn is_visible(&self, position: Position) -> Result<bool, Error> {
        let progress = self.visible.borrow();
        match progress.end {
            _ if progress.reached >= position => Ok(true),
            Some(end) => Err(end.into()),
            None => Ok(false),
        }
    }

    pub(crate) async fn durable(&self, position: Position) -> Result<(), Error> {
        if self.durable.borrow().reached < position {
            let mut state = self.state.lock();
            state.wanted = state.wanted.max(position);
            drop(state);
            self.wake.notify_one();
        }
        reach(&self.durable, position).await
    }

    /// Why no batch is taken any more, once everything taken before is settled.
    pub(crate) async fn end(&self) -> End {
        let mut progress = self.durable.subscribe();
        loop {
            if let Some(end) = progress.borrow_and_update().end {
                return end;
            }
            if progress.changed().await.is_err() {
                return End::Closed;
            }
        }
    }

    pub(crate) fn close(&self) {
        self.state.lock().closing = true;
        self.wake.notify_one();
    }

    pub(crate) fn begin_busy(&self) {
        self.busy.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn end_busy(&self) {
        if self.busy.fetch_sub(1, Ordering::SeqCst) == 1 {
            // The lock orders this after the writer's look at the count, or before it.
            drop(self.state.lock());
            self.wake.notify_one();
        }
    }

    /// Waits for something to do. `committed` and `synced` are how far the writer has come, `due` is since
    /// when an fsync is due.
    pub(crate) fn next(&self, committed: Position, synced: Position, due: &mut Option<Instant>) -> Work {
        let mut state = self.state.lock();
        loop {
            let waited = (state.wanted.min(committed) > synced).then(|| due.get_or_insert_with(Instant::now).elapsed());
            if waited.is_some_and(|waited| waited >= self.linger_max.max(DRAIN_MAX)) {
                return Work::Sync;
            }
            if !state.entries.is_empty() {
                return Work::Commit { entries: std::mem::take(&mut state.entries), last: state.taken };
            }
            if let Some(waited) = waited {
                let left = self.linger_max.saturating_sub(waited);
                if left.is_zero() || self.busy.load(Ordering::SeqCst) == 0 {
                    return Work::Sync;
                }
                self.wake.wait_for(&mut state, left);
            } else if state.closing {
                return Work::Stop;
            } else {
                self.wake.wait(&mut state);
            }
        }
    }

    /// The writer applied everything up to `reached`, which frees `bytes` of the queue.
    pub(crate) fn publish_visible(&self, reached: Position, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.room.notify_waiters();
        self.visible.send_modify(|progress| progress.reached = reached);
    }

    pub(crate) fn publish_durable(&self, reached: Position) {
        self.durable.send_modify(|progress| progress.reached = reached);
    }

    /// The writer stops: nothing is taken any more, and whoever waits for more than what is reached is
    /// told why. Dropping the entries tells those who wait for a decision.
    pub(crate) fn publish_end(&self, end: End) {
        let mut state = self.state.lock();
        state.closing = true;
        state.entries.clear();
        drop(state);
        self.bytes.store(0, Ordering::Relaxed);
        self.room.notify_waiters();
        for progress in [&self.visible, &self.durable] {
            // The first end stays: what comes after a failure is no clean close.
            progress.send_modify(|progress| progress.end = progress.end.or(Some(end)));
        }
        self.wake.notify_one();
    }
}

async fn reach(progress: &watch::Sender<Progress>, position: Position) -> Result<(), Error> {
    let settled = |progress: &Progress| progress.reached >= position || progress.end.is_some();
    let outcome = |progress: &Progress| match progress.end {
        Some(end) if progress.reached < position => Err(end.into()),
        _ => Ok(()),
    };
    let mut changes = progress.subscribe();
    match changes.wait_for(settled).await {
        Ok(progress) => outcome(&progress),
        Err(_) => Err(Error::Closed),
    }
}

#[cfg(test)]
mod tests {
    use std::{pin::pin, thread};

    use futures::FutureExt as _;

    use super::*;

    const LIMIT: usize = 1000;
    const LONG: Duration = Duration::from_secs(3600);

    fn push(queue: &Queue) -> Position {
        let entry = Entry { batch: Batch::new(), condition: None };
        queue.push(|_| (entry, ())).0
    }

    /// Takes what is queued and publishes it; returns how far that is.
    fn commit(queue: &Queue, committed: Position) -> Position {
        match queue.next(committed, Position(0), &mut None) {
            Work::Commit { last, .. } => {
                queue.publish_visible(last, 0);
                last
            }
            work => panic!("{work:?} instead of a commit"),
        }
    }

    /// A queue whose first batch is applied and waited for.
    fn with_sync_wanted(linger_max: Duration) -> (Queue, Position) {
        let queue = Queue::new(LIMIT, linger_max);
        let position = push(&queue);
        assert!(queue.durable(position).now_or_never().is_none());
        let committed = commit(&queue, Position(0));
        (queue, committed)
    }

    #[test]
    fn a_lone_waiter_gets_its_sync_at_once() {
        let (queue, committed) = with_sync_wanted(LONG);
        let work = queue.next(committed, Position(0), &mut None);
        assert!(matches!(work, Work::Sync));
    }

    #[test]
    fn a_sync_waits_for_those_who_are_busy() {
        let (queue, committed) = with_sync_wanted(LONG);
        queue.begin_busy();
        thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let mut due = None;
                let first = queue.next(committed, Position(0), &mut due);
                let Work::Commit { last, .. } = first else {
                    panic!("{first:?} instead of a commit");
                };
                queue.next(last, Position(0), &mut due)
            });
            push(&queue);
            queue.end_busy();
            assert!(matches!(writer.join().unwrap(), Work::Sync));
        });
    }

    #[test]
    fn a_sync_does_not_wait_longer_than_it_may() {
        let (queue, committed) = with_sync_wanted(Duration::from_millis(2));
        queue.begin_busy();
        let start = Instant::now();
        let work = queue.next(committed, Position(0), &mut None);
        assert!(matches!(work, Work::Sync));
        assert!(start.elapsed() >= Duration::from_millis(2));
    }

    #[test]
    fn a_queue_that_never_runs_empty_does_not_put_a_sync_off_for_ever() {
        let (queue, mut committed) = with_sync_wanted(Duration::ZERO);
        let mut due = None;
        let start = Instant::now();
        loop {
            push(&queue);
            match queue.next(committed, Position(0), &mut due) {
                Work::Commit { last, .. } => committed = last,
                Work::Sync => break,
                Work::Stop => panic!("nobody closed the queue"),
            }
            assert!(start.elapsed() < Duration::from_secs(10), "no sync");
        }
        assert!(start.elapsed() >= DRAIN_MAX);
    }

    #[test]
    fn what_is_queued_when_closing_is_still_taken() {
        let queue = Queue::new(LIMIT, LONG);
        let before = push(&queue);
        queue.close();
        push(&queue);
        let committed = commit(&queue, Position(0));
        assert_eq!(committed, before);
        let work = queue.next(committed, Position(0), &mut None);
        assert!(matches!(work, Work::Stop));
    }

    #[test]
    fn room_is_waited_for_until_the_writer_frees_some() {
        let queue = Queue::new(LIMIT, LONG);
        queue.bytes.store(LIMIT, Ordering::Relaxed);
        assert!(queue.room().now_or_never().is_some());
        queue.bytes.store(LIMIT + 10, Ordering::Relaxed);
        let mut room = pin!(queue.room());
        assert!(room.as_mut().now_or_never().is_none());
        queue.publish_visible(Position(0), 5);
        assert!(room.as_mut().now_or_never().is_none());
        queue.publish_visible(Position(0), 5);
        assert!(room.now_or_never().is_some());
    }
}
