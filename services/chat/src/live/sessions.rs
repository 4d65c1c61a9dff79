//! The devices attached here, by user, and what the inbox processor announces to them.
//!
//! There must be no gap and no repetition between what a device pulled and what it is told live. Attaching and announcing happen under the
//! same lock, so the only question is which cursor is the newest when a device attaches. For a user announced lately it is remembered,
//! attached or not, because an entry can be announced before it can be read. For all others the store says it: what was announced and has
//! been forgotten since was announced so many entries ago that it has long been written, for an owner writes a bounded batch before it
//! announces the one after the next. Behind that stands a last guard: a session counts cursors itself, and is sent to the store when one
//! is missing.

use std::{
    collections::{BTreeMap, hash_map},
    hash::BuildHasher,
    sync::Arc,
};

use bytes::Bytes;
use foldhash::{HashMap, fast::RandomState};
use parking_lot::Mutex;
use plaza_processor::StoreError;
use plaza_proto::chat::v1::{Attached, Behind, Owned, Ownership, told::Told};
use plaza_types::{UserId, partition};
use smallvec::SmallVec;
use tokio::sync::watch;

use super::outgoing::Outgoing;
use crate::metrics;

const SHARDS: usize = 64;
/// Users of a shard remembered without a device, at least; twice as many at most.
const REMEMBERED: usize = 4096;

/// The devices attached here.
pub(crate) struct Sessions {
    shards: Vec<Mutex<Shard>>,
    hasher: RandomState,
    partitions: u32,
    /// The partitions that are this instance's, with the epoch of each.
    owned: watch::Sender<BTreeMap<u32, u64>>,
}

#[derive(Default)]
struct Shard {
    lines: HashMap<UserId, Line>,
    /// Users without a device: the newest cursors announced, in two generations, the older of which goes when the younger is full.
    young: HashMap<UserId, u64>,
    old: HashMap<UserId, u64>,
}

/// The devices of one user.
struct Line {
    /// The newest cursor announced or read.
    last: u64,
    sessions: SmallVec<[Session; 2]>,
}

/// One device.
struct Session {
    link: Arc<Outgoing>,
    number: u64,
    /// The cursor it is to be told next.
    next: u64,
}

impl Session {
    /// False when it must catch up first, which it was told.
    fn tell(&mut self, cursor: u64, event: &Bytes) -> bool {
        if cursor != self.next {
            return self.has(cursor);
        }
        self.next += 1;
        self.link.live(self.number, cursor, event)
    }

    /// False when it must catch up first, which it was told.
    fn has(&self, cursor: u64) -> bool {
        let has = cursor < self.next;
        if !has {
            self.link.behind(self.number, cursor);
        }
        has
    }

    fn is(&self, link: &Arc<Outgoing>, number: u64) -> bool {
        self.number == number && Arc::ptr_eq(&self.link, link)
    }
}

impl Shard {
    /// The newest cursor known here.
    fn last(&self, user: &UserId) -> Option<u64> {
        let attached = self.lines.get(user).map(|line| line.last);
        attached.or_else(|| self.young.get(user).or_else(|| self.old.get(user)).copied())
    }

    fn remember(&mut self, user: UserId, cursor: u64) {
        let known = self.last(&user).unwrap_or_default();
        if self.young.len() >= REMEMBERED {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(user, cursor.max(known));
    }

    fn announce(&mut self, user: UserId, cursor: u64, event: &Bytes) {
        let told = self.newest(user, cursor, |session| session.tell(cursor, event));
        metrics::get().delivered.add(told as u64, &[]);
    }

    /// There is an entry with this cursor. How many devices are still attached after this was done with each.
    fn newest(&mut self, user: UserId, cursor: u64, stays: impl FnMut(&mut Session) -> bool) -> usize {
        let Some(Line { last, sessions }) = self.lines.get_mut(&user) else {
            self.remember(user, cursor);
            return 0;
        };
        *last = cursor.max(*last);
        let before = sessions.len();
        sessions.retain(stays);
        let stay = sessions.len();
        let gone = before - stay;
        if gone > 0 {
            metrics::get().behind.add(gone as u64, &[]);
            self.left(user, gone);
        }
        stay
    }

    /// Devices are gone.
    fn left(&mut self, user: UserId, gone: usize) {
        metrics::get().sessions.add(-i64::try_from(gone).unwrap_or_default(), &[]);
        if let hash_map::Entry::Occupied(line) = self.lines.entry(user)
            && line.get().sessions.is_empty()
        {
            let last = line.remove().last;
            self.remember(user, last);
        }
    }

    fn detach(&mut self, user: UserId, link: &Arc<Outgoing>, number: u64) {
        let Some(line) = self.lines.get_mut(&user) else { return };
        let before = line.sessions.len();
        line.sessions.retain(|session| !session.is(link, number));
        let gone = before - line.sessions.len();
        self.left(user, gone);
    }
}

impl Sessions {
    /// None attached. `partitions` is the number of inbox partitions.
    pub(crate) fn new(partitions: u32) -> Self {
        let shards = std::iter::repeat_with(Mutex::default).take(SHARDS).collect();
        Self { shards, hasher: RandomState::default(), partitions, owned: watch::Sender::default() }
    }

