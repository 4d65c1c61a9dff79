//! One ordered table of the engine, and the folder of all of them.

use std::{
    collections::{HashSet, VecDeque},
    fmt,
    fs::{self, File},
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool},
};

use bytes::Bytes;
use lsm_tree::{
    AbstractTree as _, AnyTree, Cache, CompressionType, Config, DescriptorTable, InternalValue, SeqNo, SequenceNumberCounter,
    config::{
        BlockSizePolicy, BloomConstructionPolicy, CompressionPolicy, FilterPolicy, FilterPolicyEntry, PinningPolicy, RestartIntervalPolicy,
    },
};
use parking_lot::RwLock;
use smallvec::SmallVec;

use crate::{
    horizon::Horizon,
    memtable::{Bounds, Memtable},
    needless::Needless,
    pace::{Leisurely, Pace},
    scan::Scan,
};

/// Open files of tables that are kept open.
const OPEN_FILES: usize = 256;
/// Where the engine puts them.
const FILES: &str = "tables";
const LONGEST_NAME: usize = 200;
/// Files have only what everybody sees, so whoever reads them wants the newest, and nothing older is kept.
const NEWEST: SeqNo = SeqNo::MAX;

/// What a table is read for. It is a part of the name of its folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Rows that are looked up by key.
    Rows,
    /// Rows that are read in ranges.
    Ranges,
    /// The runs of a sequence.
    Runs,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Rows, Self::Ranges, Self::Runs];

    fn prefix(self) -> &'static str {
        match self {
            Self::Rows => "rows",
            Self::Ranges => "ranges",
            Self::Runs => "runs",
        }
    }

    fn configure(self, config: Config) -> Config {
        use CompressionType::{Lz4, None};
        let config = config
            .data_block_restart_interval_policy(RestartIntervalPolicy::new([10, 16]))
            .filter_block_pinning_policy(PinningPolicy::new([true, false]));
        let blocks = |bytes: u32| BlockSizePolicy::all(bytes << 10);
        let bloom = FilterPolicyEntry::Bloom;
        match self {
            Self::Rows => config
                .data_block_size_policy(blocks(4))
                // Tables of the first levels are merged soon: compressing them would be done again and again.
                .data_block_compression_policy(CompressionPolicy::new([None, None, Lz4]))
                .filter_policy(FilterPolicy::new([
                    bloom(BloomConstructionPolicy::FalsePositiveRate(0.0001)),
                    bloom(BloomConstructionPolicy::BitsPerKey(10.0)),
                ])),
            Self::Ranges => config
                .data_block_size_policy(blocks(16))
                .data_block_compression_policy(CompressionPolicy::new([None, Lz4]))
                .filter_policy(FilterPolicy::disabled()),
            // Each is written to a file once, and compressing it would cost more than all the rest.
            Self::Runs => config
                .data_block_size_policy(blocks(16))
                .data_block_compression_policy(CompressionPolicy::disabled())
                .filter_policy(FilterPolicy::disabled()),
        }
    }
}

/// One table.
pub(crate) struct Table {
    /// Its number while the store is open.
    pub(crate) number: u32,
    pub(crate) name: String,
    /// Its files.
    tree: AnyTree,
    /// Where they are.
    folder: Arc<Path>,
    /// What the files do not have.
    memory: RwLock<Memory>,
    horizon: Arc<Horizon>,
    /// Nobody else opens the folder while a table is in use.
    _lock: Arc<File>,
}

#[derive(Default)]
struct Memory {
    /// What is written to.
    active: Arc<Memtable>,
    /// What waits to become files, the oldest first.
    sealed: VecDeque<Arc<Memtable>>,
}

impl Memory {
    fn newest_first(&self) -> impl Iterator<Item = &Arc<Memtable>> {
        std::iter::once(&self.active).chain(self.sealed.iter().rev())
    }
}

