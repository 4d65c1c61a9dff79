//! What the services stand on: a log and a store for each, in the process or on a cluster. The only place that names both.

use std::{path::Path, sync::Arc};

use plaza_embedded_db::{Db, Options};
use plaza_event_log::{EventLog, embedded::EmbeddedLog};
use plaza_rpc::PageTokens;
use plaza_runtime::{Clock, Rng, Stage, Supervisor};

use crate::{
    cluster::{Cluster, until_answered},
    config::Config,
    secrets,
};

/// What a process stands on.
pub(crate) struct Ground {
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) page_tokens: PageTokens,
    kind: Kind,
}

enum Kind {
    Embedded(Db),
    Cluster(Cluster),
}

/// Opens a service's store of whichever kind.
macro_rules! store {
    ($name:ident, $service:ident) => {
        pub(crate) async fn $name(&self) -> anyhow::Result<Arc<dyn $service::store::Store>> {
            Ok(match &self.kind {
                Kind::Embedded(db) => Arc::new($service::Embedded::open(db)?),
                Kind::Cluster(cluster) => {
                    // Dozens of statements are prepared, in a future as large.
                    let opened = Box::pin(until_answered(async || Ok($service::Scylla::open(&cluster.session).await?)));
                    Arc::new(opened.await?)
                }
            })
        }
    };
}

impl Ground {
    /// Opens what the configuration names.
    pub(crate) async fn open(config: &Config, clock: &Clock, rng: &Rng) -> anyhow::Result<Self> {
        if config.is_clustered() {
            let cluster = Cluster::connect(config, rng).await?;
            return Ok(Self { log: cluster.log.clone(), page_tokens: cluster.page_tokens.clone(), kind: Kind::Cluster(cluster) });
        }
        let db = open(config, &config.data_dir).await?;
        let topics: Vec<_> = plaza_topics::all().map(|topic| (topic, config.embedded.partitions)).collect();
        let clock = clock.clone();
        let log = EmbeddedLog::open(&db, &topics, move || clock.now_micros())?;
        let page_tokens = secrets::page_tokens(&db, rng).await?;
        Ok(Self { log, page_tokens, kind: Kind::Embedded(db) })
    }

    store!(accounts, plaza_accounts);
    store!(graph, plaza_graph);
    store!(chat, plaza_chat);
    store!(moments, plaza_moments);

    /// A store that can no longer write ends the process: it comes back with what is durable.
    pub(crate) fn watch(&self, supervisor: &Supervisor) {
        let Kind::Embedded(db) = &self.kind else { return };
        let (db, stop) = (db.clone(), supervisor.stopping(Stage::Producers));
        supervisor.spawn("embedded store", Stage::Producers, async move {
            match stop.run_until_cancelled(db.failed()).await {
                Some(_) => anyhow::bail!("the embedded store failed"),
                None => Ok(()),
            }
        });
    }

    /// Where the data is, for people.
    pub(crate) fn place(&self, config: &Config) -> String {
        match &self.kind {
            Kind::Embedded(_) => config.data_dir.display().to_string(),
            Kind::Cluster(_) => format!("kafka {}, cql {}", config.kafka.brokers, config.cql.nodes.join(",")),
        }
    }

    /// After the shutdown: everything written is on disk then, and the groups are left.
    pub(crate) async fn close(self) {
        match self.kind {
            Kind::Embedded(db) => {
                if let Err(error) = db.close().await {
                    tracing::error!(error = %error, "closing the embedded store failed");
                }
            }
            Kind::Cluster(cluster) => cluster.log.close().await,
        }
    }
}

async fn open(config: &Config, folder: &Path) -> anyhow::Result<Db> {
    let options =
        Options { journal_limit_bytes: config.embedded.journal_bytes, cache_bytes: config.embedded.cache_bytes, ..Options::default() };
    let folder = folder.to_owned();
    // Recovery reads up to the whole journal.
    Ok(tokio::task::spawn_blocking(move || Db::open(&folder, options)).await??)
}
