//! Accounts' events on their way into the log. An event is written with the change that caused it, appended, and forgotten once it is in the
//! log for good; what a crash or a failure left behind is appended by the sweep. So every event is appended at least once.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::future::try_join_all;
use plaza_event_log::{EventLog, Record, TopicPartition};
use plaza_runtime::{Clock, Stage, Supervisor};
use plaza_telemetry::propagation;
use plaza_topics::{ACCOUNTS, account};
use plaza_types::{UserId, limits, partition};
use prost::Message;
use tokio::time::MissedTickBehavior;

use crate::{
    error::Error,
    metrics::Metrics,
    store::{Pending, Store, What},
};

const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// Younger events are still in the hands of the call that caused them. Microseconds.
const SWEEP_AGE: u64 = 2 * limits::SECOND;
const SWEEP_AT_ONCE: usize = 1000;

#[derive(Clone)]
pub(crate) struct Publisher {
    store: Arc<dyn Store>,
    log: Arc<dyn EventLog>,
    clock: Clock,
    metrics: Metrics,
}

impl Publisher {
    pub(crate) fn new(store: Arc<dyn Store>, log: Arc<dyn EventLog>, clock: Clock, metrics: Metrics) -> Self {
        Self { store, log, clock, metrics }
    }

    /// Returns when every change of this user that happened before, and its events, survive a power loss. For calls that find done what an
    /// earlier one may have left half done.
    pub(crate) async fn publish_all(&self, user: UserId) -> Result<(), Error> {
        let events = self.store.pending_of(user).await?;
        self.publish(&events).await
    }

    /// Returns when everything that happened before, and these events, survive a power loss.
    pub(crate) async fn publish(&self, events: &[Pending]) -> Result<(), Error> {
        try_join_all(events.iter().map(|event| self.log.append(self.place(event.user), record(event)))).await?;
        let (rows, log) = tokio::join!(self.store.durable(), self.log.durable());
        rows?;
        log?;
        if !events.is_empty() {
            self.metrics.appended(events.len());
            if let Err(error) = self.store.appended(events).await {
                // The change and its events are safe; the sweep appends them once more and notes it then.
                tracing::debug!(error.code = error.code(), "appended events not noted: {error}");
            }
        }
        Ok(())
    }

    fn place(&self, user: UserId) -> TopicPartition {
        TopicPartition { topic: ACCOUNTS, partition: partition::of(user.as_bytes(), self.log.partitions(ACCOUNTS)) }
    }

    /// Starts the sweep; its first round takes what an earlier process left, and nothing that a call of this one is about to append.
    pub(crate) fn sweep(self, supervisor: &Supervisor) {
        let stopping = supervisor.stopping(Stage::Producers);
        let mut until = self.clock.now_micros();
        supervisor.spawn("accounts-sweep", Stage::Producers, async move {
            let mut ticks = tokio::time::interval(SWEEP_EVERY);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            while stopping.run_until_cancelled(ticks.tick()).await.is_some() {
                if let Err(error) = self.round(until).await {
                    tracing::warn!(
                        error.source = std::error::Error::source(&error).map(ToString::to_string),
                        "sweep of account events failed: {error}"
                    );
                }
                until = self.clock.now_micros().saturating_sub(SWEEP_AGE);
            }
            Ok(())
        });
    }

    async fn round(&self, until: u64) -> Result<(), Error> {
        loop {
            let events = self.store.pending_before(until, SWEEP_AT_ONCE).await?;
            if events.is_empty() {
                break;
            }
            self.publish(&events).await?;
            if events.len() < SWEEP_AT_ONCE {
                break;
            }
        }
        let oldest = self.clock.now_micros().saturating_sub(limits::REQUEST_WINDOW + limits::REQUEST_AHEAD);
        Ok(self.store.forget(oldest).await?)
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
