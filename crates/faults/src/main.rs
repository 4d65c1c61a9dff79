//! The fault suite: several processes of the real binary on a real Kafka and a real CQL cluster, under load from clients that record what they
//! were told, while parts of it are killed, frozen, cut off and restarted. After each fault what the clients recorded is judged by the checker
//! of the crash tests. `cargo xtask faults` builds everything, starts the cluster and runs this.

mod beside;
mod deployment;
mod fault;
mod gate;
mod inflict;
mod listeners;
mod observe;
mod process;
mod recovery;
mod registrar;
mod report;
mod run;
mod servers;

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, time::SystemTime};

use anyhow::Context;
use clap::Parser;

use crate::{
    deployment::{Deployment, Setup},
    fault::{Fault, Needs},
    report::Outcome,
};

/// How much of a time, as it is written, says the day.
const DAY: usize = "2000-01-01".len();

/// What to run it with.
#[derive(Parser)]
struct Arguments {
    /// The binary to be tested.
    #[arg(long)]
    binary: PathBuf,
    /// Addresses of the brokers.
    #[arg(long, env = "PLAZA_TEST_KAFKA")]
    kafka: String,
    /// For each broker another address it listens at, and after a `=` the one it says for that, where the suite then listens.
    #[arg(long, value_delimiter = ',')]
    kafka_gates: Vec<String>,
    /// Addresses of the CQL nodes.
    #[arg(long, env = "PLAZA_TEST_CQL")]
    cql: String,
    /// Only faults whose names contain one of these.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// A few rounds of the faults that need no more than one broker and one node.
    #[arg(long)]
    short: bool,
    /// Repeats the choices of a run.
    #[arg(long)]
    seed: Option<u64>,
    /// A file of outcomes: those of this run replace those of the same faults.
    #[arg(long)]
    results: Option<PathBuf>,
    /// Where the table of results goes; nowhere without.
    #[arg(long)]
    report: Option<PathBuf>,
    /// What whoever reads the table is to know of the run.
    #[arg(long, default_value = "")]
    note: String,
    /// The commit that the binary was built from.
    #[arg(long, default_value = "unknown")]
    commit: String,
    /// Keep the logs of the processes, whatever comes of it.
    #[arg(long)]
    keep_logs: bool,
    /// How the brokers and nodes are killed and started: the project's own commands.
    #[arg(long, default_value = "xtask")]
    xtask: PathBuf,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("faults: {error:?}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> anyhow::Result<bool> {
    let seed = arguments.seed.unwrap_or_else(rand::random);
    println!("seed {seed}: repeat with --seed {seed}");
    let setup = setup(&arguments)?;
    let (brokers, nodes) = (arguments.kafka.split(',').count(), setup.cql.len());
    let date: String = humantime::format_rfc3339_seconds(SystemTime::now()).to_string().chars().take(DAY).collect();
    // One that cannot be read is known before anything is done.
    let mut outcomes = arguments.results.as_deref().map(report::read).transpose()?.unwrap_or_default();
    let mut is_good = true;
    let mut ran = 0;
    let mut kept: Option<Deployment> = None;
    for fault in Fault::ALL {
        let named = arguments.only.is_empty() || arguments.only.iter().any(|only| fault.name().contains(only.as_str()));
        if !named || arguments.short && !fault.is_short() {
            continue;
        }
        match fault.needs() {
            Needs::Replicas if brokers.min(nodes) < 3 => {
                println!("SKIP {}: takes three brokers and three nodes", fault.name());
                continue;
            }
            Needs::KafkaGates if setup.kafka_gates.is_empty() => {
                println!("SKIP {}: takes brokers that can be reached through gates", fault.name());
                continue;
            }
            Needs::Nothing | Needs::Replicas | Needs::KafkaGates => {}
        }
        // Each on topics and tables of its own, for what one leaves behind must not judge the next; only the short form has no time for that.
        let mut deployment = match kept.take() {
            Some(deployment) => deployment,
            None => Deployment::start(&setup).await?,
        };
        if arguments.keep_logs {
            deployment.keep_logs();
        }
        let outcome = one(fault, &mut deployment, seed, arguments.short).await?;
        if arguments.short && outcome.is_good() {
            kept = Some(deployment);
        } else {
            end(deployment, outcome.is_good()).await?;
        }
        let build = if cfg!(debug_assertions) { "unoptimized" } else { "optimized" }.to_owned();
        let (date, commit, note) = (date.clone(), arguments.commit.clone(), arguments.note.clone());
        let outcome = Outcome { brokers, nodes, date, commit, seed, build, note, ..outcome };
        is_good &= outcome.is_good();
        ran += 1;
        if let Some(path) = &arguments.results {
            // Read again each time: another run may have added to it.
            outcomes = report::read(path)?;
        }
        outcomes.retain(|earlier: &Outcome| earlier.fault != outcome.fault);
        outcomes.push(outcome);
        outcomes.sort_by_key(|outcome| Fault::ALL.iter().position(|fault| fault.name() == outcome.fault));
        if let Some(path) = &arguments.results {
            report::write(path, &outcomes)?;
        }
    }
    if let Some(path) = &arguments.report {
        // With those of other runs, also when this one had nothing to do.
        if let Some(results) = &arguments.results {
            outcomes = report::read(results)?;
        }
        std::fs::write(path, report::document(&outcomes))?;
    }
    if let Some(deployment) = kept {
        end(deployment, true).await?;
    }
    Ok(is_good && ran > 0)
}

/// One fault, and what came of it in a line.
async fn one(fault: Fault, deployment: &mut Deployment, seed: u64, short: bool) -> anyhow::Result<Outcome> {
    match run::run(fault, deployment, seed, short).await {
        Ok(outcome) => {
            println!("{}", report::line(&outcome));
            if !outcome.is_good() {
                println!("{:#?}\n{:#?}", outcome.violations, outcome.errors);
            }
            Ok(outcome)
        }
        Err(error) => {
            deployment.keep_logs();
            Err(error.context(format!("{}, logs in {}", fault.name(), deployment.folder().display())))
        }
    }
}

/// What was good is taken away; of the rest everything is kept to be looked at.
async fn end(mut deployment: Deployment, is_good: bool) -> anyhow::Result<()> {
    deployment.stop_all().await?;
    if is_good {
        deployment.servers.remove().await?;
    } else {
        deployment.keep_logs();
    }
    if deployment.keeps_logs() {
        println!("logs in {}", deployment.folder().display());
    }
    deployment.close().await;
    Ok(())
}

fn setup(arguments: &Arguments) -> anyhow::Result<Setup> {
    let gate = |text: &String| -> anyhow::Result<(SocketAddr, SocketAddr)> {
        let (listener, gate) = text.split_once('=').with_context(|| format!("{text:?} is no gate"))?;
        Ok((listener.parse()?, gate.parse()?))
    };
    Ok(Setup {
        binary: arguments.binary.clone(),
        kafka: arguments.kafka.clone(),
        kafka_gates: arguments.kafka_gates.iter().map(gate).collect::<Result<_, _>>()?,
        cql: arguments.cql.split(',').map(str::parse).collect::<Result<_, _>>().context("PLAZA_TEST_CQL")?,
        xtask: arguments.xtask.clone(),
    })
}
