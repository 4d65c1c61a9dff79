//! The session with the cluster: one for each process, shared by all stores. It bounds what is under way, and a request once begun runs to its
//! end even if nobody waits for it any more: a request given up half way would cost its connection a place until the answer comes, and a
//! thousand of them the connection.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, TryStreamExt};
use scylla::{
    client::{execution_profile::ExecutionProfile, session::Session as Driver, session_builder::SessionBuilder},
    deserialize::row::DeserializeRow,
    errors::ExecutionError,
    response::{PagingState, PagingStateResponse, query_result::QueryResult},
    serialize::row::SerializeRow,
    statement::{Consistency, SerialConsistency, Statement},
    value::{CqlValue, Row},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use crate::{
    Config, Error,
    metrics::{Kind, Metrics},
    retry::Once,
    statement::{Batch, Bound, Conditional, Keyspace, Read, Write},
    tls,
};

/// How many requests of one call are begun before the first of them is answered.
pub const AT_ONCE: usize = 128;
/// Changes of tables wait for every node.
pub(crate) const DDL_TIMEOUT: Duration = Duration::from_secs(60);

/// What the cluster runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Server {
    /// ScyllaDB: tables get what only it knows.
    Scylla,
    /// Apache Cassandra, or something like it.
    Cassandra,
}

/// A session. Clones are the same one.
#[derive(Clone)]
pub struct Session {
    inner: Arc<Inner>,
}

struct Inner {
    driver: Driver,
    permits: Arc<Semaphore>,
    metrics: Metrics,
    config: Config,
    server: Server,
}

impl Session {
    /// Connects.
    ///
    /// # Errors
    /// No node answers, or files or credentials are wrong.
    pub async fn connect(config: &Config) -> Result<Self, Error> {
        if config.nodes.is_empty() {
            return Err(Error::Refused("no node is named".to_owned()));
        }
        let serial = if config.serial_across_datacenters { SerialConsistency::Serial } else { SerialConsistency::LocalSerial };
        let profile = ExecutionProfile::builder()
            .consistency(Consistency::LocalQuorum)
            .serial_consistency(Some(serial))
            .request_timeout(Some(config.read_timeout))
            .retry_policy(Arc::new(Once))
            .build();
        let mut builder = SessionBuilder::new()
            .known_nodes(&config.nodes)
            .default_execution_profile_handle(profile.into_handle())
            .schema_agreement_timeout(DDL_TIMEOUT)
            .tls_context(tls::client(&config.tls)?);
        if !config.datacenter.is_empty() {
            builder = builder.prefer_datacenter(config.datacenter.clone());
        }
        if !config.user.is_empty() {
            builder = builder.user(&config.user, password(config)?);
        }
        let driver = builder.build().await.map_err(|error| Error::of_connecting(&error))?;
        let permits = Arc::new(Semaphore::new(config.requests));
        let server = server(&driver).await?;
        Ok(Self { inner: Arc::new(Inner { driver, permits, metrics: Metrics::new(), config: config.clone(), server }) })
    }

    /// A new session as one with a cluster that runs this.
    #[cfg(test)]
    pub(crate) fn taken_for(mut self, server: Server) -> Self {
        Arc::get_mut(&mut self.inner).expect("nobody else has it").server = server;
        self
    }

    /// What the cluster runs.
    #[must_use]
    pub fn server(&self) -> Server {
        self.inner.server
    }

    /// The keyspace of a service, named by it and the prefix.
    #[must_use]
    pub fn keyspace(&self, service: &str) -> Keyspace {
        Keyspace::new(self.clone(), format!("{}{service}", self.inner.config.keyspace_prefix))
    }

    /// All rows of a read that gives few: by a whole key, or with a limit in the statement.
    ///
    /// # Errors
    /// See [`Error`]; never `Unknown`.
    pub async fn rows<R>(&self, read: &Read, values: impl SerializeRow) -> Result<Vec<R>, Error>
    where
        R: for<'frame, 'metadata> DeserializeRow<'frame, 'metadata>,
    {
        let bound = read.0.clone().bind(&values).map_err(|error| Error::Refused(error.to_string()))?;
        decode(self.run(Kind::Read, |inner| async move { inner.driver.execute_bound_unpaged(&bound).await }).await?)
    }

