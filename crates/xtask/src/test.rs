//! `cargo xtask test`: every step, in the order in which they fail soonest.

use std::{path::Path, time::Instant};

use anyhow::Context;

use crate::{check, command, proto};

type Step = (&'static str, fn(&Path) -> anyhow::Result<()>);

const STEPS: [Step; 8] = [
    ("lockfile", |root| {
        let resolved = command::output(root, "cargo", &["metadata", "--locked", "--quiet", "--format-version", "1"]);
        resolved.map(drop).context("Cargo.lock does not fit the manifests")
    }),
    ("format", |root| command::run(root, "cargo", &["fmt", "--all", "--check"], &[])),
    ("check", check::run),
    ("proto", proto::run),
    ("lint", |root| {
        let arguments = ["clippy", "--quiet", "--workspace", "--all-targets", "--", "--deny", "warnings"];
        command::run(root, "cargo", &arguments, &[])
    }),
    ("docs", |root| {
        let arguments = ["doc", "--quiet", "--workspace", "--no-deps", "--document-private-items"];
        command::run(root, "cargo", &arguments, &[("RUSTDOCFLAGS", "--deny warnings")])
    }),
    ("tests", |root| command::run(root, "cargo", &["test", "--workspace"], &[])),
    ("mistakes", |root| {
        let arguments = ["test", "--package", "plaza-processor", "--features", "mistakes", "--test", "sim"];
        command::run(root, "cargo", &arguments, &[])
    }),
];

pub(crate) fn run(root: &Path, only: Option<&str>) -> anyhow::Result<()> {
    for (name, step) in STEPS.iter().filter(|(name, _)| only.is_none_or(|only| name.contains(only))) {
        println!("== {name}");
        let started = Instant::now();
        step(root)?;
        println!("== {name}: good after {} s", started.elapsed().as_secs());
    }
    Ok(())
}
