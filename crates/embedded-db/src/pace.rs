//! Making files takes a share of a core and of the disk as long as there is no hurry, so that those who wait for an answer are not kept from it.

use std::{
    collections::HashMap,
    ffi::OsString,
    fs::{self, File},
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use lsm_tree::compaction::filter::{CompactionFilter, Context, Factory, ItemAccessor, Verdict};

/// Rows between two looks at the clock.
const ROWS: u32 = 64;
/// Work is done in pieces of about this length.
const PIECE: Duration = Duration::from_micros(500);
/// A pause is so many times as long as the piece before it.
const PAUSE: u32 = 3;
/// The longest piece that counts: one that waited for the disk was no work.
const LONGEST: Duration = Duration::from_millis(5);
/// Bytes of rows between two syncs.
const SYNC_BYTES: usize = 1 << 20;

/// The pace of one piece of work.
pub(crate) struct Pace {
    rows: u32,
    bytes: usize,
    begun: Instant,
    files: Files,
}

impl Pace {
    /// Of work that writes to files in a folder.
    pub(crate) fn new(folder: Arc<Path>) -> Self {
        Self { rows: 0, bytes: 0, begun: Instant::now(), files: Files::complete(folder) }
    }

    /// A row of so many bytes is done.
    ///
    /// # Errors
    /// What was written cannot be synced.
    #[expect(clippy::disallowed_methods, reason = "it runs on a thread of its own")]
    pub(crate) fn row(&mut self, bytes: usize, in_hurry: impl FnOnce() -> bool) -> io::Result<()> {
        self.bytes += bytes;
        if self.bytes >= SYNC_BYTES {
            self.bytes = 0;
            self.files.sync()?;
        }
        self.rows += 1;
        if !self.rows.is_multiple_of(ROWS) {
            return Ok(());
        }
        let worked = self.begun.elapsed();
        if worked < PIECE {
            return Ok(());
        }
        if !in_hurry() {
            thread::sleep(worked.min(LONGEST) * PAUSE);
        }
        self.begun = Instant::now();
        Ok(())
    }
}

/// The files of a folder, of which the engine syncs each when it is complete: tens of megabytes at once, behind which a sync of the journal
/// waits as long as the disk takes for them (7 ms for 16 MiB, 0.5 when they are synced by the megabyte, on a disk that takes 0.15 ms for a sync
/// of the journal alone).
struct Files {
    folder: Arc<Path>,
    lengths: HashMap<OsString, u64>,
}

impl Files {
    /// Takes those that are there for complete.
    fn complete(folder: Arc<Path>) -> Self {
        // One that cannot be looked at is synced once more than it must be.
        let lengths = fs::read_dir(&folder).into_iter().flatten().flatten();
        let lengths = lengths.filter_map(|entry| Some((entry.file_name(), entry.metadata().ok()?.len())));
        Self { lengths: lengths.collect(), folder }
    }

    /// Syncs what has grown.
    fn sync(&mut self) -> io::Result<()> {
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let Some(length) = unless_removed(entry.metadata())?.map(|metadata| metadata.len()) else { continue };
            if self.lengths.insert(entry.file_name(), length) != Some(length)
                && let Some(file) = unless_removed(File::open(entry.path()))?
            {
                file.sync_data()?;
            }
        }
        Ok(())
    }
}

/// A file that is not needed any more may be removed at any moment.
fn unless_removed<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        result => result.map(Some),
    }
}

/// Merges go at a pace.
pub(crate) struct Leisurely {
    /// Where their files are.
    pub(crate) folder: Arc<Path>,
    pub(crate) in_hurry: Arc<AtomicBool>,
}

impl Factory for Leisurely {
    fn name(&self) -> &'static str {
        "pace"
    }

    fn make_filter(&self, _: &Context) -> Box<dyn CompactionFilter> {
        Box::new(Merging { pace: Pace::new(Arc::clone(&self.folder)), in_hurry: Arc::clone(&self.in_hurry) })
    }
}

struct Merging {
    pace: Pace,
    in_hurry: Arc<AtomicBool>,
}

impl CompactionFilter for Merging {
    /// Nothing is filtered: the engine calls this for every row that it merges.
    fn filter_item(&mut self, item: ItemAccessor<'_>, _: &Context) -> lsm_tree::Result<Verdict> {
        self.pace.row(item.key().len() + item.value()?.len(), || self.in_hurry.load(Ordering::Relaxed))?;
        Ok(Verdict::Keep)
    }
}
