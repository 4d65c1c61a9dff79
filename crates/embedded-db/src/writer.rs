//! The one thread that writes: it applies what is queued as one group, then makes at most one fsync for
//! everybody who waits for one.

use std::{
    collections::{HashMap, hash_map},
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use bytes::Bytes;
use lsm_tree::{InternalValue, Memtable, ValueType};
use quick_cache::{DefaultHashBuilder, Weighter, unsync::Cache};
use tokio::sync::oneshot;

use crate::{
    Batch, Expect,
    batch::{Action, Operation},
    journal,
    maintenance::Maintenance,
    queue::{End, Entry, Position, Queue, Work},
    segments::{Complete, Segments},
    sequence::Growing,
    table::{Table, Tables},
};

/// Memory for the newest rows of a table before they go to a file.
const MEMTABLE_BYTES: u64 = 16 << 20;
/// Complete journals that are kept, whatever their size: each start begins a new one.
const MOST_JOURNALS: usize = 16;
/// Memory for merged rows that are likely to be written again.
const KNOWN_BYTES: usize = 4 << 20;
/// What one of them costs beyond its key and value.
const KNOWN_OVERHEAD_BYTES: usize = 128;
/// Memory that is kept for the next group.
const GROUP_BYTES: usize = 1 << 20;

pub(crate) struct Writer {
    group: Group,
    queue: Arc<Queue>,
    committed: Position,
    synced: Position,
}

type Decision = (oneshot::Sender<bool>, bool);

impl Writer {
    pub(crate) fn new(store: Store, queue: Arc<Queue>) -> Self {
        Self { group: Group::new(store), queue, committed: Position::default(), synced: Position::default() }
    }

    /// Writes until the queue is closed and empty, or until the first failure.
    pub(crate) fn run(mut self) {
        // A panic must not leave callers waiting for ever.
        let mut end = PublishEnd { queue: self.queue.clone(), end: End::Poisoned };
        match self.write_until_closed() {
            Ok(()) => end.end = End::Closed,
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "store poisoned");
            }
        }
        // The files are let go of first: whoever sees the end may open the folder again.
        drop(self);
        drop(end);
    }

    fn write_until_closed(&mut self) -> lsm_tree::Result<()> {
        self.group.shorten_journal()?;
        let mut due = None;
        loop {
            match self.queue.next(self.committed, self.synced, &mut due) {
                Work::Commit { entries, last } => self.commit(entries, last)?,
                Work::Sync => {
                    self.sync()?;
                    due = None;
                }
                Work::Stop => return self.sync(),
            }
        }
    }

    fn commit(&mut self, entries: Vec<Entry>, last: Position) -> lsm_tree::Result<()> {
        let counts = &self.queue.counts;
        let bytes = entries.iter().map(|entry| entry.batch.queue_bytes()).sum();
        let operations: usize = entries.iter().map(|entry| entry.batch.len()).sum();
        counts.groups.fetch_add(1, Ordering::Relaxed);
        counts.batches.fetch_add(entries.len() as u64, Ordering::Relaxed);
        counts.operations.fetch_add(operations as u64, Ordering::Relaxed);
        let decisions = self.apply(entries)?;
        self.committed = last;
        self.queue.publish_visible(last, bytes);
        for (waiter, holds) in decisions {
            // Nobody is left to be told if the caller gave up.
            let _ = waiter.send(holds);
        }
        if self.group.is_full() {
            // What is flushed must not outlive what the journal lost of others, and a complete journal is synced.
            self.sync()?;
            self.group.make_room()?;
        }
        Ok(())
    }

    fn apply(&mut self, entries: Vec<Entry>) -> lsm_tree::Result<Vec<Decision>> {
        let mut decisions = Vec::new();
        for entry in entries {
            if let Some(condition) = entry.condition {
                // The condition must see what stands before it in the queue.
                self.group.commit()?;
                let holds = all_hold(&condition.expects)?;
                decisions.push((condition.decision, holds));
                if !holds {
                    continue;
                }
            }
            let Batch { keyspaces, operations, .. } = entry.batch;
            for Operation { keyspace, key, action } in operations {
                self.group.add(&keyspaces[keyspace].table, key, action)?;
            }
        }
        self.group.commit()?;
        Ok(decisions)
    }

    fn sync(&mut self) -> lsm_tree::Result<()> {
        let started = Instant::now();
        self.group.sync()?;
        let micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.synced = self.committed;
        let counts = &self.queue.counts;
        counts.fsyncs.fetch_add(1, Ordering::Relaxed);
        counts.last_sync_micros.store(micros, Ordering::Relaxed);
        self.queue.publish_durable(self.synced);
        Ok(())
    }
}

