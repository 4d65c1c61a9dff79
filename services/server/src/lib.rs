//! Assembles the process: opens the embedded log and store, builds the services that the configuration names, and wires them to each other.
//! The only place that names concrete backends.

mod admin;
pub mod config;
mod secrets;

use std::{collections::HashMap, net::SocketAddr, path::Path, sync::Arc};

use anyhow::Context;
use config::Config;
use plaza_embedded_db::{Db, Options};
use plaza_event_log::{EventLog, Topic, embedded::EmbeddedLog};
use plaza_processor::Replies;
use plaza_rpc::{Peer, StackDeps, stack};
use plaza_runtime::{Clock, Rng, Stage, Supervisor};
use plaza_telemetry::{Telemetry, rpc_metrics::RpcMetrics};
use tokio::net::TcpListener;

/// Where records that cannot be decided are parked.
const PARKED: [Topic; 5] = [Topic("graph.dead"), Topic("chat.dead"), Topic("inbox.dead"), Topic("moments.dead"), Topic("timeline.dead")];

/// A process that serves.
pub struct Running {
    config: Config,
    supervisor: Supervisor,
    db: Db,
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
    // Every listener is bound before any work is done: a port in use is known at once.
    let listener = match config.runs("gateway") {
        true => {
            Some(TcpListener::bind(&config.gateway.listen).await.with_context(|| format!("cannot listen on {}", config.gateway.listen))?)
        }
        false => None,
    };
    let db = open(&config, &config.data_dir).await?;
    let (clock, rng) = (Clock::system(), Rng::system());
    let log = open_log(&db, &config, clock.clone())?;
    let page_tokens = secrets::page_tokens(&db, &rng).await?;
    let replies = Replies::new(rng.next_u64());
    let stack_deps = StackDeps { metrics: RpcMetrics::new() };
    let (accounts, graph, chat, moments) = (Peer::slot(), Peer::slot(), Peer::slot(), Peer::slot());

    if config.runs("accounts") {
        let deps = plaza_accounts::Deps {
            store: Arc::new(plaza_accounts::Embedded::open(&db)?),
            log: log.clone(),
            peers: plaza_accounts::Peers { graph: graph.clone() },
            clock: clock.clone(),
            rng: rng.clone(),
            supervisor: supervisor.clone(),
            page_tokens: page_tokens.clone(),
        };
        let built = plaza_accounts::build(config.accounts.clone(), deps).await.context("accounts")?;
        accounts.bind(Peer::in_process(stack("accounts", built.routes, &stack_deps)));
    }
    if config.runs("graph") {
        let deps = plaza_graph::Deps {
            store: Arc::new(plaza_graph::Embedded::open(&db)?),
            log: log.clone(),
            replies: replies.clone(),
            peers: plaza_graph::Peers { accounts: accounts.clone() },
            clock: clock.clone(),
            rng: rng.clone(),
            supervisor: supervisor.clone(),
            page_tokens: page_tokens.clone(),
        };
        let built = plaza_graph::build(config.graph.clone(), deps).await.context("graph")?;
        graph.bind(Peer::in_process(stack("graph", built.routes, &stack_deps)));
    }
    if config.runs("chat") {
        let deps = plaza_chat::Deps {
            store: Arc::new(plaza_chat::store::embedded::Embedded::open(&db)?),
            log: log.clone(),
            replies: replies.clone(),
            peers: plaza_chat::Peers { graph: graph.clone() },
            clock: clock.clone(),
            rng: rng.clone(),
            supervisor: supervisor.clone(),
            page_tokens: page_tokens.clone(),
            processors: plaza_processor::Config::default(),
        };
        let built = plaza_chat::build(config.chat.clone(), deps).await.context("chat")?;
        chat.bind(Peer::in_process(stack("chat", built.routes, &stack_deps)));
    }
    if config.runs("moments") {
        let deps = plaza_moments::Deps {
            store: Arc::new(plaza_moments::Embedded::open(&db)?),
            log: log.clone(),
            replies: replies.clone(),
            peers: plaza_moments::Peers { graph: graph.clone(), accounts: accounts.clone() },
            clock: clock.clone(),
            rng: rng.clone(),
            supervisor: supervisor.clone(),
            page_tokens: page_tokens.clone(),
        };
        let built = plaza_moments::build(config.moments.clone(), deps).await.context("moments")?;
        moments.bind(Peer::in_process(stack("moments", built.routes, &stack_deps)));
    }
    let public = match listener {
        Some(listener) => {
            let peers = HashMap::from([
                ("plaza.accounts.v1", accounts),
                ("plaza.graph.v1", graph),
                ("plaza.chat.v1", chat),
                ("plaza.moments.v1", moments),
            ]);
            let deps = plaza_gateway::Deps { log, peers, clock, rng, supervisor: supervisor.clone(), stack: stack_deps };
            let built = plaza_gateway::build(config.gateway.clone(), deps).await.context("gateway")?;
            Some(built.serve(listener)?)
        }
        None => None,
    };
    watch(&db, &supervisor);
    Ok(Running { config, supervisor, db, telemetry: None, public, admin: None })
}

async fn open(config: &Config, folder: &Path) -> anyhow::Result<Db> {
    let options =
        Options { journal_limit_bytes: config.embedded.journal_bytes, cache_bytes: config.embedded.cache_bytes, ..Options::default() };
    let folder = folder.to_owned();
    // Recovery reads up to the whole journal.
    Ok(tokio::task::spawn_blocking(move || Db::open(&folder, options)).await??)
}

fn open_log(db: &Db, config: &Config, clock: Clock) -> anyhow::Result<Arc<dyn EventLog>> {
    let topics = plaza_topics::ALL.map(|topic| (topic, config.embedded.partitions));
    let parked = PARKED.map(|topic| (topic, config.embedded.partitions));
    let topics: Vec<_> = topics.into_iter().chain(parked).collect();
    Ok(EmbeddedLog::open(db, &topics, move || clock.now_micros())?)
}

/// A store that can no longer write ends the process: it comes back with what is durable.
fn watch(db: &Db, supervisor: &Supervisor) {
    let (db, stop) = (db.clone(), supervisor.stopping(Stage::Producers));
    supervisor.spawn("embedded store", Stage::Producers, async move {
        match stop.run_until_cancelled(db.failed()).await {
            Some(_) => anyhow::bail!("the embedded store failed"),
            None => Ok(()),
        }
    });
}

impl Running {
    /// What runs, where, and what to do next, in a few lines.
    #[must_use]
    pub fn banner(&self) -> String {
        let mut lines = vec![format!("plaza {}: {} in one process", env!("CARGO_PKG_VERSION"), self.config.services.replace(',', ", "))];
        if let Some(address) = self.public {
            lines.push(format!("  clients   {address}"));
        }
        if let Some(address) = self.admin {
            lines.push(format!("  metrics   http://{address}/metrics"));
        }
        lines.push(format!("  data      {}", self.config.data_dir.display()));
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

    /// Closes the store after the shutdown: everything written is on disk then.
    pub async fn close(self) {
        if let Err(error) = self.db.close().await {
            tracing::error!(error = %error, "closing the embedded store failed");
        }
        if let Some(telemetry) = self.telemetry
            && let Err(error) = telemetry.shutdown().await
        {
            tracing::warn!(error = %error, "the last telemetry was not sent");
        }
    }
}
