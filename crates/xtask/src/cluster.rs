//! `cargo xtask cluster`: a real Kafka and a real CQL server (Apache Cassandra, which speaks what ScyllaDB speaks) on this machine's loopback, for
//! the tests that need one. Everything is below one folder: the jars, and for each server its data, its log and its pid. Linux only: it looks
//! processes up in /proc.

mod cassandra;
mod kafka;
mod layout;
mod server;
mod tools;

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};

pub(crate) use layout::Wanted;
pub(crate) use server::{Kind, Server};
pub(crate) use tools::Tools;

/// What can be done with the cluster.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Starts what is down and waits until it answers. Data is kept.
    Up {
        #[command(flatten)]
        wanted: Wanted,
    },
    /// Stops every server.
    Down {
        /// Deletes their data too, not the jars.
        #[arg(long)]
        wipe: bool,
    },
    /// Each server's address, process and state, and the variables that tests read.
    Status,
    /// Starts single servers, like `kafka2`.
    Start {
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// Stops single servers in order.
    Stop {
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// Kills single servers, as a crash would.
    Kill {
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// Freezes single servers (SIGSTOP).
    Pause {
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// Lets frozen servers go on (SIGCONT).
    Resume {
        #[arg(required = true)]
        names: Vec<String>,
    },
}

pub(crate) fn run(root: &Path, command: &Command) -> anyhow::Result<()> {
    let folder = root.join("target/cluster");
    let each = |names: &[String], act: &dyn Fn(&Cluster, &Server) -> anyhow::Result<()>| {
        let cluster = Cluster::open(&folder, &folder, true)?;
        let servers = names.iter().map(|name| cluster.server(name)).collect::<anyhow::Result<Vec<_>>>()?;
        servers.iter().try_for_each(|server| act(&cluster, server))
    };
    match command {
        Command::Up { wanted } => {
            let mut cluster = Cluster::open(&folder, &folder, true)?;
            cluster.up(&Tools::find()?, wanted)?;
        }
        Command::Down { wipe } => Cluster::open(&folder, &folder, true)?.down(*wipe)?,
        Command::Status => {}
        Command::Start { names } => {
            let tools = Tools::find()?;
            each(names, &|cluster, server| {
                cluster.launch(&tools, server)?;
                server.await_up()
            })?;
        }
        Command::Stop { names } => each(names, &|_, server| server.stop())?,
        Command::Kill { names } => each(names, &|_, server| server.kill())?,
        Command::Pause { names } => each(names, &|_, server| server.pause())?,
        Command::Resume { names } => each(names, &|_, server| server.resume())?,
    }
    status(&folder)
}

fn status(folder: &Path) -> anyhow::Result<()> {
    let cluster = Cluster::look(folder)?;
    for server in Kind::ALL.into_iter().flat_map(|kind| cluster.servers(kind)) {
        let pid = server.pid().map_or_else(|| "-".to_owned(), |pid| pid.as_raw_nonzero().to_string());
        println!("{:<11} {:<16} {pid:>8}  {:<8}  {}", server.name(), server.address.to_string(), server.state(), server.log().display());
    }
    let variables = cluster.variables();
    let shown: Vec<_> = variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
    println!("{}", if shown.is_empty() { "no cluster: `cargo xtask cluster up` makes one".to_owned() } else { shown.join(" ") });
    Ok(())
}

/// The variable in which a test finds the servers of a kind.
pub(crate) fn variable(kind: Kind) -> &'static str {
    match kind {
        Kind::Kafka => "PLAZA_TEST_KAFKA",
        Kind::Cassandra => "PLAZA_TEST_CQL",
    }
}

/// The variable in which a test finds a broker that asks who its clients are: `user:password@address`.
const SASL: &str = "PLAZA_TEST_KAFKA_SASL";

/// The servers of one folder. Whoever has it open for changes is alone with it.
pub(crate) struct Cluster {
    folder: PathBuf,
    lib: PathBuf,
    shape: layout::Shape,
    detached: bool,
    _lock: Option<File>,
}

impl Cluster {
    /// Waits for others who have it open. `jars` is the folder that clusters share; servers that are `detached` outlive the terminal.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub(crate) fn open(jars: &Path, folder: &Path, detached: bool) -> anyhow::Result<Self> {
        fs::create_dir_all(folder)?;
        // Java is given paths, and runs elsewhere.
        let folder = folder.canonicalize()?;
        let lock = File::create(folder.join("lock"))?;
        lock.lock().with_context(|| format!("locking {}", folder.display()))?;
        let lib = jars.canonicalize()?.join("lib");
        Ok(Self { shape: layout::Shape::read(&folder)?, folder, lib, detached, _lock: Some(lock) })
    }

    /// To look at only, whoever else has it open.
    fn look(folder: &Path) -> anyhow::Result<Self> {
        let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
        Ok(Self { shape: layout::Shape::read(&folder)?, lib: folder.join("lib"), folder, detached: true, _lock: None })
    }

    /// Fetches the jars that a later [`Self::up`] needs.
    pub(crate) fn fetch(&self, wanted: &Wanted) -> anyhow::Result<()> {
        wanted.kinds().try_for_each(|kind| tools::jars(&self.lib, kind).map(drop))
    }

    /// Starts what is down of what is wanted, and waits until all of it answers.
    ///
    /// # Errors
    /// There is data of a cluster of another shape, or a server does not start.
    pub(crate) fn up(&mut self, tools: &Tools, wanted: &Wanted) -> anyhow::Result<()> {
        let shape = self.shape.clone().with(wanted)?;
        self.fetch(wanted)?;
        shape.write(&self.folder)?;
        self.shape = shape;
        let servers: Vec<_> = wanted.kinds().flat_map(|kind| self.servers(kind)).collect();
        for server in &servers {
            self.launch(tools, server)?;
            // Nodes join a ring one after another.
            if server.kind == Kind::Cassandra {
                server.await_listening()?;
            }
        }
        servers.iter().try_for_each(Server::await_up)
    }

    /// # Errors
    /// A server does not end, not even by force.
    pub(crate) fn down(&mut self, wipe: bool) -> anyhow::Result<()> {
        let servers: Vec<_> = Kind::ALL.into_iter().flat_map(|kind| self.servers(kind)).collect();
        Server::stop_all(&servers)?;
        if wipe {
            for home in servers.iter().map(|server| &server.home).filter(|home| home.exists()) {
                fs::remove_dir_all(home)?;
            }
            self.shape = layout::Shape::forget(&self.folder)?;
        }
        Ok(())
    }

    /// Starts one server's process, if it has none; one that is paused goes on.
    pub(crate) fn launch(&self, tools: &Tools, server: &Server) -> anyhow::Result<()> {
        if server.pid().is_some() {
            return server.resume();
        }
        let jars = tools::jars(&self.lib, server.kind)?;
        let mut command = match server.kind {
            Kind::Kafka => kafka::command(server, &self.shape, &jars, tools)?,
            Kind::Cassandra => cassandra::command(server, &self.shape, &jars, tools)?,
        };
        server.launch(&mut command, self.detached)
    }

    pub(crate) fn servers(&self, kind: Kind) -> Vec<Server> {
        self.shape.servers(&self.folder, kind)
    }

    /// The server of a name, like `kafka2`.
    ///
    /// # Errors
    /// There is none: which there are.
    pub(crate) fn server(&self, name: &str) -> anyhow::Result<Server> {
        let servers: Vec<_> = Kind::ALL.into_iter().flat_map(|kind| self.servers(kind)).collect();
        let Some(server) = servers.iter().find(|server| server.name() == name) else {
            bail!("no server {name:?}; there are {}", servers.iter().map(Server::name).collect::<Vec<_>>().join(" "));
        };
        Ok(server.clone())
    }

    /// For each broker, where it listens for clients that come through a gate, and where the gate is to be.
    pub(crate) fn kafka_gates(&self) -> String {
        let gate = |server: &Server| {
            format!("127.0.0.1:{}=127.0.0.1:{}", self.shape.gated_port(server.number), self.shape.gate_port(server.number))
        };
        self.servers(Kind::Kafka).iter().map(gate).collect::<Vec<_>>().join(",")
    }

    /// The variables in which tests find the servers.
    pub(crate) fn variables(&self) -> Vec<(&'static str, String)> {
        let who = format!("{}:{}", kafka::USER, kafka::PASSWORD);
        let sasl = self.servers(Kind::Kafka).first().map(|first| (SASL, format!("{who}@127.0.0.1:{}", self.shape.sasl_port(first.number))));
        Kind::ALL.into_iter().filter_map(|kind| self.variable(kind)).chain(sasl).collect()
    }

    /// The variable in which a test finds the servers of a kind, and their addresses, if there are any.
    pub(crate) fn variable(&self, kind: Kind) -> Option<(&'static str, String)> {
        let addresses: Vec<_> = self.servers(kind).iter().map(|server| server.address.to_string()).collect();
        (!addresses.is_empty()).then(|| (variable(kind), addresses.join(",")))
    }
}
