//! The files of the journal: one that is written to, and those before it that a restart still needs.

use std::{
    collections::VecDeque,
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;

use crate::{
    journal::{FILE_HEADER, FileHeader},
    needless::Needless,
};

/// A file takes no further group once it has this many bytes.
const SEGMENT_BYTES: u64 = 32 << 20;
const SUFFIX: &str = ".journal";

/// A file that is complete and synced.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) path: PathBuf,
    pub(crate) bytes: u64,
    /// Its last sequence.
    pub(crate) last: u64,
}

/// Complete files, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct Complete(Mutex<VecDeque<Segment>>);

impl Complete {
    pub(crate) fn push(&self, segment: Segment) {
        self.0.lock().push_back(segment);
    }

    /// Lets go of the files of which the tables have everything: what is older than `first_unflushed`.
    pub(crate) fn remove_before(&self, first_unflushed: impl FnOnce() -> Option<u64>, needless: &Needless) -> io::Result<()> {
        let old: Vec<_> = {
            let mut segments = self.0.lock();
            // Asked while no file can be added: what such a one has may have been written after an earlier answer.
            let first_unflushed = first_unflushed();
            let kept = segments.iter().position(|segment| first_unflushed.is_some_and(|first| segment.last >= first));
            let count = kept.unwrap_or(segments.len());
            segments.drain(..count).collect()
        };
        old.iter().try_for_each(|segment| needless.take(&segment.path))
    }

    /// The last sequence of the oldest file, while they have more than these bytes or are more than so many.
    pub(crate) fn oldest_above(&self, bytes: u64, count: usize) -> Option<u64> {
        let segments = self.0.lock();
        let sum: u64 = segments.iter().map(|segment| segment.bytes).sum();
        segments.front().filter(|_| sum > bytes || segments.len() > count).map(|segment| segment.last)
    }
}

/// The journal as the writer has it.
#[derive(Debug)]
pub(crate) struct Segments {
    folder: PathBuf,
    pub(crate) secret: u64,
    number: u64,
    path: PathBuf,
    file: File,
    written: u64,
    pub(crate) complete: Arc<Complete>,
}

impl Segments {
    /// Begins the file of this number.
    pub(crate) fn begin(folder: &Path, secret: u64, number: u64, before: u64, complete: Complete) -> io::Result<Self> {
        let (path, file) = create(folder, number, FileHeader { secret, before })?;
        Ok(Self { folder: folder.to_owned(), secret, number, path, file, written: FILE_HEADER as u64, complete: Arc::new(complete) })
    }

    /// Writes a group. It survives the process, and power loss after the next [`sync`](Self::sync).
    pub(crate) fn append(&mut self, group: &[u8]) -> io::Result<()> {
        self.file.write_all(group)?;
        self.written += group.len() as u64;
        Ok(())
    }

    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Whether it is time for the next file.
    pub(crate) fn is_full(&self) -> bool {
        self.written >= SEGMENT_BYTES
    }

    /// Begins the next file. Everything up to `last` must be synced.
    pub(crate) fn turn(&mut self, last: u64) -> io::Result<()> {
        self.number += 1;
        let (path, file) = create(&self.folder, self.number, FileHeader { secret: self.secret, before: last })?;
        self.file = file;
        let path = std::mem::replace(&mut self.path, path);
        self.complete.push(Segment { path, bytes: std::mem::replace(&mut self.written, FILE_HEADER as u64), last });
        Ok(())
    }
}

/// The files of a folder, oldest first.
pub(crate) fn list(folder: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut numbered = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let number = path.file_name().and_then(|name| name.to_str()?.strip_suffix(SUFFIX)?.parse::<u64>().ok());
        numbered.extend(number.map(|number| (number, path)));
    }
    numbered.sort_unstable();
    Ok(numbered)
}

/// A file is there with its whole header, or not at all.
fn create(folder: &Path, number: u64, header: FileHeader) -> io::Result<(PathBuf, File)> {
    let unfinished = folder.join("unfinished");
    let mut file = File::create(&unfinished)?;
    file.write_all(&header.encode())?;
    file.set_len(SEGMENT_BYTES)?;
    file.sync_all()?;
    let path = folder.join(format!("{number:012}{SUFFIX}"));
    fs::rename(&unfinished, &path)?;
    File::open(folder)?.sync_all()?;
    Ok((path, file))
}
