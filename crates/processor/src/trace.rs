//! The span of a record whose sender is traced: a child of the sender's, for one record follows from one call within milliseconds.

use plaza_event_log::Record;
use plaza_telemetry::{propagation, semconv};
use tracing::{Span, field::Empty};

use crate::Machine;

/// The span of deciding this record; `None` when nobody traces it, which costs one look at its headers.
pub(crate) fn span<M: Machine>(partition: u32, record: &Record) -> Option<Span> {
    let (_, sender) = record.headers.iter().find(|(name, _)| *name == propagation::TRACEPARENT)?;
    let topic = M::TOPIC.0;
    let span = tracing::info_span!(
        "process",
        otel.name = format!("process {topic}"),
        otel.kind = "consumer",
        { semconv::MESSAGING_DESTINATION_NAME } = topic,
        { semconv::MESSAGING_DESTINATION_PARTITION_ID } = partition,
        { semconv::MESSAGING_CONSUMER_GROUP_NAME } = M::NAME,
        { semconv::MESSAGING_OPERATION_TYPE } = semconv::PROCESS,
        error = Empty
    );
    propagation::set_parent(&span, sender);
    Some(span)
}
