//! What a user keeps about a conversation: how far it is read, which of the later messages are the user's own, and settings.

use bytes::Bytes;
use plaza_proto::chat::v1::ConversationChanged;
use plaza_topics::inbox::{Opened, Update};
use plaza_types::ConversationId;

/// Stretches of own messages kept above the read position. When there are more, the oldest counts as read, and all before it.
pub(super) const RUNS: usize = 512;

/// How far a user has read. Unread messages are those above `read` that are not the user's own.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Reading {
    /// Up to where.
    #[prost(uint64, tag = "1")]
    pub read: u64,
    /// The user's own messages above that, in order, at most 512 stretches.
    #[prost(message, repeated, tag = "2")]
    pub runs: Vec<Run>,
    /// The newest message that calls the user; 0 for none.
    #[prost(uint64, tag = "3")]
    pub called: u64,
}

/// Messages of one sender without another's between them.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Run {
    /// The first.
    #[prost(uint64, tag = "1")]
    pub first: u64,
    /// The last.
    #[prost(uint64, tag = "2")]
    pub last: u64,
}

/// That and how a user is in a conversation.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Membership {
    /// The other person of a direct conversation, 16 bytes; empty for a group.
    #[prost(bytes = "bytes", tag = "1")]
    pub peer: Bytes,
    /// Messages up to this sequence are before the user's time.
    #[prost(uint64, tag = "2")]
    pub joined_at: u64,
    /// When the user came in, microseconds; 0 for never.
    #[prost(uint64, tag = "3")]
    pub since: u64,
    /// Pinned in the list.
    #[prost(bool, tag = "4")]
    pub pinned: bool,
    /// Muted.
    #[prost(bool, tag = "5")]
    pub muted: bool,
    /// Hidden from the list as long as this is the newest sequence: so that the next message shows it again without a write for each member.
    #[prost(uint64, optional, tag = "6")]
    pub hidden_at: Option<u64>,
    /// What the user has begun to write.
    #[prost(string, tag = "7")]
    pub draft: String,
    /// Messages above this sequence are after the user's time; `None` while the user is in.
    #[prost(uint64, optional, tag = "8")]
    pub left_at: Option<u64>,
    /// When that was, microseconds.
    #[prost(uint64, tag = "9")]
    pub left: u64,
    /// Left by themself: the conversation is not listed any more.
    #[prost(bool, tag = "10")]
    pub gone: bool,
    /// The title of the group when the user left.
    #[prost(string, tag = "11")]
    pub title: String,
}

impl Reading {
    /// How many places above the read position are not taken by the user's own messages, when the newest one is `head`.
    #[must_use]
    pub fn unread(&self, head: u64) -> u64 {
        let own = |run: &Run| (run.last.min(head) + 1).saturating_sub(run.first.max(self.read + 1));
        head.saturating_sub(self.read).saturating_sub(self.runs.iter().map(own).sum())
    }

    /// Whether the user is called above the read position.
    #[must_use]
    pub fn mentioned(&self) -> bool {
        self.called > self.read
    }

    /// The newest message known to need no counting: read, or the user's own.
    #[must_use]
    pub fn counted(&self) -> u64 {
        self.runs.last().map_or(self.read, |run| run.last)
    }

    /// Moves the read position forward, never back; false when it stays.
    pub(super) fn move_to(&mut self, sequence: u64) -> bool {
        if sequence <= self.read {
            return false;
        }
        self.read = sequence;
        self.runs.retain_mut(|run| {
            run.first = run.first.max(sequence + 1);
            run.first <= run.last
        });
        true
    }

    /// The user sent this one.
    pub(super) fn sent(&mut self, sequence: u64) {
        if sequence <= self.counted() {
            return;
        }
        match self.runs.last_mut() {
            Some(run) if run.last + 1 == sequence => run.last = sequence,
            _ => self.runs.push(Run { first: sequence, last: sequence }),
        }
        if self.runs.len() > RUNS {
            self.move_to(self.runs[0].last);
        }
    }

    /// This one calls the user.
    pub(super) fn called(&mut self, sequence: u64) {
        self.called = self.called.max(sequence);
    }
}

impl Membership {
    /// Whether the user is in, or was.
    pub(super) fn known(&self) -> bool {
        self.since != 0
    }

    /// Whether the conversation is hidden from the list, when its newest message is `head`.
    #[must_use]
    pub fn hidden(&self, head: u64) -> bool {
        self.hidden_at.is_some_and(|at| head <= at)
    }

    /// The user comes in, or in again: settings stay.
    pub(super) fn open(&mut self, opened: &Opened, time: u64) {
        self.peer = Bytes::copy_from_slice(&opened.peer);
        self.joined(opened.joined_at, time);
    }

    /// The user's time begins after this sequence, whatever was before.
    pub(super) fn joined(&mut self, joined_at: u64, time: u64) {
        (self.joined_at, self.since) = (joined_at, time);
        (self.left_at, self.left, self.gone) = (None, 0, false);
        self.title.clear();
    }

    /// The user's time ends with this sequence.
    pub(super) fn leave(&mut self, sequence: u64, time: u64, gone: bool, title: &str) {
        (self.left_at, self.left, self.gone) = (Some(sequence), time, gone);
        title.clone_into(&mut self.title);
    }

    /// The newest sequence of the user's time, when the conversation's is `head`.
    #[must_use]
    pub fn last(&self, head: u64) -> u64 {
        self.left_at.map_or(head, |left_at| left_at.min(head))
    }

    /// Whether a sequence belongs to the user's time.
    #[must_use]
    pub fn covers(&self, sequence: u64) -> bool {
        sequence > self.joined_at && self.left_at.is_none_or(|left_at| sequence <= left_at)
    }

    /// Takes what is named; false when nothing changes.
    pub(super) fn update(&mut self, update: &Update) -> bool {
        let before = self.clone();
        self.pinned = update.pinned.unwrap_or(self.pinned);
        self.muted = update.muted.unwrap_or(self.muted);
        if let Some(hidden) = update.hidden {
            self.hidden_at = hidden.then_some(update.head);
        }
        if let Some(draft) = &update.draft {
            self.draft.clone_from(draft);
        }
        *self != before
    }

    /// What the user's devices are told, when the newest message is `head`.
    pub(super) fn changed(&self, conversation: ConversationId, head: u64) -> ConversationChanged {
        ConversationChanged {
            conversation_id: conversation.to_string(),
            pinned: self.pinned,
            muted: self.muted,
            hidden: self.hidden(head),
            draft: self.draft.clone(),
        }
    }
}
