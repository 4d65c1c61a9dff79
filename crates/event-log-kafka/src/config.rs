//! How the cluster is reached and what its topics are to be like; the table `kafka` of the configuration.

use std::{path::PathBuf, time::Duration};

use plaza_runtime::config::{Problem, Secret, Validate, validate_table};
use serde::{Deserialize, Serialize};

/// A request may come again for this long, and a checkpoint be as old: records must be there for longer.
const SHORTEST_RETENTION: Duration = Duration::from_secs(2 * 24 * 3600);
/// Brokers refuse members with a shorter session unless they are told otherwise.
const SHORTEST_SESSION: Duration = Duration::from_secs(1);
const LONGEST_SESSION: Duration = Duration::from_secs(60);

/// Settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Some of the brokers, `host:port` separated by commas; they tell of the others.
    pub brokers: String,
    /// In front of the names of topics and groups, so that several installations can share a cluster.
    pub prefix: String,
    /// How long a member of a group that says nothing keeps its partitions; 1 s to 60 s. The brokers' `group.min.session.timeout.ms`, 6 s unless
    /// set, must not be above it.
    #[serde(with = "plaza_runtime::config::duration")]
    pub session_timeout: Duration,
    /// Clients that append side by side, and as many that emit; 1 to 16. Each waits for one partition of a broker after the other, so more of them
    /// shorten the wait under load; each takes a handful of threads.
    pub writers: u32,
    /// Copies of each partition of topics that are created; 0 is three, or as many as there are brokers if those are fewer. Say 3 in production,
    /// where some brokers may be down when the topics are created.
    pub replicas: u32,
    /// How long records of topics that are created are kept; at least two days. Raise it where a processor may have to be repaired for longer.
    #[serde(with = "plaza_runtime::config::duration")]
    pub retention: Duration,
    /// Encryption and authentication.
    pub security: Security,
}

/// Encryption and authentication.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Security {
    /// Whether connections are encrypted; takes a binary built with the feature `kafka-tls`.
    pub tls: bool,
    /// Certificates of the authorities that are trusted, PEM; empty for those of the system.
    pub ca_file: PathBuf,
    /// This process's certificate, PEM; empty for none.
    pub certificate_file: PathBuf,
    /// Its key, PEM.
    pub key_file: PathBuf,
    /// How this process says who it is: `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`; empty for not at all.
    pub mechanism: String,
    /// Its name.
    pub user: String,
    /// Its password.
    pub password: Secret,
    /// A file that holds the password, instead.
    pub password_file: PathBuf,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            brokers: String::new(),
            prefix: "plaza.".to_owned(),
            session_timeout: Duration::from_secs(6),
            writers: 2,
            replicas: 0,
            retention: Duration::from_secs(7 * 24 * 3600),
            security: Security::default(),
        }
    }
}

impl Validate for Config {
    fn validate(&self, errors: &mut Vec<Problem>) {
        let named = |text: &str| text.chars().all(|letter| letter.is_ascii_alphanumeric() || "._-".contains(letter));
        if !named(&self.prefix) || self.prefix.len() > 100 {
            errors.push(Problem::new("prefix", "must be at most 100 letters, digits, dots, hyphens and underscores"));
        }
        if !(SHORTEST_SESSION..=LONGEST_SESSION).contains(&self.session_timeout) {
            errors.push(Problem::new("session_timeout", "must be from 1s to 60s"));
        }
        if self.retention < SHORTEST_RETENTION {
            errors.push(Problem::new("retention", "must be at least 2d"));
        }
        if !(1..=16).contains(&self.writers) {
            errors.push(Problem::new("writers", "must be 1 to 16"));
        }
        if self.replicas > 100 {
            errors.push(Problem::new("replicas", "must be at most 100"));
        }
        validate_table("security", &self.security, errors);
    }
}

impl Validate for Security {
    fn validate(&self, errors: &mut Vec<Problem>) {
        const WITHOUT_TLS: &str = "takes a binary built with the feature kafka-tls";
        let mechanism = self.mechanism.as_str();
        if self.tls && !cfg!(feature = "tls") {
            errors.push(Problem::new("tls", WITHOUT_TLS));
        }
        match mechanism {
            "" | "PLAIN" => {}
            "SCRAM-SHA-256" | "SCRAM-SHA-512" if cfg!(feature = "tls") => {}
            "SCRAM-SHA-256" | "SCRAM-SHA-512" => errors.push(Problem::new("mechanism", WITHOUT_TLS)),
            _ => errors.push(Problem::new("mechanism", "must be PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or empty")),
        }
        let has_password = !self.password.is_empty() || !self.password_file.as_os_str().is_empty();
        if !mechanism.is_empty() && (self.user.is_empty() || !has_password) {
            errors.push(Problem::new("user", "must be set with a password or a password_file, as there is a mechanism"));
        }
        if !self.password.is_empty() && !self.password_file.as_os_str().is_empty() {
            errors.push(Problem::new("password_file", "must be empty, as there is a password"));
        }
        if self.certificate_file.as_os_str().is_empty() != self.key_file.as_os_str().is_empty() {
            errors.push(Problem::new("key_file", "must be set together with certificate_file"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(change: impl FnOnce(&mut Config)) -> Vec<String> {
        let mut config = Config::default();
        change(&mut config);
        let mut errors = Vec::new();
        config.validate(&mut errors);
        errors.into_iter().map(|problem| problem.key).collect()
    }

    #[test]
    fn what_cannot_work_is_refused_by_name() {
        assert_eq!(wrong(|_| {}), [""; 0]);
        assert_eq!(wrong(|config| config.prefix = "a b".to_owned()), ["prefix"]);
        assert_eq!(wrong(|config| config.session_timeout = Duration::from_millis(10)), ["session_timeout"]);
        assert_eq!(wrong(|config| config.writers = 0), ["writers"]);
        assert_eq!(wrong(|config| config.retention = Duration::from_secs(3600)), ["retention"]);
        assert_eq!(wrong(|config| config.security.mechanism = "GSSAPI".to_owned()), ["security.mechanism", "security.user"]);
        assert_eq!(wrong(|config| config.security.certificate_file = "a".into()), ["security.key_file"]);
        let with_password = |config: &mut Config| {
            config.security = Security { mechanism: "PLAIN".to_owned(), user: "u".to_owned(), ..Security::default() };
            config.security.password = Secret::new("p");
        };
        assert_eq!(wrong(with_password), [""; 0]);
    }

    #[cfg(not(feature = "tls"))]
    #[test]
    fn what_takes_tls_is_refused_without_it() {
        assert_eq!(wrong(|config| config.security.tls = true), ["security.tls"]);
        let scram = |config: &mut Config| {
            config.security.mechanism = "SCRAM-SHA-512".to_owned();
            config.security.user = "u".to_owned();
            config.security.password = Secret::new("p");
        };
        assert_eq!(wrong(scram), ["security.mechanism"]);
    }

    #[test]
    fn a_password_is_never_shown() {
        let mut config = Config::default();
        config.security.password = Secret::new("hunter2");
        assert!(!format!("{config:?}").contains("hunter2"));
    }
}
