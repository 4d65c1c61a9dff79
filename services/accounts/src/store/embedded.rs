//! Accounts on the embedded store. Every verb is one atomic batch; rows that are compared are compared as they were read.

use async_trait::async_trait;
use bytes::Bytes;
use plaza_embedded_db::{self as db, Batch, Db, Expect, Keyspace};
use plaza_types::{ClientId, DeviceId, UserId};

use super::{Change, Error, Keys, Pending, Registered, Registration, Remembered, Store, rows};
use crate::domain::{Device, User};

const KEYS: &[u8] = b"keys";

/// Accounts' rows in a [`Db`].
#[derive(Clone)]
pub struct Embedded {
    db: Db,
    /// `keys` -> the service's keys.
    service: Keyspace,
    /// Handle in lower case -> user.
    handles: Keyspace,
    /// User -> account.
    users: Keyspace,
    /// User, device -> device.
    devices: Keyspace,
    /// Request id -> what was registered by it. Ids sort by time, so the old ones are in front.
    requests: Keyspace,
    /// User, time, id -> event not known to be in the log.
    pending: Keyspace,
}

impl Embedded {
    /// Opens or creates the rows. Blocks for a moment.
    ///
    /// # Errors
    /// The store cannot create its keyspaces.
    pub fn open(db: &Db) -> Result<Self, db::Error> {
        Ok(Self {
            db: db.clone(),
            service: db.keyspace("accounts.service")?,
            handles: db.keyspace("accounts.handles")?,
            users: db.keyspace("accounts.users")?,
            devices: db.keyspace("accounts.devices")?,
            requests: db.keyspace("accounts.requests")?,
            pending: db.keyspace("accounts.pending")?,
        })
    }

    async fn conditional(&self, expects: Vec<Expect>, batch: Batch) -> Result<bool, Error> {
        self.db.ready().await;
        self.db.conditional(expects, batch).await.map_err(|error| match error {
            // Nothing is taken after a close; what was underway when a write failed is unknown until recovery.
            db::Error::Closed => Error::Unavailable(error.to_string()),
            _ => Error::Unknown(error.to_string()),
        })
    }

    fn user(&self, id: UserId) -> Result<Option<(User, Bytes)>, Error> {
        let Some(row) = self.users.get(id.as_bytes()).map_err(unavailable)? else { return Ok(None) };
        Ok(Some((rows::read_user(id, &row)?, row)))
    }

    fn device_row(&self, user: UserId, device: DeviceId) -> Result<Option<(Device, Bytes)>, Error> {
        let Some(row) = self.devices.get(&device_key(user, device)).map_err(unavailable)? else { return Ok(None) };
        Ok(Some((rows::read_device(device, &row)?, row)))
    }

    /// What makes sure that a device still has the version read; `None` if it has not.
    fn expect_device(&self, user: UserId, device: DeviceId, version: Option<u64>) -> Result<Option<Expect>, Error> {
        let key = device_key(user, device);
        Ok(match (self.device_row(user, device)?, version) {
            (Some((found, row)), Some(version)) if found.version == version => Some(Expect::equal(&self.devices, key, row)),
            (None, None) => Some(Expect::absent(&self.devices, key)),
            _ => None,
        })
    }
}

fn device_key(user: UserId, device: DeviceId) -> Vec<u8> {
    [*user.as_bytes(), *device.as_bytes()].concat()
}

#[expect(clippy::needless_pass_by_value, reason = "it is given to map_err")]
fn unavailable(error: db::Error) -> Error {
    Error::Unavailable(error.to_string())
}

#[async_trait]
impl Store for Embedded {
    async fn keys(&self, candidate: Keys) -> Result<Keys, Error> {
        let mut batch = Batch::new();
        batch.insert(&self.service, KEYS, rows::keys(&candidate));
        if self.conditional(vec![Expect::absent(&self.service, KEYS)], batch).await? {
            return Ok(candidate);
        }
        let row = self.service.get(KEYS).map_err(unavailable)?.ok_or(Error::Damaged("keys"))?;
        rows::read_keys(&row)
    }

    async fn register(&self, registration: &Registration) -> Result<Registered, Error> {
        let Registration { request, handle_key, user, device, .. } = registration;
        let remembered =
            Remembered { fingerprint: registration.fingerprint, password: user.password.clone(), user: user.id, device: device.id };
        let mut batch = Batch::new();
        batch.insert(&self.requests, request.as_bytes().to_vec(), rows::remembered(&remembered));
        batch.insert(&self.handles, handle_key.clone(), user.id.to_key());
        batch.insert(&self.users, user.id.to_key(), rows::user(user));
        batch.insert(&self.devices, device_key(user.id, device.id), rows::device(device));
        let expects = vec![Expect::absent(&self.requests, request.as_bytes().to_vec()), Expect::absent(&self.handles, handle_key.clone())];
        if self.conditional(expects, batch).await? {
            return Ok(Registered::Created);
        }
        Ok(self.remembered(*request).await?.map_or(Registered::HandleTaken, Registered::Before))
    }