fn all_hold(expects: &[Expect]) -> lsm_tree::Result<bool> {
    for expect in expects {
        let found = expect.keyspace.table.get(&expect.key)?;
        if found.as_deref() != expect.expected.as_deref() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What the writer writes to.
pub(crate) struct Store {
    pub(crate) tables: Arc<Tables>,
    pub(crate) segments: Segments,
    pub(crate) complete: Arc<Complete>,
    pub(crate) maintenance: Arc<Maintenance>,
    /// The last sequence, which is synced.
    pub(crate) last: u64,
    /// Complete journals kept before what only they have is flushed, in bytes.
    pub(crate) journal_limit_bytes: u64,
}

/// Batches applied together: all of them survive a crash, or none.
struct Group {
    store: Store,
    /// The group as the journal gets it.
    journal: journal::Group,
    /// And as the tables do.
    rows: Vec<(usize, lsm_tree::UserKey, lsm_tree::UserValue, ValueType)>,
    /// By a table's number.
    places: Vec<Option<Place>>,
    /// What is appended, by sequence. There are few of them.
    runs: Vec<Growing>,
    /// The winning writes so far.
    merged: HashMap<RowKey, Bytes, DefaultHashBuilder>,
    /// What was merged lately. Most such rows are written again and again, and to look one up in the table costs as much as to write it.
    known: Cache<RowKey, Bytes, ByLength>,
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

/// A table's number, and a key in it.
type RowKey = (u32, Bytes);

#[derive(Clone)]
struct ByLength;

impl Weighter<RowKey, Bytes> for ByLength {
    fn weight(&self, (_, key): &RowKey, stored: &Bytes) -> u64 {
        (KNOWN_OVERHEAD_BYTES + key.len() + stored.len()) as u64
    }
}

impl Group {
    fn new(store: Store) -> Self {
        let known = Cache::with_weighter(KNOWN_BYTES / (2 * KNOWN_OVERHEAD_BYTES), KNOWN_BYTES as u64, ByLength);
        let synced = store.last;
        Self {
            store,
            journal: journal::Group::new(),
            rows: Vec::new(),
            places: Vec::new(),
            runs: Vec::new(),
            merged: HashMap::default(),
            known,
            synced,
            full: false,
        }
    }

    fn add(&mut self, table: &Arc<Table>, key: Bytes, action: Action) -> lsm_tree::Result<()> {
        match action {
            Action::Insert(value) => self.put(table, &key, &value),
            Action::Remove => {
                let place = self.place(table);
                self.journal.remove(table.number, &key);
                self.rows.push((place, key[..].into(), [].into(), ValueType::Tombstone));
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
                    let wins = match self.known.get(vacant.key()) {
                        Some(known) => *known < stored,
                        None => table.get(&vacant.key().1)?.is_none_or(|found| found[..] < stored[..]),
                    };
                    if wins {
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
        let number = table.number as usize;
        if self.places.len() <= number {
            self.places.resize_with(number + 1, || None);
        }
        let place = self.places[number].get_or_insert_with(|| Place { table: Arc::clone(table), memtable: table.memtable(), named: false });
        if !std::mem::replace(&mut place.named, true) {
            self.journal.name(table.number, &table.name);
        }
        number
    }

    fn put(&mut self, table: &Arc<Table>, key: &[u8], value: &[u8]) {
        let place = self.place(table);
        self.journal.put(table.number, key, value);
        self.rows.push((place, key.into(), value.into(), ValueType::Value));
    }

    fn put_run(&mut self, place: usize) {
        if let Some((first, run)) = self.runs[place].take() {
            let table = Arc::clone(&self.runs[place].table);
            self.put(&table, &first.to_be_bytes(), &run);
            self.runs[place].give_back(run);
        }
    }

    fn commit(&mut self) -> lsm_tree::Result<()> {
        for (key, stored) in self.merged.drain() {
            self.journal.put(key.0, &key.1, &stored);
            self.rows.push((key.0 as usize, key.1[..].into(), stored[..].into(), ValueType::Value));
            self.known.insert(key, stored);
        }
        (0..self.runs.len()).for_each(|place| self.put_run(place));
        if self.journal.is_empty() {
            return Ok(());
        }
        let applying = self.store.tables.horizon.apply();
        let sequence = applying.sequence;
        let segments = &mut self.store.segments;
        segments.append(self.journal.seal(segments.secret, sequence, self.synced))?;
        self.store.last = sequence;
        for (place, key, value, kind) in self.rows.drain(..) {
            let Some(Place { table, memtable, .. }) = &self.places[place] else { continue };
            if memtable.is_empty() {
                table.begun(sequence);
            }
            let (_, bytes) = memtable.insert(InternalValue::from_components(key, value, sequence, kind));
            self.full |= bytes > MEMTABLE_BYTES;
        }
        applying.publish();
        self.journal.clear(GROUP_BYTES);
        Ok(())
    }

    fn sync(&mut self) -> lsm_tree::Result<()> {
        self.store.segments.sync()?;
        // All groups so far survive a power loss.
        self.synced = self.store.last;
        Ok(())
    }

    /// Whether a memtable or the journal's file is.
    fn is_full(&self) -> bool {
        self.full || self.store.segments.is_full()
    }

    /// Seals what is full. Everything must be synced.
    fn make_room(&mut self) -> lsm_tree::Result<()> {
        if std::mem::take(&mut self.full) {
            self.seal(|place| place.memtable.size() > MEMTABLE_BYTES);
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
            let bytes = place.memtable.size();
            if place.table.seal() {
                self.store.maintenance.sealed(Arc::clone(&place.table), bytes);
                place.memtable = place.table.memtable();
            }
        }
    }

    /// Lets go of journals when there are too many: what only the oldest has goes to files. Everything must be synced.
    fn shorten_journal(&mut self) -> lsm_tree::Result<()> {
        let Store { complete, tables, journal_limit_bytes, .. } = &self.store;
        complete.remove_before(tables.first_unflushed())?;
        let Some(last) = complete.oldest_above(*journal_limit_bytes, MOST_JOURNALS) else { return Ok(()) };
        for table in tables.all().iter().filter(|table| table.first_unflushed().is_some_and(|first| first <= last)) {
            // It may not have been written to since the start.
            let number = table.number as usize;
            if self.places.len() <= number {
                self.places.resize_with(number + 1, || None);
            }
            self.places[number].get_or_insert_with(|| Place { table: Arc::clone(table), memtable: table.memtable(), named: false });
        }
        self.seal(|place| place.table.first_unflushed().is_some_and(|first| first <= last));
        Ok(())
    }
}

struct PublishEnd {
    queue: Arc<Queue>,
    end: End,
}

impl Drop for PublishEnd {
    fn drop(&mut self) {
        self.queue.publish_end(self.end);
    }
}
