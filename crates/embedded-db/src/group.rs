//! What the writer applies together: a group of the journal, and rows of tables.

use std::{collections::hash_map, sync::Arc};

use bytes::Bytes;
use foldhash::HashMap;

use crate::{
    batch::Action,
    journal,
    maintenance::Maintenance,
    memtable::{Memtable, Value},
    segments::Segments,
    sequence::Growing,
    table::{Table, Tables},
};

/// Memory for the newest rows of a table before they go to a file.
const MEMTABLE_BYTES: u64 = 16 << 20;
/// Complete journals that are kept, whatever their size: each start begins a new one.
const MOST_JOURNALS: usize = 16;
/// Memory that is kept for the next group.
const GROUP_BYTES: usize = 1 << 20;

/// What the writer writes to.
pub(crate) struct Store {
    pub(crate) tables: Arc<Tables>,
    pub(crate) segments: Segments,
    pub(crate) maintenance: Arc<Maintenance>,
    /// The last sequence, which is synced.
    pub(crate) last: u64,
    /// Complete journals kept before what only they have is flushed, in bytes.
    pub(crate) journal_limit_bytes: u64,
}

/// Batches applied together: all of them survive a crash, or none.
pub(crate) struct Group {
    store: Store,
    /// The group as the journal gets it.
    journal: journal::Group,
    /// And as the tables do.
    rows: Vec<(usize, Bytes, Value)>,
    /// By a table's number.
    places: Vec<Option<Place>>,
    /// What is appended, by sequence. There are few of them.
    runs: Vec<Growing>,
    /// The winning writes so far.
    merged: HashMap<RowKey, Bytes>,
    synced: u64,
    /// A table whose memtable is full.
    full: bool,
}

/// Where a table's rows go.
struct Place {
    table: Arc<Table>,
    memtable: Arc<Memtable>,
    /// The journal's file says which table the number stands for.
    named: bool,
}

impl Place {
    /// Where the rows of a table go, and its number.
    fn of<'p>(places: &'p mut Vec<Option<Place>>, table: &Arc<Table>) -> (usize, &'p mut Place) {
        let number = table.number as usize;
        if places.len() <= number {
            places.resize_with(number + 1, || None);
        }
        let place = places[number].get_or_insert_with(|| Place { table: Arc::clone(table), memtable: table.memtable(), named: false });
        (number, place)
    }
}

/// A table's number, and a key in it.
type RowKey = (u32, Bytes);

impl Group {
    pub(crate) fn new(store: Store) -> Self {
        let synced = store.last;
        Self {
            store,
            journal: journal::Group::new(),
            rows: Vec::new(),
            places: Vec::new(),
            runs: Vec::new(),
            merged: HashMap::default(),
            synced,
            full: false,
        }
    }

    pub(crate) fn add(&mut self, table: &Arc<Table>, key: Bytes, action: Action) -> lsm_tree::Result<()> {
        match action {
            Action::Insert(value) => self.put(table, &key, &value),
            Action::Remove => {
                let place = self.place(table);
                self.journal.remove(table.number, &key);
                self.rows.push((place, Bytes::copy_from_slice(&key), None));
            }
            Action::Append(number, entry) => {
                let place = self.runs.iter().position(|run| Arc::ptr_eq(&run.table, table)).unwrap_or_else(|| {
                    self.runs.push(Growing::new(Arc::clone(table)));
                    self.runs.len() - 1
                });
                if !self.runs[place].takes(number) {
                    self.put_run(place);
                }
                self.runs[place].add(number, &entry);
            }
            Action::Merge(stored) => match self.merged.entry((table.number, key)) {
                hash_map::Entry::Occupied(mut pending) => {
                    if *pending.get() < stored {
                        pending.insert(stored);
                    }
                }
                hash_map::Entry::Vacant(vacant) => {
                    if table.get(&vacant.key().1)?.is_none_or(|found| found < stored) {
                        vacant.insert(stored);
                        self.place(table);
                    }
                }
            },
        }
        Ok(())
    }

