//! The stored form of a record.
//!
//! A partition is a sequence of the store, and the offset is the entry's number. The entry is:
//!
//! | bytes | what |
//! | --- | --- |
//! | 1 | the form: 1 |
//! | 8 | append time in microseconds, big-endian |
//! | 1 | length of the record's key |
//! | 1 | number of headers |
//! | per header: 1, 2, n | the name's number in [`HEADER_NAMES`], length (big-endian), value |
//! | as said | the record's key |
//! | the rest | the record's value |
//!
//! A name's number costs one byte where the name would cost a dozen, and gives the static name back. Names without a number are not kept.

use std::ops::Range;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::{
    Error, Offset, Record, Stored,
    limits::{self, HEADER_NAMES, PER_HEADER},
};

const FORM: u8 = 1;
const TIME: Range<usize> = 1..9;
const KEY_LENGTH: usize = 9;
const HEADER_COUNT: usize = 10;
const FIXED: usize = 11;

/// A record in its stored form, except for the append time, which is only known once it has its place.
pub(super) struct Unplaced {
    row: Vec<u8>,
    layout: Layout,
}

impl Unplaced {
    pub(super) fn new(record: &Record) -> Result<Self, Error> {
        let Record { key, value, headers } = record;
        let header_bytes = limits::check(record)?;
        let kept: SmallVec<[_; 2]> = headers.iter().filter_map(|(name, value)| Some((number(name)?, value))).collect();
        let mut row = Vec::with_capacity(FIXED + header_bytes + key.len() + value.len());
        row.push(FORM);
        row.extend_from_slice(&[0; TIME.end - TIME.start]);
        // The limits above make these lengths fit.
        row.push(key.len() as u8);
        row.push(kept.len() as u8);
        let mut layout = Layout::default();
        for (number, value) in kept {
            row.push(number);
            row.extend_from_slice(&(value.len() as u16).to_be_bytes());
            layout.headers.push((HEADER_NAMES[usize::from(number)], row.len()..row.len() + value.len()));
            row.extend_from_slice(value);
        }
        layout.key = row.len()..row.len() + key.len();
        row.extend_from_slice(key);
        row.extend_from_slice(value);
        Ok(Self { row, layout })
    }

    /// The record at its place, and the row to store, of which the record is a view.
    pub(super) fn place(mut self, offset: Offset, appended: u64) -> (Stored, Bytes) {
        self.row[TIME].copy_from_slice(&appended.to_be_bytes());
        let row = Bytes::from(self.row);
        (Stored { offset, appended, record: self.layout.view(&row) }, row)
    }
}

/// The record in a row, as a view of it; `None` if the row was not written by this version or an older one.
pub(super) fn decode(offset: Offset, row: &Bytes) -> Option<Stored> {
    let appended = u64::from_be_bytes(row.get(TIME)?.try_into().ok()?);
    let layout = Layout::of(row)?;
    Some(Stored { offset, appended, record: layout.view(row) })
}

/// Where the parts of a record are in its row.
#[derive(Default)]
struct Layout {
    headers: SmallVec<[(&'static str, Range<usize>); 1]>,
    key: Range<usize>,
}

impl Layout {
    fn of(row: &[u8]) -> Option<Self> {
        let key_length = usize::from(*row.get(KEY_LENGTH)?);
        let mut headers = SmallVec::new();
        let mut at = FIXED;
        if row[0] != FORM {
            return None;
        }
        for _ in 0..row[HEADER_COUNT..].first().copied()? {
            let (&[number, high, low], _) = row.get(at..)?.split_first_chunk::<PER_HEADER>()?;
            let start = at + PER_HEADER;
            at = start + usize::from(u16::from_be_bytes([high, low]));
            if let Some(name) = HEADER_NAMES.get(usize::from(number)) {
                headers.push((*name, start..at));
            }
        }
        let key = at..at + key_length;
        (key.end <= row.len()).then_some(Self { headers, key })
    }

    fn view(self, row: &Bytes) -> Record {
        Record {
            value: row.slice(self.key.end..),
            key: row.slice(self.key),
            headers: self.headers.into_iter().map(|(name, place)| (name, row.slice(place))).collect(),
        }
    }
}

fn number(name: &str) -> Option<u8> {
    let place = HEADER_NAMES.iter().position(|known| *known == name)?;
    u8::try_from(place).ok()
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::limits::{MAX_HEADER_BYTES, MAX_KEY_BYTES};

    fn bytes(max: usize) -> impl Strategy<Value = Bytes> {
        vec(any::<u8>(), 0..=max).prop_map(Bytes::from)
    }

    proptest! {
        #[test]
        fn a_row_gives_back_what_was_placed(
            key in bytes(MAX_KEY_BYTES), value in bytes(2000), trace in vec(bytes(60), 0..3), offset: u64, appended: u64,
        ) {
            let headers: Vec<_> = trace.into_iter().map(|value| ("traceparent", value)).collect();
            let mut record = Record { key, value, headers };
            let sent = record.clone();
            record.headers.insert(0, ("unknown", Bytes::from_static(b"left out")));
            let (stored, row) = Unplaced::new(&record).unwrap().place(offset, appended);
            prop_assert_eq!(&stored, &Stored { offset, appended, record: sent });
            prop_assert_eq!(decode(offset, &row), Some(stored));
        }

        #[test]
        fn no_bytes_make_it_panic(row in bytes(40)) {
            let mut row = row.to_vec();
            decode(3, &Bytes::from(row.clone()));
            if let Some(form) = row.first_mut() {
                *form = FORM;
            }
            decode(3, &Bytes::from(row));
        }
    }

    #[test]
    fn limits_are_inclusive() {
        let record = |key: usize, value: usize, header: usize| Record {
            key: vec![1; key].into(),
            value: vec![2; value].into(),
            headers: vec![("traceparent", vec![3; header].into()), ("unknown", vec![4; 1 << 20].into())],
        };
        let header = MAX_HEADER_BYTES - PER_HEADER;
        assert!(Unplaced::new(&record(64, 1 << 20, header)).is_ok());
        assert!(matches!(Unplaced::new(&record(65, 0, 0)), Err(Error::TooLarge { size: 65, limit: 64 })));
        assert!(matches!(Unplaced::new(&record(0, (1 << 20) + 1, 0)), Err(Error::TooLarge { limit: 0x10_0000, .. })));
        assert!(matches!(Unplaced::new(&record(0, 0, header + 1)), Err(Error::TooLarge { limit: MAX_HEADER_BYTES, .. })));
    }
}
