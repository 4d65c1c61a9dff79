//! Unary calls to another process: on one stream, and nobody can tell.

use std::{collections::HashSet, convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use axum::response::IntoResponse as _;
use bytes::Bytes;
use futures::{StreamExt as _, future::join_all};
use http::{HeaderMap, Request as HttpRequest, StatusCode};
use http_body_util::{BodyExt as _, Full};
use parking_lot::Mutex;
use plaza_proto::{
    accounts::v1::{
        GetVerifyingKeyRequest, GetVerifyingKeyResponse, LookupRequest, LookupResponse,
        directory_service_client::DirectoryServiceClient,
        directory_service_server::{DirectoryService, DirectoryServiceServer},
    },
    internal::v1::{Call, CarryRequest, Header, HeaderName, call_service_client::CallServiceClient, carry_request, carry_response},
};
use plaza_rpc::{
    ApiError, Identity, Peer, StackDeps, carry, deadline,
    remote::{Dialer, Instances},
    stack,
};
use plaza_telemetry::RpcMetrics;
use plaza_types::{DeviceId, UserId};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Runtime,
    sync::{Barrier, mpsc},
    task::{JoinHandle, JoinSet},
    time::timeout,
};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{
    Code, Request, Response, Status,
    body::Body,
    service::Routes,
    transport::{Channel, Server, server::TcpIncoming},
};
use tonic_types::StatusExt as _;
use tower::ServiceExt as _;

const SOON: Duration = Duration::from_secs(20);
const LOOKUP: &str = "/plaza.accounts.v1.DirectoryService/Lookup";
const KEY: &str = "/plaza.accounts.v1.DirectoryService/GetVerifyingKey";

/// Does what its caller says in the metadata.
#[derive(Clone)]
struct Directory {
    meeting: Arc<Barrier>,
    /// Calls that hang: when they begin and when they end.
    hanging: mpsc::UnboundedSender<&'static str>,
    released: CancellationToken,
    /// Nothing ever comes; it ends with the test.
    stuck: Arc<Mutex<std::sync::mpsc::Receiver<()>>>,
}

struct Hanging(mpsc::UnboundedSender<&'static str>);

impl Drop for Hanging {
    fn drop(&mut self) {
        let _ = self.0.send("ended");
    }
}

#[tonic::async_trait]
impl DirectoryService for Directory {
    async fn lookup(&self, request: Request<LookupRequest>) -> Result<Response<LookupResponse>, Status> {
        Err(ApiError::invalid("user_ids", format!("{} bytes", request.get_ref().user_ids.concat().len())).into())
    }

    async fn get_verifying_key(&self, request: Request<GetVerifyingKeyRequest>) -> Result<Response<GetVerifyingKeyResponse>, Status> {
        let text = |name: &str| request.metadata().get(name).map_or_else(String::new, |value| value.to_str().expect("ascii").to_owned());
        let key = match text("x-do").as_str() {
            "panic" => panic!("as asked"),
            "meet" => self.meeting.wait().await.is_leader().to_string().into_bytes(),
            "hang" => {
                let _hanging = Hanging(self.hanging.clone());
                let _ = self.hanging.send("began");
                self.released.cancelled().await;
                b"released".to_vec()
            }
            "remaining" => deadline::remaining(&request).as_millis().to_string().into_bytes(),
            "large" => pattern(text("x-bytes").parse().expect("a number")),
            "block" => {
                // With the only thread of its process.
                let _ = self.stuck.lock().recv();
                Vec::new()
            }
            _ => {
                let who = Identity::of(&request)?;
                format!("{} {} {} {}", who.user, who.device, text("traceparent"), text("x-plaza-priority")).into_bytes()
            }
        };
        let mut response = Response::new(GetVerifyingKeyResponse { ed25519_public_key: key });
        response.metadata_mut().insert("x-said", "this too".parse().expect("ascii"));
        response.metadata_mut().append("x-said", "and this".parse().expect("ascii"));
        Ok(response)
    }
}

fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|place| (place % 251) as u8).collect()
}

/// What a process has on its internal port, the services themselves only if `alone` is set.
struct Process {
    address: SocketAddr,
    leaving: CancellationToken,
    served: JoinHandle<()>,
    runtime: Runtime,
}

