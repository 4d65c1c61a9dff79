//! What is done around every call of a service: one server span, rate, errors and duration, the deadline, and panics turned into INTERNAL.
//! Failures that tonic found itself (a request it cannot decode) get the same precise details as a service's own.

use std::{
    convert::Infallible,
    panic::AssertUnwindSafe,
    task::{Context, Poll},
    time::Instant,
};

use axum::body::Body;
use futures::{FutureExt, future::BoxFuture};
use http::{Request, Response};
use plaza_proto::policy;
use plaza_telemetry::{RpcMetrics, propagation, semconv};
use plaza_types::Reason;
use tonic::{Code, Status, service::Routes};
use tower::{Layer, Service};
use tracing::Instrument;

use crate::{ApiError, deadline, deadline::Deadline};

/// What the stack needs of the process.
#[derive(Clone)]
pub struct StackDeps {
    /// Where calls are counted.
    pub metrics: RpcMetrics,
}

/// In the extensions of an answer that was counted in this process, so that a gateway that hands it on does not count it again.
#[derive(Clone, Copy)]
struct Counted;

/// Puts the stack around all routes of a service.
#[must_use]
pub fn stack(service: &'static str, routes: Routes, deps: &StackDeps) -> Routes {
    let layer = StackLayer { service, deps: deps.clone() };
    Routes::from(routes.into_axum_router().layer(layer))
}

#[derive(Clone)]
struct StackLayer {
    service: &'static str,
    deps: StackDeps,
}

impl<S> Layer<S> for StackLayer {
    type Service = Stack<S>;
    fn layer(&self, inner: S) -> Stack<S> {
        Stack { inner, layer: self.clone() }
    }
}

#[derive(Clone)]
struct Stack<S> {
    inner: S,
    layer: StackLayer,
}

impl<S> Service<Request<Body>> for Stack<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send> + Clone + Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let path = request.uri().path();
        let method = policy::methods().get(path);
        let name = method.map_or(semconv::OTHER, |method| method.path.trim_start_matches('/'));
        let span = tracing::info_span!(
            "call",
            otel.name = name,
            otel.kind = "server",
            rpc.system.name = semconv::GRPC,
            rpc.method = name,
            plaza.service = self.layer.service,
            rpc.response.status_code = tracing::field::Empty,
        );
        propagation::set_parent_from(&span, request.headers());
        let started = Instant::now();
        let streaming = method.is_some_and(|method| method.client_streaming || method.server_streaming);
        let within = match deadline::parse(request.headers()) {
            // A stream lives as long as both sides want, unless its caller says otherwise.
            Ok(None) if streaming => None,
            Ok(told) => Some(Deadline(started + told.unwrap_or(deadline::DEFAULT))),
            Err(error) => return std::future::ready(Ok(Status::from(error).into_http())).boxed(),
        };
        if let Some(deadline) = within {
            request.extensions_mut().insert(deadline);
        }
        let call = AssertUnwindSafe(self.inner.call(request)).catch_unwind();
        let StackLayer { service, deps } = self.layer.clone();
        let answer = async move {
            let done = match within {
                Some(deadline) => deadline::within(deadline, call).await,
                None => Ok(call.await),
            };
            let mut response = match done {
                Ok(Ok(Ok(response))) => precise(response),
                Ok(Ok(Err(never))) => match never {},
                Ok(Err(_panic)) => {
                    tracing::error!(service, rpc.method = name, "a handler panicked");
                    Status::from(ApiError::internal()).into_http()
                }
                Err(exceeded) => Status::from(exceeded).into_http(),
            };
            let code = Status::from_header_map(response.headers()).map_or(Code::Ok, |status| status.code());
            tracing::Span::current().record("rpc.response.status_code", semconv::status_code(code));
            if response.extensions_mut().insert(Counted).is_none() {
                deps.metrics.record(name, code, started.elapsed());
            }
            Ok(response)
        };
        answer.instrument(span).boxed()
    }
}

/// Gives the failures that tonic reports without details the code and reason they have in our contract.
fn precise(response: Response<Body>) -> Response<Body> {
    let Some(status) =
        Status::from_header_map(response.headers()).filter(|status| status.code() != Code::Ok && status.details().is_empty())
    else {
        return response;
    };
    // The texts are tonic's; the tests below see them change.
    const GARBAGE: [&str; 4] = ["failed to decode Protobuf message", "protocol error", "Missing request message", "Unexpected EOF"];
    let error = match status.code() {
        Code::Internal if GARBAGE.iter().any(|text| status.message().starts_with(text)) => {
            ApiError::new(Reason::InvalidArgument, "the request is not an encoded message of its type")
        }
        Code::OutOfRange => ApiError::new(Reason::TooLarge, "the request is too large"),
        Code::Unimplemented => ApiError::new(Reason::UnknownMethod, "no such method"),
        _ => return response,
    };
    Status::from(error).into_http()
}