    /// The only row, if it is there.
    ///
    /// # Errors
    /// See [`Error`]; never `Unknown`.
    pub async fn row<R>(&self, read: &Read, values: impl SerializeRow) -> Result<Option<R>, Error>
    where
        R: for<'frame, 'metadata> DeserializeRow<'frame, 'metadata>,
    {
        Ok(self.rows(read, values).await?.into_iter().next())
    }

    /// One page of a read, and where the next begins, if there is one. What a page begins at is good for the same statement and values only.
    ///
    /// # Errors
    /// See [`Error`]; never `Unknown`.
    pub async fn page<R>(
        &self,
        read: &Read,
        values: impl SerializeRow,
        size: i32,
        at: PagingState,
    ) -> Result<(Vec<R>, Option<PagingState>), Error>
    where
        R: for<'frame, 'metadata> DeserializeRow<'frame, 'metadata>,
    {
        let mut bound = read.0.clone().bind(&values).map_err(|error| Error::Refused(error.to_string()))?;
        bound.set_page_size(size.max(1));
        let page = self.run(Kind::Read, |inner| async move { inner.driver.execute_bound_single_page(&bound, at).await });
        let (result, next) = page.await?;
        let next = match next {
            PagingStateResponse::HasMorePages { state } => Some(state),
            PagingStateResponse::NoMorePages => None,
        };
        Ok((decode(result)?, next))
    }

    /// Writes. Sent twice if need be, so the statement must name its time.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn write(&self, write: &Write, values: impl SerializeRow) -> Result<(), Error> {
        self.write_bound(write.bind(values)?).await
    }

    /// Writes all of it, many at once. After an error any part may have happened.
    ///
    /// # Errors
    /// The first of them, once all are done.
    pub async fn write_all(&self, writes: impl IntoIterator<Item = Bound>) -> Result<(), Error> {
        let writes = writes.into_iter().map(|bound| async { Ok(self.write_bound(bound).await) });
        concurrently(writes).await?.into_iter().collect()
    }

    async fn write_bound(&self, Bound(bound): Bound) -> Result<(), Error> {
        self.run(Kind::Write, |inner| async move { inner.driver.execute_bound_unpaged(&bound).await }).await.map(drop)
    }

    /// Writes rows of one partition in one request.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn write_batch(&self, batch: Batch) -> Result<(), Error> {
        let (batch, values) = batch.unconditional(self.inner.config.write_timeout);
        self.run(Kind::Write, |inner| async move { inner.driver.batch(&batch, &values).await }).await.map(drop)
    }

    /// Writes if the statement's condition holds, and says whether it did. Never sent twice.
    ///
    /// # Errors
    /// See [`Error`]. After `Unknown` a read made for it ([`Keyspace::serial_read`]) tells, unless the request is still on its way.
    pub async fn conditional(&self, write: &Conditional, values: impl SerializeRow) -> Result<bool, Error> {
        let bound = write.0.clone().bind(&values).map_err(|error| Error::Refused(error.to_string()))?;
        applied(self.run(Kind::Conditional, |inner| async move { inner.driver.execute_bound_unpaged(&bound).await }).await?)
    }

    /// Writes rows of one partition if every condition among the statements holds, and says whether they did. Never sent twice.
    ///
    /// # Errors
    /// As [`Session::conditional`].
    pub async fn conditional_batch(&self, batch: Batch) -> Result<bool, Error> {
        let (batch, values) = batch.conditional(self.inner.config.conditional_timeout);
        applied(self.run(Kind::Conditional, |inner| async move { inner.driver.batch(&batch, &values).await }).await?)
    }

    /// Changes tables and waits until all nodes know.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn change_tables(&self, cql: &str) -> Result<(), Error> {
        let mut statement = Statement::new(cql);
        statement.set_request_timeout(Some(DDL_TIMEOUT));
        let changed = self.run(Kind::Tables, |inner| async move {
            inner.driver.query_unpaged(statement, ()).await?;
            // Also when it was there already: the node that said so may know of it before others do, from somebody who makes the same.
            Ok(inner.driver.await_schema_agreement().await?)
        });
        changed.await.map(drop)
    }

    pub(crate) fn config(&self) -> &Config {
        &self.inner.config
    }

    pub(crate) fn driver(&self) -> &Driver {
        &self.inner.driver
    }

    /// Runs a request in a task of its own once it has a permit, which it keeps to its end. The driver bounds how long that is.
    async fn run<T, F>(&self, kind: Kind, request: impl FnOnce(Arc<Inner>) -> F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, ExecutionError>> + Send + 'static,
    {
        let metrics = self.inner.metrics.clone();
        let permit = self.permit().await.inspect_err(|_| metrics.turned_away(kind))?;
        let request = request(self.inner.clone());
        #[expect(clippy::disallowed_methods, reason = "ends by itself within the driver's timeout, and its caller gets what it gives")]
        let task = tokio::spawn(async move {
            let _permit = permit;
            let began = Instant::now();
            let result = request.await.map_err(|error| kind.means(&error));
            metrics.done(kind, began.elapsed(), result.as_ref().err());
            result
        });
        task.await.unwrap_or_else(|error| Err(Error::Unknown(format!("the request's task ended: {error}"))))
    }

    async fn permit(&self) -> Result<OwnedSemaphorePermit, Error> {
        let permit = self.inner.permits.clone().acquire_owned();
        match tokio::time::timeout(self.inner.config.queue_timeout, permit).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) => Err(Error::Unavailable("closed".to_owned())),
            Err(_) => Err(Error::Unavailable("too many requests under way".to_owned())),
        }
    }
}

