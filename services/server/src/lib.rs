//! Assembles the process: opens the log and the stores, builds the services that the configuration names, and wires them to each other and to
//! those of other processes.

mod admin;
mod callbacks;
mod cluster;
pub mod config;
mod ground;
mod internal;
mod secrets;

use std::{collections::HashMap, net::SocketAddr};

use anyhow::Context;
pub use cluster::{Meant, migrate};
use config::Config;
use plaza_processor::Replies;
use plaza_proto::internal::v1::callback_service_server::CallbackServiceServer;
use plaza_rpc::{
    Peer, StackDeps,
    remote::{Dialer, Instances},
    stack,
};
use plaza_runtime::{Clock, Rng, Stage, Supervisor};
use plaza_telemetry::{Telemetry, rpc_metrics::RpcMetrics};
use tokio::net::{TcpListener, TcpSocket};
use tonic::service::Routes;

use self::{callbacks::Callbacks, cluster::until_answered, ground::Ground};

/// Connections that wait to be accepted. All clients of a gateway come back at once when it was away: those beyond are dropped by the kernel, and
/// try again a second later, and then three. The kernel takes its own limit if that is lower (`net.core.somaxconn`, 4,096 by default).
const BACKLOG: u32 = 4096;

/// A process that serves.
pub struct Running {
    config: Config,
    supervisor: Supervisor,
    ground: Ground,
    telemetry: Option<Telemetry>,
    public: Option<SocketAddr>,
    admin: Option<SocketAddr>,
}

/// Starts everything that the configuration names and returns when it serves. Inside a tokio runtime, once in a process.
///
/// # Errors
/// A port or the data folder is in use, a file cannot be read, or the data is damaged.
pub async fn start(config: Config) -> anyhow::Result<Running> {
    let telemetry = plaza_telemetry::init(&config.telemetry, "plaza")?;
    let mut running = assemble(config, Supervisor::watched()?).await?;
    running.admin = admin::serve(&running.config, telemetry.metrics(), &running.supervisor).await?;
    running.telemetry = Some(telemetry);
    Ok(running)
}

/// The same without the process's own: no logging, metrics or admin port, no watchdog. For tests in the process.
///
/// # Errors
/// As [`start`].
pub async fn assemble(config: Config, supervisor: Supervisor) -> anyhow::Result<Running> {
    // Two providers of cryptography are compiled in, one of them only because the CQL driver names it, and TLS asks which one to use. Whoever
    // runs this inside a program of their own may have chosen already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    // Large for what it holds while it waits, and whoever waits for it would be so too.
    Box::pin(assemble_services(config, supervisor)).await
}

async fn assemble_services(config: Config, supervisor: Supervisor) -> anyhow::Result<Running> {
    // Every listener is bound before any work is done: a port in use is known at once.
    let public = if config.runs("gateway") { Some(bind(&config.gateway.listen).await?) } else { None };
    let internal = if config.is_clustered() { Some(bind(&config.cluster.listen).await?) } else { None };
    let (clock, rng) = (Clock::system(), Rng::system());
    let ground = Ground::open(&config, &clock, &rng).await?;
    let dialer = dialer(&config.cluster.tls)?;
    let replies = match &internal {
        Some(listener) => {
            let address = internal::advertised(&config.cluster, listener.local_addr()?)?;
            Replies::reachable(rng.next_u64(), address, Callbacks::new(dialer.clone(), supervisor.clone()))
        }
        None => Replies::new(rng.next_u64()),
    };
    let stack_deps = StackDeps { metrics: RpcMetrics::new() };
    let mut services = Services { config: &config, dialer, supervisor: &supervisor, stack: &stack_deps, routes: Vec::new() };
    let [accounts, graph, chat, moments] = ["accounts", "graph", "chat", "moments"].map(|service| services.peer(service));

    if config.runs("accounts") {
        let deps = plaza_accounts::Deps {
            store: ground.accounts().await?,
            log: ground.log.clone(),
            peers: plaza_accounts::Peers { graph: graph.clone() },
            clock: clock.clone(),
            rng: rng.clone(),
            supervisor: supervisor.clone(),
            page_tokens: ground.page_tokens.clone(),
        };
        // The first one makes keys, and all read them.
        let build = async || plaza_accounts::build(config.accounts.clone(), deps.clone()).await.context("accounts");
        let built = until_answered(build).await?;
        services.add("accounts", built.routes, &accounts);
    }
    if config.runs("graph") {
        let deps = plaza_graph::Deps {
            store: ground.graph().await?,
            log: ground.log.clone(),
            replies: replies.clone(),
            peers: plaza_graph::Peers { accounts: accounts.clone() },
            clock: clock.clone(),
            rng: rng.clone(),
            supervisor: supervisor.clone(),
            page_tokens: ground.page_tokens.clone(),
        };
        let built = plaza_graph::build(config.graph.clone(), deps).await.context("graph")?;
        services.add("graph", built.routes, &graph);
    }
    if config.runs("chat") {
        let deps = plaza_chat::Deps {
            store: ground.chat().await?,
            log: ground.log.clone(),
            replies: replies.clone(),
            peers: plaza_chat::Peers { graph: graph.clone() },
            clock: clock.clone(),
            rng: rng.clone(),
            supervisor: supervisor.clone(),
            page_tokens: ground.page_tokens.clone(),
            processors: plaza_processor::Config::default(),
        };
        let built = plaza_chat::build(config.chat.clone(), deps).await.context("chat")?;
        services.add("chat", built.routes, &chat);
    }
    if config.runs("moments") {
        let deps = plaza_moments::Deps {
            store: ground.moments().await?,
            log: ground.log.clone(),
            replies: replies.clone(),
            peers: plaza_moments::Peers { graph: graph.clone(), accounts: accounts.clone() },
            clock: clock.clone(),
            rng: rng.clone(),
            supervisor: supervisor.clone(),
            page_tokens: ground.page_tokens.clone(),
        };
        let built = plaza_moments::build(config.moments.clone(), deps).await.context("moments")?;
        services.add("moments", built.routes, &moments);
    }
    let mut routes = services.routes;
    if let Some(listener) = internal {
        routes.push(Routes::new(CallbackServiceServer::new(callbacks::Receiver(replies))));
        internal::serve(&config.cluster, listener, routes, &supervisor).await?;
    }
    let public = match public {
        Some(listener) => {
            let peers = HashMap::from([
                ("plaza.accounts.v1", accounts),
                ("plaza.graph.v1", graph),
                ("plaza.chat.v1", chat),
                ("plaza.moments.v1", moments),
            ]);
            let log = ground.log.clone();
            let deps = plaza_gateway::Deps { log, peers, clock, rng, supervisor: supervisor.clone(), stack: stack_deps };
            let built = plaza_gateway::build(config.gateway.clone(), deps).await.context("gateway")?;
            Some(built.serve(listener)?)
        }
        None => None,
    };
    ground.watch(&supervisor);
    Ok(Running { config, supervisor, ground, telemetry: None, public, admin: None })
}

