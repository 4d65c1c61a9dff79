//! `cargo xtask bench`: builds the binary and the benchmark, optimized, and runs them; for a cluster on the servers that the environment names, or on
//! one broker and one node of its own, which are gone afterwards.

use std::path::Path;

use anyhow::ensure;

use crate::{command, external::External};

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Several processes on a real Kafka and a real CQL server, in place of one; writes target/bench-cluster.json.
    #[arg(long)]
    cluster: bool,
    /// Passed on: names of the parts to run, all without.
    #[arg(trailing_var_arg = true)]
    parts: Vec<String>,
}

/// Runs the benchmark.
pub(crate) fn run(root: &Path, options: &Options) -> anyhow::Result<()> {
    command::run(root, "cargo", &["build", "--release", "--package", "plaza", "--package", "plaza-bench"], &[])?;
    let program = root.join("target/release/plaza-bench").display().to_string();
    let parts = options.parts.iter().map(String::as_str);
    if !options.cluster {
        return command::run(root, &program, &parts.collect::<Vec<_>>(), &[]);
    }
    let mut servers = External::start(root)?;
    let variables = servers.ready()?;
    ensure!(servers.has_both(), "a cluster takes a Kafka and a CQL server");
    let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let arguments: Vec<_> = std::iter::once("cluster").chain(parts).collect();
    command::run(root, &program, &arguments, &variables)
}
