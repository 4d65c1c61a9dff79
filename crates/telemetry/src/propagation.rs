//! Traces across processes: the W3C `traceparent`, in the headers of calls and in those of records. Nothing else of a trace travels.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::Context;
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{SpanContext, TraceContextExt};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// The header's name.
pub const TRACEPARENT: &str = "traceparent";

const HEADER: HeaderName = HeaderName::from_static(TRACEPARENT);

/// The current span for a record's `traceparent` header; `None` when its trace is not kept, which costs one look at a thread's local.
pub fn current_traceparent() -> Option<Bytes> {
    current(SpanContext::is_sampled).map(Bytes::from)
}

/// Tells the callee about the current span. Also about one that is not kept, so that the callee begins no trace of its own in its place.
pub fn inject(headers: &mut HeaderMap) {
    if let Some(value) = current(SpanContext::is_valid).and_then(|text| HeaderValue::try_from(text).ok()) {
        headers.insert(HEADER, value);
    }
}

/// Makes `span`, which was not entered yet, a child of the span that `traceparent` names. Ignores what is not of the form.
pub fn set_parent(span: &Span, traceparent: &[u8]) {
    if !span.is_disabled()
        && let Some(parent) = parse(traceparent)
    {
        // Fails only where nobody collects traces.
        let _ = span.set_parent(Context::new().with_remote_span_context(parent));
    }
}

/// The same for the headers of a call.
pub fn set_parent_from(span: &Span, headers: &HeaderMap) {
    if let Some(value) = headers.get(HEADER) {
        set_parent(span, value.as_bytes());
    }
}

/// Links `span` to the span that `traceparent` names: for work on a batch, which has many causes and is a part of none of their traces.
pub fn add_link(span: &Span, traceparent: &[u8]) {
    if !span.is_disabled()
        && let Some(cause) = parse(traceparent)
    {
        span.add_link(cause);
    }
}

fn current(wanted: impl Fn(&SpanContext) -> bool) -> Option<String> {
    Context::map_current(|context| {
        let span = context.span();
        let span = span.span_context();
        // An invalid one has no sampled flag either.
        wanted(span).then(|| format!("00-{}-{}-{:02x}", span.trace_id(), span.span_id(), u8::from(span.is_sampled())))
    })
}

fn parse(traceparent: &[u8]) -> Option<SpanContext> {
    let text = std::str::from_utf8(traceparent).ok()?;
    let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &One(text));
    let span = context.span().span_context().clone();
    span.is_valid().then_some(span)
}

/// Headers of which there is one.
struct One<'a>(&'a str);

impl Extractor for One<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        (key == TRACEPARENT).then_some(self.0)
    }

    fn keys(&self) -> Vec<&str> {
        vec![TRACEPARENT]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tracing::{info_span, trace_span};

    use super::*;
    use crate::testing;

    const SAMPLED: &[u8] = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    const NOT_SAMPLED: &[u8] = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";

    #[test]
    fn a_record_carries_its_trace_to_whoever_reads_it() {
        let (_guard, spans) = testing::collect();
        let carried = info_span!("send").in_scope(|| current_traceparent().unwrap());
        let read = info_span!("process");
        set_parent(&read, &carried);
        read.in_scope(|| {});
        drop(read);
        let (send, process) = (spans.named("send"), spans.named("process"));
        assert_eq!(process.parent_span_id, send.span_context.span_id());
        assert_eq!(process.span_context.trace_id(), send.span_context.trace_id());
        assert!(process.parent_span_is_remote);
    }

    #[test]
    fn a_call_carries_its_trace_in_its_headers() {
        let (_guard, spans) = testing::collect();
        let mut headers = HeaderMap::new();
        info_span!("client").in_scope(|| inject(&mut headers));
        let server = info_span!("server");
        set_parent_from(&server, &headers);
        drop(server);
        assert_eq!(spans.named("server").parent_span_id, spans.named("client").span_context.span_id());
    }

    #[test]
    fn a_trace_that_is_not_kept_goes_on_in_calls_but_not_in_records() {
        let (_guard, spans) = testing::collect();
        let span = info_span!("child");
        set_parent(&span, NOT_SAMPLED);
        let mut headers = HeaderMap::new();
        span.in_scope(|| {
            assert_eq!(current_traceparent(), None);
            inject(&mut headers);
        });
        drop(span);
        let carried = headers[TRACEPARENT].to_str().unwrap();
        assert!(carried.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-") && carried.ends_with("-00"), "{carried}");
        assert!(spans.finished().is_empty());
    }

    #[test]
    fn without_a_trace_nothing_is_carried() {
        let mut headers = HeaderMap::new();
        inject(&mut headers);
        assert!(headers.is_empty());
        assert_eq!(current_traceparent(), None);
        let (_guard, _spans) = testing::collect();
        assert_eq!(trace_span!("too detailed").in_scope(current_traceparent), None);
    }

    #[test]
    fn a_batch_is_linked_to_its_causes() {
        let (_guard, spans) = testing::collect();
        let batch = info_span!("batch");
        add_link(&batch, SAMPLED);
        add_link(&batch, b"nonsense");
        drop(batch);
        let batch = spans.named("batch");
        assert_eq!(batch.links.len(), 1);
        assert_ne!(batch.span_context.trace_id(), batch.links[0].span_context.trace_id());
    }

    proptest! {
        #[test]
        fn whatever_comes_is_a_span_or_ignored(bytes in prop::collection::vec(any::<u8>(), 0..80), cut in 0..SAMPLED.len()) {
            prop_assert!(parse(&bytes).is_none_or(|span| span.is_valid()));
            prop_assert!(parse(&SAMPLED[..cut]).is_none_or(|span| span.is_valid()));
        }
    }
}
