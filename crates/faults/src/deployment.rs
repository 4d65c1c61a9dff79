//! A deployment on one machine: two instances of each service, each a process of the real binary, with a way in that leads to whichever gateway
//! is up, and ways to the CQL nodes that can be shut for one of the processes.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use plaza_testkit::wait::wait_for;
use tempfile::TempDir;

use crate::gate::Gate;

const SERVICES: [&str; 4] = ["accounts", "graph", "chat", "moments"];
const INSTANCES: usize = 2;
/// What a process says when it serves.
const BANNER: &str = concat!("plaza ", env!("CARGO_PKG_VERSION"), ": ");
const START: Duration = Duration::from_secs(60);
/// How long a member of a group that says nothing keeps its partitions.
pub(crate) const SESSION: Duration = Duration::from_secs(3);

/// The processes.
pub(crate) struct Deployment {
    folder: TempDir,
    binary: PathBuf,
    xtask: PathBuf,
    pub(crate) processes: Vec<Process>,
    front: Gate,
    /// For one process: a gate for each CQL node, at the node's own address.
    pub(crate) nodes: Vec<Gate>,
}

/// One process.
pub(crate) struct Process {
    pub(crate) name: String,
    pub(crate) service: &'static str,
    config: PathBuf,
    log: PathBuf,
    port: u16,
    child: Option<Child>,
    banners_before: usize,
}

