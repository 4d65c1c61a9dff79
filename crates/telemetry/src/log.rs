//! How log lines look.

use std::fmt;
use std::io::{self, IsTerminal};

use opentelemetry::Context;
use opentelemetry::trace::TraceContextExt;
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::format::{Format, Json, JsonFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::registry::LookupSpan;

use crate::config::LogFormat;

/// Writes lines of `format` to standard error.
pub(crate) fn layer<S>(format: LogFormat) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
{
    match format {
        LogFormat::Text => tracing_subscriber::fmt::layer().with_ansi(io::stderr().is_terminal()).with_writer(io::stderr).boxed(),
        LogFormat::Json => json(io::stderr).boxed(),
    }
}

fn json<S, W>(writer: W) -> impl Layer<S> + Send + Sync
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let format = Format::default().json().flatten_event(true).with_span_list(false);
    tracing_subscriber::fmt::layer().fmt_fields(JsonFields::new()).event_format(Traced(format)).with_writer(writer)
}

/// JSON lines with the ids of the trace that an event belongs to.
struct Traced(Format<Json>);

impl<S, N> FormatEvent<S, N> for Traced
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let ids = Context::map_current(|context| {
            let span = context.span();
            let span = span.span_context();
            span.is_valid().then(|| (span.trace_id(), span.span_id()))
        });
        let Some((trace, span)) = ids else { return self.0.format_event(context, writer, event) };
        let mut line = String::new();
        self.0.format_event(context, Writer::new(&mut line), event)?;
        // The library's object takes no more members, so they go in before its end.
        let members = line.trim_end().strip_suffix('}').ok_or(fmt::Error)?;
        writeln!(writer, "{members},\"trace_id\":\"{trace}\",\"span_id\":\"{span}\"}}")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use opentelemetry::trace::TracerProvider;
    use opentelemetry_sdk::trace::SdkTracerProvider;
    use parking_lot::Mutex;
    use serde_json::Value;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;
    use crate::setup;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Lines {
        fn parsed(&self) -> Vec<Value> {
            let bytes = self.0.lock();
            bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(|line| serde_json::from_slice(line).unwrap()).collect()
        }
    }

    #[test]
    fn a_json_line_has_its_fields_and_the_ids_of_its_trace() {
        let lines = Lines::default();
        let writer = lines.clone();
        let provider = SdkTracerProvider::builder().build();
        let subscriber = tracing_subscriber::registry().with(setup::traces(provider.tracer("plaza"))).with(json(move || writer.clone()));
        let _guard = tracing::subscriber::set_default(subscriber);

        tracing::info!("alone");
        let carried = tracing::info_span!("call", method = "Send").in_scope(|| {
            tracing::warn!(duration_ms = 7, quoted = "a \"}\" b", "slow");
            crate::propagation::current_traceparent().unwrap()
        });

        let [alone, slow] = lines.parsed().try_into().unwrap();
        assert_eq!((&alone["message"], alone.get("trace_id")), (&Value::from("alone"), None));
        assert_eq!((&slow["level"], &slow["message"], &slow["duration_ms"]), (&"WARN".into(), &"slow".into(), &7.into()));
        assert_eq!((&slow["quoted"], &slow["span"]["method"]), (&"a \"}\" b".into(), &"Send".into()));
        let ids = format!("00-{}-{}-01", slow["trace_id"].as_str().unwrap(), slow["span_id"].as_str().unwrap());
        assert_eq!(ids.as_bytes(), carried);
    }
}
