//! One process of a deployment: the real binary with a configuration of its own, and what it wrote to its log.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use plaza_testkit::wait::wait_for;

/// What a process says when it serves.
const BANNER: &str = concat!("plaza ", env!("CARGO_PKG_VERSION"), ": ");
const START: Duration = Duration::from_secs(60);
const STOP: Duration = Duration::from_secs(20);

/// One process, running or not.
pub(crate) struct Process {
    pub(crate) name: String,
    pub(crate) service: &'static str,
    pub(crate) port: u16,
    config: PathBuf,
    log: PathBuf,
    child: Option<Child>,
    banners_before: usize,
}

impl Process {
    /// Its files are in `folder`.
    pub(crate) fn new(name: String, service: &'static str, port: u16, folder: &Path) -> Self {
        let file = |ending| folder.join(format!("{name}.{ending}"));
        let (config, log) = (file("toml"), file("log"));
        Self { name, service, port, config, log, child: None, banners_before: 0 }
    }

    pub(crate) fn config(&self) -> &Path {
        &self.config
    }

    pub(crate) fn is_running(&self) -> bool {
        self.child.is_some()
    }

    /// Starts it without waiting for it; `settings` are set beside its file.
    pub(crate) fn launch(&mut self, binary: &Path, settings: &[&str]) -> anyhow::Result<()> {
        self.banners_before = self.banners();
        let log = std::fs::OpenOptions::new().create(true).append(true).open(&self.log)?;
        let mut command = Command::new(binary);
        command.arg("--config").arg(&self.config).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        command.args(settings.iter().flat_map(|setting| ["--set", setting]));
        self.child = Some(command.spawn().with_context(|| format!("starting {}", self.name))?);
        Ok(())
    }

    /// Waits until it serves. One that ends before, for example because the nodes do not answer, is started again, as whatever watches over
    /// processes does.
    pub(crate) async fn is_up(&mut self, binary: &Path, settings: &[&str]) -> anyhow::Result<()> {
        let up = wait_for("the process serves", START, || std::future::ready(self.serves(binary, settings))).await;
        up.with_context(|| format!("{}: {}", self.name, self.log()))
    }

    fn serves(&mut self, binary: &Path, settings: &[&str]) -> Result<(), String> {
        if self.banners() > self.banners_before {
            return Ok(());
        }
        if let Some(Ok(Some(status))) = self.child.as_mut().map(Child::try_wait) {
            println!(
                "{} ended while it started and is started again: {status}, {}",
                self.name,
                self.log().lines().last().unwrap_or_default()
            );
            self.launch(binary, settings).map_err(|error| error.to_string())?;
        }
        Err("not yet".to_owned())
    }

    /// `kill -9`, and waits until it is gone.
    pub(crate) fn kill(&mut self) -> anyhow::Result<()> {
        let Some(mut child) = self.child.take() else { bail!("{} is not running", self.name) };
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Sends a signal, such as `STOP`.
    pub(crate) fn signal(&self, signal: &str) -> anyhow::Result<()> {
        let child = self.child.as_ref().with_context(|| format!("{} is not running", self.name))?;
        let sent = Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status()?;
        ensure!(sent.success(), "kill -{signal} answered {sent}");
        Ok(())
    }

    /// Waits until it ended by itself, and well.
    pub(crate) async fn has_ended(&mut self) -> anyhow::Result<()> {
        let Some(mut child) = self.child.take() else { bail!("{} is not running", self.name) };
        let ended = wait_for("the process stops", STOP, || std::future::ready(child.try_wait().ok().flatten().ok_or("still running")));
        let status = ended.await;
        if status.is_err() {
            let _ = (child.kill(), child.wait());
        }
        ensure!(status?.success(), "{} did not end well", self.name);
        Ok(())
    }

    /// All it has written.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// How often it has said that it serves.
    fn banners(&self) -> usize {
        self.log().matches(BANNER).count()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = (child.kill(), child.wait());
        }
    }
}
