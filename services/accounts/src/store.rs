//! What accounts keeps, as verbs. Written to the weaker of the two stores it can run on, a table with conditional writes:
//!
//! - A read sees every write that was acknowledged before it began, and settles a write whose outcome was unknown: after the read, that write
//!   has happened or never will.
//! - [`Store::register`] and [`Store::apply`] happen whole or not at all, and two that exclude each other never both happen.
//! - What was acknowledged is only sure to outlive a power loss once [`Store::durable`], called after it, has returned.
//! - An event is kept with the change that caused it, in the same write, until it is known to be in the log.
//!
//! [`conformance`] is the suite that every implementation passes, [`fault`] a wrapper that fails in every way allowed here.

use async_trait::async_trait;
use plaza_types::{ClientId, DeviceId, UserId};

use crate::domain::{Device, User, device::Digest};

pub mod conformance;
pub mod embedded;
pub mod fault;
mod rows;
pub mod scylla;

/// Why the store did not do it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// It did not happen, and may work later.
    #[error("store unavailable: {0}")]
    Unavailable(String),
    /// A write that may or may not have happened: read to find out.
    #[error("outcome of a write unknown: {0}")]
    Unknown(String),
    /// A row cannot be read.
    #[error("row of {0} is damaged")]
    Damaged(&'static str),
}

impl Error {
    /// A stable name for logs and metrics.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unavailable(_) => "unavailable",
            Self::Unknown(_) => "unknown",
            Self::Damaged(_) => "damaged",
        }
    }
}

/// What all instances of the service must share. Secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Keys {
    /// The Ed25519 key that signs access tokens, PKCS#8.
    pub signing: Vec<u8>,
    /// The key that refresh tokens are derived with.
    pub refresh: [u8; 32],
}

/// A new account and its first device.
#[derive(Clone)]
pub struct Registration {
    /// The request that asks for it.
    pub request: ClientId,
    /// Of what the request says, but for the password.
    pub fingerprint: Digest,
    /// What makes the handle unique.
    pub handle_key: String,
    /// The account.
    pub user: User,
    /// The device.
    pub device: Device,
}

/// What is remembered of a registration for [`plaza_types::limits::REQUEST_WINDOW`].
#[derive(Clone, PartialEq, Eq)]
pub struct Remembered {
    /// Of what the request said, but for the password.
    pub fingerprint: Digest,
    /// The hash of the password it said.
    pub password: String,
    /// The account it made.
    pub user: UserId,
    /// The account's first device.
    pub device: DeviceId,
}

/// What became of a registration.
#[derive(Clone, PartialEq, Eq)]
pub enum Registered {
    /// The account exists now.
    Created,
    /// Another request has the handle; nothing was written.
    HandleTaken,
    /// The request id was used before, perhaps by this very call; nothing was written.
    Before(Remembered),
}

/// Something that others must know of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pending {
    /// Tells events of the same time apart.
    pub id: u64,
    /// Whose.
    pub user: UserId,
    /// When it happened, microseconds since the epoch.
    pub time: u64,
    /// What happened.
    pub what: What,
}

/// What happened to a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// A device was signed out.
    DeviceRevoked(DeviceId),
    /// Profile, settings or devices changed.
    ProfileChanged,
}

/// A conditional change of one user: it happens if every row it replaces or removes still has the version read.
#[derive(Clone)]
pub struct Change {
    /// The user changed.
    pub user: UserId,
    /// The user's row: the version read, and the new row.
    pub account: Option<(u64, User)>,
    /// A device's row: the version read, `None` if there must be none, and the new row.
    pub device: Option<(Option<u64>, Device)>,
    /// Devices to be removed, with the versions read.
    pub removed: Vec<(DeviceId, u64)>,
    /// What others must know of it.
    pub events: Vec<Pending>,
}

impl Change {
    /// One that changes nothing yet.
    #[must_use]
    pub fn of(user: UserId) -> Self {
        Self { user, account: None, device: None, removed: Vec::new(), events: Vec::new() }
    }
}

/// The store. See the module for the contract.
#[async_trait]
pub trait Store: Send + Sync {
    /// The keys, which are the candidate if there are none yet.
    async fn keys(&self, candidate: Keys) -> Result<Keys, Error>;

    /// Makes an account, if neither its handle nor its request id was used. Asked again with the same registration after an unknown outcome,
    /// it finds out.
    async fn register(&self, registration: &Registration) -> Result<Registered, Error>;

    /// What is remembered of a registration.
    async fn remembered(&self, request: ClientId) -> Result<Option<Remembered>, Error>;

    /// Forgets registrations whose request ids were made before this time, in microseconds since the epoch.
    async fn forget(&self, before: u64) -> Result<(), Error>;

    /// Whose handle it is.
    async fn user_of(&self, handle_key: &str) -> Result<Option<UserId>, Error>;

    /// Those of the users that exist, in the order asked.
    async fn users(&self, ids: &[UserId]) -> Result<Vec<User>, Error>;

    /// A user's devices in the order of their ids.
    async fn devices(&self, user: UserId) -> Result<Vec<Device>, Error>;

    /// One device of a user.
    async fn device(&self, user: UserId, device: DeviceId) -> Result<Option<Device>, Error>;

    /// Makes a change; `false` if a row has another version, and then nothing was written.
    async fn apply(&self, change: &Change) -> Result<bool, Error>;

    /// The events of a user that are not known to be in the log, oldest first.
    async fn pending_of(&self, user: UserId) -> Result<Vec<Pending>, Error>;

    /// Events of anybody that are older than this time, in microseconds since the epoch, and not known to be in the log.
    async fn pending_before(&self, time: u64, limit: usize) -> Result<Vec<Pending>, Error>;

    /// Notes that events are in the log for good. May be lost: they are then appended again.
    async fn appended(&self, events: &[Pending]) -> Result<(), Error>;

    /// Returns when everything acknowledged before the call survives a power loss.
    async fn durable(&self) -> Result<(), Error>;
}
