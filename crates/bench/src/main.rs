//! `plaza-bench`: what the server costs beside its floors. A floor is a bare tonic server that speaks the same methods and does only what
//! nobody can do without: take the bytes, make them durable in groups, hand them on. Floors and ours run interleaved, in processes of their
//! own, under the same client code; what is printed are ratios, with the fdatasync time of the same minute beside every absolute figure.

mod cluster;
mod groups;
mod latency;
mod length;
mod login;
mod measure;
mod memory;
mod moments;
mod peers;
mod population;
mod restart;
mod stream;
mod sync;
mod target;
mod throughput;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// What can be measured.
const PARTS: [&str; 15] = [
    "ack",
    "throughput",
    "length",
    "sync",
    "login",
    "idle",
    "peers-a",
    "peers-b",
    "peers-c",
    "peers-d",
    "group-online",
    "group-offline",
    "post",
    "timeline",
    "restart",
];

/// Measures the server against its floors. Without a part: all of them.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    what: Option<What>,
    /// Which parts.
    #[arg(value_parser = PARTS)]
    parts: Vec<String>,
    /// The server to measure: without, the one built beside this program.
    #[arg(long)]
    server: Option<PathBuf>,
    /// Messages in the log before the restart.
    #[arg(long, default_value_t = 1_000_000)]
    messages: u64,
    /// Where the results go.
    #[arg(long, default_value = "target/bench.json")]
    out: PathBuf,
}

#[derive(Subcommand)]
enum What {
    /// The same for several processes on a real Kafka and a real CQL server.
    Cluster(cluster::Options),
    /// Serves the floors; started by the benchmark itself.
    #[command(hide = true)]
    Floor {
        /// Where its files are.
        #[arg(long)]
        data_dir: PathBuf,
        /// Where it listens.
        #[arg(long)]
        listen: std::net::SocketAddr,
    },
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    match arguments.what {
        Some(What::Floor { data_dir, listen }) => return plaza_floor::serve(&data_dir, listen).await,
        Some(What::Cluster(options)) => return Box::pin(cluster::run(options)).await,
        None => {}
    }
    let wanted = |part: &str| arguments.parts.is_empty() || arguments.parts.iter().any(|wanted| wanted == part);
    let mut report = measure::Report::default();
    report.note("fdatasync_ms_p50", fdatasync_p50_ms()?);
    let server = &match arguments.server {
        Some(server) => server,
        None => std::env::current_exe()?.with_file_name("plaza"),
    };
    if wanted("ack") {
        latency::run(server, &mut report).await?;
    }
    if wanted("throughput") {
        throughput::run(server, &mut report).await?;
    }
    if wanted("length") {
        length::run(server, &mut report).await?;
    }
    if wanted("sync") {
        sync::run(server, &mut report).await?;
    }
    if wanted("login") {
        login::run(server, &mut report).await?;
    }
    if wanted("idle") {
        memory::run(server, &mut report).await?;
    }
    if wanted("peers-a") {
        peers::a(server, &mut report).await?;
    }
    if wanted("peers-b") {
        peers::b(server, &mut report).await?;
    }
    if wanted("peers-d") {
        peers::d(server, &mut report).await?;
    }
    if wanted("peers-c") {
        groups::c(server, &mut report).await?;
    }
    if wanted("group-online") {
        groups::online(server, &mut report).await?;
    }
    if wanted("group-offline") {
        groups::offline(server, &mut report).await?;
    }
    if wanted("post") {
        moments::fan_out(server, &mut report).await?;
    }
    if wanted("timeline") {
        moments::timeline(server, &mut report).await?;
    }
    if wanted("restart") {
        restart::run(server, arguments.messages, &mut report).await?;
    }
    report.note("fdatasync_ms_p50_after", fdatasync_p50_ms()?);
    report.finish(&arguments.out)
}

/// The median of append and `fdatasync`, in the folder of the benchmark's data.
fn fdatasync_p50_ms() -> anyhow::Result<f64> {
    Ok(measure::median(plaza_floor::fdatasync_ms(&target::folder())?.into_iter()))
}
