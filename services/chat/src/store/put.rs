//! What the rows of one write have in common for every store: a busy conversation's rows come many times in it, and only the newest of each counts.

use foldhash::{HashMap, HashMapExt as _, HashSet};
use plaza_types::{ConversationId, UserId};

/// A row that is written again and again; the last write wins.
#[derive(PartialEq, Eq, Hash)]
pub(super) enum Rewritten {
    Sent(ConversationId, UserId),
    Head(ConversationId),
    InboxHead(UserId),
    Membership(UserId, ConversationId),
    Reading(UserId, ConversationId),
    Deleter(UserId),
}

/// What is going to be written already, newest first.
pub(super) struct Put {
    /// As of when.
    rewritten: HashMap<Rewritten, u64>,
    /// Messages whose content must not come back.
    recalled: HashSet<(ConversationId, u64)>,
}

impl Put {
    /// For so many rows.
    pub(super) fn of(rows: usize) -> Self {
        Self { rewritten: HashMap::with_capacity(rows), recalled: HashSet::default() }
    }

    /// Whether there is a later write of the row; if not, it is going to have this one.
    pub(super) fn is_superseded(&mut self, name: Rewritten, time: u64) -> bool {
        let latest = self.rewritten.entry(name).or_insert(time);
        let superseded = *latest > time;
        *latest = time.max(*latest);
        superseded
    }

    /// Notes a message that was taken back.
    pub(super) fn recall(&mut self, conversation: ConversationId, sequence: u64) {
        self.recalled.insert((conversation, sequence));
    }

    pub(super) fn is_recalled(&self, conversation: ConversationId, sequence: u64) -> bool {
        !self.recalled.is_empty() && self.recalled.contains(&(conversation, sequence))
    }
}
