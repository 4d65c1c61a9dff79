//! Calls to instances in other processes: spread over those that serve, around those that do not.

use std::{collections::HashSet, net::SocketAddr, time::Duration};

use http::{HeaderValue, Request, Response};
use plaza_rpc::{
    Peer, carry,
    remote::{Dialer, Fleet, Instances},
};
use tokio::{net::TcpListener, runtime::Runtime};
use tokio_util::sync::CancellationToken;
use tonic::{
    Code, Status,
    body::Body,
    service::Routes,
    transport::{Server, server::TcpIncoming},
};
use tonic_health::{ServingStatus, server::HealthReporter};
use tower::ServiceExt as _;

/// A unary call, and one that is none.
const PATHS: [&str; 2] = ["/plaza.chat.v1.ChatService/GetConversation", "/plaza.chat.v1.LiveService/Link"];

/// An instance that answers every call with its address.
struct Instance {
    address: SocketAddr,
    health: HealthReporter,
    /// Its own, so that it can die with all its connections, as a process does.
    runtime: Runtime,
}

impl Instance {
    async fn start(at: &str) -> Self {
        let listener = TcpListener::bind(at).await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let (health, service) = tonic_health::server::health_reporter();
        let named = HeaderValue::try_from(address.to_string()).expect("ascii");
        let routes = Routes::default().add_service(service).into_axum_router().fallback(move || {
            let mut response = Response::new(axum::body::Body::empty());
            response.headers_mut().insert("instance", named.clone());
            response.headers_mut().insert("grpc-status", HeaderValue::from_static("0"));
            std::future::ready(response)
        });
        let carried = carry::routes(routes.clone().into(), CancellationToken::new());
        let routes = routes.merge(carried.into_axum_router().reset_fallback());
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let listener = listener.into_std().expect("a socket");
        runtime.spawn(async move {
            let incoming = TcpIncoming::from(TcpListener::from_std(listener).expect("a socket"));
            Server::builder().add_routes(Routes::from(routes)).serve_with_incoming(incoming).await
        });
        Self { address, health, runtime }
    }

    fn kill(self) -> SocketAddr {
        self.runtime.shutdown_background();
        self.address
    }
}

async fn call(peer: &Peer, path: &str) -> Result<String, Code> {
    let request = Request::post(path).body(Body::empty()).expect("a request");
    let response = peer.clone().oneshot(request).await.expect("infallible");
    match Status::from_header_map(response.headers()).map_or(Code::Ok, |status| status.code()) {
        Code::Ok => Ok(response.headers()["instance"].to_str().expect("ascii").to_owned()),
        code => Err(code),
    }
}

/// Waits until 50 calls in a row are answered by exactly these.
async fn answered_by(peer: &Peer, wanted: &[SocketAddr]) {
    let wanted: HashSet<String> = wanted.iter().map(ToString::to_string).collect();
    let reached = tokio::time::timeout(Duration::from_secs(20), async {
        loop {
            let mut answers = HashSet::new();
            let mut failed = false;
            for place in 0..50 {
                match call(peer, PATHS[place % 2]).await {
                    Ok(instance) => _ = answers.insert(instance),
                    Err(_) => failed = true,
                }
            }
            if !failed && answers == wanted {
                return;
            }
            tokio::task::yield_now().await;
        }
    });
    assert!(reached.await.is_ok(), "not answered by {wanted:?}");
}

async fn names(fleet: &mut Fleet, wanted: &[SocketAddr]) {
    let wanted: HashSet<String> = wanted.iter().map(ToString::to_string).collect();
    let reached = tokio::time::timeout(Duration::from_secs(20), async {
        while fleet.next().await.into_iter().map(|(name, _)| name).collect::<HashSet<_>>() != wanted {}
    });
    assert!(reached.await.is_ok(), "not {wanted:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_go_to_those_that_serve() {
    let (first, second) = (Instance::start("127.0.0.1:0").await, Instance::start("127.0.0.1:0").await);
    let instances = Instances::new();
    let peer = instances.peer();
    let targets = [first.address, second.address].map(|address| address.to_string());
    #[expect(clippy::disallowed_methods, reason = "a test's own task, aborted below")]
    let keeping = tokio::spawn({
        let instances = instances.clone();
        async move { instances.keep(&targets, &Dialer::default()).await }
    });
    let mut fleet = peer.fleet();
    answered_by(&peer, &[first.address, second.address]).await;

    // Who is about to stop is given nothing new, but is still there for what it has.
    second.health.set_service_status("", ServingStatus::NotServing).await;
    answered_by(&peer, &[first.address]).await;
    names(&mut fleet, &[first.address, second.address]).await;
    second.health.set_service_status("", ServingStatus::Serving).await;
    answered_by(&peer, &[first.address, second.address]).await;

    let gone = first.kill();
    answered_by(&peer, &[second.address]).await;
    names(&mut fleet, &[second.address]).await;
    let alone = second.kill();
    for path in PATHS {
        assert_eq!(call(&peer, path).await, Err(Code::Unavailable), "nobody is there");
    }

    // A call waits a moment for whoever comes back.
    let at = gone.to_string();
    let (back, answer) = tokio::join!(Instance::start(&at), call(&peer, PATHS[0]));
    assert_eq!(answer, Ok(back.address.to_string()));
    assert_ne!(back.address, alone);
    keeping.abort();
    back.kill();
}

#[tokio::test]
async fn one_in_this_process_is_a_fleet_of_one() {
    let peer = Peer::in_process(Routes::default());
    let mut fleet = peer.fleet();
    assert_eq!(fleet.next().await.len(), 1);
    assert!(tokio::time::timeout(Duration::from_millis(20), fleet.next()).await.is_err(), "it never changes");
}
