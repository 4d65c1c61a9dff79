//! The floors of this machine, measured in the same run as ours: a bare tonic server that only makes each message durable and hands it on, the disk,
//! and what a Kafka and a CQL server take alone, where their addresses are given.

use std::{
    collections::BTreeMap,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::Context;
use hdrhistogram::Histogram;
use plaza_floor::{
    USER_HEADER,
    cql::RawTables,
    kafka::{RawLog, Took},
};
use tokio::{net::TcpStream, process::Child, time::Instant};

use crate::{
    api::{Api, request},
    bare::{self, Load},
    operation::Measure,
    record::histogram,
    run::{self, Stop},
    scenario::Kind,
    target::Target,
};

/// Calls of one client that awaits each answer.
const ALONE: usize = 1_000;
/// Of the floor's topic.
const PARTITIONS: u32 = 12;
const START_FOR: Duration = Duration::from_secs(30);

/// What stands before the quantile in the name of a floor: a message made durable by a bare server, under the load of the scenario.
pub const ACK: &str = "ack floor";
/// A record on its way through Kafka.
pub const RECORD: &str = "a record produced and consumed";
/// A row of CQL.
pub const ROW: &str = "a row inserted";
/// What the disk takes, before and after the others together.
pub const DISK: &str = "append of 512 bytes and fdatasync";

/// The name of a floor's figure.
#[must_use]
pub fn name(what: &str, quantile: &str) -> String {
    format!("{what} {quantile}, ms")
}

/// The name of the hidden subcommand that serves the floor.
pub const SERVE: &str = "serve-floor";

/// A floor's server: this program again, killed when dropped.
pub struct Server {
    pub(crate) target: Target,
    child: Child,
    _data: tempfile::TempDir,
}

impl Server {
    /// Starts `program`, which is this one, with its data in a new folder inside `folder`.
    ///
    /// # Errors
    /// The folder cannot be written to, or the server does not start.
    pub async fn start(program: &Path, folder: &Path) -> anyhow::Result<Self> {
        // The server's, too: it is started with ours.
        run::raise_limits();
        std::fs::create_dir_all(folder)?;
        let data = tempfile::tempdir_in(folder)?;
        // Free now; who takes it meanwhile makes the start fail.
        let address: SocketAddr = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let child = tokio::process::Command::new(program)
            .args([SERVE, "--listen", &address.to_string(), "--data-dir"])
            .arg(data.path().join("data"))
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        let until = Instant::now() + START_FOR;
        while let Err(error) = TcpStream::connect(address).await {
            anyhow::ensure!(Instant::now() < until, "the floor's server does not start: {error}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(Self { target: Target::new(&format!("http://{address}"), false)?, child, _data: data })
    }
}

impl Server {
    /// Its process.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.id()
    }
}

/// The servers of a cluster whose floors are measured, too.
#[derive(Debug, Clone, Default)]
pub struct Servers {
    /// Addresses of the brokers; none if empty.
    pub kafka: String,
    /// Addresses of the CQL nodes; none if empty.
    pub cql: String,
}

impl Servers {
    /// Measures what a record and a row take with the client libraries alone, on a topic and tables of their own, which are gone afterwards.
    async fn floors(&self) -> anyhow::Result<BTreeMap<String, f64>> {
        let prefix = format!("load{:07x}", rand::random::<u32>() >> 4);
        let mut floors = BTreeMap::new();
        let mut note_all = |what: &str, took: Vec<Duration>| {
            let mut all = histogram();
            took.into_iter().for_each(|one| record(&mut all, one));
            note(&mut floors, what, &all);
        };
        if !self.kafka.is_empty() {
            let log = RawLog::open(&self.kafka, &prefix, PARTITIONS).await?;
            log.acks(ALONE / 5, Duration::ZERO).await?;
            note_all(RECORD, log.acks(ALONE, Duration::ZERO).await?.iter().map(Took::both).collect());
            log.remove().await?;
        }
        if !self.cql.is_empty() {
            let tables = RawTables::create(&self.cql, &prefix).await?;
            tables.inserts(ALONE / 5).await?;
            note_all(ROW, tables.inserts(ALONE).await?);
            tables.remove().await?;
        }
        Ok(floors)
    }
}

fn record(all: &mut Histogram<u64>, took: Duration) {
    all.saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1));
}

/// Adds what half of them took at most, and 99 %.
pub(crate) fn note(floors: &mut BTreeMap<String, f64>, what: &str, all: &Histogram<u64>) {
    for (quantile, at) in [("p50", 0.5), ("p99", 0.99)] {
        floors.insert(name(what, quantile), all.value_at_quantile(at) as f64 / 1000.0);
    }
}

/// Measures the floors: alone, and under a load of which messages are a part. `folder` is on the disk of the server's data.
///
/// # Errors
/// The floor's server does not start, the folder cannot be written to, the servers do not answer, or it is stopped.
pub async fn floors(load: &Load, folder: &Path, servers: &Servers, stop: &Stop) -> anyhow::Result<BTreeMap<String, f64>> {
    stop.unless(Box::pin(measure(load, folder, servers, stop))).await.context("stopped while the floors were measured")?
}

async fn measure(load: &Load, folder: &Path, servers: &Servers, stop: &Stop) -> anyhow::Result<BTreeMap<String, f64>> {
    std::fs::create_dir_all(folder)?;
    let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("plaza-load"));
    let mut floors = BTreeMap::new();
    let mut disk = plaza_floor::fdatasync_ms(folder)?;
    let server = Server::start(&program, folder).await?;
    let api = Api::new(&server.target, 1)?;
    let text = "x".repeat(load.text_bytes);
    let mut alone = histogram();
    for _ in 0..ALONE {
        let started = Instant::now();
        send(&api, &text).await.context("a send to the floor")?;
        record(&mut alone, started.elapsed());
    }
    note(&mut floors, "ack floor of one client alone", &alone);
    if load.sends > 0.0 {
        let under_load = bare::run(&server, load, stop).await?;
        let wrong = [&under_load.problems[..], &under_load.doubts[..]].concat();
        anyhow::ensure!(wrong.is_empty(), "the floor is not measured: {}", wrong.join("; "));
        let acknowledged = under_load.row(Measure::AckDirect, Kind::Steady).context("nothing arrived at the floor")?;
        floors.extend([("p50", acknowledged.p50), ("p99", acknowledged.p99)].map(|(quantile, took)| (name(ACK, quantile), took)));
        floors.insert("ack floor rate, messages/s".to_owned(), load.sends);
        floors.insert("ack floor rate, operations/s".to_owned(), under_load.scenario.rate);
        floors.insert("ack floor live streams".to_owned(), under_load.streams as f64);
    }
    floors.extend(servers.floors().await?);
    disk.extend(plaza_floor::fdatasync_ms(folder)?);
    let mut all = histogram();
    disk.into_iter().for_each(|took| record(&mut all, Duration::from_secs_f64(took / 1000.0)));
    note(&mut floors, DISK, &all);
    Ok(floors)
}

async fn send(api: &Api, text: &str) -> Result<(), tonic::Status> {
    let message = plaza_client::chat::SendMessageRequest {
        user_id: "b".into(),
        client_message_id: plaza_client::new_id(),
        content: Some(plaza_client::text(text)),
        ..Default::default()
    };
    let mut message = request(message);
    message.metadata_mut().insert(USER_HEADER, tonic::metadata::MetadataValue::from_static("a"));
    api.chat().send_message(message).await.map(drop)
}
