//! Deciding: batch after batch, each record in log order, in memory. Everything that follows is handed on as of the end of the batch.

use std::{collections::VecDeque, sync::Arc};

use plaza_event_log::{Error, Producer, Reader, Stored};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    Checkpoint, Effects, Key, Machine, Position, ReplyWhen, StateWrite,
    apply::internal,
    batch::{Effected, Told, Work},
    item::{self, Item, Read},
    marks::Marks,
    partition::{GivenUp, Partition},
    retry::Backoff,
    states::States,
    write_time::WriteTimes,
};

/// What an owner has in memory.
pub(crate) struct Decider<'a, M: Machine> {
    pub(crate) partition: &'a Partition<M>,
    pub(crate) reader: Box<dyn Reader>,
    pub(crate) producer: Arc<dyn Producer>,
    pub(crate) out: Out<M>,
    /// A record that made `apply` panic: decided alone, and parked if it panics again.
    pub(crate) suspect: Option<u64>,
    /// Read and not yet decided.
    pub(crate) backlog: VecDeque<Stored>,
    pub(crate) next: Position,
    pub(crate) times: WriteTimes,
    pub(crate) marks: Marks,
    pub(crate) states: States<M::State>,
    /// The keys whose states changed since states were last handed on, each once.
    pub(crate) changed: Vec<Key>,
    /// Empty between any two calls of `apply`.
    pub(crate) effects: Effects<M>,
    /// The number of the batch, from 1.
    pub(crate) batch: u64,
    pub(crate) since_checkpoint: usize,
    pub(crate) last_checkpoint: Instant,
}

/// Where decided batches go, and how far they have come.
pub(crate) struct Out<M: Machine> {
    pub(crate) tell: mpsc::Sender<Told<M::Announcement>>,
    pub(crate) write: mpsc::Sender<Work<M::Row>>,
    /// The last batch that is written whole.
    pub(crate) written: watch::Receiver<u64>,
}

impl<'a, M: Machine> Decider<'a, M> {
    /// Begins at a checkpoint.
    pub(crate) fn new(
        partition: &'a Partition<M>,
        checkpoint: Checkpoint,
        (reader, producer): (Box<dyn Reader>, Arc<dyn Producer>),
        suspect: Option<u64>,
        out: Out<M>,
    ) -> Self {
        Self {
            partition,
            reader,
            producer,
            out,
            suspect,
            backlog: VecDeque::new(),
            next: checkpoint.next,
            times: WriteTimes::after(if mistake!(WriteTimeNotRestored) { 0 } else { checkpoint.last_time }),
            marks: Marks::new(checkpoint.marks),
            states: initial_states(partition),
            changed: Vec::new(),
            effects: Effects::default(),
            batch: 0,
            since_checkpoint: 0,
            last_checkpoint: Instant::now(),
        }
    }

    /// Until `stop`; then the last checkpoint.
    pub(crate) async fn run(mut self, stop: &CancellationToken) -> Result<(), GivenUp> {
        let deps = &self.partition.deps;
        while !stop.is_cancelled() {
            if self.backlog.is_empty() {
                let Some(records) = stop.run_until_cancelled(self.read()).await else { break };
                self.backlog.extend(records?);
                self.partition.progress.is_at(self.next.offset, self.backlog.front().map(|record| record.appended));
            }
            deps.supervisor.check_awake();
            let alone = self.suspect.is_some() && self.suspect == self.backlog.front().map(|record| record.offset);
            if alone {
                self.settled().await;
            }
            // Making the records durable can wait a moment for what follows from them.
            let working = deps.log.working();
            let decided = self.decide().await;
            drop(working);
            let (told, work) = match decided {
                Ok(decided) => decided,
                Err(error) => {
                    // What was decided before stands.
                    self.batch -= 1;
                    self.settled().await;
                    return Err(error);
                }
            };
            self.hand_on(told, work).await;
            if alone {
                self.settled().await;
                self.suspect = None;
            }
        }
        self.batch += 1;
        let work = Work { states: self.state_writes(), checkpoint: Some(self.checkpoint()), ..Work::empty(self.batch) };
        self.hand_on(None, work).await;
        Ok(())
    }

