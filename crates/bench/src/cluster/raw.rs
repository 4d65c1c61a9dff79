//! The floors: what a message takes on the same servers with the client libraries alone, tuned as ours are, in this process. One record is
//! produced with `acks=all` and consumed twice; rows of the same sizes are written to tables of the same kind.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, ensure};
use futures::future::{try_join, try_join_all};
use plaza_floor::process::cpu_seconds;
use rdkafka::{
    ClientConfig, ClientContext, Offset, TopicPartitionList,
    admin::{NewTopic, TopicReplication},
    consumer::{BaseConsumer, Consumer},
    message::DeliveryResult,
    producer::{BaseRecord, ProducerContext, ThreadedProducer},
};
use scylla::{client::session::Session, statement::prepared::PreparedStatement};
use tokio::{
    sync::{Semaphore, oneshot, watch},
    time::timeout,
};

use super::scratch;
use crate::measure::{histogram, percentile_ms, record};

/// As many sends as the pairs of the benchmark have on their way.
const IN_FLIGHT: usize = 512;
/// Requests to the CQL server under way at most, as ours by default.
const REQUESTS: usize = 256;
/// Of a send of 100 bytes of text as it is in the log, and of what is stored of it.
const RECORD_BYTES: usize = 300;
const EVENT_BYTES: usize = 230;
const REQUEST_BYTES: usize = 40;
const REFERENCE_BYTES: usize = 26;
/// Rows of a message that are not watermarks: its event, its id, a reference for each of the two.
const BODY_ROWS: f64 = 4.0;
const POLL: Duration = Duration::from_millis(100);
const SOON: Duration = Duration::from_secs(30);

/// Clients of both servers.
pub(crate) struct Raw {
    topic: String,
    partitions: u32,
    producer: ThreadedProducer<Told>,
    tails: [watch::Receiver<u64>; 2],
    tables: Tables,
    produced: AtomicU64,
}

impl Raw {
    /// Creates a topic and tables, and begins to consume.
    pub(crate) async fn open(kafka: &str, cql: &str, prefix: &str, partitions: u32) -> anyhow::Result<Self> {
        let topic = format!("{prefix}.floor");
        let replicas = kafka.split(',').count().min(3) as i32;
        let new = NewTopic::new(&topic, partitions.cast_signed(), TopicReplication::Fixed(replicas));
        let new = new.set("message.timestamp.type", "LogAppendTime");
        for created in scratch::admin(kafka)?.create_topics([&new], &scratch::options()).await? {
            created.map_err(|(name, code)| anyhow::anyhow!("topic {name}: {code}"))?;
        }
        let mut settings = ClientConfig::new();
        settings.set("bootstrap.servers", kafka).set("enable.idempotence", "true").set("linger.ms", "0").set("compression.type", "lz4");
        let producer = settings.create_with_context(Told)?;
        let tails = [tail(kafka, &topic, partitions)?, tail(kafka, &topic, partitions)?];
        let tables = Tables::create(cql, prefix).await?;
        Ok(Self { topic, partitions, producer, tails, tables, produced: AtomicU64::new(0) })
    }

    /// The median of records one after the other, from the send until it is acknowledged and consumed, milliseconds.
    pub(crate) async fn ack(&self, sends: usize) -> anyhow::Result<f64> {
        let mut took = histogram();
        for _ in 0..sends {
            let started = Instant::now();
            let before = self.produced.load(Ordering::Relaxed);
            try_join(self.produce(), consumed(&self.tails[0], before + 1)).await?;
            record(&mut took, started.elapsed());
        }
        Ok(percentile_ms(&took, 50.0))
    }

    /// CPU milliseconds of this process for each message with so many rows, many at once for a while. Nothing else must run in it.
    pub(crate) async fn drive(&self, time: Duration, rows: f64) -> anyhow::Result<f64> {
        let before = self.produced.load(Ordering::Relaxed);
        let (cpu, until) = (cpu_seconds(std::process::id())?, Instant::now() + time);
        let one = |_| async {
            while Instant::now() < until {
                let number = self.produce().await?;
                self.tables.write(number, rows).await?;
            }
            anyhow::Ok(())
        };
        try_join_all((0..IN_FLIGHT).map(one)).await?;
        let produced = self.produced.load(Ordering::Relaxed);
        for tail in &self.tails {
            consumed(tail, produced).await?;
        }
        Ok((cpu_seconds(std::process::id())? - cpu) * 1000.0 / (produced - before) as f64)
    }

