//! A real server as a child process: started on a free port, killed at any moment, started again on the same data.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, bail};
use tokio::net::TcpStream;

use crate::wait::wait_for;

/// A `plaza` process of a test's own. Killed when dropped.
pub struct Server {
    binary: PathBuf,
    data: PathBuf,
    arguments: Vec<String>,
    port: u16,
    child: Option<Child>,
}

impl Server {
    /// Starts this binary with this data folder and waits until it takes connections. What it prints goes to `server.log` beside the data.
    ///
    /// # Errors
    /// It does not start within 30 s.
    pub async fn start(binary: impl Into<PathBuf>, data: impl Into<PathBuf>, arguments: &[&str]) -> anyhow::Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let mut server = Self { binary: binary.into(), data: data.into(), arguments, port, child: None };
        server.restart().await?;
        Ok(server)
    }

    /// Starts it again, on the same port and data.
    ///
    /// # Errors
    /// It does not start within 30 s.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
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
        wait_for("the server takes connections", Duration::from_secs(30), || async {
            TcpStream::connect(("127.0.0.1", self.port)).await.map(drop)
        })
        .await
        .with_context(|| std::fs::read_to_string(self.log_path()).unwrap_or_default())
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
        let Some(mut child) = self.child.take() else { bail!("the server is not running") };
        let asked = Command::new("kill").args(["-TERM", &child.id().to_string()]).status()?;
        if !asked.success() {
            bail!("kill -TERM answered {asked}");
        }
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
    }
}
