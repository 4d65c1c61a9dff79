//! The chat service: conversations, messages, each user's inbox and its live delivery. [`build`] starts the two processors, the relay of
//! account events and the calls; what they decide is in [`domain`], what they keep in [`store`].

mod api;
mod commands;
pub mod domain;
mod form;
mod groups;
mod listing;
mod live;
mod metrics;
mod reader;
mod relay;
pub mod store;

use std::sync::Arc;

use plaza_event_log::EventLog;
use plaza_processor::{Caller, Host, HostDeps, Replies, relay::Relaying};
use plaza_proto::chat::v1::{chat_service_server::ChatServiceServer, live_service_server::LiveServiceServer};
use plaza_rpc::{PageTokens, Peer};
use plaza_runtime::{Clock, Rng, Stage, Supervisor};
use plaza_topics::INBOX;
use plaza_types::limits;
use serde::{Deserialize, Serialize};
use tonic::service::Routes;

pub use store::{
    embedded::Embedded,
    scylla::{MIGRATIONS, Scylla},
};

use crate::{
    api::Api,
    commands::Commands,
    domain::{conversation::Conversations, inbox::Inboxes},
    groups::Groups,
    live::{Announcements, Live, Sessions},
    reader::Reader,
    relay::Relay,
    store::Store,
};

/// The rules that commands are to be decided by.
const RULES: u32 = *domain::RULES.end();

/// What can be set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Changing calls under way at a time; more are turned away with UNAVAILABLE.
    pub calls_under_way: usize,
    /// Bytes of messages kept in memory for reading.
    pub cache_bytes: u64,
    /// Members of a group, the invited included.
    pub group_members: u32,
    /// Bytes of live entries kept for a gateway that does not read; above that its devices must catch up from the store.
    pub link_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { calls_under_way: 20_000, cache_bytes: 64 << 20, group_members: limits::GROUP_MEMBERS as u32, link_bytes: 16 << 20 }
    }
}

/// What it stands on.
pub struct Deps {
    /// Its tables.
    pub store: Arc<dyn Store>,
    /// The log.
    pub log: Arc<dyn EventLog>,
    /// The calls of this process that wait for a decision.
    pub replies: Arc<Replies>,
    /// The services it asks.
    pub peers: Peers,
    /// The time.
    pub clock: Clock,
    /// Randomness, for ids that clients leave to the server.
    pub rng: Rng,
    /// Starts and stops its tasks.
    pub supervisor: Supervisor,
    /// Seals page tokens.
    pub page_tokens: PageTokens,
    /// How the processors run.
    pub processors: plaza_processor::Config,
}

/// The services it asks.
pub struct Peers {
    /// `RelationsService`: who is whose contact.
    pub graph: Peer,
}

/// The service, running.
pub struct Built {
    /// `ChatService` and the internal `LiveService`.
    pub routes: Routes,
}

/// Starts the service.
///
/// # Errors
/// The log does not have the topics.
pub async fn build(config: Config, deps: Deps) -> anyhow::Result<Built> {
    let Deps { store, log, replies, peers, clock, rng, supervisor, page_tokens, processors } = deps;
    let inbox_partitions = log.partitions(INBOX);
    anyhow::ensure!(inbox_partitions > 0, "the log has no topic {}", INBOX.0);
    let sessions = Arc::new(Sessions::new(inbox_partitions));
    let reader = Reader::new(Arc::clone(&store), config.cache_bytes).among(Arc::clone(&sessions), clock.clone());
    let reader = Arc::new(reader);
    let conversations = HostDeps {
        log: Arc::clone(&log),
        store: Arc::clone(&store) as Arc<_>,
        replies: Arc::clone(&replies),
        announce: Some(Arc::clone(&reader) as Arc<_>),
        supervisor: supervisor.clone(),
        config: processors.clone(),
    };
    let inboxes = HostDeps {
        log: Arc::clone(&log),
        store: Arc::clone(&store) as Arc<_>,
        replies: Arc::clone(&replies),
        announce: Some(Arc::new(Announcements { sessions: Arc::clone(&sessions), reader: Arc::clone(&reader), clock: clock.clone() })),
        supervisor: supervisor.clone(),
        config: processors,
    };
    Host::start(Arc::new(Conversations { inbox_partitions }), conversations);
    Host::start(Arc::new(Inboxes), inboxes);
    let relay = Relaying { relay: Relay { log: Arc::clone(&log) }, log: Arc::clone(&log), store, supervisor: supervisor.clone() };
    supervisor.spawn("account-relay", Stage::Consumers, relay.run());
    let caller = Caller::new(log, replies, RULES);
    let commands = Arc::new(Commands::new(caller, clock.clone(), rng, Arc::clone(&reader), config.calls_under_way));
    let live = Live::new(sessions, Arc::clone(&reader), Arc::clone(&commands), &supervisor, config.link_bytes);
    let groups = Groups {
        reader: Arc::clone(&reader),
        commands: Arc::clone(&commands),
        graph: peers.graph,
        tokens: page_tokens.clone(),
        clock,
        limit: config.group_members,
    };
    let api = Api { reader, commands, groups, tokens: page_tokens };
    let routes = Routes::new(ChatServiceServer::new(api)).add_service(LiveServiceServer::new(live));
    Ok(Built { routes })
}
