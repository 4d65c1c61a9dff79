//! The least that rows take on a CQL server: written with the driver alone to tables of the same kind as chat's.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::{Context, ensure};
use futures::future::{try_join, try_join_all};
use scylla::{
    client::{session::Session, session_builder::SessionBuilder},
    statement::prepared::PreparedStatement,
};
use tokio::{sync::Semaphore, time::Instant};

use crate::{TIMEOUT, bytes};

/// Requests under way at most, as ours by default.
const REQUESTS: usize = 256;
/// Of what is stored of a send of 100 bytes of text.
const EVENT_BYTES: usize = 230;
const REQUEST_BYTES: usize = 40;
const REFERENCE_BYTES: usize = 26;
/// Rows of a message that are not watermarks: its event, its id, a reference for each of the two.
const BODY_ROWS: f64 = 4.0;

/// A session of the driver alone, of whom the server's variables `PLAZA_CQL__USER` and `PLAZA_CQL__PASSWORD` name; without them of who may do
/// everything on a new node.
///
/// # Errors
/// The nodes do not answer.
pub async fn session(nodes: &str) -> anyhow::Result<Session> {
    let nodes: Vec<_> = nodes.split(',').map(str::trim).collect();
    let [user, password] = ["USER", "PASSWORD"].map(|key| std::env::var(format!("PLAZA_CQL__{key}")).unwrap_or("cassandra".to_owned()));
    // Nodes that do not ask who it is do not mind.
    SessionBuilder::new()
        .known_nodes(nodes)
        .user(user, password)
        .schema_agreement_timeout(TIMEOUT)
        .build()
        .await
        .context("cannot reach the CQL server")
}

/// Tables as chat's, and what writes their rows.
pub struct RawTables {
    session: Session,
    keyspace: String,
    message: PreparedStatement,
    request: PreparedStatement,
    entry: PreparedStatement,
    head: PreparedStatement,
    permits: Arc<Semaphore>,
}

const SCHEMA: [&str; 5] = [
    "CREATE KEYSPACE {keyspace} WITH replication = {'class': 'NetworkTopologyStrategy', 'replication_factor': {replicas}}",
    "CREATE TABLE {keyspace}.messages (conversation blob, bucket bigint, sequence bigint, event blob, remains blob,
        PRIMARY KEY ((conversation, bucket), sequence))",
    "CREATE TABLE {keyspace}.requests (machine text, key blob, caller blob, request blob, row blob,
        PRIMARY KEY ((machine, key, caller, request)))",
    "CREATE TABLE {keyspace}.inbox_entries (user_id blob, bucket bigint, cursor bigint, reference blob,
        PRIMARY KEY ((user_id, bucket), cursor))",
    "CREATE TABLE {keyspace}.inbox_heads (user_id blob PRIMARY KEY, cursor bigint)",
];

impl RawTables {
    /// Creates the tables in a keyspace `{prefix}_floor`.
    ///
    /// # Errors
    /// The nodes do not answer, or there is such a keyspace.
    pub async fn create(cql: &str, prefix: &str) -> anyhow::Result<Self> {
        let (session, keyspace) = (session(cql).await?, format!("{prefix}_floor"));
        let replicas = cql.split(',').count().min(3).to_string();
        for statement in SCHEMA {
            session.query_unpaged(statement.replace("{keyspace}", &keyspace).replace("{replicas}", &replicas), ()).await?;
        }
        let insert = async |table: &str, columns: &str| {
            let marks = vec!["?"; columns.split(", ").count()].join(", ");
            session.prepare(format!("INSERT INTO {keyspace}.{table} ({columns}) VALUES ({marks}) USING TIMESTAMP ?")).await
        };
        let message = insert("messages", "conversation, bucket, sequence, event").await?;
        let request = insert("requests", "machine, key, caller, request, row").await?;
        let entry = insert("inbox_entries", "user_id, bucket, cursor, reference").await?;
        let head = insert("inbox_heads", "user_id, cursor").await?;
        Ok(Self { session, keyspace, message, request, entry, head, permits: Arc::new(Semaphore::new(REQUESTS)) })
    }

    /// Deletes them.
    ///
    /// # Errors
    /// The nodes do not answer.
    pub async fn remove(self) -> anyhow::Result<()> {
        self.session.query_unpaged(format!("DROP KEYSPACE {}", self.keyspace), ()).await?;
        Ok(())
    }

    /// Single rows one after the other: how long each took.
    ///
    /// # Errors
    /// One is not written.
    pub async fn inserts(&self, rows: usize) -> anyhow::Result<Vec<Duration>> {
        let user = bytes(0, 16);
        let mut took = Vec::with_capacity(rows);
        for number in 0..rows as u64 {
            let (started, at) = (Instant::now(), micros()?);
            let values = (&user, 0i64, number.cast_signed(), bytes(number, REFERENCE_BYTES), at);
            self.session.execute_unpaged(&self.entry, values).await?;
            took.push(started.elapsed());
        }
        Ok(took)
    }

    /// The rows of a message, all at once; those beyond its own are watermarks.
    ///
    /// # Errors
    /// One is not written.
    pub async fn write(&self, number: u64, rows: f64) -> anyhow::Result<()> {
        let at = micros()?;
        let (sequence, pair) = (number.cast_signed(), number % 64);
        let (one, other) = (bytes(pair, 16), bytes(pair + 64, 16));
        let id = bytes(number, 16);
        let message = async {
            let _permit = self.permits.acquire().await?;
            let values = (&one, 0i64, sequence, bytes(number, EVENT_BYTES), at);
            self.session.execute_unpaged(&self.message, values).await.map(drop).map_err(anyhow::Error::from)
        };
        let request = async {
            let _permit = self.permits.acquire().await?;
            let values = ("conversations", &one, &other, &id, bytes(number, REQUEST_BYTES), at);
            self.session.execute_unpaged(&self.request, values).await.map(drop).map_err(anyhow::Error::from)
        };
        let entries = [&one, &other].map(|user| async move {
            let _permit = self.permits.acquire().await?;
            let values = (user, 0i64, sequence, bytes(number, REFERENCE_BYTES), at);
            self.session.execute_unpaged(&self.entry, values).await.map(drop).map_err(anyhow::Error::from)
        });
        let beyond = (rows - BODY_ROWS).max(0.0);
        let watermarks = (beyond * (number + 1) as f64) as u64 - (beyond * number as f64) as u64;
        let heads = (0..watermarks).map(|_| async {
            let _permit = self.permits.acquire().await?;
            self.session.execute_unpaged(&self.head, (&one, sequence, at)).await.map(drop).map_err(anyhow::Error::from)
        });
        let bodies = try_join(try_join(message, request), try_join_all(entries));
        try_join(bodies, try_join_all(heads)).await?;
        ensure!(rows.is_finite(), "the rows of a message were not counted");
        Ok(())
    }
}

fn micros() -> anyhow::Result<i64> {
    Ok(i64::try_from(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_micros())?)
}
