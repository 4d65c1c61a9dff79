//! Accounts on ScyllaDB or Cassandra. What one user has (account, devices, events on their way) is one partition, and a change of it is one
//! conditional batch. A registration touches three partitions, which no conditional write can do at once; it is made of four that can:
//!
//! 1. The request id is claimed: `requests` gets the whole registration, if the id is free.
//! 2. **The handle decides**: `handles` gets the whole registration, if the handle is free. A handle is never given back, so this outcome stays.
//! 3. `people` gets the account and its first device, if the account is not there. It is never removed, so a device that has been signed out does
//!    not come back when this step is taken again.
//! 4. The registration is taken out of `handles`: there is nothing left to finish.
//!
//! Whoever meets a registration half way, under its request id or its handle, finishes it before going on: steps 2 to 4 need nothing but the
//! registration and can be taken by any number at once, any number of times. So a claim whose owner died is not waited for, and after a read of
//! either the registration has happened or never will. One whose handle went to another has not happened: it counts as absent under its request
//! id, whoever comes next replaces it, and it expires.
//!
//! A write of unknown outcome is settled by serial reads, which finish what was accepted and fence off what was not; only a request that a node
//! still tries after its connection broke may come later, for as long as that node's own limit. Conditions make it harmless: a change that is
//! decided anew replaces the version it would have replaced. Everything by which something is decided is read serially; only profiles
//! of several users at once are read at quorum.
//!
//! Events of anybody are found by hints (`hints`). All acknowledged writes are in the logs of a quorum.

mod hints;
mod registering;

