//! What the gateway counts beside its calls.

use opentelemetry::{
    global,
    metrics::{Gauge, UpDownCounter},
};

/// The instruments.
#[derive(Clone)]
pub(crate) struct Metrics {
    /// Open live streams.
    pub(crate) streams: UpDownCounter<i64>,
    /// Whether there is a link to the owners of inboxes: 1 or 0.
    pub(crate) linked: Gauge<u64>,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let meter = global::meter("plaza-gateway");
        Self {
            streams: meter.i64_up_down_counter("plaza_gateway_streams").with_description("open live streams").build(),
            linked: meter.u64_gauge("plaza_gateway_linked").with_description("1 while there is a link to chat").build(),
        }
    }
}
