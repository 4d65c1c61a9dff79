//! The stored form of a row where the last write wins.
//!
//! Eight bytes of big-endian time, one byte that tells a removal from a value, the value. The larger of
//! two stored forms wins when compared as plain bytes: the later time; at the same time a removal over a
//! value, and the larger of two values, as Cassandra and ScyllaDB decide it.

use bytes::{BufMut, Bytes, BytesMut};

use crate::Error;

const VALUE: u8 = 0;
const REMOVED: u8 = 1;
const HEADER: usize = 9;

pub(crate) fn value(time_micros: u64, value: &[u8]) -> Bytes {
    let mut stored = BytesMut::with_capacity(HEADER + value.len());
    stored.put_u64(time_micros);
    stored.put_u8(VALUE);
    stored.put_slice(value);
    stored.freeze()
}

pub(crate) fn removed(time_micros: u64) -> Bytes {
    let mut stored = BytesMut::with_capacity(HEADER);
    stored.put_u64(time_micros);
    stored.put_u8(REMOVED);
    stored.freeze()
}

/// The time and value, or `None` for a removed row.
pub(crate) fn decode(stored: &[u8]) -> Result<Option<(u64, Bytes)>, Error> {
    let (time, rest) = stored.split_first_chunk().ok_or(Error::Untimed)?;
    match rest.split_first() {
        Some((&VALUE, value)) => Ok(Some((u64::from_be_bytes(*time), Bytes::copy_from_slice(value)))),
        Some((&REMOVED, [])) => Ok(None),
        _ => Err(Error::Untimed),
    }
}
