//! Replies that wait for two things: that their batch's records are durable, and that its rows and states are written.

use std::collections::VecDeque;

use parking_lot::Mutex;

use crate::{Outcome, Replies, ReplyTo};

/// Whom to tell what.
pub(crate) type Reply = (ReplyTo, Outcome);

/// The replies of batches that are not yet both. Batches get there in order, each way.
#[derive(Debug, Default)]
pub(crate) struct WhenWritten(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    durable: u64,
    written: u64,
    batches: VecDeque<(u64, Vec<Reply>)>,
}

impl WhenWritten {
    /// To be given when `batch` is durable and written.
    pub(crate) fn add(&self, batch: u64, replies: Vec<Reply>) {
        self.0.lock().batches.push_back((batch, replies));
    }

    pub(crate) fn durable(&self, batch: u64, to: &Replies) {
        self.reached(to, |waiting| waiting.durable = batch);
    }

    pub(crate) fn written(&self, batch: u64, to: &Replies) {
        self.reached(to, |waiting| waiting.written = batch);
    }

    fn reached(&self, to: &Replies, change: impl FnOnce(&mut Waiting)) {
        let mut waiting = self.0.lock();
        change(&mut waiting);
        let both = waiting.durable.min(waiting.written);
        while waiting.batches.front().is_some_and(|(batch, _)| *batch <= both) {
            let (_, replies) = waiting.batches.pop_front().unwrap_or_default();
            for (address, outcome) in replies {
                to.deliver(address, outcome);
            }
        }
    }
}
