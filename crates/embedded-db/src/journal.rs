//! The journal after a crash, read before the engine reads it. A power loss can leave any pages of what was not yet synced, so the engine
//! may find a torn group and refuse to open, or take damage in the middle for the end and drop what was acknowledged. Both are told apart
//! here: every group carries its number and the number of the last group that was synced before it, so whatever comes whole after the first
//! broken group says whether that one had been synced. A broken group that was not is cut off with all that follows it: nobody was told of
//! it. One that was is damage, and the store is not opened.
//!
//! The format is the engine's (fjall 3.1, `journal/entry.rs`), all integers little-endian:
//!
//! | what | bytes |
//! | --- | --- |
//! | start | 1, items u32, sequence u64 |
//! | item | 2, type u8, compression u8, keyspace u64, key length u16, value length u32, stored length u32, key, stored value |
//! | clear | 4, keyspace u64 |
//! | end | 3, XXH3-64 of the items u64, `FJL` 3 |
//!
//! A file is allocated ahead with zeroes.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use bytes::Buf as _;
use xxhash_rust::xxh3::xxh3_64;

const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const CLEAR: u8 = 4;
const TRAILER: &[u8] = b"FJL\x03";
const ZEROES: [u8; 4096] = [0; 4096];

/// The keyspace of the marker; nobody else may use it.
pub(crate) const KEYSPACE: &str = "journal";
/// The key of the marker. No other key of the store is like it.
pub(crate) const MARKER: &[u8] = b"plaza: group and synced group";
const MARKER_BYTES: usize = 24;

/// What every group says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Marker {
    /// A secret of the store: bytes that look like a group inside somebody's message are none without it.
    pub(crate) store: u64,
    /// The number of the group, one more than that of the group before.
    pub(crate) group: u64,
    /// The last group that was synced when this one was written.
    pub(crate) synced: u64,
}

impl Marker {
    /// As it is stored.
    pub(crate) fn encode(self) -> [u8; MARKER_BYTES] {
        let mut bytes = [0; MARKER_BYTES];
        let fields = [self.store, self.group, self.synced];
        bytes.chunks_exact_mut(8).zip(fields).for_each(|(place, field)| place.copy_from_slice(&field.to_le_bytes()));
        bytes
    }

    /// What is stored.
    pub(crate) fn decode(mut bytes: &[u8]) -> Option<Self> {
        if bytes.len() != MARKER_BYTES {
            return None;
        }
        Some(Self { store: bytes.get_u64_le(), group: bytes.get_u64_le(), synced: bytes.get_u64_le() })
    }
}

/// Why the store must not be opened.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The journal cannot be read or cut.
    #[error("{} cannot be read", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A group that was synced is broken: the disk lost what was acknowledged.
    #[error("{} is damaged at byte {at}, in what was already synced: restore a backup", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where the first broken group begins.
        at: u64,
    },
}

/// Checks the journals of a store, oldest first, and cuts a torn end off the newest.
pub(crate) fn mend(store: &Path) -> Result<(), JournalError> {
    let journals = journals(store).map_err(|source| JournalError::File { path: store.to_owned(), source })?;
    let (mut last, mut sequence) = (None, None);
    for (place, path) in journals.iter().enumerate() {
        let file = |source| JournalError::File { path: path.clone(), source };
        let bytes = fs::read(path).map_err(file)?;
        let end = whole(&bytes, &mut last, &mut sequence);
        let rest = &bytes[end..];
        if rest.chunks(ZEROES.len()).all(|chunk| *chunk == ZEROES[..chunk.len()]) {
            continue;
        }
        // The engine syncs a journal before it begins the next.
        let sealed = place + 1 < journals.len();
        if sealed || was_synced(rest, last) {
            return Err(JournalError::Damaged { path: path.clone(), at: end as u64 });
        }
        cut(path, end as u64).map_err(file)?;
        tracing::info!(path = %path.display(), at = end, bytes = rest.len(), "the end of the journal was torn by a crash and is cut off: nobody was told of it");
    }
    Ok(())
}

fn cut(path: &Path, at: u64) -> io::Result<()> {
    let file = File::options().write(true).open(path)?;
    file.set_len(at)?;
    file.sync_all()
}

/// The journals' files, oldest first.
fn journals(store: &Path) -> io::Result<Vec<PathBuf>> {
    let mut numbered = Vec::new();
    for entry in fs::read_dir(store)? {
        let path = entry?.path();
        let number = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".jnl")?.parse::<u64>().ok());
        numbered.extend(number.map(|number| (number, path)));
    }
    numbered.sort_unstable();
    Ok(numbered.into_iter().map(|(_, path)| path).collect())
}

/// Where the groups end that are whole from the beginning on; `last` is the marker of the newest of them that has one. Their sequences, which
/// no checksum covers, only grow.
fn whole(bytes: &[u8], last: &mut Option<Marker>, sequence: &mut Option<u64>) -> usize {
    let mut end = 0;
    while let Some(group) = group(&bytes[end..]).filter(|group| sequence.is_none_or(|sequence| group.sequence > sequence)) {
        end += group.length;
        *last = group.marker.or(*last);
        *sequence = Some(group.sequence);
    }
    end
}

/// Whether the broken group at the beginning of `rest` was synced, by what groups behind it say. `last` is the marker before it.
fn was_synced(rest: &[u8], last: Option<Marker>) -> bool {
    let mut at = 1;
    while let Some(next) = rest.get(at..).and_then(|rest| rest.iter().position(|byte| *byte == START)) {
        at += next;
        let Some(group) = group(&rest[at..]) else {
            at += 1;
            continue;
        };
        if let Some(marker) = group.marker.filter(|marker| last.is_none_or(|last| last.store == marker.store)) {
            // Without a marker before it, only the group right before the first whole one is known to be among the broken.
            let broken = last.map_or(marker.group.saturating_sub(1), |last| last.group + 1);
            if marker.synced >= broken {
                return true;
            }
        }
        at += group.length;
    }
    false
}

/// A whole group.
struct Group {
    length: usize,
    sequence: u64,
    marker: Option<Marker>,
}

/// The group at the beginning of the bytes, if it is whole.
fn group(bytes: &[u8]) -> Option<Group> {
    let mut rest = bytes;
    if rest.try_get_u8().ok()? != START {
        return None;
    }
    let items = rest.try_get_u32_le().ok()?;
    let sequence = rest.try_get_u64_le().ok()?;
    let (body, mut marker) = (rest, None);
    for _ in 0..items {
        match rest.try_get_u8().ok()? {
            ITEM => marker = item(&mut rest)?.or(marker),
            CLEAR => drop(rest.try_get_u64_le().ok()?),
            _ => return None,
        }
    }
    let body = &body[..body.len() - rest.len()];
    let whole = rest.try_get_u8().ok()? == END && rest.try_get_u64_le().ok()? == xxh3_64(body) && rest.starts_with(TRAILER);
    whole.then(|| Group { length: bytes.len() - rest.len() + TRAILER.len(), sequence, marker })
}

/// Reads an item behind its tag; its marker, if it is one.
fn item(rest: &mut &[u8]) -> Option<Option<Marker>> {
    // Type, compression, keyspace.
    *rest = rest.get(1 + 1 + 8..)?;
    let key = usize::from(rest.try_get_u16_le().ok()?);
    rest.try_get_u32_le().ok()?;
    let value = rest.try_get_u32_le().ok()? as usize;
    let (key, behind) = rest.split_at_checked(key)?;
    let (value, behind) = behind.split_at_checked(value)?;
    *rest = behind;
    Some(if key == MARKER { Marker::decode(value) } else { None })
}
