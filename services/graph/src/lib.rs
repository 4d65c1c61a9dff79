//! The graph service: friend requests, contacts with remarks, tags and permissions, and blocks. Each user's edges are decided by that user's
//! state machine alone; nobody learns from it that they were ignored, removed or blocked.

mod api;
mod commands;
pub mod domain;
mod form;
mod metrics;
mod relations;
pub mod store;

use std::sync::Arc;

use plaza_event_log::EventLog;
use plaza_processor::{Caller, Host, HostDeps, Replies};
use plaza_proto::graph::v1::{graph_service_server::GraphServiceServer, relations_service_server::RelationsServiceServer};
use plaza_rpc::{PageTokens, Peer};
use plaza_runtime::{Clock, Rng, Supervisor};
use plaza_topics::TIMELINE;
use serde::{Deserialize, Serialize};
use tonic::service::Routes;

pub use store::{
    embedded::Embedded,
    scylla::{MIGRATIONS, Scylla},
};

use crate::{api::Api, commands::Commands, domain::Graph, relations::Relations, store::Store};

/// The rules that new commands are decided by.
const RULES: u32 = 1;

/// Settings of the service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Changing calls under way at most; more are turned away at once.
    pub calls: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { calls: 10_000 }
    }
}

/// The services that graph asks.
#[derive(Clone)]
pub struct Peers {
    /// Who exists and who may be found.
    pub accounts: Peer,
}

/// What the service runs on.
#[derive(Clone)]
pub struct Deps {
    /// Its rows.
    pub store: Arc<dyn Store>,
    /// Where its commands go.
    pub log: Arc<dyn EventLog>,
    /// The calls of this process that wait.
    pub replies: Arc<Replies>,
    /// Whom it asks.
    pub peers: Peers,
    /// The time.
    pub clock: Clock,
    /// Randomness.
    pub rng: Rng,
    /// Runs its processor.
    pub supervisor: Supervisor,
    /// Seals its page tokens.
    pub page_tokens: PageTokens,
}

/// The service, ready to be put behind [`plaza_rpc::stack()`].
pub struct Built {
    /// `GraphService` and the internal `RelationsService`.
    pub routes: Routes,
}

/// Assembles the service and starts its processor.
///
/// # Errors
/// The processor cannot be started.
pub async fn build(config: Config, deps: Deps) -> anyhow::Result<Built> {
    let Deps { store, log, replies, peers, clock, rng, supervisor, page_tokens } = deps;
    let commands = Commands::new(Caller::new(log.clone(), replies.clone(), RULES), clock.clone(), rng.clone(), config.calls);
    let config = plaza_processor::Config { rng, ..plaza_processor::Config::default() };
    let timeline_partitions = log.partitions(TIMELINE);
    Host::start(
        Arc::new(Graph { timeline_partitions }),
        HostDeps { log, store: store.clone(), replies, announce: None, supervisor, config },
    );
    let relations = Relations { store: store.clone(), clock: clock.clone() };
    let api = Api { store, commands, accounts: peers.accounts, tokens: page_tokens, clock };
    Ok(Built { routes: Routes::new(GraphServiceServer::new(api)).add_service(RelationsServiceServer::new(relations)) })
}
