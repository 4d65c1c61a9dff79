//! The chat service's own metrics. What the processors and the calls cost is measured by `processor` and `rpc`.

use std::sync::OnceLock;

use opentelemetry::{
    global,
    metrics::{Counter, UpDownCounter},
};

/// The instruments.
pub(crate) struct Metrics {
    /// Live entries given to links.
    pub(crate) delivered: Counter<u64>,
    /// Sessions that fell behind because their link was full.
    pub(crate) behind: Counter<u64>,
    /// Sequences that came again in an inbox, and were dropped.
    pub(crate) repeated: Counter<u64>,
    /// Sequences missing in an inbox.
    pub(crate) gaps: Counter<u64>,
    /// Inbox entries whose message could not be read in time.
    pub(crate) missing: Counter<u64>,
    /// Calls turned away because too many were under way.
    pub(crate) turned_away: Counter<u64>,
    /// Sessions attached now.
    pub(crate) sessions: UpDownCounter<i64>,
}

/// The process's instruments.
pub(crate) fn get() -> &'static Metrics {
    static METRICS: OnceLock<Metrics> = OnceLock::new();
    METRICS.get_or_init(|| {
        let meter = global::meter("plaza.chat");
        let counter = |name: &'static str, about: &'static str| meter.u64_counter(name).with_description(about).build();
        Metrics {
            delivered: counter("plaza_chat_live_entries", "live entries given to links"),
            behind: counter("plaza_chat_live_behind", "sessions that fell behind because their link was full"),
            repeated: counter("plaza_chat_inbox_repeated", "message sequences that came again and were dropped"),
            gaps: counter("plaza_chat_inbox_gaps", "message sequences missing in an inbox"),
            missing: counter("plaza_chat_inbox_missing", "inbox entries whose message could not be read in time"),
            turned_away: counter("plaza_chat_calls_turned_away", "calls turned away because too many were under way"),
            sessions: meter.i64_up_down_counter("plaza_chat_live_sessions").with_description("sessions attached now").build(),
        }
    })
}
