//! The moments service: posts for friends, likes, comments, timelines and notices. Its two processors only keep what happened; who sees what
//! is decided when somebody looks, by the rule of [`domain::visibility`], from the edges, tags and settings of that moment.

mod api;
mod commands;
pub mod domain;
mod form;
mod knowledge;
mod lists;
mod metrics;
pub mod store;
mod view;

use std::sync::Arc;

use plaza_event_log::EventLog;
use plaza_processor::{Caller, Host, HostDeps, Replies};
use plaza_proto::moments::v1::moments_service_server::MomentsServiceServer;
use plaza_rpc::{PageTokens, Peer};
use plaza_runtime::{Clock, Rng, Supervisor};
use serde::{Deserialize, Serialize};
use tonic::service::Routes;

pub use store::embedded::Embedded;

use crate::{
    api::Api,
    commands::Commands,
    domain::{posts::Posts, timeline::Timelines},
    knowledge::Knowledge,
    store::Store,
    view::View,
};

/// The rules that new commands are decided by.
const RULES: u32 = 1;

/// Settings of the service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Changing calls under way at most; more are turned away at once.
    pub calls: usize,
    /// A viewer who has not looked for so many seconds is passed over when posts are spread, and given them on return.
    pub idle_seconds: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self { calls: 10_000, idle_seconds: domain::IDLE_AFTER / plaza_types::limits::SECOND }
    }
}

/// The services that moments asks.
#[derive(Clone)]
pub struct Peers {
    /// Who stands how to whom.
    pub graph: Peer,
    /// How far back authors let friends look.
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
    /// Runs its processors.
    pub supervisor: Supervisor,
    /// Seals its page tokens.
    pub page_tokens: PageTokens,
}

/// The service, ready to be put behind [`plaza_rpc::stack()`].
pub struct Built {
    /// `MomentsService`.
    pub routes: Routes,
}

/// Assembles the service and starts its processors.
///
/// # Errors
/// The processors cannot be started.
pub async fn build(config: Config, deps: Deps) -> anyhow::Result<Built> {
    let Deps { store, log, replies, peers, clock, rng, supervisor, page_tokens } = deps;
    let commands = Commands::new(Caller::new(log.clone(), replies.clone(), RULES), clock.clone(), rng.clone(), config.calls);
    let commands = Arc::new(commands);
    let posts = HostDeps {
        log: log.clone(),
        store: store.clone() as Arc<_>,
        replies: replies.clone(),
        announce: None,
        supervisor: supervisor.clone(),
        config: plaza_processor::Config { rng: rng.clone(), ..plaza_processor::Config::default() },
    };
    let timelines = HostDeps {
        log,
        store: store.clone() as Arc<_>,
        replies,
        announce: None,
        supervisor,
        config: plaza_processor::Config { rng, ..plaza_processor::Config::default() },
    };
    Host::start(Arc::new(Posts), posts);
    Host::start(Arc::new(Timelines), timelines);
    let view = Arc::new(View { store, knowledge: Knowledge { graph: peers.graph, accounts: peers.accounts }, clock });
    let idle_after = config.idle_seconds.saturating_mul(plaza_types::limits::SECOND);
    let api = Api { view, commands, tokens: page_tokens, idle_after };
    Ok(Built { routes: Routes::new(MomentsServiceServer::new(api)) })
}