impl Table {
    /// What is stored under a key.
    pub(crate) fn get(&self, key: &[u8]) -> lsm_tree::Result<Option<Bytes>> {
        let found = self.memory.read().newest_first().find_map(|memtable| memtable.get(key, &self.horizon));
        match found {
            Some(value) => Ok(value),
            // A memtable that becomes a file meanwhile is found as one or the other. Copied, because the engine's slices would keep a whole block in memory each.
            None => Ok(self.tree.get(key, NEWEST)?.map(|value| Bytes::copy_from_slice(&value))),
        }
    }

    /// The rows between two keys.
    pub(crate) fn range(&self, bounds: Bounds<&[u8]>) -> Scan {
        loop {
            let memtables: SmallVec<[_; 4]> = self.memory.read().newest_first().cloned().collect();
            // All of what is sealed is seen from here.
            let snapshot = self.horizon.snapshot();
            let files = self.tree.range::<&[u8], _>(bounds, NEWEST, None);
            // What was written behind the snapshot and became a file in between would be seen.
            if Arc::ptr_eq(&memtables[0], &self.memory.read().active) {
                return Scan::new(memtables.into_iter(), files, bounds, snapshot);
            }
        }
    }

    /// Where the writer writes. It is another one after [`seal`](Self::seal).
    pub(crate) fn memtable(&self) -> Arc<Memtable> {
        Arc::clone(&self.memory.read().active)
    }

    /// Only the writer may call it: nobody writes meanwhile. Whether there was something to seal.
    pub(crate) fn seal(&self) -> bool {
        let mut memory = self.memory.write();
        let is_new = memory.active.first().is_none();
        if !is_new {
            let sealed = std::mem::take(&mut memory.active);
            memory.sealed.push_back(sealed);
        }
        !is_new
    }

    /// Writes the oldest sealed memtable to a file. What it was written from must be synced in the journal.
    pub(crate) fn flush(&self, in_hurry: impl Fn() -> bool) -> lsm_tree::Result<()> {
        let Some(memtable) = self.memory.read().sealed.front().cloned() else { return Ok(()) };
        let mut pace = Pace::new(Arc::clone(&self.folder));
        let mut paced = |row: InternalValue| {
            pace.row(row.key.user_key.len() + row.value.len(), &in_hurry)?;
            Ok(row)
        };
        if let Some((files, _)) = memtable.each(|rows| self.tree.flush_to_tables(rows.map(&mut paced)))? {
            self.tree.register_tables(&files, None, None, &[], NEWEST)?;
        }
        // It is let go of after the lock and at the same pace: to free many small rows takes tens of milliseconds.
        drop(memtable);
        let flushed = self.memory.write().sealed.pop_front();
        for _row in flushed.and_then(Arc::into_inner).into_iter().flat_map(Memtable::into_rows) {
            pace.row(0, &in_hurry)?;
        }
        Ok(())
    }

    /// Merges some files as the strategy chooses. Whether it did.
    pub(crate) fn compact(
        &self,
        strategy: Arc<dyn lsm_tree::compaction::CompactionStrategy>,
        needless: &Needless,
    ) -> lsm_tree::Result<bool> {
        // Held, so that no files are removed while readers wait.
        let before = self.tree.current_version();
        self.tree.compact(strategy, NEWEST)?;
        let after = self.tree.current_version();
        let kept: HashSet<_> = after.iter_tables().map(|file| file.id()).collect();
        before.iter_tables().filter(|file| !kept.contains(&file.id())).for_each(|file| needless.share(&file.path));
        Ok(after.id() != before.id())
    }

    /// Files that a read may have to look into at once.
    pub(crate) fn overlapping_files(&self) -> usize {
        self.tree.l0_run_count()
    }

    /// The oldest sequence that only the journal has.
    pub(crate) fn first_unflushed(&self) -> Option<u64> {
        let memory = self.memory.read();
        memory.sealed.front().unwrap_or(&memory.active).first()
    }

    /// The newest sequence in its files.
    pub(crate) fn flushed(&self) -> Option<u64> {
        self.tree.get_highest_persisted_seqno()
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Table").field(&self.name).finish()
    }
}

