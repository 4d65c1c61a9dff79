//! The protocol checks that buf makes. Where buf is missing the step says so; with `PLAZA_TEST_EXTERNAL=require` that is a failure.

use std::{env, path::Path};

use anyhow::bail;

use crate::command;

pub(crate) fn run(root: &Path) -> anyhow::Result<()> {
    if command::output(root, "buf", &["--version"]).is_none() {
        if env::var("PLAZA_TEST_EXTERNAL").is_ok_and(|value| value == "require") {
            bail!("buf is not installed (Python package buf-bin)");
        }
        println!("SKIP proto: buf is not installed (Python package buf-bin)");
        return Ok(());
    }
    command::run(root, "buf", &["lint", "proto"], &[])?;
    // What is being changed is compared with the last commit; what was committed, with the commit before.
    let changed = command::output(root, "git", &["status", "--porcelain", "--", "proto"]).is_some_and(|status| !status.trim().is_empty());
    let against = if changed { "HEAD" } else { "HEAD~1" };
    if command::output(root, "git", &["cat-file", "-e", &format!("{against}:proto/buf.yaml")]).is_none() {
        println!("proto: {against} has no protocol to compare with");
        return Ok(());
    }
    command::run(root, "buf", &["breaking", "proto", "--against", &format!(".git#ref={against},subdir=proto")], &[])
}