impl Deployment {
    /// Creates topics and tables of its own and starts everything.
    pub(crate) async fn start(binary: &Path, kafka: &str, cql: &str, xtask: PathBuf) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let prefix = format!("f{:07x}", rand::random::<u32>() >> 4);
        let mut ports = Vec::new();
        let mut processes = Vec::new();
        for service in SERVICES.into_iter().chain(["gateway"]) {
            // One more of chat, which is started when a test scales out.
            for instance in 1..=INSTANCES + usize::from(service == "chat") {
                let name = format!("{service}{instance}");
                ports.push(free_port()?);
                let port = if service == "gateway" { free_port()? } else { ports[ports.len() - 1] };
                let config = folder.path().join(format!("{name}.toml"));
                let log = folder.path().join(format!("{name}.log"));
                processes.push(Process { name, service, config, log, port, child: None, banners_before: 0 });
            }
        }
        let nodes: Vec<SocketAddr> = cql.split(',').map(str::parse).collect::<Result<_, _>>().context("PLAZA_TEST_CQL")?;
        let replicas = nodes.len().min(3);
        // The driver finds the nodes by their addresses and the port it was given.
        let gate_port = free_port()?;
        let mut gates = Vec::new();
        for node in &nodes {
            gates.push(Gate::open(SocketAddr::new(node.ip(), gate_port), vec![*node]).await?);
        }
        for (place, process) in processes.iter().enumerate() {
            let peers = SERVICES.map(|service| {
                let of: Vec<_> = processes.iter().zip(&ports).filter(|(peer, _)| peer.service == service).collect();
                let addresses: Vec<_> = of.into_iter().map(|(_, port)| format!("127.0.0.1:{port}")).collect();
                format!("{service} = \"{}\"", addresses.join(","))
            });
            let gated = process.name == "chat1";
            let nodes: Vec<_> =
                nodes.iter().map(|node| format!("\"{}:{}\"", node.ip(), if gated { gate_port } else { node.port() })).collect();
            let config = format!(
                "services = \"{}\"\n[accounts.password]\nmemory_kib = 64\npasses = 1\n[gateway]\nlisten = \"127.0.0.1:{}\"\nrate_limits = false\n\
                 [cluster]\nlisten = \"127.0.0.1:{}\"\npartitions = 8\n[cluster.peers]\n{}\n\
                 [kafka]\nbrokers = \"{kafka}\"\nprefix = \"{prefix}.\"\nsession_timeout = \"{}s\"\n\
                 [cql]\nnodes = [{}]\nkeyspace_prefix = \"{prefix}_\"\nreplication_factor = {replicas}\n",
                process.service,
                if process.service == "gateway" { process.port } else { 0 },
                ports[place],
                peers.join("\n"),
                SESSION.as_secs(),
                nodes.join(","),
            );
            std::fs::write(&process.config, config)?;
        }
        let first = &processes[0].config;
        let migrated = Command::new(binary).arg("--config").arg(first).arg("migrate").output().context("plaza migrate")?;
        ensure!(migrated.status.success(), "plaza migrate: {}", String::from_utf8_lossy(&migrated.stderr));
        let gateways = processes.iter().filter(|process| process.service == "gateway");
        let gateways = gateways.map(|process| SocketAddr::from((Ipv4Addr::LOCALHOST, process.port))).collect();
        let front = Gate::open((Ipv4Addr::LOCALHOST, 0).into(), gateways).await?;
        let mut deployment = Self { folder, binary: binary.to_owned(), xtask, processes, front, nodes: gates };
        for place in 0..deployment.processes.len() {
            if deployment.processes[place].name != "chat3" {
                deployment.launch(place)?;
            }
        }
        for place in 0..deployment.processes.len() {
            if deployment.processes[place].child.is_some() {
                deployment.is_up(place).await?;
            }
        }
        Ok(deployment)
    }

    /// Where clients connect.
    pub(crate) fn address(&self) -> String {
        format!("http://{}", self.front.address)
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The folder stays when this is dropped.
    pub(crate) fn keep_logs(&mut self) {
        self.folder.disable_cleanup(true);
    }

    /// The place of a process that is named so.
    pub(crate) fn place(&self, name: &str) -> anyhow::Result<usize> {
        self.processes.iter().position(|process| process.name == name).with_context(|| format!("no process {name}"))
    }

    /// The places of those that run.
    pub(crate) fn running(&self) -> Vec<usize> {
        (0..self.processes.len()).filter(|place| self.processes[*place].child.is_some()).collect()
    }

    /// Starts a process without waiting for it.
    pub(crate) fn launch(&mut self, place: usize) -> anyhow::Result<()> {
        let process = &mut self.processes[place];
        process.banners_before = process.banners();
        let log = std::fs::OpenOptions::new().create(true).append(true).open(&process.log)?;
        let mut command = Command::new(&self.binary);
        command.arg("--config").arg(&process.config).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        process.child = Some(command.spawn().with_context(|| format!("starting {}", process.name))?);
        Ok(())
    }

    /// Waits until a process serves.
    pub(crate) async fn is_up(&self, place: usize) -> anyhow::Result<()> {
        let process = &self.processes[place];
        let serves = || std::future::ready(if process.banners() > process.banners_before { Ok(()) } else { Err("not yet") });
        wait_for("the process serves", START, serves)
            .await
            .with_context(|| format!("{}: {}", process.name, std::fs::read_to_string(&process.log).unwrap_or_default()))
    }

    /// `kill -9`, and waits until it is gone.
    pub(crate) fn kill(&mut self, place: usize) -> anyhow::Result<()> {
        let process = &mut self.processes[place];
        let Some(mut child) = process.child.take() else { bail!("{} is not running", process.name) };
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// SIGTERM, and waits until it is gone.
    pub(crate) async fn stop_one(&mut self, place: usize) -> anyhow::Result<()> {
        self.signal(place, "TERM")?;
        self.has_ended(place).await
    }

    async fn has_ended(&mut self, place: usize) -> anyhow::Result<()> {
        let process = &mut self.processes[place];
        let Some(mut child) = process.child.take() else { bail!("{} is not running", process.name) };
        let ended = wait_for("the process stops", Duration::from_secs(20), || {
            std::future::ready(child.try_wait().ok().flatten().ok_or("still running"))
        });
        let status = ended.await;
        if status.is_err() {
            let _ = (child.kill(), child.wait());
        }
        ensure!(status?.success(), "{} did not end well", process.name);
        Ok(())
    }

    /// Sends a signal, such as `STOP`.
    pub(crate) fn signal(&self, place: usize, signal: &str) -> anyhow::Result<()> {
        let process = &self.processes[place];
        let child = process.child.as_ref().with_context(|| format!("{} is not running", process.name))?;
        let sent = Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status()?;
        ensure!(sent.success(), "kill -{signal} answered {sent}");
        Ok(())
    }

    /// Kills, starts, freezes or thaws a broker or a node.
    pub(crate) async fn server(&self, verb: &str, name: &str) -> anyhow::Result<()> {
        let mut command = tokio::process::Command::new(&self.xtask);
        let done = command.args(["cluster", verb, name]).output().await.context("cargo xtask cluster")?;
        ensure!(done.status.success(), "cluster {verb} {name}: {}", String::from_utf8_lossy(&done.stderr));
        Ok(())
    }

    /// Ends everything in order.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        for place in self.running() {
            self.signal(place, "TERM")?;
        }
        for place in self.running() {
            self.has_ended(place).await?;
        }
        Ok(())
    }

    /// Lines of level ERROR, and of panics, in all logs.
    pub(crate) fn errors(&self) -> Vec<String> {
        let mut errors = Vec::new();
        for process in &self.processes {
            let log = std::fs::read_to_string(&process.log).unwrap_or_default();
            let loud = log.lines().filter(|line| line.contains(" ERROR ") || line.contains("panicked"));
            errors.extend(loud.map(|line| format!("{}: {line}", process.name)));
        }
        errors
    }
}

impl Process {
    /// How often it has said that it serves.
    fn banners(&self) -> usize {
        std::fs::read_to_string(&self.log).unwrap_or_default().matches(BANNER).count()
    }
}

impl Drop for Deployment {
    fn drop(&mut self) {
        for process in &mut self.processes {
            if let Some(mut child) = process.child.take() {
                let _ = (child.kill(), child.wait());
            }
        }
    }
}

/// A port that nobody has, and that no outgoing connection is given while its process is down.
fn free_port() -> anyhow::Result<u16> {
    let free = |_| {
        let port = rand::random_range(10_000..28_000);
        TcpListener::bind(("0.0.0.0", port)).is_ok().then_some(port)
    };
    (0..1000).find_map(free).context("no port is free")
}
