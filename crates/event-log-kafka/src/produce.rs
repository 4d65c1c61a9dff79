//! Appending. There are two kinds of lines to the cluster, each line one idempotent client that many share: those for [`EventLog::append`] give
//! up after a while, those for producers never do, because a record that timed out would be a gap (see [`Kind::Emissions`]).
//!
//! There are a few of each kind: a request holds records of one partition, and a broker answers the requests of a connection one after the
//! other, each when the other replicas have it. A partition's appends take the same line, and all records of one producer do.
//!
//! Whatever goes wrong with a record on a line of producers breaks that line for good: every producer on it fails from then on, and whoever
//! asks for a producer gets one on a new line. Nothing is ever sent by the library's own `send` future: it waits when its queue is full
//! and lets later records overtake.
//!
//! [`EventLog::append`]: plaza_event_log::EventLog::append

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicUsize, Ordering},
};
use std::time::Duration;

use futures::{FutureExt as _, future::BoxFuture};
use parking_lot::Mutex;
use plaza_event_log::{Error, Producer, Record, TopicPartition, limits};
use rdkafka::{
    ClientContext, Message as _, Statistics,
    config::RDKafkaLogLevel,
    error::KafkaError,
    message::{DeliveryResult, Header, OwnedHeaders},
    producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer},
};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio_util::sync::CancellationToken;

use crate::{
    connection::{Connection, Events, Threads, describe, is_final, unavailable},
    topics::Topics,
};

/// After this an append is given up: it may or may not have happened.
const APPEND_TIMEOUT_MS: &str = "30000";
/// How long what was sent before the end may take to arrive.
const FLUSH: Duration = Duration::from_secs(5);

/// What a line is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Single records; somebody waits for each.
    Appends,
    /// Records whose order must have no gap. Nothing times out, since a record that does is lost while the next one passes.
    Emissions,
}

impl Kind {
    fn role(self) -> &'static str {
        match self {
            Self::Appends => "appends",
            Self::Emissions => "emissions",
        }
    }

    fn settings(self) -> [(&'static str, &'static str); 4] {
        match self {
            // How much is on its way is limited before it gets here.
            Self::Appends => [
                ("message.timeout.ms", APPEND_TIMEOUT_MS),
                ("enable.gapless.guarantee", "false"),
                ("queue.buffering.max.messages", "100000"),
                ("queue.buffering.max.kbytes", "131072"),
            ],
            // A processor has a few batches on their way; a full queue breaks the order, so it is large.
            Self::Emissions => [
                ("message.timeout.ms", "0"),
                ("enable.gapless.guarantee", "true"),
                ("queue.buffering.max.messages", "1000000"),
                ("queue.buffering.max.kbytes", "262144"),
            ],
        }
    }
}

/// Counts the acknowledgements of records that were sent together, and tells who waits for them.
pub(crate) struct Ack {
    left: AtomicUsize,
    told: Mutex<Option<oneshot::Sender<Result<(), Error>>>>,
    /// Kept until the record is out of the client's hands, also when nobody waits any more.
    _room: Option<OwnedSemaphorePermit>,
}

impl Ack {
    pub(crate) fn new(records: usize, room: Option<OwnedSemaphorePermit>) -> (Arc<Self>, oneshot::Receiver<Result<(), Error>>) {
        let (tell, told) = oneshot::channel();
        (Arc::new(Self { left: AtomicUsize::new(records), told: Mutex::new(Some(tell)), _room: room }), told)
    }

    fn record(&self, outcome: Result<(), Error>) {
        let was_last = self.left.fetch_sub(1, Ordering::AcqRel) == 1;
        if (was_last || outcome.is_err())
            && let Some(tell) = self.told.lock().take()
        {
            // Nobody need wait.
            _ = tell.send(outcome);
        }
    }
}

/// Whether a line works. Once it does not, whoever waits for a record on it is told at once: the library may never say what became of what
/// is queued behind a record that was refused.
#[derive(Clone, Default)]
struct Health {
    why: Arc<OnceLock<Error>>,
    broken: CancellationToken,
}

