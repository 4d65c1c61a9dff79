//! What the product says of friendships, for one thing at a time: no messages, no owners, one clock.

use std::collections::{BTreeMap, BTreeSet};

use plaza_types::{Reason, UserId, limits::REQUEST_EXPIRY};

use super::world::Act;

type Pair = (UserId, UserId);

#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) lists: BTreeSet<Pair>,
    pub(super) blocks: BTreeSet<Pair>,
    /// Asker, asked: what the asker waits for.
    pub(super) sent: BTreeMap<Pair, u64>,
    /// Asked, asker: what the asked can answer.
    pub(super) received: BTreeMap<Pair, u64>,
    unanswered: BTreeMap<Pair, u32>,
}

impl Model {
    /// Does it and says why not.
    pub(super) fn act(&mut self, act: Act, a: UserId, b: UserId, now: u64) -> Option<Reason> {
        let open = |sent: Option<&u64>| sent.is_some_and(|sent| now < sent + REQUEST_EXPIRY);
        if a == b {
            return Some(Reason::Yourself);
        }
        match act {
            Act::Ask if self.lists.contains(&(a, b)) && self.lists.contains(&(b, a)) => return Some(Reason::AlreadyContact),
            Act::Ask => {
                let answers = open(self.received.get(&(a, b)));
                if !answers && self.unanswered.get(&(a, b)).is_some_and(|asked| *asked >= 3) {
                    return Some(Reason::QuotaExceeded);
                }
                self.sent.insert((a, b), now);
                *self.unanswered.entry((a, b)).or_default() += 1;
                if answers {
                    self.answer(a, b);
                } else if !self.blocks.contains(&(b, a)) {
                    if self.lists.contains(&(b, a)) {
                        self.list(a, b);
                    } else if open(self.sent.get(&(b, a))) {
                        self.list(b, a);
                        self.list(a, b);
                    } else {
                        self.received.insert((b, a), now);
                    }
                }
            }
            Act::Accept | Act::Ignore if !open(self.received.get(&(a, b))) => return Some(Reason::NotFound),
            Act::Accept => self.answer(a, b),
            Act::Ignore => {
                self.received.remove(&(a, b));
            }
            Act::Remove => {
                if !self.lists.remove(&(a, b)) {
                    return Some(Reason::NotFound);
                }
                self.sent.remove(&(a, b));
                self.unanswered.remove(&(a, b));
            }
            Act::Block => {
                self.blocks.insert((a, b));
                self.received.remove(&(a, b));
            }
            Act::Unblock => {
                self.blocks.remove(&(a, b));
            }
        }
        None
    }

    /// `a` agrees to what `b` asked. Had `b` taken it back by removing `a`, it is as if the removal came after the answer.
    fn answer(&mut self, a: UserId, b: UserId) {
        self.list(a, b);
        if self.sent.contains_key(&(b, a)) || self.lists.contains(&(b, a)) {
            self.list(b, a);
        }
    }

    fn list(&mut self, a: UserId, b: UserId) {
        // Whoever blocks somebody does not come to list them by what the other does; the asker of this moment is asked about nobody blocked.
        if self.blocks.contains(&(a, b)) {
            return;
        }
        self.lists.insert((a, b));
        self.received.remove(&(a, b));
        self.sent.remove(&(a, b));
        self.unanswered.remove(&(a, b));
    }
}
