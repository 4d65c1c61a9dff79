//! A wrapper for tests that does, by seed, what the contract allows and a healthy log hardly ever does. Whatever works on it works on any
//! log that keeps the contract.
//!
//! What concerns a record that is there (its offset, its append time) depends on the seed and the record's place alone, so it is the same
//! for every reader and after a restart with the same seed. Everything else is drawn in the order of the calls.

mod groups;
#[cfg(test)]
mod tests;

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use futures::{FutureExt as _, future::BoxFuture};
use parking_lot::Mutex;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

use self::groups::Groups;
use crate::{Assignments, Error, EventLog, Offset, Producer, Reader, Record, Stored, Topic, TopicPartition};

/// Of so many offsets one is used when there are gaps.
const STRIDE: u64 = 8;
/// How many records are looked at in one go.
const SCAN: usize = 256;

/// What may happen. Shares are of 1; the default is that nothing does.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// Appends that fail although the record is there.
    pub lost_answers: f64,
    /// Appends that fail and happen later, behind other records, or never.
    pub late_appends: f64,
    /// Appends that append the record twice.
    pub double_appends: f64,
    /// Sends of a producer that fail after any number of their records, and the producer with them.
    pub failed_producers: f64,
    /// Reads that fail for the moment.
    pub failed_reads: f64,
    /// Reads that give a single record.
    pub short_reads: f64,
    /// The longest that appends, acknowledgements and durability wait in addition.
    pub slow: Duration,
    /// Whether offsets have gaps.
    pub gaps: bool,
    /// The farthest an append time goes back behind an earlier record's, in microseconds.
    pub clock_back_micros: u64,
    /// The longest until an assignment moves to another member, which gets it before it is revoked, or is revoked and given again.
    pub moves: Option<Duration>,
}

impl Faults {
    /// All of them, often.
    pub fn all() -> Self {
        Self {
            lost_answers: 0.1,
            late_appends: 0.1,
            double_appends: 0.1,
            failed_producers: 0.05,
            failed_reads: 0.1,
            short_reads: 0.2,
            slow: Duration::from_millis(2),
            gaps: true,
            clock_back_micros: 10_000,
            moves: Some(Duration::from_millis(200)),
        }
    }
}

/// An [`EventLog`] with [`Faults`]. It hands out the partitions of a topic itself, to any number of members of a group.
pub struct Faulty {
    inner: Arc<dyn EventLog>,
    shared: Arc<Shared>,
    groups: Arc<Groups>,
    late: Mutex<Vec<(TopicPartition, Record)>>,
}

struct Shared {
    seed: u64,
    faults: Faults,
    random: Mutex<StdRng>,
}

impl Faulty {
    /// Wraps a log.
    pub fn new(inner: Arc<dyn EventLog>, seed: u64, faults: Faults) -> Self {
        let random = Mutex::new(StdRng::seed_from_u64(seed));
        let shared = Arc::new(Shared { seed, faults, random });
        Self { inner, groups: Groups::new(shared.clone()), shared, late: Mutex::default() }
    }

    /// What an earlier append left behind now happens, or goes on waiting.
    async fn append_late(&self) {
        let due = if self.shared.happens(0.5) { std::mem::take(&mut *self.late.lock()) } else { Vec::new() };
        for (to, record) in due {
            // Its caller was told long ago that the outcome is unknown.
            let _ = self.inner.append(to, record).await;
        }
    }
}

#[async_trait]
impl EventLog for Faulty {
    fn partitions(&self, topic: Topic) -> u32 {
        self.inner.partitions(topic)
    }

    fn generation(&self, topic: Topic) -> u32 {
        self.inner.generation(topic)
    }

    async fn append(&self, to: TopicPartition, record: Record) -> Result<(), Error> {
        let faults = &self.shared.faults;
        self.shared.wait().await;
        self.append_late().await;
        if to.partition < self.inner.partitions(to.topic) && self.shared.happens(faults.late_appends) {
            self.late.lock().push((to, record));
            return Err(injected("append"));
        }
        if self.shared.happens(faults.double_appends) {
            self.inner.append(to, record.clone()).await?;
        }
        self.inner.append(to, record).await?;
        self.shared.wait().await;
        if self.shared.happens(faults.lost_answers) { Err(injected("answer")) } else { Ok(()) }
    }

    fn producer(&self) -> Box<dyn Producer> {
        Box::new(FaultyProducer { inner: self.inner.producer(), shared: self.shared.clone(), failed: Mutex::new(false) })
    }

    async fn reader(&self, from: TopicPartition, offset: Offset) -> Result<Box<dyn Reader>, Error> {
        let inner = self.inner.reader(from, self.shared.inner_offset(from, offset)).await?;
        Ok(Box::new(FaultyReader { inner, shared: self.shared.clone(), partition: from }))
    }