impl Health {
    fn fail(&self, why: impl FnOnce() -> Error) {
        self.why.get_or_init(why);
        self.broken.cancel();
    }

    fn failure(&self) -> Option<Error> {
        self.why.get().cloned()
    }

    /// The outcome of what was sent.
    async fn outcome(self, told: oneshot::Receiver<Result<(), Error>>) -> Result<(), Error> {
        let closed = || Error::Unavailable("closed".to_owned());
        tokio::select! {
            biased;
            outcome = told => outcome.unwrap_or_else(|_| Err(closed())),
            () = self.broken.cancelled() => Err(self.failure().unwrap_or_else(closed)),
        }
    }
}

/// What a line hears of its records.
struct Deliveries {
    events: Events,
    kind: Kind,
    health: Health,
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.events.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if is_final(&error) {
            self.health.fail(|| Error::Unavailable(format!("producer failed: {reason}")));
        }
        self.events.wrong(&error, reason);
    }

    fn stats(&self, _: Statistics) {}
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Arc<Ack>;

    fn delivery(&self, result: &DeliveryResult<'_>, ack: Arc<Ack>) {
        match result {
            Ok(_) => ack.record(Ok(())),
            Err((error, message)) => {
                let place = format!("{}/{}", message.topic(), message.partition());
                let outcome = Error::Unavailable(format!("{place}: {}", describe(error)));
                if self.kind == Kind::Emissions || is_final(error) {
                    // Before anybody hears of it, so that nothing is sent behind what is missing.
                    self.health.fail(|| outcome.clone());
                }
                ack.record(Err(outcome));
            }
        }
    }
}

/// One client.
pub(crate) struct Line {
    /// Only none while it is dropped.
    client: Option<ThreadedProducer<Deliveries>>,
    health: Health,
    threads: Arc<Threads>,
}

impl Line {
    fn open(connection: &Connection, kind: Kind, threads: &Arc<Threads>) -> Result<Arc<Self>, Error> {
        let mut settings = connection.client(kind.role());
        settings
            .set("enable.idempotence", "true")
            // What is sent while requests are on their way goes together; a lone record does not wait.
            .set("linger.ms", "0")
            .set("compression.type", "lz4")
            .set("message.max.bytes", crate::MAX_MESSAGE_BYTES.to_string());
        for (key, value) in kind.settings() {
            settings.set(key, value);
        }
        let health = Health::default();
        let deliveries = Deliveries { events: Events::new(kind.role()), kind, health: health.clone() };
        let client = settings.create_with_context(deliveries).map_err(|error| unavailable(&error))?;
        Ok(Arc::new(Self { client: Some(client), health, threads: Arc::clone(threads) }))
    }

    /// The outcome of what was sent.
    pub(crate) fn outcome(&self, told: oneshot::Receiver<Result<(), Error>>) -> impl Future<Output = Result<(), Error>> + use<> {
        self.health.clone().outcome(told)
    }

    /// Queues a record at once.
    ///
    /// # Errors
    /// It was not queued.
    pub(crate) fn send(&self, topic: &str, partition: u32, record: &Record, ack: Arc<Ack>) -> Result<(), Error> {
        let mut message = BaseRecord::<[u8], [u8], Arc<Ack>>::with_opaque_to(topic, ack)
            .partition(partition.cast_signed())
            .key(&record.key)
            .payload(&record.value);
        let kept = record.headers.iter().filter(|(name, _)| limits::header_name(name).is_some());
        for (name, value) in kept {
            let headers = message.headers.take().unwrap_or_else(|| OwnedHeaders::new_with_capacity(1));
            message.headers = Some(headers.insert(Header { key: name, value: Some(&value[..]) }));
        }
        let client = self.client.as_ref().ok_or_else(|| Error::Unavailable("closed".to_owned()))?;
        client.send(message).map_err(|(error, _)| {
            if is_final(&error) {
                self.health.fail(|| unavailable(&error));
            }
            unavailable(&error)
        })
    }
}

