//! `cargo xtask test`: every step, in the order in which they fail soonest.

use std::{path::Path, time::Instant};

use anyhow::Context;

use crate::{check, command, external::External, faults, proto};

type Step = (&'static str, fn(&Path, &mut External) -> anyhow::Result<()>);

/// The steps that may use real servers.
const TESTS: &str = "tests";
const FAULTS: &str = "faults";

const STEPS: [Step; 9] = [
    ("lockfile", |root, _| {
        let resolved = command::output(root, "cargo", &["metadata", "--locked", "--quiet", "--format-version", "1"]);
        resolved.map(drop).context("Cargo.lock does not fit the manifests")
    }),
    ("format", |root, _| command::run(root, "cargo", &["fmt", "--all", "--check"], &[])),
    ("check", |root, _| check::run(root)),
    ("proto", |root, _| proto::run(root)),
    ("lint", |root, _| {
        let arguments = ["clippy", "--quiet", "--workspace", "--all-targets", "--features", features(root)?, "--", "--deny", "warnings"];
        command::run(root, "cargo", &arguments, &[])
    }),
    ("docs", |root, _| {
        let arguments = ["doc", "--quiet", "--workspace", "--no-deps", "--document-private-items"];
        command::run(root, "cargo", &arguments, &[("RUSTDOCFLAGS", "--deny warnings")])
    }),
    (TESTS, |root, external| {
        let variables = external.ready()?;
        let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
        command::run(root, "cargo", &["test", "--workspace", "--features", features(root)?], &variables)
    }),
    (FAULTS, |root, external| {
        let variables = external.ready()?;
        if external.has_both() {
            command::run(
                root,
                "cargo",
                &["build", "--quiet", "--package", "plaza", "--package", "plaza-faults", "--features", features(root)?],
                &[],
            )?;
            faults::suite(root, "debug", true, &[], &variables)?;
        } else {
            let skipped = "the fault suite takes Kafka and Cassandra";
            anyhow::ensure!(std::env::var("PLAZA_TEST_EXTERNAL").as_deref() != Ok("require"), skipped);
            println!("SKIP {skipped}");
        }
        external.stop();
        Ok(())
    }),
    ("mistakes", |root, _| {
        let arguments = ["test", "--package", "plaza-processor", "--features", "mistakes", "--test", "sim"];
        command::run(root, "cargo", &arguments, &[])
    }),
];

/// What a deployment may be built with: encrypted connections to Kafka, whose OpenSSL takes perl with its modules, and make.
fn features(root: &Path) -> anyhow::Result<&'static str> {
    let has = |program: &str, arguments: &[&str]| command::output(root, program, arguments).is_some();
    if has("perl", &["-MIPC::Cmd", "-MFindBin", "-e", "1"]) && has("make", &["--version"]) {
        return Ok("plaza/kafka-tls");
    }
    let skipped = "encrypted connections to Kafka take perl and make";
    anyhow::ensure!(std::env::var("PLAZA_TEST_EXTERNAL").as_deref() != Ok("require"), skipped);
    println!("SKIP {skipped}");
    Ok("")
}

pub(crate) fn run(root: &Path, only: Option<&str>) -> anyhow::Result<()> {
    let steps: Vec<_> = STEPS.iter().filter(|(name, _)| only.is_none_or(|only| name.contains(only))).collect();
    // They start while the steps before are at work.
    let mut external =
        if steps.iter().any(|(name, _)| [TESTS, FAULTS].contains(name)) { External::start(root)? } else { External::default() };
    for (name, step) in steps {
        println!("== {name}");
        let started = Instant::now();
        step(root, &mut external)?;
        println!("== {name}: good after {} s", started.elapsed().as_secs());
    }
    Ok(())
}
