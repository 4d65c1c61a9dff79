//! Prepared statements by what may be done with them: read, write (idempotent, as it names its time), write under a condition (not idempotent).
//! A store prepares all of its statements when it is opened and holds them in a struct.

use std::time::Duration;

use scylla::{
    serialize::row::SerializeRow,
    statement::{
        Consistency,
        batch::{Batch as DriverBatch, BatchType},
        bound::BoundStatement,
        prepared::PreparedStatement,
    },
};

use crate::{Error, Session};

/// Stands for the keyspace's name in statements and migrations.
const PLACEHOLDER: &str = "{keyspace}";

/// The keyspace of one service. Statements name it as `{keyspace}`, as in `SELECT since FROM {keyspace}.contacts WHERE owner = ?`; they name
/// every column they read, for a column that is added would move the others.
#[derive(Clone)]
pub struct Keyspace {
    session: Session,
    name: String,
}

/// Reads.
#[derive(Debug, Clone)]
pub struct Read(pub(crate) PreparedStatement);

/// Writes rows as of a time the statement names (`USING TIMESTAMP ?`): twice is once.
#[derive(Debug, Clone)]
pub struct Write(pub(crate) PreparedStatement);

/// Writes rows if a condition holds (`IF ..`).
#[derive(Debug, Clone)]
pub struct Conditional(pub(crate) PreparedStatement);

/// A write with its values.
#[derive(Debug)]
pub struct Bound(pub(crate) BoundStatement);

impl Keyspace {
    pub(crate) fn new(session: Session, name: String) -> Self {
        Self { session, name }
    }

    pub(crate) fn named(session: &Session, name: &str) -> Self {
        Self::new(session.clone(), name.to_owned())
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The session it is reached by.
    #[must_use]
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Text with the keyspace's name filled in.
    #[must_use]
    pub fn fill(&self, cql: &str) -> String {
        cql.replace(PLACEHOLDER, &self.name)
    }

    /// Prepares a read, at quorum.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn read(&self, cql: &str) -> Result<Read, Error> {
        let mut statement = self.prepare(cql, self.session.config().read_timeout).await?;
        statement.set_is_idempotent(true);
        Ok(Read(statement))
    }

    /// Prepares a read that sees, and settles, conditional writes. For one whose outcome is unknown.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn serial_read(&self, cql: &str) -> Result<Read, Error> {
        let mut statement = self.prepare(cql, self.session.config().conditional_timeout).await?;
        statement.set_is_idempotent(true);
        statement.set_consistency(match self.session.config().serial_across_datacenters {
            true => Consistency::Serial,
            false => Consistency::LocalSerial,
        });
        Ok(Read(statement))
    }

    /// Prepares a write. It must name its time.
    ///
    /// # Errors
    /// See [`Error`]; refused without a time.
    pub async fn write(&self, cql: &str) -> Result<Write, Error> {
        if !cql.contains("TIMESTAMP ?") {
            return Err(Error::Refused(format!("a write that does not name its time: {cql}")));
        }
        let mut statement = self.prepare(cql, self.session.config().write_timeout).await?;
        statement.set_is_idempotent(true);
        Ok(Write(statement))
    }

    /// Prepares a conditional write, or a part of a conditional batch. What is written under conditions must never be written without.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn conditional(&self, cql: &str) -> Result<Conditional, Error> {
        Ok(Conditional(self.prepare(cql, self.session.config().conditional_timeout).await?))
    }

    async fn prepare(&self, cql: &str, timeout: Duration) -> Result<PreparedStatement, Error> {
        let prepared = self.session.driver().prepare(self.fill(cql)).await;
        let mut statement = prepared.map_err(|error| Error::of_prepare(&error))?;
        statement.set_request_timeout(Some(timeout));
        Ok(statement)
    }
}

impl Write {
    /// With its values, for [`Session::write_all`].
    ///
    /// # Errors
    /// `Refused` for values of other types than the statement's.
    pub fn bind(&self, values: impl SerializeRow) -> Result<Bound, Error> {
        self.0.clone().bind(&values).map(Bound).map_err(|error| Error::Refused(error.to_string()))
    }
}

/// Statements on one partition, done together. Keep it below a few kilobytes.
#[derive(Default)]
pub struct Batch {
    statements: Vec<PreparedStatement>,
    values: Vec<Box<dyn SerializeRow + Send + Sync>>,
}

impl Batch {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether it is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.statements.is_empty()
    }

    /// Adds a write, for [`Session::write_batch`].
    pub fn write(&mut self, write: &Write, values: impl SerializeRow + Send + Sync + 'static) {
        self.statements.push(write.0.clone());
        self.values.push(Box::new(values));
    }

    /// Adds a conditional write or one that goes with it, for [`Session::conditional_batch`].
    pub fn add(&mut self, write: &Conditional, values: impl SerializeRow + Send + Sync + 'static) {
        self.statements.push(write.0.clone());
        self.values.push(Box::new(values));
    }

    pub(crate) fn unconditional(self, timeout: Duration) -> (DriverBatch, Values) {
        self.into_driver(timeout, true)
    }

    pub(crate) fn conditional(self, timeout: Duration) -> (DriverBatch, Values) {
        self.into_driver(timeout, false)
    }

    fn into_driver(self, timeout: Duration, idempotent: bool) -> (DriverBatch, Values) {
        let statements = self.statements.into_iter().map(Into::into).collect();
        // Of one partition, so nothing is gained by a log of the batch.
        let mut batch = DriverBatch::new_with_statements(BatchType::Unlogged, statements);
        batch.set_is_idempotent(idempotent);
        batch.set_request_timeout(Some(timeout));
        (batch, self.values)
    }
}

type Values = Vec<Box<dyn SerializeRow + Send + Sync>>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditional_batches_are_never_sent_twice() {
        let batch = |make: fn(Batch, Duration) -> (DriverBatch, Values)| make(Batch::new(), Duration::from_secs(1)).0;
        assert!(batch(Batch::unconditional).get_is_idempotent());
        assert!(!batch(Batch::conditional).get_is_idempotent());
        assert_eq!(batch(Batch::conditional).get_request_timeout(), Some(Duration::from_secs(1)));
    }
}
