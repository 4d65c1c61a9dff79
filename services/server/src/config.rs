//! The whole configuration: one table for each service and part, put together from defaults, one TOML file, `PLAZA_*` variables and flags.

use std::path::{Path, PathBuf};

use anyhow::Context;
use plaza_runtime::{
    config::{Problem, Problems, Sources, Validate, validate_table},
    shutdown::Limits,
};
use plaza_types::limits;
use serde::{Deserialize, Serialize};

/// The services there are, in the order in which they are named to the user.
pub const SERVICES: [&str; 5] = ["accounts", "graph", "chat", "moments", "gateway"];

/// Which services each one asks, as far as it cannot work without.
const NEEDS: [(&str, &[&str]); 5] = [
    ("accounts", &["graph"]),
    ("graph", &["accounts"]),
    ("chat", &["graph"]),
    ("moments", &["accounts", "graph"]),
    ("gateway", &["accounts", "chat"]),
];

/// What is logged: of the engine and the exporter only what needs attention.
const LOG_LEVEL: &str = "info,lsm_tree=warn,opentelemetry=warn";

/// Members of a group at most: a state, and what one change of it says, must stay small.
const GROUP_MEMBERS_MOST: u32 = 2000;

/// Variables that are not keys.
const RESERVED: &[&str] = &[
    "PLAZA_CONFIG",
    "PLAZA_TEST_EXTERNAL",
    "PLAZA_TEST_KAFKA",
    "PLAZA_TEST_KAFKA_SASL",
    "PLAZA_TEST_CQL",
    "PLAZA_CRASH_SEED",
    "PLAZA_CRASH_ROUNDS",
    "PLAZA_SIM_SEED",
    "PLAZA_SIM_SEEDS",
];

/// Everything that can be set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the embedded log and store keep their files.
    pub data_dir: PathBuf,
    /// Which services run in this process, separated by commas.
    pub services: String,
    /// The accounts service.
    pub accounts: plaza_accounts::Config,
    /// The graph service.
    pub graph: plaza_graph::Config,
    /// The chat service.
    pub chat: plaza_chat::Config,
    /// The moments service.
    pub moments: plaza_moments::Config,
    /// The gateway.
    pub gateway: plaza_gateway::Config,
    /// The embedded log and store.
    pub embedded: Embedded,
    /// The other processes of a deployment.
    pub cluster: Cluster,
    /// The log of a cluster; without brokers the embedded one.
    pub kafka: plaza_event_log_kafka::Config,
    /// The store of a cluster.
    pub cql: plaza_scylla_kit::Config,
    /// Logs, metrics and traces.
    pub telemetry: plaza_telemetry::Config,
    /// The end of the process.
    pub shutdown: Limits,
}

/// The embedded log and store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Embedded {
    /// Partitions of each topic; fixed with the first start. 1 to 64. Everything is written by one thread, so more of them share out nothing but
    /// decisions, and cost a record more for each message between two.
    pub partitions: u32,
    /// Journal bytes before memory is written out; recovery reads up to this much. At least 16 MiB.
    pub journal_bytes: u64,
    /// Bytes of the block cache.
    pub cache_bytes: u64,
}

/// The other processes of a deployment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cluster {
    /// Where the other processes reach this one: address and port.
    pub listen: String,
    /// The same as they see it, if it differs: an IP address and a port.
    pub advertise: String,
    /// Serve the other processes without TLS on an address that more than they can reach.
    pub allow_plaintext: bool,
    /// Partitions of each topic: fixed when `plaza migrate` first creates them. 1 to 1024; a dozen for each instance there will ever be.
    pub partitions: u32,
    /// Where each service is.
    pub peers: Peers,
    /// Mutual TLS between the processes, if it is set.
    pub tls: MutualTls,
}

