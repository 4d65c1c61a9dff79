//! What changes something: a command to the log, and its owner's decision as the answer. Calls under way are bounded; above that they are
//! turned away at once.

use std::time::Duration;

use bytes::Bytes;
use plaza_event_log::{Error, Topic};
use plaza_processor::{CallError, Caller, Command, Outcome, StoreError, outcome};
use plaza_rpc::{ApiError, Identity, deadline};
use plaza_runtime::{Clock, Rng};
use plaza_telemetry::propagation;
use plaza_topics::{MOMENTS, TIMELINE, moments, timeline};
use plaza_types::{ClientId, Reason, UserId};
use prost::Message;
use tokio::sync::Semaphore;
use tonic::Request;
use xxhash_rust::xxh3::xxh3_64;

use crate::metrics;

const BUSY: Duration = Duration::from_millis(100);

/// The changing calls.
pub(crate) struct Commands {
    caller: Caller,
    clock: Clock,
    rng: Rng,
    under_way: Semaphore,
}

/// Who asks, and how long they wait.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asker {
    /// The user.
    pub(crate) user: UserId,
    within: Duration,
}

impl Asker {
    /// The caller of this request.
    pub(crate) fn of<T>(request: &Request<T>) -> Result<Self, ApiError> {
        let user = Identity::of(request)?.user;
        Ok(Self { user, within: deadline::remaining(request) })
    }
}

/// One of them, well formed.
pub(crate) struct Change {
    /// Whose posts decide.
    pub(crate) author: UserId,
    /// The caller's id of it; without one, it is a new one each time.
    pub(crate) id: Option<ClientId>,
    /// A hash of what is asked, see [`fingerprint`].
    pub(crate) fingerprint: u64,
    /// What is to be done.
    pub(crate) kind: moments::Kind,
}

impl Commands {
    /// At most `limit` calls at a time.
    pub(crate) fn new(caller: Caller, clock: Clock, rng: Rng, limit: usize) -> Self {
        Self { caller, clock, rng, under_way: Semaphore::new(limit) }
    }

    /// Has it decided by an author's posts and gives the answer, in the encoding of the method.
    pub(crate) async fn call(&self, asker: Asker, change: Change) -> Result<Bytes, ApiError> {
        let payload = moments::Payload { kind: Some(change.kind) }.encode_to_vec();
        self.append(asker, (MOMENTS, change.author), change.id, change.fingerprint, payload).await
    }

    /// Has the caller's own timeline note something; when this returns, that and all before it can be read.
    pub(crate) async fn note(&self, asker: Asker, kind: timeline::Kind) -> Result<(), ApiError> {
        let payload = timeline::Payload { kind: Some(kind) }.encode_to_vec();
        self.append(asker, (TIMELINE, asker.user), None, 0, payload).await.map(drop)
    }

    async fn append(
        &self,
        asker: Asker,
        (topic, key): (Topic, UserId),
        id: Option<ClientId>,
        fingerprint: u64,
        payload: Vec<u8>,
    ) -> Result<Bytes, ApiError> {
        let Ok(_permit) = self.under_way.try_acquire() else {
            metrics::get().turned_away.add(1, &[]);
            return Err(ApiError::unavailable(BUSY));
        };
        let now = self.clock.now_micros();
        let within = u64::try_from(asker.within.as_micros()).unwrap_or(u64::MAX);
        let command = Command {
            topic,
            key: key.to_key(),
            caller: asker.user,
            request: id.unwrap_or_else(|| ClientId::new(now, self.rng.bytes())),
            fingerprint,
            payload: payload.into(),
            now,
            deadline: now.saturating_add(within),
            traceparent: propagation::current_traceparent(),
        };
        decided(self.caller.call(command).await)
    }
}

/// A hash of what a call asks, request id left out.
pub(crate) fn fingerprint(method: &str, content: &impl Message) -> u64 {
    // Some methods' contents look alike.
    xxh3_64(&[method.as_bytes(), &[0], &content.encode_to_vec()].concat())
}

fn decided(outcome: Result<Outcome, CallError>) -> Result<Bytes, ApiError> {
    match outcome {
        Ok(Outcome { kind: Some(outcome::Kind::Accepted(answer)) }) => Ok(answer),
        Ok(Outcome { kind: Some(outcome::Kind::Refused(refusal)) }) => {
            let reason = Reason::from_number(refusal.reason).unwrap_or(Reason::Internal);
            Err(ApiError::refused(reason, refusal.subject, refusal.message, refusal.retry_after))
        }
        Ok(Outcome { kind: None }) => Err(ApiError::internal()),
        Err(CallError::Undecided) => Err(ApiError::undecided()),
        Err(CallError::Log(Error::TooLarge { .. })) => Err(ApiError::new(Reason::TooLarge, "the request is too large")),
        Err(CallError::Log(error)) => {
            tracing::warn!(%error, "command not appended");
            Err(ApiError::unavailable(BUSY))
        }
    }
}

/// A store that does not answer.
pub(crate) fn store(error: StoreError) -> ApiError {
    metrics::get().store_errors.add(1, &[]);
    tracing::warn!(%error, "moments store cannot be read");
    ApiError::unavailable(BUSY)
}
