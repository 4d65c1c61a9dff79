//! What of logs, traces and metrics goes where.

use std::net::SocketAddr;

use plaza_runtime::config::{Problem, Validate};
use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line, with the ids of the trace.
    Json,
}

/// Settings; the table `telemetry` of the configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// How log lines look; they go to standard error.
    pub log_format: LogFormat,
    /// What is logged: a level, or directives such as `info,plaza_chat=debug`.
    pub log_level: String,
    /// Where metrics and health are served over HTTP, such as `0.0.0.0:9464`; empty is nowhere.
    pub admin_listen: String,
    /// Where traces are sent by OTLP over gRPC, such as `http://collector:4317`; empty is nowhere, and nothing is traced then.
    pub otlp_endpoint: String,
    /// The share of traces begun here that is kept, from 0 to 1; a caller's own decision goes over it.
    pub trace_sample_ratio: f64,
}

impl Config {
    /// Where metrics and health are to be served, if anywhere.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin_listen.parse().ok()
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            log_format: LogFormat::Text,
            log_level: "info".to_owned(),
            admin_listen: String::new(),
            otlp_endpoint: String::new(),
            trace_sample_ratio: 0.01,
        }
    }
}

impl Validate for Config {
    fn validate(&self, errors: &mut Vec<Problem>) {
        if let Err(error) = EnvFilter::builder().parse(&self.log_level) {
            errors.push(Problem::new("log_level", error.to_string()));
        }
        if !self.admin_listen.is_empty() && self.admin_address().is_none() {
            errors.push(Problem::new("admin_listen", "must be an address and a port, or empty"));
        }
        if !self.otlp_endpoint.is_empty() && self.otlp_endpoint.parse::<http::Uri>().map_or(true, |uri| uri.scheme().is_none()) {
            errors.push(Problem::new("otlp_endpoint", "must be a URL, or empty"));
        }
        if !(0.0..=1.0).contains(&self.trace_sample_ratio) {
            errors.push(Problem::new("trace_sample_ratio", "must be from 0 to 1"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(config: &Config) -> Vec<String> {
        let mut errors = Vec::new();
        config.validate(&mut errors);
        errors.into_iter().map(|problem| problem.key).collect()
    }

    #[test]
    fn good_settings_pass_and_every_bad_one_is_named() {
        assert!(wrong(&Config::default()).is_empty());
        let full = Config {
            log_level: "warn,plaza_chat=debug".into(),
            admin_listen: "[::]:9464".into(),
            otlp_endpoint: "http://collector:4317".into(),
            trace_sample_ratio: 1.0,
            ..Config::default()
        };
        assert!(wrong(&full).is_empty());
        let bad = Config {
            log_level: "plaza=loud".into(),
            admin_listen: "9464".into(),
            otlp_endpoint: "collector".into(),
            trace_sample_ratio: f64::NAN,
            ..Config::default()
        };
        assert_eq!(wrong(&bad), ["log_level", "admin_listen", "otlp_endpoint", "trace_sample_ratio"]);
    }
}
