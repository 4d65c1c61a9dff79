//! Who owns which partitions. A member is a client that subscribes and never fetches: it only keeps the membership alive and tells what it
//! was given and what was taken.
//!
//! Partitions are taken from a member as soon as the group decides, without waiting for the owner to let go of them: the contract allows that
//! two owners overlap, and a slow owner must not stop the group. The owner hears of it later: what a member gave back is given to another one
//! when all have joined once more, which the library does at most once a second, and until then nobody else would work on it.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
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
/// How long the owner goes on with what the group has taken: until the next join but one, and a little.
const HOLD: Duration = Duration::from_millis(1200);

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
        let told = Told {
            events: Events::new(ROLE),
            group,
            metrics: Arc::clone(metrics),
            owned: Mutex::default(),
            given_back: Mutex::default(),
            tell: tell.clone(),
        };
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
                consumer.context().let_go();
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
    /// Taken by the group and not yet told, with the time until which they are worked on.
    given_back: Mutex<Vec<(Instant, u32)>>,
    /// Not bounded by itself, but there are only so many rebalances, and whoever does not listen is about to be dropped.
    tell: mpsc::UnboundedSender<Result<Assignment, Error>>,
}

impl Told {
    fn assign(consumer: &BaseConsumer<Self>, partitions: &mut TopicPartitionList) -> KafkaResult<()> {
        // Where it would begin to fetch must be something that needs no look-up of committed offsets, since it never does.
        partitions.set_all_offsets(Offset::End)?;
        consumer.incremental_assign(partitions)
    }

    /// Tells of partitions, if it is a change.
    fn tell(&self, partitions: impl IntoIterator<Item = u32>, change: fn(u32) -> Assignment) {
        let mut owned = self.owned.lock();
        for partition in partitions {
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

    /// Tells of what was given back long enough ago.
    fn let_go(&self) {
        let now = Instant::now();
        let due: Vec<_> = self.given_back.lock().extract_if(.., |(until, _)| *until <= now).collect();
        self.tell(due.into_iter().map(|(_, partition)| partition), Assignment::Revoked);
    }

    fn given(&self, partitions: &TopicPartitionList) {
        let partitions = numbers(partitions);
        // What comes back before it was let go begins anew all the same: somebody else may have had it.
        let back: Vec<_> = self.given_back.lock().extract_if(.., |(_, partition)| partitions.contains(partition)).collect();
        self.tell(back.into_iter().map(|(_, partition)| partition), Assignment::Revoked);
        self.tell(partitions, Assignment::Assigned);
    }

    fn taken(&self, partitions: &TopicPartitionList, is_lost: bool) {
        let until = Instant::now() + HOLD;
        self.given_back.lock().extend(numbers(partitions).into_iter().map(|partition| (until, partition)));
        if is_lost {
            // Somebody else has had them for a while.
            let all = std::mem::take(&mut *self.given_back.lock());
            self.tell(all.into_iter().map(|(_, partition)| partition), Assignment::Revoked);
        }
    }
}

fn numbers(partitions: &TopicPartitionList) -> Vec<u32> {
    partitions.elements().iter().map(|element| element.partition().cast_unsigned()).collect()
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
            self.given(partitions);
        } else {
            self.taken(partitions, consumer.assignment_lost());
            if let Err(error) = consumer.incremental_unassign(partitions) {
                tracing::warn!(group = self.group, error = describe(&error), "partitions could not be given back");
            }
        }
    }
}
