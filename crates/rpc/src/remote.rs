//! Services in other processes: where their instances are, which of them answer, and how a call gets to one.
//!
//! A service's targets are addresses or names; names are looked up again and again, and every address found is an instance. To each one
//! connection is kept, on which its health is watched, so a call is only given to an instance that is known to be there, and one that ends is
//! known before a call fails. Of the instances that serve, a call takes the less busy of two drawn at random (Mitzenmacher, "The Power of Two
//! Choices in Randomized Load Balancing", 2001).

pub(crate) mod dialer;

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
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Full};
use plaza_proto::policy;
use rand::Rng as _;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::{Status, body::Body, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tower::ServiceExt as _;

use self::dialer::CONNECT;
pub use self::dialer::Dialer;
use crate::{
    ApiError, Peer,
    carry::{Called, Connection, Failure, Line, Refused},
    deadline,
};

/// How often names are looked up again.
const LOOK_UP: Duration = Duration::from_secs(2);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// The largest body of a call that travels with others, which wait while it is written.
const CARRIED: usize = 64 * 1024;
/// How long a call waits for an instance that serves.
const PATIENCE: Duration = Duration::from_secs(2);

/// One instance to which there is a connection, for its health and for streams, and another for unary calls.
#[derive(Debug)]
pub(crate) struct Instance {
    address: SocketAddr,
    channel: Channel,
    line: Line,
    under_way: Arc<AtomicUsize>,
    /// It takes new calls.
    serving: bool,
}

impl Instance {
    pub(crate) async fn call(&self, request: Request<Body>) -> Response<Body> {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        let _done = Done(&self.under_way);
        let method = policy::methods().get(request.uri().path());
        match method.is_some_and(|method| !method.client_streaming && !method.server_streaming) {
            true => self.carried(request).await,
            false => self.streamed(request).await,
        }
    }

    async fn carried(&self, request: Request<Body>) -> Response<Body> {
        let (head, body) = request.into_parts();
        let body = match body.collect().await {
            Ok(body) => body.to_bytes(),
            Err(status) => return status.into_http(),
        };
        if body.len() <= CARRIED {
            match self.line.call(&head, body.clone()) {
                Ok(called) => return self.answer(called, &head.headers).await,
                Err(Refused::Full) => return unavailable(),
                Err(Refused::Closed) => {}
            }
        }
        self.streamed(Request::from_parts(head, Body::new(Full::new(body)))).await
    }

    /// The answer to a call, for as long as its caller waits: whoever is asked may have stopped.
    async fn answer(&self, called: Called, headers: &HeaderMap) -> Response<Body> {
        let answer = match deadline::parse(headers) {
            Ok(Some(told)) => match timeout(told, called.answer()).await {
                Ok(answer) => answer,
                Err(_late) => return Status::from(deadline::exceeded()).into_http(),
            },
            _ => called.answer().await,
        };
        answer.unwrap_or_else(|error| {
            tracing::debug!(%error, address = %self.address, "a call is lost");
            unavailable()
        })
    }

    async fn streamed(&self, request: Request<Body>) -> Response<Body> {
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
pub struct Instances(watch::Sender<Vec<Arc<Instance>>>);

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

    pub(crate) fn follow(&self) -> watch::Receiver<Vec<Arc<Instance>>> {
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

    fn pick(&self) -> Option<Arc<Instance>> {
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

    async fn any(&self) -> Option<Arc<Instance>> {
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
                match open(dialer, address).await {
                    Ok((channel, connection)) => {
                        if self.attend(address, channel, connection).await {
                            pause = FIRST_PAUSE;
                        }
                        self.0.send_if_modified(|instances| {
                            let before = instances.len();
                            instances.retain(|instance| instance.address != address);
                            before != instances.len()
                        });
                        tracing::debug!(%address, "an instance is gone");
                    }
                    Err(error) => tracing::debug!(error = &*error, %address, "an instance cannot be reached"),
                }
                let jittered = pause.mul_f64(rand::rng().random_range(0.5..1.0));
                sleep(jittered).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        });
        let _: Option<()> = kept.await;
        self.0.send_modify(|instances| instances.retain(|instance| instance.address != address));
    }

    /// Until a connection is lost. Whether the instance served meanwhile.
    async fn attend(&self, address: SocketAddr, channel: Channel, connection: Connection) -> bool {
        let mut served = false;
        let asked = HealthCheckRequest { service: String::new() };
        let Ok(answer) = HealthClient::new(channel.clone()).watch(asked).await else { return false };
        let mut changes = answer.into_inner();
        let (under_way, line) = (Arc::default(), connection.line());
        // A task of its own, that ends with this one: calls to all other instances need not wait for it.
        let mut carrying = JoinSet::new();
        carrying.spawn(connection);
        loop {
            let change = tokio::select! {
                change = changes.message() => change,
                Some(ended) = carrying.join_next() => match ended {
                    // The instance is leaving and has answered everything; streams may go on.
                    Ok(Ok(())) => continue,
                    Ok(Err(error)) => {
                        tracing::debug!(error = &*error, %address, "the connection for calls is lost");
                        return served;
                    }
                    Err(_panic) => return served,
                }
            };
            let Ok(Some(change)) = change else { return served };
            let serving = change.status() == ServingStatus::Serving;
            served |= serving;
            let instance = Instance { address, channel: channel.clone(), line: line.clone(), under_way: Arc::clone(&under_way), serving };
            self.0.send_modify(|instances| {
                instances.retain(|known| known.address != address);
                instances.push(Arc::new(instance));
            });
        }
    }
}

/// Connects twice: what waits on one connection holds nothing up on the other.
async fn open(dialer: &Dialer, address: SocketAddr) -> Result<(Channel, Connection), Failure> {
    let channel = dialer.connect(address).await?;
    let connection = timeout(CONNECT, async { Connection::open(dialer.dial(address).await?, address).await }).await??;
    Ok((channel, connection))
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
        changes: watch::Receiver<Vec<Arc<Instance>>>,
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
                instances.iter().map(|instance| (instance.address.to_string(), Peer::instance(Arc::clone(instance)))).collect()
            }
        }
    }
}
