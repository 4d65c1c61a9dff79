//! The same questions asked of a cluster: several processes of the real binary on a real Kafka and a real CQL server, beside floors that use the
//! client libraries alone. The servers share the cores with what is measured, so CPU is that of our processes, and what waits for the servers
//! is compared with what waits for the same servers in the same minute.

mod ack;
mod message;
mod outage;
mod proxy;
mod raw;
mod scratch;
mod share;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, anyhow, ensure};
use clap::Args;
use futures::{StreamExt, TryStreamExt, future::join_all, stream};
use plaza_proto::chat::v1::chat_service_client::ChatServiceClient;
use plaza_testkit::cluster::{Cluster, Plan};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::timeout,
};

use self::{raw::Raw, scratch::Scratch};
use crate::{
    fdatasync_p50_ms,
    measure::Report,
    stream::message,
    target::{Caller, friends},
};

const PARTS: [&str; 5] = ["ack", "message", "two", "proxy", "outage"];
/// Of each topic: a dozen, shared by two instances of chat.
const PARTITIONS: u32 = 12;
const PAIRS: usize = 64;
/// Pairs that become friends at once.
const AT_ONCE: usize = 8;
/// Chat has taken over what it was given when so many times in a row everybody's send was acknowledged at once.
const CALM: usize = 4;
const PAUSE: Duration = Duration::from_millis(500);
const AT_LAST: Duration = Duration::from_secs(90);

/// What to measure on which servers.
#[derive(Args)]
pub(crate) struct Options {
    /// Which parts; without, all of them.
    #[arg(value_parser = PARTS)]
    parts: Vec<String>,
    /// The server to measure: without, the one built beside this program.
    #[arg(long)]
    server: Option<PathBuf>,
    /// Addresses of the brokers.
    #[arg(long, env = "PLAZA_TEST_KAFKA")]
    kafka: String,
    /// Addresses of the CQL nodes.
    #[arg(long, env = "PLAZA_TEST_CQL")]
    cql: String,
    /// Where the results go.
    #[arg(long, default_value = "target/bench-cluster.json")]
    out: PathBuf,
    /// Measures nothing, and removes the topics and tables that a killed run left: the prefix that it printed.
    #[arg(long)]
    remove: Option<String>,
}

/// What is measured: a deployment with one instance of each service that a message needs, a second of chat that is started when a part asks for it,
/// and the floors.
struct Bench {
    ours: Cluster,
    raw: Raw,
    /// People so far.
    pairs: usize,
}

pub(crate) async fn run(options: Options) -> anyhow::Result<()> {
    let server = match &options.server {
        Some(server) => server.clone(),
        None => std::env::current_exe()?.with_file_name("plaza"),
    };
    let scratch = Scratch::new(&options.kafka, &options.cql, options.remove.clone());
    if options.remove.is_some() {
        return scratch.remove().await;
    }
    println!("topics and tables of this run: {}", scratch.prefix);
    // Also when it is interrupted: the servers may be somebody's.
    let mut asked_to_end = signal(SignalKind::terminate())?;
    let done = tokio::select! {
        done = measure(&options, &server, &scratch.prefix) => done,
        _ = tokio::signal::ctrl_c() => Err(anyhow!("interrupted")),
        _ = asked_to_end.recv() => Err(anyhow!("interrupted")),
    };
    let removed = scratch.remove().await.context("removing topics and tables of this run");
    done.and(removed)
}

async fn measure(options: &Options, server: &Path, prefix: &str) -> anyhow::Result<()> {
    let wanted = |part: &str| options.parts.is_empty() || options.parts.iter().any(|wanted| wanted == part);
    let mut report = Report::default();
    report.note("fdatasync_ms_p50", fdatasync_p50_ms()?);
    report.note("load average of a minute", load()?);
    let plan = Plan {
        binary: server,
        kafka: &options.kafka,
        cql: &options.cql,
        prefix,
        partitions: PARTITIONS,
        instances: &[("accounts", 1), ("graph", 1), ("chat", 2), ("gateway", 1)],
        later: &["chat2"],
        settings: "",
    };
    let raw = Raw::open(&options.kafka, &options.cql, prefix, PARTITIONS).await?;
    let mut bench = Bench { ours: Cluster::start(&plan).await?, raw, pairs: 0 };
    let done = async {
        if wanted("ack") {
            ack::run(&mut bench, &mut report).await?;
        }
        if wanted("message") {
            message::one(&mut bench, &mut report).await?;
        }
        if wanted("two") {
            message::two(&mut bench, &mut report).await?;
        }
        if wanted("proxy") {
            proxy::run(&mut bench, &mut report).await?;
        }
        if wanted("outage") {
            outage::run(&mut bench, &mut report).await?;
        }
        anyhow::Ok(())
    };
    if let Err(error) = done.await {
        bench.ours.keep_logs();
        return Err(error.context(format!("logs in {}", bench.ours.folder().display())));
    }
    bench.ours.stop_all().await?;
    report.note("fdatasync_ms_p50_after", fdatasync_p50_ms()?);
    report.note("load average of a minute, after", load()?);
    report.finish(&options.out)
}

impl Bench {
    /// Newcomers: pairs of friends. Their tokens are good for a quarter of an hour, so each part has its own.
    async fn friends(&mut self, pairs: usize) -> anyhow::Result<Vec<[Caller; 2]>> {
        let (address, first) = (self.ours.address()?, self.pairs);
        self.pairs += pairs;
        stream::iter(first..self.pairs).map(|number| friends(&address, number)).buffered(AT_ONCE).try_collect().await
    }

    /// Starts an instance and waits until it serves and owns what it is given.
    async fn join(&mut self, name: &str, pairs: &[[Caller; 2]]) -> anyhow::Result<()> {
        self.ours.launch(name)?;
        self.ours.is_up(name).await?;
        calm(pairs).await
    }
}

/// Waits until everybody is answered at once, some times in a row.
async fn calm(pairs: &[[Caller; 2]]) -> anyhow::Result<()> {
    let begun = std::time::Instant::now();
    let mut in_a_row = 0;
    while in_a_row < CALM {
        ensure!(begun.elapsed() < AT_LAST, "not everybody is answered at once, {AT_LAST:?} after a change");
        let sends = pairs.iter().map(|[caller, _]| async move {
            let mut client = ChatServiceClient::new(caller.channel.clone());
            matches!(timeout(PAUSE * 4, client.send_message(caller.request(message(&caller.peer)))).await, Ok(Ok(_)))
        });
        in_a_row = if join_all(sends).await.into_iter().all(|sent| sent) { in_a_row + 1 } else { 0 };
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

/// How many threads of this machine were running or waiting for a core, over the last minute.
fn load() -> anyhow::Result<f64> {
    let text = fs::read_to_string("/proc/loadavg")?;
    text.split_whitespace().next().context("no load average")?.parse().context("the load average is no number")
}
