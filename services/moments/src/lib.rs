//! The moments service: posts for friends, likes, comments, timelines and notices. Its two processors only keep what happened; who sees what
//! is decided when somebody looks, by the rule of [`domain::visibility`], from the edges, tags and settings of that moment.

mod api;
mod cache;
mod commands;
pub mod domain;
mod follow;
mod form;
mod knowledge;
mod lists;
mod metrics;
mod relay;
mod returning;
pub mod store;
mod view;

use std::sync::Arc;

use plaza_event_log::EventLog;
use plaza_processor::{Caller, Host, HostDeps, Replies, relay::Relaying};
use plaza_proto::moments::v1::moments_service_server::MomentsServiceServer;
use plaza_rpc::{PageTokens, Peer};
use plaza_runtime::{Clock, Rng, Stage, Supervisor};
use plaza_topics::{ACCOUNTS, EDGES};
use serde::{Deserialize, Serialize};
use tonic::service::Routes;

pub use store::{
    embedded::Embedded,
    scylla::{MIGRATIONS, Scylla},
};

use crate::{
    api::Api,
    commands::Commands,
    domain::{posts::Posts, timeline::Timelines},
    follow::{Caches, Followers},
    knowledge::Knowledge,
    relay::Relay,
    returning::Returning,
    store::Store,
    view::View,
};

/// The rules that new commands are decided by.
const RULES: u32 = *domain::RULES.end();
/// Events are followed from this long before the start: longer than a row can come after its event. Microseconds.
const FOLLOWED: u64 = 60 * plaza_types::limits::SECOND;

/// Settings of the service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Changing calls under way at most; more are turned away at once.
    pub calls: usize,
    /// Edges between two users kept in memory; those used least are forgotten.
    pub cached_edges: usize,
    /// Users' settings kept in memory.
    pub cached_settings: usize,
    /// A viewer who has not looked for so many seconds is passed over when posts are spread, and given them on return.
    pub idle_seconds: u64,
}

impl Default for Config {
    fn default() -> Self {
        let idle_seconds = domain::IDLE_AFTER / plaza_types::limits::SECOND;
        Self { calls: 10_000, cached_edges: 200_000, cached_settings: 50_000, idle_seconds }
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
    for topic in [EDGES, ACCOUNTS] {
        // Without its events what is kept in memory would never be forgotten.
        anyhow::ensure!(log.partitions(topic) > 0, "the log has no topic {}", topic.0);
    }
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
        log: log.clone(),
        store: store.clone() as Arc<_>,
        replies,
        announce: None,
        supervisor: supervisor.clone(),
        config: plaza_processor::Config { rng, ..plaza_processor::Config::default() },
    };
    Host::start(Arc::new(Posts), posts);
    Host::start(Arc::new(Timelines), timelines);
    let caches = Arc::new(Caches::new(config.cached_edges, config.cached_settings));
    let since = clock.now_micros().saturating_sub(FOLLOWED);
    let followers = Followers::start(log.clone(), caches.clone(), &supervisor, since).await?;
    let knowledge = Knowledge { graph: peers.graph, accounts: peers.accounts, caches, followers };
    let view = Arc::new(View { store, knowledge, clock });
    let relay = Relay { log: log.clone(), view: view.clone() };
    let relay = Relaying { relay, log: log.clone(), store: view.store.clone(), supervisor: supervisor.clone() };
    supervisor.spawn("notice-relay", Stage::Consumers, relay.run());
    let idle_after = config.idle_seconds.saturating_mul(plaza_types::limits::SECOND);
    let returning = Returning::new(view.clone(), commands.clone(), log, idle_after);
    let api = Api { view, commands, returning, tokens: page_tokens, idle_after };
    Ok(Built { routes: Routes::new(MomentsServiceServer::new(api)) })
}
