//! A sequence: numbered entries that are only ever appended, such as one partition of a log.
//!
//! Entries that the writer applies together are stored together as a run, one row under the number of its first entry, so an entry costs its
//! bytes and not a row. The keys of a sequence only grow: its files never overlap, and the engine moves them where it would merge others.
//!
//! A run is its entries in order, each after its length (4 bytes, big-endian). Entries of one run have consecutive numbers.

use std::{ops::RangeInclusive, sync::Arc};

use bytes::{Buf as _, BufMut as _, Bytes};

use crate::{Error, Keyspace, Rows, table::Table};

/// A run takes no further entry once it has this many bytes.
const RUN_BYTES: usize = 64 << 10;
const LENGTH_BYTES: usize = 4;

/// Numbered entries that are only ever appended. Cheap to clone; keeps the store open while it lives.
#[derive(Clone, Debug)]
pub struct Sequence {
    pub(crate) runs: Keyspace,
}

impl Sequence {
    pub(crate) fn new(runs: Keyspace) -> Self {
        Self { runs }
    }

    /// The entry of the largest number.
    pub fn last(&self) -> Result<Option<(u64, Bytes)>, Error> {
        let Some((first, run)) = self.runs.range(..).next_back().transpose()? else { return Ok(None) };
        Run::of(&first, run)?.collect::<Result<Vec<_>, _>>().map(|mut entries| entries.pop())
    }

    /// The entries of these numbers, in order, read as they are asked for. An entry shares its memory with those it was stored with.
    pub fn range(&self, numbers: RangeInclusive<u64>) -> Result<Entries, Error> {
        let (start, end) = (numbers.start().to_be_bytes(), numbers.end().to_be_bytes());
        // The run that the first one is in may begin before it.
        let before = self.runs.range(..=&start[..]).next_back().transpose()?.map(|(first, _)| first);
        let runs = self.runs.range(before.as_deref().unwrap_or(&start)..=&end[..]);
        Ok(Entries { runs, run: Run::default(), numbers })
    }
}

/// Entries of a sequence in the order of their numbers.
pub struct Entries {
    runs: Rows,
    run: Run,
    numbers: RangeInclusive<u64>,
}

impl Iterator for Entries {
    type Item = Result<(u64, Bytes), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.run.next() {
                Some(Ok((number, _))) if number < *self.numbers.start() => {}
                Some(Ok((number, _))) if number > *self.numbers.end() => return None,
                Some(entry) => return Some(entry),
                None => match self.runs.next()?.and_then(|(first, run)| Run::of(&first, run)) {
                    Ok(run) => self.run = run,
                    Err(error) => return Some(Err(error)),
                },
            }
        }
    }
}

/// What is left of a stored run.
#[derive(Default)]
struct Run {
    next: u64,
    rest: Bytes,
}

impl Run {
    fn of(first: &[u8], rest: Bytes) -> Result<Self, Error> {
        let next = first.try_into().map(u64::from_be_bytes).map_err(|_| Error::NoRun)?;
        Ok(Self { next, rest })
    }
}

impl Iterator for Run {
    type Item = Result<(u64, Bytes), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let length = self.rest.try_get_u32().ok().filter(|length| *length as usize <= self.rest.len());
        let Some(length) = length else {
            self.rest.clear();
            return Some(Err(Error::NoRun));
        };
        let entry = (self.next, self.rest.split_to(length as usize));
        self.next += 1;
        Some(Ok(entry))
    }
}

/// A run that grows.
pub(crate) struct Growing {
    pub(crate) table: Arc<Table>,
    first: u64,
    next: u64,
    bytes: Vec<u8>,
}

impl Growing {
    pub(crate) fn new(table: Arc<Table>) -> Self {
        Self { table, first: 0, next: 0, bytes: Vec::new() }
    }

    /// Whether an entry of this number can be added to it.
    pub(crate) fn takes(&self, number: u64) -> bool {
        self.bytes.is_empty() || (self.next == number && self.bytes.len() < RUN_BYTES)
    }

    pub(crate) fn add(&mut self, number: u64, entry: &[u8]) {
        if self.bytes.is_empty() {
            self.first = number;
        }
        self.next = number.wrapping_add(1);
        self.bytes.reserve(LENGTH_BYTES + entry.len());
        // `Batch::append` takes no longer entry.
        self.bytes.put_u32(entry.len() as u32);
        self.bytes.put_slice(entry);
    }

    /// The run and the number of its first entry, unless it is empty. It is empty then.
    pub(crate) fn take(&mut self) -> Option<(u64, Vec<u8>)> {
        (!self.bytes.is_empty()).then(|| (self.first, std::mem::take(&mut self.bytes)))
    }

    /// The memory of a run that was taken, for the next one.
    pub(crate) fn give_back(&mut self, mut run: Vec<u8>) {
        run.clear();
        // One large entry must not hold its memory for ever.
        run.shrink_to(2 * RUN_BYTES);
        self.bytes = run;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_bytes_make_it_panic() {
        for bytes in [&[0][..], &[0, 0, 0, 1], &[0, 0, 0, 0, 0], &[255; 40]] {
            let entries: Vec<_> = Run::of(&[0; 8], Bytes::from_static(bytes)).expect("a number").collect();
            assert!(matches!(entries.last(), Some(Err(Error::NoRun))), "{bytes:?}");
        }
        assert!(matches!(Run::of(&[0; 7], Bytes::new()), Err(Error::NoRun)));
    }
}
