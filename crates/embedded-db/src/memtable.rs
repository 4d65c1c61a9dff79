//! The newest rows of a table, in memory until they go to a file.
//!
//! A row that is written again takes the place of what it was, so a memtable is as large as its rows and not as what was ever written to them.
//! What it was stays only for those who still look there.

use std::{
    collections::{BTreeMap, VecDeque, btree_map::Entry},
    ops::Bound,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use lsm_tree::{InternalValue, ValueType};
use parking_lot::RwLock;
use smallvec::SmallVec;

use crate::horizon::Horizon;

/// What a row costs beyond its key and value.
const OVERHEAD_BYTES: u64 = 128;

/// One table's rows. One thread writes.
#[derive(Debug, Default)]
pub(crate) struct Memtable {
    rows: RwLock<BTreeMap<Bytes, Versions>>,
    bytes: AtomicU64,
    first: OnceLock<u64>,
}

/// What a row was, the newest last. There is nearly always one, or two while a group is applied.
type Versions = SmallVec<[Version; 1]>;

#[derive(Debug)]
struct Version {
    sequence: u64,
    /// `None` = removed.
    value: Value,
}

/// `None` = there was a row, and it was removed.
pub(crate) type Value = Option<Bytes>;

/// A key, and what is stored there.
pub(crate) type Row = (Bytes, Value);

/// Two keys, and whether each is meant itself.
pub(crate) type Bounds<K> = (Bound<K>, Bound<K>);

impl Memtable {
    /// The sequence of the first group that wrote to it.
    pub(crate) fn first(&self) -> Option<u64> {
        self.first.get().copied()
    }

    /// Bytes of memory, about.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Writes a row of a group; nobody looks below `oldest`. Answers how many bytes the memtable has.
    pub(crate) fn put(&self, key: Bytes, value: Value, sequence: u64, oldest: u64) -> u64 {
        let length = |value: &Value| value.as_ref().map_or(0, Bytes::len) as u64;
        self.first.get_or_init(|| sequence);
        let mut more = length(&value);
        let mut less = 0;
        let mut rows = self.rows.write();
        match rows.entry(key) {
            Entry::Vacant(vacant) => {
                more += OVERHEAD_BYTES + vacant.key().len() as u64;
                vacant.insert(SmallVec::from_buf([Version { sequence, value }]));
            }
            Entry::Occupied(mut occupied) => {
                let versions = occupied.get_mut();
                // Of what nobody looks below, the last one is what they see.
                let seen = versions.iter().rposition(|version| version.sequence < oldest).unwrap_or(0);
                less += versions.drain(..seen).map(|version| length(&version.value)).sum::<u64>();
                match versions.last_mut().filter(|version| version.sequence == sequence) {
                    // The same group wrote it before.
                    Some(version) => less += length(&std::mem::replace(&mut version.value, value)),
                    None => versions.push(Version { sequence, value }),
                }
            }
        }
        drop(rows);
        let bytes = self.bytes().saturating_add(more).saturating_sub(less);
        self.bytes.store(bytes, Ordering::Relaxed);
        bytes
    }

    /// What is stored under a key as of now; the outer `None` = the memtable does not know.
    pub(crate) fn get(&self, key: &[u8], horizon: &Horizon) -> Option<Value> {
        let rows = self.rows.read();
        // Nothing is written meanwhile: at most one group that is not seen yet has been here.
        as_of(rows.get(key)?, horizon.visible()).cloned()
    }

    /// Up to so many rows in a range as they were at a snapshot, from the last one backwards if `backwards`, at the end of what is there already.
    /// Fewer = there are no more.
    pub(crate) fn page(&self, range: Bounds<&[u8]>, backwards: bool, snapshot: u64, most: usize, page: &mut VecDeque<Row>) {
        let rows = self.rows.read();
        let rows = rows.range::<[u8], _>(range);
        let seen = |(key, versions): (&Bytes, &Versions)| as_of(versions, snapshot).map(|value| (key.clone(), value.clone()));
        if backwards { page.extend(rows.rev().filter_map(seen).take(most)) } else { page.extend(rows.filter_map(seen).take(most)) }
    }

    /// Gives every row, as it is now, to a file. Nobody may write any more.
    pub(crate) fn each<R>(&self, write: impl FnOnce(&mut dyn Iterator<Item = InternalValue>) -> R) -> R {
        let rows = self.rows.read();
        let newest = |(key, versions): (&Bytes, &Versions)| {
            let Version { sequence, value } = versions.last()?;
            let kind = if value.is_some() { ValueType::Value } else { ValueType::Tombstone };
            Some(InternalValue::from_components(&key[..], value.as_deref().unwrap_or_default(), *sequence, kind))
        };
        write(&mut rows.iter().filter_map(newest))
    }

    /// Its rows, to be freed one after the other.
    pub(crate) fn into_rows(self) -> impl Iterator {
        self.rows.into_inner().into_iter()
    }
}

fn as_of(versions: &Versions, sequence: u64) -> Option<&Value> {
    versions.iter().rev().find(|version| version.sequence < sequence).map(|version| &version.value)
}
