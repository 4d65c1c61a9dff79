//! One ordered table of the engine, and the folder of all of them.

use std::{
    collections::VecDeque,
    fmt,
    fs::{self, File},
    ops::Bound,
    path::PathBuf,
    sync::Arc,
};

use lsm_tree::{
    AbstractTree as _, AnyTree, Cache, CompressionType, Config, DescriptorTable, IterGuardImpl, Memtable, SequenceNumberCounter, UserValue,
    config::{
        BlockSizePolicy, BloomConstructionPolicy, CompressionPolicy, FilterPolicy, FilterPolicyEntry, PinningPolicy, RestartIntervalPolicy,
    },
};
use parking_lot::{Mutex, RwLock};

use crate::horizon::Horizon;

/// Open files of tables that are kept open.
const OPEN_FILES: usize = 256;
const LONGEST_NAME: usize = 200;

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
    tree: AnyTree,
    horizon: Arc<Horizon>,
    unflushed: Mutex<Unflushed>,
    /// Nobody else opens the folder while a table is in use.
    _lock: Arc<File>,
}

/// What only the journal has on disk.
#[derive(Default)]
struct Unflushed {
    /// The first sequence in the memtable that is written to.
    active: Option<u64>,
    /// The memtables that wait, the oldest first, each with its first sequence.
    sealed: VecDeque<(u64, Option<Arc<Memtable>>)>,
}

/// Rows between two keys, from either end.
pub(crate) type Scan = Box<dyn DoubleEndedIterator<Item = IterGuardImpl> + Send>;

impl Table {
    pub(crate) fn get(&self, key: &[u8]) -> lsm_tree::Result<Option<UserValue>> {
        let snapshot = self.horizon.snapshot();
        self.tree.get(key, snapshot.sequence)
    }

    pub(crate) fn range(&self, bounds: (Bound<&[u8]>, Bound<&[u8]>)) -> Scan {
        let snapshot = self.horizon.snapshot();
        self.tree.range::<&[u8], _>(bounds, snapshot.sequence, None)
    }

    pub(crate) fn prefix(&self, prefix: &[u8]) -> Scan {
        let snapshot = self.horizon.snapshot();
        self.tree.prefix(prefix, snapshot.sequence, None)
    }

    /// Where the writer writes. It is another one after [`seal`](Self::seal).
    pub(crate) fn memtable(&self) -> Arc<Memtable> {
        self.tree.active_memtable()
    }

    /// The memtable is no longer empty.
    pub(crate) fn begun(&self, sequence: u64) {
        self.unflushed.lock().active.get_or_insert(sequence);
    }

    /// Only the writer may call it: nobody writes meanwhile. Whether there was something to seal.
    pub(crate) fn seal(&self) -> bool {
        let mut unflushed = self.unflushed.lock();
        let Some(first) = unflushed.active.take() else { return false };
        let memtable = self.tree.rotate_memtable();
        unflushed.sealed.push_back((first, memtable));
        true
    }

    /// Writes what is sealed to files. What it was written from must be synced in the journal.
    pub(crate) fn flush(&self) -> lsm_tree::Result<()> {
        let sealed = self.unflushed.lock().sealed.len();
        self.tree.flush(&self.tree.get_flush_lock(), self.horizon.settled())?;
        // The engine lets go of them while readers wait for it, and to free many small rows takes tens of milliseconds: it is done here, after that.
        let _flushed: Vec<_> = self.unflushed.lock().sealed.drain(..sealed).collect();
        self.let_go()
    }

    /// Lets go of the memtables and files that no reader can ask for any more.
    pub(crate) fn let_go(&self) -> lsm_tree::Result<()> {
        let settled = self.horizon.settled();
        self.tree.get_version_history_lock().maintenance(&self.tree.tree_config().path, settled)
    }

    /// Merges some files as the strategy chooses. Whether it did.
    pub(crate) fn compact(&self, strategy: Arc<dyn lsm_tree::compaction::CompactionStrategy>) -> lsm_tree::Result<bool> {
        let before = self.tree.current_version().id();
        self.tree.compact(strategy, self.horizon.settled())?;
        let changed = self.tree.current_version().id() != before;
        self.let_go()?;
        Ok(changed)
    }

    /// Files that a read may have to look into at once.
    pub(crate) fn overlapping_files(&self) -> usize {
        self.tree.l0_run_count()
    }

    /// The oldest sequence that only the journal has.
    pub(crate) fn first_unflushed(&self) -> Option<u64> {
        let unflushed = self.unflushed.lock();
        unflushed.sealed.front().map(|(first, _)| *first).or(unflushed.active)
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
    all: RwLock<Vec<Arc<Table>>>,
}

impl Tables {
    /// Opens those that are there.
    pub(crate) fn open(folder: PathBuf, cache_bytes: u64, lock: File) -> lsm_tree::Result<Self> {
        fs::create_dir_all(&folder)?;
        let tables = Self {
            cache: Arc::new(Cache::with_capacity_bytes(cache_bytes)),
            files: Arc::new(DescriptorTable::new(OPEN_FILES)),
            horizon: Arc::default(),
            lock: Arc::new(lock),
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
        tables.horizon.recovered(last);
        Ok(tables)
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
        let config = Config::new(folder, self.horizon.counter(), SequenceNumberCounter::default())
            .use_cache(Arc::clone(&self.cache))
            .use_descriptor_table(Some(Arc::clone(&self.files)));
        let table = Arc::new(Table {
            number: all.len() as u32,
            name: name.to_owned(),
            tree: kind.configure(config).open()?,
            horizon: Arc::clone(&self.horizon),
            unflushed: Mutex::default(),
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
