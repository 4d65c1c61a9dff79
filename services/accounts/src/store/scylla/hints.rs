//! Where to look for events that nobody appended. An event is a row of its user's partition, so that it is of the same write as its change; who has
//! some is found by hints, rows by minute, written before the change and removed once the event is appended. A hint without an event is in
//! vain: its change did not happen, or has not yet. It is removed when no change can be under way any more that was begun with it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use parking_lot::Mutex;
use plaza_scylla_kit::{Error as ClusterError, Keyspace, PagingState, Read, Session, Write, concurrently};
use plaza_types::{UserId, limits::SECOND};

use crate::store::{Error, Pending};

const MINUTE: u64 = 60 * SECOND;
/// Into how many partitions the hints of a minute go.
const PARTS: i8 = 16;
/// Minutes that are looked at again though nothing was in them: a hint is written that long after its time at most, or found by [`SEARCH`].
const RECENT: i32 = 3;
/// How often the table is searched for partitions that are no longer looked at.
const SEARCH: u64 = 10 * MINUTE;
/// A process that slept for longer exits, so no change is begun later than this after its hint.
const VAIN: u64 = 11 * MINUTE;
/// Of one partition at once.
const HINTS: i32 = 1000;
const PAGE: i32 = 1000;

/// A minute since the epoch, and a part of the users.
type Partition = (i32, i8);

/// The table of hints.
pub(super) struct Hints {
    session: Session,
    put: Write,
    remove: Write,
    read: Read,
    partitions: Read,
    looked: Mutex<Looked>,
}

#[derive(Default)]
struct Looked {
    /// When the table was searched last.
    searched: Option<u64>,
    /// Partitions that had hints when they were looked at last.
    filled: BTreeSet<Partition>,
}

/// Hints by user: time and id of the event.
pub(super) struct Found(BTreeMap<UserId, Vec<(u64, u64)>>);

impl Found {
    pub(super) fn users(&self) -> Vec<UserId> {
        self.0.keys().copied().collect()
    }
}

impl Hints {
    pub(super) async fn open(keyspace: &Keyspace) -> Result<Self, ClusterError> {
        Ok(Self {
            session: keyspace.session().clone(),
            put: keyspace
                .write("INSERT INTO {keyspace}.hints (minute, part, time, user, id) VALUES (?, ?, ?, ?, ?) USING TIMESTAMP ?")
                .await?,
            remove: keyspace
                .write("DELETE FROM {keyspace}.hints USING TIMESTAMP ? WHERE minute = ? AND part = ? AND time = ? AND user = ? AND id = ?")
                .await?,
            read: keyspace.read("SELECT time, user, id FROM {keyspace}.hints WHERE minute = ? AND part = ? AND time < ? LIMIT ?").await?,
            partitions: keyspace.read("SELECT DISTINCT minute, part FROM {keyspace}.hints").await?,
            looked: Mutex::default(),
        })
    }

    /// Before the events are written.
    pub(super) async fn put(&self, events: &[Pending]) -> Result<(), Error> {
        let bound = events.iter().map(|event| {
            let ((minute, part), time) = (partition(event.user, event.time), event.time.cast_signed());
            self.put.bind((minute, part, time, event.user.as_bytes().as_slice(), event.id.cast_signed(), time))
        });
        let bound = bound.collect::<Result<Vec<_>, _>>()?;
        // Without its hint an event is not written, so this is a write that did not happen.
        self.session.write_all(bound).await.map_err(|error| Error::Unavailable(error.to_string()))
    }

    /// After the events were appended.
    pub(super) async fn remove(&self, events: &[Pending]) -> Result<(), Error> {
        self.remove_all(events.iter().map(|event| (event.user, event.time, event.id)).collect()).await
    }

    /// Removes those hints of a user that no event of theirs is behind, nor will be.
    pub(super) async fn remove_vain(&self, found: &Found, user: UserId, events: &[Pending], now: u64) -> Result<(), Error> {
        let hints = found.0.get(&user).into_iter().flatten();
        let vain = hints.filter(|(time, id)| time + VAIN < now && !events.iter().any(|event| (event.time, event.id) == (*time, *id)));
        self.remove_all(vain.map(|(time, id)| (user, *time, *id)).collect()).await
    }

    async fn remove_all(&self, hints: Vec<(UserId, u64, u64)>) -> Result<(), Error> {
        let bound = hints.into_iter().map(|(user, time, id)| {
            let ((minute, part), at) = (partition(user, time), time.cast_signed());
            // Later than its writing, whoever's clock that was by.
            self.remove.bind((at + 1, minute, part, at, user.as_bytes().as_slice(), id.cast_signed()))
        });
        let bound = bound.collect::<Result<Vec<_>, _>>()?;
        Ok(self.session.write_all(bound).await?)
    }

    /// Hints older than this time.
    pub(super) async fn before(&self, time: u64) -> Result<Found, Error> {
        let now = minute(time);
        if self.looked.lock().searched.is_none_or(|searched| searched + SEARCH <= time) {
            let filled = self.search().await?;
            let mut looked = self.looked.lock();
            looked.filled.extend(filled.into_iter().filter(|(minute, _)| *minute <= now));
            looked.searched = Some(time);
        }
        let mut partitions = self.looked.lock().filled.clone();
        partitions.extend((now - RECENT..=now).flat_map(|minute| (0..PARTS).map(move |part| (minute, part))));
        let read = |(minute, part)| self.session.rows::<(i64, Bytes, i64)>(&self.read, (minute, part, time.cast_signed(), HINTS));
        let hints = concurrently(partitions.iter().map(|partition| read(*partition))).await?;

        let mut found = BTreeMap::<UserId, Vec<_>>::new();
        let mut looked = self.looked.lock();
        for (partition, hints) in partitions.into_iter().zip(hints) {
            if hints.is_empty() {
                looked.filled.remove(&partition);
            } else {
                looked.filled.insert(partition);
            }
            for (time, user, id) in hints {
                let user = UserId::from_slice(&user).ok_or(Error::Damaged("hint"))?;
                found.entry(user).or_default().push((time.cast_unsigned(), id.cast_unsigned()));
            }
        }
        Ok(Found(found))
    }

    /// All partitions with hints.
    async fn search(&self) -> Result<Vec<Partition>, Error> {
        let (mut found, mut at) = (Vec::new(), Some(PagingState::start()));
        while let Some(from) = at {
            let (partitions, next) = self.session.page::<Partition>(&self.partitions, (), PAGE, from).await?;
            found.extend(partitions);
            at = next;
        }
        Ok(found)
    }
}

fn partition(user: UserId, time: u64) -> Partition {
    // The last byte of an id is random.
    let part = i8::try_from(user.as_bytes()[15] % PARTS.unsigned_abs()).unwrap_or_default();
    (minute(time), part)
}

fn minute(time: u64) -> i32 {
    i32::try_from(time / MINUTE).unwrap_or(i32::MAX)
}
