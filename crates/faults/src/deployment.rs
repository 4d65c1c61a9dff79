//! A deployment on one machine: two instances of each service, each a process of the real binary, with a way in that leads to whichever gateway
//! is up, and ways to the brokers and nodes that can be shut for some of the processes.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, ensure};
use plaza_testkit::port;
use tempfile::TempDir;

use crate::{gate::Gate, process::Process, servers::Servers};

const SERVICES: [&str; 4] = ["accounts", "graph", "chat", "moments"];
const INSTANCES: usize = 2;
/// Those behind gates to the nodes: one of a service that writes what only it may write, one of a service that writes on conditions.
const GATED: [&str; 2] = ["chat1", "accounts1"];
/// The one behind gates to the brokers, which have one such address each.
const GATED_FROM_BROKERS: &str = GATED[0];
/// How long a member of a group that says nothing keeps its partitions.
pub(crate) const SESSION: Duration = Duration::from_secs(3);
/// Partitions of each topic.
pub(crate) const PARTITIONS: u32 = 8;

/// What a deployment is made with.
pub(crate) struct Setup {
    pub(crate) binary: PathBuf,
    pub(crate) kafka: String,
    /// For each broker, where it listens and where it says it does.
    pub(crate) kafka_gates: Vec<(SocketAddr, SocketAddr)>,
    pub(crate) cql: Vec<SocketAddr>,
    pub(crate) xtask: PathBuf,
}

/// The processes.
pub(crate) struct Deployment {
    folder: TempDir,
    keeps_logs: bool,
    binary: PathBuf,
    xtask: PathBuf,
    pub(crate) processes: Vec<Process>,
    /// What processes that are launched are told beside their files.
    pub(crate) settings: &'static [&'static str],
    front: Gate,
    /// For each CQL node the gates to it, at the node's own address: one for each process behind gates.
    pub(crate) nodes: Vec<Vec<Gate>>,
    /// For one of these: a gate for each broker, where there can be some.
    pub(crate) brokers: Vec<Gate>,
    pub(crate) servers: Servers,
}

