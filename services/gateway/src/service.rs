//! Wires the gateway and serves it.

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, ensure};
use axum::middleware::from_fn;
use http::Request;
use plaza_event_log::EventLog;
use plaza_rpc::{Peer, StackDeps, deadline, metadata, stack};
use plaza_runtime::{Clock, Rng, Stage, Supervisor};
use plaza_topics::ACCOUNTS;
use tokio::net::TcpListener;
use tonic::{
    service::Routes,
    transport::{Identity, Server, ServerTlsConfig, server::TcpIncoming},
};
use tonic_health::server::health_reporter;
use tonic_web::GrpcWebLayer;
use tower::util::MapRequestLayer;

use crate::{
    Config,
    admission::Admission,
    connect::{hub::Hub, link},
    door::{self, Door},
    metrics::Metrics,
    reflection,
    revocation::{Follower, Revocations},
    tokens::Verifier,
    web,
};

/// How long a caller may wait at most.
const LONGEST_DEADLINE: Duration = Duration::from_secs(60);
// Of the time a caller waits: the answer must be there before the caller's own clock, and tonic's, end the call without our details.
const MARGIN: Duration = Duration::from_millis(10);

/// What the gateway needs.
pub struct Deps {
    /// The log, for signed-out devices.
    pub log: Arc<dyn EventLog>,
    /// The services by package, such as `plaza.chat.v1`; accounts and chat must be there.
    pub peers: HashMap<&'static str, Peer>,
    /// The clock that tokens expire by.
    pub clock: Clock,
    /// For pauses that should differ.
    pub rng: Rng,
    /// Runs what goes on beside the calls.
    pub supervisor: Supervisor,
    /// For the stack around every call.
    pub stack: StackDeps,
}

/// A gateway that knows who is signed out and can be served.
pub struct Built {
    config: Config,
    supervisor: Supervisor,
    /// The public port's routes; [`Built::serve`] serves them, tests may call them.
    pub routes: Routes,
}

/// Builds the gateway: reads the signed-out devices, starts the link to chat.
///
/// # Errors
/// The log cannot be read, a peer is missing, or the descriptors are broken.
pub async fn build(config: Config, deps: Deps) -> anyhow::Result<Built> {
    let Deps { log, peers, clock, rng, supervisor, stack: stack_deps } = deps;
    let accounts = peers.get("plaza.accounts.v1").context("the gateway needs the accounts service")?.clone();
    let chat = peers.get("plaza.chat.v1").context("the gateway needs the chat service")?.clone();

    let revocations = Arc::new(Revocations::default());
    for partition in 0..log.partitions(ACCOUNTS) {
        let follower = Follower::catch_up(Arc::clone(&revocations), Arc::clone(&log), partition, &clock);
        let follower = follower.await.context("cannot read the signed-out devices")?;
        let stop = supervisor.stopping(Stage::Consumers);
        supervisor.spawn("gateway revocations", Stage::Consumers, async move {
            stop.run_until_cancelled(follower.follow()).await.unwrap_or(Ok(()))
        });
    }

    let admission = Arc::new(Admission::new(config.rate_limits));
    let hub = Hub::new(config.clone(), Arc::clone(&admission), Arc::clone(&revocations), clock.clone(), Metrics::new());
    spawn_tasks(&supervisor, &hub, chat, rng);

    let (health, health_service) = health_reporter();
    for service in reflection::services() {
        health.set_service_status(service, tonic_health::ServingStatus::Serving).await;
    }
    let leaving = supervisor.stopping(Stage::Readiness);
    supervisor.spawn("gateway health", Stage::Readiness, async move {
        leaving.cancelled().await;
        health.set_service_status("", tonic_health::ServingStatus::NotServing).await;
        Ok(())
    });

    let mut aside = Routes::default().add_service(health_service);
    if config.reflection {
        aside = reflection::add(aside)?;
    }
    let door = Door { admission, verifier: Verifier::new(accounts), revocations, hub, peers, clock };
    let door = Arc::new(door);
    let router = aside.into_axum_router().fallback(move |request| door::answer(Arc::clone(&door), request));
    let mut router = stack("gateway", router.into(), &stack_deps).into_axum_router();
    router = router.layer((GrpcWebLayer::new(), MapRequestLayer::new(shorten)));
    if !config.allowed_origins.is_empty() {
        let origins: Arc<[String]> = config.allowed_origins.clone().into();
        router = router.layer(from_fn(move |request, next| web::cors(Arc::clone(&origins), request, next)));
    }
    Ok(Built { config, supervisor, routes: router.into() })
}

