//! A simulated log that does everything its contract allows: gaps between offsets, clocks that go back, appends that fail before or after,
//! arrive late or twice, producers that are slow or break, readers that see little at a time.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use plaza_event_log::{Assignments, Error, EventLog, Offset, Producer, Reader, Record, Stored, Topic, TopicPartition};
use plaza_processor::Envelope;
use plaza_runtime::Stage;
use prost::Message;
use tokio::sync::{Notify, oneshot};

use crate::{
    machines::{CHAT, INBOX},
    world::World,
};

pub(crate) const PARTITIONS: u32 = 2;
pub(crate) const PARKED: [Topic; 2] = [Topic("chat.dead"), Topic("inbox.dead")];

/// All partitions with a record.
#[derive(Default)]
pub(crate) struct Logs {
    partitions: BTreeMap<TopicPartition, Vec<Stored>>,
    /// How far each broker's clock is off, microseconds.
    skew: BTreeMap<TopicPartition, i64>,
    grown: Arc<Notify>,
    /// Up to where each partition survives a power loss.
    durable: BTreeMap<TopicPartition, Offset>,
    /// Where the records with a reply address are.
    asked: BTreeMap<u64, Vec<(TopicPartition, Offset)>>,
}

impl Logs {
    pub(crate) fn records(&self, of: TopicPartition) -> &[Stored] {
        self.partitions.get(&of).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn end(&self, of: TopicPartition) -> Offset {
        self.records(of).last().map_or(0, |record| record.offset + 1)
    }

    /// Whether a record with this reply address would survive a power loss now.
    pub(crate) fn is_durable(&self, call: u64) -> bool {
        let places = self.asked.get(&call).map_or(&[][..], Vec::as_slice);
        places.iter().any(|(of, offset)| self.durable.get(of).is_some_and(|durable| offset < durable))
    }

    pub(crate) fn skew(&mut self, of: TopicPartition, by: i64) {
        self.skew.insert(of, by);
    }
}

/// The log as one process sees it.
pub(crate) struct Log {
    pub(crate) world: Arc<World>,
    /// The process is gone, and what its producers had not sent with it.
    pub(crate) cut: Arc<AtomicBool>,
}

impl Log {
    pub(crate) fn new(world: &Arc<World>) -> Self {
        Self { world: Arc::clone(world), cut: Arc::default() }
    }
}

fn push(world: &World, to: TopicPartition, record: Record) {
    let now = world.now();
    let mut logs = world.logs.lock();
    let offset = logs.end(to) + if world.dice.happens(200) { world.dice.below(4) as u64 } else { 0 };
    let appended = now.saturating_add_signed(logs.skew.get(&to).copied().unwrap_or(0));
    world.say(|| format!("append {to} at {offset}"));
    if let Some(address) = Envelope::decode(record.value.clone()).ok().and_then(|envelope| envelope.reply_to) {
        logs.asked.entry(address.call).or_default().push((to, offset));
    }
    logs.partitions.entry(to).or_default().push(Stored { offset, appended, record });
    logs.grown.notify_waiters();
}

/// The same record once more, much later.
fn push_late(world: &Arc<World>, to: TopicPartition, record: Record) {
    let late = Arc::clone(world);
    world.supervisor.spawn("late append", Stage::Producers, async move {
        tokio::time::sleep(late.dice.millis(400)).await;
        push(&late, to, record);
        Ok(())
    });
}

fn unavailable() -> Error {
    Error::Unavailable("simulated".to_owned())
}

#[async_trait]
impl EventLog for Log {
    fn partitions(&self, topic: Topic) -> u32 {
        if [CHAT, INBOX].contains(&topic) || PARKED.contains(&topic) { PARTITIONS } else { 0 }
    }

    fn generation(&self, _: Topic) -> u32 {
        1
    }

    async fn append(&self, to: TopicPartition, record: Record) -> Result<(), Error> {
        let world = &self.world;
        world.delay(3).await;
        if world.fails(world.odds.append_fails) {
            return Err(unavailable());
        }
        // Of two equal records nothing would tell which one was parked.
        let repeats = if world.odds.poison { 0 } else { world.odds.append_fails };
        if world.fails(repeats) {
            push_late(world, to, record.clone());
        }
        if world.fails(repeats) {
            push(world, to, record.clone());
        }
        push(world, to, record);
        if world.fails(world.odds.append_fails) { Err(unavailable()) } else { Ok(()) }
    }

