//! What an operator can set.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

/// Settings of the gateway. Times are in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where clients connect: address and port.
    pub listen: String,
    /// Serve without TLS on an address that others can reach, because something in front ends the encryption.
    pub allow_plaintext: bool,
    /// Serve with TLS, if it is set.
    pub tls: Tls,
    /// Origins whose web pages may call by gRPC-web, such as `https://plaza.example`.
    pub allowed_origins: Vec<String>,
    /// Answer gRPC reflection for the public services.
    pub reflection: bool,
    /// Enforce the rates of the descriptors.
    pub rate_limits: bool,
    /// Live streams of the whole process at most.
    pub max_streams: usize,
    /// Calls and streams of one connection at most.
    pub max_streams_per_connection: u32,
    /// A device that sends nothing for three of these is cut off.
    pub heartbeat_ms: u64,
    /// How long a new stream may take to say hello.
    pub hello_timeout_ms: u64,
    /// A device that takes nothing for this long while something waits for it is cut off.
    pub slow_consumer_timeout_ms: u64,
    /// How long open calls and streams may take to end when the process stops; devices are told to come back, spread over the same time.
    pub drain_ms: u64,
}

/// Where the certificate is; without either there is no TLS.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// PEM file with the certificate chain; empty is none.
    pub certificate: PathBuf,
    /// PEM file with the private key; empty is none.
    pub key: PathBuf,
}

impl Tls {
    /// Whether connections are to be encrypted.
    pub(crate) fn is_set(&self) -> bool {
        !self.certificate.as_os_str().is_empty()
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:7700".to_owned(),
            allow_plaintext: false,
            tls: Tls::default(),
            allowed_origins: Vec::new(),
            reflection: true,
            rate_limits: true,
            max_streams: 200_000,
            max_streams_per_connection: 1_000,
            heartbeat_ms: 30_000,
            hello_timeout_ms: 10_000,
            slow_consumer_timeout_ms: 30_000,
            drain_ms: 3_000,
        }
    }
}

impl Config {
    /// What is wrong with it: the key and why.
    #[must_use]
    pub fn violations(&self) -> Vec<(&'static str, &'static str)> {
        let times = [
            ("heartbeat_ms", self.heartbeat_ms),
            ("hello_timeout_ms", self.hello_timeout_ms),
            ("slow_consumer_timeout_ms", self.slow_consumer_timeout_ms),
        ];
        let mut violations: Vec<_> =
            times.into_iter().filter(|(_, millis)| *millis < 10).map(|(key, _)| (key, "must be at least 10")).collect();
        if self.max_streams_per_connection == 0 {
            violations.push(("max_streams_per_connection", "must be at least 1"));
        }
        if self.tls.certificate.as_os_str().is_empty() != self.tls.key.as_os_str().is_empty() {
            violations.push(("tls", "needs both certificate and key"));
        }
        violations
    }

    pub(crate) fn heartbeat(&self) -> Duration {
        Duration::from_millis(self.heartbeat_ms)
    }

    pub(crate) fn hello_timeout(&self) -> Duration {
        Duration::from_millis(self.hello_timeout_ms)
    }

    pub(crate) fn slow_consumer_timeout(&self) -> Duration {
        Duration::from_millis(self.slow_consumer_timeout_ms)
    }

    pub(crate) fn drain(&self) -> Duration {
        Duration::from_millis(self.drain_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_valid_and_what_is_wrong_is_named() {
        assert!(Config::default().violations().is_empty());
        let tls = Tls { certificate: "chain.pem".into(), ..Tls::default() };
        let wrong = Config { heartbeat_ms: 0, max_streams_per_connection: 0, tls, ..Config::default() };
        let keys: Vec<_> = wrong.violations().into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["heartbeat_ms", "max_streams_per_connection", "tls"]);
    }
}
