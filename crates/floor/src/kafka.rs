//! The least that a record takes on a Kafka: one produced with `acks=all` and consumed by two, with the client library alone, tuned as ours is.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use futures::{TryFutureExt as _, future::try_join};
use rdkafka::{
    ClientConfig, ClientContext, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer},
    message::DeliveryResult,
    producer::{BaseRecord, ProducerContext, ThreadedProducer},
};
use tokio::{
    sync::{oneshot, watch},
    time::timeout,
};

use crate::{TIMEOUT, bytes};

/// Of a send of 100 bytes of text as it is in the log.
const RECORD_BYTES: usize = 300;
const POLL: Duration = Duration::from_millis(100);
const SOON: Duration = Duration::from_secs(30);

/// What creates and deletes topics.
///
/// # Errors
/// The addresses cannot be used.
pub fn admin(brokers: &str) -> anyhow::Result<AdminClient<DefaultClientContext>> {
    ClientConfig::new().set("bootstrap.servers", brokers).create().context("cannot use Kafka")
}

/// How long that may take.
#[must_use]
pub fn options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(TIMEOUT)).request_timeout(Some(TIMEOUT))
}

/// What a record took from when it was sent.
#[derive(Debug, Clone, Copy)]
pub struct Took {
    /// Until it was acknowledged.
    pub acknowledged: Duration,
    /// Until it was consumed.
    pub consumed: Duration,
}

impl Took {
    /// Until it was both.
    #[must_use]
    pub fn both(&self) -> Duration {
        self.acknowledged.max(self.consumed)
    }
}

/// A topic, its producer and two that consume it.
pub struct RawLog {
    brokers: String,
    topic: String,
    partitions: u32,
    producer: ThreadedProducer<Told>,
    tails: [watch::Receiver<u64>; 2],
    produced: AtomicU64,
}

impl RawLog {
    /// Creates the topic `{prefix}.floor` and begins to consume it.
    ///
    /// # Errors
    /// The brokers do not answer, or there is such a topic.
    pub async fn open(brokers: &str, prefix: &str, partitions: u32) -> anyhow::Result<Self> {
        let topic = format!("{prefix}.floor");
        let replicas = brokers.split(',').count().min(3) as i32;
        let new = NewTopic::new(&topic, partitions.cast_signed(), TopicReplication::Fixed(replicas));
        let new = new.set("message.timestamp.type", "LogAppendTime");
        for created in admin(brokers)?.create_topics([&new], &options()).await? {
            created.map_err(|(name, code)| anyhow::anyhow!("topic {name}: {code}"))?;
        }
        let mut settings = ClientConfig::new();
        settings.set("bootstrap.servers", brokers).set("enable.idempotence", "true").set("linger.ms", "0").set("compression.type", "lz4");
        let producer = settings.create_with_context(Told)?;
        let tails = [tail(brokers, &topic, partitions)?, tail(brokers, &topic, partitions)?];
        Ok(Self { brokers: brokers.to_owned(), topic, partitions, producer, tails, produced: AtomicU64::new(0) })
    }

    /// Deletes the topic.
    ///
    /// # Errors
    /// The brokers do not answer.
    pub async fn remove(self) -> anyhow::Result<()> {
        admin(&self.brokers)?.delete_topics(&[&self.topic], &options()).await?;
        Ok(())
    }

    /// How many were produced.
    pub fn produced(&self) -> u64 {
        self.produced.load(Ordering::Relaxed)
    }

    /// Records one after the other, with a pause after each.
    ///
    /// # Errors
    /// One is not acknowledged, or not consumed.
    pub async fn acks(&self, records: usize, pause: Duration) -> anyhow::Result<Vec<Took>> {
        let mut took = Vec::with_capacity(records);
        for _ in 0..records {
            let started = Instant::now();
            let before = self.produced();
            let acknowledged = self.produce().map_ok(|_| started.elapsed());
            let consumed = consumed(&self.tails[0], before + 1).map_ok(|()| started.elapsed());
            let (acknowledged, consumed) = try_join(acknowledged, consumed).await?;
            took.push(Took { acknowledged, consumed });
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
        }
        Ok(took)
    }

    /// Produces one; its number.
    ///
    /// # Errors
    /// It is not acknowledged.
    pub async fn produce(&self) -> anyhow::Result<u64> {
        let number = self.produced.fetch_add(1, Ordering::Relaxed);
        let (key, value) = (number.to_be_bytes(), bytes(number, RECORD_BYTES));
        let partition = (number % u64::from(self.partitions)) as i32;
        let (tell, told) = oneshot::channel();
        let record = BaseRecord::with_opaque_to(&self.topic, Box::new(tell)).partition(partition).key(&key[..]).payload(&value);
        self.producer.send(record).map_err(|(error, _)| error)?;
        ensure!(told.await.context("the producer is gone")?, "a record was not acknowledged");
        Ok(number)
    }

    /// Waits until both have consumed everything that was produced so far.
    ///
    /// # Errors
    /// They do not within half a minute.
    pub async fn consumed(&self) -> anyhow::Result<()> {
        let produced = self.produced();
        for tail in &self.tails {
            consumed(tail, produced).await?;
        }
        Ok(())
    }
}

/// Tells whoever waits for a record whether it was acknowledged.
struct Told;

impl ClientContext for Told {}

impl ProducerContext for Told {
    type DeliveryOpaque = Box<oneshot::Sender<bool>>;

    fn delivery(&self, result: &DeliveryResult<'_>, tell: Self::DeliveryOpaque) {
        // Whoever waited may be gone.
        let _ = tell.send(result.is_ok());
    }
}

/// Reads all partitions on a thread of its own, and tells how many records there were.
fn tail(kafka: &str, topic: &str, partitions: u32) -> anyhow::Result<watch::Receiver<u64>> {
    let mut settings = ClientConfig::new();
    settings.set("bootstrap.servers", kafka).set("group.id", format!("{topic}-tail")).set("enable.auto.commit", "false");
    settings.set("fetch.min.bytes", "1").set("fetch.wait.max.ms", "50").set("fetch.error.backoff.ms", "100");
    let consumer: BaseConsumer = settings.create()?;
    let mut all = TopicPartitionList::new();
    for partition in 0..partitions {
        all.add_partition_offset(topic, partition.cast_signed(), Offset::Beginning)?;
    }
    consumer.assign(&all)?;
    let (tell, seen) = watch::channel(0);
    std::thread::spawn(move || {
        while !tell.is_closed() {
            if let Some(Ok(_)) = consumer.poll(POLL) {
                tell.send_modify(|seen| *seen += 1);
            }
        }
    });
    Ok(seen)
}

async fn consumed(tail: &watch::Receiver<u64>, count: u64) -> anyhow::Result<()> {
    let mut tail = tail.clone();
    let seen = timeout(SOON, tail.wait_for(|seen| *seen >= count)).await;
    seen.with_context(|| format!("{count} records are not consumed"))?.context("the consumer is gone")?;
    Ok(())
}
