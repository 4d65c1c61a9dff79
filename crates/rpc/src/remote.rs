//! Services in other processes: where their instances are, which of them answer, and how a call gets to one.
//!
//! A service's targets are addresses or names; names are looked up again and again, and every address found is an instance. To each one
//! connection is kept, on which its health is watched, so a call is only given to an instance that is known to be there, and one that ends is
//! known before a call fails. Of the instances that serve, a call takes the less busy of two drawn at random (Mitzenmacher, "The Power of Two
//! Choices in Randomized Load Balancing", 2001).

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt as _, stream::FuturesUnordered};
use http::{Request, Response};
use rand::Rng as _;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::{
    Status,
    body::Body,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tower::ServiceExt as _;

use crate::{ApiError, Peer};

/// How often names are looked up again.
const LOOK_UP: Duration = Duration::from_secs(2);
const CONNECT: Duration = Duration::from_secs(1);
/// An instance that does not answer a ping is gone. Both together bound how long a stopped process is taken for a busy one.
const PING_EVERY: Duration = Duration::from_secs(1);
const PING_ANSWER: Duration = Duration::from_secs(2);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How long a call waits for an instance that serves.
const PATIENCE: Duration = Duration::from_secs(2);

/// How connections to other processes are made.
#[derive(Clone, Default)]
pub struct Dialer {
    tls: Option<ClientTlsConfig>,
}

impl std::fmt::Debug for Dialer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dialer").field("tls", &self.tls.is_some()).finish()
    }
}

impl Dialer {
    /// With mutual TLS: both sides show a certificate of `authority`, the other side's for `name`. All of them PEM.
    #[must_use]
    pub fn mutual(authority: &[u8], certificate: &[u8], key: &[u8], name: &str) -> Self {
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(authority))
            .identity(Identity::from_pem(certificate, key))
            .domain_name(name);
        Self { tls: Some(tls) }
    }

    /// Connects.
    ///
    /// # Errors
    /// Nobody is there, or not who should be.
    pub async fn connect(&self, address: SocketAddr) -> Result<Channel, tonic::transport::Error> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let mut endpoint = Endpoint::from_shared(format!("{scheme}://{address}"))?
            .connect_timeout(CONNECT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_ANSWER)
            .keep_alive_while_idle(true)
            // Few connections carry everything between two processes.
            .initial_stream_window_size(2 << 20)
            .initial_connection_window_size(8 << 20);
        if let Some(tls) = &self.tls {
            endpoint = endpoint.tls_config(tls.clone())?;
        }
        endpoint.connect().await
    }
}

/// One instance to which there is a connection.
#[derive(Debug, Clone)]
pub(crate) struct Instance {
    address: SocketAddr,
    channel: Channel,
    under_way: Arc<AtomicUsize>,
    /// It takes new calls.
    serving: bool,
}

impl Instance {
    pub(crate) async fn call(&self, request: Request<Body>) -> Response<Body> {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        let _done = Done(&self.under_way);
        match self.channel.clone().oneshot(request).await {
            Ok(response) => response,
            Err(error) => {
                tracing::debug!(error = &error as &dyn std::error::Error, address = %self.address, "a call did not get through");
                unavailable()
            }
        }
    }
}

struct Done<'a>(&'a AtomicUsize);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn unavailable() -> Response<Body> {
    Status::from(ApiError::unavailable(Duration::from_millis(200))).into_http()
}

/// The instances of one service.
#[derive(Debug, Default)]
pub struct Instances(watch::Sender<Vec<Instance>>);

impl Instances {
    /// None known yet; [`Instances::keep`] finds them.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// The service, whichever instance it is.
    #[must_use]
    pub fn peer(self: &Arc<Self>) -> Peer {
        Peer::remote(Arc::clone(self))
    }

    pub(crate) fn follow(&self) -> watch::Receiver<Vec<Instance>> {
        self.0.subscribe()
    }

    pub(crate) async fn call(&self, request: Request<Body>) -> Response<Body> {
        match self.pick() {
            Some(instance) => instance.call(request).await,
            None => match timeout(PATIENCE, self.any()).await {
                Ok(Some(instance)) => instance.call(request).await,
                Ok(None) | Err(_) => unavailable(),
            },
        }
    }

    fn pick(&self) -> Option<Instance> {
        let instances = self.0.borrow();
        let serving = || instances.iter().filter(|instance| instance.serving);
        let count = serving().count();
        let draw = || serving().nth(rand::rng().random_range(0..count));
        match count {
            0 => None,
            1 => serving().next().cloned(),
            _ => {
                let drawn = [draw()?, draw()?];
                drawn.into_iter().min_by_key(|instance| instance.under_way.load(Ordering::Relaxed)).cloned()
            }
        }
    }