    async fn remembered(&self, request: ClientId) -> Result<Option<Remembered>, Error> {
        let row = self.requests.get(request.as_bytes()).map_err(unavailable)?;
        row.map(|row| rows::read_remembered(&row)).transpose()
    }

    async fn forget(&self, before: u64) -> Result<(), Error> {
        const AT_ONCE: usize = 1000;
        let end = ClientId::new(before, [0; 10]);
        // The time is the first six bytes of an id.
        let end = &end.as_bytes()[..6];
        loop {
            let old = self.requests.scan(&[], end, false, AT_ONCE).map_err(unavailable)?;
            if old.is_empty() {
                return Ok(());
            }
            let mut batch = Batch::new();
            for (key, _) in &old {
                batch.remove(&self.requests, key.clone());
            }
            self.db.ready().await;
            let position = self.db.enqueue(batch);
            self.db.visible(position).await.map_err(unavailable)?;
        }
    }

    async fn user_of(&self, handle_key: &str) -> Result<Option<UserId>, Error> {
        let Some(row) = self.handles.get(handle_key.as_bytes()).map_err(unavailable)? else { return Ok(None) };
        UserId::from_slice(&row).map(Some).ok_or(Error::Damaged("handle"))
    }

    async fn users(&self, ids: &[UserId]) -> Result<Vec<User>, Error> {
        ids.iter().filter_map(|id| self.user(*id).transpose()).map(|found| found.map(|(user, _)| user)).collect()
    }

    async fn devices(&self, user: UserId) -> Result<Vec<Device>, Error> {
        let mut devices = Vec::new();
        for row in self.devices.prefix(user.as_bytes()) {
            let (key, row) = row.map_err(unavailable)?;
            let id = DeviceId::from_slice(&key[16..]).ok_or(Error::Damaged("device"))?;
            devices.push(rows::read_device(id, &row)?);
        }
        Ok(devices)
    }

    async fn device(&self, user: UserId, device: DeviceId) -> Result<Option<Device>, Error> {
        Ok(self.device_row(user, device)?.map(|(device, _)| device))
    }

    async fn apply(&self, change: &Change) -> Result<bool, Error> {
        let mut expects = Vec::new();
        let mut batch = Batch::new();
        if let Some((version, user)) = &change.account {
            match self.user(change.user)? {
                Some((found, row)) if found.version == *version => {
                    expects.push(Expect::equal(&self.users, change.user.to_key(), row));
                }
                _ => return Ok(false),
            }
            batch.insert(&self.users, change.user.to_key(), rows::user(user));
        }
        if let Some((version, device)) = &change.device {
            let Some(expect) = self.expect_device(change.user, device.id, *version)? else { return Ok(false) };
            expects.push(expect);
            batch.insert(&self.devices, device_key(change.user, device.id), rows::device(device));
        }
        for (device, version) in &change.removed {
            let Some(expect) = self.expect_device(change.user, *device, Some(*version))? else { return Ok(false) };
            expects.push(expect);
            batch.remove(&self.devices, device_key(change.user, *device));
        }
        for event in &change.events {
            batch.insert(&self.pending, rows::pending_key(event), rows::pending(event));
        }
        self.conditional(expects, batch).await
    }

    async fn pending_of(&self, user: UserId) -> Result<Vec<Pending>, Error> {
        self.pending
            .prefix(user.as_bytes())
            .map(|row| row.map_err(unavailable).and_then(|(key, value)| rows::read_pending(&key, &value)))
            .collect()
    }

    async fn pending_before(&self, time: u64, limit: usize) -> Result<Vec<Pending>, Error> {
        let all = self.pending.range(..).map(|row| row.map_err(unavailable).and_then(|(key, value)| rows::read_pending(&key, &value)));
        all.filter(|event| event.as_ref().map_or(true, |event| event.time < time)).take(limit).collect()
    }

    async fn appended(&self, events: &[Pending]) -> Result<(), Error> {
        let mut batch = Batch::new();
        for event in events {
            batch.remove(&self.pending, rows::pending_key(event));
        }
        self.db.ready().await;
        let position = self.db.enqueue(batch);
        self.db.visible(position).await.map_err(unavailable)
    }

    async fn durable(&self) -> Result<(), Error> {
        self.db.durable(self.db.enqueued()).await.map_err(unavailable)
    }
}