    /// Where the rows of a table go, which the journal knows by its number from now on.
    fn place(&mut self, table: &Arc<Table>) -> usize {
        let (number, place) = Place::of(&mut self.places, table);
        if !std::mem::replace(&mut place.named, true) {
            self.journal.name(table.number, &table.name);
        }
        number
    }

    fn put(&mut self, table: &Arc<Table>, key: &[u8], value: &[u8]) {
        let place = self.place(table);
        self.journal.put(table.number, key, value);
        // Copied, because what the caller has may be a part of something larger.
        self.rows.push((place, Bytes::copy_from_slice(key), Some(Bytes::copy_from_slice(value))));
    }

    fn put_run(&mut self, place: usize) {
        if let Some((first, run)) = self.runs[place].take() {
            let table = Arc::clone(&self.runs[place].table);
            self.put(&table, &first.to_be_bytes(), &run);
            self.runs[place].give_back(run);
        }
    }

    pub(crate) fn commit(&mut self) -> lsm_tree::Result<()> {
        for (key, stored) in self.merged.drain() {
            self.journal.put(key.0, &key.1, &stored);
            self.rows.push((key.0 as usize, Bytes::copy_from_slice(&key.1), Some(stored)));
        }
        (0..self.runs.len()).for_each(|place| self.put_run(place));
        if self.journal.is_empty() {
            return Ok(());
        }
        let sequence = self.store.last + 1;
        let segments = &mut self.store.segments;
        segments.append(self.journal.seal(segments.secret, sequence, self.synced))?;
        self.store.last = sequence;
        let horizon = &self.store.tables.horizon;
        let oldest = horizon.oldest();
        for (place, key, value) in self.rows.drain(..) {
            let Some(Place { memtable, .. }) = &self.places[place] else { continue };
            self.full |= memtable.put(key, value, sequence, oldest) > MEMTABLE_BYTES;
        }
        horizon.publish(sequence);
        self.journal.clear(GROUP_BYTES);
        Ok(())
    }

    pub(crate) fn sync(&mut self) -> lsm_tree::Result<()> {
        self.store.segments.sync()?;
        // All groups so far survive a power loss.
        self.synced = self.store.last;
        Ok(())
    }

    /// Whether a memtable or the journal's file is.
    pub(crate) fn is_full(&self) -> bool {
        self.full || self.store.segments.is_full()
    }

    /// Seals what is full. Everything must be synced.
    pub(crate) fn make_room(&mut self) -> lsm_tree::Result<()> {
        if std::mem::take(&mut self.full) {
            self.seal(|place| place.memtable.bytes() > MEMTABLE_BYTES);
        }
        if self.store.segments.is_full() {
            self.store.segments.turn(self.store.last)?;
            self.places.iter_mut().flatten().for_each(|place| place.named = false);
            self.shorten_journal()?;
        }
        self.store.maintenance.room();
        Ok(())
    }

    fn seal(&mut self, which: impl Fn(&Place) -> bool) {
        for place in self.places.iter_mut().flatten().filter(|place| which(place)) {
            let bytes = place.memtable.bytes();
            if place.table.seal() {
                self.store.maintenance.sealed(Arc::clone(&place.table), bytes);
                place.memtable = place.table.memtable();
            }
        }
    }

    /// Lets go of journals when there are too many: what only the oldest has goes to files. Everything must be synced.
    pub(crate) fn shorten_journal(&mut self) -> lsm_tree::Result<()> {
        let Store { tables, segments: Segments { complete, .. }, journal_limit_bytes, .. } = &self.store;
        complete.remove_before(|| tables.first_unflushed(), &tables.needless)?;
        let Some(last) = complete.oldest_above(*journal_limit_bytes, MOST_JOURNALS) else { return Ok(()) };
        for table in tables.all().iter().filter(|table| table.first_unflushed().is_some_and(|first| first <= last)) {
            // It may not have been written to since the start.
            Place::of(&mut self.places, table);
        }
        self.seal(|place| place.table.first_unflushed().is_some_and(|first| first <= last));
        Ok(())
    }
}
