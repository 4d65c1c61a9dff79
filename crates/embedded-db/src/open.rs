//! Opening the folder: one process at a time, and a first start that was interrupted leaves nothing
//! behind that the next one trips over.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::Path,
    time::Duration,
};

use fjall::CompressionType;

use crate::{OpenError, journal};

/// The smallest limit the engine accepts: one journal file.
const MIN_JOURNAL_BYTES: u64 = 64 << 20;
const LOCK: &str = "lock";
const STORE: &str = "store";
const UNFINISHED: &str = "store.new";

/// Limits of the store.
#[derive(Clone, Debug)]
pub struct Options {
    /// Journals kept before cold keyspaces are flushed to let go of them, in bytes; at least 64 MiB.
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

// With two or more, an idle worker and one that waits for a compaction hand its message to and fro without end (fjall 3.1.13).
const WORKERS: usize = 1;

/// The engine and the lock that must be held for as long as the engine may write.
pub(crate) fn open(path: &Path, options: &Options) -> Result<(fjall::Database, File), OpenError> {
    let folder = |source| OpenError::Folder { path: path.to_owned(), source };
    fs::create_dir_all(path).map_err(folder)?;
    let lock = lock(path)?;
    let unfinished = path.join(UNFINISHED);
    if unfinished.try_exists().map_err(folder)? {
        fs::remove_dir_all(&unfinished).map_err(folder)?;
    }
    let store = path.join(STORE);
    if !store.try_exists().map_err(folder)? {
        // The engine refuses a folder in which it was interrupted while creating its first files.
        drop(database(path, &unfinished, options)?);
        fs::rename(&unfinished, &store).map_err(folder)?;
        sync_folder(path).map_err(folder)?;
    }
    journal::mend(&store).map_err(|source| OpenError::Journal { path: path.to_owned(), source })?;
    Ok((database(path, &store, options)?, lock))
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

fn database(path: &Path, store: &Path, options: &Options) -> Result<fjall::Database, OpenError> {
    fjall::Database::builder(store)
        .cache_size(options.cache_bytes)
        .worker_threads(WORKERS)
        .journal_compression(CompressionType::None)
        .max_journaling_size(options.journal_limit_bytes.max(MIN_JOURNAL_BYTES))
        .open()
        .map_err(|error| match error {
            fjall::Error::Locked => OpenError::InUse { path: path.to_owned() },
            error => OpenError::Store { path: path.to_owned(), source: Box::new(error) },
        })
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
