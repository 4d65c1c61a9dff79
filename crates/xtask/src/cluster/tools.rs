//! What the servers need: Java, Maven, and the jars that Maven fetches once.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, bail};

use super::server::Kind;

const POM: &str = include_str!("../../cluster/pom.xml");
const COPY: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies";
/// Kafka 4 runs on no older one.
const OLDEST: u32 = 17;
/// Cassandra 5 installs a security manager, which newer ones do not have.
const NEWEST: u32 = 23;

/// The programs found on this machine.
pub(crate) struct Tools {
    java: PathBuf,
}

impl Tools {
    /// # Errors
    /// One is missing or too old: which, and what to do.
    pub(crate) fn find() -> anyhow::Result<Self> {
        let java = env::var_os("JAVA_HOME")
            .filter(|home| !home.is_empty())
            .map_or_else(|| "java".into(), |home| PathBuf::from(home).join("bin/java"));
        let shown = java.display();
        let Ok(output) = Command::new(&java).arg("-version").output() else {
            bail!("`{shown}` is missing: install a Java runtime, version {OLDEST} to {NEWEST} (Debian: openjdk-17-jre-headless)");
        };
        let text = String::from_utf8_lossy(&output.stderr);
        match major(&text) {
            Some(OLDEST..=NEWEST) => {}
            Some(other) => bail!("`{shown}` is version {other}: the servers run on {OLDEST} to {NEWEST}; JAVA_HOME chooses another"),
            None => bail!("`{shown} -version` says no version: {}", text.trim()),
        }
        if Command::new("mvn").arg("--version").output().is_err() {
            bail!("`mvn` is missing: install Maven (Debian: maven), which fetches the servers' jars");
        }
        Ok(Self { java })
    }

    pub(crate) fn java(&self) -> Command {
        Command::new(&self.java)
    }
}

/// The folder with one kind's jars, fetched if it is not there yet.
///
/// # Errors
/// Maven fails.
pub(crate) fn jars(lib: &Path, kind: Kind) -> anyhow::Result<PathBuf> {
    let folder = lib.join(kind.name());
    let done = folder.join("pom.xml");
    if fs::read_to_string(&done).is_ok_and(|made_of| made_of == POM) {
        return Ok(folder);
    }
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    let pom = lib.join(format!("{}.pom.xml", kind.name()));
    fs::write(&pom, POM)?;
    println!("cluster: fetching the jars of {}", kind.name());
    let status = Command::new("mvn")
        .args(["--quiet", "--batch-mode", "--file"])
        .arg(&pom)
        .args([&format!("--activate-profiles={}", kind.name()), COPY, "-DincludeScope=runtime", "-Dmdep.useBaseVersion=true"])
        .arg(format!("-DoutputDirectory={}", folder.display()))
        .status()
        .context("starting mvn")?;
    if !status.success() {
        bail!("mvn could not fetch the jars of {}: {status}", kind.name());
    }
    // Last: its presence says that all of them are there.
    fs::rename(pom, done)?;
    Ok(folder)
}

/// 17 of `openjdk version "17.0.15"`, 8 of `java version "1.8.0_402"`.
fn major(text: &str) -> Option<u32> {
    let version = text.split('"').nth(1)?;
    let mut numbers = version.split(|letter: char| !letter.is_ascii_digit());
    match numbers.next()?.parse().ok()? {
        1 => numbers.next()?.parse().ok(),
        number => Some(number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_java() {
        assert_eq!(major("openjdk version \"17.0.15\" 2025-04-15"), Some(17));
        assert_eq!(major("java version \"1.8.0_402\""), Some(8));
        assert_eq!(major("openjdk version \"25-ea\" 2025-09-16"), Some(25));
        assert_eq!(major("no such thing"), None);
    }
}
