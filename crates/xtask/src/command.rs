//! Running other programs, from the root of the tree.

use std::{path::Path, process::Command};

use anyhow::{Context, bail};

/// Runs a program to its end.
///
/// # Errors
/// It cannot be started, or ends with another code than 0.
pub(crate) fn run(root: &Path, program: &str, arguments: &[&str], variables: &[(&str, &str)]) -> anyhow::Result<()> {
    let shown = format!("{program} {}", arguments.join(" "));
    let status = Command::new(program)
        .args(arguments)
        .envs(variables.iter().copied())
        .current_dir(root)
        .status()
        .with_context(|| format!("starting `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` ended with {status}");
    }
    Ok(())
}

/// What a program prints, when it ends well.
pub(crate) fn output(root: &Path, program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).current_dir(root).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}
