//! The fault suite: several processes of the real binary on a real Kafka and a real CQL cluster, under load from clients that record what they
//! were told, while parts of it are killed, frozen, cut off and restarted. After each fault what the clients recorded is judged by the checker
//! of the crash tests. `cargo xtask faults` builds everything, starts the cluster and runs this.

mod deployment;
mod fault;
mod gate;
mod inflict;
mod observe;
mod process;
mod report;
mod run;
mod servers;

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::Parser;

use crate::{
    deployment::{Deployment, Setup},
    fault::{Fault, Needs},
    report::Outcome,
};

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
    let mut outcomes = arguments.results.as_deref().map(report::read).transpose()?.unwrap_or_default();
    let mut is_good = true;
    let mut ran = 0;
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
        let outcome = one(fault, &setup, seed, arguments.short).await?;
        let build = if cfg!(debug_assertions) { "unoptimized" } else { "optimized" }.to_owned();
        let outcome = Outcome { brokers, nodes, seed, build, note: arguments.note.clone(), ..outcome };
        is_good &= outcome.is_good();
        ran += 1;
        outcomes.retain(|earlier| earlier.fault != outcome.fault);
        outcomes.push(outcome);
        outcomes.sort_by_key(|outcome| Fault::ALL.iter().position(|fault| fault.name() == outcome.fault));
        if let Some(path) = &arguments.results {
            report::write(path, &outcomes)?;
        }
        if let Some(path) = &arguments.report {
            std::fs::write(path, report::document(&outcomes))?;
        }
    }
    Ok(is_good && ran > 0)
}

/// One fault on topics and tables of its own: what one leaves behind must not judge the next.
async fn one(fault: Fault, setup: &Setup, seed: u64, short: bool) -> anyhow::Result<Outcome> {
    let mut deployment = Deployment::start(setup).await?;
    let outcome = match run::run(fault, &mut deployment, seed, short).await {
        Ok(outcome) => outcome,
        Err(error) => {
            deployment.keep_logs();
            return Err(error.context(format!("{}, logs in {}", fault.name(), deployment.folder().display())));
        }
    };
    println!("{}", report::line(&outcome));
    deployment.stop_all().await?;
    if outcome.is_good() {
        deployment.servers.remove().await?;
    } else {
        deployment.keep_logs();
        println!("{:#?}\n{:#?}\nlogs in {}", outcome.violations, outcome.errors, deployment.folder().display());
    }
    Ok(outcome)
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
