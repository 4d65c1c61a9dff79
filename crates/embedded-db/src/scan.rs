//! Rows of a table between two keys, from either end: what its memtables and its files have, merged.

use std::{collections::VecDeque, ops::Bound, sync::Arc};

use bytes::Bytes;
use lsm_tree::{Guard as _, IterGuardImpl};

use crate::{
    horizon::Snapshot,
    memtable::{Bounds, Memtable, Row},
};

/// Rows that are taken from a memtable at once: few at first, since many readers want one.
const FEW: usize = 4;
const MANY: usize = 128;

/// Rows in files between two keys, from either end.
pub(crate) type Files = Box<dyn DoubleEndedIterator<Item = IterGuardImpl> + Send>;

/// Rows as they were at a snapshot.
pub(crate) struct Scan {
    /// The newest first: what it has of a key counts.
    sources: Vec<Source>,
    snapshot: Snapshot,
}

/// An end of a range.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    First,
    Last,
}

/// Something that has rows.
struct Source {
    /// What was taken from each end, the next one first.
    taken: [VecDeque<Row>; 2],
    rest: Rest,
}

/// What was not taken yet.
enum Rest {
    Memory { memtable: Arc<Memtable>, range: Bounds<Bytes>, most: usize },
    Files(Files),
    Nothing,
}

impl Scan {
    /// The memtables must be in the order of age, the newest first.
    pub(crate) fn new(memtables: impl Iterator<Item = Arc<Memtable>>, files: Files, bounds: Bounds<&[u8]>, snapshot: Snapshot) -> Self {
        let range = (bounds.0.map(Bytes::copy_from_slice), bounds.1.map(Bytes::copy_from_slice));
        let memory = memtables.map(|memtable| Rest::Memory { memtable, range: range.clone(), most: FEW });
        let sources = memory.chain([Rest::Files(files)]).map(|rest| Source { taken: Default::default(), rest });
        Self { sources: sources.collect(), snapshot }
    }

    /// The next row from an end.
    pub(crate) fn take(&mut self, end: End) -> lsm_tree::Result<Option<(Bytes, Bytes)>> {
        loop {
            for source in &mut self.sources {
                source.fill(end, self.snapshot.sequence)?;
            }
            let heads = || self.sources.iter().filter_map(|source| source.taken[end as usize].front());
            let key = match end {
                End::First => heads().map(|(key, _)| key).min(),
                End::Last => heads().map(|(key, _)| key).max(),
            };
            let Some(key) = key.cloned() else { return Ok(None) };
            let mut newest = None;
            for taken in self.sources.iter_mut().map(|source| &mut source.taken[end as usize]) {
                if taken.front().is_some_and(|(other, _)| *other == key) {
                    newest = newest.or(taken.pop_front());
                }
            }
            if let Some((key, Some(value))) = newest {
                return Ok(Some((key, value)));
            }
        }
    }
}

impl Source {
    /// Sees to it that the next row from an end is there, if there is one.
    fn fill(&mut self, end: End, snapshot: u64) -> lsm_tree::Result<()> {
        let [one, other] = match end {
            End::First => [0, 1],
            End::Last => [1, 0],
        };
        if !self.taken[one].is_empty() {
            return Ok(());
        }
        self.rest.take(end, snapshot, &mut self.taken[one])?;
        // What was taken from the other end may be all that is left.
        if self.taken[one].is_empty() {
            let last = self.taken[other].pop_back();
            self.taken[one].extend(last);
        }
        Ok(())
    }
}

impl Rest {
    fn take(&mut self, end: End, snapshot: u64, taken: &mut VecDeque<Row>) -> lsm_tree::Result<()> {
        match self {
            Self::Nothing => {}
            Self::Memory { memtable, range, most } => {
                let bounds = (range.0.as_ref().map(|key| &key[..]), range.1.as_ref().map(|key| &key[..]));
                if !is_empty(&bounds) {
                    memtable.page(bounds, end == End::Last, snapshot, *most, taken);
                }
                match taken.back().filter(|_| taken.len() == *most) {
                    Some((key, _)) => {
                        let beyond = Bound::Excluded(key.clone());
                        match end {
                            End::First => range.0 = beyond,
                            End::Last => range.1 = beyond,
                        }
                        *most = MANY;
                    }
                    None => *self = Self::Nothing,
                }
            }
            Self::Files(files) => {
                let row = match end {
                    End::First => files.next(),
                    End::Last => files.next_back(),
                };
                match row {
                    Some(row) => {
                        let (key, value) = row.into_inner()?;
                        // Copied, because the engine's slices would keep a whole block in memory each.
                        taken.push_back((Bytes::copy_from_slice(&key), Some(Bytes::copy_from_slice(&value))));
                    }
                    None => *self = Self::Nothing,
                }
            }
        }
        Ok(())
    }
}

