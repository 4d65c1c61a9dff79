//! `cargo xtask faults`: builds the binary and the fault suite, starts a cluster for them, runs the suite and stops what it started.

use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::{
    cluster::{Cluster, Kind, Tools, Wanted},
    command,
};

/// How the suite is run.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The form that every test run includes: one broker, one node, few rounds.
    #[arg(long)]
    short: bool,
    /// Only faults whose names contain one of these, separated by commas.
    #[arg(long)]
    only: Option<String>,
    /// Repeats the choices of a run.
    #[arg(long)]
    seed: Option<u64>,
    /// Where the table of results goes, such as docs/faults.md.
    #[arg(long)]
    report: Option<PathBuf>,
}

/// Runs the suite with an optimized binary on a cluster that is left as it was found.
pub(crate) fn run(root: &Path, options: &Options) -> anyhow::Result<()> {
    command::run(root, "cargo", &["build", "--release", "--package", "plaza", "--package", "plaza-faults"], &[])?;
    let (folder, servers) = (root.join("target/cluster"), if options.short { 1 } else { 3 });
    let wanted = Wanted { brokers: Some(servers), nodes: Some(servers), ..Wanted::default() };
    let mut cluster = Cluster::open(&folder, &folder, true)?;
    let was_up = Kind::ALL.into_iter().flat_map(|kind| cluster.servers(kind)).any(|server| server.pid().is_some());
    cluster.up(&Tools::find()?, &wanted)?;
    let variables: Vec<_> = Kind::ALL.into_iter().filter_map(|kind| cluster.variable(kind)).collect();
    // The suite kills and starts servers by the commands of this program.
    drop(cluster);
    let mut arguments = Vec::new();
    if let Some(only) = &options.only {
        arguments.extend(["--only".to_owned(), only.clone()]);
    }
    if let Some(seed) = options.seed {
        arguments.extend(["--seed".to_owned(), seed.to_string()]);
    }
    if let Some(report) = &options.report {
        arguments.extend(["--report".to_owned(), report.display().to_string()]);
    }
    let done = suite(root, "release", options.short, &arguments, &variables);
    if !was_up {
        Cluster::open(&folder, &folder, true)?.down(true)?;
    }
    done
}

/// The suite itself, built in `profile`, on the servers that the variables name.
pub(crate) fn suite(
    root: &Path,
    profile: &str,
    short: bool,
    arguments: &[String],
    variables: &[(&'static str, String)],
) -> anyhow::Result<()> {
    let built = root.join("target").join(profile);
    let program = built.join("plaza-faults");
    let (binary, xtask) = (built.join("plaza"), std::env::current_exe().context("the path of this program")?);
    let mut all = vec!["--binary".to_owned(), binary.display().to_string(), "--xtask".to_owned(), xtask.display().to_string()];
    if short {
        all.push("--short".to_owned());
    }
    all.extend_from_slice(arguments);
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    command::run(root, &program.display().to_string(), &all, &variables)
}