impl Deployment {
    /// Creates topics and tables of its own and starts everything.
    pub(crate) async fn start(setup: &Setup) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let prefix = format!("f{:07x}", rand::random::<u32>() >> 4);
        let mut ports = Vec::new();
        let mut processes = Vec::new();
        for service in SERVICES.into_iter().chain(["gateway"]) {
            // One more of chat, which is started when a test scales out.
            for instance in 1..=INSTANCES + usize::from(service == "chat") {
                ports.push(port::free()?);
                let port = if service == "gateway" { port::free()? } else { ports[ports.len() - 1] };
                processes.push(Process::new(format!("{service}{instance}"), service, port, folder.path()));
            }
        }
        let mut brokers = Vec::new();
        for (listener, gate) in &setup.kafka_gates {
            brokers.push(Gate::open(*gate, vec![*listener]).await?);
        }
        // The driver finds the nodes by their addresses and the port it was given.
        let gate_ports = [port::free()?, port::free()?];
        let mut nodes = Vec::new();
        for node in &setup.cql {
            let mut gates = Vec::new();
            for port in gate_ports {
                gates.push(Gate::open(SocketAddr::new(node.ip(), port), vec![*node]).await?);
            }
            nodes.push(gates);
        }
        let gated_brokers: Vec<_> = brokers.iter().map(|gate| gate.address.to_string()).collect();
        for (process, port) in processes.iter().zip(&ports) {
            let peers = SERVICES.map(|service| {
                let of: Vec<_> = processes.iter().zip(&ports).filter(|(peer, _)| peer.service == service).collect();
                let addresses: Vec<_> = of.into_iter().map(|(_, port)| format!("127.0.0.1:{port}")).collect();
                format!("{service} = \"{}\"", addresses.join(","))
            });
            let gate_port = GATED.iter().zip(gate_ports).find(|(gated, _)| process.name == **gated).map(|(_, port)| port);
            let nodes = setup.cql.iter().map(|node| (node.ip(), gate_port.unwrap_or(node.port())));
            let nodes: Vec<_> = nodes.map(|(ip, port)| format!("\"{ip}:{port}\"")).collect();
            let kafka =
                if process.name == GATED_FROM_BROKERS && !gated_brokers.is_empty() { gated_brokers.join(",") } else { setup.kafka.clone() };
            let config = format!(
                "services = \"{}\"\n[accounts.password]\nmemory_kib = 64\npasses = 1\n[gateway]\nlisten = \"127.0.0.1:{}\"\nrate_limits = false\n\
                 [cluster]\nlisten = \"127.0.0.1:{port}\"\npartitions = {PARTITIONS}\n[cluster.peers]\n{}\n\
                 [kafka]\nbrokers = \"{kafka}\"\nprefix = \"{prefix}.\"\nsession_timeout = \"{}s\"\n\
                 [cql]\nnodes = [{}]\nuser = \"cassandra\"\npassword = \"cassandra\"\nkeyspace_prefix = \"{prefix}_\"\nreplication_factor = {}\n",
                process.service,
                if process.service == "gateway" { process.port } else { 0 },
                peers.join("\n"),
                SESSION.as_secs(),
                nodes.join(","),
                setup.cql.len().min(3),
            );
            std::fs::write(process.config(), config)?;
        }
        let gateways = processes.iter().filter(|process| process.service == "gateway");
        let gateways = gateways.map(|process| SocketAddr::from((Ipv4Addr::LOCALHOST, process.port))).collect();
        let front = Gate::open((Ipv4Addr::LOCALHOST, 0).into(), gateways).await?;
        let servers = Servers::new(&setup.kafka, &setup.cql, &prefix);
        let (binary, xtask) = (setup.binary.clone(), setup.xtask.clone());
        let mut deployment = Self { folder, keeps_logs: false, binary, xtask, processes, settings: &[], front, nodes, brokers, servers };
        deployment.migrate()?;
        deployment.start_all().await?;
        Ok(deployment)
    }

    fn migrate(&self) -> anyhow::Result<()> {
        // By none behind gates: this waits for it, and gates must not depend on what does.
        let direct = self.processes.iter().find(|process| !GATED.contains(&process.name.as_str())).context("all are behind gates")?;
        let mut command = Command::new(&self.binary);
        let migrated = command.arg("--config").arg(direct.config()).arg("migrate").output().context("plaza migrate")?;
        ensure!(migrated.status.success(), "plaza migrate: {}", String::from_utf8_lossy(&migrated.stderr));
        Ok(())
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
        self.keeps_logs = true;
    }

    pub(crate) fn keeps_logs(&self) -> bool {
        self.keeps_logs
    }

    /// The place of a process that is named so.
    pub(crate) fn place(&self, name: &str) -> anyhow::Result<usize> {
        self.processes.iter().position(|process| process.name == name).with_context(|| format!("no process {name}"))
    }

    /// The places of those that run.
    pub(crate) fn running(&self) -> Vec<usize> {
        (0..self.processes.len()).filter(|place| self.processes[*place].is_running()).collect()
    }

    /// Starts a process without waiting for it.
    pub(crate) fn launch(&mut self, place: usize) -> anyhow::Result<()> {
        self.processes[place].launch(&self.binary, self.settings)
    }

    async fn is_up(&mut self, place: usize) -> anyhow::Result<()> {
        self.processes[place].is_up(&self.binary, self.settings).await
    }

    /// Starts a process and waits until it serves.
    pub(crate) async fn bring_up(&mut self, place: usize) -> anyhow::Result<()> {
        self.launch(place)?;
        self.is_up(place).await
    }

    /// SIGTERM, and waits until it is gone.
    pub(crate) async fn stop_one(&mut self, place: usize) -> anyhow::Result<()> {
        self.processes[place].signal("TERM")?;
        self.processes[place].has_ended().await
    }

    /// Starts two instances of everything and waits until they serve.
    pub(crate) async fn start_all(&mut self) -> anyhow::Result<()> {
        let places: Vec<_> = (0..self.processes.len()).filter(|place| self.processes[*place].name != "chat3").collect();
        for place in &places {
            self.launch(*place)?;
        }
        for place in places {
            self.is_up(place).await?;
        }
        Ok(())
    }

    /// Ends everything in order.
    pub(crate) async fn stop_all(&mut self) -> anyhow::Result<()> {
        let running = self.running();
        for place in &running {
            self.processes[*place].signal("TERM")?;
        }
        for place in running {
            self.processes[place].has_ended().await?;
        }
        Ok(())
    }

    /// Its gates are shut, so that those of another one can be where they were.
    pub(crate) async fn close(self) {
        for gate in self.nodes.into_iter().flatten().chain(self.brokers).chain([self.front]) {
            gate.close().await;
        }
    }

    /// Kills, starts, freezes or thaws a broker or a node.
    pub(crate) async fn server(&self, verb: &str, name: &str) -> anyhow::Result<()> {
        let mut command = tokio::process::Command::new(&self.xtask);
        let done = command.args(["cluster", verb, name]).output().await.context("cargo xtask cluster")?;
        ensure!(done.status.success(), "cluster {verb} {name}: {}", String::from_utf8_lossy(&done.stderr));
        Ok(())
    }

    /// Lines of level ERROR, and of panics, in all logs.
    pub(crate) fn errors(&self) -> Vec<String> {
        let mut errors = Vec::new();
        for process in &self.processes {
            let log = process.log();
            let loud = log.lines().filter(|line| line.contains(" ERROR ") || line.contains("panicked"));
            errors.extend(loud.map(|line| format!("{}: {line}", process.name)));
        }
        errors
    }
}
