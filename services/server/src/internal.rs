//! The port that the other processes of a deployment use: every service that runs here, answers to calls, and health. Whoever reaches it may
//! say on whose behalf they call, so it must not be reachable from outside, or only with a certificate of the deployment.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, ensure};
use plaza_rpc::carry;
use plaza_runtime::{Stage, Supervisor};
use tokio::net::TcpListener;
use tonic::{
    service::Routes,
    transport::{Certificate, Identity, Server, ServerTlsConfig, server::TcpIncoming},
};
use tonic_health::ServingStatus;

use crate::config;

/// How long open calls may take to end once the process accepts no more.
const DRAIN: Duration = Duration::from_secs(3);

/// Serves these routes; the process counts as serving from now on, and no more from the first moment of a shutdown.
pub(crate) async fn serve(
    config: &config::Cluster,
    listener: TcpListener,
    services: Vec<Routes>,
    supervisor: &Supervisor,
) -> anyhow::Result<()> {
    let address = listener.local_addr()?;
    ensure!(
        config.tls.is_set() || config.allow_plaintext || address.ip().is_loopback(),
        "{address} can be reached by others: set cluster.tls, or cluster.allow_plaintext = true where the network is the deployment's own"
    );
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_service_status("", ServingStatus::Serving).await;
    let leaving = supervisor.stopping(Stage::Readiness);
    supervisor.spawn("internal health", Stage::Readiness, async move {
        leaving.cancelled().await;
        health.set_service_status("", ServingStatus::NotServing).await;
        Ok(())
    });
    let mut router = Routes::default().add_service(health_service).into_axum_router();
    for service in services {
        router = router.merge(service.into_axum_router().reset_fallback());
    }
    // The same services once more, for calls that travel together.
    let carried = carry::routes(router.clone().into(), supervisor.stopping(Stage::Accept));
    router = router.merge(carried.into_axum_router().reset_fallback());
    let mut server = Server::builder()
        .http2_keepalive_interval(Some(Duration::from_secs(5)))
        .http2_keepalive_timeout(Some(Duration::from_secs(5)))
        // Few connections carry everything between two processes.
        .initial_stream_window_size(2 << 20)
        .initial_connection_window_size(8 << 20)
        .max_concurrent_streams(100_000);
    if config.tls.is_set() {
        let [authority, certificate, key] = config.tls.read()?;
        let tls = ServerTlsConfig::new().identity(Identity::from_pem(certificate, key));
        server = server.tls_config(tls.client_ca_root(Certificate::from_pem(authority)))?;
    }
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true)).with_keepalive(Some(Duration::from_secs(60)));
    let stop = supervisor.stopping(Stage::Accept);
    let stopped = stop.clone();
    let served = server.add_routes(router.into()).serve_with_incoming_shutdown(incoming, stop.cancelled_owned());
    supervisor.spawn("internal server", Stage::Calls, async move {
        tokio::select! {
            ended = served => ended?,
            () = async { stopped.cancelled().await; tokio::time::sleep(DRAIN).await } => {}
        }
        Ok(())
    });
    Ok(())
}

/// The address that others are told.
pub(crate) fn advertised(config: &config::Cluster, bound: SocketAddr) -> anyhow::Result<SocketAddr> {
    if config.advertise.is_empty() {
        ensure!(!bound.ip().is_unspecified(), "cluster.advertise must be set where cluster.listen names every address");
        return Ok(bound);
    }
    config.advertise.parse().with_context(|| format!("cluster.advertise: {} is no address and port", config.advertise))
}
