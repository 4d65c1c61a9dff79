//! A store that fails by seed in every way the contract allows: reads and writes that do not happen, and writes whose outcome is unknown,
//! whether they happened or not.

use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use plaza_runtime::Rng;
use plaza_types::{ClientId, DeviceId, UserId};

use super::{Change, Error, Keys, Pending, Registered, Registration, Remembered, Store};
use crate::domain::{Device, User};

/// Of 100 calls, how many fail.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rates {
    /// Calls that do not happen.
    pub unavailable: u64,
    /// Conditional writes that happen, unknown to their caller.
    pub unknown_done: u64,
    /// Conditional writes that do not happen, unknown to their caller.
    pub unknown_not_done: u64,
}

/// A store that fails by seed.
pub struct Faulty {
    inner: Arc<dyn Store>,
    rng: Rng,
    rates: Mutex<Rates>,
}

impl Faulty {
    /// Around another store.
    #[must_use]
    pub fn new(inner: Arc<dyn Store>, rng: Rng, rates: Rates) -> Self {
        Self { inner, rng, rates: Mutex::new(rates) }
    }

    /// Fails at other rates from now on.
    pub fn set(&self, rates: Rates) {
        *self.rates.lock() = rates;
    }

    fn happens(&self, which: impl FnOnce(&Rates) -> u64) -> bool {
        self.rng.next_u64() % 100 < which(&self.rates.lock())
    }

    fn reach(&self) -> Result<(), Error> {
        if self.happens(|rates| rates.unavailable) { Err(Error::Unavailable("injected".to_owned())) } else { Ok(()) }
    }

    async fn write<T>(&self, write: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        self.reach()?;
        if self.happens(|rates| rates.unknown_not_done) {
            return Err(Error::Unknown("injected, not done".to_owned()));
        }
        let outcome = write.await;
        if outcome.is_ok() && self.happens(|rates| rates.unknown_done) {
            return Err(Error::Unknown("injected, done".to_owned()));
        }
        outcome
    }
}

#[async_trait]
impl Store for Faulty {
    async fn keys(&self, candidate: Keys) -> Result<Keys, Error> {
        self.write(self.inner.keys(candidate)).await
    }

    async fn register(&self, registration: &Registration) -> Result<Registered, Error> {
        self.write(self.inner.register(registration)).await
    }

    async fn remembered(&self, request: ClientId) -> Result<Option<Remembered>, Error> {
        self.reach()?;
        self.inner.remembered(request).await
    }

    async fn forget(&self, before: u64) -> Result<(), Error> {
        self.reach()?;
        self.inner.forget(before).await
    }

    async fn user_of(&self, handle_key: &str) -> Result<Option<UserId>, Error> {
        self.reach()?;
        self.inner.user_of(handle_key).await
    }

    async fn users(&self, ids: &[UserId]) -> Result<Vec<User>, Error> {
        self.reach()?;
        self.inner.users(ids).await
    }

    async fn devices(&self, user: UserId) -> Result<Vec<Device>, Error> {
        self.reach()?;
        self.inner.devices(user).await
    }

    async fn device(&self, user: UserId, device: DeviceId) -> Result<Option<Device>, Error> {
        self.reach()?;
        self.inner.device(user, device).await
    }

    async fn apply(&self, change: &Change) -> Result<bool, Error> {
        self.write(self.inner.apply(change)).await
    }

    async fn pending_of(&self, user: UserId) -> Result<Vec<Pending>, Error> {
        self.reach()?;
        self.inner.pending_of(user).await
    }

    async fn pending_before(&self, time: u64, limit: usize) -> Result<Vec<Pending>, Error> {
        self.reach()?;
        self.inner.pending_before(time, limit).await
    }

    async fn appended(&self, events: &[Pending]) -> Result<(), Error> {
        self.reach()?;
        self.inner.appended(events).await
    }

    async fn durable(&self) -> Result<(), Error> {
        self.reach()?;
        self.inner.durable().await
    }
}
