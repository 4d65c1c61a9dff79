//! A deployment on a real Kafka and a real CQL server: each instance of a service a process of the real binary, on this machine, with topics and
//! tables of its own.

use std::{
    fs::OpenOptions,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use tempfile::TempDir;

use crate::{port, wait::wait_for};

/// The services that others find by addresses.
const PEERS: [&str; 4] = ["accounts", "graph", "chat", "moments"];
/// What a process says when it serves.
const BANNER: &str = concat!("plaza ", env!("CARGO_PKG_VERSION"), ": ");
const START: Duration = Duration::from_secs(60);
const STOP: Duration = Duration::from_secs(30);

/// What a deployment is made of.
pub struct Plan<'a> {
    /// The real binary.
    pub binary: &'a Path,
    /// Addresses of the brokers, separated by commas.
    pub kafka: &'a str,
    /// Addresses of the CQL nodes, separated by commas.
    pub cql: &'a str,
    /// What all names of topics, groups and keyspaces begin with: lowercase letters and digits.
    pub prefix: &'a str,
    /// Partitions of each topic.
    pub partitions: u32,
    /// How many instances of which service; they are called `chat1`, `chat2` and so on.
    pub instances: &'a [(&'static str, usize)],
    /// Those that are not started yet.
    pub later: &'a [&'a str],
    /// Tables that are added to each one's configuration, TOML.
    pub settings: &'a str,
}

/// The processes. They are killed when this is dropped; their topics and tables stay.
pub struct Cluster {
    folder: TempDir,
    binary: PathBuf,
    processes: Vec<Process>,
}

struct Process {
    name: String,
    service: &'static str,
    config: PathBuf,
    log: PathBuf,
    /// Where the other processes reach it, where clients do if it is a gateway, and where its metrics are.
    internal: u16,
    public: u16,
    admin: u16,
    child: Option<Child>,
    banners_before: usize,
}

impl Cluster {
    /// Creates topics and tables, and starts the processes.
    ///
    /// # Errors
    /// The servers cannot be used, or a process does not serve within a minute.
    pub async fn start(plan: &Plan<'_>) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut processes = Vec::new();
        for (service, count) in plan.instances {
            for instance in 1..=*count {
                let name = format!("{service}{instance}");
                let (config, log) = (folder.path().join(format!("{name}.toml")), folder.path().join(format!("{name}.log")));
                let (internal, public, admin) = (port::free()?, port::free()?, port::free()?);
                processes.push(Process { name, service, config, log, internal, public, admin, child: None, banners_before: 0 });
            }
        }
        for process in &processes {
            std::fs::write(&process.config, config(plan, process, &processes))?;
        }
        let first = processes.first().context("a deployment of nothing")?;
        let migrated = Command::new(plan.binary).arg("--config").arg(&first.config).arg("migrate").output().context("plaza migrate")?;
        ensure!(migrated.status.success(), "plaza migrate: {}", String::from_utf8_lossy(&migrated.stderr));
        let mut cluster = Self { folder, binary: plan.binary.to_owned(), processes };
        let names: Vec<_> = cluster.processes.iter().map(|process| process.name.clone()).collect();
        let now = || names.iter().filter(|name| !plan.later.contains(&name.as_str()));
        for name in now() {
            cluster.launch(name)?;
        }
        for name in now() {
            cluster.is_up(name).await?;
        }
        Ok(cluster)
    }

    /// Where clients connect.
    ///
    /// # Errors
    /// There is no gateway.
    pub fn address(&self) -> anyhow::Result<String> {
        let gateway = self.processes.iter().find(|process| process.service == "gateway").context("no gateway")?;
        Ok(format!("http://127.0.0.1:{}", gateway.public))
    }

    /// Where the configuration and the logs are.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where the other processes reach this one.
    ///
    /// # Errors
    /// There is no such process.
    pub fn internal(&self, name: &str) -> anyhow::Result<SocketAddr> {
        let process = self.processes.iter().find(|process| process.name == name).with_context(|| format!("no process {name}"))?;
        Ok((Ipv4Addr::LOCALHOST, process.internal).into())
    }

    /// What the processes have said, for a test that failed.
    #[must_use]
    pub fn logs(&self) -> String {
        let of = |process: &Process| format!("{}:\n{}", process.name, std::fs::read_to_string(&process.log).unwrap_or_default());
        self.processes.iter().map(of).collect()
    }

    /// The folder stays when this is dropped.
    pub fn keep_logs(&mut self) {
        self.folder.disable_cleanup(true);
    }

    /// The process ids of what runs of a service, or of all of them.
    #[must_use]
    pub fn pids(&self, service: Option<&str>) -> Vec<u32> {
        let of = self.processes.iter().filter(|process| service.is_none_or(|service| process.service == service));
        of.filter_map(|process| process.child.as_ref().map(Child::id)).collect()
    }

