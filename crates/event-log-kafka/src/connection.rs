//! What all clients of the cluster have in common: how they reach it, where what they say goes, and the threads they live on.
//!
//! The library's own log lines are for debugging; what is wrong it also tells as errors, which are logged here at a limited rate: a client
//! without any broker tells of it thousands of times a second.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use plaza_event_log::Error;
use plaza_runtime::config::Validate as _;
use rdkafka::{
    ClientConfig, ClientContext, Statistics,
    config::RDKafkaLogLevel,
    consumer::ConsumerContext,
    error::{KafkaError, RDKafkaErrorCode},
};
use tokio_util::task::TaskTracker;

use crate::Config;

/// One error of a client is logged in this time.
const QUIET: Duration = Duration::from_secs(5);
/// Within this a broker that is not answering is given up and another one tried. Above what a fetch waits for.
const REQUEST_TIMEOUT_MS: &str = "10000";

/// How the cluster is reached.
pub(crate) struct Connection {
    /// Holds the password, so it is never printed.
    settings: ClientConfig,
    pub(crate) config: Config,
}

impl Connection {
    /// # Errors
    /// `Fatal` when the configuration cannot work, with what is wrong.
    pub(crate) fn new(config: &Config) -> Result<Self, Error> {
        let mut problems = Vec::new();
        config.validate(&mut problems);
        if let Some(problem) = problems.first() {
            return Err(Error::Fatal(format!("kafka.{problem}")));
        }
        if config.brokers.trim().is_empty() {
            return Err(Error::Fatal("kafka.brokers: must not be empty".to_owned()));
        }
        let mut settings = ClientConfig::new();
        settings
            .set("bootstrap.servers", &config.brokers)
            .set("allow.auto.create.topics", "false")
            .set("socket.keepalive.enable", "true")
            .set("socket.timeout.ms", REQUEST_TIMEOUT_MS)
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "1000")
            .set("log.connection.close", "false");
        secure(&mut settings, config)?;
        Ok(Self { settings, config: config.clone() })
    }

    /// The settings of a client. Every client has an id of its own: group members that share one have looped for ever.
    pub(crate) fn client(&self, role: &str) -> ClientConfig {
        let mut settings = self.settings.clone();
        settings.set("client.id", format!("plaza-{role}-{:08x}", rand::random::<u32>()));
        settings
    }
}

fn secure(settings: &mut ClientConfig, config: &Config) -> Result<(), Error> {
    let security = &config.security;
    let protocol = match (security.tls, security.mechanism.is_empty()) {
        (false, true) => "plaintext",
        (false, false) => "sasl_plaintext",
        (true, true) => "ssl",
        (true, false) => "sasl_ssl",
    };
    settings.set("security.protocol", protocol);
    if security.tls {
        // OpenSSL is built in, so it does not know where this system keeps its authorities.
        settings.set("ssl.ca.location", "probe");
        let files = [
            ("ssl.ca.location", &security.ca_file),
            ("ssl.certificate.location", &security.certificate_file),
            ("ssl.key.location", &security.key_file),
        ];
        for (key, file) in files.into_iter().filter(|(_, file)| !file.as_os_str().is_empty()) {
            // The library would say so as well, but not that trying again is of no use.
            fs::File::open(file).map_err(|error| Error::Fatal(format!("{key} {}: {error}", file.display())))?;
            settings.set(key, file.display().to_string());
        }
    }
    if !security.mechanism.is_empty() {
        let password = match security.password.is_empty() {
            false => security.password.expose().to_owned(),
            true => fs::read_to_string(&security.password_file)
                .map_err(|error| Error::Fatal(format!("kafka.security.password_file {}: {error}", security.password_file.display())))?,
        };
        settings
            .set("sasl.mechanism", &security.mechanism)
            .set("sasl.username", &security.user)
            .set("sasl.password", password.trim_end_matches(['\r', '\n']));
    }
    Ok(())
}

/// Where what a client says goes.
pub(crate) struct Events {
    role: &'static str,
    last: Mutex<Option<Instant>>,
    heard: AtomicUsize,
}

impl Events {
    pub(crate) fn new(role: &'static str) -> Self {
        Self { role, last: Mutex::new(None), heard: AtomicUsize::new(0) }
    }

    /// How many things the client said.
    pub(crate) fn heard(&self) -> usize {
        self.heard.load(Ordering::Relaxed)
    }

    /// Logs what is wrong, unless something was a moment ago.
    pub(crate) fn wrong(&self, error: &KafkaError, reason: &str) {
        let mut last = self.last.lock();
        if last.is_some_and(|last| last.elapsed() < QUIET) {
            return;
        }
        *last = Some(Instant::now());
        drop(last);
        tracing::warn!(client = self.role, error = describe(error), reason, "kafka client is in trouble");
    }
}

impl ClientContext for Events {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.heard.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(client = self.role, ?level, facility, message, "kafka client");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.heard.fetch_add(1, Ordering::Relaxed);
        self.wrong(&error, reason);
    }

    fn stats(&self, _: Statistics) {}
}

impl ConsumerContext for Events {}

/// In words. The library's own words for a wrong setting hold its value, which may be the password.
pub(crate) fn describe(error: &KafkaError) -> String {
    match error {
        KafkaError::ClientConfig(_, why, key, _) => format!("setting {key}: {why}"),
        other => other.to_string(),
    }
}

/// What the library's errors mean where a later attempt may work.
pub(crate) fn unavailable(error: &KafkaError) -> Error {
    Error::Unavailable(describe(error))
}

/// Whether the client that said so must be replaced.
pub(crate) fn is_final(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal)
}

/// The threads of one log. Each ends soon after [`Threads::end`], by itself: dropping a client can block for seconds, so it is only ever done
/// on one of them, never on a worker of the runtime.
#[derive(Default)]
pub(crate) struct Threads {
    running: TaskTracker,
    ending: AtomicBool,
}

impl Threads {
    /// # Errors
    /// `Unavailable` when the system has no thread to give.
    pub(crate) fn spawn(self: &Arc<Self>, name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), Error> {
        let running = self.running.token();
        let thread = std::thread::Builder::new().name(format!("kafka-{name}")).spawn(move || {
            work();
            drop(running);
        });
        thread.map(drop).map_err(|error| Error::Unavailable(format!("no thread: {error}")))
    }

    /// Runs a task beside them.
    pub(crate) fn run(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.running.spawn(task);
    }

    pub(crate) fn end(&self) {
        self.ending.store(true, Ordering::Release);
    }

    pub(crate) fn are_ending(&self) -> bool {
        self.ending.load(Ordering::Acquire)
    }

    /// Returns when all of them have ended.
    pub(crate) async fn ended(&self) {
        self.running.close();
        self.running.wait().await;
    }

    pub(crate) fn count(&self) -> usize {
        self.running.len()
    }
}
