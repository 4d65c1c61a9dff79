//! The floors: what a message takes on the same servers with the client libraries alone, in this process.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::try_join_all;
use plaza_floor::{
    cql::RawTables,
    kafka::{RawLog, Took},
    process::cpu_seconds,
};

use crate::{
    latency::on_a_worker,
    measure::{histogram, percentile_ms, record},
};

/// As many sends as the pairs of the benchmark have on their way.
const IN_FLIGHT: usize = 512;

/// Milliseconds from when a record is sent.
pub(crate) struct Acks {
    pub(crate) acknowledged: f64,
    pub(crate) consumed: f64,
    /// Until it is both.
    pub(crate) both: f64,
}

/// Clients of both servers.
pub(crate) struct Raw {
    log: Arc<RawLog>,
    tables: RawTables,
}

impl Raw {
    /// Creates a topic and tables, and begins to consume.
    pub(crate) async fn open(kafka: &str, cql: &str, prefix: &str, partitions: u32) -> anyhow::Result<Self> {
        Ok(Self { log: Arc::new(RawLog::open(kafka, prefix, partitions).await?), tables: RawTables::create(cql, prefix).await? })
    }

    /// The medians of records one after the other, with a pause after each.
    pub(crate) async fn ack(&self, sends: usize, pause: Duration) -> anyhow::Result<Acks> {
        let log = Arc::clone(&self.log);
        let took = on_a_worker(async move { log.acks(sends, pause).await }).await?;
        let p50 = |figure: fn(&Took) -> Duration| {
            let mut all = histogram();
            took.iter().for_each(|one| record(&mut all, figure(one)));
            percentile_ms(&all, 50.0)
        };
        Ok(Acks { acknowledged: p50(|took| took.acknowledged), consumed: p50(|took| took.consumed), both: p50(Took::both) })
    }

    /// CPU milliseconds of this process for each message with so many rows, many at once for a while. Nothing else must run in it.
    pub(crate) async fn drive(&self, time: Duration, rows: f64) -> anyhow::Result<f64> {
        let before = self.log.produced();
        let (cpu, until) = (cpu_seconds(std::process::id())?, Instant::now() + time);
        let one = |_| async {
            while Instant::now() < until {
                let number = self.log.produce().await?;
                self.tables.write(number, rows).await?;
            }
            anyhow::Ok(())
        };
        try_join_all((0..IN_FLIGHT).map(one)).await?;
        self.log.consumed().await?;
        Ok((cpu_seconds(std::process::id())? - cpu) * 1000.0 / (self.log.produced() - before) as f64)
    }
}