    async fn end(&self, of: TopicPartition) -> Result<Offset, Error> {
        Ok(self.shared.outer_offset(of, self.inner.end(of).await?))
    }

    async fn offset_at(&self, of: TopicPartition, micros: u64) -> Result<Offset, Error> {
        // A time only goes back, so nothing before this one is late enough.
        let mut offset = self.inner.offset_at(of, micros).await?;
        let end = self.inner.end(of).await?;
        let mut reader = self.inner.reader(of, offset).await?;
        while offset < end {
            for stored in reader.next(SCAN).await? {
                offset = stored.offset + 1;
                let stored = self.shared.outer(of, stored);
                if stored.appended >= micros {
                    return Ok(stored.offset);
                }
            }
        }
        Ok(self.shared.outer_offset(of, end))
    }

    async fn assignments(&self, group: &'static str, topic: Topic) -> Result<Box<dyn Assignments>, Error> {
        match self.partitions(topic) {
            0 => Err(Error::UnknownPartition(TopicPartition { topic, partition: 0 })),
            partitions => Ok(self.groups.join(group, topic, partitions)),
        }
    }

    async fn durable(&self) -> Result<(), Error> {
        self.shared.wait().await;
        self.inner.durable().await
    }

    fn working(&self) -> Box<dyn Send + Sync> {
        self.inner.working()
    }
}

impl Shared {
    fn happens(&self, share: f64) -> bool {
        share > 0.0 && self.random.lock().random_bool(share)
    }

    fn below(&self, end: usize) -> usize {
        self.random.lock().random_range(0..end)
    }

    fn time_up_to(&self, most: Duration) -> Duration {
        most.mul_f64(self.random.lock().random_range(0.0..=1.0))
    }

    async fn wait(&self) {
        if !self.faults.slow.is_zero() {
            let time = self.time_up_to(self.faults.slow);
            tokio::time::sleep(time).await;
        }
    }

    /// The same for everybody who asks about this record.
    fn fate(&self, aspect: &str, of: TopicPartition, offset: Offset) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.seed, aspect, of, offset).hash(&mut hasher);
        hasher.finish()
    }

    fn outer_offset(&self, of: TopicPartition, inner: Offset) -> Offset {
        if self.faults.gaps { inner * STRIDE + self.fate("offset", of, inner) % STRIDE } else { inner }
    }

    /// The first inner offset that is seen at or above an outer one.
    fn inner_offset(&self, of: TopicPartition, outer: Offset) -> Offset {
        if !self.faults.gaps {
            return outer;
        }
        let inner = outer / STRIDE;
        if self.outer_offset(of, inner) < outer { inner + 1 } else { inner }
    }

    fn outer(&self, of: TopicPartition, inner: Stored) -> Stored {
        let Stored { offset, appended, record } = inner;
        let back = self.fate("time", of, offset) % (self.faults.clock_back_micros + 1);
        Stored { offset: self.outer_offset(of, offset), appended: appended.saturating_sub(back), record }
    }
}

struct FaultyProducer {
    inner: Box<dyn Producer>,
    shared: Arc<Shared>,
    failed: Mutex<bool>,
}

impl Producer for FaultyProducer {
    fn send(&self, mut records: Vec<(TopicPartition, Record)>) -> BoxFuture<'static, Result<(), Error>> {
        let mut failed = self.failed.lock();
        if *failed {
            return std::future::ready(Err(injected("producer"))).boxed();
        }
        *failed = self.shared.happens(self.shared.faults.failed_producers);
        if *failed {
            records.truncate(self.shared.below(records.len() + 1));
        }
        let outcome = if *failed { Err(injected("producer")) } else { Ok(()) };
        let sent = self.inner.send(records);
        let shared = self.shared.clone();
        async move {
            sent.await?;
            shared.wait().await;
            outcome
        }
        .boxed()
    }
}

struct FaultyReader {
    inner: Box<dyn Reader>,
    shared: Arc<Shared>,
    partition: TopicPartition,
}

#[async_trait]
impl Reader for FaultyReader {
    async fn next(&mut self, max: usize) -> Result<Vec<Stored>, Error> {
        if self.shared.happens(self.shared.faults.failed_reads) {
            return Err(injected("read"));
        }
        let max = if self.shared.happens(self.shared.faults.short_reads) { 1 } else { max };
        let records = self.inner.next(max).await?;
        Ok(records.into_iter().map(|stored| self.shared.outer(self.partition, stored)).collect())
    }
}

fn injected(what: &str) -> Error {
    Error::Unavailable(format!("injected fault of the {what}"))
}
