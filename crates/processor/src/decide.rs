//! Deciding: batch after batch, each record in log order, in memory. Everything that follows is handed on as of the end of the batch.

use std::{
    collections::{HashSet, VecDeque},
    panic::{AssertUnwindSafe, catch_unwind},
};

use plaza_event_log::{Error, Producer, Reader, Stored};
use plaza_telemetry::propagation;
use plaza_types::Reason;
use prost::Message as _;
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tracing::Span;

use crate::{
    Checkpoint, Effects, Key, Machine, Outcome, Position, Remembered, ReplyWhen, StateWrite, Timed,
    batch::{Effected, Told, Work},
    emit,
    item::{self, Item, Read},
    marks::Marks,
    partition::{GivenUp, Partition},
    remembered::Known,
    retry::{Backoff, until_done},
    states::{Entry, States},
    trace,
    verdict::{self, Verdict},
    write_time::WriteTimes,
};

/// What an owner has in memory.
pub(crate) struct Decider<'a, M: Machine> {
    partition: &'a Partition<M>,
    reader: Box<dyn Reader>,
    producer: Box<dyn Producer>,
    out: Out<M>,
    /// A record that made `apply` panic: decided alone, and parked if it panics again.
    suspect: Option<u64>,
    /// Read and not yet decided.
    backlog: VecDeque<Stored>,
    next: Position,
    times: WriteTimes,
    marks: Marks,
    states: States<M::State>,
    /// Empty between any two calls of `apply`.
    effects: Effects<M>,
    /// The number of the batch, from 1.
    batch: u64,
    since_checkpoint: usize,
    last_checkpoint: Instant,
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
        reader: Box<dyn Reader>,
        suspect: Option<u64>,
        out: Out<M>,
    ) -> Self {
        Self {
            partition,
            reader,
            producer: partition.deps.log.producer(),
            out,
            suspect,
            backlog: VecDeque::new(),
            next: checkpoint.next,
            times: WriteTimes::after(checkpoint.last_time),
            marks: Marks::new(checkpoint.marks),
            states: States::new(partition.deps.config.states),
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
            let (told, work) = self.decide().await?;
            drop(working);
            self.hand_on(told, work).await;
            if alone {
                self.settled().await;
                self.suspect = None;
            }
        }
        self.batch += 1;
        let work = Work { checkpoint: Some(self.checkpoint()), ..Work::empty(self.batch) };
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
        let (mut items, records) = self.take(&mut effected)?;
        self.load_states(&items).await?;
        self.load_history(&mut items).await?;
        for item in &items {
            self.decide_item(item, &mut effected)?;
        }
        Ok(self.conclude(effected, records))
    }

    /// The next records, as far as one batch goes, and how many they were. Rule 7: every record takes its write time, also one that comes to
    /// nothing.
    fn take(&mut self, effected: &mut Effected<M>) -> Result<(Vec<Item<M::Payload>>, usize), GivenUp> {
        let config = &self.partition.deps.config;
        let (mut items, mut records, mut bytes) = (Vec::with_capacity(self.backlog.len()), 0, 0);
        while let Some(record) = self.backlog.front() {
            let alone = self.suspect == Some(record.offset);
            if records > 0 && (alone || records >= config.batch_records || bytes >= config.batch_bytes) {
                break;
            }
            let envelope = match item::envelope::<M>(record) {
                Ok(envelope) => envelope,
                Err(rules) if records == 0 => return Err(GivenUp::UnknownRules { rules, offset: record.offset }),
                Err(_) => break,
            };
            let Some(record) = self.backlog.pop_front() else { break };
            records += 1;
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
        Ok((items, records))
    }

    /// All states that are missing, in one concurrent read. The checkpoint was read before.
    async fn load_states(&mut self, items: &[Item<M::Payload>]) -> Result<(), GivenUp> {
        let mut seen = HashSet::new();
        let keys = items.iter().flat_map(|item| &item.keys);
        let missing: Vec<Key> = keys.filter(|key| !self.states.contains(key) && seen.insert(*key)).cloned().collect();
        if missing.is_empty() {
            return Ok(());
        }
        let deps = &self.partition.deps;
        let rows = until_done(&deps.config, "read states", || deps.store.states(M::NAME, &missing)).await;
        for (key, row) in missing.iter().zip(rows) {
            let entry = match row {
                Some(row) => Entry::loaded(self.partition.machine.decode(&row)?, &row),
                None => Entry::new(),
            };
            self.states.insert(key, entry);
        }
        Ok(())
    }

    /// What the store knows of the request ids that memory may have forgotten, in one concurrent read.
    async fn load_history(&mut self, items: &mut [Item<M::Payload>]) -> Result<(), GivenUp> {
        let (mut places, mut ids) = (Vec::new(), Vec::new());
        for (place, item) in items.iter().enumerate() {
            if let Some((asked, id)) = item.asked.zip(item.id())
                && self.states.of(&id.key).ids.must_look_up(&asked)
                && !self.is_applied(item)
            {
                places.push(place);
                ids.push(id);
            }
        }
        if ids.is_empty() {
            return Ok(());
        }
        let deps = &self.partition.deps;
        let rows = until_done(&deps.config, "read request ids", || deps.store.remembered(M::NAME, &ids)).await;
        for (place, row) in places.into_iter().zip(rows) {
            if let Some(row) = row {
                items[place].history = Known::from_history(row, items[place].position)?;
            }
        }
        Ok(())
    }

    /// Rule 3: nothing is left to do for a record that all its keys have applied.
    fn is_applied(&mut self, item: &Item<M::Payload>) -> bool {
        item.keys.iter().all(|key| self.states.of(key).has_applied(item.position))
    }

    fn decide_item(&mut self, item: &Item<M::Payload>, effected: &mut Effected<M>) -> Result<(), GivenUp> {
        if self.is_applied(item) {
            effected.skipped += 1;
            return Ok(());
        }
        effected.applied += 1;
        let span = trace::span::<M>(self.partition.number, &item.record.record);
        let _in_span = span.as_ref().map(Span::enter);
        if let Verdict::Told(outcome, when) = self.verdict(item) {
            effected.reply(item.envelope.reply_to, outcome, when);
            return Ok(());
        }
        let mut panicked = false;
        for (place, key) in item.keys.iter().enumerate() {
            panicked |= self.apply(item, place, key, effected)?;
        }
        if panicked {
            self.park(&item.record, effected);
        }
        Ok(())
    }

    fn verdict(&mut self, item: &Item<M::Payload>) -> Verdict {
        let (Some(asked), Some(key)) = (item.asked, item.keys.first()) else { return Verdict::Apply };
        let known = self.states.of(key).ids.get(&asked).or(item.history.as_ref());
        verdict::on(&asked.1, item.envelope.fingerprint, item.envelope.deadline, item.time, known)
    }

    /// Decides the record for one of its keys. Tells whether that is to park it (rule 9): it panicked before, when it was first decided.
    fn apply(&mut self, item: &Item<M::Payload>, place: usize, key: &Key, effected: &mut Effected<M>) -> Result<bool, GivenUp> {
        let entry = self.states.of(key);
        if entry.has_applied(item.position) {
            return Ok(false);
        }
        let is_suspect = self.suspect == Some(item.position.offset);
        let before = is_suspect.then(|| entry.state.clone());
        let machine = &*self.partition.machine;
        let apply = AssertUnwindSafe(|| machine.apply(item.input(), place, key, &mut entry.state, &mut self.effects));
        let panicked = catch_unwind(apply).is_err();
        if panicked {
            // Half changed: what is left of it must not be used.
            self.effects = Effects::default();
            entry.state = before.ok_or(GivenUp::Panicked { offset: item.position.offset })?;
            if place == 0 {
                effected.reply(item.envelope.reply_to, internal(), ReplyWhen::Written);
            }
        }
        if entry.apply(item.position, item.time, self.batch) {
            effected.changed.push(key.clone());
        }
        entry.cold |= self.effects.cold;
        self.collect(item, place, effected);
        Ok(panicked)
    }

    /// Takes what followed from one record for one key.
    fn collect(&mut self, item: &Item<M::Payload>, place: usize, effected: &mut Effected<M>) {
        let effects = &mut self.effects;
        let time = item.time;
        effects.cold = false;
        effected.rows.extend(effects.rows.drain(..).map(|row| Timed { time, row }));
        effected.announcements.append(&mut effects.announcements);
        let log = &*self.partition.deps.log;
        let traceparent = if effects.emissions.is_empty() { None } else { propagation::current_traceparent() };
        for (nth, emission) in (0..).zip(effects.emissions.drain(..)) {
            let place = u32::try_from(place).unwrap_or(u32::MAX);
            effected.emissions.push(emit::wrap::<M>(log, self.partition.number, item, (place, nth), emission, traceparent.as_ref()));
        }
        let answered = effects.outcome.take();
        let remembered = effects.remembered_outcome.take();
        if place == 0
            && let Some((asked, id)) = item.asked.zip(item.id())
            && let Some((outcome, when)) = remembered.map(|outcome| (outcome, ReplyWhen::Written)).or_else(|| answered.clone())
        {
            let (fingerprint, position) = (item.envelope.fingerprint, item.position);
            let row = Remembered { id, position, fingerprint, outcome: outcome.encode_to_vec().into() };
            effected.remembered.push(Timed { time, row });
            let written = *self.out.written.borrow();
            let known = Known { fingerprint, outcome, when };
            self.states.of(&item.keys[0]).ids.add(asked, known, self.batch, written, self.partition.deps.config.remembered);
        }
        if let Some((outcome, when)) = answered {
            effected.reply(item.envelope.reply_to, outcome, when);
        }
    }

    /// Sets a record aside for the operators.
    fn park(&mut self, record: &Stored, effected: &mut Effected<M>) {
        let Partition { deps, number, parked, metrics, .. } = self.partition;
        metrics.parked();
        tracing::error!(machine = M::NAME, partition = number, offset = record.offset, "record parked");
        if let Some(to) = emit::parking(&*deps.log, *parked, *number) {
            effected.emissions.push((to, record.record.clone()));
        }
    }

    /// The end of the batch: what is handed on is as of now. Emissions are queued in log order.
    fn conclude(&mut self, effected: Effected<M>, records: usize) -> (Option<Told<M::Announcement>>, Work<M::Row>) {
        let batch = self.batch;
        let metrics = &self.partition.metrics;
        metrics.batch(records);
        metrics.applied(effected.applied);
        metrics.skipped(effected.skipped);
        metrics.duplicates(effected.duplicates);
        self.partition.progress.is_at(self.next.offset, self.backlog.front().map(|record| record.appended));
        let emitted = (!effected.emissions.is_empty()).then(|| self.producer.send(effected.emissions));
        let states = effected.changed.into_iter().map(|key| self.state_write(key)).collect();
        let written = *self.out.written.borrow();
        self.states.evict(written);
        self.since_checkpoint += records;
        let config = &self.partition.deps.config;
        let due = self.since_checkpoint >= config.checkpoint_records || self.last_checkpoint.elapsed() >= config.checkpoint_every;
        let checkpoint = due.then(|| self.checkpoint());
        let (replies, announcements) = (effected.when_decided, effected.announcements);
        let tells = !(replies.is_empty() && announcements.is_empty() && effected.when_written.is_empty());
        if !effected.when_written.is_empty() {
            self.partition.when_written.add(batch, effected.when_written);
        }
        let work = Work { batch, emitted, rows: effected.rows, remembered: effected.remembered, states, checkpoint };
        (tells.then_some(Told { batch, replies, announcements }), work)
    }

    fn state_write(&mut self, key: Key) -> StateWrite {
        let entry = self.states.of(&key);
        let (hot, cold) = self.partition.machine.encode(&entry.state, std::mem::take(&mut entry.cold));
        let row = entry.row(hot);
        StateWrite { key, time: row.applied_time, row, cold }
    }

    fn checkpoint(&mut self) -> Checkpoint {
        self.since_checkpoint = 0;
        self.last_checkpoint = Instant::now();
        Checkpoint { next: self.next, last_time: self.times.last(), marks: self.marks.copy() }
    }
}

fn internal() -> Outcome {
    Outcome::refused(Reason::Internal, "", "the call cannot be decided; it was set aside for the operators")
}
