//! Starting and ending telemetry.

use std::time::Duration;

use anyhow::Context as _;
use opentelemetry::global;
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::WithExportConfig;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider, Tracer};
use tracing::{Level, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::{Config, Metrics, log};

/// How long ending may take.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(2);

/// What the export of spans itself is built on, by the start of its name: traced, it would feed itself for ever.
const UNTRACED: [&str; 5] = ["h2", "hyper", "tonic", "tower", "opentelemetry"];

/// The telemetry of the process.
#[derive(Debug)]
pub struct Telemetry {
    metrics: Metrics,
    traces: Option<SdkTracerProvider>,
}

/// Starts logs, metrics and, if there is somewhere to send them, traces, for the whole process. To be called once, on the tokio runtime,
/// before any instrument is made.
///
/// # Errors
/// A setting is wrong, or it was called before.
pub fn init(config: &Config, service_name: &str) -> anyhow::Result<Telemetry> {
    let resource = Resource::builder().with_service_name(service_name.to_owned()).build();
    let filter = EnvFilter::builder().parse(&config.log_level).context("log_level")?;
    let traces = (!config.otlp_endpoint.is_empty()).then(|| provider(config, resource.clone())).transpose()?;

    global::set_text_map_propagator(TraceContextPropagator::new());
    tracing_subscriber::registry()
        .with(log::layer(config.log_format).with_filter(filter))
        .with(traces.as_ref().map(|provider| self::traces(provider.tracer("plaza"))))
        .try_init()
        .context("start logging")?;
    Ok(Telemetry { metrics: Metrics::install(resource)?, traces })
}

impl Telemetry {
    /// Reads the metrics.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Sends what is still to be sent, within two seconds. To be called on the tokio runtime, last of all.
    ///
    /// # Errors
    /// Not everything could be sent.
    pub async fn shutdown(self) -> anyhow::Result<()> {
        let end = tokio::task::spawn_blocking(move || {
            let sent = self.traces.map_or(Ok(()), |traces| traces.shutdown_with_timeout(SHUTDOWN_LIMIT));
            sent.context("send the last spans").and(self.metrics.shutdown())
        });
        tokio::time::timeout(SHUTDOWN_LIMIT, end).await.context("telemetry took too long to end")??
    }
}

/// The layer that makes OpenTelemetry spans of ours.
pub(crate) fn traces<S>(tracer: Tracer) -> impl Layer<S> + Send + Sync
where
    S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
{
    let ours = Targets::new().with_default(Level::INFO).with_targets(UNTRACED.map(|target| (target, LevelFilter::OFF)));
    tracing_opentelemetry::layer().with_tracer(tracer).with_location(false).with_threads(false).with_filter(ours)
}

fn provider(config: &Config, resource: Resource) -> anyhow::Result<SdkTracerProvider> {
    let exporter = opentelemetry_otlp::SpanExporter::builder().with_tonic().with_endpoint(&config.otlp_endpoint).build();
    let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(config.trace_sample_ratio)));
    let builder = SdkTracerProvider::builder().with_resource(resource).with_sampler(sampler);
    Ok(builder.with_batch_exporter(exporter.context("otlp_endpoint")?).build())
}

#[cfg(test)]
mod tests {
    use tracing::{debug_span, info_span};

    use crate::testing;

    #[test]
    fn our_spans_are_traced_but_not_those_of_what_exports_them() {
        let (_guard, spans) = testing::collect();
        drop(info_span!(target: "h2::proto", "frame"));
        drop(info_span!(target: "hyper_util::client", "connect"));
        drop(info_span!(target: "opentelemetry_sdk", "export"));
        drop(debug_span!("detail"));
        drop(info_span!(target: "plaza_chat::api", "send"));
        let names: Vec<_> = spans.finished().into_iter().map(|span| span.name).collect();
        assert_eq!(names, ["send"]);
    }
}
