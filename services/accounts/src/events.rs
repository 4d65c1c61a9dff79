//! Accounts' events on their way into the log. An event is written with the change that caused it, appended, and forgotten by the sweep once it
//! is in the log for good; what a crash or a failure left behind the sweep appends. So every event is appended at least once.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::future::try_join_all;
use plaza_event_log::{EventLog, Record, TopicPartition};
use plaza_runtime::{Clock, Stage, Supervisor};
use plaza_telemetry::propagation;
use plaza_topics::{ACCOUNTS, account};
use plaza_types::{UserId, limits, partition};
use prost::Message;
use tokio::{sync::mpsc, time::MissedTickBehavior};

use crate::{
    error::Error,
    metrics::Metrics,
    store::{Pending, Store, What},
};

const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// Younger events are still in the hands of the call that caused them. Microseconds.
const SWEEP_AGE: u64 = 2 * limits::SECOND;
const SWEEP_AT_ONCE: usize = 1000;
/// Events that may wait to be forgotten. Those above that the sweep appends once more.
const WAITING: usize = 4096;

/// Appends events.
pub(crate) struct Publisher {
    store: Arc<dyn Store>,
    log: Arc<dyn EventLog>,
    metrics: Metrics,
    appended: mpsc::Sender<Pending>,
}

/// Forgets what was appended, and appends what was left behind.
pub(crate) struct Sweep {
    publisher: Arc<Publisher>,
    clock: Clock,
    appended: mpsc::Receiver<Pending>,
}

/// What appends, and the sweep, which is to be started.
pub(crate) fn publisher(store: Arc<dyn Store>, log: Arc<dyn EventLog>, clock: Clock, metrics: Metrics) -> (Arc<Publisher>, Sweep) {
    let (sender, appended) = mpsc::channel(WAITING);
    let publisher = Arc::new(Publisher { store, log, metrics, appended: sender });
    (Arc::clone(&publisher), Sweep { publisher, clock, appended })
}

impl Publisher {
    /// Returns when every change of this user that happened before, and its events, survive a power loss. For calls that find done what an
    /// earlier one may have left half done.
    pub(crate) async fn publish_all(&self, user: UserId) -> Result<(), Error> {
        let events = self.store.pending_of(user).await?;
        self.publish(&events).await
    }

    /// Returns when everything that happened before, and these events, survive a power loss.
    pub(crate) async fn publish(&self, events: &[Pending]) -> Result<(), Error> {
        self.append(events).await?;
        for event in events {
            // Nobody waits for this: the change and its events are safe. What is not forgotten is appended once more.
            _ = self.appended.try_send(*event);
        }
        Ok(())
    }

    async fn append(&self, events: &[Pending]) -> Result<(), Error> {
        try_join_all(events.iter().map(|event| self.log.append(self.place(event.user), record(event)))).await?;
        let (rows, log) = tokio::join!(self.store.durable(), self.log.durable());
        rows?;
        log?;
        self.metrics.appended(events.len());
        Ok(())
    }

    fn place(&self, user: UserId) -> TopicPartition {
        TopicPartition { topic: ACCOUNTS, partition: partition::of(user.as_bytes(), self.log.partitions(ACCOUNTS)) }
    }
}

impl Sweep {
    /// Starts it; its first round takes what an earlier process left, and nothing that a call of this one is about to append.
    pub(crate) fn start(mut self, supervisor: &Supervisor) {
        let stopping = supervisor.stopping(Stage::Producers);
        let mut until = self.clock.now_micros();
        supervisor.spawn("accounts-sweep", Stage::Producers, async move {
            let mut ticks = tokio::time::interval(SWEEP_EVERY);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut events = Vec::new();
            loop {
                tokio::select! {
                    biased;
                    () = stopping.cancelled() => break,
                    _ = ticks.tick() => {
                        if let Err(error) = self.round(until).await {
                            tracing::warn!(
                                error.source = std::error::Error::source(&error).map(ToString::to_string),
                                "sweep of account events failed: {error}"
                            );
                        }
                        until = self.clock.now_micros().saturating_sub(SWEEP_AGE);
                    }
                    _ = self.appended.recv_many(&mut events, SWEEP_AT_ONCE) => self.forget(&mut events).await,
                }
            }
            // Calls have ended: nothing comes any more.
            while let Ok(event) = self.appended.try_recv() {
                events.push(event);
            }
            self.forget(&mut events).await;
            Ok(())
        });
    }

    async fn forget(&self, events: &mut Vec<Pending>) {
        if events.is_empty() {
            return;
        }
        if let Err(error) = self.publisher.store.appended(events).await {
            tracing::debug!(error.code = error.code(), "appended events not noted: {error}");
        }
        events.clear();
    }

    async fn round(&self, until: u64) -> Result<(), Error> {
        let Publisher { store, .. } = &*self.publisher;
        loop {
            let events = store.pending_before(until, SWEEP_AT_ONCE).await?;
            if events.is_empty() {
                break;
            }
            self.publisher.append(&events).await?;
            store.appended(&events).await?;
            if events.len() < SWEEP_AT_ONCE {
                break;
            }
        }
        let oldest = self.clock.now_micros().saturating_sub(limits::REQUEST_WINDOW + limits::REQUEST_AHEAD);
        Ok(store.forget(oldest).await?)
    }
}

fn record(event: &Pending) -> Record {
    let kind = match event.what {
        What::DeviceRevoked(device) => {
            account::Kind::DeviceRevoked(account::DeviceRevoked { device: Bytes::copy_from_slice(device.as_bytes()) })
        }
        What::ProfileChanged => account::Kind::ProfileChanged(account::ProfileChanged {}),
    };
    let payload = account::Event { user: event.user.to_key(), time: event.time, kind: Some(kind) };
    let headers = propagation::current_traceparent().map(|parent| (propagation::TRACEPARENT, parent));
    Record { key: event.user.to_key(), value: payload.encode_to_vec().into(), headers: headers.into_iter().collect() }
}