/// Waits for what was sent; blocks.
fn flush(client: &ThreadedProducer<Deliveries>) {
    if client.client().context().health.failure().is_none()
        && let Err(error) = client.flush(FLUSH)
    {
        tracing::warn!(left = client.in_flight_count(), error = describe(&error), "records were not acknowledged before the end");
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if let Some(client) = self.client.take() {
            // Without a thread it is dropped here, at worst slowly.
            _ = self.threads.spawn("flush", move || flush(&client));
        }
    }
}

/// The lines of a kind.
pub(crate) struct Lines {
    connection: Arc<Connection>,
    kind: Kind,
    threads: Arc<Threads>,
    current: Box<[Mutex<Option<Arc<Line>>>]>,
}

impl Lines {
    /// At once, so that they have their producer ids by the time the first record comes.
    ///
    /// # Errors
    /// `Unavailable`.
    pub(crate) fn open(connection: &Arc<Connection>, kind: Kind, threads: &Arc<Threads>) -> Result<Self, Error> {
        let lines = (0..connection.config.writers.max(1)).map(|_| Ok(Mutex::new(Some(Line::open(connection, kind, threads)?))));
        let current = lines.collect::<Result<_, Error>>()?;
        Ok(Self { connection: Arc::clone(connection), kind, threads: Arc::clone(threads), current })
    }

    /// One that is not broken, the same one for the same number.
    ///
    /// # Errors
    /// `Unavailable`.
    pub(crate) fn line(&self, number: usize) -> Result<Arc<Line>, Error> {
        let mut current = self.current[number % self.current.len()].lock();
        if self.threads.are_ending() {
            return Err(Error::Unavailable("closed".to_owned()));
        }
        if let Some(line) = &*current {
            let Some(error) = line.health.failure() else { return Ok(Arc::clone(line)) };
            tracing::warn!(%error, producer = self.kind.role(), "producer is replaced");
        }
        let line = Line::open(&self.connection, self.kind, &self.threads)?;
        *current = Some(Arc::clone(&line));
        Ok(line)
    }

    /// Sends what was queued and ends, on threads of their own.
    pub(crate) fn close(&self) {
        for current in &self.current {
            let line = current.lock().take();
            drop(line);
        }
    }
}

/// One producer on a line of emissions.
pub(crate) struct KafkaProducer {
    topics: Arc<Topics>,
    line: Option<Arc<Line>>,
    failed: Mutex<Option<Error>>,
}

impl KafkaProducer {
    pub(crate) fn new(topics: Arc<Topics>, line: Result<Arc<Line>, Error>) -> Self {
        match line {
            Ok(line) => Self { topics, line: Some(line), failed: Mutex::new(None) },
            Err(error) => Self { topics, line: None, failed: Mutex::new(Some(error)) },
        }
    }

    /// Queues all of them, or some of the first ones when it fails.
    fn queue(&self, records: &[(TopicPartition, Record)]) -> Result<impl Future<Output = Result<(), Error>> + use<>, Error> {
        let Some(line) = &self.line else { return Err(Error::Unavailable("closed".to_owned())) };
        if let Some(error) = line.health.failure() {
            return Err(error);
        }
        for (to, record) in records {
            self.topics.name(*to)?;
            limits::check(record)?;
        }
        let (ack, told) = Ack::new(records.len(), None);
        for (to, record) in records {
            line.send(self.topics.name(*to)?, to.partition, record, Arc::clone(&ack))?;
        }
        Ok(line.outcome(told))
    }
}

impl Producer for KafkaProducer {
    fn send(&self, records: Vec<(TopicPartition, Record)>) -> BoxFuture<'static, Result<(), Error>> {
        // Held until all of them are queued: two sends at once must not mix, and nothing may pass after a failure.
        let mut failed = self.failed.lock();
        let outcome = match &*failed {
            Some(error) => Err(error.clone()),
            None => self.queue(&records),
        };
        match outcome {
            Ok(_) if records.is_empty() => std::future::ready(Ok(())).boxed(),
            Ok(outcome) => outcome.boxed(),
            Err(error) => {
                *failed = Some(error.clone());
                std::future::ready(Err(error)).boxed()
            }
        }
    }
}