impl Process {
    async fn start(services: Routes, alone: bool, threads: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let (_, service) = tonic_health::server::health_reporter();
        let leaving = CancellationToken::new();
        let mut router = Routes::default().add_service(service).into_axum_router();
        router = router.merge(carry::routes(services.clone(), leaving.clone()).into_axum_router().reset_fallback());
        if alone {
            router = router.merge(services.into_axum_router().reset_fallback());
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build().expect("a runtime");
        let (listener, left) = (listener.into_std().expect("a socket"), leaving.clone());
        let served = runtime.spawn(async move {
            let incoming = TcpIncoming::from(TcpListener::from_std(listener).expect("a socket"));
            let server = Server::builder().add_routes(Routes::from(router));
            server.serve_with_incoming_shutdown(incoming, left.cancelled_owned()).await.expect("it served");
        });
        Self { address, leaving, served, runtime }
    }
}

async fn reach(address: SocketAddr) -> (Peer, JoinHandle<()>) {
    let instances = Instances::new();
    let (peer, targets) = (instances.peer(), [address.to_string()]);
    #[expect(clippy::disallowed_methods, reason = "a test's own task, aborted with it")]
    let keeping = tokio::spawn(async move { instances.keep(&targets, &Dialer::default()).await });
    let mut fleet = peer.fleet();
    timeout(SOON, async { while fleet.next().await.is_empty() {} }).await.expect("it is reached");
    (peer, keeping)
}

/// A peer to one process, and what it is in.
struct Reached {
    process: Process,
    peer: Peer,
    here: Peer,
    hanging: mpsc::UnboundedReceiver<&'static str>,
    released: CancellationToken,
    stuck: std::sync::mpsc::Sender<()>,
    keeping: JoinHandle<()>,
}

impl Reached {
    /// Streams and large calls only go through if `alone` is set.
    async fn start(alone: bool, threads: usize) -> Self {
        let (hangs, hanging) = mpsc::unbounded_channel();
        let (released, (stuck, waits)) = (CancellationToken::new(), std::sync::mpsc::channel());
        let directory = Directory {
            meeting: Arc::new(Barrier::new(2)),
            hanging: hangs,
            released: released.clone(),
            stuck: Arc::new(Mutex::new(waits)),
        };
        let services = stack("directory", Routes::new(DirectoryServiceServer::new(directory)), &StackDeps { metrics: RpcMetrics::new() });
        let process = Process::start(services.clone(), alone, threads).await;
        let (peer, keeping) = reach(process.address).await;
        Self { process, peer, here: Peer::in_process(services), hanging, released, stuck, keeping }
    }

    async fn hung(&mut self, what: &str) {
        assert_eq!(timeout(SOON, self.hanging.recv()).await.expect("in time"), Some(what));
    }

    fn end(self) {
        drop(self.stuck);
        self.keeping.abort();
        self.process.runtime.shutdown_background();
    }
}

fn ask(what: &str) -> Request<GetVerifyingKeyRequest> {
    let mut request = Request::new(GetVerifyingKeyRequest {});
    request.metadata_mut().insert("x-do", what.parse().expect("ascii"));
    request
}

async fn answer(peer: &Peer, request: Request<GetVerifyingKeyRequest>) -> Result<Vec<u8>, Status> {
    Ok(DirectoryServiceClient::new(peer.clone()).get_verifying_key(request).await?.into_inner().ed25519_public_key)
}

/// Path, headers, message.
type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a [u8]);

/// All there is to see of an answer: status, headers, message, trailers.
async fn seen(peer: &Peer, request: HttpRequest<Body>) -> (StatusCode, HeaderMap, Bytes, Option<HeaderMap>) {
    let (head, body) = peer.clone().oneshot(request).await.expect("infallible").into_parts();
    let body = body.collect().await.expect("a whole body");
    let trailers = body.trailers().cloned();
    (head.status, head.headers, body.to_bytes(), trailers)
}

