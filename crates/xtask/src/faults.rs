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
    /// A file of outcomes that several runs add to, so that the table has them all.
    #[arg(long)]
    results: Option<PathBuf>,
    /// Where the table of results goes, such as docs/faults.md.
    #[arg(long)]
    report: Option<PathBuf>,
    /// What whoever reads the table is to know of the run.
    #[arg(long)]
    note: Option<String>,
    /// Without optimizations, which are long in building.
    #[arg(long)]
    debug: bool,
}

/// Runs the suite on a cluster that is left as it was found.
pub(crate) fn run(root: &Path, options: &Options) -> anyhow::Result<()> {
    let (profile, folder_of_profile) = if options.debug { ("dev", "debug") } else { ("release", "release") };
    command::run(root, "cargo", &["build", "--profile", profile, "--package", "plaza", "--package", "plaza-faults"], &[])?;
    let (folder, servers) = (root.join("target/cluster"), if options.short { 1 } else { 3 });
    let wanted = Wanted { brokers: Some(servers), nodes: Some(servers), ..Wanted::default() };
    let mut cluster = Cluster::open(&folder, &folder, true)?;
    let was_up = Kind::ALL.into_iter().flat_map(|kind| cluster.servers(kind)).any(|server| server.pid().is_some());
    cluster.up(&Tools::find()?, &wanted)?;
    let variables = cluster.variables();
    let gates = cluster.kafka_gates();
    // The suite kills and starts servers by the commands of this program.
    drop(cluster);
    let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
    let given = [
        ("--kafka-gates", Some(gates)),
        ("--only", options.only.clone()),
        ("--seed", options.seed.map(|seed| seed.to_string())),
        ("--results", path(&options.results)),
        ("--report", path(&options.report)),
        ("--note", options.note.clone()),
    ];
    let arguments: Vec<_> = given.into_iter().filter_map(|(name, value)| Some([name.to_owned(), value?])).flatten().collect();
    let done = suite(root, folder_of_profile, options.short, &arguments, &variables);
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
    // With a mark when the tree is not as it was committed.
    if let Some(commit) = command::output(root, "git", &["describe", "--always", "--dirty", "--exclude=*"]) {
        all.extend(["--commit".to_owned(), commit.trim().to_owned()]);
    }
    all.extend_from_slice(arguments);
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    command::run(root, &program.display().to_string(), &all, &variables)
}
