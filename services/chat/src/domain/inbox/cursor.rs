//! What is kept of a user: the head of the inbox, and the last sequences of the conversations heard from most recently. The latter is a
//! guard, not needed for what is decided otherwise: conversations number their messages without a gap, so a number that comes again is
//! a repetition that got past the origin marks and is dropped, and a number left out is a loss to be reported. It is kept for a few
//! conversations only, because it is written with every delivery; what is not kept is not guarded.

use bytes::Bytes;
use plaza_types::ConversationId;

/// Conversations guarded at once: those in which somebody is talking right now.
const GUARDED: usize = 8;

/// A sequence that should not have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Irregular {
    /// It has come before; dropped.
    Repeated,
    /// The one before it has not come.
    Gap,
}

/// Where an inbox stands.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Cursors {
    /// The newest cursor.
    #[prost(uint64, tag = "1")]
    head: u64,
    /// The conversations heard from most recently, the last one first.
    #[prost(message, repeated, tag = "2")]
    guards: Vec<Guard>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Guard {
    #[prost(bytes = "bytes", tag = "1")]
    conversation: Bytes,
    #[prost(uint64, tag = "2")]
    last: u64,
}

impl Cursors {
    /// The newest cursor; 0 while there is none.
    pub(super) fn head(&self) -> u64 {
        self.head
    }

    /// Takes the next cursor.
    pub(super) fn next(&mut self) -> u64 {
        self.head += 1;
        self.head
    }

    /// The user hears of a conversation from after this sequence on.
    pub(super) fn begin(&mut self, conversation: ConversationId, last: u64) {
        self.guards.retain(|guard| guard.conversation != conversation.as_bytes()[..]);
        self.guards.truncate(GUARDED - 1);
        self.guards.insert(0, Guard { conversation: conversation.to_key(), last });
    }

    /// Notes a message, and says what is wrong with its number. A gap is noted as well: the messages after it are not another one.
    pub(super) fn follow(&mut self, conversation: ConversationId, sequence: u64) -> Option<Irregular> {
        let Some(place) = self.guards.iter().position(|guard| guard.conversation == conversation.as_bytes()[..]) else {
            self.begin(conversation, sequence);
            return None;
        };
        let last = self.guards[place].last;
        if sequence <= last {
            return Some(Irregular::Repeated);
        }
        self.guards[place].last = sequence;
        self.guards[..=place].rotate_right(1);
        (sequence > last + 1).then_some(Irregular::Gap)
    }
}
