//! Opening the folder: one process at a time; what the journal has beyond the tables goes into them.

use std::{
    fs::{self, File, TryLockError},
    hash::{BuildHasher as _, Hasher as _, RandomState},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;

use crate::{
    OpenError,
    journal::{self, Contents, FILE_HEADER, Rest, Write},
    memtable::Memtable,
    needless::Needless,
    segments::{self, Complete, Segment, Segments},
    table::Tables,
};

const LOCK: &str = "lock";
const TABLES: &str = "tables";
const JOURNAL: &str = "journal";
const NEEDLESS: &str = "needless";
/// Where an earlier format was.
const OUTDATED: &str = "store";

/// Limits of the store.
#[derive(Clone, Debug)]
pub struct Options {
    /// Complete journals kept before cold keyspaces are flushed to let go of them, in bytes.
    /// Opening replays what is in them, about 90 MiB/s.
    pub journal_limit_bytes: u64,
    /// Memory for blocks read from disk, in bytes.
    pub cache_bytes: u64,
    /// The longest an fsync that is due waits idly for writes announced by [`Db::busy`](crate::Db::busy),
    /// so that both share it.
    pub linger_max: Duration,
    /// Bytes of enqueued writes above which [`Db::ready`](crate::Db::ready) waits.
    pub queue_limit_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { journal_limit_bytes: 128 << 20, cache_bytes: 64 << 20, linger_max: Duration::from_micros(100), queue_limit_bytes: 16 << 20 }
    }
}

/// A store that was recovered.
pub(crate) struct Opened {
    pub(crate) tables: Arc<Tables>,
    pub(crate) segments: Segments,
    /// The last sequence.
    pub(crate) last: u64,
}

pub(crate) fn open(path: &Path, options: &Options) -> Result<Opened, OpenError> {
    let folder = |source| OpenError::Folder { path: path.to_owned(), source };
    if path.join(OUTDATED).try_exists().map_err(folder)? {
        return Err(OpenError::Outdated { path: path.to_owned() });
    }
    let journal = path.join(JOURNAL);
    fs::create_dir_all(&journal).map_err(folder)?;
    let lock = lock(path)?;
    let store = |error| OpenError::Store { path: path.to_owned(), source: Box::new(error) };
    let needless = Needless::open(path.join(NEEDLESS)).map_err(folder)?;
    let (tables, flushed) = Tables::open(path.join(TABLES), options.cache_bytes, lock, needless).map_err(store)?;
    File::open(path).and_then(|folder| folder.sync_all()).map_err(folder)?;
    let mut recovery = Recovery { tables: &tables, secret: None, last: 0, complete: Complete::default() };
    let files = segments::list(&journal).map_err(folder)?;
    for (place, (_, file)) in files.iter().enumerate() {
        recovery.file(file, place + 1 == files.len())?;
    }
    let Recovery { secret, last, complete, .. } = recovery;
    let last = last.max(flushed);
    // The standard library seeds its hashers from the system's randomness.
    let secret = secret.unwrap_or_else(|| RandomState::new().build_hasher().finish());
    let number = files.last().map_or(0, |(number, _)| number + 1);
    let segments = Segments::begin(&journal, secret, number, last, complete).map_err(folder)?;
    tables.horizon.publish(last);
    Ok(Opened { tables: Arc::new(tables), segments, last })
}

fn lock(path: &Path) -> Result<File, OpenError> {
    let folder = |source| OpenError::Folder { path: path.to_owned(), source };
    let file = File::options().create(true).truncate(false).write(true).open(path.join(LOCK)).map_err(folder)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse { path: path.to_owned() }),
        Err(TryLockError::Error(source)) => Err(folder(source)),
    }
}

/// Reads the journal's files, the oldest first.
struct Recovery<'t> {
    tables: &'t Tables,
    secret: Option<u64>,
    last: u64,
    complete: Complete,
}

impl Recovery<'_> {
    /// Everything in a file but the newest was synced before the next one was begun.
    fn file(&mut self, path: &Path, newest: bool) -> Result<(), OpenError> {
        let unreadable = |source| OpenError::Folder { path: path.to_owned(), source };
        let damaged = |at: usize| OpenError::Damaged { path: path.to_owned(), at: at as u64 };
        let bytes = fs::read(path).map_err(unreadable)?;
        let (header, Contents { groups, end, rest }) = journal::read(&bytes).ok_or_else(|| damaged(0))?;
        if self.secret.is_some_and(|secret| secret != header.secret) || header.before < self.last {
            return Err(damaged(0));
        }
        match rest {
            Rest::Empty => {}
            Rest::Torn(torn) if newest => {
                tracing::info!(path = %path.display(), at = end, bytes = torn, "the end of the journal was torn by a crash and is cut off: nobody was told of it");
            }
            Rest::Torn(_) | Rest::Damaged => return Err(damaged(end)),
        }
        if newest {
            // What a process that was killed had not synced counts from now on.
            let cut = || {
                let file = File::options().write(true).open(path)?;
                file.set_len(end as u64)?;
                file.sync_all()
            };
            cut().map_err(unreadable)?;
        }
        self.secret = Some(header.secret);
        self.last = header.before;
        let mut named = Named::default();
        for group in groups {
            for write in group.writes() {
                let written = write.and_then(|write| named.apply(self.tables, &write, group.sequence));
                written.ok_or_else(|| damaged(FILE_HEADER))?;
            }
            self.last = group.sequence;
        }
        self.complete.push(Segment { path: PathBuf::from(path), bytes: end as u64, last: self.last });
        Ok(())
    }
}

/// The tables that a file has named, by the numbers it uses, each with what its files have.
#[derive(Default)]
struct Named(Vec<Option<Replayed>>);

#[derive(Clone)]
struct Replayed {
    memtable: Arc<Memtable>,
    flushed: u64,
}

impl Named {
    /// `None` where the write is about a table that is not there.
    fn apply(&mut self, tables: &Tables, write: &Write<'_>, sequence: u64) -> Option<()> {
        let (table, key, value) = match *write {
            Write::Name { table, name } => {
                let place = table as usize;
                if self.0.len() <= place {
                    self.0.resize(place + 1, None);
                }
                let table = tables.find(name)?;
                let (memtable, flushed) = (table.memtable(), table.flushed().unwrap_or_default());
                self.0[place] = Some(Replayed { memtable, flushed });
                return Some(());
            }
            Write::Put { table, key, value } => (table, key, Some(Bytes::copy_from_slice(value))),
            Write::Remove { table, key } => (table, key, None),
        };
        let Replayed { memtable, flushed } = self.0.get(table as usize)?.as_ref()?;
        if sequence > *flushed {
            // Nobody reads yet.
            memtable.put(Bytes::copy_from_slice(key), value, sequence, sequence);
        }
        Some(())
    }
}