    async fn read(&mut self) -> Result<Vec<Stored>, GivenUp> {
        let config = &self.partition.deps.config;
        let mut backoff = Backoff::new(config);
        loop {
            match self.reader.next(config.batch_records).await {
                Ok(records) => return Ok(records),
                Err(Error::Unavailable(reason)) => {
                    if backoff.is_news() {
                        tracing::warn!(machine = M::NAME, partition = self.partition.number, reason, "reading again");
                    }
                    backoff.wait().await;
                }
                Err(error) => return Err(GivenUp::Log(error)),
            }
        }
    }

    /// The queues are bounded, so this waits while the batches before are not written. They are closed only when the owner ends.
    async fn hand_on(&mut self, told: Option<Told<M::Announcement>>, work: Work<M::Row>) {
        if let Some(told) = told {
            _ = self.out.tell.send(told).await;
        }
        _ = self.out.write.send(work).await;
    }

    /// Waits until everything decided is written.
    async fn settled(&mut self) {
        let batch = self.batch;
        _ = self.out.written.wait_for(|written| *written >= batch).await;
    }

    async fn decide(&mut self) -> Result<(Option<Told<M::Announcement>>, Work<M::Row>), GivenUp> {
        self.batch += 1;
        let mut effected = Effected::default();
        let before = mistake!(WriteTimeOnlyOnApplied).then(|| self.times.clone());
        let mut items = self.take(&mut effected)?;
        self.load_states(&items).await?;
        self.load_history(&mut items).await?;
        if let Some(before) = before {
            self.times = before;
            for item in &mut items {
                if !self.is_applied(item) {
                    item.time = self.times.next(item.record.appended, item.envelope.time);
                }
            }
        }
        for item in &items {
            self.decide_item(item, &mut effected)?;
        }
        Ok(self.conclude(effected))
    }

    /// The next records, as far as one batch goes. Rule 7: every record takes its write time, also one that comes to nothing.
    fn take(&mut self, effected: &mut Effected<M>) -> Result<Vec<Item<M::Payload>>, GivenUp> {
        let config = &self.partition.deps.config;
        let (mut items, mut bytes) = (Vec::with_capacity(self.backlog.len()), 0);
        while let Some(record) = self.backlog.front() {
            let alone = self.suspect == Some(record.offset);
            let records = effected.records;
            if records > 0 && (alone || records >= config.batch_records || bytes >= config.batch_bytes) {
                break;
            }
            let envelope = match item::envelope::<M>(record) {
                Ok(envelope) => envelope,
                Err(rules) if records == 0 => return Err(GivenUp::UnknownRules { rules, offset: record.offset }),
                Err(_) => break,
            };
            let Some(mut record) = self.backlog.pop_front() else { break };
            if mistake!(WriteTimeByWallClock) {
                record.appended = config.clock.now_micros();
            }
            effected.records += 1;
            bytes += record.record.value.len();
            self.next.offset = record.offset + 1;
            match item::read(&*self.partition.machine, record, envelope, self.next.generation, &mut self.times, &mut self.marks) {
                Read::Item(item) => items.push(item),
                Read::Duplicate => effected.duplicates += 1,
                Read::Undecodable(record, reply_to) => {
                    self.park(&record, effected);
                    effected.reply(reply_to, internal(), ReplyWhen::Written);
                }
            }
            if alone {
                break;
            }
        }
        Ok(items)
    }

