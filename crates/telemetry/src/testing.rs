//! For tests that look at the shape of traces.

use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::layer::SubscriberExt;

use crate::setup;

/// The spans collected.
#[derive(Debug, Clone)]
pub struct Spans(InMemorySpanExporter);

/// Collects every span of the current thread, and so of a test on a current-thread runtime, until the guard is dropped.
pub fn collect() -> (DefaultGuard, Spans) {
    let exporter = InMemorySpanExporter::default();
    let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
    let subscriber = tracing_subscriber::registry().with(setup::traces(provider.tracer("plaza")));
    (tracing::subscriber::set_default(subscriber), Spans(exporter))
}

impl Spans {
    /// The spans that have ended, in the order of their end.
    pub fn finished(&self) -> Vec<SpanData> {
        self.0.get_finished_spans().unwrap_or_default()
    }

    /// The only ended span of that name.
    ///
    /// # Panics
    /// There is none, or more than one.
    pub fn named(&self, name: &str) -> SpanData {
        let mut spans = self.finished();
        let names: Vec<_> = spans.iter().map(|span| span.name.clone()).collect();
        spans.retain(|span| span.name == name);
        assert_eq!(spans.len(), 1, "spans named {name:?} among {names:?}");
        spans.remove(0)
    }
}
