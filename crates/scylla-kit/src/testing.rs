//! Migrated, empty keyspaces for tests, on a cluster that is already running.
//!
//! Tables take long to create and to drop, so the tests of one binary that run at the same time have keyspaces of their own, and those that
//! run one after the other get the same ones, emptied. The last to finish drops them all; should another begin later, it makes new ones.

mod proxy;

use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher, Hasher},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    thread::JoinHandle,
    time::Duration,
};

use futures::future::{join_all, try_join_all};
use plaza_runtime::config::Secret;
use tokio::sync::{mpsc, oneshot};

pub use proxy::{Lost, Proxy};

use crate::{CheckError, Config, Error, Migrations, Session, migrate};

static POOLS: Mutex<Vec<(String, Weak<Pool>)>> = Mutex::new(Vec::new());

/// Keyspaces that are this test's alone while it lives, and a session of its own.
pub struct Lease {
    /// On the keyspaces.
    pub session: Session,
    /// What the session was made with, for more of them.
    pub config: Config,
    pool: Arc<Pool>,
}

/// Leases keyspaces with the tables of these services, all of them empty. `nodes` are addresses of nodes, separated by commas.
///
/// # Panics
/// The cluster cannot be used.
pub async fn lease(nodes: &str, services: &'static [Migrations]) -> Lease {
    let pool = Pool::of(nodes, services);
    let (reply, prefix) = oneshot::channel();
    pool.orders.as_ref().expect("open until dropped").send(Order::Lease(reply)).expect("the pool runs");
    let prefix = prefix.await.expect("the pool runs").expect("the cluster makes keyspaces");
    let config = config(nodes, &prefix);
    let session = Session::connect(&config).await.expect("the cluster is there");
    Lease { session, config, pool }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(orders) = &self.pool.orders {
            _ = orders.send(Order::Return(self.config.keyspace_prefix.clone()));
        }
    }
}

enum Order {
    Lease(oneshot::Sender<Result<String, CheckError>>),
    Return(String),
}

struct Pool {
    orders: Option<mpsc::UnboundedSender<Order>>,
    thread: Option<JoinHandle<()>>,
}

impl Pool {
    fn of(nodes: &str, services: &'static [Migrations]) -> Arc<Self> {
        let key = services.iter().fold(nodes.to_owned(), |key, migrations| key + "," + migrations.service);
        let mut pools: MutexGuard<'_, _> = POOLS.lock().unwrap_or_else(PoisonError::into_inner);
        pools.retain(|(_, pool)| pool.strong_count() > 0);
        let known = pools.iter().find(|(known, _)| *known == key).and_then(|(_, pool)| pool.upgrade());
        known.unwrap_or_else(|| {
            let pool = Arc::new(Self::start(nodes.to_owned(), services));
            pools.push((key, Arc::downgrade(&pool)));
            pool
        })
    }

    /// In a thread with a runtime of its own: it outlives the tests, each of which has its own.
    fn start(nodes: String, services: &'static [Migrations]) -> Self {
        let (orders, received) = mpsc::unbounded_channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(run(nodes, services, received));
        });
        Self { orders: Some(orders), thread: Some(thread) }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // The thread ends when nobody can order any more.
        drop(self.orders.take());
        if let Some(thread) = self.thread.take() {
            _ = thread.join();
        }
    }
}

async fn run(nodes: String, services: &'static [Migrations], mut orders: mpsc::UnboundedReceiver<Order>) {
    let (mut free, mut made) = (Vec::new(), Vec::new());
    while let Some(order) = orders.recv().await {
        match order {
            Order::Return(prefix) => free.push(prefix),
            Order::Lease(reply) => {
                let prefix = match free.pop() {
                    Some(prefix) => empty(&nodes, prefix, services).await,
                    None => create(&nodes, services, &mut made).await,
                };
                _ = reply.send(prefix);
            }
        }
    }
    join_all(made.into_iter().map(|prefix| remove(&nodes, prefix, services))).await;
}

async fn create(nodes: &str, services: &[Migrations], made: &mut Vec<String>) -> Result<String, CheckError> {
    let prefix = format!("test_{:010x}_", RandomState::new().build_hasher().finish() >> 24);
    made.push(prefix.clone());
    let session = Session::connect(&config(nodes, &prefix)).await?;
    migrate(&session, services, "test").await?;
    Ok(prefix)
}

async fn empty(nodes: &str, prefix: String, services: &[Migrations]) -> Result<String, CheckError> {
    let session = Session::connect(&config(nodes, &prefix)).await?;
    let mut tables = vec![format!("{prefix}plaza.secrets"), format!("{prefix}plaza.topics")];
    for migrations in services {
        let keyspace = session.keyspace(migrations.service);
        let names = migrate::tables(&session, keyspace.name()).await?;
        tables.extend(names.into_iter().map(|name| format!("{}.{name}", keyspace.name())));
    }
    let session = &session;
    let truncates = tables.iter().map(|table| async move { session.change_tables(&format!("TRUNCATE {table}")).await });
    try_join_all(truncates).await?;
    Ok(prefix)
}

/// What cannot be dropped is left to whoever wipes the cluster.
async fn remove(nodes: &str, prefix: String, services: &[Migrations]) {
    let Ok(session) = Session::connect(&config(nodes, &prefix)).await else { return };
    for service in services.iter().map(|migrations| migrations.service).chain(["plaza"]) {
        let name = session.keyspace(service).name().to_owned();
        let dropped: Result<(), Error> = session.change_tables(&format!("DROP KEYSPACE IF EXISTS {name}")).await;
        if let Err(error) = dropped {
            eprintln!("keyspace {name} not dropped: {error}");
        }
    }
}

/// What tests are let in with: as the user that Cassandra has from its beginning. Nodes that do not ask do not mind.
#[must_use]
pub fn let_in() -> Config {
    Config { user: "cassandra".to_owned(), password: Secret::new("cassandra"), ..Config::default() }
}

/// Patient, for tests share their machine with the cluster.
fn config(nodes: &str, prefix: &str) -> Config {
    Config {
        nodes: nodes.split(',').map(|node| node.trim().to_owned()).collect(),
        keyspace_prefix: prefix.to_owned(),
        replication_factor: 1,
        queue_timeout: Duration::from_secs(30),
        read_timeout: Duration::from_secs(30),
        write_timeout: Duration::from_secs(30),
        conditional_timeout: Duration::from_secs(30),
        ..let_in()
    }
}
