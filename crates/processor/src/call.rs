//! Calling a processor: a command is appended to the log, and the caller waits for its owner's decision.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use foldhash::HashMap;
use parking_lot::Mutex;
use plaza_event_log::{Error, EventLog, Record, Topic, TopicPartition};
use plaza_types::{ClientId, UserId, partition};
use prost::Message;
use tokio::sync::oneshot;

use crate::{Envelope, Outcome, ReplyTo};

/// A command to be decided.
#[derive(Debug, Clone)]
pub struct Command {
    /// The topic of its owner.
    pub topic: Topic,
    /// The record's key; decides the partition.
    pub key: Bytes,
    /// Who asks.
    pub caller: UserId,
    /// The caller's id of it: asked again, it gets the same outcome.
    pub request: ClientId,
    /// A hash of what is asked.
    pub fingerprint: u64,
    /// The topic's payload, encoded.
    pub payload: Bytes,
    /// The API's clock, microseconds.
    pub now: u64,
    /// Until when the caller waits, by the same clock, microseconds.
    pub deadline: u64,
    /// Trace context to travel with the record, if traced.
    pub traceparent: Option<Bytes>,
}

/// Why there is no decision.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Nobody decided within the deadline; asked again with the same request id, the recorded outcome comes.
    #[error("no decision within the deadline")]
    Undecided,
    /// The log did not take it; it may have all the same.
    #[error(transparent)]
    Log(#[from] Error),
}

/// The calls of this process that wait for a decision. Bounded by the callers' own deadlines.
pub struct Replies {
    instance: u64,
    outside: Option<(SocketAddr, Arc<dyn Outlet>)>,
    observer: Option<Observer>,
    next: AtomicU64,
    waiting: [Mutex<HashMap<u64, oneshot::Sender<Outcome>>>; 16],
}

/// How replies get to other processes.
pub trait Outlet: Send + Sync {
    /// Sends a reply to the process at this address. Must not block; a reply that does not get there is one whose caller asks again.
    fn send(&self, address: SocketAddr, to: ReplyTo, outcome: Outcome);
}

/// Sees replies as they are given.
type Observer = Box<dyn Fn(ReplyTo, &Outcome) + Send + Sync>;

impl std::fmt::Debug for Replies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let waiting: usize = self.waiting.iter().map(|shard| shard.lock().len()).sum();
        f.debug_struct("Replies").field("instance", &self.instance).field("waiting", &waiting).finish()
    }
}

impl Replies {
    /// For a process with this random number.
    #[must_use]
    pub fn new(instance: u64) -> Arc<Self> {
        Arc::new(Self::of(instance))
    }

    /// For one of several processes, which the others tell at this address.
    #[must_use]
    pub fn reachable(instance: u64, address: SocketAddr, outlet: Arc<dyn Outlet>) -> Arc<Self> {
        Arc::new(Self { outside: Some((address, outlet)), ..Self::of(instance) })
    }

    fn of(instance: u64) -> Self {
        Self { instance, outside: None, observer: None, next: AtomicU64::new(1), waiting: Default::default() }
    }

    /// The same, with an observer of every reply that is given, also of those that nobody waits for any more.
    #[must_use]
    pub fn observed(instance: u64, observer: impl Fn(ReplyTo, &Outcome) + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { observer: Some(Box::new(observer)), ..Self::of(instance) })
    }

    /// This process's number in reply addresses.
    #[must_use]
    pub fn instance(&self) -> u64 {
        self.instance
    }

    fn address(&self, call: u64) -> ReplyTo {
        ReplyTo::new(self.instance, call, self.outside.as_ref().map(|(address, _)| *address))
    }

    /// Opens an address. It is closed when the guard is dropped.
    fn open(self: &Arc<Self>) -> (Waiting, oneshot::Receiver<Outcome>) {
        let call = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        self.shard(call).lock().insert(call, sender);
        (Waiting { replies: Arc::clone(self), call }, receiver)
    }

    /// Gives a decision to whoever waits for it, here or in the process that its address names.
    pub fn deliver(&self, to: ReplyTo, outcome: Outcome) {
        if let Some(observer) = &self.observer {
            observer(to, &outcome);
        }
        if to.instance == self.instance {
            self.deliver_here(to, outcome);
        } else if let Some((address, (_, outlet))) = to.address().zip(self.outside.as_ref()) {
            outlet.send(address, to, outcome);
        }
    }

    /// Gives a decision to whoever waits for it here; late, repeated and foreign ones are dropped.
    pub fn deliver_here(&self, to: ReplyTo, outcome: Outcome) {
        if to.instance != self.instance {
            return;
        }
        if let Some(sender) = self.shard(to.call).lock().remove(&to.call) {
            // The caller may have gone away; nobody else wants it.
            let _ = sender.send(outcome);
        }
    }

    fn shard(&self, call: u64) -> &Mutex<HashMap<u64, oneshot::Sender<Outcome>>> {
        &self.waiting[(call % 16) as usize]
    }
}