/// Whether there can be no row: ordered maps take such a range for a caller's mistake.
pub(crate) fn is_empty<K: Ord>(bounds: &Bounds<K>) -> bool {
    match bounds {
        (Bound::Included(start), Bound::Included(end)) => start > end,
        (Bound::Included(start) | Bound::Excluded(start), Bound::Excluded(end)) | (Bound::Excluded(start), Bound::Included(end)) => {
            start >= end
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::{BTreeMap, VecDeque},
        fs::File,
        sync::Arc,
    };

    use lsm_tree::compaction::Leveled;
    use proptest::prelude::*;

    use super::*;
    use crate::{
        needless::Needless,
        table::{Kind, Tables},
    };

    #[derive(Debug, Clone)]
    enum Step {
        /// A group of writes: a key, and what is stored there.
        Group(Vec<(u8, Option<u8>)>),
        /// What is written from then on is not seen until the next group.
        Unseen(u8, Option<u8>),
        Seal,
        Flush,
        Compact,
        Open(u8, u8),
        /// A row from an end of a scan that is open.
        Take(u8, bool),
    }

    fn step() -> impl Strategy<Value = Step> {
        let key = 0..12_u8;
        prop_oneof![
            6 => prop::collection::vec((key.clone(), any::<Option<u8>>()), 1..6).prop_map(Step::Group),
            2 => (key.clone(), any::<Option<u8>>()).prop_map(|(key, value)| Step::Unseen(key, value)),
            2 => Just(Step::Seal),
            2 => Just(Step::Flush),
            1 => Just(Step::Compact),
            2 => (key.clone(), key).prop_map(|(start, end)| Step::Open(start, end)),
            12 => (any::<u8>(), any::<bool>()).prop_map(|(scan, last)| Step::Take(scan, last)),
        ]
    }

    fn row(key: u8, value: u8) -> (Bytes, Bytes) {
        (Bytes::copy_from_slice(&[key]), Bytes::copy_from_slice(&[value]))
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

        #[test]
        fn a_scan_shows_what_was_there_when_it_began(steps in prop::collection::vec(step(), 1..120)) {
            let folder = tempfile::tempdir().expect("a folder");
            let lock = File::create(folder.path().join("lock")).expect("a file");
            let needless = Needless::open(folder.path().join("needless")).expect("a folder");
            let (tables, _) = Tables::open(folder.path().join("tables"), 1 << 20, lock, needless).expect("tables");
            let table = tables.table("rows", Kind::Ranges).expect("a table");
            let (mut seen, mut pending) = (BTreeMap::new(), BTreeMap::new());
            let mut sequence = 1;
            let mut oldest = tables.horizon.oldest();
            let mut scans: Vec<(Scan, VecDeque<(Bytes, Bytes)>)> = Vec::new();
            for step in steps {
                let mut put = |key: u8, value: Option<u8>| {
                    let stored = value.map(|value| Bytes::copy_from_slice(&[value]));
                    table.memtable().put(Bytes::copy_from_slice(&[key]), stored, sequence, oldest);
                    pending.insert(key, value);
                };
                match step {
                    Step::Unseen(key, value) => put(key, value),
                    Step::Group(writes) => {
                        writes.into_iter().for_each(|(key, value)| put(key, value));
                        for (key, value) in std::mem::take(&mut pending) {
                            match value {
                                Some(value) => seen.insert(key, value),
                                None => seen.remove(&key),
                            };
                        }
                        tables.horizon.publish(sequence);
                        sequence += 1;
                        oldest = tables.horizon.oldest();
                    }
                    // The writer seals between groups.
                    Step::Seal if pending.is_empty() => drop(table.seal()),
                    Step::Seal => {}
                    Step::Flush => table.flush(|| true).expect("a file"),
                    Step::Compact => drop(table.compact(Arc::new(Leveled::default()), &tables.needless).expect("files")),
                    Step::Open(start, end) => {
                        let (one, other) = (start.min(end), start.max(end));
                        let rows = seen.range(one..=other).map(|(key, value)| row(*key, *value)).collect();
                        scans.push((table.range((Bound::Included(&[one]), Bound::Included(&[other]))), rows));
                    }
                    Step::Take(scan, last) => {
                        let place = scan as usize % scans.len().max(1);
                        let Some((scan, rows)) = scans.get_mut(place) else { continue };
                        let (end, expected) = if last { (End::Last, rows.pop_back()) } else { (End::First, rows.pop_front()) };
                        let done = expected.is_none();
                        prop_assert_eq!(scan.take(end).expect("a row"), expected);
                        if done {
                            scans.swap_remove(place);
                        }
                    }
                }
                for key in 0..12 {
                    let stored = seen.get(&key).map(|value| Bytes::copy_from_slice(&[*value]));
                    prop_assert_eq!(table.get(&[key]).expect("a row"), stored);
                }
            }
        }
    }

    #[test]
    fn a_row_written_again_and_again_costs_what_it_is() {
        let memtable = Memtable::default();
        let horizon = Arc::new(crate::horizon::Horizon::default());
        let mut bytes = Vec::new();
        for sequence in 1..1_000 {
            bytes.push(memtable.put(Bytes::from_static(b"key"), Some(Bytes::from(vec![0; 100])), sequence, horizon.oldest()));
            horizon.publish(sequence);
        }
        assert_eq!(bytes.first(), Some(&(128 + 3 + 100)));
        // What it was is kept for those who look before the group is published.
        assert!(bytes[1..].iter().all(|bytes| *bytes == 128 + 3 + 200), "{bytes:?}");
    }
}