    async fn any(&self) -> Option<Instance> {
        let mut changes = self.0.subscribe();
        changes.wait_for(|instances| instances.iter().any(|instance| instance.serving)).await.ok()?;
        self.pick()
    }

    /// Finds the instances of these targets (`host:port`) and watches them, for ever.
    pub async fn keep(&self, targets: &[String], dialer: &Dialer) {
        let mut watched: HashMap<SocketAddr, CancellationToken> = HashMap::new();
        let mut watches = FuturesUnordered::new();
        loop {
            let found = look_up(targets).await;
            // A name server that fails must not make instances vanish.
            if let Some(found) = &found {
                watched.retain(|address, gone| {
                    let stays = found.contains(address);
                    if !stays {
                        gone.cancel();
                    }
                    stays
                });
            }
            for address in found.into_iter().flatten() {
                watched.entry(address).or_insert_with(|| {
                    let gone = CancellationToken::new();
                    watches.push(self.watch(address, dialer, gone.clone()));
                    gone
                });
            }
            let watching = async {
                while watches.next().await.is_some() {}
                std::future::pending::<()>().await;
            };
            // Its end is only the time to look again.
            let _ = timeout(LOOK_UP, watching).await;
        }
    }

    async fn watch(&self, address: SocketAddr, dialer: &Dialer, gone: CancellationToken) {
        let mut pause = FIRST_PAUSE;
        let kept = gone.run_until_cancelled(async {
            loop {
                match dialer.connect(address).await {
                    Ok(channel) => {
                        if self.attend(address, channel).await {
                            pause = FIRST_PAUSE;
                        }
                        self.0.send_if_modified(|instances| {
                            let before = instances.len();
                            instances.retain(|instance| instance.address != address);
                            before != instances.len()
                        });
                        tracing::debug!(%address, "an instance is gone");
                    }
                    Err(error) => tracing::debug!(error = &error as &dyn std::error::Error, %address, "an instance cannot be reached"),
                }
                let jittered = pause.mul_f64(rand::rng().random_range(0.5..1.0));
                sleep(jittered).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        });
        let _: Option<()> = kept.await;
        self.0.send_modify(|instances| instances.retain(|instance| instance.address != address));
    }

    /// Until the connection is lost. Whether the instance served meanwhile.
    async fn attend(&self, address: SocketAddr, channel: Channel) -> bool {
        let mut served = false;
        let asked = HealthCheckRequest { service: String::new() };
        let Ok(answer) = HealthClient::new(channel.clone()).watch(asked).await else { return false };
        let mut changes = answer.into_inner();
        let under_way = Arc::default();
        while let Ok(Some(change)) = changes.message().await {
            let serving = change.status() == ServingStatus::Serving;
            served |= serving;
            let instance = Instance { address, channel: channel.clone(), under_way: Arc::clone(&under_way), serving };
            self.0.send_modify(|instances| {
                instances.retain(|known| known.address != address);
                instances.push(instance);
            });
        }
        served
    }
}

/// Every address of every target; `None` when a name cannot be looked up.
async fn look_up(targets: &[String]) -> Option<HashSet<SocketAddr>> {
    let mut found = HashSet::new();
    for target in targets {
        match tokio::net::lookup_host(target).await {
            Ok(addresses) => found.extend(addresses),
            Err(error) => {
                tracing::debug!(%error, target, "cannot be looked up");
                return None;
            }
        }
    }
    Some(found)
}

/// All instances of a service, each as a peer of its own, as they come and go.
#[derive(Debug)]
pub struct Fleet(pub(crate) Source);

#[derive(Debug)]
pub(crate) enum Source {
    /// The service of this process, until it was told.
    Here(Option<Peer>),
    Instances {
        changes: watch::Receiver<Vec<Instance>>,
        told: bool,
    },
}

impl Fleet {
    /// All instances now, by name; from the second time on when that has changed.
    pub async fn next(&mut self) -> Vec<(String, Peer)> {
        match &mut self.0 {
            Source::Here(peer) => match peer.take() {
                Some(peer) => vec![("here".to_owned(), peer)],
                None => std::future::pending().await,
            },
            Source::Instances { changes, told } => {
                if std::mem::replace(told, true) && changes.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
                let instances = changes.borrow_and_update();
                instances.iter().map(|instance| (instance.address.to_string(), Peer::instance(instance.clone()))).collect()
            }
        }
    }
}
