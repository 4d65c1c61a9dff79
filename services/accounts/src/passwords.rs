//! Passwords: argon2id on a bounded number of blocking threads, with a bounded queue before them. Every check runs exactly one argon2, whether
//! the account exists or not, so that neither the answer nor its time tells which handles are in use.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use argon2::{
    Algorithm, Argon2, Block, Params, Version,
    password_hash::{self, Output, ParamsString, PasswordHash, Salt, SaltString},
};
use parking_lot::Mutex;
use plaza_rpc::{ApiError, deadline};
use plaza_runtime::Rng;
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{error::Error, metrics::Metrics};

const SALT_BYTES: usize = 16;
const HASH_BYTES: usize = 32;
/// When somebody who found the queue full should come again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How passwords are hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Memory of one hash, KiB. Passwords hashed with another cost stay valid.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
    /// Hashes made at once; 0 = one per core.
    pub threads: usize,
    /// Calls that may wait for each of these; one more is refused with UNAVAILABLE.
    pub queue_per_thread: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { memory_kib: 19 * 1024, passes: 2, threads: 0, queue_per_thread: 64 }
    }
}

/// Hashes and checks passwords.
pub(crate) struct Passwords {
    params: Params,
    rng: Rng,
    permits: Arc<Semaphore>,
    waiting: AtomicUsize,
    queue: usize,
    shared: Arc<Shared>,
    /// Checked when there is no account. Its password is nobody's.
    nobody: String,
}

struct Shared {
    /// The memory of hashes that are over, for its pages are there already. At most one per thread.
    memory: Mutex<Vec<Vec<Block>>>,
    metrics: Metrics,
    runs: AtomicUsize,
}

impl Passwords {
    /// Makes the pool, and one hash.
    pub(crate) fn new(config: &Config, rng: Rng, metrics: Metrics) -> anyhow::Result<Self> {
        let cost = Params::new(config.memory_kib, config.passes, 1, Some(HASH_BYTES));
        let params = cost.map_err(|error| anyhow::anyhow!("password cost: {error}"))?;
        let threads = match config.threads {
            0 => thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        };
        let shared = Arc::new(Shared { memory: Mutex::default(), metrics, runs: AtomicUsize::new(0) });
        let nobody = shared.hash(&params, &rng.bytes::<32>(), &rng.bytes());
        let nobody = nobody.map_err(|error| anyhow::anyhow!("password cost: {error}"))?;
        Ok(Self {
            params,
            rng,
            permits: Arc::new(Semaphore::new(threads)),
            waiting: AtomicUsize::new(0),
            queue: threads.saturating_mul(config.queue_per_thread),
            shared,
            nobody,
        })
    }

    /// The hash of a new password, as a PHC string.
    pub(crate) async fn hash(&self, password: String, within: Duration) -> Result<String, Error> {
        let (params, salt) = (self.params.clone(), self.rng.bytes());
        self.run(within, move |shared| shared.hash(&params, password.as_bytes(), &salt)).await
    }

    /// Whether the password is the one hashed; never for nobody's.
    pub(crate) async fn verify(&self, hash: Option<&str>, password: String, within: Duration) -> Result<bool, Error> {
        let known = hash.is_some();
        let hash = hash.unwrap_or(&self.nobody).to_owned();
        let matches = self.run(within, move |shared| shared.verify(&hash, password.as_bytes())).await?;
        Ok(matches && known)
    }

    async fn run<T: Send + 'static>(
        &self,
        within: Duration,
        work: impl FnOnce(&Shared) -> Result<T, password_hash::Error> + Send + 'static,
    ) -> Result<T, Error> {
        let permit = self.permit(within).await?;
        let shared = self.shared.clone();
        let done = tokio::task::spawn_blocking(move || {
            // Held here, so that a caller who goes away does not make room before its hash is over.
            let _permit = permit;
            let started = Instant::now();
            let outcome = work(&shared);
            shared.metrics.hashed(started.elapsed());
            outcome
        });
        Ok(done.await??)
    }

    async fn permit(&self, within: Duration) -> Result<OwnedSemaphorePermit, Error> {
        if let Ok(permit) = self.permits.clone().try_acquire_owned() {
            return Ok(permit);
        }
        let place = Place::take(&self.waiting);
        if place.ahead >= self.queue {
            self.shared.metrics.turned_away();
            return Err(ApiError::unavailable(RETRY_AFTER).into());
        }
        let waited = tokio::time::timeout(within, self.permits.clone().acquire_owned()).await;
        let permit = waited.map_err(|_| deadline::exceeded())?;
        Ok(permit.expect("the semaphore is never closed"))
    }

    #[cfg(test)]
    pub(crate) fn runs(&self) -> usize {
        self.shared.runs.load(Ordering::SeqCst)
    }
}

