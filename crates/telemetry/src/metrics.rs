//! All instruments of the process, read as Prometheus text.

use anyhow::Context as _;
use opentelemetry::global;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::{Registry, TextEncoder};

/// Reads what every instrument made from the global meters has measured. Clones read the same.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Registry,
    provider: SdkMeterProvider,
}

impl Metrics {
    /// Makes the global meters measure, from now on, for here.
    pub(crate) fn install(resource: Resource) -> anyhow::Result<Self> {
        let registry = Registry::new();
        let exporter = opentelemetry_prometheus::exporter().with_registry(registry.clone()).scope_info_enabled(false);
        let exporter = exporter.build().context("set up metrics")?;
        let provider = SdkMeterProvider::builder().with_resource(resource).with_reader(exporter).build();
        global::set_meter_provider(provider.clone());
        Ok(Self { registry, provider })
    }

    /// Everything measured so far, in Prometheus' text format.
    ///
    /// # Errors
    /// An instrument has a name or label that the format does not allow.
    pub fn text(&self) -> anyhow::Result<String> {
        TextEncoder::new().encode_to_string(&self.registry.gather()).context("write metrics")
    }

    pub(crate) fn shutdown(&self) -> anyhow::Result<()> {
        self.provider.shutdown().context("stop metrics")
    }
}
