//! A simulated store to its contract: the last write wins, and a write can fail before or after it happened, happen in part, or arrive late.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use plaza_processor::{Checkpoint, IdKey, Key, Remembered, StateRow, StateWrite, Store, StoreError, Timed};
use plaza_runtime::Stage;

use crate::{machines::Row, world::World};

/// Everything stored.
#[derive(Default)]
pub(crate) struct Tables {
    pub(crate) hot: BTreeMap<(&'static str, Key), (u64, StateRow)>,
    pub(crate) cold: BTreeMap<(&'static str, Key), (u64, Bytes)>,
    pub(crate) checkpoints: BTreeMap<(&'static str, u32), Checkpoint>,
    /// All checkpoints ever written, to begin at an old one.
    pub(crate) history: BTreeMap<(&'static str, u32), Vec<Checkpoint>>,
    pub(crate) remembered: BTreeMap<(&'static str, Key, Bytes, Bytes), Remembered>,
    pub(crate) rows: BTreeMap<String, (u64, Row)>,
}

impl Tables {
    pub(crate) fn state(&self, machine: &'static str, key: &Key) -> Option<StateRow> {
        let at = (machine, key.clone());
        let cold = self.cold.get(&at).map_or_else(Bytes::new, |(_, cold)| cold.clone());
        self.hot.get(&at).map(|(_, row)| StateRow { cold, ..row.clone() })
    }
}

/// One thing to write.
#[derive(Clone)]
enum Write {
    Hot(&'static str, Key, u64, StateRow),
    Cold(&'static str, Key, u64, Bytes),
    State(&'static str, StateWrite),
    Checkpoint(&'static str, u32, Checkpoint),
    Remembered(&'static str, Remembered),
    Row(Timed<Row>),
}

impl Write {
    fn land(self, world: &World) {
        let mut tables = world.tables.lock();
        match self {
            Self::Hot(machine, key, time, row) => newest(&mut tables.hot, (machine, key), time, row, |row| &row.hot),
            Self::Cold(machine, key, time, cold) => newest(&mut tables.cold, (machine, key), time, cold, |cold| cold),
            Self::State(machine, StateWrite { key, time, row, cold }) => {
                world.say(|| format!("state {machine} {key:?} applied {} at {time}", row.applied.offset));
                drop(tables);
                Self::Hot(machine, key.clone(), time, row).land(world);
                if let Some(cold) = cold {
                    Self::Cold(machine, key, time, cold).land(world);
                }
            }
            Self::Checkpoint(machine, partition, checkpoint) => {
                world.say(|| format!("checkpoint {machine} {partition} {checkpoint:?}"));
                tables.history.entry((machine, partition)).or_default().push(checkpoint.clone());
                let current = tables.checkpoints.entry((machine, partition)).or_default();
                if checkpoint.last_time >= current.last_time {
                    *current = checkpoint;
                }
            }
            Self::Remembered(machine, row) => {
                let at = (machine, row.id.key.clone(), row.id.caller.clone(), row.id.request.clone());
                tables.remembered.insert(at, row);
            }
            Self::Row(Timed { time, row }) => {
                world.say(|| format!("row {row:?} at {time}"));
                newest(&mut tables.rows, row.place(), time, row, |row| row);
            }
        }
    }
}

/// The later wins; at the same time the larger, so that the outcome never depends on the order of arrival.
fn newest<K: Ord, V, O: Ord>(table: &mut BTreeMap<K, (u64, V)>, key: K, time: u64, value: V, order: impl Fn(&V) -> &O) {
    match table.get_mut(&key) {
        Some((known, before)) if (*known, order(before)) > (time, order(&value)) => {}
        Some(found) => *found = (time, value),
        None => _ = table.insert(key, (time, value)),
    }
}

/// The store as an owner sees it.
pub(crate) struct Simulated(pub(crate) Arc<World>);

impl Simulated {
    async fn read<T>(&self, read: impl FnOnce(&Tables) -> T) -> Result<T, StoreError> {
        self.0.delay(3).await;
        if self.0.fails(self.0.odds.read_fails) {
            return Err(failed());
        }
        let found = read(&self.0.tables.lock());
        self.0.delay(3).await;
        Ok(found)
    }

    /// Each by itself, in this order, any of them failing.
    async fn write(&self, writes: Vec<Write>) -> Result<(), StoreError> {
        let world = &self.0;
        let mut all = Ok(());
        for write in writes {
            world.delay(2).await;
            if !world.fails(world.odds.write_fails) {
                write.land(world);
                continue;
            }
            all = Err(failed());
            if world.dice.happens(600) {
                let late = Arc::clone(world);
                let by = world.dice.pick(&[0, 5, 50, 300]);
                world.supervisor.spawn("late write", Stage::Stores, async move {
                    tokio::time::sleep(late.dice.millis(1 + by)).await;
                    write.land(&late);
                    Ok(())
                });
            }
        }
        world.delay(3).await;
        if world.fails(world.odds.write_fails) { Err(failed()) } else { all }
    }
}

fn failed() -> StoreError {
    StoreError { message: "simulated".to_owned() }
}

#[async_trait]
impl Store<Row> for Simulated {
    async fn checkpoint(&self, machine: &'static str, partition: u32) -> Result<Option<Checkpoint>, StoreError> {
        self.read(|tables| tables.checkpoints.get(&(machine, partition)).cloned()).await
    }

    async fn write_checkpoint(&self, machine: &'static str, partition: u32, checkpoint: &Checkpoint) -> Result<(), StoreError> {
        self.write(vec![Write::Checkpoint(machine, partition, checkpoint.clone())]).await
    }

    async fn states(&self, machine: &'static str, keys: &[Key]) -> Result<Vec<Option<StateRow>>, StoreError> {
        self.read(|tables| keys.iter().map(|key| tables.state(machine, key)).collect()).await
    }

    async fn write_states(&self, machine: &'static str, states: &[StateWrite]) -> Result<(), StoreError> {
        let mut writes = Vec::new();
        for state in states {
            if in_two_parts() {
                let StateWrite { key, time, row, cold } = state.clone();
                writes.push(Write::Hot(machine, key.clone(), time, row));
                writes.extend(cold.map(|cold| Write::Cold(machine, key, time, cold)));
            } else {
                writes.push(Write::State(machine, state.clone()));
            }
        }
        self.0.dice.shuffle(&mut writes);
        self.write(writes).await
    }

    async fn remembered(&self, machine: &'static str, ids: &[IdKey]) -> Result<Vec<Option<Remembered>>, StoreError> {
        let find =
            |tables: &Tables, id: &IdKey| tables.remembered.get(&(machine, id.key.clone(), id.caller.clone(), id.request.clone())).cloned();
        self.read(|tables| ids.iter().map(|id| find(tables, id)).collect()).await
    }

    async fn write_rows(&self, machine: &'static str, rows: &[Timed<Row>], remembered: &[Timed<Remembered>]) -> Result<(), StoreError> {
        let rows = rows.iter().cloned().map(Write::Row);
        let mut writes: Vec<_> = remembered.iter().map(|row| Write::Remembered(machine, row.row.clone())).chain(rows).collect();
        self.0.dice.shuffle(&mut writes);
        // A watermark comes after what it covers.
        writes.sort_by_key(|write| matches!(write, Write::Row(Timed { row: Row::Head { .. }, .. })));
        let (watermarks, rows): (Vec<_>, Vec<_>) =
            writes.into_iter().partition(|write| matches!(write, Write::Row(Timed { row: Row::Head { .. }, .. })));
        self.write(rows).await?;
        self.write(watermarks).await
    }
}

/// A mistake of the store itself: the two parts of a state are not one row.
fn in_two_parts() -> bool {
    #[cfg(feature = "mistakes")]
    return plaza_processor::mistakes::is_planted(plaza_processor::mistakes::Mistake::StateInTwoParts);
    #[cfg(not(feature = "mistakes"))]
    false
}
