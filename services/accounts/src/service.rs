//! What accounts does, between the API and the store. A change is read, decided, written on condition that nothing it is based on has changed,
//! and published; if something has changed, or if the outcome of the write is unknown, it starts again from what is there now.

mod people;
mod profile;
mod sessions;

use std::sync::Arc;

use plaza_rpc::{ApiError, Peer};
use plaza_runtime::{Clock, Rng};
use plaza_types::{DeviceId, UserId};

pub(crate) use sessions::{DeviceInput, Registrant, Session};

use crate::{
    domain::{Device, User, device::revocation_time},
    error::Error,
    events::Publisher,
    metrics::Metrics,
    passwords::Passwords,
    store::{Change, Error as StoreError, Pending, Store, What},
    tokens::Issuer,
};

/// How often a change is tried before its caller is told to come again.
const ATTEMPTS: usize = 8;

pub(crate) struct Accounts {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) events: Arc<Publisher>,
    pub(crate) graph: Peer,
    pub(crate) clock: Clock,
    pub(crate) rng: Rng,
    pub(crate) passwords: Passwords,
    pub(crate) issuer: Issuer,
    pub(crate) metrics: Metrics,
}

impl Accounts {
    pub(crate) async fn user(&self, id: UserId) -> Result<User, Error> {
        self.store.users(&[id]).await?.pop().ok_or_else(|| ApiError::not_found("user").into())
    }

    pub(crate) async fn devices(&self, user: UserId) -> Result<Vec<Device>, Error> {
        Ok(self.store.devices(user).await?)
    }

    /// Writes a change; `false` if it must be decided anew.
    async fn commit(&self, change: &Change) -> Result<bool, Error> {
        let done = match self.store.apply(change).await {
            Err(unknown @ StoreError::Unknown(_)) => self.happened(change).await.map_err(|_| unknown)?,
            outcome => outcome?,
        };
        if !done {
            self.metrics.conflict();
        }
        Ok(done)
    }

    // Every change writes a version of its own into the user's or the device's row. If it happened and was overwritten since, this says no:
    // deciding anew then finds it done.
    async fn happened(&self, change: &Change) -> Result<bool, StoreError> {
        if let Some((_, user)) = &change.account {
            let found = self.store.users(&[user.id]).await?;
            return Ok(found.iter().any(|found| found.version == user.version));
        }
        let Some((_, device)) = &change.device else { return Ok(false) };
        let found = self.store.device(change.user, device.id).await?;
        Ok(found.is_some_and(|found| found.version == device.version))
    }

    /// Publishes a change that happened, and what earlier attempts may have left.
    async fn published(&self, change: &Change, attempt: usize) -> Result<(), Error> {
        if attempt == 0 { self.events.publish(&change.events).await } else { self.events.publish_all(change.user).await }
    }

    /// The row of a user as it is to be written next.
    fn rewritten(&self, user: &User) -> Option<(u64, User)> {
        Some((user.version, User { version: self.rng.next_u64(), ..user.clone() }))
    }

    fn event(&self, user: UserId, time: u64, what: What) -> Pending {
        Pending { id: self.rng.next_u64(), user, time, what }
    }

    /// Makes a change sign these devices out.
    fn sign_out_in(&self, change: &mut Change, devices: &[Device], now: u64) {
        for device in devices {
            change.removed.push((device.id, device.version));
            change.events.push(self.event(change.user, revocation_time(device, now), What::DeviceRevoked(device.id)));
        }
    }

