//! The event log on Kafka: the contract of [`plaza_event_log`] on a cluster.
//!
//! # How it keeps the contract
//! - **Topics** are called `{prefix}{topic}.{generation}` and must exist ([`admin::create`]); [`KafkaLog::open`] refuses those that are not as
//!   the contract needs them. Append times are the brokers' (`LogAppendTime`), in milliseconds there.
//! - **Acknowledged is durable**: every write waits for all replicas in sync (`acks=all`, two of three at least), and readers are only given
//!   what these have. So [`EventLog::durable`] has nothing to wait for. On a cluster of one broker that is only as much as its disk cache.
//! - **Producers** share a few idempotent, gapless clients without a time-out. The first error of one fails all producers on it. One client for
//!   each of hundreds of partitions would be thousands of threads; an error that is not of the moment (a record refused by the brokers, a lost
//!   producer id) is rare, and every partition on it then begins again at its checkpoint, which costs a second.
//! - **Readers** share clients and are assigned by hand; groups decide nothing about them. Offsets below the beginning of a partition begin at
//!   its beginning; a reader above the end waits for its offset and is never given what is below.
//! - **[`EventLog::end`]** is never stale: see `queries`.
//! - **Ownership** is a consumer group with the cooperative protocol, whose members never fetch. Kafka's committed offsets are not used:
//!   checkpoints are the processors', and their lag is measured by them.
//!
//! # Threads
//! A client has about three threads and one for each broker. A process has [`Config::writers`] clients for appends and as many for producers,
//! one for questions, one for each group it is in, and as many for readers as the partition with the most readers has: about twenty altogether.
//!
//! # The end
//! Dropping the log or a membership never blocks: clients are dropped on threads of their own. [`KafkaLog::close`] waits for them, so that a
//! process that ends has left its groups and the others take over at once instead of after the session's time-out.

pub mod admin;
mod config;
mod connection;
mod groups;
mod metrics;
mod produce;
mod queries;
mod readers;
mod settings;
mod topics;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use plaza_event_log::{
    Assignments, Error, EventLog, Offset, Producer, Reader, Record, Topic, TopicPartition,
    limits::{self, MAX_HEADER_BYTES, MAX_KEY_BYTES, MAX_VALUE_BYTES},
};
use tokio::sync::Semaphore;

pub use self::{
    config::{Config, Security},
    settings::Settings,
    topics::TopicSpec,
};
use self::{
    connection::{Connection, Threads},
    groups::Member,
    metrics::Metrics,
    produce::{Ack, Append, KafkaProducer, Kind, Lines},
    queries::{Queries, Question},
    readers::Readers,
    topics::Topics,
};

/// What Kafka adds to the largest record, generously.
const RECORD_OVERHEAD_BYTES: usize = 64 << 10;
/// What topics and clients take as one message.
const MAX_MESSAGE_BYTES: usize = MAX_VALUE_BYTES + RECORD_OVERHEAD_BYTES;
const _: () = assert!(RECORD_OVERHEAD_BYTES > 4 * (MAX_KEY_BYTES + MAX_HEADER_BYTES));

/// What appends that are on their way may hold: so many KiB, each at least one. Below the limits of the client's own queue.
const APPEND_KIB: usize = 32 << 10;
/// How long [`KafkaLog::close`] waits.
const CLOSE: Duration = Duration::from_secs(10);

/// An [`EventLog`] on a Kafka cluster.
pub struct KafkaLog {
    topics: Arc<Topics>,
    connection: Arc<Connection>,
    appends: Lines,
    room: Arc<Semaphore>,
    emissions: Lines,
    producers: AtomicUsize,
    queries: Queries,
    readers: Readers,
    metrics: Arc<Metrics>,
    threads: Arc<Threads>,
}

impl KafkaLog {
    /// Connects to the cluster and checks the topics.
    ///
    /// # Errors
    /// `Fatal` when the configuration or a topic is not as it must be, with everything that is wrong and what to do; `Unavailable` when the
    /// cluster does not answer, which may be tried again.
    pub async fn open(config: &Config, topics: &[TopicSpec]) -> Result<Arc<Self>, Error> {
        // Before the check, during which the producers get their ids.
        let log = Self::connect(config, topics)?;
        admin::check_on(&log.connection, topics, &[]).await?;
        Ok(Arc::new(log))
    }

