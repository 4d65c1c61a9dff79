//! The floors' server: the same methods as Plaza's, each doing only what nobody can do without. It checks nothing, decides nothing, stores
//! nothing but the appended bytes. Two users are friends when their numbers differ in the last bit.

use std::{
    collections::HashMap,
    convert::Infallible,
    net::SocketAddr,
    path::Path,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::{Stream, StreamExt, future::BoxFuture};
use plaza_embedded_db::{Batch, Db, Keyspace, Options};
use plaza_proto::{
    chat::v1 as chat,
    gateway::v1::{self as gateway, connect_request, connect_response},
};
use prost::Message;
use tokio::sync::{Mutex, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Request, Response, Status, Streaming,
    body::Body,
    codec::{BufferSettings, Codec},
    server::{NamedService, StreamingService},
    transport::Server,
};
use tonic_prost::{ProstCodec, ProstDecoder, ProstEncoder};

use crate::{commit::GroupCommit, timeline::Timeline};

/// Entries of the page that a `Sync` is answered with.
pub const PAGE: u64 = 100;

type Frames = mpsc::Sender<Result<gateway::ConnectResponse, Status>>;

#[derive(Clone)]
struct Floor {
    commit: GroupCommit,
    db: Db,
    rows: Keyspace,
    inserted: Arc<AtomicU64>,
    attached: Arc<Mutex<HashMap<String, Frames>>>,
}

/// Serves the floors until it is killed.
///
/// # Errors
/// The folder or the port is in use.
pub async fn serve(data: &Path, listen: SocketAddr) -> anyhow::Result<()> {
    std::fs::create_dir_all(data)?;
    let db = Db::open(&data.join("rows"), Options::default())?;
    let rows = db.keyspace("rows")?;
    let mut batch = Batch::new();
    for cursor in 1..=PAGE {
        let mut key = vec![7; 16];
        key.extend(cursor.to_be_bytes());
        batch.insert(&rows, key, entry(cursor, &request(&"x".repeat(100))).encode_to_vec());
    }
    db.visible(db.enqueue(batch)).await?;
    let timeline = Timeline::new(&db).await?;
    let floor = Floor { commit: GroupCommit::open(&data.join("appended"))?, db, rows, inserted: Arc::default(), attached: Arc::default() };
    Server::builder()
        .tcp_nodelay(true)
        .add_service(Calls(floor.clone()))
        .add_service(Connect(floor))
        .add_service(timeline)
        .serve(listen)
        .await?;
    Ok(())
}

fn request(text: &str) -> chat::SendMessageRequest {
    chat::SendMessageRequest { content: Some(plaza_client::text(text)), client_message_id: plaza_client::new_id(), ..Default::default() }
}

fn entry(cursor: u64, request: &chat::SendMessageRequest) -> chat::Entry {
    let id = "d-0123456789abcdef0123456789abcdef";
    let message = chat::Message {
        conversation_id: id.into(),
        sequence: cursor,
        sender_id: plaza_client::new_id(),
        client_message_id: request.client_message_id.clone(),
        sent_at: Some(Default::default()),
        content: request.content.clone(),
        ..Default::default()
    };
    chat::Entry { cursor, event: Some(chat::entry::Event::Message(message)) }
}

/// The metadata that says who calls.
pub const USER_HEADER: &str = "x-floor-user";

/// Who calls, for the floor: whatever stands in the metadata, or is their token.
fn who<T>(request: &Request<T>) -> String {
    let metadata = request.metadata();
    let user = metadata.get(USER_HEADER).or_else(|| metadata.get("authorization")).and_then(|user| user.to_str().ok());
    user.unwrap_or_default().trim_start_matches("Bearer ").to_owned()
}

impl Floor {
    async fn send_message(self, request: chat::SendMessageRequest) -> Result<chat::SendMessageResponse, Status> {
        match request.conversation_id.parse() {
            Ok(rows) => self.insert(rows).await?,
            Err(_) => self.commit.append(request.encode_to_vec().into()).await?,
        }
        Ok(chat::SendMessageResponse { conversation_id: String::new(), sequence: 1, sent_at: None })
    }

    async fn sync(self, _: chat::SyncRequest) -> Result<chat::SyncResponse, Status> {
        let mut entries = Vec::with_capacity(PAGE as usize);
        for cursor in 1..=PAGE {
            let mut key = vec![7; 16];
            key.extend(cursor.to_be_bytes());
            let row: Option<Bytes> = self.rows.get(&key).map_err(|error| Status::internal(error.to_string()))?;
            let entry = chat::Entry::decode(row.unwrap_or_default()).map_err(|error| Status::internal(error.to_string()))?;
            entries.push(entry);
        }
        Ok(chat::SyncResponse { entries, next_cursor: PAGE, more: false, head: PAGE })
    }
}

/// What was asked, back.
fn echo(asked: chat::GetConversationRequest) -> chat::GetConversationResponse {
    let conversation = chat::Conversation { conversation_id: asked.conversation_id, ..Default::default() };
    chat::GetConversationResponse { conversation: Some(conversation) }
}

/// The calls that have a floor, by their paths.
#[derive(Clone)]
struct Calls(Floor);

impl tower::Service<http::Request<Body>> for Calls {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let floor = self.0.clone();
        match request.uri().path() {
            "/plaza.chat.v1.ChatService/SendMessage" => unary(request, |asked| floor.send_message(asked)),
            "/plaza.chat.v1.ChatService/Sync" => unary(request, |asked| floor.sync(asked)),
            "/plaza.chat.v1.ChatService/GetConversation" => unary(request, |asked| std::future::ready(Ok(echo(asked)))),
            "/plaza.chat.v1.ChatService/ListConversations" => {
                unary(request, |_: chat::ListConversationsRequest| std::future::ready(Ok(chat::ListConversationsResponse::default())))
            }
            _ => Box::pin(std::future::ready(Ok(Status::unimplemented("no floor").into_http()))),
        }
    }
}

