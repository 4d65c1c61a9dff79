//! The tables that every service's embedded store has alike: states, checkpoints and request ids, for any number of machines. The service
//! says where its rows go; they are written together with the request ids.
//!
//! | keyspace | key | value |
//! | --- | --- | --- |
//! | `<name>.states` | machine, 0, key, `h` or `c` | hot part with `applied`, or cold part; last write wins |
//! | `<name>.checkpoints` | machine, 0, partition | where its owner begins; last write wins |
//! | `<name>.requests` | machine, 0, request, caller, deciding key | what was decided, only ever written the same |

use bytes::Bytes;
use plaza_embedded_db::{Batch, Db, Error, Keyspace};

use crate::{
    Checkpoint, IdKey, Key, Remembered, StateRow, StateWrite, StoreError, Timed,
    stored::{self, NOBODY},
};

const HOT: u8 = b'h';
const COLD: u8 = b'c';

/// The tables.
#[derive(Debug)]
pub struct StateTables {
    db: Db,
    states: Keyspace,
    checkpoints: Keyspace,
    requests: Keyspace,
}

impl StateTables {
    /// Opens or creates the tables of one service. Blocks while they are created.
    ///
    /// # Errors
    /// The engine's.
    pub fn open(db: &Db, name: &str) -> Result<Self, StoreError> {
        let open = |table: &str| db.keyspace(&format!("{name}.{table}")).map_err(|error| failed(&error));
        Ok(Self { db: db.clone(), states: open("states")?, checkpoints: open("checkpoints")?, requests: open("requests")? })
    }

    /// As [`crate::Store::checkpoint`].
    ///
    /// # Errors
    /// The engine's, or a row that is none.
    pub async fn checkpoint(&self, machine: &'static str, partition: u32) -> Result<Option<Checkpoint>, StoreError> {
        let key = key(machine, &[&partition.to_be_bytes()]);
        let row = self.checkpoints.get_at(&key).map_err(|error| failed(&error))?;
        row.map(|(_, row)| stored::read_checkpoint(row)).transpose()
    }

    /// As [`crate::Store::write_checkpoint`].
    ///
    /// # Errors
    /// The engine's.
    pub async fn write_checkpoint(&self, machine: &'static str, partition: u32, checkpoint: &Checkpoint) -> Result<(), StoreError> {
        let mut batch = Batch::new();
        let key = key(machine, &[&partition.to_be_bytes()]);
        batch.upsert_at(&self.checkpoints, key, checkpoint.last_time, stored::checkpoint(checkpoint));
        self.write(batch).await
    }

    /// As [`crate::Store::states`].
    ///
    /// # Errors
    /// The engine's, or a row that is none.
    pub async fn states(&self, machine: &'static str, keys: &[Key]) -> Result<Vec<Option<StateRow>>, StoreError> {
        keys.iter().map(|key| self.state(machine, key)).collect()
    }

    /// Both parts as of one moment: a write that fell between the two reads shows in the time of the hot part, which every write changes.
    fn state(&self, machine: &'static str, state: &Key) -> Result<Option<StateRow>, StoreError> {
        let read = |part| self.states.get_at(&key(machine, &[&state.0, &[part]])).map_err(|error| failed(&error));
        let mut before = read(HOT)?;
        loop {
            let Some((time, row)) = before else { return Ok(None) };
            let cold = read(COLD)?.map_or_else(Bytes::new, |(_, cold)| cold);
            let after = if cold.is_empty() { None } else { read(HOT)? };
            if after.as_ref().is_none_or(|(now, _)| *now == time) {
                return stored::read_state(row, cold).map(Some);
            }
            before = after;
        }
    }

    /// As [`crate::Store::write_states`].
    ///
    /// # Errors
    /// The engine's.
    pub async fn write_states(&self, machine: &'static str, states: &[StateWrite]) -> Result<(), StoreError> {
        let mut batch = Batch::new();
        for StateWrite { key: state, time, row, cold } in states {
            batch.upsert_at(&self.states, key(machine, &[&state.0, &[HOT]]), *time, stored::hot(row));
            if let Some(cold) = cold {
                batch.upsert_at(&self.states, key(machine, &[&state.0, &[COLD]]), *time, cold);
            }
        }
        self.write(batch).await
    }

