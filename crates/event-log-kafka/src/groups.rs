//! Who owns which partitions. A member is a client that subscribes and never fetches: it only keeps the membership alive and tells what it
//! was given and what was taken.
//!
//! Partitions are taken from a member as soon as the group decides, without waiting for the owner to let go of them: the contract allows that
//! two owners overlap, and a slow owner must not stop the group.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use parking_lot::Mutex;
use plaza_event_log::{Assignment, Assignments, Error};
use rdkafka::{
    ClientContext, Offset, Statistics, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer as _, ConsumerContext},
    error::{KafkaError, KafkaResult},
    types::RDKafkaRespErr,
};
use tokio::sync::mpsc;

use crate::{
    connection::{Connection, Events, Threads, describe, unavailable},
    metrics::Metrics,
    topics::Named,
};

const ROLE: &str = "group";
/// How soon a member that is dropped begins to leave.
const POLL: Duration = Duration::from_millis(20);
/// A member whose thread did not run for this long is no longer one.
const LONGEST_PAUSE_MS: &str = "60000";
/// Members hear of changes with their heartbeats, so these are frequent, however long the session: when a member leaves, nobody works on its
/// partitions until the others have heard of it.
const HEARTBEAT: Duration = Duration::from_millis(100);
/// In a short session there are at least this many.
const HEARTBEATS: u32 = 12;

/// One membership, until it is dropped.
pub(crate) struct Member {
    changes: mpsc::UnboundedReceiver<Result<Assignment, Error>>,
    left: Arc<AtomicBool>,
}

impl Member {
    /// # Errors
    /// `Unavailable`.
    pub(crate) fn join(
        connection: &Connection,
        group: &'static str,
        topic: &Named,
        metrics: &Arc<Metrics>,
        threads: &Arc<Threads>,
    ) -> Result<Self, Error> {
        let session = connection.config.session_timeout;
        let mut settings = connection.client(group);
        settings
            // A group for each topic: members of one group with different topics would make each other wait.
            .set("group.id", format!("{}{group}.{}", connection.config.prefix, topic.spec.topic.0))
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("session.timeout.ms", session.as_millis().to_string())
            .set("heartbeat.interval.ms", HEARTBEAT.min(session / HEARTBEATS).as_millis().to_string())
            .set("max.poll.interval.ms", LONGEST_PAUSE_MS)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "latest");
        let (tell, changes) = mpsc::unbounded_channel();
        let left = Arc::new(AtomicBool::new(false));
        let told = Told { events: Events::new(ROLE), group, metrics: Arc::clone(metrics), owned: Mutex::default(), tell: tell.clone() };
        let consumer: BaseConsumer<Told> = settings.create_with_context(told).map_err(|error| unavailable(&error))?;
        consumer.subscribe(&[&topic.name]).map_err(|error| unavailable(&error))?;
        let (has_left, until) = (Arc::clone(&left), Arc::clone(threads));
        threads.spawn(ROLE, move || {
            while !has_left.load(Ordering::Acquire) && !until.are_ending() {
                match consumer.poll(POLL) {
                    Some(Err(KafkaError::MessageConsumptionFatal(code))) => {
                        _ = tell.send(Err(Error::Fatal(format!("membership of {group}: {code}"))));
                        break;
                    }
                    Some(Err(error)) => {
                        consumer.context().events.wrong(&error, "membership");
                        // Errors can come without end and without a pause.
                        std::thread::park_timeout(POLL);
                    }
                    // A record can come before the partition is paused.
                    Some(Ok(_)) | None => {}
                }
            }
            // Leaves the group, and tells what is taken by that.
            drop(consumer);
        })?;
        Ok(Self { changes, left })
    }
}

#[async_trait]
impl Assignments for Member {
    async fn next(&mut self) -> Result<Assignment, Error> {
        self.changes.recv().await.unwrap_or_else(|| Err(Error::Fatal("closed".to_owned())))
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.left.store(true, Ordering::Release);
    }
}

/// Tells the changes in the order in which they happen.
struct Told {
    events: Events,
    group: &'static str,
    metrics: Arc<Metrics>,
    owned: Mutex<BTreeSet<u32>>,
    /// Not bounded by itself, but there are only so many rebalances, and whoever does not listen is about to be dropped.
    tell: mpsc::UnboundedSender<Result<Assignment, Error>>,
}

impl Told {
    fn assign(consumer: &BaseConsumer<Self>, partitions: &mut TopicPartitionList) -> KafkaResult<()> {
        // Where it would begin to fetch must be something that needs no look-up of committed offsets, since it never does.
        partitions.set_all_offsets(Offset::End)?;
        consumer.incremental_assign(partitions)
    }

    fn tell(&self, partitions: &TopicPartitionList, change: fn(u32) -> Assignment) {
        let mut owned = self.owned.lock();
        for element in partitions.elements() {
            let partition = element.partition().cast_unsigned();
            let (is_change, name) = match change(partition) {
                Assignment::Assigned(_) => (owned.insert(partition), "assigned"),
                Assignment::Revoked(_) => (owned.remove(&partition), "revoked"),
            };
            if is_change {
                self.metrics.moved(self.group, name);
                tracing::debug!(group = self.group, partition, change = name, "assignment changed");
                // Nobody need listen any more.
                _ = self.tell.send(Ok(change(partition)));
            }
        }
    }
}

impl ClientContext for Told {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.events.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.events.wrong(&error, reason);
    }

    fn stats(&self, _: Statistics) {}
}

impl ConsumerContext for Told {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, what: RDKafkaRespErr, partitions: &mut TopicPartitionList) {
        if what == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            if let Err(error) = Self::assign(consumer, partitions) {
                // The group takes them for owned, so nobody would ever work on them.
                _ = self.tell.send(Err(Error::Fatal(format!("partitions of {} could not be taken: {}", self.group, describe(&error)))));
                return;
            }
            if let Err(error) = consumer.pause(partitions) {
                tracing::warn!(group = self.group, error = describe(&error), "a member fetches what nobody reads");
            }
            self.tell(partitions, Assignment::Assigned);
        } else {
            // Told first: whoever works on them is to stop before somebody else begins.
            self.tell(partitions, Assignment::Revoked);
            if let Err(error) = consumer.incremental_unassign(partitions) {
                tracing::warn!(group = self.group, error = describe(&error), "partitions could not be given back");
            }
        }
    }
}
