//! Calls below the generated clients, and below tonic's channel, which keeps deadlines itself: bytes as they are, sent to any path with any
//! metadata, so that a test can say what no client would.

use std::task::{Context, Poll};

use bytes::{Buf, BufMut, Bytes};
use hyper::{
    body::Incoming,
    client::conn::http2::{self, SendRequest},
    http,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio_stream::Stream;
use tonic::{
    Request, Status, Streaming,
    body::Body,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

/// Bytes that a stream, and that a connection, may have on the way to it.
const WINDOW: u32 = 64 * 1024;

/// One HTTP/2 connection; clones share it.
#[derive(Clone)]
pub struct Connection {
    requests: SendRequest<Body>,
    origin: http::Uri,
}

impl Connection {
    /// Connects to `http://host:port`.
    ///
    /// # Errors
    /// Nobody listens there.
    pub async fn open(address: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address.trim_start_matches("http://")).await?;
        stream.set_nodelay(true)?;
        // What a stream that is not read holds here is little, so that the server feels it soon.
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2.initial_stream_window_size(WINDOW).initial_connection_window_size(WINDOW);
        let (requests, connection) = http2.handshake(TokioIo::new(stream)).await?;
        #[expect(clippy::disallowed_methods, reason = "ends with the connection")]
        tokio::spawn(connection);
        Ok(Self { requests, origin: address.parse()? })
    }

    /// Sends an HTTP request as it is.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn send(&self, request: http::Request<Body>) -> hyper::Result<http::Response<Incoming>> {
        self.requests.clone().send_request(request).await
    }

    /// Calls a method.
    ///
    /// # Errors
    /// The server's status.
    pub async fn unary(&self, path: &str, request: Request<Bytes>) -> Result<Bytes, Status> {
        let (mut client, path) = self.client(path)?;
        Ok(client.unary(request, path, Raw).await?.into_inner())
    }

    /// Opens a stream in both directions.
    ///
    /// # Errors
    /// The server's status.
    pub async fn streaming(
        &self,
        path: &str,
        request: Request<impl Stream<Item = Bytes> + Send + 'static>,
    ) -> Result<Streaming<Bytes>, Status> {
        let (mut client, path) = self.client(path)?;
        Ok(client.streaming(request, path, Raw).await?.into_inner())
    }

    fn client(&self, path: &str) -> Result<(Grpc<Self>, http::uri::PathAndQuery), Status> {
        let path = path.parse().map_err(|_| Status::internal("the path is no path"))?;
        Ok((Grpc::with_origin(self.clone(), self.origin.clone()), path))
    }
}

impl tower::Service<http::Request<Body>> for Connection {
    type Response = http::Response<Incoming>;
    type Error = hyper::Error;
    type Future = std::pin::Pin<Box<dyn Future<Output = hyper::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        self.requests.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let mut requests = self.requests.clone();
        Box::pin(async move { requests.send_request(request).await })
    }
}

/// A request with an access token, if there is one.
///
/// # Errors
/// The token cannot be sent.
pub fn request<T>(body: T, token: Option<&str>) -> anyhow::Result<Request<T>> {
    let mut request = Request::new(body);
    if let Some(token) = token {
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse()?);
    }
    Ok(request)
}

/// Bytes as they are.
#[derive(Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;
    fn encoder(&mut self) -> Self {
        Self
    }
    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;
    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;
    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        let length = buffer.remaining();
        Ok(Some(buffer.copy_to_bytes(length)))
    }
}
