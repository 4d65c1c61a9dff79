//! A gateway on a port of its own, and fakes of what it talks to.

use std::{collections::HashMap, future::Future, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use parking_lot::Mutex;
use plaza_event_log::{Assignments, Error, EventLog, Offset, Producer, Reader, Record, Stored, Topic, TopicPartition};
use plaza_gateway::{Config, Deps, build};
use plaza_proto::{
    accounts::v1::{
        GetVerifyingKeyRequest, GetVerifyingKeyResponse, LookupRequest, LookupResponse,
        directory_service_server::{DirectoryService, DirectoryServiceServer},
    },
    chat::v1::{
        Ask, LinkRequest, LinkResponse, Owned, Ownership, Told,
        live_service_server::{LiveService, LiveServiceServer},
        told,
    },
};
use plaza_rpc::{
    Peer, StackDeps, carry,
    remote::{Dialer, Instances},
    stack,
};
use plaza_runtime::{Clock, Rng, Stage, Supervisor};
use plaza_telemetry::RpcMetrics;
use plaza_topics::{ACCOUNTS, account};
use plaza_types::{DeviceId, UserId};
use prost::Message;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde::Serialize;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::{Notify, mpsc},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Request, Response, Status, Streaming,
    service::Routes,
    transport::{Channel, Endpoint, Server, server::TcpIncoming},
};
use tonic_types::StatusExt;

/// Bounds every wait of a test.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), future).await.unwrap_or_else(|_| panic!("timed out: {what}"))
}

/// The reason of a failure.
pub(crate) fn reason(status: &Status) -> String {
    status.get_details_error_info().map_or_else(|| format!("none: {status:?}"), |info| info.reason)
}

/// What the accounts service says in a token.
#[derive(Serialize)]
pub(crate) struct Claims {
    pub(crate) iss: String,
    pub(crate) sub: String,
    pub(crate) dev: String,
    pub(crate) iat: u64,
    pub(crate) iau: u64,
    pub(crate) exp: u64,
    pub(crate) jti: String,
}

/// A key that signs tokens.
pub(crate) struct Signer {
    key: EncodingKey,
    public: Vec<u8>,
}

impl Signer {
    pub(crate) fn new() -> Self {
        let document = Ed25519KeyPair::generate_pkcs8(&ring::rand::SystemRandom::new()).expect("randomness");
        let pair = Ed25519KeyPair::from_pkcs8(document.as_ref()).expect("a key");
        Self { key: EncodingKey::from_ed_der(document.as_ref()), public: pair.public_key().as_ref().to_vec() }
    }

    pub(crate) fn sign(&self, claims: &Claims) -> String {
        jsonwebtoken::encode(&Header::new(Algorithm::EdDSA), claims, &self.key).expect("a token")
    }
}

/// A service that keeps what reached it and answers with a message of its own.
#[derive(Clone, Default)]
pub(crate) struct Seen(Arc<Mutex<Vec<(http::request::Parts, Bytes)>>>);

/// The message that [`Seen`] answers with: nothing that the gateway could decode as anything.
pub(crate) const ANSWER: &[u8] = b"\xff\xfe\xfd";

impl Seen {
    pub(crate) fn take(&self) -> Vec<(http::request::Parts, Bytes)> {
        std::mem::take(&mut *self.0.lock())
    }

    async fn answer(self, request: axum::extract::Request) -> axum::response::Response {
        let (parts, body) = request.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.expect("a body");
        self.0.lock().push((parts, body));
        let trailers = http::HeaderMap::from_iter([(http::HeaderName::from_static("grpc-status"), http::HeaderValue::from_static("0"))]);
        let frame = [&[0, 0, 0, 0, 3], ANSWER].concat();
        let frames = [Ok::<_, Status>(http_body::Frame::data(Bytes::from(frame))), Ok(http_body::Frame::trailers(trailers))];
        let body = axum::body::Body::new(http_body_util::StreamBody::new(futures::stream::iter(frames)));
        http::Response::builder().header("content-type", "application/grpc").body(body).expect("a response")
    }
}

struct Directory(Vec<u8>);

#[tonic::async_trait]
impl DirectoryService for Directory {
    async fn lookup(&self, _: Request<LookupRequest>) -> Result<Response<LookupResponse>, Status> {
        unreachable!("the gateway looks nobody up")
    }
    async fn get_verifying_key(&self, _: Request<GetVerifyingKeyRequest>) -> Result<Response<GetVerifyingKeyResponse>, Status> {
        Ok(Response::new(GetVerifyingKeyResponse { ed25519_public_key: self.0.clone() }))
    }
}

/// One link as the owner of inboxes has it.
pub(crate) struct Owner {
    asks: Streaming<LinkRequest>,
    waiting: std::collections::VecDeque<Ask>,
    tell: mpsc::Sender<Result<LinkResponse, Status>>,
}

impl Owner {
    pub(crate) async fn next(&mut self) -> Ask {
        while self.waiting.is_empty() {
            let request = soon("an ask", self.asks.message()).await.expect("a link").expect("an open link");
            self.waiting.extend(request.asks);
        }
        self.waiting.pop_front().expect("an ask")
    }

