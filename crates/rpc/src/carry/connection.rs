//! The connection that calls travel on: HTTP/2 with one stream, driven by one task. A gRPC channel would hand every message from task to task
//! on its way to the socket, and wake threads for it.

use std::{
    future::poll_fn,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture};
use h2::{Ping, PingPong, RecvStream, SendStream, client};
use http::{Request, StatusCode, header};
use http_body::Frame;
use plaza_proto::internal::v1::{CarryResponse, carry_response::Step};
use tokio::time::{sleep, timeout};
use tonic::{Status, Streaming, codec::BufferSettings};
use tonic_prost::ProstDecoder;

use super::{Line, PATH, line::Lost, turn::Turn};
use crate::remote::dialer::{CONNECTION_WINDOW, Io, PING_ANSWER, PING_EVERY, STREAM_WINDOW};

/// Why a connection could not be opened, or ended.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Writes what is asked on its [`Line`] and hands over the answers, until the other side left and everything is answered.
pub(crate) struct Connection {
    parts: Parts,
    turn: Turn<4>,
}

/// What goes on at once, and what it shares.
struct Parts {
    line: Line,
    http2: client::Connection<Io, Bytes>,
    sending: Option<SendStream<Bytes>>,
    /// Taken from the line and not written yet.
    unsent: Bytes,
    answers: Streaming<CarryResponse>,
    alive: BoxFuture<'static, Lost>,
}

impl Connection {
    /// Opens the stream.
    ///
    /// # Errors
    /// The other side is no process of this kind.
    pub(crate) async fn open(io: Io, address: SocketAddr) -> Result<Self, Failure> {
        let mut builder = client::Builder::new();
        builder.initial_window_size(STREAM_WINDOW).initial_connection_window_size(CONNECTION_WINDOW).enable_push(false);
        let (streams, mut http2) = builder.handshake(io).await?;
        let mut streams = streams.ready().await?;
        let request = Request::post(format!("http://{address}{PATH}"))
            .header(header::CONTENT_TYPE, "application/grpc")
            .header(header::TE, "trailers")
            .body(())?;
        let (mut opened, sending) = streams.send_request(request, false)?;
        let opened = poll_fn(|cx| match opened.poll_unpin(cx) {
            Poll::Ready(opened) => Poll::Ready(opened.map_err(Failure::from)),
            Poll::Pending => http2.poll_unpin(cx).map(|_| Err(Lost.into())),
        });
        let (head, answers) = opened.await?.into_parts();
        if head.status != StatusCode::OK || head.headers.contains_key("grpc-status") {
            return Err(Status::from_header_map(&head.headers).map_or_else(|| head.status.to_string().into(), Failure::from));
        }
        let pings = http2.ping_pong().ok_or(Lost)?;
        let decoder = ProstDecoder::new(BufferSettings::default());
        let parts = Parts {
            line: Line::new(),
            http2,
            sending: Some(sending),
            unsent: Bytes::new(),
            answers: Streaming::new_response(decoder, Received(answers), head.status, None, None),
            alive: silence(pings).boxed(),
        };
        Ok(Self { parts, turn: Turn::new() })
    }

    /// Where its calls are taken.
    pub(crate) fn line(&self) -> Line {
        self.parts.line.clone()
    }
}

impl Parts {
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Result<(), Failure> {
        while let Some(stream) = &mut self.sending {
            if self.unsent.is_empty() {
                match self.line.poll_queued(cx) {
                    Poll::Ready(Some(queued)) => self.unsent = queued,
                    Poll::Ready(None) => {
                        stream.send_data(Bytes::new(), true)?;
                        self.sending = None;
                        break;
                    }
                    Poll::Pending => break,
                }
            }
            stream.reserve_capacity(self.unsent.len());
            if stream.capacity() == 0 {
                match stream.poll_capacity(cx) {
                    Poll::Ready(capacity) => _ = capacity.ok_or(Lost)??,
                    Poll::Pending => break,
                }
            }
            let sent = self.unsent.split_to(stream.capacity().min(self.unsent.len()));
            stream.send_data(sent, false)?;
        }
        Ok(())
    }

    /// Ready when the other side ended the stream.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        loop {
            match ready!(self.answers.poll_next_unpin(cx)?) {
                Some(CarryResponse { step: Some(Step::Answer(answer)) }) => self.line.answered(answer),
                Some(CarryResponse { step: Some(Step::Leaving(_)) }) => self.line.close(),
                Some(CarryResponse { step: None }) => return Poll::Ready(Err(Status::internal("neither an answer nor leave"))),
                None => return Poll::Ready(Ok(())),
            }
        }
    }

    fn poll(&mut self, part: usize, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        match part {
            0 => self.poll_send(cx)?,
            // The stream knows more of its end.
            1 => _ = self.http2.poll_unpin(cx)?,
            2 => return self.poll_receive(cx).map_err(Failure::from),
            _ => return self.alive.poll_unpin(cx).map(|lost| Err(lost.into())),
        }
        Poll::Pending
    }
}

impl Future for Connection {
    type Output = Result<(), Failure>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { parts, turn } = &mut *self;
        turn.run(cx, |part, cx| parts.poll(part, cx))
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        self.line.lose();
    }
}

/// Until a ping is not answered.
async fn silence(mut pings: PingPong) -> Lost {
    loop {
        sleep(PING_EVERY).await;
        if !matches!(timeout(PING_ANSWER, pings.ping(Ping::opaque())).await, Ok(Ok(_))) {
            return Lost;
        }
    }
}

/// What the other side sends, as tonic reads it.
struct Received(RecvStream);

impl http_body::Body for Received {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        if let Some(data) = ready!(self.0.poll_data(cx)?) {
            self.0.flow_control().release_capacity(data.len())?;
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        self.0.poll_trailers(cx).map_ok(|trailers| trailers.map(Frame::trailers)).map(Result::transpose)
    }
}
