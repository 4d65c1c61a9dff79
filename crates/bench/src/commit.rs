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
pub(crate) struct GroupCommit {
    queue: mpsc::Sender<(Bytes, oneshot::Sender<()>)>,
}

impl GroupCommit {
    /// Appends to a new file.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
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
    pub(crate) async fn append(&self, bytes: Bytes) -> Result<(), tonic::Status> {
        let (done, waiting) = oneshot::channel();
        self.queue.send((bytes, done)).map_err(|_| tonic::Status::internal("the file failed"))?;
        waiting.await.map_err(|_| tonic::Status::internal("the file failed"))
    }
}

/// Append of 512 bytes and `fdatasync`, median of 500, in the folder of the benchmark's data.
pub(crate) fn fdatasync_p50_ms() -> anyhow::Result<f64> {
    let folder = tempfile::tempdir_in(crate::target::folder())?;
    let mut file = File::create(folder.path().join("probe"))?;
    let mut took = Vec::new();
    for _ in 0..500 {
        let started = Instant::now();
        file.write_all(&[7; 512])?;
        file.sync_data()?;
        took.push(started.elapsed().as_secs_f64() * 1000.0);
    }
    Ok(crate::measure::median(took.into_iter()))
}
