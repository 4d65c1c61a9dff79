//! Files that nobody needs any more, which go a piece at a time: while a file system lets go of a large file, a sync of the journal waits (11 ms
//! for one of 64 MiB on ext4 with `discard`, and under 2 ms when it is cut off by the megabyte). A thread of its own removes them; what is left
//! when the store is closed goes when it is opened again.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::Duration,
};

use parking_lot::{Condvar, Mutex};

/// So much is cut off at once.
const PIECE_BYTES: u64 = 1 << 20;
/// And a pause after it.
const PAUSE: Duration = Duration::from_millis(3);
/// Until it is asked again whether a file is still read.
const LOOK: Duration = Duration::from_millis(100);

/// The folder of what is to be removed.
#[derive(Debug)]
pub(crate) struct Needless {
    folder: PathBuf,
    number: AtomicU64,
    files: Mutex<Vec<Needed>>,
    more: Condvar,
    stopping: AtomicBool,
}

/// A file, and until when it is still needed.
#[derive(Debug)]
struct Needed {
    path: PathBuf,
    until: Until,
}

#[derive(Debug)]
enum Until {
    /// The name that it had in this folder is gone for good: after a power loss it would be a part of a file there.
    Synced(PathBuf),
    /// Its other name is gone, which goes with its last reader.
    Unread(PathBuf),
}

impl Needless {
    /// Removes what an earlier process left.
    pub(crate) fn open(folder: PathBuf) -> io::Result<Self> {
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => fs::create_dir(&folder)?,
        }
        Ok(Self { folder, number: AtomicU64::new(0), files: Mutex::default(), more: Condvar::new(), stopping: AtomicBool::new(false) })
    }

    fn place(&self) -> PathBuf {
        self.folder.join(self.number.fetch_add(1, Ordering::Relaxed).to_string())
    }

    fn push(&self, path: PathBuf, until: Until) {
        self.files.lock().push(Needed { path, until });
        self.more.notify_one();
    }

    /// Takes a file that nobody reads.
    pub(crate) fn take(&self, file: &Path) -> io::Result<()> {
        let path = self.place();
        fs::rename(file, &path)?;
        let folder = file.parent().unwrap_or(&self.folder).to_owned();
        self.push(path, Until::Synced(folder));
        Ok(())
    }

    /// Takes a file that will be removed by its last reader.
    pub(crate) fn share(&self, file: &Path) {
        let path = self.place();
        // Without links it goes at once.
        if fs::hard_link(file, &path).is_ok() {
            self.push(path, Until::Unread(file.to_owned()));
        }
    }

    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        // The lock orders this after the look at the flag, or before it.
        drop(self.files.lock());
        self.more.notify_all();
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Removes files until it is to stop.
    pub(crate) fn remove(&self) {
        let mut read = Vec::new();
        loop {
            let mut files = self.files.lock();
            while files.is_empty() && !self.is_stopping() {
                if read.is_empty() {
                    self.more.wait(&mut files);
                } else if self.more.wait_for(&mut files, LOOK).timed_out() {
                    break;
                }
            }
            read.append(&mut files);
            drop(files);
            if self.is_stopping() {
                return;
            }
            read.retain(|file| {
                let removed = self.remove_one(file);
                if let Err(error) = &removed {
                    tracing::warn!(path = %file.path.display(), %error, "a file that is not needed any more stays until the next start");
                }
                matches!(removed, Ok(false))
            });
        }
    }

    /// Whether it was, or is still read.
    fn remove_one(&self, file: &Needed) -> io::Result<bool> {
        match &file.until {
            Until::Unread(name) if name.try_exists()? => return Ok(false),
            Until::Unread(_) => {}
            Until::Synced(folder) => File::open(folder)?.sync_all()?,
        }
        self.cut(&file.path).map(|()| true)
    }

    #[expect(clippy::disallowed_methods, reason = "it runs on a thread of its own")]
    fn cut(&self, path: &Path) -> io::Result<()> {
        let file = File::options().write(true).open(path)?;
        let mut length = file.metadata()?.len();
        while length > PIECE_BYTES && !self.is_stopping() {
            length -= PIECE_BYTES;
            file.set_len(length)?;
            thread::sleep(PAUSE);
        }
        fs::remove_file(path)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    const LARGE: usize = 5 << 19;

    struct Stop<'n>(&'n Needless);

    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.stop();
        }
    }

    fn left(needless: &Needless) -> usize {
        fs::read_dir(&needless.folder).unwrap().count()
    }

    fn wait_for_left(needless: &Needless, count: usize) {
        let begun = Instant::now();
        while left(needless) != count {
            assert!(begun.elapsed() < Duration::from_secs(20), "{} files are left", left(needless));
            thread::yield_now();
        }
    }

    #[test]
    fn a_file_goes_and_one_that_is_read_stays_whole_until_its_reader_removes_it() {
        let folder = tempfile::tempdir().unwrap();
        let needless = Needless::open(folder.path().join("needless")).unwrap();
        let [owned, read] = ["owned", "read"].map(|name| folder.path().join(name));
        for path in [&owned, &read] {
            fs::write(path, vec![7; LARGE]).unwrap();
        }
        needless.share(&read);
        needless.take(&owned).unwrap();
        thread::scope(|scope| {
            // Also when an assertion fails, so that the thread ends.
            let stop = Stop(&needless);
            scope.spawn(|| needless.remove());
            wait_for_left(&needless, 1);
            // Looked at again meanwhile.
            thread::park_timeout(LOOK * 3);
            assert!(fs::read(&read).unwrap() == vec![7; LARGE], "a part of it is gone");
            assert!(!owned.exists());
            fs::remove_file(&read).unwrap();
            wait_for_left(&needless, 0);
            drop(stop);
        });
    }

    #[test]
    fn what_is_left_goes_at_the_next_start() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, [7; 9]).unwrap();
        let needless = Needless::open(folder.path().join("needless")).unwrap();
        needless.take(&file).unwrap();
        needless.stop();
        needless.remove();
        assert_eq!((left(&needless), file.exists()), (1, false));
        assert_eq!(left(&Needless::open(folder.path().join("needless")).unwrap()), 0);
    }
}
