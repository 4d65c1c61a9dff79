//! What browsers need beside gRPC-web itself: an answer to whether a page of another origin may call.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::Response,
};

const SENT: HeaderValue = HeaderValue::from_static("authorization, content-type, grpc-timeout, x-grpc-web, x-user-agent");
const READ: HeaderValue = HeaderValue::from_static("grpc-status, grpc-message, grpc-status-details-bin");
const A_DAY: HeaderValue = HeaderValue::from_static("86400");

/// Lets pages of these origins call; whatever comes from elsewhere gets the answer that it would get without this.
pub(crate) async fn cors(origins: Arc<[String]>, request: Request, next: Next) -> Response {
    let origin =
        request.headers().get(header::ORIGIN).filter(|origin| origins.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes()));
    let Some(origin) = origin.cloned() else { return next.run(request).await };
    if request.method() == Method::OPTIONS {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let headers = response.headers_mut();
        allow(headers, origin);
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST"));
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, SENT);
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, A_DAY);
        return response;
    }
    let mut response = next.run(request).await;
    allow(response.headers_mut(), origin);
    response.headers_mut().insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, READ);
    response
}

fn allow(headers: &mut HeaderMap, origin: HeaderValue) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(header::VARY, HeaderValue::from_static("origin"));
}
