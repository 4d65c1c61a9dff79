//! What one batch comes to, on its way from the decisions to the outside.

use futures::future::BoxFuture;
use plaza_event_log::{Error, Record, TopicPartition};

use crate::{Checkpoint, Machine, Outcome, Remembered, ReplyTo, ReplyWhen, StateWrite, Timed, delivery::Reply};

/// Everything that follows from a batch's records, in log order.
pub(crate) struct Effected<M: Machine> {
    pub(crate) emissions: Vec<(TopicPartition, Record)>,
    pub(crate) rows: Vec<Timed<M::Row>>,
    pub(crate) remembered: Vec<Timed<Remembered>>,
    pub(crate) when_decided: Vec<Reply>,
    pub(crate) when_written: Vec<Reply>,
    pub(crate) announcements: Vec<M::Announcement>,
    pub(crate) records: usize,
    pub(crate) applied: u64,
    pub(crate) skipped: u64,
    pub(crate) duplicates: u64,
}

impl<M: Machine> Default for Effected<M> {
    fn default() -> Self {
        Self {
            emissions: Vec::new(),
            rows: Vec::new(),
            remembered: Vec::new(),
            when_decided: Vec::new(),
            when_written: Vec::new(),
            announcements: Vec::new(),
            records: 0,
            applied: 0,
            skipped: 0,
            duplicates: 0,
        }
    }
}

impl<M: Machine> Effected<M> {
    pub(crate) fn reply(&mut self, to: Option<ReplyTo>, outcome: Outcome, when: ReplyWhen) {
        if let Some(to) = to {
            match when {
                ReplyWhen::Written if mistake!(ReplyBeforeWritten) => self.when_decided.push((to, outcome)),
                ReplyWhen::Decided => self.when_decided.push((to, outcome)),
                ReplyWhen::Written => self.when_written.push((to, outcome)),
            }
        }
    }
}

/// What is told as soon as a batch's records are durable.
pub(crate) struct Told<A> {
    pub(crate) batch: u64,
    pub(crate) replies: Vec<Reply>,
    pub(crate) announcements: Vec<A>,
}

/// What is written for a batch.
pub(crate) struct Work<R> {
    pub(crate) batch: u64,
    /// Resolves when the emissions that were queued at once are acknowledged; `None` without any.
    pub(crate) emitted: Option<BoxFuture<'static, Result<(), Error>>>,
    /// To be sent when the rows are written.
    pub(crate) after_rows: Vec<(TopicPartition, Record)>,
    pub(crate) rows: Vec<Timed<R>>,
    pub(crate) remembered: Vec<Timed<Remembered>>,
    /// As of the end of the batch; only now and then.
    pub(crate) states: Vec<StateWrite>,
    /// As of the end of the batch; only now and then.
    pub(crate) checkpoint: Option<Checkpoint>,
}

impl<R> Work<R> {
    /// Of a batch that changed nothing.
    pub(crate) fn empty(batch: u64) -> Self {
        Self {
            batch,
            emitted: None,
            after_rows: Vec::new(),
            rows: Vec::new(),
            remembered: Vec::new(),
            states: Vec::new(),
            checkpoint: None,
        }
    }
}
