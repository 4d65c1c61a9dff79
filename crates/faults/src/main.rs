//! The fault suite: several processes of the real binary on a real Kafka and a real CQL cluster, under load from clients that record what they
//! were told, while parts of it are killed, frozen, cut off and restarted. After each fault what the clients recorded is judged by the checker
//! of the crash tests. `cargo xtask faults` builds everything, starts the cluster and runs this.

mod deployment;
mod faults;
mod gate;
mod observe;
mod report;

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;

use crate::{deployment::Deployment, faults::Fault};

/// What to run it with.
#[derive(Parser)]
struct Arguments {
    /// The binary to be tested.
    #[arg(long)]
    binary: PathBuf,
    /// Addresses of the brokers.
    #[arg(long, env = "PLAZA_TEST_KAFKA")]
    kafka: String,
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
    /// Where the table of results goes; nowhere without.
    #[arg(long)]
    report: Option<PathBuf>,
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
    let servers = arguments.kafka.split(',').count().min(arguments.cql.split(',').count());
    let mut results = Vec::new();
    for fault in Fault::ALL {
        let named = arguments.only.is_empty() || arguments.only.iter().any(|only| fault.name().contains(only.as_str()));
        if !named || arguments.short && !fault.is_short() {
            continue;
        }
        if fault.needs_replicas() && servers < 3 {
            println!("SKIP {}: takes three brokers and three nodes", fault.name());
            continue;
        }
        // Each on topics and tables of its own: what one leaves behind must not judge the next.
        let mut deployment = Deployment::start(&arguments.binary, &arguments.kafka, &arguments.cql, arguments.xtask.clone()).await?;
        let result = faults::run(fault, &mut deployment, seed, arguments.short).await;
        let result = match result {
            Ok(result) => result,
            Err(error) => {
                deployment.keep_logs();
                return Err(error.context(format!("{}, logs in {}", fault.name(), deployment.folder().display())));
            }
        };
        println!("{}", report::line(&result));
        if !result.is_good() {
            deployment.keep_logs();
            println!("{:#?}\nlogs in {}", result.violations, deployment.folder().display());
        }
        results.push(result);
        deployment.stop().await?;
    }
    if let Some(path) = &arguments.report {
        std::fs::write(path, report::document(&results, servers))?;
    }
    Ok(!results.is_empty() && results.iter().all(report::Outcome::is_good))
}
