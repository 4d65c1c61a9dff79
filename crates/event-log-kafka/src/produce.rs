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

mod waves;

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};
use std::time::{Duration, Instant};

use futures::{FutureExt as _, future::BoxFuture};
use parking_lot::Mutex;
use plaza_event_log::{Error, Producer, Record, TopicPartition, limits};
use rdkafka::{
    ClientContext, Message as _, Statistics,
    config::RDKafkaLogLevel,
    error::KafkaError,
    message::DeliveryResult,
    producer::{BaseProducer, Producer as _, ProducerContext},
};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio_util::sync::CancellationToken;

use self::waves::{Outgoing, Sent, Waves};
use crate::{
    connection::{Connection, Events, Threads, describe, is_final, unavailable},
    metrics::Metrics,
    topics::Topics,
};

/// After this an append is given up: it may or may not have happened.
const APPEND_TIMEOUT_MS: &str = "30000";
/// How long what was sent before the end may take to arrive.
const FLUSH: Duration = Duration::from_secs(5);
/// How soon a line that nobody has any more ends. The library's `poll` waits whole milliseconds and spins through what is left of its time, up
/// to one: with its own threads, which poll for 100 ms, that was a hundredth of a core for each client that did nothing. What is above the
/// whole milliseconds here is less than a thread oversleeps, so one that does nothing does not spin.
const POLL: Duration = Duration::from_micros(500_040);

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

/// What is kept of an append until the record is out of the client's hands, also when nobody waits any more.
pub(crate) struct Append {
    began: Instant,
    metrics: Arc<Metrics>,
    _room: OwnedSemaphorePermit,
}

impl Append {
    /// One that began then and takes this room until it is answered.
    pub(crate) fn new(began: Instant, metrics: Arc<Metrics>, room: OwnedSemaphorePermit) -> Self {
        Self { began, metrics, _room: room }
    }
}

/// Counts the acknowledgements of records that were sent together, and tells who waits for them.
pub(crate) struct Ack {
    left: AtomicUsize,
    told: Mutex<Option<oneshot::Sender<Result<(), Error>>>>,
    append: Option<Append>,
}

impl Ack {
    pub(crate) fn new(records: usize, append: Option<Append>) -> (Arc<Self>, oneshot::Receiver<Result<(), Error>>) {
        let (tell, told) = oneshot::channel();
        (Arc::new(Self { left: AtomicUsize::new(records), told: Mutex::new(Some(tell)), append }), told)
    }

    fn record(&self, outcome: Result<(), Error>) {
        if let Some(append) = self.append.as_ref().filter(|_| outcome.is_ok()) {
            append.metrics.appended(append.began.elapsed());
        }
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
pub(crate) struct Deliveries {
    events: Events,
    kind: Kind,
    health: Health,
    waves: Arc<Waves>,
}

impl Deliveries {
    /// A record will never be in the log, or perhaps.
    fn refused(&self, why: Error, ack: &Ack) {
        if self.kind == Kind::Emissions {
            // Before anybody hears of it, so that nothing is sent behind what is missing.
            self.health.fail(|| why.clone());
        }
        ack.record(Err(why));
    }
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
    type DeliveryOpaque = Box<Sent>;

    fn delivery(&self, result: &DeliveryResult<'_>, sent: Box<Sent>) {
        match result {
            Ok(_) => sent.ack.record(Ok(())),
            Err((error, message)) => {
                let place = format!("{}/{}", message.topic(), message.partition());
                let why = Error::Unavailable(format!("{place}: {}", describe(error)));
                if is_final(error) {
                    self.health.fail(|| why.clone());
                }
                self.refused(why, &sent.ack);
            }
        }
        self.waves.answered(sent.place);
    }
}

/// One client, and a thread that hears what became of its records.
pub(crate) struct Line {
    client: Arc<BaseProducer<Deliveries>>,
    health: Health,
    waves: Arc<Waves>,
    ended: Arc<AtomicBool>,
}

impl Line {
    fn open(connection: &Connection, kind: Kind, topics: &Topics, threads: &Arc<Threads>) -> Result<Arc<Self>, Error> {
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
        let waves = Arc::new(Waves::new(topics.places()));
        let deliveries = Deliveries { events: Events::new(kind.role()), kind, health: health.clone(), waves: Arc::clone(&waves) };
        let client: Arc<BaseProducer<Deliveries>> =
            Arc::new(settings.create_with_context(deliveries).map_err(|error| unavailable(&error))?);
        waves.belong_to(&client);
        let ended = Arc::new(AtomicBool::new(false));
        let line = Arc::new(Self { client: Arc::clone(&client), health: health.clone(), waves, ended: Arc::clone(&ended) });
        let until = Arc::clone(threads);
        threads.spawn(kind.role(), move || {
            while !ended.load(Ordering::Acquire) && !until.are_ending() {
                client.poll(POLL);
            }
            flush(&client);
            health.fail(|| Error::Unavailable("closed".to_owned()));
        })?;
        Ok(line)
    }

    /// The outcome of what was sent.
    pub(crate) fn outcome(&self, told: oneshot::Receiver<Result<(), Error>>) -> impl Future<Output = Result<(), Error>> + use<> {
        self.health.clone().outcome(told)
    }

    /// Queues a record, to be sent at once or when those before it in its partition are answered.
    ///
    /// # Errors
    /// It was not queued.
    pub(crate) fn send(&self, to: (&Arc<str>, usize), partition: u32, record: &Record, ack: Arc<Ack>) -> Result<(), Error> {
        let (topic, place) = to;
        self.waves.send(&self.client, Outgoing { topic: Arc::clone(topic), partition, place, record: record.clone(), ack })
    }
}

/// Waits for what was sent; blocks.
fn flush(client: &BaseProducer<Deliveries>) {
    let (until, deliveries) = (Instant::now() + FLUSH, client.context());
    loop {
        if deliveries.health.failure().is_some() {
            return;
        }
        let flushed = client.flush(until.saturating_duration_since(Instant::now()));
        let left = client.in_flight_count().unsigned_abs() as usize + deliveries.waves.waiting();
        match flushed {
            // What waited for these goes while they are answered.
            Ok(()) if left > 0 => {}
            Ok(()) => return,
            Err(error) => {
                tracing::warn!(left, error = describe(&error), "records were not acknowledged before the end");
                return;
            }
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
    }
}

/// The lines of a kind.
pub(crate) struct Lines {
    connection: Arc<Connection>,
    topics: Arc<Topics>,
    kind: Kind,
    threads: Arc<Threads>,
    current: Box<[Mutex<Option<Arc<Line>>>]>,
}

impl Lines {
    /// At once, so that they have their producer ids by the time the first record comes.
    ///
    /// # Errors
    /// `Unavailable`.
    pub(crate) fn open(connection: &Arc<Connection>, kind: Kind, topics: &Arc<Topics>, threads: &Arc<Threads>) -> Result<Self, Error> {
        let lines = (0..connection.config.writers.max(1)).map(|_| Ok(Mutex::new(Some(Line::open(connection, kind, topics, threads)?))));
        let current = lines.collect::<Result<_, Error>>()?;
        Ok(Self { connection: Arc::clone(connection), topics: Arc::clone(topics), kind, threads: Arc::clone(threads), current })
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
        let line = Line::open(&self.connection, self.kind, &self.topics, &self.threads)?;
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
            line.send(self.topics.place(*to)?, to.partition, record, Arc::clone(&ack))?;
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
