//! The journal: groups of writes in the order in which they are applied, in files one behind the other.
//!
//! A power loss can leave any pages of what was not yet synced, so the end may be torn, and damage in the middle must not be taken for the
//! end. Both are told apart: every group carries its sequence and the last one that was synced before it, so whatever comes whole after the
//! first broken group says whether that one had been synced. A broken group that was not is cut off with all that follows it: nobody was
//! told of it. One that was is damage, and the store is not opened.
//!
//! All integers are little-endian. A file is allocated ahead with zeroes, and begins with
//!
//! | what | bytes |
//! | --- | --- |
//! | mark | 8 |
//! | a secret of the store, so that bytes like a group inside somebody's message are none | 8 |
//! | the last sequence before this file; all up to it is synced | 8 |
//! | XXH3-64 of what is before | 8 |
//!
//! and a group is
//!
//! | what | bytes |
//! | --- | --- |
//! | XXH3-64 of what follows | 8 |
//! | bytes of its writes | 8 |
//! | the secret | 8 |
//! | its sequence, larger than that of the group before | 8 |
//! | the last sequence that was synced when it was written | 8 |
//! | its writes | |
//!
//! A write is a tag, a table's number (4) and then: for a row put, the length of its key (2) and of its value (4), key and value; for one removed,
//! the length of its key (2) and the key; for a table that this file has not named yet, the length of its name (2) and the name.

use bytes::{Buf as _, BufMut as _};
use xxhash_rust::xxh3::xxh3_64;

const MARK: &[u8; 8] = b"plaza\0j1";
const NAME: u8 = 1;
const PUT: u8 = 2;
const REMOVE: u8 = 3;

/// Bytes at the beginning of a file.
pub(crate) const FILE_HEADER: usize = 32;
const GROUP_HEADER: usize = 40;
const ZEROES: [u8; 4096] = [0; 4096];
/// Where the secret is in a group.
const SECRET_AT: usize = 16;

/// What a file says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileHeader {
    pub(crate) secret: u64,
    /// The last sequence before the file.
    pub(crate) before: u64,
}

impl FileHeader {
    pub(crate) fn encode(self) -> Vec<u8> {
        let mut bytes = MARK.to_vec();
        bytes.put_u64_le(self.secret);
        bytes.put_u64_le(self.before);
        bytes.put_u64_le(xxh3_64(&bytes));
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (said, mut checksum) = bytes.get(..FILE_HEADER)?.split_at(FILE_HEADER - 8);
        let mut fields = said.strip_prefix(MARK)?;
        (checksum.get_u64_le() == xxh3_64(said)).then(|| Self { secret: fields.get_u64_le(), before: fields.get_u64_le() })
    }
}

/// A group while it is put together.
#[derive(Debug)]
pub(crate) struct Group(Vec<u8>);

impl Group {
    pub(crate) fn new() -> Self {
        Self(vec![0; GROUP_HEADER])
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.len() == GROUP_HEADER
    }

    /// Says which table a number stands for.
    pub(crate) fn name(&mut self, table: u32, name: &str) {
        self.0.put_u8(NAME);
        self.0.put_u32_le(table);
        // `Tables::table` takes no longer name.
        self.0.put_u16_le(name.len() as u16);
        self.0.put_slice(name.as_bytes());
    }

    pub(crate) fn put(&mut self, table: u32, key: &[u8], value: &[u8]) {
        self.0.put_u8(PUT);
        self.0.put_u32_le(table);
        // `Batch` takes no longer key or entry.
        self.0.put_u16_le(key.len() as u16);
        self.0.put_u32_le(value.len() as u32);
        self.0.put_slice(key);
        self.0.put_slice(value);
    }

    pub(crate) fn remove(&mut self, table: u32, key: &[u8]) {
        self.0.put_u8(REMOVE);
        self.0.put_u32_le(table);
        self.0.put_u16_le(key.len() as u16);
        self.0.put_slice(key);
    }

    /// The group as it is stored.
    pub(crate) fn seal(&mut self, secret: u64, sequence: u64, synced: u64) -> &[u8] {
        let length = (self.0.len() - GROUP_HEADER) as u64;
        let fields = [length, secret, sequence, synced];
        self.0[8..GROUP_HEADER].chunks_exact_mut(8).zip(fields).for_each(|(place, field)| place.copy_from_slice(&field.to_le_bytes()));
        let checksum = xxh3_64(&self.0[8..]);
        self.0[..8].copy_from_slice(&checksum.to_le_bytes());
        &self.0
    }