    /// The end of the batch: what is handed on is as of now. Emissions are queued in log order.
    fn conclude(&mut self, mut effected: Effected<M>) -> (Option<Told<M::Announcement>>, Work<M::Row>) {
        if mistake!(EmissionsNotInLogOrder) {
            effected.emissions.reverse();
        }
        if mistake!(OneWriteTimePerBatch) {
            let last = self.times.last();
            effected.rows.iter_mut().for_each(|row| row.time = last);
        }
        let batch = self.batch;
        let metrics = &self.partition.metrics;
        metrics.batch(effected.records);
        metrics.applied(effected.applied);
        metrics.skipped(effected.skipped);
        metrics.duplicates(effected.duplicates);
        self.partition.progress.is_at(self.next.offset, self.backlog.front().map(|record| record.appended));
        // A topic's emissions are all of one kind, so they keep their order.
        let machine = &self.partition.machine;
        let after_rows = effected.emissions.extract_if(.., |(to, _)| machine.after_rows(to.topic)).collect();
        let emitted = (!effected.emissions.is_empty()).then(|| self.producer.send(effected.emissions));
        self.since_checkpoint += effected.records;
        let (states, checkpoint) =
            if self.is_checkpoint_due() { (self.state_writes(), Some(self.checkpoint())) } else { (Vec::new(), None) };
        self.states.evict(*self.out.written.borrow());
        #[cfg(feature = "mistakes")]
        crate::mistakes::note_live(
            std::ptr::from_ref(self.partition).addr(),
            Checkpoint { next: self.next, last_time: self.times.last(), marks: self.marks.copy() },
        );
        let (replies, announcements) = (effected.when_decided, effected.announcements);
        let tells = !(replies.is_empty() && announcements.is_empty() && effected.when_written.is_empty());
        if !effected.when_written.is_empty() {
            self.partition.when_written.add(batch, effected.when_written);
        }
        let work = Work { batch, emitted, after_rows, rows: effected.rows, remembered: effected.remembered, states, checkpoint };
        (tells.then_some(Told { batch, replies, announcements }), work)
    }

    fn is_checkpoint_due(&self) -> bool {
        let config = &self.partition.deps.config;
        // Without its states the record that was set aside would panic again when the next one that panics is.
        let was_suspect = self.suspect.is_some_and(|suspect| suspect + 1 == self.next.offset);
        was_suspect
            || self.since_checkpoint.max(self.changed.len()) >= config.checkpoint_records
            || self.last_checkpoint.elapsed() >= config.checkpoint_every
    }

    /// All changed states. Only a checkpoint needs them: what is above it is applied again from the states before it. A busy key's state is so
    /// written once for hundreds of records.
    fn state_writes(&mut self) -> Vec<StateWrite> {
        let written = *self.out.written.borrow();
        let keys = std::mem::take(&mut self.changed);
        keys.into_iter().map(|key| self.state_write(key, written)).collect()
    }

    fn state_write(&mut self, key: Key, written: u64) -> StateWrite {
        let entry = self.states.of(&key);
        entry.ids.forget(written, self.partition.deps.config.remembered);
        let (hot, cold) = self.partition.machine.encode(&entry.state, std::mem::take(&mut entry.cold));
        let row = entry.row(hot, self.batch);
        #[cfg(feature = "mistakes")]
        let cold = crate::mistakes::cold(self.partition, &key, cold);
        StateWrite { key, time: row.applied_time, row, cold }
    }

    fn checkpoint(&mut self) -> Checkpoint {
        self.since_checkpoint = 0;
        self.last_checkpoint = Instant::now();
        Checkpoint { next: self.next, last_time: self.times.last(), marks: self.marks.copy() }
    }
}

/// Rule 5: nothing survives from before.
#[cfg(not(feature = "mistakes"))]
fn initial_states<M: Machine>(partition: &Partition<M>) -> States<M::State> {
    States::new(partition.deps.config.states)
}

#[cfg(feature = "mistakes")]
fn initial_states<M: Machine>(partition: &Partition<M>) -> States<M::State> {
    crate::mistakes::kept(M::NAME, partition.number).unwrap_or_else(|| States::new(partition.deps.config.states))
}

#[cfg(feature = "mistakes")]
impl<M: Machine> Drop for Decider<'_, M> {
    fn drop(&mut self) {
        let states = std::mem::replace(&mut self.states, States::new(0));
        crate::mistakes::keep(M::NAME, self.partition.number, states);
    }
}