struct Waiting {
    replies: Arc<Replies>,
    call: u64,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.replies.shard(self.call).lock().remove(&self.call);
    }
}

/// Appends commands and waits for their decisions.
#[derive(Clone)]
pub struct Caller {
    log: Arc<dyn EventLog>,
    replies: Arc<Replies>,
    rules: u32,
}

impl Caller {
    /// Calls through this log, stamping this number of rules.
    #[must_use]
    pub fn new(log: Arc<dyn EventLog>, replies: Arc<Replies>, rules: u32) -> Self {
        Self { log, replies, rules }
    }

    /// Appends a command and waits for its owner's decision, until the command's deadline.
    ///
    /// # Errors
    /// See [`CallError`]: in both cases the command may still be decided.
    pub async fn call(&self, command: Command) -> Result<Outcome, CallError> {
        let to = TopicPartition { topic: command.topic, partition: partition::of(&command.key, self.log.partitions(command.topic)) };
        let (waiting, decision) = self.replies.open();
        let envelope = Envelope {
            rules: self.rules,
            time: command.now,
            deadline: command.deadline,
            caller: command.caller.to_key(),
            request: Bytes::copy_from_slice(command.request.as_bytes()),
            fingerprint: command.fingerprint,
            reply_to: Some(self.replies.address(waiting.call)),
            origin: None,
            payload: command.payload,
        };
        let headers = command.traceparent.map(|value| vec![("traceparent", value)]).unwrap_or_default();
        let record = Record { key: command.key, value: envelope.encode_to_vec().into(), headers };
        let limit = std::time::Duration::from_micros(command.deadline.saturating_sub(command.now));
        let decided = tokio::time::timeout(limit, decided(decision, self.log.append(to, record)));
        decided.await.unwrap_or(Err(CallError::Undecided))
    }
}

/// The decision on what is being appended. Who has decided it has read it in the log, perhaps before the log's own answer is here.
async fn decided(
    mut decision: oneshot::Receiver<Outcome>,
    appended: impl Future<Output = Result<(), Error>>,
) -> Result<Outcome, CallError> {
    // The sender is dropped only with the process.
    let gone = |_| CallError::Undecided;
    tokio::select! {
        biased;
        decided = &mut decision => decided.map_err(gone),
        appended = appended => {
            appended?;
            decision.await.map_err(gone)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    #[tokio::test]
    async fn a_decision_does_not_wait_for_the_logs_answer_and_nobody_waits_for_one_on_what_was_not_taken() {
        let (decide, decision) = oneshot::channel();
        assert!(decide.send(Outcome::default()).is_ok());
        assert!(decided(decision, pending()).await.is_ok());

        let (_decide, decision) = oneshot::channel();
        let refused = decided(decision, ready(Err(Error::Unavailable("full".to_owned())))).await;
        assert!(matches!(refused, Err(CallError::Log(Error::Unavailable(_)))), "{refused:?}");

        let (decide, decision) = oneshot::channel();
        let mut later = Box::pin(decided(decision, ready(Ok(()))));
        assert!(futures::poll!(&mut later).is_pending(), "it is in the log, and nobody has decided");
        assert!(decide.send(Outcome::default()).is_ok());
        assert!(later.await.is_ok());
    }
}
