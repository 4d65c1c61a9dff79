//! Signed-out devices: what the accounts topic says of the last minutes, longer than any access token lives. Until the topic was read to its
//! end nothing is served.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::RwLock;
use plaza_event_log::{Error, EventLog, Offset, Reader, Stored, TopicPartition};
use plaza_runtime::Clock;
use plaza_topics::{ACCOUNTS, account};
use plaza_types::DeviceId;
use prost::Message;

/// Longer than an access token lives, in microseconds.
const WINDOW: u64 = 16 * 60 * 1_000_000;
const BATCH: usize = 256;
const RETRY: Duration = Duration::from_millis(500);

/// The devices signed out within the window.
#[derive(Default)]
pub(crate) struct Revocations {
    devices: RwLock<HashMap<DeviceId, u64>>,
    version: AtomicU64,
}

impl Revocations {
    /// Whether a token of a device, issued at this time, is void.
    pub(crate) fn covers(&self, device: DeviceId, issued: u64) -> bool {
        self.devices.read().get(&device).is_some_and(|time| issued <= *time)
    }

    /// Changes whenever a device is added.
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Drops what no token can be compared with any more.
    pub(crate) fn forget_before(&self, now: u64) {
        self.devices.write().retain(|_, time| *time + WINDOW > now);
    }

    fn take(&self, record: &Stored) {
        // A record that is none of ours says nothing about a device.
        let Ok(event) = account::Event::decode(record.record.value.clone()) else {
            tracing::warn!(offset = record.offset, "unreadable record in the accounts topic");
            return;
        };
        if let Some(account::Kind::DeviceRevoked(revoked)) = event.kind
            && let Some(device) = DeviceId::from_slice(&revoked.device)
        {
            let mut devices = self.devices.write();
            let time = devices.entry(device).or_default();
            *time = event.time.max(*time);
            drop(devices);
            self.version.fetch_add(1, Ordering::Release);
        }
    }
}

/// One partition of the topic, read up to where it ended when it was opened.
pub(crate) struct Follower {
    revocations: Arc<Revocations>,
    log: Arc<dyn EventLog>,
    partition: TopicPartition,
    next: Offset,
    reader: Box<dyn Reader>,
}

impl Follower {
    /// Reads what the window covers.
    ///
    /// # Errors
    /// The log's.
    pub(crate) async fn catch_up(
        revocations: Arc<Revocations>,
        log: Arc<dyn EventLog>,
        partition: u32,
        clock: &Clock,
    ) -> Result<Self, Error> {
        let partition = TopicPartition { topic: ACCOUNTS, partition };
        let end = log.end(partition).await?;
        let next = log.offset_at(partition, clock.now_micros().saturating_sub(WINDOW)).await?;
        let reader = log.reader(partition, next).await?;
        let mut follower = Self { revocations, log, partition, next, reader };
        while follower.next < end {
            // Offsets have gaps: nothing for a while means that there is nothing more below the end.
            match tokio::time::timeout(Duration::from_secs(2), follower.read()).await {
                Ok(read) => read?,
                Err(_) => break,
            }
        }
        Ok(follower)
    }

    async fn read(&mut self) -> Result<(), Error> {
        for record in self.reader.next(BATCH).await? {
            self.next = record.offset + 1;
            self.revocations.take(&record);
        }
        Ok(())
    }

    /// Follows the partition for ever.
    ///
    /// # Errors
    /// The log failed for good.
    pub(crate) async fn follow(mut self) -> anyhow::Result<()> {
        loop {
            match self.read().await {
                Ok(()) => {}
                Err(error @ Error::Fatal(_)) => return Err(error.into()),
                Err(error) => {
                    tracing::warn!(%error, partition = %self.partition, "cannot read revocations, trying again");
                    tokio::time::sleep(RETRY).await;
                    if let Ok(reader) = self.log.reader(self.partition, self.next).await {
                        self.reader = reader;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use plaza_event_log::Record;

    use super::*;

    fn record(device: DeviceId, time: u64) -> Stored {
        let kind = Some(account::Kind::DeviceRevoked(account::DeviceRevoked { device: Bytes::copy_from_slice(device.as_bytes()) }));
        let value = account::Event { user: Bytes::new(), time, kind }.encode_to_vec().into();
        Stored { offset: 0, appended: time, record: Record { value, ..Record::default() } }
    }

    #[test]
    fn tokens_up_to_the_sign_out_are_void_and_later_ones_are_not() {
        let (revocations, device) = (Revocations::default(), DeviceId::new(1, [1; 10]));
        revocations.take(&record(device, 100));
        revocations.take(&record(device, 50));
        assert!(revocations.covers(device, 100) && revocations.covers(device, 1));
        assert!(!revocations.covers(device, 101));
        assert!(!revocations.covers(DeviceId::new(1, [2; 10]), 1));
        assert_eq!(revocations.version(), 2);
    }

    #[test]
    fn what_is_older_than_any_token_is_forgotten() {
        let (revocations, device) = (Revocations::default(), DeviceId::new(1, [1; 10]));
        revocations.take(&record(device, 100));
        revocations.forget_before(99 + WINDOW);
        assert!(revocations.covers(device, 100));
        revocations.forget_before(100 + WINDOW);
        assert!(!revocations.covers(device, 100));
        revocations.take(&Stored {
            offset: 1,
            appended: 1,
            record: Record { value: Bytes::from_static(b"\xff\xff"), ..Record::default() },
        });
    }
}
