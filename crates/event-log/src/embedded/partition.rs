//! One partition: it numbers its records and keeps the newest ones in memory, so that a reader that keeps up never waits for the journal
//! and never touches the disk.
//!
//! A record is in memory from the moment it has its offset until reads of the store see it, and longer as far as the limits allow. So every
//! offset below the first one in memory is served by the store.

use std::collections::VecDeque;

use bytes::Bytes;
use parking_lot::Mutex;
use plaza_embedded_db::{Batch, Db, Position, Sequence};
use tokio::sync::{Notify, futures::Notified};

use super::{
    db_error,
    row::{self, Unplaced},
};
use crate::{Error, Offset, Stored};

/// Limits of what is kept in memory beyond what it must.
const TAIL_RECORDS: usize = 4096;
pub(super) const TAIL_BYTES: usize = 1 << 20;
/// What a record takes in memory beyond its row.
const OVERHEAD_BYTES: usize = 160;
/// A read of the store ends early above this.
const READ_BYTES: usize = 1 << 20;

pub(super) struct Partition {
    records: Sequence,
    tail: Mutex<Tail>,
    grown: Notify,
}

struct Tail {
    /// The offset of the next record.
    end: Offset,
    last_appended: u64,
    entries: VecDeque<Entry>,
    bytes: usize,
    /// A position known to be visible.
    visible: Position,
}

struct Entry {
    stored: Stored,
    position: Position,
    bytes: usize,
}

/// What memory has for a reader.
enum Found {
    Records(Vec<Stored>),
    /// The store has what is below this offset.
    Below(Offset),
    /// Nothing was appended yet.
    Nothing,
}

impl Partition {
    /// Continues after the last record in the store.
    pub(super) fn open(records: Sequence) -> Result<Self, Error> {
        let last = records.last().map_err(db_error)?;
        let last = last.map(|(offset, row)| decode(offset, &row)).transpose()?;
        let tail = Tail {
            end: last.as_ref().map_or(0, |last| last.offset + 1),
            last_appended: last.map_or(0, |last| last.appended),
            entries: VecDeque::new(),
            bytes: 0,
            visible: Position::default(),
        };
        Ok(Self { records, tail: Mutex::new(tail), grown: Notify::new() })
    }

    /// Gives a record its place; called in the order of the journal.
    pub(super) fn push(&self, position: Position, now: u64, record: Unplaced, batch: &mut Batch) {
        let mut tail = self.tail.lock();
        let offset = tail.end;
        let appended = tail.last_appended.max(now);
        let (stored, row) = record.place(offset, appended);
        let bytes = row.len() + OVERHEAD_BYTES;
        tail.end += 1;
        tail.last_appended = appended;
        tail.bytes += bytes;
        tail.entries.push_back(Entry { stored, position, bytes });
        drop(tail);
        batch.append(&self.records, offset, row);
    }

    /// Tells readers of what was pushed, and lets go of what need not be kept.
    pub(super) fn pushed(&self, db: &Db) {
        self.grown.notify_waiters();
        let mut tail = self.tail.lock();
        let mut evicted = Vec::new();
        while tail.is_full()
            && let Some(entry) = tail.pop_visible(db)
        {
            evicted.push(entry);
        }
        drop(tail);
    }

    /// Resolves after the next push, even one before it is first polled.
    pub(super) fn grown(&self) -> Notified<'_> {
        self.grown.notified()
    }

    pub(super) fn end(&self) -> Offset {
        self.tail.lock().end
    }

    #[cfg(test)]
    pub(super) fn tail_bytes(&self) -> usize {
        self.tail.lock().bytes
    }

    /// At most `max` records from an offset on; none when there is none yet.
    pub(super) fn read(&self, mut from: Offset, max: usize) -> Result<Vec<Stored>, Error> {
        loop {
            match self.tail.lock().find(from, max) {
                Found::Records(records) => return Ok(records),
                Found::Nothing => return Ok(Vec::new()),
                Found::Below(first) => {
                    let records = self.load(from, first, max)?;
                    if !records.is_empty() {
                        return Ok(records);
                    }
                    from = first;
                }
            }
        }
    }

    /// The offset of the first record appended at or after a time, or the end.
    pub(super) fn offset_at(&self, micros: u64) -> Result<Offset, Error> {
        let tail = self.tail.lock();
        let place = tail.entries.partition_point(|entry| entry.stored.appended < micros);
        let found = tail.entries.get(place).map_or(tail.end, |entry| entry.stored.offset);
        let first = tail.first();
        drop(tail);
        if place == 0 { self.stored_offset_at(micros, first, found) } else { Ok(found) }
    }

    /// As [`offset_at`](Self::offset_at) among the records below `end`; `otherwise` if there is none. Times never go back within a
    /// partition, so halving the range finds it.
    fn stored_offset_at(&self, micros: u64, end: Offset, otherwise: Offset) -> Result<Offset, Error> {
        let (mut low, mut high, mut found) = (0, end, otherwise);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.load(middle, high, 1)?.first() {
                Some(stored) if stored.appended < micros => low = stored.offset + 1,
                Some(stored) => (high, found) = (middle, stored.offset),
                None => high = middle,
            }
        }
        Ok(found)
    }

    /// At most `max` records with `from <= offset < end` from the store.
    fn load(&self, from: Offset, end: Offset, max: usize) -> Result<Vec<Stored>, Error> {
        let (mut records, mut bytes) = (Vec::new(), 0);
        if from >= end {
            return Ok(records);
        }
        for found in self.records.range(from..=end - 1).map_err(db_error)?.take(max) {
            let (offset, row) = found.map_err(db_error)?;
            records.push(decode(offset, &row)?);
            bytes += row.len();
            if bytes > READ_BYTES {
                break;
            }
        }
        Ok(records)
    }
}

impl Tail {
    fn first(&self) -> Offset {
        self.entries.front().map_or(self.end, |entry| entry.stored.offset)
    }

    fn find(&self, from: Offset, max: usize) -> Found {
        let first = self.first();
        if from < first {
            return Found::Below(first);
        }
        let place = self.entries.partition_point(|entry| entry.stored.offset < from);
        if place == self.entries.len() {
            return Found::Nothing;
        }
        Found::Records(self.entries.range(place..).take(max).map(|entry| entry.stored.clone()).collect())
    }

    fn is_full(&self) -> bool {
        self.entries.len() > TAIL_RECORDS || self.bytes > TAIL_BYTES
    }

    /// The oldest record, if the store has it.
    fn pop_visible(&mut self, db: &Db) -> Option<Entry> {
        let oldest = self.entries.front()?.position;
        if oldest > self.visible {
            // Asking costs more than popping, so it asks for more than it needs.
            let ahead = self.entries.get(TAIL_RECORDS / 4).map(|entry| entry.position);
            self.visible = ahead.into_iter().chain([oldest]).find(|position| is_visible(db, *position))?;
        }
        let entry = self.entries.pop_front()?;
        self.bytes -= entry.bytes;
        Some(entry)
    }
}

fn is_visible(db: &Db, position: Position) -> bool {
    db.is_visible(position).unwrap_or(false)
}

fn decode(offset: Offset, row: &Bytes) -> Result<Stored, Error> {
    row::decode(offset, row).ok_or_else(|| Error::Fatal(format!("what is stored at offset {offset} is not a record of this version")))
}