fn spawn_tasks(supervisor: &Supervisor, hub: &Arc<Hub>, chat: Peer, rng: Rng) {
    let (linking, watching, leaving) = (Arc::clone(hub), Arc::clone(hub), Arc::clone(hub));
    let jitter = rng.clone();
    // Both outlive the calls, which need them to end well.
    let stop = supervisor.stopping(Stage::Consumers);
    supervisor.spawn("gateway link", Stage::Consumers, async move {
        stop.run_until_cancelled(link::keep_all(&linking, &chat, &jitter)).await;
        Ok(())
    });
    let stop = supervisor.stopping(Stage::Consumers);
    supervisor.spawn("gateway streams", Stage::Consumers, async move {
        stop.run_until_cancelled(watching.watch()).await;
        Ok(())
    });
    let stop = supervisor.stopping(Stage::Accept);
    supervisor.spawn("gateway moves", Stage::Accept, async move {
        stop.cancelled().await;
        leaving.move_away(&rng);
        Ok(())
    });
}

/// Keeps what a caller says about waiting within our limits. What cannot be read is left to the stack to refuse.
fn shorten<B>(mut request: Request<B>) -> Request<B> {
    if let Ok(Some(told)) = deadline::parse(request.headers())
        && request.headers().contains_key(metadata::TIMEOUT)
    {
        let waits = told.min(LONGEST_DEADLINE);
        deadline::stamp(request.headers_mut(), waits.saturating_sub(MARGIN.min(waits / 10)));
    }
    request
}

impl Built {
    /// Serves the public port until the process stops accepting; open calls and streams then have the drain time to end.
    ///
    /// # Errors
    /// The certificate cannot be used; plaintext on an address that others can reach is not allowed.
    pub fn serve(self, listener: TcpListener) -> anyhow::Result<SocketAddr> {
        let address = listener.local_addr()?;
        let config = self.config;
        ensure!(
            config.tls.is_set() || config.allow_plaintext || address.ip().is_loopback(),
            "{address} can be reached by others: set gateway.tls, or gateway.allow_plaintext = true where something in front encrypts"
        );
        let mut server = Server::builder()
            .accept_http1(true)
            .http2_keepalive_interval(Some(Duration::from_secs(30)))
            .http2_keepalive_timeout(Some(Duration::from_secs(10)))
            // Streams are many and mostly idle: what one can have in flight is memory held.
            .initial_stream_window_size(64 * 1024)
            .initial_connection_window_size(1024 * 1024)
            .max_concurrent_streams(config.max_streams_per_connection)
            // Above what is refused with a reason, so that the reason can be given.
            .http2_max_header_list_size(64 * 1024);
        if config.tls.is_set() {
            let tls = &config.tls;
            let certificate = std::fs::read(&tls.certificate).with_context(|| format!("cannot read {}", tls.certificate.display()))?;
            let key = std::fs::read(&tls.key).with_context(|| format!("cannot read {}", tls.key.display()))?;
            server = server.tls_config(ServerTlsConfig::new().identity(Identity::from_pem(certificate, key)))?;
        }
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true)).with_keepalive(Some(Duration::from_secs(60)));
        let stop = self.supervisor.stopping(Stage::Accept);
        let stopped = stop.clone();
        let served = server.serve_with_incoming_shutdown(self.routes.prepare(), incoming, stop.cancelled_owned());
        self.supervisor.spawn("gateway server", Stage::Calls, async move {
            tokio::select! {
                ended = served => ended?,
                // Tonic waits for every connection for ever; a client that does not leave must not hold the process.
                () = async { stopped.cancelled().await; tokio::time::sleep(config.drain()).await } => {}
            }
            Ok(())
        });
        Ok(address)
    }
}
