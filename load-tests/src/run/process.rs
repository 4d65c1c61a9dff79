//! What processes of this machine use over time.

use std::{collections::BTreeMap, time::Instant};

use plaza_floor::process::{cpu_seconds, resident_kib};
use serde::{Deserialize, Serialize};

/// One look at a process.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Seconds from the start of the run.
    pub at: f64,
    /// Cores it used since the look before.
    pub cores: f64,
    /// MiB of resident memory.
    pub memory_mib: f64,
}

/// Processes that are looked at, by name.
pub struct Processes {
    watched: BTreeMap<String, (u32, f64)>,
    looked: Instant,
    /// What was seen, by name.
    pub samples: BTreeMap<String, Vec<Sample>>,
}

impl Processes {
    /// Watches these and this process itself.
    ///
    /// # Errors
    /// One of them does not exist.
    pub fn new(pids: &[u32]) -> anyhow::Result<Self> {
        let mut watched = BTreeMap::new();
        for pid in pids {
            watched.insert(format!("server {pid}"), (*pid, cpu_seconds(*pid)?));
        }
        let own = std::process::id();
        watched.insert(Self::GENERATOR.to_owned(), (own, cpu_seconds(own)?));
        Ok(Self { watched, looked: Instant::now(), samples: BTreeMap::new() })
    }

    /// The name of this process.
    pub const GENERATOR: &str = "generator";

    /// Looks at each; one that is gone is left out.
    pub fn look(&mut self, at: f64) {
        let seconds = self.looked.elapsed().as_secs_f64().max(1e-3);
        self.looked = Instant::now();
        for (name, (pid, before)) in &mut self.watched {
            let (Ok(now), Ok(memory)) = (cpu_seconds(*pid), resident_kib(*pid)) else { continue };
            let sample = Sample { at, cores: (now - *before) / seconds, memory_mib: memory / 1024.0 };
            *before = now;
            self.samples.entry(name.clone()).or_default().push(sample);
        }
    }

    /// Cores that one used in the mean of the samples.
    #[must_use]
    pub fn mean_cores(&self, name: &str) -> f64 {
        let samples = self.samples.get(name).map_or(&[][..], Vec::as_slice);
        samples.iter().map(|sample| sample.cores).sum::<f64>() / samples.len().max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_its_own_process() {
        let mut processes = Processes::new(&[]).expect("proc");
        processes.look(1.0);
        assert!(processes.samples[Processes::GENERATOR][0].memory_mib > 0.1);
        assert!(Processes::new(&[u32::MAX]).is_err());
    }
}
