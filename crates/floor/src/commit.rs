//! The least that durability costs: a file, one thread, one `fdatasync` for all who wait.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    path::Path,
    sync::mpsc,
    time::Instant,
};

use bytes::Bytes;
use tokio::sync::oneshot;

/// A file that is appended to in groups.
#[derive(Clone)]
pub struct GroupCommit {
    queue: mpsc::Sender<(Bytes, oneshot::Sender<()>)>,
}

impl GroupCommit {
    /// Appends to a new file.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let mut file = OpenOptions::new().create(true).append(true).open(path)?;
        let (queue, waiting) = mpsc::channel::<(Bytes, oneshot::Sender<()>)>();
        std::thread::spawn(move || {
            while let Ok(first) = waiting.recv() {
                let group: Vec<_> = std::iter::once(first).chain(waiting.try_iter()).collect();
                let bytes: Vec<u8> = group.iter().flat_map(|(bytes, _)| bytes.iter().copied()).collect();
                if file.write_all(&bytes).and_then(|()| file.sync_data()).is_err() {
                    return;
                }
                for (_, done) in group {
                    let _ = done.send(());
                }
            }
        });
        Ok(Self { queue })
    }

    /// Appends and waits until it is on disk.
    ///
    /// # Errors
    /// The file failed.
    pub async fn append(&self, bytes: Bytes) -> Result<(), tonic::Status> {
        let (done, waiting) = oneshot::channel();
        self.queue.send((bytes, done)).map_err(|_| tonic::Status::internal("the file failed"))?;
        waiting.await.map_err(|_| tonic::Status::internal("the file failed"))
    }
}

/// Appends of 512 bytes and `fdatasync`, 500 of them in a folder: how long each took, milliseconds, the shortest first.
///
/// # Errors
/// The folder cannot be written to.
pub fn fdatasync_ms(folder: &Path) -> anyhow::Result<Vec<f64>> {
    let folder = tempfile::tempdir_in(folder)?;
    let mut file = File::create(folder.path().join("probe"))?;
    let mut took = Vec::new();
    for _ in 0..500 {
        let started = Instant::now();
        file.write_all(&[7; 512])?;
        file.sync_data()?;
        took.push(started.elapsed().as_secs_f64() * 1000.0);
    }
    took.sort_by(f64::total_cmp);
    Ok(took)
}