fn grpc(path: &str, headers: &[(&str, &str)], message: &[u8]) -> HttpRequest<Body> {
    let length = u32::try_from(message.len()).expect("short").to_be_bytes();
    let mut request = HttpRequest::post(path).header("content-type", "application/grpc").header("te", "trailers");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Body::new(Full::new(Bytes::from([&[0], &length[..], message].concat())))).expect("a request")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_is_the_same_from_wherever_it_comes() {
    let reached = Reached::start(false, 1).await;
    let who = Identity { user: UserId::new(1, [1; 10]), device: DeviceId::new(2, [2; 10]) };
    let (user, device) = (who.user.to_string(), who.device.to_string());
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
    let known = [("x-plaza-user", &*user), ("x-plaza-device", &*device), ("x-plaza-priority", "3"), ("traceparent", trace)];
    let cases: [Case; 9] = [
        (KEY, &known, b""),
        (KEY, &[], b""),
        (KEY, &[("x-do", "panic")], b""),
        (KEY, &[("x-do", "large"), ("x-bytes", "70000")], b""),
        (KEY, &[("x-do", "hang"), ("grpc-timeout", "20m")], b""),
        (KEY, &[("x-do", "hang"), ("grpc-timeout", "0m")], b""),
        (KEY, &[("grpc-timeout", "soon")], b""),
        (LOOKUP, &[], b"\x0a\x04abcd"),
        (LOOKUP, &[], b"\xff\xff"),
    ];
    for (path, headers, message) in cases {
        let here = seen(&reached.here, grpc(path, headers, message)).await;
        let there = seen(&reached.peer, grpc(path, headers, message)).await;
        assert_eq!(there, here, "{path} {headers:?}");
        assert!(here.3.is_some() || here.1.contains_key("grpc-status"), "{here:?}");
    }
    let told = seen(&reached.peer, grpc(KEY, &known, b"")).await.2;
    let told = String::from_utf8_lossy(&told).into_owned();
    assert!(told.contains(&format!("{user} {device} {trace} 3")), "{told}");
    reached.end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_that_nobody_caught_before_ends_its_call_only() {
    let panics = axum::Router::new().fallback(async |request: axum::extract::Request| -> axum::response::Response {
        if request.uri().path() == LOOKUP {
            return StatusCode::SERVICE_UNAVAILABLE.into_response();
        }
        let message = futures::stream::once(async { panic!("as asked") });
        http::Response::new(axum::body::Body::from_stream(message.map(|()| Ok::<_, Infallible>(Bytes::new()))))
    });
    let process = Process::start(panics.into(), false, 1).await;
    let (peer, keeping) = reach(process.address).await;
    for _ in 0..2 {
        let failed = timeout(SOON, answer(&peer, ask("panic"))).await.expect("an end").expect_err("a panic");
        assert_eq!((failed.code(), failed.message()), (Code::Internal, "internal error"));
    }
    assert_eq!(seen(&peer, grpc(LOOKUP, &[], b"")).await.0, StatusCode::SERVICE_UNAVAILABLE);
    keeping.abort();
    process.runtime.shutdown_background();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_run_side_by_side_and_overtake_each_other() {
    let mut reached = Reached::start(false, 1).await;
    let peer = reached.peer.clone();
    let slow = answer(&peer, ask("hang"));
    let fast = async {
        reached.hung("began").await;
        let met = join_all([answer(&peer, ask("meet")), answer(&peer, ask("meet"))]).await;
        reached.released.cancel();
        met
    };
    let (slow, met) = timeout(SOON, async { tokio::join!(slow, fast) }).await.expect("none waits for another");
    assert_eq!(slow.expect("an answer"), b"released");
    let met: HashSet<_> = met.into_iter().map(|met| met.expect("an answer")).collect();
    assert_eq!(met, HashSet::from([b"true".to_vec(), b"false".to_vec()]));
    reached.end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_is_known_there_and_kept_here() {
    let reached = Reached::start(false, 1).await;
    let mut request = ask("remaining");
    request.set_timeout(Duration::from_secs(3));
    let told = answer(&reached.peer, request).await.expect("an answer");
    let told: u64 = String::from_utf8(told).expect("text").parse().expect("a number");
    assert!((1..=3_000).contains(&told), "{told}");

    // Whoever is asked may be stuck with all its clocks.
    let mut request = ask("block");
    request.set_timeout(Duration::from_millis(100));
    let late = answer(&reached.peer, request).await.expect_err("too late");
    assert_eq!(
        (late.code(), late.get_details_error_info().expect("a reason").reason.as_str()),
        (Code::DeadlineExceeded, "DEADLINE_EXCEEDED")
    );
    reached.end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_whose_caller_is_gone_is_ended() {
    let mut reached = Reached::start(false, 1).await;
    let peer = reached.peer.clone();
    {
        // Not its deadline, which is later than this waits.
        let mut request = ask("hang");
        request.set_timeout(3 * SOON);
        let mut call = Box::pin(answer(&peer, request));
        tokio::select! {
            _ = &mut call => panic!("it hangs"),
            () = reached.hung("began") => {}
        }
    }
    reached.hung("ended").await;
    assert!(answer(&peer, ask("remaining")).await.is_ok(), "the others go on");
    reached.end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_on_a_lost_connection_are_to_be_tried_again() {
    let Reached { process, peer, mut hanging, keeping, .. } = Reached::start(false, 1).await;
    let calls = join_all((0..10).map(|_| answer(&peer, ask("hang"))));
    let kill = async {
        for _ in 0..10 {
            hanging.recv().await;
        }
        process.runtime.shutdown_background();
    };
    let (lost, ()) = timeout(SOON, async { tokio::join!(calls, kill) }).await.expect("they end with it");
    for lost in lost {
        let lost = lost.expect_err("nobody answers");
        assert_eq!(
            (lost.code(), lost.get_details_retry_info().and_then(|retry| retry.retry_delay)),
            (Code::Unavailable, Some(Duration::from_millis(200)))
        );
    }
    let mut fleet = peer.fleet();
    timeout(SOON, async { while !fleet.next().await.is_empty() {} }).await.expect("it is forgotten");
    keeping.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_only_the_connection_for_calls_is_lost_there_is_soon_another() {
    let mut reached = Reached::start(false, 1).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let (between, behind) = (listener.local_addr().expect("bound"), reached.process.address);
    let (cut, cuts) = mpsc::unbounded_channel();
    #[expect(clippy::disallowed_methods, reason = "a test's own task, aborted with it")]
    let passing = tokio::spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((mut client, _)) = listener.accept().await {
            let mut server = TcpStream::connect(behind).await.expect("it is there");
            let handle = connections.spawn(async move { tokio::io::copy_bidirectional(&mut client, &mut server).await.map(drop) });
            cut.send(handle).expect("the test runs");
        }
    });
    let (peer, keeping) = reach(between).await;
    let mut cuts = UnboundedReceiverStream::new(cuts);
    let opened: Vec<_> = cuts.by_ref().take(2).collect().await;
    let call = answer(&peer, ask("hang"));
    let lose = async {
        reached.hung("began").await;
        opened[1].abort();
    };
    let (lost, ()) = timeout(SOON, async { tokio::join!(call, lose) }).await.expect("it ends with its connection");
    assert_eq!(lost.expect_err("nobody answers").code(), Code::Unavailable);
    timeout(SOON, async { while answer(&peer, ask("remaining")).await.is_err() {} }).await.expect("it is connected to again");
    keeping.abort();
    passing.abort();
    reached.end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_leaves_answers_what_it_was_asked_and_is_not_held_up() {
    let mut reached = Reached::start(false, 1).await;
    let peer = reached.peer.clone();
    let call = answer(&peer, ask("hang"));
    let leave = async {
        reached.hung("began").await;
        // Its health would keep new calls away as well.
        reached.process.leaving.cancel();
        let refused = timeout(SOON, async {
            while !matches!(answer(&peer, ask("remaining")).await, Err(status) if status.code() == Code::Unavailable) {}
        });
        refused.await.expect("nothing new is taken");
        assert!(!reached.process.served.is_finished(), "a call is under way");
        reached.released.cancel();
    };
    let (answered, ()) = timeout(SOON, async { tokio::join!(call, leave) }).await.expect("in time");
    assert_eq!(answered.expect("an answer"), b"released");
    // What is left is the stream of its health, which in a process ends with its server.
    reached.keeping.abort();
    timeout(Duration::from_secs(2), &mut reached.process.served).await.expect("nothing holds it up").expect("no panic");
    reached.process.runtime.shutdown_background();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_large_arrives_whole_and_holds_no_other_up() {
    let reached = Reached::start(true, 2).await;
    for bytes in [65_530, 65_536, 65_537, 131_073, 4_000_000] {
        let mut request = ask("large");
        request.metadata_mut().insert("x-bytes", bytes.to_string().parse().expect("ascii"));
        let (large, small) = tokio::join!(answer(&reached.peer, request), answer(&reached.peer, ask("remaining")));
        assert!(large.expect("an answer") == pattern(bytes), "{bytes}");
        assert!(small.is_ok());
    }
    let lookup = async |reached: &Reached, bytes| {
        let request = LookupRequest { user_ids: vec!["x".repeat(bytes)] };
        DirectoryServiceClient::new(reached.peer.clone()).lookup(request).await.expect_err("as it is made")
    };
    for bytes in [60_000, 70_000, 1_000_000] {
        assert_eq!(lookup(&reached, bytes).await.message(), format!("user_ids: {bytes} bytes"));
    }
    reached.end();
    // Where only small calls go through, the others are seen to go another way.
    let reached = Reached::start(false, 1).await;
    for (bytes, code) in [(65_000, Code::InvalidArgument), (66_000, Code::Unimplemented)] {
        assert_eq!(lookup(&reached, bytes).await.code(), code, "{bytes}");
    }
    let stream = seen(&reached.peer, grpc("/plaza.chat.v1.LiveService/Link", &[], b"")).await.1;
    assert!(stream["grpc-status"] == "12" && !stream.contains_key("grpc-status-details-bin"), "not what the services say: {stream:?}");
    reached.end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nonsense_is_refused_in_as_many_words() {
    let reached = Reached::start(false, 1).await;
    let address = format!("http://{}", reached.process.address);
    let channel = Channel::from_shared(address).expect("an address").connect().await.expect("it is there");
    let nonsense = |message: &'static [u8]| {
        let channel = channel.clone();
        async move {
            let request = grpc("/plaza.internal.v1.CallService/Carry", &[], message);
            let (head, body) = channel.oneshot(request).await.expect("an answer").into_parts();
            let trailers = body.collect().await.expect("an end").trailers().cloned();
            Status::from_header_map(&trailers.unwrap_or(head.headers)).expect("a status")
        }
    };
    for message in [&b"\xff\xff\xff"[..], b"\x0a\x05\x08", b"", b"\x1a\x01x"] {
        let status = nonsense(message).await;
        assert_eq!((status.code(), status.message()), (Code::InvalidArgument, "not an encoded CarryRequest"), "{message:?}");
    }

    // A call that is none is refused alone.
    let header =
        |known: HeaderName, other: &str, value: &'static [u8]| Header { known: known.into(), other: other.into(), value: value.into() };
    let calls = [
        ("no path", vec![]),
        (KEY, vec![header(HeaderName::Unspecified, "no name", b"")]),
        (KEY, vec![header(HeaderName::Te, "", b"no\nvalue")]),
        (KEY, vec![Header { known: 77, ..Header::default() }]),
        (KEY, vec![header(HeaderName::Unspecified, "x-do", b"remaining")]),
    ];
    let calls = calls.into_iter().zip(1..).map(|((path, headers), id)| {
        let call = Call { id, path: path.into(), headers, body: Bytes::from_static(&[0; 5]) };
        CarryRequest { step: Some(carry_request::Step::Call(call)) }
    });
    let calls: Vec<_> = calls.chain([CarryRequest { step: Some(carry_request::Step::GivenUp(99)) }]).collect();
    let mut answers = CallServiceClient::new(channel.clone()).carry(futures::stream::iter(calls)).await.expect("a stream").into_inner();
    let mut codes = [None; 5];
    while let Some(answer) = answers.message().await.expect("a well formed stream") {
        let Some(carry_response::Step::Answer(answer)) = answer.step else { panic!("{answer:?}") };
        let headers = answer.headers.iter().chain(&answer.trailers);
        let status = headers.clone().find(|header| header.known() == HeaderName::GrpcStatus).expect("a status");
        codes[answer.id as usize - 1] = Some(status.value.clone().as_ref().first().copied());
    }
    assert_eq!(codes.map(Option::flatten), [Some(b'3'), Some(b'3'), Some(b'3'), Some(b'3'), Some(b'0')]);
    reached.end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_caller_has_more_than_so_many_calls_under_way() {
    const LIMIT: usize = 16_384;
    let mut reached = Reached::start(false, 1).await;
    let calls = futures::stream::iter((1..=LIMIT as u64 + 50).map(|id| {
        let header = Header { other: "x-do".into(), value: Bytes::from_static(b"hang"), ..Header::default() };
        let call = Call { id, path: KEY.into(), headers: vec![header], body: Bytes::from_static(&[0; 5]) };
        CarryRequest { step: Some(carry_request::Step::Call(call)) }
    }));
    let address = format!("http://{}", reached.process.address);
    let channel = Channel::from_shared(address).expect("an address").connect().await.expect("it is there");
    let mut answers = CallServiceClient::new(channel).carry(calls).await.expect("a stream").into_inner();
    for _ in 0..LIMIT {
        reached.hung("began").await;
    }
    assert!(timeout(Duration::from_millis(100), reached.hanging.recv()).await.is_err(), "the rest is not read yet");
    reached.released.cancel();
    let mut answered = 0;
    while timeout(SOON, answers.message()).await.expect("in time").expect("well formed").is_some() {
        answered += 1;
    }
    assert_eq!(answered, LIMIT + 50);
    reached.end();
}
