//! Reading: a named, ordered set of rows.
//!
//! Every read sees a snapshot of what is visible, so a batch is seen whole or not at all, and a reader
//! that has seen a row also sees every row enqueued before it.

use std::{
    fmt,
    ops::{Bound, RangeBounds},
    sync::Arc,
};

use bytes::Bytes;

use crate::{
    Error,
    scan::{End, Scan, is_empty},
    table::Table,
    timed,
};

/// A named, ordered set of rows. Cheap to clone; keeps the store open while it lives.
#[derive(Clone)]
pub struct Keyspace {
    pub(crate) table: Arc<Table>,
}

impl Keyspace {
    pub(crate) fn new(table: Arc<Table>) -> Self {
        Self { table }
    }

    /// The value of a row written by [`Batch::insert`](crate::Batch::insert).
    pub fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        Ok(self.table.get(key)?)
    }

    /// The write time and value of a row written by [`Batch::upsert_at`](crate::Batch::upsert_at).
    pub fn get_at(&self, key: &[u8]) -> Result<Option<(u64, Bytes)>, Error> {
        match self.table.get(key)? {
            Some(stored) => timed::decode(&stored),
            None => Ok(None),
        }
    }

    /// The rows in a range of keys, from either end, read as they are asked for. A snapshot is held while
    /// the iterator lives, so it should be short.
    pub fn range<'k>(&self, range: impl RangeBounds<&'k [u8]>) -> Rows {
        let bounds = (range.start_bound().cloned(), range.end_bound().cloned());
        Rows { rows: (!is_empty(&bounds)).then(|| self.table.range(bounds)) }
    }

    /// The rows whose keys begin with `prefix`, from either end.
    pub fn prefix(&self, prefix: &[u8]) -> Rows {
        // The first key behind them all.
        let last = prefix.iter().rposition(|byte| *byte < u8::MAX);
        let end = last.map(|last| [&prefix[..last], &[prefix[last] + 1]].concat());
        let end = end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        Rows { rows: Some(self.table.range((Bound::Included(prefix), end))) }
    }

    /// At most `limit` rows with `start <= key < end`, from the last one backwards if `reverse`.
    pub fn scan(&self, start: &[u8], end: &[u8], reverse: bool, limit: usize) -> Result<Vec<(Bytes, Bytes)>, Error> {
        page(self.range(start..end), reverse).take(limit).collect()
    }

    /// At most `limit` rows whose keys begin with `prefix`, from the last one backwards if `reverse`.
    pub fn scan_prefix(&self, prefix: &[u8], reverse: bool, limit: usize) -> Result<Vec<(Bytes, Bytes)>, Error> {
        page(self.prefix(prefix), reverse).take(limit).collect()
    }

    /// As [`scan`](Self::scan), for rows written by [`Batch::upsert_at`](crate::Batch::upsert_at): key,
    /// write time and value of those not removed.
    pub fn scan_at(&self, start: &[u8], end: &[u8], reverse: bool, limit: usize) -> Result<Vec<(Bytes, u64, Bytes)>, Error> {
        page(self.range(start..end), reverse)
            .filter_map(|row| row.and_then(|(key, stored)| Ok(timed::decode(&stored)?.map(|(time, value)| (key, time, value)))).transpose())
            .take(limit)
            .collect()
    }

    /// The first row with `start <= key < end`.
    pub fn first(&self, start: &[u8], end: &[u8]) -> Result<Option<(Bytes, Bytes)>, Error> {
        self.range(start..end).next().transpose()
    }

    /// The last row with `start <= key < end`.
    pub fn last(&self, start: &[u8], end: &[u8]) -> Result<Option<(Bytes, Bytes)>, Error> {
        self.range(start..end).next_back().transpose()
    }
}

impl fmt::Debug for Keyspace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Keyspace").field(&self.table.name).finish()
    }
}

/// Rows in the order of their keys, or backwards from the other end.
pub struct Rows {
    rows: Option<Scan>,
}

impl Rows {
    fn take(&mut self, end: End) -> Option<Result<(Bytes, Bytes), Error>> {
        self.rows.as_mut()?.take(end).map_err(Error::from).transpose()
    }
}

impl Iterator for Rows {
    type Item = Result<(Bytes, Bytes), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.take(End::First)
    }
}

impl DoubleEndedIterator for Rows {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.take(End::Last)
    }
}

fn page(mut rows: Rows, reverse: bool) -> impl Iterator<Item = Result<(Bytes, Bytes), Error>> {
    std::iter::from_fn(move || if reverse { rows.next_back() } else { rows.next() })
}
