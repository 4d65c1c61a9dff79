//! A real server as a child process: started on a free port, killed at any moment, started again on the same data.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Weak},
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use tempfile::TempDir;
use tokio::{net::TcpStream, sync::Mutex};

use crate::{port, wait::wait_for};

/// A `plaza` process of a test's own. Killed when dropped.
pub struct Server {
    binary: PathBuf,
    data: PathBuf,
    arguments: Vec<String>,
    port: u16,
    child: Option<Child>,
    folder: Option<TempDir>,
}

/// One server for the tests of a file that need none of their own: started by the first, killed after the last that runs.
pub struct Shared(Mutex<Weak<Server>>);

impl Shared {
    /// No server yet.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "a default could not be a constant")]
    pub const fn new() -> Self {
        Self(Mutex::const_new(Weak::new()))
    }

    /// The server, as [`Server::temporary`] starts it.
    ///
    /// # Errors
    /// It does not start within 30 s.
    pub async fn get(&self, binary: &str, arguments: &[&str]) -> anyhow::Result<Arc<Server>> {
        let mut shared = self.0.lock().await;
        if let Some(server) = shared.upgrade() {
            return Ok(server);
        }
        let server = Arc::new(Server::temporary(binary, arguments).await?);
        *shared = Arc::downgrade(&server);
        Ok(server)
    }
}

impl Server {
    /// As [`Server::start`], with data that goes when it is dropped.
    ///
    /// # Errors
    /// It does not start within 30 s.
    pub async fn temporary(binary: &str, arguments: &[&str]) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut server = Self::start(binary, folder.path().join("data"), arguments).await?;
        server.folder = Some(folder);
        Ok(server)
    }

    /// Starts this binary with this data folder and waits until it takes connections. What it prints goes to `server.log` beside the data.
    ///
    /// # Errors
    /// It does not start within 30 s.
    pub async fn start(binary: impl Into<PathBuf>, data: impl Into<PathBuf>, arguments: &[&str]) -> anyhow::Result<Self> {
        let port = port::free()?;
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let mut server = Self { binary: binary.into(), data: data.into(), arguments, port, child: None, folder: None };
        server.restart().await?;
        Ok(server)
    }

    /// Starts it again, on the same port and data.
    ///
    /// # Errors
    /// It does not start within 30 s.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.launch()?;
        wait_for("the server takes connections", Duration::from_secs(30), || async {
            TcpStream::connect(("127.0.0.1", self.port)).await.map(drop)
        })
        .await
        .with_context(|| std::fs::read_to_string(self.log_path()).unwrap_or_default())
    }

    /// Starts it again without waiting for it: it can be killed while it starts.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn launch(&mut self) -> anyhow::Result<()> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.log_path())?;
        let child = Command::new(&self.binary)
            .args(&self.arguments)
            .args(["--data-dir", &self.data.to_string_lossy(), "--listen", &format!("127.0.0.1:{}", self.port)])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {}", self.binary.display()))?;
        self.child = Some(child);
        Ok(())
    }

    /// Its address for clients.
    #[must_use]
    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Where its data is.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Where what it printed is.
    #[must_use]
    pub fn log_path(&self) -> PathBuf {
        self.data.with_extension("log")
    }

    /// What it printed so far.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn log(&self) -> anyhow::Result<String> {
        Ok(std::fs::read_to_string(self.log_path())?)
    }

    /// Fails on a line of level WARN or ERROR, or of a panic, that has none of these texts in it.
    ///
    /// # Errors
    /// The lines.
    pub fn assert_quiet_log(&self, expected: &[&str]) -> anyhow::Result<()> {
        let log = self.log()?;
        let loud = |line: &&str| [" WARN ", " ERROR ", "panicked"].iter().any(|word| line.contains(word));
        let unexpected: Vec<_> = log.lines().filter(loud).filter(|line| !expected.iter().any(|text| line.contains(text))).collect();
        ensure!(unexpected.is_empty(), "the server logged {unexpected:#?}");
        Ok(())
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// `kill -9`, and waits until it is gone.
    ///
    /// # Errors
    /// It is not running.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        let Some(mut child) = self.child.take() else { bail!("the server is not running") };
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Asks it to stop by SIGTERM, and waits for at most `limit`; answers its exit code.
    ///
    /// # Errors
    /// It is not running, or still is after `limit`.
    pub async fn stop(&mut self, limit: Duration) -> anyhow::Result<Option<i32>> {
        self.stop_by("TERM", limit).await
    }

    /// The same by another signal, such as `INT`.
    ///
    /// # Errors
    /// As [`Server::stop`].
    pub async fn stop_by(&mut self, signal: &str, limit: Duration) -> anyhow::Result<Option<i32>> {
        let Some(mut child) = self.child.take() else { bail!("the server is not running") };
        let asked = Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status()?;
        ensure!(asked.success(), "kill -{signal} answered {asked}");
        let status =
            wait_for("the server stops", limit, || std::future::ready(child.try_wait().ok().flatten().ok_or("still running"))).await;
        if status.is_err() {
            let _ = child.kill();
        }
        Ok(status?.code())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        // The data goes after the process.
        drop(self.folder.take());
    }
}
