//! The tables that every service's store on ScyllaDB or Cassandra has alike, the twin of [`embedded`](crate::embedded): states, checkpoints and
//! request ids. They are in `cql/0001_processor.cql`, which is the first step of each such service's migrations.
//!
//! - Every write names its record's write time, so the later one stays whatever comes last, and any of them can be sent again.
//! - A state is one row, written by one statement and read at quorum with blocking read repair: what one read has shown, the next shows too.
//! - Rows are written one by one, many at once: nearly every row of a batch is in another partition.

mod own_rows;

use bytes::Bytes;
use plaza_scylla_kit::{Bound, Error, Keyspace, Read, Session, Step, Write, concurrently};

pub use self::own_rows::OwnRows;
use crate::{
    Checkpoint, IdKey, Key, Remembered, StateRow, StateWrite, StoreError, Timed,
    stored::{self, NOBODY},
};

/// The tables, as the first step of a service's migrations.
pub const STEP: Step = Step { name: "processor", cql: include_str!("cql/0001_processor.cql") };
/// What ScyllaDB adds to the tables, for a service's overlay.
pub const OVERLAY: &str = include_str!("cql/overlay.cql");

/// The tables.
pub struct StateTables {
    session: Session,
    checkpoint: Read,
    write_checkpoint: Write,
    state: Read,
    write_state: Write,
    write_hot: Write,
    remembered: Read,
    remember: Write,
}

/// Rows on their way, as a service's `put` adds them.
#[derive(Default)]
pub struct Writes {
    bound: Vec<Bound>,
    failed: Option<Error>,
}

impl Writes {
    /// Adds a row.
    pub fn push(&mut self, bound: Result<Bound, Error>) {
        match bound {
            Ok(bound) => self.bound.push(bound),
            Err(error) => self.failed = Some(error),
        }
    }
}

impl StateTables {
    /// Prepares the statements on the tables of one service.
    ///
    /// # Errors
    /// The cluster's.
    pub async fn open(keyspace: &Keyspace) -> Result<Self, Error> {
        Ok(Self {
            session: keyspace.session().clone(),
            checkpoint: keyspace.read("SELECT row FROM {keyspace}.checkpoints WHERE machine = ? AND number = ?").await?,
            write_checkpoint: keyspace
                .write("INSERT INTO {keyspace}.checkpoints (machine, number, row) VALUES (?, ?, ?) USING TIMESTAMP ?")
                .await?,
            state: keyspace.read("SELECT hot, cold FROM {keyspace}.states WHERE machine = ? AND key = ?").await?,
            write_state: keyspace
                .write("INSERT INTO {keyspace}.states (machine, key, hot, cold) VALUES (?, ?, ?, ?) USING TIMESTAMP ?")
                .await?,
            write_hot: keyspace.write("INSERT INTO {keyspace}.states (machine, key, hot) VALUES (?, ?, ?) USING TIMESTAMP ?").await?,
            remembered: keyspace
                .read("SELECT row FROM {keyspace}.requests WHERE machine = ? AND key = ? AND caller = ? AND request = ?")
                .await?,
            remember: keyspace
                .write("INSERT INTO {keyspace}.requests (machine, key, caller, request, row) VALUES (?, ?, ?, ?, ?) USING TIMESTAMP ?")
                .await?,
        })
    }

    /// As [`crate::Store::checkpoint`].
    ///
    /// # Errors
    /// The cluster's, or a row that is none.
    pub async fn checkpoint(&self, machine: &'static str, partition: u32) -> Result<Option<Checkpoint>, StoreError> {
        let row = self.session.row::<(Bytes,)>(&self.checkpoint, (machine, partition.cast_signed())).await?;
        row.map(|(row,)| stored::read_checkpoint(row)).transpose()
    }

