//! `plaza-load`: drives a deployment at a set rate, checks every message, and reports. Here is what it can be told; [`commands`] does it.

mod commands;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::Parser;
use plaza_load::{bare::CALL_CONNECTIONS, ramp::Objective, run::Stop};

// Many small buffers of connections come and go: the system's allocator would keep what is freed in pieces.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Drives a deployment of Plaza at a set rate, checks every message, and reports.
#[derive(Parser)]
#[command(version)]
enum Arguments {
    /// Prepares people, runs a scenario, checks what was sent, and writes a report.
    Run(Run),
    /// Runs a scenario with several generators, which join with `generate`; the population is theirs.
    Coordinate(Coordinate),
    /// Joins a coordinator and does its part of the run.
    Generate(Generate),
    /// Finds the highest rate at which a scenario meets an objective.
    Ramp(Ramp),
    /// Only prepares the people of a scenario; a later `run` with the same numbers uses them.
    Prepare(Prepare),
    /// Measures what a bare server and the disk of this machine do: what nothing can be faster than.
    Floor(Floor),
    /// Measures what this generator can do on this machine, with a server that does almost nothing.
    Calibrate(Calibrate),
    /// From people to machines: prints how many of which a deployment needs, and each assumption with its source.
    Capacity(Capacity),
    /// Two runs side by side, or several of each side, with their noise: `compare A B`, `compare A1 A2 --with B1 B2`.
    Compare {
        /// Reports, JSON: one of each side, or all of the first side.
        #[arg(required = true)]
        reports: Vec<PathBuf>,
        /// All of the second side.
        #[arg(long, num_args = 1..)]
        with: Vec<PathBuf>,
    },
    /// Serves the floor; started by this program itself.
    #[command(name = plaza_load::floor::SERVE, hide = true)]
    ServeFloor {
        /// Where it listens.
        #[arg(long)]
        listen: std::net::SocketAddr,
        /// Where its files are.
        #[arg(long)]
        data_dir: PathBuf,
    },
}

/// A run of several generators.
#[derive(clap::Args, Clone)]
struct Coordinate {
    #[command(flatten)]
    run: Run,
    /// How many generators to wait for.
    #[arg(long)]
    generators: usize,
    /// Where they join. Whoever reaches it can join: no further than they are.
    #[arg(long, default_value = "127.0.0.1:7790")]
    listen: std::net::SocketAddr,
}

/// One of several generators.
#[derive(clap::Args, Clone)]
struct Generate {
    /// Where the coordinator is, as http://host:port.
    #[arg(long, default_value = "http://127.0.0.1:7790")]
    coordinator: String,
    /// What it is called in the report.
    #[arg(long, default_value = "")]
    name: String,
    /// The state of its people is kept here.
    #[arg(long, default_value = "target/load")]
    out: PathBuf,
    /// Processes of the server on this machine, to be watched.
    #[arg(long, value_delimiter = ',')]
    server_pid: Vec<u32>,
    /// Where processes of the deployment tell their metrics, as http://host:port, to see how far their processors are behind.
    #[arg(long, value_delimiter = ',')]
    metrics: Vec<String>,
    /// The target is not this machine, and I may load it.
    #[arg(long)]
    i_own_this_target: bool,
    /// Show no progress.
    #[arg(long)]
    quiet: bool,
}

/// A preparation.
#[derive(clap::Args, Clone)]
struct Prepare {
    #[command(flatten)]
    run: Run,
    /// One call after the other over one connection, to see what many at once bring.
    #[arg(long)]
    one_at_a_time: bool,
}

/// A ramp.
#[derive(clap::Args, Clone)]
struct Ramp {
    #[command(flatten)]
    run: Run,
    /// The highest rate to try.
    #[arg(long, default_value_t = 100_000.0)]
    most: f64,
    /// Milliseconds within which 99 % of the calls are to be answered.
    #[arg(long, default_value_t = Objective::default().ack_p99)]
    ack_p99: f64,
    /// Milliseconds within which 99 % of the messages are to be delivered.
    #[arg(long, default_value_t = Objective::default().delivery_p99)]
    delivery_p99: f64,
    /// The highest rate of a bare server of its own instead, which only makes messages durable and hands them on, under the same load. The target
    /// is left alone.
    #[arg(long)]
    bare: bool,
}

/// The servers of a cluster.
#[derive(clap::Args, Clone)]
struct Servers {
    /// Brokers of the deployment, to measure what a record takes there alone.
    #[arg(long, default_value = "")]
    kafka: String,
    /// CQL nodes of the deployment, to measure what a row takes there alone.
    #[arg(long, default_value = "")]
    cql: String,
}

