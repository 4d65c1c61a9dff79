//! `plaza-load`: drives a deployment at a set rate, checks every message, and reports.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context;
use clap::Parser;
use plaza_load::{
    report::{Report, compare},
    run::{self, Options, Stop},
    scenario::Scenario,
    target::Target,
};

// Many small buffers of connections come and go: the system's allocator would keep what is freed in pieces.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Drives a deployment of Plaza at a set rate, checks every message, and reports.
#[derive(Parser)]
#[command(version)]
enum Arguments {
    /// Prepares people, runs a scenario, checks what was sent, and writes a report.
    Run(Run),
    /// Only prepares the people of a scenario; a later `run` with the same numbers uses them.
    Prepare(Run),
    /// Two reports side by side, with their noise.
    Compare {
        /// The first report, JSON.
        a: PathBuf,
        /// The second report, JSON.
        b: PathBuf,
    },
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
    /// Connections for calls beside the live streams.
    #[arg(long, default_value_t = 8)]
    call_connections: usize,
    /// Do not check afterwards what was sent.
    #[arg(long)]
    no_check: bool,
    /// The target is not this machine, and I may load it.
    #[arg(long)]
    i_own_this_target: bool,
    /// Show no progress.
    #[arg(long)]
    quiet: bool,
}

impl Run {
    fn options(&self) -> anyhow::Result<Options> {
        let target = Target::new(&self.target, self.i_own_this_target)?;
        let mut scenario = Scenario::load(&self.scenario)?;
        scenario.rate = self.rate.unwrap_or(scenario.rate);
        scenario.seconds = self.duration.map_or(scenario.seconds, |duration| duration.as_secs_f64());
        scenario.population.people = self.people.unwrap_or(scenario.population.people);
        let problems = scenario.problems();
        anyhow::ensure!(problems.is_empty(), "{}", problems.join("; "));
        let name = PathBuf::from(&self.scenario).file_stem().map_or_else(|| "own".into(), |name| name.to_string_lossy().into_owned());
        let port = target.socket.port();
        let population =
            self.population.clone().unwrap_or_else(|| self.out.join(format!("{name}-{port}-{}.people.json", scenario.population.people)));
        Ok(Options {
            target,
            name,
            scenario,
            population,
            seed: self.seed,
            call_connections: self.call_connections,
            server_pids: self.server_pid.clone(),
            shown: !self.quiet,
            check: !self.no_check,
        })
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    match started(Arguments::parse()).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("plaza-load: {error:#}");
            ExitCode::from(2)
        }
    }
}

async fn started(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let stop = Stop::default();
    match arguments {
        Arguments::Run(run) => run_and_report(&run, &watched(&stop)?).await,
        Arguments::Prepare(run) => {
            let options = run.options()?;
            let stop = watched(&stop)?;
            let ready = plaza_load::population::prepare::prepare(
                &options.target,
                &options.scenario.population,
                &options.population,
                options.shown,
                &stop.asked,
            );
            let ready = ready.await?;
            println!(
                "{} people, {} friendships, {} groups in {}",
                ready.people.len(),
                ready.plan.friendships.len(),
                ready.groups.len(),
                options.population.display()
            );
            Ok(ExitCode::SUCCESS)
        }
        Arguments::Compare { a, b } => {
            print!("{}", compare::table(&Report::read(&a)?, &Report::read(&b)?));
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn run_and_report(run: &Run, stop: &Stop) -> anyhow::Result<ExitCode> {
    let options = run.options()?;
    let outcome = run::run(&options, stop).await?;
    let report = Report::new(&options, &outcome);
    let page = report.write(&run.out).context("writing the report")?;
    println!("{}\n  report: {}", report.summary(), page.display());
    Ok(if report.verdict() == "good" { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Ctrl-C stops the run at once; a second one ends the process.
fn watched(stop: &Stop) -> anyhow::Result<Stop> {
    let mut interrupts = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())?;
    let (asked, own) = (stop.clone(), stop.clone());
    let watching = async move {
        interrupts.recv().await;
        asked.stop();
        interrupts.recv().await;
        std::process::exit(130);
    };
    #[expect(clippy::disallowed_methods, reason = "ends with the process")]
    tokio::spawn(watching);
    Ok(own)
}
