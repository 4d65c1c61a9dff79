//! The admin port: metrics, and whether the process is alive and ready. Bound only when an address is set.

use std::net::SocketAddr;

use anyhow::Context;
use plaza_runtime::{Stage, Supervisor};
use plaza_telemetry::{
    Metrics,
    admin::{self, Readiness},
};
use tokio::net::TcpListener;

use crate::config::Config;

/// Serves the admin port until the stores close; not ready from the first moment of a shutdown on.
pub(crate) async fn serve(config: &Config, metrics: &Metrics, supervisor: &Supervisor) -> anyhow::Result<Option<SocketAddr>> {
    let Some(address) = config.telemetry.admin_address() else { return Ok(None) };
    let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
    let address = listener.local_addr()?;
    let readiness = Readiness::default();
    readiness.set(true);
    let leaving = supervisor.stopping(Stage::Readiness);
    let router = admin::router(metrics.clone(), readiness.clone());
    supervisor.spawn("readiness", Stage::Readiness, async move {
        leaving.cancelled().await;
        readiness.set(false);
        Ok(())
    });
    let stop = supervisor.stopping(Stage::Stores);
    supervisor.spawn("admin port", Stage::Stores, async move {
        match stop.run_until_cancelled(axum::serve(listener, router).into_future()).await {
            Some(ended) => Ok(ended?),
            None => Ok(()),
        }
    });
    Ok(Some(address))
}
