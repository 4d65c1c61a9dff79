//! The whole configuration: one table for each service and part, put together from defaults, one TOML file, `PLAZA_*` variables and flags.

use std::path::PathBuf;

use plaza_runtime::{
    config::{Problem, Problems, Sources, Validate, validate_table},
    shutdown::Limits,
};
use plaza_types::limits;
use serde::{Deserialize, Serialize};

/// The services there are, in the order in which they are named to the user.
pub const SERVICES: [&str; 5] = ["accounts", "graph", "chat", "moments", "gateway"];

/// What is logged: of the engine and the exporter only what needs attention.
const LOG_LEVEL: &str = "info,fjall=warn,lsm_tree=warn,opentelemetry=warn";

/// Members of a group at most: a state, and what one change of it says, must stay small.
const GROUP_MEMBERS_MOST: u32 = 2000;

/// Variables that are not keys.
const RESERVED: &[&str] =
    &["PLAZA_CONFIG", "PLAZA_TEST_EXTERNAL", "PLAZA_CRASH_SEED", "PLAZA_CRASH_ROUNDS", "PLAZA_SIM_SEED", "PLAZA_SIM_SEEDS"];

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
        if self.runs("gateway") && !(self.runs("accounts") && self.runs("chat")) {
            errors.push(Problem::new("services", "the gateway needs accounts and chat in the same process"));
        }
        if self.runs("moments") && !(self.runs("accounts") && self.runs("graph")) {
            errors.push(Problem::new("services", "moments needs accounts and graph in the same process"));
        }
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