/// The addresses of the other processes' internal ports, `host:port` separated by commas; a name may have many addresses. A service without any
/// is the one of this process.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Peers {
    /// Of the accounts service.
    pub accounts: String,
    /// Of the graph service.
    pub graph: String,
    /// Of the chat service: all instances.
    pub chat: String,
    /// Of the moments service.
    pub moments: String,
}

impl Peers {
    /// Where a service is; empty for here.
    #[must_use]
    pub fn of(&self, service: &str) -> Vec<String> {
        let addresses = match service {
            "accounts" => &self.accounts,
            "graph" => &self.graph,
            "chat" => &self.chat,
            "moments" => &self.moments,
            _ => return Vec::new(),
        };
        addresses.split(',').map(str::trim).filter(|address| !address.is_empty()).map(str::to_owned).collect()
    }
}

/// Files, PEM.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MutualTls {
    /// The certificate that all processes' certificates are signed by.
    pub authority: PathBuf,
    /// This process's certificate chain.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The name that every process's certificate is for.
    pub name: String,
}

impl MutualTls {
    /// Whether connections are encrypted.
    #[must_use]
    pub fn is_set(&self) -> bool {
        !self.authority.as_os_str().is_empty()
    }

    /// The authority, the certificate chain and the key.
    pub(crate) fn read(&self) -> anyhow::Result<[Vec<u8>; 3]> {
        let read = |path: &Path| std::fs::read(path).with_context(|| format!("cannot read {}", path.display()));
        Ok([read(&self.authority)?, read(&self.certificate)?, read(&self.key)?])
    }
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:7710".to_owned(),
            advertise: String::new(),
            allow_plaintext: false,
            partitions: 48,
            peers: Peers::default(),
            tls: MutualTls::default(),
        }
    }
}

impl Validate for Cluster {
    fn validate(&self, errors: &mut Vec<Problem>) {
        if !(1..=1024).contains(&self.partitions) {
            errors.push(Problem::new("partitions", "must be 1 to 1024"));
        }
        if !self.advertise.is_empty() && self.advertise.parse::<std::net::SocketAddr>().is_err() {
            errors.push(Problem::new("advertise", "must be an IP address and a port"));
        }
        for service in SERVICES {
            for address in self.peers.of(service) {
                if address.rsplit_once(':').is_none_or(|(host, port)| host.is_empty() || port.parse::<u16>().is_err()) {
                    errors.push(Problem::new(format!("peers.{service}"), format!("'{address}' is no host:port")));
                }
            }
        }
        let parts = [self.tls.authority.as_os_str(), self.tls.certificate.as_os_str(), self.tls.key.as_os_str(), self.tls.name.as_ref()];
        if parts.iter().any(|part| part.is_empty()) && parts.iter().any(|part| !part.is_empty()) {
            errors.push(Problem::new("tls", "needs authority, certificate, key and name"));
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: "plaza-data".into(),
            services: SERVICES.join(","),
            accounts: Default::default(),
            graph: Default::default(),
            chat: Default::default(),
            moments: Default::default(),
            gateway: Default::default(),
            embedded: Embedded::default(),
            cluster: Cluster::default(),
            kafka: Default::default(),
            cql: Default::default(),
            telemetry: plaza_telemetry::Config { log_level: LOG_LEVEL.to_owned(), ..Default::default() },
            shutdown: Limits::default(),
        }
    }
}

impl Default for Embedded {
    fn default() -> Self {
        Self { partitions: 1, journal_bytes: 128 << 20, cache_bytes: 64 << 20 }
    }
}

impl Config {
    /// Whether a service runs in this process.
    #[must_use]
    pub fn runs(&self, service: &str) -> bool {
        self.services.split(',').any(|named| named.trim() == service)
    }

    /// Whether the log and the store are on a cluster.
    #[must_use]
    pub fn is_clustered(&self) -> bool {
        !self.kafka.brokers.is_empty()
    }