    /// Empties it; a large group must not hold its memory for ever.
    pub(crate) fn clear(&mut self, keep_bytes: usize) {
        self.0.truncate(GROUP_HEADER);
        self.0.shrink_to(keep_bytes);
    }
}

/// One write of a stored group.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Write<'g> {
    Name { table: u32, name: &'g str },
    Put { table: u32, key: &'g [u8], value: &'g [u8] },
    Remove { table: u32, key: &'g [u8] },
}

/// A stored group that is whole.
#[derive(Debug)]
pub(crate) struct Stored<'g> {
    pub(crate) sequence: u64,
    synced: u64,
    writes: &'g [u8],
}

impl<'g> Stored<'g> {
    /// The group at the beginning of the bytes, if it is one of this store and whole.
    fn first(bytes: &'g [u8], secret: u64) -> Option<Self> {
        let mut header = bytes.get(..GROUP_HEADER)?;
        let checksum = header.get_u64_le();
        let length = usize::try_from(header.get_u64_le()).ok()?;
        let is_ours = header.get_u64_le() == secret;
        let (sequence, synced) = (header.get_u64_le(), header.get_u64_le());
        let end = GROUP_HEADER.checked_add(length).filter(|end| is_ours && *end <= bytes.len())?;
        let writes = &bytes[GROUP_HEADER..end];
        (xxh3_64(&bytes[8..end]) == checksum).then_some(Self { sequence, synced, writes })
    }

    fn length(&self) -> usize {
        GROUP_HEADER + self.writes.len()
    }

    /// Its writes in order; `None` where one cannot be read, which no writer wrote.
    pub(crate) fn writes(&self) -> impl Iterator<Item = Option<Write<'g>>> {
        let mut rest = self.writes;
        std::iter::from_fn(move || {
            (!rest.is_empty()).then(|| {
                let write = Write::read(&mut rest);
                if write.is_none() {
                    rest = &[];
                }
                write
            })
        })
    }
}

impl<'g> Write<'g> {
    fn read(rest: &mut &'g [u8]) -> Option<Self> {
        let tag = rest.try_get_u8().ok()?;
        let table = rest.try_get_u32_le().ok()?;
        let length = usize::from(rest.try_get_u16_le().ok()?);
        let value_length = if tag == PUT { rest.try_get_u32_le().ok()? as usize } else { 0 };
        let (key, behind) = rest.split_at_checked(length)?;
        let (value, behind) = behind.split_at_checked(value_length)?;
        *rest = behind;
        match tag {
            NAME => Some(Self::Name { table, name: std::str::from_utf8(key).ok()? }),
            PUT => Some(Self::Put { table, key, value }),
            REMOVE => Some(Self::Remove { table, key }),
            _ => None,
        }
    }
}

/// What a file holds.
#[derive(Debug)]
pub(crate) struct Contents<'g> {
    pub(crate) groups: Vec<Stored<'g>>,
    /// Where the whole groups end.
    pub(crate) end: usize,
    pub(crate) rest: Rest,
}

/// What is behind the whole groups.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Rest {
    /// Nothing was written there.
    Empty,
    /// What was never synced, of this many bytes.
    Torn(usize),
    /// What was synced.
    Damaged,
}

/// Reads a file. `None` if it has no whole header.
pub(crate) fn read(bytes: &[u8]) -> Option<(FileHeader, Contents<'_>)> {
    let header = FileHeader::decode(bytes)?;
    let (mut groups, mut end, mut last) = (Vec::new(), FILE_HEADER, header.before);
    while let Some(group) = Stored::first(&bytes[end..], header.secret).filter(|group| group.sequence > last) {
        end += group.length();
        last = group.sequence;
        groups.push(group);
    }
    let rest = match written(&bytes[end..]) {
        [] => Rest::Empty,
        rest if was_synced(rest, header.secret, last) => Rest::Damaged,
        rest => Rest::Torn(rest.len()),
    };
    Some((header, Contents { groups, end, rest }))
}

