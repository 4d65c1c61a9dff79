//! Which partition a key belongs to. The same on every machine and in every version: a change moves keys and needs a new topic generation.

/// The partition of a key among `partitions` (at least 1): XXH3-64 with seed 0, modulo the count.
#[must_use]
pub fn of(key: &[u8], partitions: u32) -> u32 {
    let slot = xxhash_rust::xxh3::xxh3_64(key) % u64::from(partitions.max(1));
    u32::try_from(slot).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #[test]
    fn never_changes() {
        assert_eq!(super::of(b"", 1), 0);
        assert_eq!([b"a", b"b", b"c", b"d"].map(|key| super::of(key, 48)), [31, 47, 27, 10]);
    }
}