    /// Signs a device out; `false` if the user has no such device.
    pub(crate) async fn sign_out(&self, user: UserId, device: DeviceId) -> Result<bool, Error> {
        let mut found = false;
        for attempt in 0..ATTEMPTS {
            let Some(signed_in) = self.store.device(user, device).await? else {
                // Gone, perhaps by a call that failed after its change: then its events must be in the log before this one is answered.
                self.events.publish_all(user).await?;
                return Ok(found);
            };
            found = true;
            let now = self.clock.now_micros();
            let mut change = Change::of(user);
            change.account = self.rewritten(&self.user(user).await?);
            self.sign_out_in(&mut change, &[signed_in], now);
            change.events.push(self.event(user, now, What::ProfileChanged));
            if self.commit(&change).await? {
                self.published(&change, attempt).await?;
                return Ok(true);
            }
        }
        Err(Error::Contended)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use plaza_embedded_db::{Db, Options};
    use plaza_event_log::embedded::EmbeddedLog;
    use plaza_topics::ACCOUNTS;
    use plaza_types::{ClientId, Reason};

    use super::*;
    use crate::{domain::rules, events, passwords, store::embedded::Embedded};

    const SOON: Duration = Duration::from_secs(20);

    fn accounts(db: &Db) -> Accounts {
        let store: Arc<dyn Store> = Arc::new(Embedded::open(db).expect("keyspaces"));
        let log = EmbeddedLog::open(db, &[(ACCOUNTS, 1)], || 1).expect("opened");
        let (clock, rng, metrics) = (Clock::manual(1_800_000_000_000_000), Rng::seeded(1), Metrics::new());
        let cheap = passwords::Config { memory_kib: 32, passes: 1, ..passwords::Config::default() };
        Accounts {
            events: events::publisher(store.clone(), log, clock.clone(), metrics.clone()).0,
            store,
            graph: Peer::slot(),
            passwords: Passwords::new(&cheap, rng.clone(), metrics.clone()).expect("good cost"),
            issuer: Issuer::new(&Issuer::new_keys(&rng).expect("keys"), rng.clone()).expect("good keys"),
            clock,
            rng,
            metrics,
        }
    }

    fn phone() -> DeviceInput {
        DeviceInput { id: None, name: "phone".to_owned(), platform: "ios".to_owned() }
    }

    fn mei_lin() -> Registrant {
        Registrant {
            request: ClientId::new(1, [1; 10]),
            handle: rules::handle("mei_lin").expect("a handle"),
            password: "correct horse".to_owned(),
            display_name: "Mei".to_owned(),
            device: phone(),
        }
    }

    #[tokio::test]
    async fn a_login_runs_one_argon2_whether_the_handle_is_known_or_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let db = Db::open(folder.path(), Options::default()).expect("opened");
        let accounts = accounts(&db);
        accounts.register(mei_lin(), SOON).await.map(drop).expect("registered");
        for (handle, password, good) in
            [("mei_lin", "correct horse", true), ("mei_lin", "battery staple", false), ("nobody_", "correct horse", false)]
        {
            let before = accounts.passwords.runs();
            let handle = rules::handle(handle).expect("a handle");
            let outcome = accounts.login(&handle, password.to_owned(), phone(), SOON).await;
            assert_eq!(accounts.passwords.runs() - before, 1);
            match outcome {
                Ok(_) => assert!(good),
                Err(Error::Api(refused)) => assert!(!good && refused.reason() == Reason::BadCredentials),
                Err(other) => panic!("{other}"),
            }
        }
    }

    #[tokio::test]
    async fn a_sign_in_that_was_verified_before_the_password_changed_comes_too_late() {
        let folder = tempfile::tempdir().expect("a folder");
        let db = Db::open(folder.path(), Options::default()).expect("opened");
        let accounts = accounts(&db);
        let session = accounts.register(mei_lin(), SOON).await.map_err(|error| error.to_string()).expect("registered");
        let verified = accounts.user(session.user.id).await.expect("read");
        let (old, new) = ("correct horse".to_owned(), "battery staple".to_owned());
        accounts.change_password(verified.id, session.device, old, new, SOON).await.map(drop).expect("changed");
        let Err(Error::Api(refused)) = accounts.sign_in(verified.clone(), phone(), None).await else {
            panic!("the password is another one")
        };
        assert_eq!(refused.reason(), Reason::BadCredentials);
        let devices = accounts.devices(verified.id).await.expect("read");
        assert_eq!(devices.iter().map(|device| device.id).collect::<Vec<_>>(), [session.device]);
    }
}
