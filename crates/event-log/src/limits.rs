//! What every log takes, and which headers it keeps.

use crate::{Error, Record};

/// Header names that are kept. The embedded log stores the place in this list: only ever add to its end.
pub const HEADER_NAMES: [&str; 1] = ["traceparent"];

/// The longest key.
pub const MAX_KEY_BYTES: usize = 64;
/// The longest value.
pub const MAX_VALUE_BYTES: usize = 1 << 20;
/// Of all kept headers together, each counted with [`PER_HEADER`].
pub const MAX_HEADER_BYTES: usize = 4 << 10;
/// What a header takes beyond its value.
pub const PER_HEADER: usize = 3;

/// The name of a header as this process knows it; none for one that is not kept.
pub fn header_name(name: &str) -> Option<&'static str> {
    HEADER_NAMES.into_iter().find(|known| *known == name)
}

/// The bytes of the headers that are kept of a record.
///
/// # Errors
/// `TooLarge`.
pub fn check(record: &Record) -> Result<usize, Error> {
    within(record.key.len(), MAX_KEY_BYTES)?;
    within(record.value.len(), MAX_VALUE_BYTES)?;
    let kept = record.headers.iter().filter(|(name, _)| header_name(name).is_some());
    let header_bytes = kept.map(|(_, value)| PER_HEADER + value.len()).sum();
    within(header_bytes, MAX_HEADER_BYTES)?;
    Ok(header_bytes)
}

fn within(size: usize, limit: usize) -> Result<(), Error> {
    if size > limit { Err(Error::TooLarge { size, limit }) } else { Ok(()) }
}