impl NamedService for Calls {
    const NAME: &'static str = "plaza.chat.v1.ChatService";
}

type Answered = BoxFuture<'static, Result<http::Response<Body>, Infallible>>;

/// One unary call, as the generated code makes it.
pub(crate) fn unary<A, B, F>(request: http::Request<Body>, answer: impl FnOnce(A) -> F + Send + 'static) -> Answered
where
    A: Message + Default + Send + Sync + 'static,
    B: Message + Default + Send + Sync + 'static,
    F: Future<Output = Result<B, Status>> + Send + 'static,
{
    let mut answer = Some(answer);
    let service = tower::service_fn(move |asked: Request<A>| {
        let answered = answer.take().map(|answer| answer(asked.into_inner()));
        async move { answered.ok_or_else(|| Status::internal("a call is answered once"))?.await.map(Response::new) }
    });
    Box::pin(async move { Ok(tonic::server::Grpc::new(ProstCodec::<B, A>::default()).unary(service, request).await) })
}

/// Connect with buffers as small as tonic lets them be: a bare stream, tuned for many idle ones.
#[derive(Clone)]
struct Connect(Floor);

/// Initial and largest buffer of a frame, bytes.
fn buffers() -> BufferSettings {
    BufferSettings::new(256, 4096)
}

struct Tuned;

impl Codec for Tuned {
    type Encode = gateway::ConnectResponse;
    type Decode = gateway::ConnectRequest;
    type Encoder = ProstEncoder<Self::Encode>;
    type Decoder = ProstDecoder<Self::Decode>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::new(buffers())
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstDecoder::new(buffers())
    }
}

impl tower::Service<http::Request<Body>> for Connect {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let connect = self.clone();
        Box::pin(async move { Ok(tonic::server::Grpc::new(Tuned).streaming(connect, request).await) })
    }
}

impl NamedService for Connect {
    const NAME: &'static str = "plaza.gateway.v1.GatewayService";
}

type Answers = Pin<Box<dyn Stream<Item = Result<gateway::ConnectResponse, Status>> + Send>>;

