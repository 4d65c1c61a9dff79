//! A live stream's connection, as small as it can be: one HTTP/2 connection of its own without a channel around it, and a codec with small
//! buffers. Tens of thousands of them fit into one process.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    task::{Context, Poll},
};

use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use plaza_proto::gateway::v1::{ConnectRequest, ConnectResponse};
use tokio::net::TcpSocket;
use tokio_stream::Stream;
use tonic::{
    Request, Status, Streaming,
    body::Body,
    client::Grpc,
    codec::{BufferSettings, Codec},
    metadata::AsciiMetadataValue,
};
use tonic_prost::{ProstDecoder, ProstEncoder};

use crate::target::Target;

/// Bytes that a stream, and that a connection, may have on the way to us.
const WINDOW: u32 = 64 * 1024;
/// Connections from one loopback address: a port is free for each, and some are left to others.
const PER_ADDRESS: usize = 20_000;

/// Where the `number`th connection comes from. A pair of addresses has no more connections than there are ports, so many connections to this
/// machine come from several of its loopback addresses. To another machine the system chooses.
fn source(target: &Target, number: usize) -> Option<SocketAddr> {
    let address = match (number / PER_ADDRESS, target.socket.ip()) {
        (0, _) => return None,
        (group, IpAddr::V4(ip)) if ip.is_loopback() => Ipv4Addr::new(127, 0, 1, u8::try_from(group).unwrap_or(u8::MAX)),
        _ => return None,
    };
    Some(SocketAddr::from((address, 0)))
}

/// Opens a live stream. `frames` is what is sent, the hello first.
///
/// # Errors
/// The connection cannot be made, or the server's status.
pub async fn connect(
    target: &Target,
    number: usize,
    token: AsciiMetadataValue,
    frames: impl Stream<Item = ConnectRequest> + Send + 'static,
) -> Result<Streaming<ConnectResponse>, Status> {
    let unavailable = |error: std::io::Error| Status::unavailable(error.to_string());
    let socket = if target.socket.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.map_err(unavailable)?;
    if let Some(source) = source(target, number) {
        socket.bind(source).map_err(unavailable)?;
    }
    let stream = socket.connect(target.socket).await.map_err(unavailable)?;
    stream.set_nodelay(true).map_err(unavailable)?;
    let mut http2 = http2::Builder::new(TokioExecutor::new());
    http2.initial_stream_window_size(WINDOW).initial_connection_window_size(WINDOW).max_send_buf_size(16 * 1024);
    let (requests, connection) = http2.handshake(TokioIo::new(stream)).await.map_err(|error| Status::unavailable(error.to_string()))?;
    #[expect(clippy::disallowed_methods, reason = "ends with the connection, whose failure the stream tells")]
    tokio::spawn(connection);
    let origin = target.address.parse().map_err(|_| Status::internal("the target is no address"))?;
    let mut client = Grpc::with_origin(Direct(requests), origin);
    client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let mut request = Request::new(frames);
    request.metadata_mut().insert("authorization", token);
    let path = http::uri::PathAndQuery::from_static("/plaza.gateway.v1.GatewayService/Connect");
    Ok(client.streaming(request, path, Small).await?.into_inner())
}

/// One connection as a service.
struct Direct(SendRequest<Body>);

impl tower::Service<http::Request<Body>> for Direct {
    type Response = http::Response<hyper::body::Incoming>;
    type Error = hyper::Error;
    type Future = std::pin::Pin<Box<dyn Future<Output = hyper::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}

/// The frames of a live stream, in small buffers.
struct Small;

fn buffers() -> BufferSettings {
    BufferSettings::new(256, 4096)
}

impl Codec for Small {
    type Encode = ConnectRequest;
    type Decode = ConnectResponse;
    type Encoder = ProstEncoder<Self::Encode>;
    type Decoder = ProstDecoder<Self::Decode>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::new(buffers())
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstDecoder::new(buffers())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_connections_come_from_several_addresses() {
        let local = Target::new("http://127.0.0.1:7700", false).expect("loopback");
        let from = |number| source(&local, number).map(|source| source.ip().to_string());
        assert_eq!(from(0), None);
        assert_eq!(from(PER_ADDRESS), Some("127.0.1.1".into()));
        assert_eq!(from(3 * PER_ADDRESS - 1), Some("127.0.1.2".into()));
        let other = Target::new("http://192.0.2.1:7700", true).expect("owned");
        assert_eq!(source(&other, PER_ADDRESS), None);
    }
}
