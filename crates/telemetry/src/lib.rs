//! Logs, traces and metrics, and the names they use. Never a token, a password, a message or a phone number in any of them, and never the id
//! of a user or a conversation in a metric's label.
//!
//! Instruments come from OpenTelemetry's global meters; those made before [`init`] measure nothing.

pub mod admin;
pub mod config;
mod log;
pub mod metrics;
pub mod processor_metrics;
pub mod propagation;
pub mod rpc_metrics;
pub mod semconv;
mod setup;
pub mod testing;

pub use config::Config;
pub use metrics::Metrics;
pub use processor_metrics::ProcessorMetrics;
pub use rpc_metrics::RpcMetrics;
pub use setup::{Telemetry, init};
