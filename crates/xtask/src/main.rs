//! `cargo xtask`: the project's own commands. Each is a list of steps that call cargo and the checks of this crate; nothing here is linked
//! into the server.

mod bench;
mod check;
mod cluster;
mod command;
mod external;
mod faults;
mod proto;
mod test;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// The project's own commands.
#[derive(Parser)]
enum Arguments {
    /// Everything that decides whether a change is good: formatting, lints, docs, protocol, rules of the tree, tests, crash tests.
    Test {
        /// Only the steps whose names contain this.
        #[arg(long)]
        only: Option<String>,
    },
    /// The rules of the tree: layers, dependency edges, file sizes, protocol rules.
    Check,
    /// Measures the server against its floors on this machine, in one run, and writes target/bench.json.
    Bench {
        #[command(flatten)]
        options: bench::Options,
    },
    /// A real Kafka and a real CQL server on loopback, for tests.
    Cluster {
        #[command(subcommand)]
        what: cluster::Command,
    },
    /// Breaks a real cluster under load and judges what its clients were told.
    Faults {
        #[command(flatten)]
        options: faults::Options,
    },
    /// Simulates processors, log and store under faults.
    Sim {
        #[command(subcommand)]
        what: Sim,
    },
}

#[derive(Subcommand)]
enum Sim {
    /// Replays one seed, with a trace of what happened.
    Replay {
        /// The seed that a failure printed.
        seed: u64,
    },
    /// Runs a range of seeds.
    Range {
        /// The first seed.
        from: u64,
        /// The seed after the last.
        to: u64,
    },
}

fn main() -> anyhow::Result<()> {
    let root = root();
    match Arguments::parse() {
        Arguments::Test { only } => test::run(&root, only.as_deref()),
        Arguments::Check => check::run(&root),
        Arguments::Bench { options } => bench::run(&root, &options),
        Arguments::Cluster { what } => cluster::run(&root, &what),
        Arguments::Faults { options } => faults::run(&root, &options),
        Arguments::Sim { what: Sim::Replay { seed } } => sim(&root, ("PLAZA_SIM_SEED", seed.to_string())),
        Arguments::Sim { what: Sim::Range { from, to } } => sim(&root, ("PLAZA_SIM_SEEDS", format!("{from}..{to}"))),
    }
}

fn sim(root: &std::path::Path, variable: (&str, String)) -> anyhow::Result<()> {
    let arguments = ["test", "--package", "plaza-processor", "--test", "sim", "--", "--nocapture"];
    command::run(root, "cargo", &arguments, &[(variable.0, &variable.1)])
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}