impl StreamingService<gateway::ConnectRequest> for Connect {
    type Response = gateway::ConnectResponse;
    type ResponseStream = Answers;
    type Future = BoxFuture<'static, Result<Response<Answers>, Status>>;

    fn call(&mut self, request: Request<Streaming<gateway::ConnectRequest>>) -> Self::Future {
        let floor = self.0.clone();
        Box::pin(async move { floor.connect(request).await })
    }
}

/// Whoever writes to them writes to all who are attached.
pub const EVERYBODY: &str = "everybody";

impl Floor {
    /// A batch of rows as small as an inbox's, each with a key of its own, durable.
    async fn insert(&self, rows: u64) -> Result<(), Status> {
        let mut batch = Batch::new();
        let place = self.inserted.fetch_add(1, Ordering::Relaxed);
        for row in 0..rows {
            // Users are far from each other, and each one's rows are one behind the other.
            let user = u128::from(row).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835).to_be_bytes();
            batch.insert(&self.rows, [&user[..], &place.to_be_bytes()].concat(), vec![7; 26]);
        }
        self.db.durable(self.db.enqueue(batch)).await.map_err(|error| Status::internal(error.to_string()))
    }

    async fn connect(&self, request: Request<Streaming<gateway::ConnectRequest>>) -> Result<Response<Answers>, Status> {
        let me = who(&request);
        let (frames, queue) = mpsc::channel(256);
        let floor = self.clone();
        self.attached.lock().await.insert(me.clone(), frames.clone());
        let mut asked = request.into_inner();
        let answers = async move {
            // Sends are committed side by side, as many as the client keeps in flight.
            let mut sends = futures::stream::FuturesUnordered::new();
            loop {
                tokio::select! {
                    frame = asked.next() => match frame {
                        Some(Ok(gateway::ConnectRequest { frame: Some(connect_request::Frame::Hello(_)) })) => {
                            let welcome = gateway::Welcome { head: 0, heartbeat_interval: None };
                            let _ = frames.send(Ok(answer(connect_response::Frame::Welcome(welcome)))).await;
                        }
                        Some(Ok(gateway::ConnectRequest { frame: Some(connect_request::Frame::Send(send)) })) => sends.push(floor.deliver(&frames, send)),
                        Some(Ok(gateway::ConnectRequest { frame: Some(connect_request::Frame::Ping(ping)) })) => {
                            let _ = frames.send(Ok(answer(connect_response::Frame::Pong(gateway::Pong { nonce: ping.nonce })))).await;
                        }
                        Some(Ok(_)) => {}
                        _ => return,
                    },
                    Some(()) = sends.next() => {}
                }
            }
        };
        #[expect(clippy::disallowed_methods, reason = "the floor has no supervisor: it is killed when the benchmark ends")]
        tokio::spawn(answers);
        Ok(Response::new(Box::pin(ReceiverStream::new(queue))))
    }

    async fn deliver(&self, own: &Frames, send: chat::SendMessageRequest) {
        if self.commit.append(send.encode_to_vec().into()).await.is_err() {
            return;
        }
        let sent = gateway::Sent { client_message_id: send.client_message_id.clone(), ..Default::default() };
        let _ = own.send(Ok(answer(connect_response::Frame::Sent(sent)))).await;
        let entry = entry(1, &send);
        if send.user_id == EVERYBODY {
            let attached: Vec<_> = self.attached.lock().await.values().cloned().collect();
            for frames in attached {
                let _ = frames.send(Ok(answer(connect_response::Frame::Entry(entry.clone())))).await;
            }
            return;
        }
        let other = self.attached.lock().await.get(&send.user_id).cloned();
        let _ = own.send(Ok(answer(connect_response::Frame::Entry(entry.clone())))).await;
        if let Some(other) = other {
            let _ = other.send(Ok(answer(connect_response::Frame::Entry(entry)))).await;
        }
    }
}

fn answer(frame: connect_response::Frame) -> gateway::ConnectResponse {
    gateway::ConnectResponse { frame: Some(frame) }
}
