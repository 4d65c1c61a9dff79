//! The store as its callers see it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod conditional;
mod crash;
mod files;
mod last_write;
mod lifecycle;
mod order;
mod power;
mod reading;
mod sequence;

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use plaza_embedded_db::{Db, Options};

/// Set in a process that a test starts to run the same test in another role; the folder to use.
const CHILD_FOLDER: &str = "PLAZA_TEST_CHILD_FOLDER";

fn open(folder: &Path) -> Db {
    Db::open(folder, Options::default()).unwrap()
}

fn child_folder() -> Option<PathBuf> {
    let folder = std::env::var_os(CHILD_FOLDER)?;
    // The test harness has begun a line: what follows is read line by line.
    println!();
    Some(folder.into())
}

/// This test binary again, running only `test`. `shell` is what the shell does before.
fn child(test: &str, folder: &Path, shell: &str) -> Command {
    let mut command = Command::new("sh");
    command
        .arg("-c")
        .arg(format!("{shell} exec \"$0\" \"$@\""))
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(CHILD_FOLDER, folder)
        .stdout(Stdio::piped());
    command
}

fn big_endian(number: u64) -> Vec<u8> {
    number.to_be_bytes().to_vec()
}

fn number(bytes: &[u8]) -> u64 {
    u64::from_be_bytes(bytes.try_into().unwrap())
}
