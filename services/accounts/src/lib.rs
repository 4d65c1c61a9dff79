//! The accounts service: registration, sessions, devices, profiles and settings, and who may see whom. It is the only owner of passwords and
//! tokens; others verify access tokens with its public key and learn of revoked devices from the `accounts` topic.

mod api;
pub mod domain;
mod error;
mod events;
mod metrics;
mod passwords;
mod service;
pub mod store;
mod tokens;

use std::sync::Arc;

use plaza_event_log::EventLog;
use plaza_rpc::{PageTokens, Peer};
use plaza_runtime::{Clock, Rng, Supervisor};
use serde::{Deserialize, Serialize};
use tonic::service::Routes;

pub use passwords::Config as PasswordConfig;
pub use store::{
    embedded::Embedded,
    scylla::{MIGRATIONS, Scylla},
};

use crate::{api::Api, metrics::Metrics, passwords::Passwords, service::Accounts, store::Store, tokens::Issuer};

/// Settings of the service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How passwords are hashed.
    pub password: PasswordConfig,
}

/// The services that accounts asks.
#[derive(Clone)]
pub struct Peers {
    /// How users stand to each other.
    pub graph: Peer,
}

/// What the service runs on.
#[derive(Clone)]
pub struct Deps {
    /// Its rows.
    pub store: Arc<dyn Store>,
    /// Where its events go.
    pub log: Arc<dyn EventLog>,
    /// Whom it asks.
    pub peers: Peers,
    /// The time.
    pub clock: Clock,
    /// Randomness, fit for secrets.
    pub rng: Rng,
    /// Runs its background task.
    pub supervisor: Supervisor,
    /// Seals its page tokens.
    pub page_tokens: PageTokens,
}

/// The service, ready to be put behind [`plaza_rpc::stack()`].
pub struct Built {
    /// `AccountsService` and the internal `DirectoryService`.
    pub routes: Routes,
}

/// Assembles the service. The first one on a store makes its keys.
///
/// # Errors
/// A cost of passwords that cannot be, or a store that cannot be read or written: then nothing was begun, and it may be tried again.
pub async fn build(config: Config, deps: Deps) -> anyhow::Result<Built> {
    let Deps { store, log, peers, clock, rng, supervisor, page_tokens } = deps;
    let keys = store.keys(Issuer::new_keys(&rng)?).await?;
    store.durable().await?;
    let metrics = Metrics::new();
    let (events, sweep) = events::publisher(store.clone(), log, clock.clone(), metrics.clone());
    sweep.start(&supervisor);
    let accounts = Accounts {
        store,
        events,
        graph: peers.graph,
        passwords: Passwords::new(&config.password, rng.clone(), metrics.clone())?,
        issuer: Issuer::new(&keys, rng.clone())?,
        clock,
        rng,
        metrics,
    };
    Ok(Built { routes: Api::new(accounts, page_tokens).routes() })
}