    /// Whether calls to a service have somewhere to go.
    fn reaches(&self, service: &str) -> bool {
        self.runs(service) || !self.cluster.peers.of(service).is_empty()
    }
}

impl Validate for Config {
    fn validate(&self, errors: &mut Vec<Problem>) {
        for named in self.services.split(',').map(str::trim).filter(|named| !SERVICES.contains(named)) {
            errors.push(Problem::new("services", format!("'{named}' is none of {}", SERVICES.join(", "))));
        }
        if self.data_dir.as_os_str().is_empty() {
            errors.push(Problem::new("data_dir", "must not be empty"));
        }
        let password = &self.accounts.password;
        let least = [
            ("accounts.password.memory_kib", u64::from(password.memory_kib), 8),
            ("accounts.password.passes", u64::from(password.passes), 1),
            ("accounts.password.queue_per_thread", password.queue_per_thread as u64, 1),
            ("graph.calls", self.graph.calls as u64, 1),
            ("chat.calls_under_way", self.chat.calls_under_way as u64, 1),
            ("chat.group_members", u64::from(self.chat.group_members), limits::GROUP_SMALLEST as u64),
            ("moments.calls", self.moments.calls as u64, 1),
            ("moments.cached_edges", self.moments.cached_edges as u64, 1),
            ("moments.cached_settings", self.moments.cached_settings as u64, 1),
            ("moments.idle_seconds", self.moments.idle_seconds, 1),
            ("chat.link_bytes", self.chat.link_bytes as u64, 64 << 10),
            ("embedded.journal_bytes", self.embedded.journal_bytes, 16 << 20),
        ];
        for (key, _, least) in least.into_iter().filter(|(_, value, least)| value < least) {
            errors.push(Problem::new(key, format!("must be at least {least}")));
        }
        if self.chat.group_members > GROUP_MEMBERS_MOST {
            errors.push(Problem::new("chat.group_members", format!("must be at most {GROUP_MEMBERS_MOST}")));
        }
        for (key, why) in self.gateway.violations() {
            errors.push(Problem::new(format!("gateway.{key}"), why));
        }
        let clustered = self.is_clustered();
        for (service, needed) in NEEDS {
            for needed in needed.iter().filter(|needed| self.runs(service) && !self.reaches(needed)) {
                let or_elsewhere = if clustered { format!(", or cluster.peers.{needed}") } else { " in the same process".to_owned() };
                errors.push(Problem::new("services", format!("{service} needs {needed}{or_elsewhere}")));
            }
        }
        if clustered == self.cql.nodes.is_empty() {
            let missing = if clustered { "cql.nodes" } else { "kafka.brokers" };
            errors.push(Problem::new(missing, "must be set: a cluster is Kafka and ScyllaDB together"));
        }
        if !clustered && SERVICES.iter().any(|service| !self.cluster.peers.of(service).is_empty()) {
            errors.push(Problem::new("cluster.peers", "take kafka.brokers and cql.nodes: the embedded log and store are one process's"));
        }
        validate_table("cluster", &self.cluster, errors);
        validate_table("kafka", &self.kafka, errors);
        validate_table("cql", &self.cql, errors);
        validate_table("embedded", &self.embedded, errors);
        validate_table("telemetry", &self.telemetry, errors);
        validate_table("shutdown", &self.shutdown, errors);
    }
}

impl Validate for Embedded {
    fn validate(&self, errors: &mut Vec<Problem>) {
        if !(1..=64).contains(&self.partitions) {
            errors.push(Problem::new("partitions", "must be 1 to 64"));
        }
    }
}

/// Puts the configuration together: defaults, file, the process's variables, flags (`key=value`).
///
/// # Errors
/// Everything that is wrong, at once, with its key and where it came from.
pub fn load(file: Option<PathBuf>, flags: Vec<String>) -> Result<Config, Problems> {
    plaza_runtime::config::load(&Sources { file, flags, reserved: RESERVED, ..Sources::of_process() })
}