/// Runs them, [`AT_ONCE`] at a time, and gives what they gave in their order, or the first error; those not begun by then are not.
pub fn concurrently<T, F, I>(requests: I) -> impl Future<Output = Result<Vec<T>, Error>> + use<T, F, I>
where
    F: Future<Output = Result<T, Error>>,
    I: IntoIterator<Item = F>,
{
    // Collected here, for an iterator's closure over references must not be a part of a future that is to be sent.
    let requests: Vec<F> = requests.into_iter().collect();
    futures::stream::iter(requests).buffered(AT_ONCE).try_collect()
}

fn decode<R>(result: QueryResult) -> Result<Vec<R>, Error>
where
    R: for<'frame, 'metadata> DeserializeRow<'frame, 'metadata>,
{
    let result = result.into_rows_result().map_err(Error::malformed)?;
    result.rows::<R>().map_err(Error::malformed)?.collect::<Result<_, _>>().map_err(Error::malformed)
}

/// What a conditional write says of itself. Which other columns come with it differs between servers and outcomes.
fn applied(result: QueryResult) -> Result<bool, Error> {
    match decode::<Row>(result)?.first().and_then(|row| row.columns.first()) {
        Some(Some(CqlValue::Boolean(applied))) => Ok(*applied),
        _ => Err(Error::Malformed("a conditional write's answer without a first column that says whether it was applied".to_owned())),
    }
}

fn password(config: &Config) -> Result<String, Error> {
    if config.password_file == std::path::PathBuf::new() {
        return Ok(config.password.expose().to_owned());
    }
    let text = std::fs::read_to_string(&config.password_file)
        .map_err(|error| Error::Refused(format!("{}: {error}", config.password_file.display())))?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

/// ScyllaDB has a table that Cassandra has not.
async fn server(driver: &Driver) -> Result<Server, Error> {
    let query = "SELECT table_name FROM system_schema.tables WHERE keyspace_name = 'system' AND table_name = 'versions'";
    let result = driver.query_unpaged(query, ()).await.map_err(|error| Error::of_read(&error))?;
    Ok(if decode::<(String,)>(result)?.is_empty() { Server::Cassandra } else { Server::Scylla })
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use plaza_testkit::wait::wait_for;

    use super::*;
    use crate::{deployment, testing::lease};

    #[tokio::test]
    async fn a_request_keeps_its_permit_without_its_caller() {
        let Some(nodes) = plaza_testkit::external::cql() else { return };
        let lease = lease(&nodes, &[]).await;
        let session = &lease.session;
        let shared = deployment::keyspace(session);
        let read = shared.read("SELECT name FROM {keyspace}.secrets WHERE name = ?").await.expect("prepared");
        let permits = &session.inner.permits;
        let all = permits.available_permits();
        assert!(session.rows::<(String,)>(&read, ("x",)).now_or_never().is_none(), "begun, and left");
        assert_eq!(permits.available_permits(), all - 1);
        let given_back = wait_for("the permit", DDL_TIMEOUT, async || match permits.available_permits() {
            now if now == all => Ok(()),
            now => Err(now),
        });
        given_back.await.expect("given back at its end");
    }
}
