//! Deciding one record: for each of its keys by itself, in memory.

use std::panic::{AssertUnwindSafe, catch_unwind};

use plaza_event_log::Stored;
use plaza_telemetry::propagation;
use plaza_types::Reason;
use prost::Message as _;
use tracing::Span;

use crate::{
    Effects, Key, Machine, Outcome, Remembered, ReplyWhen, Timed,
    batch::Effected,
    decide::Decider,
    emit,
    item::Item,
    partition::{GivenUp, Partition},
    remembered::Known,
    trace,
    verdict::{self, Verdict},
};

impl<M: Machine> Decider<'_, M> {
    /// Rule 3: nothing is left to do for a record that all its keys have applied.
    pub(crate) fn is_applied(&mut self, item: &Item<M::Payload>) -> bool {
        let keys = if mistake!(FirstKeyDecides) { 1 } else { item.keys.len() };
        item.keys.iter().take(keys).all(|key| self.states.of(key).has_applied(item.position))
    }

    pub(crate) fn decide_item(&mut self, item: &Item<M::Payload>, effected: &mut Effected<M>) -> Result<(), GivenUp> {
        if self.is_applied(item) {
            effected.skipped += 1;
            for key in &item.keys {
                let state = &self.states.of(key).state;
                self.partition.machine.repeat(item.input(), key, state, &mut effected.announcements);
            }
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

    pub(crate) fn verdict(&mut self, item: &Item<M::Payload>) -> Verdict {
        let (Some(asked), Some(key)) = (item.asked, item.keys.first()) else { return Verdict::Apply };
        let known = self.states.of(key).ids.get(&asked).or(item.history.as_ref());
        verdict::on(&asked.1, item.envelope.fingerprint, item.envelope.deadline, item.time, known)
    }

    /// Decides the record for one of its keys. Tells whether that is to park it (rule 9): it panicked before, when it was first decided.
    pub(crate) fn apply(&mut self, item: &Item<M::Payload>, place: usize, key: &Key, effected: &mut Effected<M>) -> Result<bool, GivenUp> {
        let machine = &*self.partition.machine;
        let entry = self.states.of(key);
        if entry.has_applied(item.position) {
            machine.repeat(item.input(), key, &entry.state, &mut effected.announcements);
            return Ok(false);
        }
        let is_suspect = self.suspect == Some(item.position.offset);
        let before = is_suspect.then(|| entry.state.clone());
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
        if !(panicked && mistake!(ParkedWithoutState)) && entry.apply(item.position, item.time) {
            self.changed.push(key.clone());
        }
        entry.cold |= self.effects.cold;
        self.collect(item, place, effected);
        Ok(panicked)
    }

    /// Takes what followed from one record for one key.
    pub(crate) fn collect(&mut self, item: &Item<M::Payload>, place: usize, effected: &mut Effected<M>) {
        let effects = &mut self.effects;
        let time = item.time;
        let cold = std::mem::take(&mut effects.cold);
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
            && !(cold && mistake!(OnlySendsRemembered))
            && let Some((asked, id)) = item.asked.zip(item.id())
            && let Some((outcome, when)) = remembered.map(|outcome| (outcome, ReplyWhen::Written)).or_else(|| answered.clone())
        {
            let (fingerprint, position) = (item.envelope.fingerprint, item.position);
            let row = Remembered { id, position, fingerprint, outcome: outcome.encode_to_vec().into() };
            effected.remembered.push(Timed { time, row });
            let known = Known { fingerprint, outcome, when };
            self.states.of(&item.keys[0]).ids.add(asked, known, self.batch);
        }
        if let Some((outcome, when)) = answered {
            effected.reply(item.envelope.reply_to, outcome, when);
        }
    }

    /// Sets a record aside for the operators.
    pub(crate) fn park(&mut self, record: &Stored, effected: &mut Effected<M>) {
        let Partition { deps, number, parked, metrics, .. } = self.partition;
        metrics.parked();
        tracing::error!(machine = M::NAME, partition = number, offset = record.offset, "record parked");
        if let Some(to) = emit::parking(&*deps.log, *parked, *number) {
            effected.emissions.push((to, record.record.clone()));
        }
    }
}

/// What the caller of a parked record is told.
pub(crate) fn internal() -> Outcome {
    Outcome::refused(Reason::Internal, "", "the call cannot be decided; it was set aside for the operators")
}
