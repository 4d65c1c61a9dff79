//! Rate, errors and duration of the calls answered, by method and code.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use opentelemetry::metrics::Histogram;
use opentelemetry::{KeyValue, global};
use parking_lot::RwLock;
use tonic::Code;

use crate::semconv;

/// Upper bounds in seconds: a call within the process takes less than a millisecond.
const BOUNDARIES: [f64; 14] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Methods that are told apart; what a caller makes up beyond that counts as [`semconv::OTHER`].
const MOST_METHODS: usize = 512;

/// gRPC has the codes 0 to 16.
const CODES: usize = 17;

/// Records calls. Clones record into the same.
#[derive(Debug, Clone)]
pub struct RpcMetrics {
    duration: Histogram<f64>,
    /// The attributes of every method and code seen, so that recording allocates nothing.
    methods: Arc<RwLock<HashMap<Box<str>, Arc<Attributes>>>>,
}

type Attributes = [OnceLock<[KeyValue; 3]>; CODES];

impl RpcMetrics {
    /// Records to the global meter.
    #[expect(clippy::new_without_default, reason = "what it records to depends on the process")]
    pub fn new() -> Self {
        let meter = global::meter("plaza.rpc");
        let duration = meter.f64_histogram(semconv::RPC_SERVER_CALL_DURATION).with_unit("s");
        let duration = duration.with_description("duration of the calls answered").with_boundaries(BOUNDARIES.to_vec()).build();
        Self { duration, methods: Arc::default() }
    }

    /// Records a call of `method` (`package.Service/Method`) that ended with `code`. A method that is not one of ours should be given as
    /// [`semconv::OTHER`].
    pub fn record(&self, method: &str, code: Code, took: Duration) {
        let method = method.strip_prefix('/').unwrap_or(method);
        let known = self.methods.read().get(method).cloned();
        let attributes = known.unwrap_or_else(|| self.learn(method));
        let attributes = attributes[code as usize].get_or_init(|| {
            let method = if self.methods.read().contains_key(method) { method } else { semconv::OTHER };
            [
                KeyValue::new(semconv::RPC_SYSTEM_NAME, semconv::GRPC),
                KeyValue::new(semconv::RPC_METHOD, method.to_owned()),
                KeyValue::new(semconv::RPC_RESPONSE_STATUS_CODE, semconv::status_code(code)),
            ]
        });
        self.duration.record(took.as_secs_f64(), attributes);
    }

    fn learn(&self, method: &str) -> Arc<Attributes> {
        let mut methods = self.methods.write();
        let method = if methods.len() < MOST_METHODS { method } else { semconv::OTHER };
        Arc::clone(methods.entry(method.into()).or_default())
    }
}
