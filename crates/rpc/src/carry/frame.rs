//! Calls and answers as messages, and back. Values and bodies are slices of the message they came in.

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header, request};
use http_body_util::BodyExt as _;
use plaza_proto::internal::v1::{Answer, Call, CarryRequest, Header, HeaderName as Known, carry_request::Step};
use prost::Message as _;
use tonic::{Status, body::Body};

use super::whole::Whole;
use crate::{ApiError, metadata};

/// The names that have a number.
static KNOWN: [(Known, HeaderName); 12] = [
    (Known::ContentType, header::CONTENT_TYPE),
    (Known::Te, header::TE),
    (Known::GrpcTimeout, metadata::TIMEOUT),
    (Known::GrpcEncoding, HeaderName::from_static("grpc-encoding")),
    (Known::GrpcAcceptEncoding, HeaderName::from_static("grpc-accept-encoding")),
    (Known::GrpcStatus, HeaderName::from_static("grpc-status")),
    (Known::GrpcMessage, HeaderName::from_static("grpc-message")),
    (Known::GrpcStatusDetailsBin, HeaderName::from_static("grpc-status-details-bin")),
    (Known::Traceparent, HeaderName::from_static("traceparent")),
    (Known::PlazaUser, metadata::USER),
    (Known::PlazaDevice, metadata::DEVICE),
    (Known::PlazaPriority, metadata::PRIORITY),
];

/// Writes a call behind what is in the buffer, as gRPC frames messages.
pub(super) fn put_call(buffer: &mut BytesMut, id: u64, head: &request::Parts, body: Bytes) {
    put(buffer, Step::Call(Call { id, path: head.uri.path().to_owned(), headers: headers(&head.headers), body }));
}

/// The same for word that nobody waits for a call any more.
pub(super) fn put_given_up(buffer: &mut BytesMut, id: u64) {
    put(buffer, Step::GivenUp(id));
}

fn put(buffer: &mut BytesMut, step: Step) {
    let message = CarryRequest { step: Some(step) };
    let length = message.encoded_len();
    buffer.reserve(5 + length);
    buffer.put_u8(0);
    buffer.put_u32(u32::try_from(length).expect("a call is small"));
    message.encode(buffer).expect("room was reserved");
}

/// The request that a call was, and its number.
///
/// # Errors
/// INVALID_ARGUMENT for what is no path or no header.
pub(super) fn request(call: Call) -> Result<Request<Body>, ApiError> {
    let mut request = Request::post(call.path).body(Whole::body(call.body, None)).map_err(|_| ApiError::invalid("path", "not a path"))?;
    *request.headers_mut() = map(call.headers)?;
    Ok(request)
}

/// An answer, read to its end.
pub(super) async fn answer(id: u64, response: Response<Body>) -> Answer {
    let (head, body) = response.into_parts();
    let Ok(body) = body.collect().await else { return failure(id, ApiError::internal()) };
    let http_status = if head.status == StatusCode::OK { 0 } else { head.status.as_u16().into() };
    let trailers = body.trailers().map(headers).unwrap_or_default();
    Answer { id, http_status, headers: headers(&head.headers), body: body.to_bytes(), trailers, more: false }
}

/// The answer to a call that failed on the way.
pub(super) fn failure(id: u64, error: ApiError) -> Answer {
    let response = Status::from(error).into_http::<()>();
    Answer { id, headers: headers(response.headers()), ..Answer::default() }
}

/// The response that an answer was.
///
/// # Errors
/// The other end sent what is no status or no header.
pub(super) fn response(answer: Answer) -> Result<Response<Body>, ApiError> {
    let status = match answer.http_status {
        0 => StatusCode::OK,
        status => u16::try_from(status).ok().and_then(|status| StatusCode::from_u16(status).ok()).ok_or_else(ApiError::internal)?,
    };
    let trailers = if answer.trailers.is_empty() { None } else { Some(map(answer.trailers)?) };
    let mut response = Response::new(Whole::body(answer.body, trailers));
    *response.status_mut() = status;
    *response.headers_mut() = map(answer.headers)?;
    Ok(response)
}

/// The parts of an answer as one.
pub(super) fn join(parts: Vec<Answer>, last: Answer) -> Answer {
    let mut parts = parts.into_iter();
    let Some(mut whole) = parts.next() else { return last };
    let mut body = BytesMut::from(whole.body);
    parts.for_each(|part| body.extend_from_slice(&part.body));
    body.extend_from_slice(&last.body);
    whole.body = body.freeze();
    whole.trailers = last.trailers;
    whole
}

/// Takes the first part off an answer that is larger than that.
pub(super) fn part(answer: &mut Answer, bytes: usize) -> Option<Answer> {
    (answer.body.len() > bytes).then(|| Answer {
        id: answer.id,
        http_status: std::mem::take(&mut answer.http_status),
        headers: std::mem::take(&mut answer.headers),
        body: answer.body.split_to(bytes),
        trailers: Vec::new(),
        more: true,
    })
}

fn headers(map: &HeaderMap) -> Vec<Header> {
    let header = |(name, value): (&HeaderName, &HeaderValue)| {
        let known = KNOWN.iter().find(|(_, known)| known == name);
        let other = if known.is_some() { String::new() } else { name.as_str().to_owned() };
        let known = known.map_or(Known::Unspecified, |(known, _)| *known).into();
        Header { known, other, value: Bytes::copy_from_slice(value.as_bytes()) }
    };
    map.iter().map(header).collect()
}

fn map(headers: Vec<Header>) -> Result<HeaderMap, ApiError> {
    let mut map = HeaderMap::with_capacity(headers.len());
    for header in headers {
        let known = KNOWN.iter().find(|(known, _)| *known as i32 == header.known && header.known != 0);
        let name = match known {
            Some((_, name)) => name.clone(),
            None => HeaderName::try_from(header.other).map_err(|_| ApiError::invalid("headers", "not a header's name"))?,
        };
        let value = HeaderValue::from_maybe_shared(header.value).map_err(|_| ApiError::invalid("headers", "not a header's value"))?;
        map.append(name, value);
    }
    Ok(map)
}
