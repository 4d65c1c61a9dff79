//! A part of a core for a process, so that a small machine shows what another process adds: with a whole core each, two of them, the servers and
//! the load would wait for each other.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::Context;

/// How often what a process may use is given to it anew, microseconds. Short, so that whoever has used its part waits for no longer than a call.
const PERIOD: u32 = 10_000;

/// A control group with the bandwidth of its own. The process is put back when this is dropped.
pub(super) struct Share {
    root: &'static Path,
    folder: PathBuf,
    pid: String,
}

impl Share {
    /// Gives a process so many cores, or parts of one, until this is dropped.
    ///
    /// # Errors
    /// Only root may, and with the controller `cpu` of either version mounted where it usually is.
    pub(super) fn of(pid: u32, cores: f64) -> anyhow::Result<Self> {
        let old = Path::new("/sys/fs/cgroup/cpu");
        let root = if old.join("cgroup.procs").exists() { old } else { Path::new("/sys/fs/cgroup") };
        let pid = pid.to_string();
        let share = Self { root, folder: root.join(format!("plaza-bench-{pid}")), pid };
        share.begin((f64::from(PERIOD) * cores) as u32, root == old).context("a control group with a part of a core (it takes root)")?;
        Ok(share)
    }

    fn begin(&self, quota: u32, old: bool) -> io::Result<()> {
        fs::create_dir(&self.folder)?;
        if old {
            fs::write(self.folder.join("cpu.cfs_period_us"), PERIOD.to_string())?;
            fs::write(self.folder.join("cpu.cfs_quota_us"), quota.to_string())?;
        } else {
            fs::write(self.folder.join("cpu.max"), format!("{quota} {PERIOD}"))?;
        }
        fs::write(self.folder.join("cgroup.procs"), &self.pid)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        // A process that has ended is in no group, and an empty one can be removed.
        let _ = fs::write(self.root.join("cgroup.procs"), &self.pid);
        let _ = fs::remove_dir(&self.folder);
    }
}