    /// The ports that tell the metrics of what runs of a service.
    #[must_use]
    pub fn admin_ports(&self, service: &str) -> Vec<u16> {
        let of = self.processes.iter().filter(|process| process.service == service && process.child.is_some());
        of.map(|process| process.admin).collect()
    }

    /// Starts a process without waiting for it.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn launch(&mut self, name: &str) -> anyhow::Result<()> {
        let binary = self.binary.clone();
        let process = self.named(name)?;
        process.banners_before = process.banners();
        let log = OpenOptions::new().create(true).append(true).open(&process.log)?;
        let mut command = Command::new(binary);
        command.arg("--config").arg(&process.config).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        process.child = Some(command.spawn().with_context(|| format!("starting {name}"))?);
        Ok(())
    }

    /// Waits until a process serves.
    ///
    /// # Errors
    /// It does not within a minute.
    pub async fn is_up(&mut self, name: &str) -> anyhow::Result<()> {
        let process = self.named(name)?;
        let serves = || std::future::ready(if process.banners() > process.banners_before { Ok(()) } else { Err("not yet") });
        let up = wait_for("the process serves", START, serves).await;
        up.with_context(|| format!("{name}: {}", std::fs::read_to_string(&process.log).unwrap_or_default()))
    }

    /// `kill -9`, and waits until it is gone.
    ///
    /// # Errors
    /// It is not running.
    pub fn kill(&mut self, name: &str) -> anyhow::Result<()> {
        let Some(mut child) = self.named(name)?.child.take() else { bail!("{name} is not running") };
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// SIGTERM, and waits until it is gone.
    ///
    /// # Errors
    /// It is not running, or does not end well.
    pub async fn stop(&mut self, name: &str) -> anyhow::Result<()> {
        let Some(mut child) = self.named(name)?.child.take() else { bail!("{name} is not running") };
        let asked = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
        let ended = wait_for("the process stops", STOP, || std::future::ready(child.try_wait().ok().flatten().ok_or("still running")));
        let status = ended.await;
        if status.is_err() {
            let _ = (child.kill(), child.wait());
        }
        ensure!(asked?.success() && status?.success(), "{name} did not end well");
        Ok(())
    }

    /// Ends everything in order: gateways first.
    ///
    /// # Errors
    /// One does not end well.
    pub async fn stop_all(mut self) -> anyhow::Result<()> {
        let running = self.processes.iter().filter(|process| process.child.is_some());
        let names: Vec<_> = running.map(|process| process.name.clone()).rev().collect();
        for name in names {
            self.stop(&name).await?;
        }
        Ok(())
    }

    fn named(&mut self, name: &str) -> anyhow::Result<&mut Process> {
        self.processes.iter_mut().find(|process| process.name == name).with_context(|| format!("no process {name}"))
    }
}

fn config(plan: &Plan<'_>, process: &Process, all: &[Process]) -> String {
    let peers = PEERS.map(|service| {
        let of = all.iter().filter(|peer| peer.service == service);
        let addresses: Vec<_> = of.map(|peer| format!("127.0.0.1:{}", peer.internal)).collect();
        format!("{service} = \"{}\"", addresses.join(","))
    });
    let nodes: Vec<_> = plan.cql.split(',').map(|node| format!("\"{}\"", node.trim())).collect();
    format!(
        "services = \"{service}\"\n[accounts.password]\nmemory_kib = 64\npasses = 1\n\
         [gateway]\nlisten = \"127.0.0.1:{public}\"\nrate_limits = false\n\
         [cluster]\nlisten = \"127.0.0.1:{internal}\"\npartitions = {partitions}\n[cluster.peers]\n{peers}\n\
         [kafka]\nbrokers = \"{kafka}\"\nprefix = \"{prefix}.\"\n\
         [cql]\nnodes = [{nodes}]\nuser = \"cassandra\"\npassword = \"cassandra\"\nkeyspace_prefix = \"{prefix}_\"\nreplication_factor = {replicas}\n\
         [telemetry]\nlog_level = \"warn,plaza_event_log_kafka::groups=debug\"\nadmin_listen = \"127.0.0.1:{admin}\"\n{settings}\n",
        settings = plan.settings,
        service = process.service,
        public = process.public,
        internal = process.internal,
        admin = process.admin,
        partitions = plan.partitions,
        peers = peers.join("\n"),
        kafka = plan.kafka,
        prefix = plan.prefix,
        nodes = nodes.join(","),
        replicas = nodes.len().min(3),
    )
}

impl Process {
    /// How often it has said that it serves.
    fn banners(&self) -> usize {
        std::fs::read_to_string(&self.log).unwrap_or_default().matches(BANNER).count()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for child in self.processes.iter_mut().filter_map(|process| process.child.as_mut()) {
            let _ = (child.kill(), child.wait());
        }
    }
}