    async fn produce(&self) -> anyhow::Result<u64> {
        let number = self.produced.fetch_add(1, Ordering::Relaxed);
        let (key, value) = (number.to_be_bytes(), bytes(number, RECORD_BYTES));
        let partition = (number % u64::from(self.partitions)) as i32;
        let (tell, told) = oneshot::channel();
        let record = BaseRecord::with_opaque_to(&self.topic, Box::new(tell)).partition(partition).key(&key[..]).payload(&value);
        self.producer.send(record).map_err(|(error, _)| error)?;
        ensure!(told.await.context("the producer is gone")?, "a record was not acknowledged");
        Ok(number)
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

/// Half of it is as compressible as text, half of it as ids.
fn bytes(number: u64, count: usize) -> Vec<u8> {
    let mixed = |place: usize| (number.wrapping_add(place as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8;
    (0..count).map(|place| if place < count / 2 { mixed(place) } else { b'0' + (place % 10) as u8 }).collect()
}

/// Tables as chat's, and what writes their rows.
struct Tables {
    session: Session,
    message: PreparedStatement,
    request: PreparedStatement,
    entry: PreparedStatement,
    head: PreparedStatement,
    permits: Arc<Semaphore>,
}

const SCHEMA: [&str; 5] = [
    "CREATE KEYSPACE {keyspace} WITH replication = {'class': 'NetworkTopologyStrategy', 'replication_factor': {replicas}}",
    "CREATE TABLE {keyspace}.messages (conversation blob, bucket bigint, sequence bigint, event blob, remains blob,
        PRIMARY KEY ((conversation, bucket), sequence))",
    "CREATE TABLE {keyspace}.requests (machine text, key blob, caller blob, request blob, row blob,
        PRIMARY KEY ((machine, key, caller, request)))",
    "CREATE TABLE {keyspace}.inbox_entries (user_id blob, bucket bigint, cursor bigint, reference blob,
        PRIMARY KEY ((user_id, bucket), cursor))",
    "CREATE TABLE {keyspace}.inbox_heads (user_id blob PRIMARY KEY, cursor bigint)",
];

impl Tables {
    async fn create(cql: &str, prefix: &str) -> anyhow::Result<Self> {
        let (session, keyspace) = (scratch::session(cql).await?, format!("{prefix}_floor"));
        let replicas = cql.split(',').count().min(3).to_string();
        for statement in SCHEMA {
            session.query_unpaged(statement.replace("{keyspace}", &keyspace).replace("{replicas}", &replicas), ()).await?;
        }
        let insert = async |table: &str, columns: &str| {
            let marks = vec!["?"; columns.split(", ").count()].join(", ");
            session.prepare(format!("INSERT INTO {keyspace}.{table} ({columns}) VALUES ({marks}) USING TIMESTAMP ?")).await
        };
        let message = insert("messages", "conversation, bucket, sequence, event").await?;
        let request = insert("requests", "machine, key, caller, request, row").await?;
        let entry = insert("inbox_entries", "user_id, bucket, cursor, reference").await?;
        let head = insert("inbox_heads", "user_id, cursor").await?;
        Ok(Self { session, message, request, entry, head, permits: Arc::new(Semaphore::new(REQUESTS)) })
    }

    /// The rows of a message, all at once; those beyond its own are watermarks.
    async fn write(&self, number: u64, rows: f64) -> anyhow::Result<()> {
        let at = i64::try_from(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_micros())?;
        let (sequence, pair) = (number.cast_signed(), number % 64);
        let (one, other) = (bytes(pair, 16), bytes(pair + 64, 16));
        let id = bytes(number, 16);
        let message = async {
            let _permit = self.permits.acquire().await?;
            let values = (&one, 0i64, sequence, bytes(number, EVENT_BYTES), at);
            self.session.execute_unpaged(&self.message, values).await.map(drop).map_err(anyhow::Error::from)
        };
        let request = async {
            let _permit = self.permits.acquire().await?;
            let values = ("conversations", &one, &other, &id, bytes(number, REQUEST_BYTES), at);
            self.session.execute_unpaged(&self.request, values).await.map(drop).map_err(anyhow::Error::from)
        };
        let entries = [&one, &other].map(|user| async move {
            let _permit = self.permits.acquire().await?;
            let values = (user, 0i64, sequence, bytes(number, REFERENCE_BYTES), at);
            self.session.execute_unpaged(&self.entry, values).await.map(drop).map_err(anyhow::Error::from)
        });
        let beyond = (rows - BODY_ROWS).max(0.0);
        let watermarks = (beyond * (number + 1) as f64) as u64 - (beyond * number as f64) as u64;
        let heads = (0..watermarks).map(|_| async {
            let _permit = self.permits.acquire().await?;
            self.session.execute_unpaged(&self.head, (&one, sequence, at)).await.map(drop).map_err(anyhow::Error::from)
        });
        let bodies = try_join(try_join(message, request), try_join_all(entries));
        try_join(bodies, try_join_all(heads)).await?;
        ensure!(rows.is_finite(), "the rows of a message were not counted");
        Ok(())
    }
}