/// All tables of a store.
pub(crate) struct Tables {
    folder: PathBuf,
    cache: Arc<Cache>,
    files: Arc<DescriptorTable>,
    pub(crate) horizon: Arc<Horizon>,
    lock: Arc<File>,
    /// Whether files are merged as fast as can be.
    pub(crate) merge_in_hurry: Arc<AtomicBool>,
    pub(crate) needless: Needless,
    all: RwLock<Vec<Arc<Table>>>,
}

impl Tables {
    /// Opens those that are there. Also answers the last sequence in their files.
    pub(crate) fn open(folder: PathBuf, cache_bytes: u64, lock: File, needless: Needless) -> lsm_tree::Result<(Self, u64)> {
        fs::create_dir_all(&folder)?;
        let tables = Self {
            cache: Arc::new(Cache::with_capacity_bytes(cache_bytes)),
            files: Arc::new(DescriptorTable::new(OPEN_FILES)),
            horizon: Arc::default(),
            lock: Arc::new(lock),
            merge_in_hurry: Arc::default(),
            needless,
            all: RwLock::default(),
            folder,
        };
        let mut last = 0;
        for entry in fs::read_dir(&tables.folder)? {
            let name = entry?.file_name();
            let named = name.to_str().and_then(|name| name.split_once('-'));
            let Some((kind, name)) = named else { continue };
            let Some(kind) = Kind::ALL.into_iter().find(|known| known.prefix() == kind) else { continue };
            let table = tables.table(name, kind)?;
            last = last.max(table.flushed().unwrap_or_default());
        }
        // One may have been created just before a crash.
        File::open(&tables.folder)?.sync_all()?;
        Ok((tables, last))
    }

    /// The table of this name; the kind counts when it is created.
    ///
    /// # Panics
    /// If the name is empty, longer than 200 bytes, or has others than letters, digits, `.`, `_` and `-`.
    pub(crate) fn table(&self, name: &str, kind: Kind) -> lsm_tree::Result<Arc<Table>> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        assert!((1..=LONGEST_NAME).contains(&name.len()) && name.bytes().all(plain), "{name:?} is no name of a keyspace");
        let mut all = self.all.write();
        if let Some(table) = all.iter().find(|table| table.name == name) {
            return Ok(Arc::clone(table));
        }
        let folder = self.folder.join(format!("{}-{name}", kind.prefix()));
        let is_new = !folder.try_exists()?;
        // The engine's own idea of what is visible is not used.
        let files: Arc<Path> = folder.join(FILES).into();
        let config = Config::new(folder, SequenceNumberCounter::default(), SequenceNumberCounter::default())
            .with_compaction_filter_factory(Some(Arc::new(Leisurely {
                folder: Arc::clone(&files),
                in_hurry: Arc::clone(&self.merge_in_hurry),
            })))
            .use_cache(Arc::clone(&self.cache))
            .use_descriptor_table(Some(Arc::clone(&self.files)));
        let table = Arc::new(Table {
            number: all.len() as u32,
            name: name.to_owned(),
            tree: kind.configure(config).open()?,
            folder: files,
            memory: RwLock::default(),
            horizon: Arc::clone(&self.horizon),
            _lock: Arc::clone(&self.lock),
        });
        if is_new {
            File::open(&self.folder)?.sync_all()?;
        }
        all.push(Arc::clone(&table));
        Ok(table)
    }

    /// The table of this name, if there is one.
    pub(crate) fn find(&self, name: &str) -> Option<Arc<Table>> {
        self.all.read().iter().find(|table| table.name == name).cloned()
    }

    pub(crate) fn all(&self) -> Vec<Arc<Table>> {
        self.all.read().clone()
    }

    /// The oldest sequence that only the journal has.
    pub(crate) fn first_unflushed(&self) -> Option<u64> {
        self.all.read().iter().filter_map(|table| table.first_unflushed()).min()
    }
}