    /// As [`crate::Store::remembered`].
    ///
    /// # Errors
    /// The engine's, or a row that is none.
    pub async fn remembered(&self, machine: &'static str, ids: &[IdKey]) -> Result<Vec<Option<Remembered>>, StoreError> {
        let read = |id: &IdKey| {
            let Some(row) = self.requests.get(&request_key(machine, id)).map_err(|error| failed(&error))? else { return Ok(None) };
            stored::read_remembered(id, row).map(Some)
        };
        ids.iter().map(read).collect()
    }

    /// As [`crate::Store::write_rows`], `put` saying where a row goes. It is given the newest first, so that it can leave out what it has put
    /// already as of a later time. All of it becomes visible at once.
    ///
    /// # Errors
    /// The engine's.
    pub async fn write_rows<R>(
        &self,
        machine: &'static str,
        rows: &[Timed<R>],
        remembered: &[Timed<Remembered>],
        mut put: impl FnMut(&mut Batch, &Timed<R>),
    ) -> Result<(), StoreError> {
        let mut batch = Batch::new();
        for Timed { row, .. } in remembered {
            batch.insert(&self.requests, request_key(machine, &row.id), stored::remembered(row));
        }
        for row in rows.iter().rev() {
            put(&mut batch, row);
        }
        self.write(batch).await
    }

    async fn write(&self, batch: Batch) -> Result<(), StoreError> {
        self.db.ready().await;
        let position = self.db.enqueue(batch);
        self.db.visible(position).await.map_err(|error| failed(&error))
    }
}

/// Makes a store of either kind a [`Store`](crate::Store) of a machine's rows: everything but the rows goes to its [`StateTables`], and `put`
/// is what [`StateTables::write_rows`] is given. Both can name the store and the rows to be written:
/// `machine_store!(Embedded: Row, |store, _rows| store.tables, |batch, row| store.put(batch, row))`.
#[macro_export]
macro_rules! machine_store {
    ($store:ty: $row:ty, |$this:ident, $rows:ident| $tables:expr, $put:expr) => {
        #[async_trait::async_trait]
        impl $crate::Store<$row> for $store {
            async fn checkpoint(&self, machine: &'static str, partition: u32) -> Result<Option<$crate::Checkpoint>, $crate::StoreError> {
                let $this = self;
                $tables.checkpoint(machine, partition).await
            }

            async fn write_checkpoint(
                &self,
                machine: &'static str,
                partition: u32,
                checkpoint: &$crate::Checkpoint,
            ) -> Result<(), $crate::StoreError> {
                let $this = self;
                $tables.write_checkpoint(machine, partition, checkpoint).await
            }

            async fn states(
                &self,
                machine: &'static str,
                keys: &[$crate::Key],
            ) -> Result<Vec<Option<$crate::StateRow>>, $crate::StoreError> {
                let $this = self;
                $tables.states(machine, keys).await
            }

            async fn write_states(&self, machine: &'static str, states: &[$crate::StateWrite]) -> Result<(), $crate::StoreError> {
                let $this = self;
                $tables.write_states(machine, states).await
            }

            async fn remembered(
                &self,
                machine: &'static str,
                ids: &[$crate::IdKey],
            ) -> Result<Vec<Option<$crate::Remembered>>, $crate::StoreError> {
                let $this = self;
                $tables.remembered(machine, ids).await
            }

            async fn write_rows(
                &self,
                machine: &'static str,
                rows: &[$crate::Timed<$row>],
                remembered: &[$crate::Timed<$crate::Remembered>],
            ) -> Result<(), $crate::StoreError> {
                let ($this, $rows) = (self, rows);
                $tables.write_rows(machine, rows, remembered, $put).await
            }
        }
    };
}

/// The machine's name has no zero byte, so no key of one machine is one of another.
fn key(machine: &'static str, parts: &[&[u8]]) -> Vec<u8> {
    let mut key = Vec::with_capacity(machine.len() + 1 + parts.iter().map(|part| part.len()).sum::<usize>());
    key.extend_from_slice(machine.as_bytes());
    key.push(0);
    parts.iter().for_each(|part| key.extend_from_slice(part));
    key
}

/// Request and caller have 16 bytes each, so the deciding key begins where they end. The request comes first because it begins with its time:
/// rows come nearly in the order of their keys, which makes placing them and merging their tables cheap.
fn request_key(machine: &'static str, id: &IdKey) -> Vec<u8> {
    let caller = if id.caller.is_empty() { &NOBODY[..] } else { &id.caller };
    key(machine, &[&id.request, caller, &id.key.0])
}

fn failed(error: &Error) -> StoreError {
    let source = std::error::Error::source(error).map(|source| format!(": {source}")).unwrap_or_default();
    StoreError { message: format!("{error}{source}") }
}
