//! Where the cluster is and how it is spoken to.

use std::{path::PathBuf, time::Duration};

use plaza_runtime::config::{Problem, Secret, Validate, duration};
use serde::{Deserialize, Serialize};

/// Settings of the connection to ScyllaDB or Cassandra.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Nodes to begin with, as `host:port`; the others are found through them. Name two at least, or a name that resolves to all.
    pub nodes: Vec<String>,
    /// What the names of all keyspaces begin with: lowercase letters, digits and `_`. One deployment has one prefix.
    pub keyspace_prefix: String,
    /// The datacenter whose replicas answer. Empty for whichever node answers, fit for one datacenter only.
    pub datacenter: String,
    /// Copies of every row in a datacenter, for keyspaces that `plaza migrate` creates. Those that exist are left as they are.
    pub replication_factor: u8,
    /// Whether conditional writes are decided among all datacenters. Turn it off only if one datacenter alone runs conditional writes: two
    /// that decide each for themselves give one handle to two people.
    pub serial_across_datacenters: bool,
    /// The user; empty for none.
    pub user: String,
    /// The password of the user; never printed.
    pub password: Secret,
    /// A file with the password, in place of `password`. What follows the first line is ignored.
    pub password_file: PathBuf,
    /// How connections are encrypted.
    pub tls: Tls,
    /// Requests under way at most. Others wait, for which see `queue_timeout`.
    pub requests: usize,
    /// How long a request waits for its turn before it is given up without having been sent.
    #[serde(with = "duration")]
    pub queue_timeout: Duration,
    /// How long a read may take. Keep each of these longer than the server's own limit: an answer that nobody waits for costs the
    /// connection a place until it comes.
    #[serde(with = "duration")]
    pub read_timeout: Duration,
    /// How long a write may take.
    #[serde(with = "duration")]
    pub write_timeout: Duration,
    /// How long a conditional write may take.
    #[serde(with = "duration")]
    pub conditional_timeout: Duration,
}

/// Encryption of the connections to the nodes. A node's certificate must name the address it is reached at.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// The certificates that nodes' certificates are signed by, PEM. Empty turns encryption off.
    pub ca_file: PathBuf,
    /// Our own certificate, PEM, if the nodes ask for one.
    pub certificate_file: PathBuf,
    /// Its key, PEM.
    pub key_file: PathBuf,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            nodes: Vec::new(),
            keyspace_prefix: "plaza_".to_owned(),
            datacenter: String::new(),
            replication_factor: 3,
            serial_across_datacenters: true,
            user: String::new(),
            password: Secret::default(),
            password_file: PathBuf::new(),
            tls: Tls::default(),
            requests: 256,
            queue_timeout: Duration::from_secs(2),
            read_timeout: Duration::from_secs(6),
            write_timeout: Duration::from_secs(3),
            conditional_timeout: Duration::from_secs(6),
        }
    }
}

impl Validate for Config {
    fn validate(&self, errors: &mut Vec<Problem>) {
        let mut wrong = |key: &str, what: &str| errors.push(Problem::new(key, what));
        let named = |text: &str| text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
        // A keyspace's name has 48 characters at most, and the longest service 8.
        if !named(&self.keyspace_prefix)
            || self.keyspace_prefix.len() > 40
            || !self.keyspace_prefix.starts_with(|c: char| c.is_ascii_lowercase())
        {
            wrong("keyspace_prefix", "must begin with a lowercase letter and hold at most 40 of a-z, 0-9 and _");
        }
        if self.datacenter.contains('\'') {
            wrong("datacenter", "must not hold a quote");
        }
        if self.replication_factor == 0 {
            wrong("replication_factor", "must be at least 1");
        }
        if !(1..=8192).contains(&self.requests) {
            wrong("requests", "must be from 1 to 8192");
        }
        if !self.password.is_empty() && self.password_file != PathBuf::new() {
            wrong("password_file", "must be empty when password is set");
        }
        for (key, timeout) in [
            ("queue_timeout", self.queue_timeout),
            ("read_timeout", self.read_timeout),
            ("write_timeout", self.write_timeout),
            ("conditional_timeout", self.conditional_timeout),
        ] {
            if timeout.is_zero() {
                wrong(key, "must not be zero");
            }
        }
        let (certificate, key) = (self.tls.certificate_file != PathBuf::new(), self.tls.key_file != PathBuf::new());
        if certificate != key {
            wrong("tls.key_file", "must be set together with tls.certificate_file");
        }
        if certificate && self.tls.ca_file == PathBuf::new() {
            wrong("tls.ca_file", "must be set when a certificate is");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(change: impl FnOnce(&mut Config)) -> Vec<String> {
        let mut config = Config::default();
        change(&mut config);
        let mut errors = Vec::new();
        config.validate(&mut errors);
        errors.into_iter().map(|problem| problem.key).collect()
    }

    #[test]
    fn what_cannot_be_is_refused() {
        assert_eq!(problems(|_| ()), [""; 0]);
        assert_eq!(problems(|config| config.keyspace_prefix = "Plaza".to_owned()), ["keyspace_prefix"]);
        assert_eq!(problems(|config| config.keyspace_prefix = "1".to_owned()), ["keyspace_prefix"]);
        assert_eq!(problems(|config| config.datacenter = "a'b".to_owned()), ["datacenter"]);
        assert_eq!(problems(|config| (config.replication_factor, config.requests) = (0, 0)), ["replication_factor", "requests"]);
        assert_eq!(problems(|config| config.tls.key_file = "key".into()), ["tls.key_file"]);
        assert_eq!(problems(|config| config.read_timeout = Duration::ZERO), ["read_timeout"]);
    }

    #[test]
    fn the_password_is_not_shown() {
        let config = Config { password: Secret::new("hunter2"), ..Config::default() };
        assert!(!format!("{config:?}").contains("hunter2"));
        assert!(!plaza_runtime::config::to_toml(&config).expect("toml").contains("hunter2"));
    }
}
