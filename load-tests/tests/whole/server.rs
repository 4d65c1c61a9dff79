//! A server in this process, on a port of its own.

use anyhow::Context;
use plaza::config::Config;
use plaza_load::{run::Options, scenario::Scenario, target::Target};
use plaza_runtime::{Supervisor, shutdown};

/// A server and its data.
pub(crate) struct Server {
    running: Option<plaza::Running>,
    supervisor: Supervisor,
    config: Config,
    pub(crate) folder: tempfile::TempDir,
}

impl Server {
    /// Starts one with cheap passwords.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut config = Config { data_dir: folder.path().join("data"), ..Config::default() };
        config.gateway.listen = "127.0.0.1:0".to_owned();
        config.accounts.password.memory_kib = 64;
        config.accounts.password.passes = 1;
        let supervisor = Supervisor::new();
        let running = plaza::assemble(config.clone(), supervisor.clone()).await?;
        Ok(Self { running: Some(running), supervisor, config, folder })
    }

    /// How to run a scenario on it.
    pub(crate) fn options(&self, name: &str, change: impl FnOnce(&mut Scenario)) -> anyhow::Result<Options> {
        let address = format!("http://{}", self.running.as_ref().and_then(plaza::Running::address).context("the gateway does not run")?);
        let mut scenario = Scenario::load(name)?;
        change(&mut scenario);
        anyhow::ensure!(scenario.problems().is_empty(), "{:?}", scenario.problems());
        Ok(Options {
            target: Target::new(&address, false)?,
            name: name.to_owned(),
            scenario,
            population: self.folder.path().join(format!("{name}.people.json")),
            seed: 1,
            call_connections: 4,
            server_pids: Vec::new(),
            metrics: Vec::new(),
            shown: false,
            followed: Default::default(),
            check: true,
        })
    }

    /// Stops it in order, with its data still there.
    pub(crate) async fn close(&mut self) {
        shutdown::shut_down(&self.supervisor, self.config.shutdown).await;
        if let Some(running) = self.running.take() {
            running.close().await;
        }
    }

    /// Stops it in order.
    pub(crate) async fn stop(mut self) {
        self.close().await;
    }
}
