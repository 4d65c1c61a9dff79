//! Every call from outside: known or not, who calls, how often, how large; then its bytes go to the service that owns the method, with the
//! caller's identity in place of whatever the caller sent along.

use std::{collections::HashMap, net::IpAddr, sync::Arc, time::Duration};

use axum::{body::Body, extract::Request, response::Response};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use plaza_proto::{
    options::v1::Access as Who,
    policy::{self, Method},
};
use plaza_rpc::{ApiError, Identity, Peer, metadata};
use plaza_runtime::Clock;
use plaza_telemetry::propagation;
use plaza_types::Reason;
use tonic::{
    Status,
    transport::server::{TcpConnectInfo, TlsConnectInfo},
};
use tower::Service;

use crate::{
    admission::Admission,
    connect::{self, hub::Hub},
    revocation::Revocations,
    tokens::{self, Access, Verifier},
    whole::Whole,
};

// Metadata of one call, names and values.
const METADATA_BYTES: usize = 8 * 1024;
// The length and the compression flag before a message.
const PREFIX_BYTES: usize = 5;

/// What may pass; whatever else a client sends stays outside, above all `x-plaza-*` and the token.
const PASSED: [HeaderName; 6] = [
    header::CONTENT_TYPE,
    header::TE,
    HeaderName::from_static("grpc-encoding"),
    HeaderName::from_static("grpc-accept-encoding"),
    HeaderName::from_static(propagation::TRACEPARENT),
    HeaderName::from_static("tracestate"),
];

/// What decides over a call.
pub(crate) struct Door {
    pub(crate) admission: Arc<Admission>,
    pub(crate) verifier: Verifier,
    pub(crate) revocations: Arc<Revocations>,
    pub(crate) hub: Arc<Hub>,
    /// By package.
    pub(crate) peers: HashMap<&'static str, Peer>,
    pub(crate) clock: Clock,
}

/// Answers one call.
pub(crate) async fn answer(door: Arc<Door>, request: Request) -> Response {
    door.pass(request).await.unwrap_or_else(|error| Status::from(error).into_http())
}

impl Door {
    async fn pass(&self, request: Request) -> Result<Response, ApiError> {
        let Some(method) = policy::methods().get(request.uri().path()).filter(|method| method.is_public()) else {
            return Err(ApiError::new(Reason::UnknownMethod, "no such method"));
        };
        let size: usize = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        if size > METADATA_BYTES {
            return Err(ApiError::new(Reason::TooLarge, format!("metadata of more than {METADATA_BYTES} bytes")));
        }
        if let Some(address) = remote(&request) {
            self.admission.address(&method.path, address)?;
        }
        let access = match method.policy.access() {
            Who::Open => None,
            _ => Some(self.access(request.headers()).await?),
        };
        if let Some(access) = access {
            self.admission.user(&method.path, access.user)?;
            if method.path == connect::PATH {
                let response = connect::open(Arc::clone(&self.hub), access, method.max_request_bytes(), request).await;
                return Ok(response.map(Body::new));
            }
        }
        self.forward(method, access, request).await
    }

    async fn access(&self, headers: &HeaderMap) -> Result<Access, ApiError> {
        let missing = || ApiError::new(Reason::TokenMissing, "an access token is needed");
        let header = headers.get(header::AUTHORIZATION).ok_or_else(missing)?;
        let invalid = || ApiError::new(Reason::TokenInvalid, "not a bearer token");
        let (scheme, token) = header.to_str().ok().and_then(|text| text.split_once(' ')).ok_or_else(invalid)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(invalid());
        }
        let access = self.verifier.verify(token, self.clock.now_micros()).await?;
        if self.revocations.covers(access.device, access.issued) {
            return Err(tokens::revoked());
        }
        Ok(access)
    }

    async fn forward(&self, method: &Method, access: Option<Access>, mut request: Request) -> Result<Response, ApiError> {
        let package = method.service.rsplit_once('.').map_or("", |(package, _)| package);
        let mut peer = self.peers.get(package).cloned().ok_or_else(|| ApiError::unavailable(Duration::from_secs(1)))?;
        let mut headers = HeaderMap::with_capacity(PASSED.len() + 3);
        for name in PASSED {
            if let Some(value) = request.headers_mut().remove(&name) {
                headers.insert(name, value);
            }
        }
        headers.insert(metadata::PRIORITY, HeaderValue::from(method.policy.priority() as i32));
        if let Some(Access { user, device, .. }) = access {
            Identity { user, device }.stamp(&mut headers);
        }
        let uri = std::mem::take(request.uri_mut());
        let body = if method.client_streaming {
            tonic::body::Body::new(request.into_body())
        } else {
            tonic::body::Body::new(collect(request.into_body(), method.max_request_bytes()).await?)
        };
        let mut inner = http::Request::new(body);
        *inner.method_mut() = http::Method::POST;
        *inner.uri_mut() = uri;
        *inner.headers_mut() = headers;
        let response = match peer.call(inner).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        if method.server_streaming { Ok(response.map(Body::new)) } else { whole(response).await }
    }
}

/// An answer that is there as a whole goes out as one write; from another process its parts may come one by one.
async fn whole(response: Response<tonic::body::Body>) -> Result<Response, ApiError> {
    let (head, body) = response.into_parts();
    match body.collect().await {
        Ok(body) => Ok(Response::from_parts(head, Body::new(Whole::new(body)))),
        Err(error) => {
            tracing::debug!(%error, "an answer broke off");
            Err(ApiError::unavailable(Duration::from_millis(200)))
        }
    }
}

async fn collect(body: Body, limit: usize) -> Result<http_body_util::Collected<bytes::Bytes>, ApiError> {
    Limited::new(body, limit + PREFIX_BYTES).collect().await.map_err(|error| {
        if error.is::<LengthLimitError>() {
            ApiError::new(Reason::TooLarge, format!("the request has more than {limit} bytes"))
        } else {
            ApiError::new(Reason::InvalidArgument, "the request broke off")
        }
    })
}

fn remote(request: &Request) -> Option<IpAddr> {
    let extensions = request.extensions();
    let plain = extensions.get::<TcpConnectInfo>();
    plain
        .or_else(|| extensions.get::<TlsConnectInfo<TcpConnectInfo>>().map(TlsConnectInfo::get_ref))
        .and_then(|info| Some(info.remote_addr?.ip()))
}