    /// As [`crate::Store::write_checkpoint`].
    ///
    /// # Errors
    /// The cluster's.
    pub async fn write_checkpoint(&self, machine: &'static str, partition: u32, checkpoint: &Checkpoint) -> Result<(), StoreError> {
        let values = (machine, partition.cast_signed(), stored::checkpoint(checkpoint), timestamp(checkpoint.last_time));
        Ok(self.session.write(&self.write_checkpoint, values).await?)
    }

    /// As [`crate::Store::states`].
    ///
    /// # Errors
    /// The cluster's, or a row that is none.
    pub async fn states(&self, machine: &'static str, keys: &[Key]) -> Result<Vec<Option<StateRow>>, StoreError> {
        let read = |key| self.session.row::<(Option<Bytes>, Option<Bytes>)>(&self.state, (machine, key));
        let rows = concurrently(keys.iter().map(|key| read(&key.0))).await?;
        let state = |row: Option<(Option<Bytes>, Option<Bytes>)>| match row {
            Some((Some(hot), cold)) => stored::read_state(hot, cold.unwrap_or_default()).map(Some),
            _ => Ok(None),
        };
        rows.into_iter().map(state).collect()
    }

    /// As [`crate::Store::write_states`].
    ///
    /// # Errors
    /// The cluster's.
    pub async fn write_states(&self, machine: &'static str, states: &[StateWrite]) -> Result<(), StoreError> {
        let bound = states.iter().map(|StateWrite { key, time, row, cold }| match cold {
            Some(cold) => self.write_state.bind((machine, &key.0, stored::hot(row), cold, timestamp(*time))),
            None => self.write_hot.bind((machine, &key.0, stored::hot(row), timestamp(*time))),
        });
        let bound = bound.collect::<Result<Vec<_>, _>>()?;
        Ok(self.session.write_all(bound).await?)
    }

    /// As [`crate::Store::remembered`].
    ///
    /// # Errors
    /// The cluster's, or a row that is none.
    pub async fn remembered(&self, machine: &'static str, ids: &[IdKey]) -> Result<Vec<Option<Remembered>>, StoreError> {
        let read = |id| {
            let (key, caller, request) = parts(id);
            self.session.row::<(Bytes,)>(&self.remembered, (machine, key, caller, request))
        };
        let rows = concurrently(ids.iter().map(read)).await?;
        let remembered = |(id, row): (_, Option<(Bytes,)>)| row.map(|(row,)| stored::read_remembered(id, row)).transpose();
        ids.iter().zip(rows).map(remembered).collect()
    }

    /// As [`crate::Store::write_rows`], `put` adding what a row is written by. It is given the newest first, so that it can leave out what it has
    /// put already as of a later time.
    ///
    /// # Errors
    /// The cluster's.
    pub async fn write_rows<R>(
        &self,
        machine: &'static str,
        rows: &[Timed<R>],
        remembered: &[Timed<Remembered>],
        mut put: impl FnMut(&mut Writes, &Timed<R>),
    ) -> Result<(), StoreError> {
        let mut writes = Writes::default();
        for Timed { time, row } in remembered {
            let (key, caller, request) = parts(&row.id);
            writes.push(self.remember.bind((machine, key, caller, request, stored::remembered(row), timestamp(*time))));
        }
        for row in rows.iter().rev() {
            put(&mut writes, row);
        }
        match writes.failed {
            Some(error) => Err(error.into()),
            None => Ok(self.session.write_all(writes.bound).await?),
        }
    }
}

/// A write time as the cluster takes it: both count microseconds.
#[must_use]
pub fn timestamp(time: u64) -> i64 {
    i64::try_from(time).unwrap_or(i64::MAX)
}

impl From<Error> for StoreError {
    fn from(error: Error) -> Self {
        Self { message: error.to_string() }
    }
}

fn parts(id: &IdKey) -> (&Bytes, &[u8], &Bytes) {
    (&id.key.0, if id.caller.is_empty() { &NOBODY } else { &id.caller }, &id.request)
}