async fn bind(address: &str) -> anyhow::Result<TcpListener> {
    let bound = async {
        let addresses = tokio::net::lookup_host(address).await?;
        let mut last = None;
        for address in addresses {
            match listen(address) {
                Ok(listener) => return Ok(listener),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| std::io::Error::other("no such address")))
    };
    bound.await.with_context(|| format!("cannot listen on {address}"))
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // The port may be left in TIME_WAIT by the process before.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn dialer(tls: &config::MutualTls) -> anyhow::Result<Dialer> {
    if !tls.is_set() {
        return Ok(Dialer::default());
    }
    let [authority, certificate, key] = tls.read()?;
    Dialer::mutual(&authority, &certificate, &key, &tls.name).context("cluster.tls")
}

/// The services of this process, and how each service is reached.
struct Services<'a> {
    config: &'a Config,
    dialer: Dialer,
    supervisor: &'a Supervisor,
    stack: &'a StackDeps,
    /// For the other processes.
    routes: Vec<Routes>,
}

impl Services<'_> {
    /// The instances of a service where the configuration says, or the service of this process, once it is built.
    fn peer(&self, service: &'static str) -> Peer {
        let targets = self.config.cluster.peers.of(service);
        if targets.is_empty() {
            return Peer::slot();
        }
        let instances = Instances::new();
        let peer = instances.peer();
        let (dialer, stop) = (self.dialer.clone(), self.supervisor.stopping(Stage::Producers));
        self.supervisor.spawn("peers", Stage::Producers, async move {
            stop.run_until_cancelled(instances.keep(&targets, &dialer)).await;
            Ok(())
        });
        peer
    }

    fn add(&mut self, service: &'static str, routes: Routes, peer: &Peer) {
        let routes = stack(service, routes, self.stack);
        self.routes.push(routes.clone());
        // Has no effect where the instances are told by the configuration.
        peer.bind(Peer::in_process(routes));
    }
}

impl Running {
    /// What runs, where, and what to do next, in a few lines.
    #[must_use]
    pub fn banner(&self) -> String {
        let of = if self.config.is_clustered() { "a process of a cluster" } else { "one process" };
        let mut lines = vec![format!("plaza {}: {} in {of}", env!("CARGO_PKG_VERSION"), self.config.services.replace(',', ", "))];
        if let Some(address) = self.public {
            lines.push(format!("  clients   {address}"));
        }
        if let Some(address) = self.admin {
            lines.push(format!("  metrics   http://{address}/metrics"));
        }
        if self.config.is_clustered() {
            lines.push(format!("  internal  {}", self.config.cluster.listen));
        }
        lines.push(format!("  data      {}", self.ground.place(&self.config)));
        if self.public.is_some() {
            lines.push("  next      cargo run --release -p plaza-cli -- register your_handle".to_owned());
        }
        lines.join("\n")
    }

    /// What its tasks run under.
    #[must_use]
    pub fn supervisor(&self) -> &Supervisor {
        &self.supervisor
    }

    /// Where clients connect, if the gateway runs here.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.public
    }

    /// Closes log and store after the shutdown: everything written is on disk then.
    pub async fn close(self) {
        self.ground.close().await;
        if let Some(telemetry) = self.telemetry
            && let Err(error) = telemetry.shutdown().await
        {
            tracing::warn!(error = %error, "the last telemetry was not sent");
        }
    }
}
