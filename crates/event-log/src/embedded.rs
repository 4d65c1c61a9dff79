//! The log inside the process: records go into the one journal that also holds the rows of every service.
//!
//! Offsets are given while the journal's queue is held, so their order is the order in the journal, and what a crash leaves of the log is a
//! prefix of it and of everything that followed from it. That is why a record may be given to readers before it is written: whatever they
//! write because of it comes later in the journal.
//!
//! Within a partition offsets are dense and append times never go back, which callers must not rely on.

mod partition;
mod row;
#[cfg(test)]
pub(crate) mod tests;
mod topics;

use std::{
    collections::{HashMap, HashSet},
    ops::Range,
    sync::Arc,
};

use async_trait::async_trait;
use futures::{FutureExt as _, future::BoxFuture};
use parking_lot::Mutex;
use plaza_embedded_db::Db;
use smallvec::{SmallVec, smallvec};
use tokio::task::coop;

use self::{partition::Partition, row::Unplaced};
use crate::{Assignment, Assignments, Error, EventLog, Offset, Producer, Reader, Record, Stored, Topic, TopicPartition};

const KEYSPACE: &str = "log";

/// Offsets never start anew here.
const GENERATION: u32 = 1;

/// An [`EventLog`] in a [`Db`].
pub struct EmbeddedLog {
    inner: Arc<Inner>,
}

struct Inner {
    db: Db,
    clock: Box<dyn Fn() -> u64 + Send + Sync>,
    topics: HashMap<Topic, Box<[Arc<Partition>]>>,
    members: Mutex<HashSet<(&'static str, Topic)>>,
}

impl EmbeddedLog {
    /// Opens the log in a store, creating the topics that are new, each with its number of partitions. `clock` gives append times in
    /// microseconds since the epoch. A store must not be given to two logs at once: they would give the same offsets.
    ///
    /// Blocks for a few reads of the store per partition.
    ///
    /// # Errors
    /// `Fatal` when a topic was created with another number of partitions, which can never change, or when the store cannot be read.
    pub fn open(db: &Db, topics: &[(Topic, u32)], clock: impl Fn() -> u64 + Send + Sync + 'static) -> Result<Arc<Self>, Error> {
        let rows = db.keyspace(KEYSPACE).map_err(db_error)?;
        let numbers = topics::register(db, &rows, topics)?;
        let mut opened = HashMap::new();
        for ((topic, partitions), number) in topics.iter().zip(numbers) {
            let open = |partition| {
                let records = db.sequence(&format!("{KEYSPACE}.{number}.{partition}")).map_err(db_error)?;
                Ok(Arc::new(Partition::open(records)?))
            };
            let partitions: Result<_, _> = (0..*partitions).map(open).collect();
            opened.insert(*topic, partitions?);
        }
        let inner = Inner { db: db.clone(), clock: Box::new(clock), topics: opened, members: Mutex::default() };
        Ok(Arc::new(Self { inner: Arc::new(inner) }))
    }
}

#[async_trait]
impl EventLog for EmbeddedLog {
    fn partitions(&self, topic: Topic) -> u32 {
        self.inner.topics.get(&topic).map_or(0, |partitions| partitions.len() as u32)
    }

    fn generation(&self, _topic: Topic) -> u32 {
        GENERATION
    }

    async fn append(&self, to: TopicPartition, record: Record) -> Result<(), Error> {
        self.inner.db.ready().await;
        self.inner.enqueue([(to, record)])
    }

    fn producer(&self) -> Box<dyn Producer> {
        Box::new(EmbeddedProducer { log: self.inner.clone(), failed: Mutex::new(None) })
    }

    async fn reader(&self, from: TopicPartition, offset: Offset) -> Result<Box<dyn Reader>, Error> {
        Ok(Box::new(EmbeddedReader { partition: self.inner.partition(from)?.clone(), offset }))
    }

    async fn end(&self, of: TopicPartition) -> Result<Offset, Error> {
        Ok(self.inner.partition(of)?.end())
    }

    async fn offset_at(&self, of: TopicPartition, micros: u64) -> Result<Offset, Error> {
        self.inner.partition(of)?.offset_at(micros)
    }