    fn producer(&self) -> Box<dyn Producer> {
        let turn = Arc::default();
        Box::new(Sender { world: Arc::clone(&self.world), cut: Arc::clone(&self.cut), turn, broken: Arc::default() })
    }

    async fn reader(&self, from: TopicPartition, offset: Offset) -> Result<Box<dyn Reader>, Error> {
        let world = &self.world;
        world.delay(3).await;
        if world.fails(world.odds.read_fails) {
            return Err(unavailable());
        }
        Ok(Box::new(Tail { world: Arc::clone(world), of: from, offset }))
    }

    async fn end(&self, of: TopicPartition) -> Result<Offset, Error> {
        Ok(self.world.logs.lock().end(of))
    }

    async fn offset_at(&self, of: TopicPartition, micros: u64) -> Result<Offset, Error> {
        let logs = self.world.logs.lock();
        let found = logs.records(of).iter().find(|record| record.appended >= micros);
        Ok(found.map_or_else(|| logs.end(of), |record| record.offset))
    }

    async fn assignments(&self, _: &'static str, _: Topic) -> Result<Box<dyn Assignments>, Error> {
        Err(Error::Fatal("partitions are given by the schedule".to_owned()))
    }

    async fn durable(&self) -> Result<(), Error> {
        let ends = {
            let logs = self.world.logs.lock();
            logs.partitions.keys().map(|of| (*of, logs.end(*of))).collect::<Vec<_>>()
        };
        self.world.delay(4).await;
        let durable = &mut self.world.logs.lock().durable;
        for (of, end) in ends {
            let known = durable.entry(of).or_default();
            *known = end.max(*known);
        }
        Ok(())
    }
}

/// One owner's producer.
struct Sender {
    world: Arc<World>,
    cut: Arc<AtomicBool>,
    /// Held by who sends; given in the order of asking.
    turn: Arc<tokio::sync::Mutex<()>>,
    broken: Arc<Mutex<bool>>,
}

impl Producer for Sender {
    fn send(&self, records: Vec<(TopicPartition, Record)>) -> BoxFuture<'static, Result<(), Error>> {
        let (acknowledge, acknowledged) = oneshot::channel();
        let (world, cut, turn, broken) = (Arc::clone(&self.world), Arc::clone(&self.cut), Arc::clone(&self.turn), Arc::clone(&self.broken));
        self.world.supervisor.spawn("producer", Stage::Producers, async move {
            let _turn = turn.lock().await;
            for (to, record) in records {
                world.delay(if world.fails(1000) { world.odds.producer_lag } else { 1 }).await;
                if cut.load(Ordering::Relaxed) || *broken.lock() {
                    break;
                }
                #[cfg(feature = "mistakes")]
                if plaza_processor::mistakes::is_planted(plaza_processor::mistakes::Mistake::ProducerTimesOut) && world.fails(100) {
                    push_late(&world, to, record);
                    continue;
                }
                if world.fails(world.odds.producer_fails) {
                    *broken.lock() = true;
                    if world.dice.happens(500) {
                        push(&world, to, record);
                    }
                    break;
                }
                push(&world, to, record);
            }
            if !*broken.lock() && !cut.load(Ordering::Relaxed) {
                // The owner may be gone.
                _ = acknowledge.send(());
            }
            Ok(())
        });
        Box::pin(async move { acknowledged.await.map_err(|_| Error::Fatal("simulated producer failure".to_owned())) })
    }
}

/// Reads one partition.
struct Tail {
    world: Arc<World>,
    of: TopicPartition,
    offset: Offset,
}

#[async_trait]
impl Reader for Tail {
    async fn next(&mut self, max: usize) -> Result<Vec<Stored>, Error> {
        let world = Arc::clone(&self.world);
        loop {
            let grown = Arc::clone(&world.logs.lock().grown);
            let more = grown.notified();
            if world.fails(world.odds.read_fails) {
                return Err(unavailable());
            }
            let records: Vec<_> = {
                let logs = world.logs.lock();
                let records = logs.records(self.of);
                let from = records.partition_point(|record| record.offset < self.offset);
                let few = 1 + world.dice.below(max);
                records[from..].iter().take(few).cloned().collect()
            };
            if let Some(last) = records.last() {
                self.offset = last.offset + 1;
                return Ok(records);
            }
            more.await;
        }
    }
}