    fn partition_of(&self, user: &UserId) -> u32 {
        partition::of(user.as_bytes(), self.partitions)
    }

    /// What is this instance's, as it changes.
    pub(crate) fn ownership(&self) -> watch::Receiver<BTreeMap<u32, u64>> {
        self.owned.subscribe()
    }

    /// Whether all inboxes are this instance's: then it hears of everything.
    pub(crate) fn owns_all(&self) -> bool {
        self.owned.borrow().len() == self.partitions as usize
    }

    /// The same for a gateway.
    pub(crate) fn owned(&self, owned: &BTreeMap<u32, u64>) -> Owned {
        let owned = owned.iter().map(|(partition, epoch)| Ownership { partition: *partition, epoch: *epoch });
        Owned { partitions: self.partitions, owned: owned.collect() }
    }

    /// The inboxes of a partition are this instance's from now on, which is `now`, microseconds.
    pub(crate) fn assigned(&self, partition: u32, now: u64) {
        self.owned.send_modify(|owned| {
            owned.insert(partition, now);
        });
    }

    fn shard(&self, user: UserId) -> &Mutex<Shard> {
        &self.shards[(self.hasher.hash_one(user) % SHARDS as u64) as usize]
    }

    /// Attaches a device that has everything up to `after`, or tells it that it is behind. `stored` asks the store for the user's newest
    /// cursor; it is only asked when nothing was announced lately. Where the inbox is another instance's nothing would ever be announced: its
    /// gateway is told of that beside this, and comes again where it should.
    pub(crate) async fn attach(
        &self,
        user: UserId,
        after: u64,
        link: &Arc<Outgoing>,
        number: u64,
        stored: impl Future<Output = Result<u64, StoreError>>,
    ) -> Result<(), StoreError> {
        let shard = self.shard(user);
        let announced = shard.lock().last(&user);
        let known = match announced {
            Some(last) => last,
            None => stored.await?,
        };
        let mut shard = shard.lock();
        shard.detach(user, link, number);
        if !self.owned.borrow().contains_key(&self.partition_of(&user)) {
            return Ok(());
        }
        // Whatever was announced while the store was asked is remembered by now.
        let head = shard.last(&user).unwrap_or_default().max(known);
        if after < head {
            link.answer(number, Told::Behind(Behind { head }));
            return Ok(());
        }
        shard.young.remove(&user);
        shard.old.remove(&user);
        let line = shard.lines.entry(user).or_insert_with(|| Line { last: head, sessions: SmallVec::new() });
        line.sessions.push(Session { link: Arc::clone(link), number, next: after.saturating_add(1) });
        metrics::get().sessions.add(1, &[]);
        link.answer(number, Told::Attached(Attached { head }));
        Ok(())
    }

    /// Forgets a device.
    pub(crate) fn detach(&self, user: UserId, link: &Arc<Outgoing>, number: u64) {
        self.shard(user).lock().detach(user, link, number);
    }

    /// The newest cursor announced to a user, if it was lately; entries up to it will be readable soon.
    pub(crate) fn announced(&self, user: UserId) -> u64 {
        self.shard(user).lock().last(&user).unwrap_or_default()
    }

    /// Tells the user's devices of a new entry.
    pub(crate) fn announce(&self, user: UserId, cursor: u64, event: &Bytes) {
        self.shard(user).lock().announce(user, cursor, event);
    }

    /// There are entries up to a cursor, which can be read: the user's devices that were not told all of them must catch up.
    pub(crate) fn has(&self, user: UserId, cursor: u64) {
        self.shard(user).lock().newest(user, cursor, |session| session.has(cursor));
    }

    /// The inboxes of a partition are another's from now on: their devices must go there, and what is known of them here grows stale.
    pub(crate) fn revoked(&self, partition: u32) {
        // Whoever attaches sees this, or is seen below.
        self.owned.send_modify(|owned| {
            owned.remove(&partition);
        });
        let of = |user: &UserId| self.partition_of(user) == partition;
        for shard in &self.shards {
            let mut shard = shard.lock();
            for (_, line) in shard.lines.extract_if(|user, _| of(user)) {
                for session in line.sessions {
                    session.link.behind(session.number, line.last);
                    metrics::get().sessions.add(-1, &[]);
                }
            }
            shard.young.retain(|user, _| !of(user));
            shard.old.retain(|user, _| !of(user));
        }
    }
}

#[cfg(test)]
mod tests;