    pub(crate) async fn tell(&self, session: u64, told: told::Told) {
        self.tell_all(vec![Told { session, told: Some(told) }]).await;
    }

    pub(crate) async fn tell_all(&self, told: Vec<Told>) {
        self.respond(LinkResponse { told, owned: None }).await;
    }

    /// Says that it owns the only partition since this epoch, or that it does not.
    pub(crate) async fn owns(&self, epoch: Option<u64>) {
        let owned = epoch.into_iter().map(|epoch| Ownership { partition: 0, epoch }).collect();
        self.respond(LinkResponse { told: Vec::new(), owned: Some(Owned { partitions: 1, owned }) }).await;
    }

    async fn respond(&self, response: LinkResponse) {
        soon("the link", self.tell.send(Ok(response))).await.expect("an open link");
    }
}

#[derive(Clone)]
struct Live(mpsc::Sender<Owner>);

#[tonic::async_trait]
impl LiveService for Live {
    type LinkStream = ReceiverStream<Result<LinkResponse, Status>>;

    async fn link(&self, request: Request<Streaming<LinkRequest>>) -> Result<Response<Self::LinkStream>, Status> {
        let (tell, told) = mpsc::channel(64);
        let owner = Owner { asks: request.into_inner(), waiting: Default::default(), tell };
        self.0.send(owner).await.map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(ReceiverStream::new(told)))
    }
}

/// The accounts topic in memory.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<(Mutex<Vec<Stored>>, Notify)>);

impl Log {
    pub(crate) fn revoke(&self, device: DeviceId, time: u64) {
        let kind = Some(account::Kind::DeviceRevoked(account::DeviceRevoked { device: Bytes::copy_from_slice(device.as_bytes()) }));
        let value = account::Event { user: Bytes::new(), time, kind }.encode_to_vec().into();
        let mut records = self.0.0.lock();
        // Offsets have gaps.
        let offset = records.len() as u64 * 2;
        records.push(Stored { offset, appended: time, record: Record { value, ..Record::default() } });
        drop(records);
        self.0.1.notify_waiters();
    }
}

struct LogReader {
    log: Log,
    next: Offset,
}

#[async_trait]
impl Reader for LogReader {
    async fn next(&mut self, max: usize) -> Result<Vec<Stored>, Error> {
        loop {
            let more = self.log.0.1.notified();
            let found: Vec<_> = self.log.0.0.lock().iter().filter(|stored| stored.offset >= self.next).take(max).cloned().collect();
            if let Some(last) = found.last() {
                self.next = last.offset + 1;
                return Ok(found);
            }
            more.await;
        }
    }
}

#[async_trait]
impl EventLog for Log {
    fn partitions(&self, topic: Topic) -> u32 {
        u32::from(topic == ACCOUNTS)
    }
    fn generation(&self, _: Topic) -> u32 {
        1
    }
    async fn append(&self, _: TopicPartition, _: Record) -> Result<(), Error> {
        unreachable!("the gateway appends nothing")
    }
    fn producer(&self) -> Box<dyn Producer> {
        unreachable!("the gateway appends nothing")
    }
    async fn reader(&self, _: TopicPartition, offset: Offset) -> Result<Box<dyn Reader>, Error> {
        Ok(Box::new(LogReader { log: self.clone(), next: offset }))
    }
    async fn end(&self, _: TopicPartition) -> Result<Offset, Error> {
        Ok(self.0.0.lock().last().map_or(0, |stored| stored.offset + 1))
    }
    async fn offset_at(&self, of: TopicPartition, micros: u64) -> Result<Offset, Error> {
        let found = self.0.0.lock().iter().find(|stored| stored.appended >= micros).map(|stored| stored.offset);
        match found {
            Some(offset) => Ok(offset),
            None => self.end(of).await,
        }
    }
    async fn assignments(&self, _: &'static str, _: Topic) -> Result<Box<dyn Assignments>, Error> {
        unreachable!("the gateway owns nothing")
    }
    async fn durable(&self) -> Result<(), Error> {
        unreachable!("the gateway writes nothing")
    }
}

/// A chat of several instances, each on a port of its own.
async fn remote(live: &Live, count: usize, supervisor: &Supervisor) -> Peer {
    let mut targets = Vec::new();
    for _ in 0..count {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        targets.push(listener.local_addr().expect("bound").to_string());
        let (health, health_service) = tonic_health::server::health_reporter();
        health.set_service_status("", tonic_health::ServingStatus::Serving).await;
        let routes = Routes::new(LiveServiceServer::new(live.clone())).add_service(health_service).into_axum_router();
        let carried = carry::routes(routes.clone().into(), supervisor.stopping(Stage::Accept));
        let routes = routes.merge(carried.into_axum_router().reset_fallback());
        let served = Server::builder().add_routes(routes.into()).serve_with_incoming(TcpIncoming::from(listener));
        supervisor.spawn("an instance of chat", Stage::Calls, async move { Ok(served.await?) });
    }
    let instances = Instances::new();
    let peer = instances.peer();
    supervisor.spawn("the instances of chat", Stage::Producers, async move {
        instances.keep(&targets, &Dialer::default()).await;
        Ok(())
    });
    peer
}