    fn connect(config: &Config, topics: &[TopicSpec]) -> Result<Self, Error> {
        let connection = Arc::new(Connection::new(config)?);
        let threads = Arc::new(Threads::default());
        let topics = Arc::new(Topics::new(&config.prefix, topics));
        Ok(Self {
            appends: Lines::open(&connection, Kind::Appends, &topics, &threads)?,
            room: Arc::new(Semaphore::new(APPEND_KIB)),
            emissions: Lines::open(&connection, Kind::Emissions, &topics, &threads)?,
            topics,
            producers: AtomicUsize::new(0),
            queries: Queries::open(&connection, &threads)?,
            readers: Readers::new(&connection, &threads),
            metrics: Arc::new(Metrics::new()),
            connection,
            threads,
        })
    }

    /// Sends what was queued, leaves the groups and ends all threads. To be called last, when nothing is read or appended any more; readers
    /// and memberships that are left fail.
    pub async fn close(&self) {
        self.threads.end();
        self.appends.close();
        self.emissions.close();
        if tokio::time::timeout(CLOSE, self.threads.ended()).await.is_err() {
            tracing::warn!(threads = self.threads.count(), "the log's threads did not end in time");
        }
    }

    async fn ask(&self, of: TopicPartition, question: Question) -> Result<Option<Offset>, Error> {
        let answer = self.queries.ask(self.topics.name(of)?, of.partition, question).await;
        self.count("query", answer)
    }

    fn count<T>(&self, call: &'static str, outcome: Result<T, Error>) -> Result<T, Error> {
        outcome.inspect_err(|_| self.metrics.failed(call))
    }

    async fn try_append(&self, to: TopicPartition, record: &Record) -> Result<(), Error> {
        let began = Instant::now();
        let place = self.topics.place(to)?;
        let bytes = limits::check(record)? + record.key.len() + record.value.len();
        let room = Arc::clone(&self.room).acquire_many_owned((bytes >> 10) as u32 + 1).await;
        let room = room.map_err(|_| Error::Unavailable("closed".to_owned()))?;
        let (ack, told) = Ack::new(1, Some(Append::new(began, Arc::clone(&self.metrics), room)));
        let line = self.appends.line(to.partition as usize)?;
        line.send(place, to.partition, record, ack)?;
        line.outcome(told).await
    }
}

impl Drop for KafkaLog {
    fn drop(&mut self) {
        self.threads.end();
    }
}

#[async_trait]
impl EventLog for KafkaLog {
    fn partitions(&self, topic: Topic) -> u32 {
        self.topics.get(topic).map_or(0, |topic| topic.spec.partitions)
    }

    fn generation(&self, topic: Topic) -> u32 {
        self.topics.get(topic).map_or(0, |topic| topic.spec.generation)
    }

    async fn append(&self, to: TopicPartition, record: Record) -> Result<(), Error> {
        let appended = self.try_append(to, &record).await;
        self.count("append", appended)
    }

    fn producer(&self) -> Box<dyn Producer> {
        let line = self.emissions.line(self.producers.fetch_add(1, Ordering::Relaxed));
        Box::new(KafkaProducer::new(Arc::clone(&self.topics), line))
    }

    async fn reader(&self, from: TopicPartition, offset: Offset) -> Result<Box<dyn Reader>, Error> {
        let end = self.end(from).await?;
        let reader = self.readers.open(self.topics.name(from)?, from.partition, offset, end);
        Ok(Box::new(self.count("reader", reader)?))
    }

    async fn end(&self, of: TopicPartition) -> Result<Offset, Error> {
        let end = self.ask(of, Question::End).await?;
        end.ok_or_else(|| Error::Unavailable(format!("{of}: its end is not known")))
    }

    async fn offset_at(&self, of: TopicPartition, micros: u64) -> Result<Offset, Error> {
        // Asked first: what is appended between the two questions must be above it.
        let end = self.end(of).await?;
        let millis = i64::try_from(micros.div_ceil(1000)).unwrap_or(i64::MAX);
        Ok(self.ask(of, Question::At(millis)).await?.unwrap_or(end))
    }

    async fn assignments(&self, group: &'static str, topic: Topic) -> Result<Box<dyn Assignments>, Error> {
        let named = self.topics.get(topic).ok_or(Error::UnknownPartition(TopicPartition { topic, partition: 0 }))?;
        let member = Member::join(&self.connection, group, named, &self.metrics, &self.threads);
        Ok(Box::new(self.count("assignments", member)?))
    }

    /// At once: see the module.
    async fn durable(&self) -> Result<(), Error> {
        Ok(())
    }
}
