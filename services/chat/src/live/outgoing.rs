//! What one link is told and has not read yet. Bounded: a session whose entry does not fit is told to catch up from the store instead, so a
//! slow gateway costs neither memory nor anybody's time.

use std::collections::VecDeque;

use bytes::Bytes;
use foldhash::HashMap;
use parking_lot::Mutex;
use plaza_proto::chat::v1::{Behind, LinkResponse, Live, Owned, Told, told};
use plaza_runtime::CancellationToken;
use prost::Message as _;
use tokio::sync::Notify;

/// A frame ends after this many things told, or bytes.
const FRAME: usize = 1024;
const FRAME_BYTES: usize = 256 << 10;
/// What a thing told costs beyond its event.
const OVERHEAD_BYTES: usize = 64;

/// The queue of one link.
#[derive(Debug)]
pub(crate) struct Outgoing {
    queue: Mutex<Queue>,
    limit_bytes: usize,
    filled: Notify,
    drained: Notify,
    closed: CancellationToken,
}

#[derive(Debug, Default)]
struct Queue {
    told: VecDeque<Told>,
    bytes: usize,
    /// Sessions that must catch up. Told after everything queued: entries queued before are before the gap.
    behind: HashMap<u64, u64>,
    /// Told first: whatever is queued for devices whose inboxes went elsewhere is given to them there.
    owned: Option<Owned>,
}

impl Outgoing {
    /// An empty queue that holds live entries of so many bytes.
    pub(crate) fn new(limit_bytes: usize) -> Self {
        Self { queue: Mutex::default(), limit_bytes, filled: Notify::new(), drained: Notify::new(), closed: CancellationToken::new() }
    }

    /// A live entry. When there is no room, the session is told that it is behind instead, and false comes back.
    pub(crate) fn live(&self, session: u64, cursor: u64, event: &Bytes) -> bool {
        let mut queue = self.queue.lock();
        if queue.bytes >= self.limit_bytes {
            queue.behind.insert(session, cursor);
            return false;
        }
        let live = Live { cursor, event: event.clone() };
        self.push(queue, Told { session, told: Some(told::Told::Live(live)) }, event.len());
        true
    }

    /// The session must catch up to this cursor.
    pub(crate) fn behind(&self, session: u64, head: u64) {
        self.queue.lock().behind.insert(session, head);
        self.filled.notify_one();
    }

    /// What this instance owns now.
    pub(crate) fn owned(&self, owned: Owned) {
        self.queue.lock().owned = Some(owned);
        self.filled.notify_one();
    }

    /// An answer to something asked. Always taken: what is asked is bounded by [`Outgoing::room`].
    pub(crate) fn answer(&self, session: u64, told: told::Told) {
        let mut queue = self.queue.lock();
        if matches!(told, told::Told::Attached(_) | told::Told::Behind(_)) {
            // What was to be said about an earlier attachment no longer holds.
            queue.behind.remove(&session);
        }
        let told = Told { session, told: Some(told) };
        let bytes = told.encoded_len();
        self.push(queue, told, bytes);
    }

    fn push(&self, mut queue: parking_lot::MutexGuard<'_, Queue>, told: Told, bytes: usize) {
        let first = queue.told.is_empty();
        queue.told.push_back(told);
        queue.bytes += bytes + OVERHEAD_BYTES;
        drop(queue);
        if first {
            self.filled.notify_one();
        }
    }

    /// Waits until the queue is not full.
    pub(crate) async fn room(&self) {
        loop {
            let drained = self.drained.notified();
            if self.queue.lock().bytes < self.limit_bytes {
                return;
            }
            drained.await;
        }
    }

    /// The next frame; `None` when the link is closed.
    pub(crate) async fn next(&self) -> Option<LinkResponse> {
        loop {
            if let Some(frame) = self.frame() {
                self.drained.notify_waiters();
                return Some(frame);
            }
            tokio::select! {
                () = self.filled.notified() => {}
                () = self.closed.cancelled() => return None,
            }
        }
    }

    fn frame(&self) -> Option<LinkResponse> {
        let mut queue = self.queue.lock();
        let mut frame = Vec::with_capacity(queue.told.len().min(FRAME));
        let mut frame_bytes = 0;
        while frame.len() < FRAME && frame_bytes < FRAME_BYTES {
            let Some(told) = queue.told.pop_front() else { break };
            frame_bytes += OVERHEAD_BYTES
                + match &told.told {
                    Some(told::Told::Live(live)) => live.event.len(),
                    _ => told.encoded_len(),
                };
            frame.push(told);
        }
        queue.bytes -= frame_bytes;
        if queue.told.is_empty() {
            let behind = std::mem::take(&mut queue.behind);
            frame.extend(behind.into_iter().map(|(session, head)| Told { session, told: Some(told::Told::Behind(Behind { head })) }));
        }
        let owned = queue.owned.take();
        (!frame.is_empty() || owned.is_some()).then_some(LinkResponse { told: frame, owned })
    }

    /// Nobody reads any more, or nobody writes.
    pub(crate) fn close(&self) {
        self.closed.cancel();
    }

    /// Returns when the link is closed.
    pub(crate) async fn closed(&self) {
        self.closed.cancelled().await;
    }
}