/// A running gateway.
pub(crate) struct Gateway {
    pub(crate) signer: Signer,
    pub(crate) accounts: Seen,
    pub(crate) chat: Seen,
    pub(crate) log: Log,
    pub(crate) clock: Clock,
    pub(crate) supervisor: Supervisor,
    pub(crate) user: UserId,
    pub(crate) device: DeviceId,
    /// The public routes without the port, for what a client's own transport would not let through.
    pub(crate) routes: Routes,
    links: mpsc::Receiver<Owner>,
    pub(crate) address: String,
}

/// Seconds since the epoch that the tests begin at.
pub(crate) const NOW: u64 = 1_800_000_000;

impl Gateway {
    pub(crate) async fn start(config: Config) -> Self {
        Self::start_with(config, Log::default()).await
    }

    pub(crate) async fn start_with(config: Config, log: Log) -> Self {
        Self::start_before(config, log, None).await
    }

    /// With so many instances of chat.
    pub(crate) async fn start_before_instances(config: Config, chat: usize) -> Self {
        Self::start_before(config, Log::default(), Some(chat)).await
    }

    async fn start_before(config: Config, log: Log, instances: Option<usize>) -> Self {
        let (signer, accounts, chat, clock, supervisor) =
            (Signer::new(), Seen::default(), Seen::default(), Clock::manual(NOW * 1_000_000), Supervisor::new());
        let (links_in, links) = mpsc::channel(8);
        let peer = |service, routes: Routes, seen: &Seen| {
            let seen = seen.clone();
            let routes =
                axum::Router::new().merge(routes.into_axum_router().reset_fallback()).fallback(move |request| seen.clone().answer(request));
            Peer::in_process(stack(service, routes.into(), &StackDeps { metrics: RpcMetrics::new() }))
        };
        let directory = Routes::new(DirectoryServiceServer::new(Directory(signer.public.clone())));
        let live = Live(links_in);
        let chat_peer = match instances {
            None => peer("chat", Routes::new(LiveServiceServer::new(live)), &chat),
            Some(instances) => remote(&live, instances, &supervisor).await,
        };
        let peers = HashMap::from([("plaza.accounts.v1", peer("accounts", directory, &accounts)), ("plaza.chat.v1", chat_peer)]);
        let deps = Deps {
            log: Arc::new(log.clone()),
            peers,
            clock: clock.clone(),
            rng: Rng::seeded(1),
            supervisor: supervisor.clone(),
            stack: StackDeps { metrics: RpcMetrics::new() },
        };
        let built = build(config, deps).await.expect("a gateway");
        let routes = built.routes.clone();
        let address = built.serve(TcpListener::bind("127.0.0.1:0").await.expect("a port")).expect("served");
        Self {
            signer,
            accounts,
            chat,
            log,
            clock,
            supervisor,
            user: UserId::new(1, [1; 10]),
            device: DeviceId::new(1, [2; 10]),
            routes,
            links,
            address: format!("http://{address}"),
        }
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        Endpoint::from_shared(self.address.clone()).expect("an address")
    }

    pub(crate) async fn channel(&self) -> Channel {
        soon("the gateway", self.endpoint().connect()).await.expect("connected")
    }

    pub(crate) fn claims(&self) -> Claims {
        Claims {
            iss: "plaza".to_owned(),
            sub: self.user.to_string(),
            dev: self.device.to_string(),
            iat: NOW,
            iau: NOW * 1_000_000,
            exp: NOW + 900,
            jti: "1".to_owned(),
        }
    }

    pub(crate) fn token(&self) -> String {
        self.signer.sign(&self.claims())
    }

    /// The next link, to the owner of all inboxes.
    pub(crate) async fn link(&mut self) -> Owner {
        let owner = self.unclaimed().await;
        owner.owns(Some(1)).await;
        owner
    }

    /// The next link, to an instance that has not said what it owns.
    pub(crate) async fn unclaimed(&mut self) -> Owner {
        soon("a link", self.links.recv()).await.expect("a running gateway")
    }

    /// Sends an HTTP/1.1 request as it is and reads what comes until the connection ends.
    pub(crate) async fn http1(&self, request: Vec<u8>) -> String {
        let mut stream = tokio::net::TcpStream::connect(self.address.trim_start_matches("http://")).await.expect("connected");
        stream.write_all(&request).await.expect("sent");
        let mut answer = Vec::new();
        soon("an answer", stream.read_to_end(&mut answer)).await.expect("an answer");
        String::from_utf8_lossy(&answer).into_owned()
    }

    pub(crate) fn stop_accepting(&self) {
        self.supervisor.stopping(Stage::Accept).cancel();
    }
}

/// A request with a token.
pub(crate) fn authorized<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().expect("ascii"));
    request
}