/// Floors.
#[derive(clap::Args, Clone)]
struct Floor {
    #[command(flatten)]
    servers: Servers,
    /// The scenario whose load the floor's server has, or a path that ends in .toml.
    #[arg(long, default_value = "chat")]
    scenario: String,
    /// Operations a second, instead of the scenario's.
    #[arg(long)]
    rate: Option<f64>,
    /// People, instead of the scenario's.
    #[arg(long)]
    people: Option<usize>,
    /// Seconds of it, the first fifth to get warm.
    #[arg(long, default_value_t = 6.0)]
    seconds: f64,
    /// A folder on the disk that the server's data is on.
    #[arg(long, default_value = "target/load")]
    folder: PathBuf,
    /// The servers are not on this machine, and I may load them.
    #[arg(long)]
    i_own_this_target: bool,
}

/// A calibration.
#[derive(clap::Args, Clone)]
struct Calibrate {
    /// Live streams.
    #[arg(long, default_value_t = 20_000)]
    connections: usize,
    /// Messages a second.
    #[arg(long, default_value_t = 20_000.0)]
    rate: f64,
    /// Seconds.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Where the data of the server and the report go.
    #[arg(long, default_value = "target/load")]
    out: PathBuf,
}

/// A calculation.
#[derive(clap::Args, Clone)]
struct Capacity {
    /// The model, TOML; without, one billion people a day.
    #[arg(long)]
    model: Option<PathBuf>,
    /// Puts in the cost of a message as this run measured it: its report, JSON.
    #[arg(long)]
    run: Option<PathBuf>,
    /// Writes capacity.md and its plots into this folder in place of printing it.
    #[arg(long)]
    write: Option<PathBuf>,
}

/// What is run, and how.
#[derive(clap::Args, Clone)]
struct Run {
    /// A scenario: chat, moments, day, storm, idle, fanout, newyear, peers, or a path that ends in .toml.
    #[arg(long, default_value = "chat")]
    scenario: String,
    /// Where, as http://host:port.
    #[arg(long, default_value = "http://127.0.0.1:7700")]
    target: String,
    /// Operations a second; without, the scenario's.
    #[arg(long)]
    rate: Option<f64>,
    /// How long, such as 30s or 10m; without, the scenario's.
    #[arg(long, value_parser = humantime::parse_duration)]
    duration: Option<Duration>,
    /// How many people; without, the scenario's.
    #[arg(long)]
    people: Option<usize>,
    /// The share of the operations and streams that may fail in a good run, 0 to 1, such as 0.5 above the highest rate; without, the scenario's.
    #[arg(long)]
    failed_most: Option<f64>,
    /// Decides the arrivals and who acts.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The state file of the people; without, one in target/load for each target and scenario.
    #[arg(long)]
    population: Option<PathBuf>,
    /// Where the report goes.
    #[arg(long, default_value = "target/load")]
    out: PathBuf,
    /// Processes of the server on this machine, to be watched.
    #[arg(long, value_delimiter = ',')]
    server_pid: Vec<u32>,
    /// Where processes of the deployment tell their metrics, as http://host:port, to see how far their processors are behind.
    #[arg(long, value_delimiter = ',')]
    metrics: Vec<String>,
    /// Connections for calls beside the live streams.
    #[arg(long, default_value_t = CALL_CONNECTIONS)]
    call_connections: usize,
    /// Do not check afterwards what was sent.
    #[arg(long)]
    no_check: bool,
    /// The target is not this machine, and I may load it.
    #[arg(long)]
    i_own_this_target: bool,
    /// Measure the floors of this machine before the run, and say how far ours are from them.
    #[arg(long)]
    floors: bool,
    #[command(flatten)]
    servers: Servers,
    /// Show no progress.
    #[arg(long)]
    quiet: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    match Box::pin(started(Arguments::parse())).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("plaza-load: {error:#}");
            ExitCode::from(2)
        }
    }
}

async fn started(arguments: Arguments) -> anyhow::Result<ExitCode> {
    match arguments {
        Arguments::Run(run) => commands::run(&run, &watched()?).await,
        Arguments::Coordinate(coordinate) => commands::coordinate(&coordinate, &watched()?).await,
        Arguments::Generate(generate) => commands::generate(&generate, &watched()?).await,
        Arguments::Ramp(ramp) => commands::ramp(&ramp, &watched()?).await,
        Arguments::Prepare(prepare) => commands::prepare(&prepare, &watched()?).await,
        Arguments::Floor(floor) => commands::floor(&floor, &watched()?).await,
        Arguments::Calibrate(calibrate) => commands::calibrate(&calibrate, &watched()?).await,
        Arguments::Capacity(capacity) => commands::capacity(&capacity),
        Arguments::Compare { reports, with } => commands::compare(&reports, &with),
        Arguments::ServeFloor { listen, data_dir } => {
            plaza_floor::serve(&data_dir, listen).await?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Ctrl-C stops the run at once; a second one ends the process.
fn watched() -> anyhow::Result<Stop> {
    let mut interrupts = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())?;
    let stop = Stop::default();
    let asked = stop.clone();
    let watching = async move {
        interrupts.recv().await;
        asked.stop();
        interrupts.recv().await;
        std::process::exit(130);
    };
    #[expect(clippy::disallowed_methods, reason = "ends with the process")]
    tokio::spawn(watching);
    Ok(stop)
}