use std::{collections::BTreeMap, sync::atomic::AtomicU64, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use plaza_scylla_kit::{Batch, Conditional, Error as ClusterError, Migrations, Read, Session, Step, concurrently};
use plaza_types::{ClientId, DeviceId, UserId};

use self::hints::Hints;
use super::{Change, Error, Keys, Pending, Registered, Registration, Remembered, Store, rows};
use crate::domain::{Device, User};

/// The tables.
pub const MIGRATIONS: Migrations = Migrations {
    service: "accounts",
    steps: &[Step { name: "accounts", cql: include_str!("scylla/0001_accounts.cql") }],
    overlay: &[include_str!("scylla/overlay.cql")],
};

const KEYS: &str = "keys";
const ACCOUNT: i8 = 0;
const DEVICE: i8 = 1;
const EVENT: i8 = 2;
/// The only row of its kind.
const ACCOUNT_KEY: &[u8] = &[0];
/// How often something is tried again whose outcome is unknown. Those who want the same row at once get in each other's way.
const ATTEMPTS: u32 = 8;

/// Accounts' rows on a cluster.
pub struct Scylla {
    session: Session,
    keys: Read,
    put_keys: Conditional,
    handle: Read,
    claim_handle: Conditional,
    finish_handle: Conditional,
    request: Read,
    claim_request: Conditional,
    replace_request: Conditional,
    drop_request: Conditional,
    row: Read,
    row_at_quorum: Read,
    rows_of_kind: Read,
    insert_new: Conditional,
    insert: Conditional,
    replace: Conditional,
    remove_version: Conditional,
    remove: Conditional,
    hints: Hints,
    /// Request ids made before this time, microseconds, are forgotten. Their rows expire.
    forgotten: AtomicU64,
}

impl Scylla {
    /// Prepares the statements. The tables must be there.
    ///
    /// # Errors
    /// The cluster's.
    pub async fn open(session: &Session) -> Result<Self, ClusterError> {
        let keyspace = session.keyspace(MIGRATIONS.service);
        let person = "FROM {keyspace}.people WHERE user = ? AND kind = ?";
        let insert = "INSERT INTO {keyspace}.people (user, kind, key, version, row) VALUES (?, ?, ?, ?, ?)";
        let claim = format!("USING TTL {}", registering::KEPT_SECONDS);
        Ok(Self {
            session: session.clone(),
            keys: keyspace.serial_read("SELECT row FROM {keyspace}.service WHERE name = ?").await?,
            put_keys: keyspace.conditional("INSERT INTO {keyspace}.service (name, row) VALUES (?, ?) IF NOT EXISTS").await?,
            handle: keyspace.serial_read("SELECT user, registration FROM {keyspace}.handles WHERE handle = ?").await?,
            claim_handle: keyspace
                .conditional("INSERT INTO {keyspace}.handles (handle, user, registration) VALUES (?, ?, ?) IF NOT EXISTS")
                .await?,
            finish_handle: keyspace.conditional("UPDATE {keyspace}.handles SET registration = null WHERE handle = ? IF user = ?").await?,
            request: keyspace.serial_read("SELECT registration FROM {keyspace}.requests WHERE request = ?").await?,
            claim_request: keyspace
                .conditional(&format!(
                    "INSERT INTO {{keyspace}}.requests (request, user, registration) VALUES (?, ?, ?) IF NOT EXISTS {claim}"
                ))
                .await?,
            replace_request: keyspace
                .conditional(&format!("UPDATE {{keyspace}}.requests {claim} SET user = ?, registration = ? WHERE request = ? IF user = ?"))
                .await?,
            drop_request: keyspace.conditional("DELETE FROM {keyspace}.requests WHERE request = ? IF user = ?").await?,
            row: keyspace.serial_read(&format!("SELECT row {person} AND key = ?")).await?,
            row_at_quorum: keyspace.read(&format!("SELECT row {person} AND key = ?")).await?,
            rows_of_kind: keyspace.serial_read(&format!("SELECT key, row {person}")).await?,
            insert_new: keyspace.conditional(&format!("{insert} IF NOT EXISTS")).await?,
            insert: keyspace.conditional(insert).await?,
            replace: keyspace
                .conditional("UPDATE {keyspace}.people SET version = ?, row = ? WHERE user = ? AND kind = ? AND key = ? IF version = ?")
                .await?,
            remove_version: keyspace.conditional(&format!("DELETE {person} AND key = ? IF version = ?")).await?,
            remove: keyspace.conditional(&format!("DELETE {person} AND key = ? IF EXISTS")).await?,
            hints: Hints::open(&keyspace).await?,
            forgotten: AtomicU64::new(0),
        })
    }

    async fn account(&self, read: &Read, id: UserId) -> Result<Option<User>, Error> {
        let values = (id.as_bytes().as_slice(), ACCOUNT, ACCOUNT_KEY);
        let row = self.session.row::<(Option<Bytes>,)>(read, values).await?;
        row.and_then(|(row,)| row).map(|row| rows::read_user(id, &row)).transpose()
    }

    async fn of_kind(&self, user: UserId, kind: i8) -> Result<Vec<(Bytes, Bytes)>, Error> {
        Ok(self.session.rows(&self.rows_of_kind, (user.as_bytes().as_slice(), kind)).await?)
    }

    /// The change as one batch, and whether anything in it is a condition.
    fn batch(&self, change: &Change) -> Batch {
        let user = || change.user.to_key();
        let mut batch = Batch::new();
        if let Some((version, account)) = &change.account {
            let new = (signed(account.version), rows::user(account));
            batch.add(&self.replace, (new.0, new.1, user(), ACCOUNT, ACCOUNT_KEY, signed(*version)));
        }
        if let Some((version, device)) = &change.device {
            let (key, new) = (Bytes::copy_from_slice(device.id.as_bytes()), (signed(device.version), rows::device(device)));
            match version {
                Some(version) => batch.add(&self.replace, (new.0, new.1, user(), DEVICE, key, signed(*version))),
                None => batch.add(&self.insert_new, (user(), DEVICE, key, new.0, new.1)),
            }
        }
        for (device, version) in &change.removed {
            batch.add(&self.remove_version, (user(), DEVICE, Bytes::copy_from_slice(device.as_bytes()), signed(*version)));
        }
        for event in &change.events {
            // Some statement must have a condition; an event's own is that it is new.
            let statement = if batch.is_empty() { &self.insert_new } else { &self.insert };
            batch.add(statement, (user(), EVENT, event_key(event), 0_i64, rows::pending(event)));
        }
        batch
    }

    /// Whether the rows are as a change leaves them. `None` for a change that cannot be told by its rows.
    async fn happened(&self, change: &Change) -> Result<Option<bool>, Error> {
        if let Some((before, account)) = &change.account {
            let found = self.account(&self.row, change.user).await?.map(|user| user.version);
            return Ok(told(found, Some(*before), account.version));
        }
        let Some((before, device)) = &change.device else { return Ok(None) };
        let found = self.device(change.user, device.id).await?.map(|device| device.version);
        Ok(told(found, *before, device.version))
    }
}

/// What a row's version says of a change that would have replaced `before` by `after`.
fn told(found: Option<u64>, before: Option<u64>, after: u64) -> Option<bool> {
    match found {
        found if found == Some(after) => Some(true),
        found if found == before => Some(false),
        // It may have happened, and another after it.
        _ => None,
    }
}

#[async_trait]
impl Store for Scylla {
    async fn keys(&self, candidate: Keys) -> Result<Keys, Error> {
        for attempt in 0..ATTEMPTS {
            if let Some((row,)) = self.session.row::<(Bytes,)>(&self.keys, (KEYS,)).await? {
                return rows::read_keys(&row);
            }
            match self.session.conditional(&self.put_keys, (KEYS, rows::keys(&candidate))).await {
                Ok(_) => {}
                Err(ClusterError::Unknown(_)) => pause(attempt, &candidate.refresh).await,
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::Unavailable("the keys could not be made".to_owned()))
    }

    async fn register(&self, registration: &Registration) -> Result<Registered, Error> {
        let mut unknown = Error::Unknown("a registration among many".to_owned());
        for attempt in 0..ATTEMPTS {
            match self.try_to_register(registration).await {
                Ok(Some(registered)) => return Ok(registered),
                Ok(None) => {}
                Err(error @ Error::Unknown(_)) => unknown = error,
                // Of a later attempt it says nothing about those before.
                Err(Error::Unavailable(_)) if attempt > 0 => {}
                Err(error) => return Err(error),
            }
            pause(attempt, registration.user.id.as_bytes()).await;
        }
        Err(unknown)
    }

    async fn remembered(&self, request: ClientId) -> Result<Option<Remembered>, Error> {
        if self.is_forgotten(request) {
            return Ok(None);
        }
        let Some(registration) = self.registration_of(request).await? else { return Ok(None) };
        Ok(self.decide(&registration).await?.then(|| registering::remembered(&registration)))
    }

    async fn forget(&self, before: u64) -> Result<(), Error> {
        self.forgotten.fetch_max(before, std::sync::atomic::Ordering::Relaxed);
        Ok(())
    }

    async fn user_of(&self, handle_key: &str) -> Result<Option<UserId>, Error> {
        self.owner_of(handle_key).await
    }

    async fn users(&self, ids: &[UserId]) -> Result<Vec<User>, Error> {
        let read = if let [_] = ids { &self.row } else { &self.row_at_quorum };
        let users = ids.iter().map(|id| async { Ok(self.account(read, *id).await) });
        let users: Result<Vec<_>, _> = concurrently(users).await?.into_iter().collect();
        Ok(users?.into_iter().flatten().collect())
    }

    async fn devices(&self, user: UserId) -> Result<Vec<Device>, Error> {
        let device = |(key, row): (Bytes, Bytes)| {
            let id = DeviceId::from_slice(&key).ok_or(Error::Damaged("device"))?;
            rows::read_device(id, &row)
        };
        self.of_kind(user, DEVICE).await?.into_iter().map(device).collect()
    }

    async fn device(&self, user: UserId, device: DeviceId) -> Result<Option<Device>, Error> {
        let values = (user.as_bytes().as_slice(), DEVICE, device.as_bytes().as_slice());
        let row = self.session.row::<(Option<Bytes>,)>(&self.row, values).await?;
        row.and_then(|(row,)| row).map(|row| rows::read_device(device, &row)).transpose()
    }

    async fn apply(&self, change: &Change) -> Result<bool, Error> {
        if self.batch(change).is_empty() {
            return Ok(true);
        }
        // Before the events, so that none is ever without one.
        self.hints.put(&change.events).await?;
        let mut unknown: Option<ClusterError> = None;
        for attempt in 0..ATTEMPTS {
            let refused = match self.session.conditional_batch(self.batch(change)).await {
                Ok(true) => return Ok(true),
                Ok(false) => true,
                Err(error @ ClusterError::Unknown(_)) => {
                    unknown = Some(error);
                    false
                }
                // Of this attempt nothing happened; of one before, who knows.
                Err(error) => return Err(unknown.unwrap_or(error).into()),
            };
            let Some(error) = &unknown else { return Ok(false) };
            match self.happened(change).await {
                Ok(Some(true)) => return Ok(true),
                // Something else of what it would have replaced has changed, so no attempt can happen any more.
                Ok(Some(false)) if refused => return Ok(false),
                Ok(Some(false)) => pause(attempt, change.user.as_bytes()).await,
                Ok(None) | Err(_) => return Err(error.clone().into()),
            }
        }
        Err(unknown.unwrap_or_else(|| ClusterError::Unknown("a change among many".to_owned())).into())
    }

    async fn pending_of(&self, user: UserId) -> Result<Vec<Pending>, Error> {
        let event = |(key, row): (Bytes, Bytes)| rows::read_pending(&[user.as_bytes(), &key[..]].concat(), &row);
        self.of_kind(user, EVENT).await?.into_iter().map(event).collect()
    }

    async fn pending_before(&self, time: u64, limit: usize) -> Result<Vec<Pending>, Error> {
        let hints = self.hints.before(time).await?;
        let (mut found, mut left) = (Vec::new(), hints.users());
        while !left.is_empty() && found.len() < limit {
            let some = left.split_off(left.len().saturating_sub(plaza_scylla_kit::AT_ONCE));
            let events = some.iter().map(|user| async { Ok((*user, self.pending_of(*user).await)) });
            for (user, events) in concurrently(events).await? {
                let events = events?;
                self.hints.remove_vain(&hints, user, &events, time).await?;
                found.extend(events.into_iter().filter(|event| event.time < time));
            }
        }
        found.truncate(limit);
        Ok(found)
    }

    async fn appended(&self, events: &[Pending]) -> Result<(), Error> {
        let mut by_user = BTreeMap::<UserId, Vec<Pending>>::new();
        for event in events {
            by_user.entry(event.user).or_default().push(*event);
        }
        // One after the other: those of one user are one partition, where conditional writes get in each other's way. What fails for one user keeps
        // nothing of the others.
        let removals = by_user.into_iter().map(|(user, events)| async move {
            let removed = async {
                for event in &events {
                    self.session.conditional(&self.remove, (user.as_bytes().as_slice(), EVENT, event_key(event))).await?;
                }
                self.hints.remove(&events).await
            };
            Ok(removed.await)
        });
        concurrently(removals).await?.into_iter().collect()
    }

    async fn durable(&self) -> Result<(), Error> {
        Ok(())
    }
}

/// Time and id: oldest first.
fn event_key(event: &Pending) -> Bytes {
    rows::pending_key(event).slice(16..)
}

fn signed(version: u64) -> i64 {
    version.cast_signed()
}

/// Longer with every attempt, and another for everybody.
async fn pause(attempt: u32, who: &[u8]) {
    let own = u64::from(who.last().copied().unwrap_or_default() % 32);
    tokio::time::sleep(Duration::from_millis((5 + own) << attempt.min(5))).await;
}

impl From<ClusterError> for Error {
    fn from(error: ClusterError) -> Self {
        match error {
            ClusterError::Unknown(what) => Self::Unknown(what),
            ClusterError::Unavailable(what) | ClusterError::Refused(what) => Self::Unavailable(what),
            ClusterError::Malformed(_) => Self::Damaged("a table"),
        }
    }
}