/// Without the zeroes at the end.
fn written(mut bytes: &[u8]) -> &[u8] {
    while let Some((before, end)) = bytes.split_last_chunk::<{ ZEROES.len() }>() {
        if *end != ZEROES {
            break;
        }
        bytes = before;
    }
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    &bytes[..end]
}

/// Whether something behind `last` was synced, by what whole groups say that come somewhere behind it.
fn was_synced(rest: &[u8], secret: u64, last: u64) -> bool {
    let secret_bytes = secret.to_le_bytes();
    let mut at = 0;
    while let Some(found) = rest.get(at + SECRET_AT..).and_then(|rest| rest.windows(8).position(|window| *window == secret_bytes)) {
        at += found;
        match Stored::first(&rest[at..], secret) {
            Some(group) if group.synced > last => return true,
            Some(group) => at += group.length(),
            None => at += 1,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: u64 = 0x0123_4567_89ab_cdef;

    fn group(sequence: u64, synced: u64, value: &[u8]) -> Vec<u8> {
        let mut group = Group::new();
        group.put(7, b"key", value);
        group.seal(SECRET, sequence, synced).to_vec()
    }

    fn file(groups: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = FileHeader { secret: SECRET, before: 4 }.encode();
        bytes.extend(groups.concat());
        bytes
    }

    #[test]
    fn what_is_written_is_read() {
        let mut group = Group::new();
        assert!(group.is_empty());
        group.name(3, "chat.marks");
        group.put(3, b"one", b"");
        group.put(3, b"two", b"value");
        group.remove(3, b"three");
        let bytes = file(&[group.seal(SECRET, 9, 4).to_vec()]);
        let (header, contents) = read(&bytes).expect("a header");
        assert_eq!(header, FileHeader { secret: SECRET, before: 4 });
        assert_eq!((contents.end, contents.rest), (bytes.len(), Rest::Empty));
        let writes: Vec<_> = contents.groups[0].writes().collect();
        assert_eq!(
            writes,
            [
                Some(Write::Name { table: 3, name: "chat.marks" }),
                Some(Write::Put { table: 3, key: b"one", value: b"" }),
                Some(Write::Put { table: 3, key: b"two", value: b"value" }),
                Some(Write::Remove { table: 3, key: b"three" }),
            ]
        );
        group.clear(100);
        assert!(group.is_empty());
    }

    #[test]
    fn a_broken_group_is_torn_unless_a_later_one_says_that_it_was_synced() {
        for (synced, expected) in [(5, Rest::Torn(0)), (6, Rest::Damaged), (7, Rest::Damaged)] {
            let mut groups = [group(5, 4, b"one"), group(6, 5, b"two"), group(7, 5, b"three"), group(8, synced, b"four")];
            groups[1][GROUP_HEADER + 9] ^= 1;
            let bytes = file(&groups);
            let (_, contents) = read(&bytes).expect("a header");
            assert_eq!(contents.groups.len(), 1);
            match expected {
                Rest::Torn(_) => assert_eq!(contents.rest, Rest::Torn(bytes.len() - contents.end)),
                other => assert_eq!(contents.rest, other, "synced up to {synced}"),
            }
        }
    }

    #[test]
    fn what_is_older_than_the_group_before_is_not_taken() {
        let bytes = file(&[group(6, 4, b"one"), group(5, 4, b"two")]);
        let (_, contents) = read(&bytes).expect("a header");
        assert_eq!(contents.groups.len(), 1);
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let whole = file(&[group(5, 4, b"one"), group(6, 5, b"two")]);
        for end in 0..whole.len() {
            assert_eq!(read(&whole[..end]).is_some(), end >= FILE_HEADER);
            let mut long = whole.clone();
            // A length that no memory has.
            long[FILE_HEADER + 8..FILE_HEADER + 16].fill(0xff);
            long.truncate(end);
            read(&long);
        }
        for writes in [&[PUT][..], &[PUT, 0, 0, 0, 0, 1, 0], &[9, 0, 0, 0, 0, 0, 0], &[NAME, 0, 0, 0, 0, 1, 0, 0xff]] {
            let stored = Stored { sequence: 1, synced: 0, writes };
            assert_eq!(stored.writes().collect::<Vec<_>>(), [None]);
        }
    }
}