    /// All partitions, at once and for as long as the process lives. A group has one member for a topic at a time: a second one is
    /// `Unavailable` until the first is dropped.
    async fn assignments(&self, group: &'static str, topic: Topic) -> Result<Box<dyn Assignments>, Error> {
        self.inner.partition(TopicPartition { topic, partition: 0 })?;
        let member = (group, topic);
        if !self.inner.members.lock().insert(member) {
            return Err(Error::Unavailable(format!("group {group} already has a member for topic {}", topic.0)));
        }
        Ok(Box::new(EmbeddedAssignments { log: self.inner.clone(), member, left: 0..self.partitions(topic) }))
    }

    async fn durable(&self) -> Result<(), Error> {
        self.inner.db.durable(self.inner.db.enqueued()).await.map_err(db_error)
    }

    fn working(&self) -> Box<dyn Send + Sync> {
        Box::new(self.inner.db.busy())
    }
}

impl Inner {
    fn partition(&self, of: TopicPartition) -> Result<&Arc<Partition>, Error> {
        let partitions = self.topics.get(&of.topic);
        partitions.and_then(|partitions| partitions.get(of.partition as usize)).ok_or(Error::UnknownPartition(of))
    }

    /// Queues all records or, when it fails with `TooLarge` or `UnknownPartition`, none.
    fn enqueue(&self, records: impl IntoIterator<Item = (TopicPartition, Record)>) -> Result<(), Error> {
        let mut unplaced: SmallVec<[_; 1]> = smallvec![];
        let mut grown: SmallVec<[&Partition; 1]> = smallvec![];
        for (to, record) in records {
            let partition = self.partition(to)?;
            unplaced.push((&**partition, Unplaced::new(&record)?));
            if !grown.iter().any(|known| std::ptr::eq(*known, &**partition)) {
                grown.push(partition);
            }
        }
        let now = (self.clock)();
        let (position, ()) = self.db.enqueue_with(|position, batch| {
            for (partition, record) in unplaced {
                partition.push(position, now, record, batch);
            }
        });
        for partition in grown {
            partition.pushed(&self.db);
        }
        self.db.is_visible(position).map(|_| ()).map_err(db_error)
    }
}

struct EmbeddedProducer {
    log: Arc<Inner>,
    failed: Mutex<Option<Error>>,
}

impl Producer for EmbeddedProducer {
    fn send(&self, records: Vec<(TopicPartition, Record)>) -> BoxFuture<'static, Result<(), Error>> {
        let mut failed = self.failed.lock();
        let outcome = match &*failed {
            Some(error) => Err(error.clone()),
            None => self.log.enqueue(records),
        };
        match outcome {
            Ok(()) => {
                let db = self.log.db.clone();
                async move {
                    // Whoever waits for the acknowledgement before it goes on is slowed down to what the disk takes.
                    db.ready().await;
                    Ok(())
                }
                .boxed()
            }
            Err(error) => {
                *failed = Some(error.clone());
                std::future::ready(Err(error)).boxed()
            }
        }
    }
}

struct EmbeddedReader {
    partition: Arc<Partition>,
    offset: Offset,
}

#[async_trait]
impl Reader for EmbeddedReader {
    async fn next(&mut self, max: usize) -> Result<Vec<Stored>, Error> {
        // A reader far behind must not keep a worker to itself.
        coop::consume_budget().await;
        loop {
            // Before looking, so that a push in between ends the wait.
            let grown = self.partition.grown();
            let records = self.partition.read(self.offset, max.max(1))?;
            if let Some(last) = records.last() {
                self.offset = last.offset + 1;
                return Ok(records);
            }
            grown.await;
        }
    }
}

struct EmbeddedAssignments {
    log: Arc<Inner>,
    member: (&'static str, Topic),
    left: Range<u32>,
}

#[async_trait]
impl Assignments for EmbeddedAssignments {
    async fn next(&mut self) -> Result<Assignment, Error> {
        match self.left.next() {
            Some(partition) => Ok(Assignment::Assigned(partition)),
            None => std::future::pending().await,
        }
    }
}

impl Drop for EmbeddedAssignments {
    fn drop(&mut self) {
        self.log.members.lock().remove(&self.member);
    }
}

fn db_error(error: plaza_embedded_db::Error) -> Error {
    let source = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
    let text = format!("{error}{source}");
    match error {
        plaza_embedded_db::Error::Engine(_) => Error::Unavailable(text),
        _ => Error::Fatal(text),
    }
}