/// A place in the queue, given back when dropped.
struct Place<'a> {
    waiting: &'a AtomicUsize,
    ahead: usize,
}

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicUsize) -> Self {
        Self { waiting, ahead: waiting.fetch_add(1, Ordering::SeqCst) }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Shared {
    fn hash(&self, params: &Params, password: &[u8], salt: &[u8; SALT_BYTES]) -> Result<String, password_hash::Error> {
        let output = self.argon2(params.clone(), password, salt)?;
        let salt = SaltString::encode_b64(salt)?;
        let hash = PasswordHash {
            algorithm: Algorithm::Argon2id.ident(),
            version: Some(Version::V0x13.into()),
            params: ParamsString::try_from(params)?,
            salt: Some(salt.as_salt()),
            hash: Some(output),
        };
        Ok(hash.to_string())
    }

    fn verify(&self, hash: &str, password: &[u8]) -> Result<bool, password_hash::Error> {
        let hash = PasswordHash::new(hash)?;
        let (Some(salt), Some(expected)) = (hash.salt, hash.hash) else { return Err(password_hash::Error::Password) };
        let mut bytes = [0; Salt::MAX_LENGTH];
        let output = self.argon2(Params::try_from(&hash)?, password, salt.decode_b64(&mut bytes)?)?;
        // Compares in constant time.
        Ok(output == expected)
    }

    fn argon2(&self, params: Params, password: &[u8], salt: &[u8]) -> Result<Output, password_hash::Error> {
        self.runs.fetch_add(1, Ordering::SeqCst);
        let mut memory = self.memory.lock().pop().unwrap_or_default();
        if memory.len() < params.block_count() {
            memory.resize(params.block_count(), Block::default());
        }
        let mut output = [0; HASH_BYTES];
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        // The first pass overwrites all of it, so what an earlier hash left does not matter.
        let filled = argon2.hash_password_into_with_memory(password, salt, &mut output, &mut memory);
        self.memory.lock().push(memory);
        filled?;
        Output::new(&output)
    }
}

#[cfg(test)]
mod tests {
    use argon2::{PasswordHasher, PasswordVerifier};

    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    fn passwords(config: Config) -> Passwords {
        let small = Config { memory_kib: 64, passes: 2, ..config };
        Passwords::new(&small, Rng::seeded(1), Metrics::new()).expect("good cost")
    }

    #[test]
    fn the_cost_is_that_of_the_design() {
        let config = Config::default();
        assert_eq!((config.memory_kib, config.passes), (19_456, 2));
    }

    #[tokio::test]
    async fn hashes_are_those_of_everybody_elses_argon2id_also_in_used_memory() {
        let passwords = passwords(Config { threads: 1, ..Config::default() });
        for password in ["correct horse", "battery staple", "界界界界界界界界"] {
            let hash = passwords.hash(password.to_owned(), SOON).await.expect("hashed");
            let parsed = PasswordHash::new(&hash).expect("PHC");
            Argon2::default().verify_password(password.as_bytes(), &parsed).expect("the same password");
            assert!(passwords.verify(Some(&hash), password.to_owned(), SOON).await.expect("checked"));
            assert!(!passwords.verify(Some(&hash), format!("{password}x"), SOON).await.expect("checked"));
        }
        // A hash of another cost, as one made before the cost was raised.
        let salt = SaltString::encode_b64(b"0123456789abcdef").expect("salt");
        let larger = Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::new(256, 1, 1, None).expect("params"));
        let hash = larger.hash_password(b"another cost", &salt).expect("hashed").to_string();
        assert!(passwords.verify(Some(&hash), "another cost".to_owned(), SOON).await.expect("checked"));
        assert_eq!(passwords.shared.memory.lock().len(), 1);
    }

    #[tokio::test]
    async fn nobodys_password_costs_one_argon2_like_anybodys_and_never_matches() {
        let passwords = passwords(Config::default());
        let hash = passwords.hash("correct horse".to_owned(), SOON).await.expect("hashed");
        for known in [Some(hash.as_str()), None] {
            let before = passwords.runs();
            let matches = passwords.verify(known, "correct horse".to_owned(), SOON).await.expect("checked");
            assert_eq!((matches, passwords.runs() - before), (known.is_some(), 1));
        }
    }

    #[tokio::test]
    async fn the_queue_is_bounded_and_waiting_ends_with_the_deadline() {
        let passwords = passwords(Config { threads: 1, queue_per_thread: 1, ..Config::default() });
        let _busy = passwords.permits.clone().try_acquire_owned().expect("nobody is hashing");
        let mut waiting = std::pin::pin!(passwords.hash("one that waits".to_owned(), SOON));
        assert!(futures::poll!(&mut waiting).is_pending());
        let refused = passwords.hash("one too many".to_owned(), SOON).await.expect_err("the queue is full");
        let Error::Api(refused) = refused else { panic!("{refused:?}") };
        assert_eq!(refused, ApiError::unavailable(RETRY_AFTER));
        drop(_busy);
        waiting.await.expect("its turn came");

        let _busy = passwords.permits.clone().try_acquire_owned().expect("nobody is hashing");
        let late = passwords.hash("one in a hurry".to_owned(), Duration::ZERO).await.expect_err("the deadline passed");
        let Error::Api(late) = late else { panic!("{late:?}") };
        assert_eq!(late, deadline::exceeded());
        assert_eq!(passwords.waiting.load(Ordering::SeqCst), 0);
    }
}
