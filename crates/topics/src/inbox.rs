//! Payloads of the `inbox` topic. A record names users of its own partition only.

use bytes::Bytes;

/// A command or an emission to inboxes.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Payload {
    /// Which.
    #[prost(oneof = "Kind", tags = "1, 2, 3, 4, 5, 6, 7")]
    pub kind: Option<Kind>,
}

/// Which.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Kind {
    /// From a conversation: a message for these members.
    #[prost(message, tag = "1")]
    Message(Message),
    /// From a conversation, graph or accounts, or from an inbox itself: an event for one user.
    #[prost(message, tag = "2")]
    Event(Event),
    /// From a conversation: one user came in.
    #[prost(message, tag = "3")]
    Opened(Opened),
    /// From the chat API: one user read on in a conversation.
    #[prost(message, tag = "4")]
    MarkRead(MarkRead),
    /// From the chat API: one user changes their settings of a conversation.
    #[prost(message, tag = "5")]
    Update(Update),
    /// From a conversation: the same event for several users of this partition.
    #[prost(message, tag = "6")]
    Told(Told),
    /// From the chat API: one user deletes messages for themself.
    #[prost(message, tag = "7")]
    Delete(Delete),
}

/// A message, or a change of a group, for the members of one conversation whose inboxes are in this partition.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Message {
    /// The conversation, 17 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub conversation: Bytes,
    /// Its sequence there.
    #[prost(uint64, tag = "2")]
    pub sequence: u64,
    /// The sender, 16 bytes; empty for a change of a group.
    #[prost(bytes = "bytes", tag = "3")]
    pub sender: Bytes,
    /// The recipients, the sender and those who leave with it among them, 16 bytes each.
    #[prost(bytes = "bytes", repeated, tag = "4")]
    pub recipients: Vec<Bytes>,
    /// The `event` field of a `plaza.chat.v1.Entry` (field number 2, `message`), encoded once for all.
    #[prost(bytes = "bytes", tag = "5")]
    pub event: Bytes,
    /// Those of the recipients who are called.
    #[prost(bytes = "bytes", repeated, tag = "6")]
    pub mentioned: Vec<Bytes>,
    /// Those of the recipients whose time in the conversation begins with it.
    #[prost(bytes = "bytes", repeated, tag = "7")]
    pub joined: Vec<Bytes>,
    /// Those of the recipients whose time in the conversation ends with it.
    #[prost(bytes = "bytes", repeated, tag = "8")]
    pub left: Vec<Bytes>,
    /// Whether they left by themselves: then the conversation leaves their lists.
    #[prost(bool, tag = "9")]
    pub by_themselves: bool,
    /// The title of the group, for those who leave: they learn of no other one.
    #[prost(string, tag = "10")]
    pub title: String,
    /// The recipient whose device waits for `answer`, 16 bytes; empty when nobody waits in this partition.
    #[prost(bytes = "bytes", tag = "11")]
    pub answer_to: Bytes,
    /// The answer to give when the rows are written, an encoded `plaza_processor::Outcome`.
    #[prost(bytes = "bytes", tag = "12")]
    pub answer: Bytes,
}

/// The same event for several users.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Told {
    /// The users, 16 bytes each.
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub users: Vec<Bytes>,
    /// The `event` field of a `plaza.chat.v1.Entry`, encoded.
    #[prost(bytes = "bytes", tag = "2")]
    pub event: Bytes,
    /// The message that it takes back, if it does.
    #[prost(message, optional, tag = "3")]
    pub recalled: Option<Recalled>,
}

/// A message that was taken back.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Recalled {
    /// The conversation, 17 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub conversation: Bytes,
    /// Its sequence there.
    #[prost(uint64, tag = "2")]
    pub sequence: u64,
    /// What is left of it: the `event` field of a `plaza.chat.v1.Entry`, encoded.
    #[prost(bytes = "bytes", tag = "3")]
    pub event: Bytes,
}

/// One user deletes messages for themself.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Delete {
    /// The conversation, 17 bytes. The user is the envelope's caller.
    #[prost(bytes = "bytes", tag = "1")]
    pub conversation: Bytes,
    /// Which, none above the newest.
    #[prost(uint64, repeated, tag = "2")]
    pub sequences: Vec<u64>,
}

/// An event for one user.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Event {
    /// The user, 16 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub user: Bytes,
    /// The `event` field of a `plaza.chat.v1.Entry`, encoded.
    #[prost(bytes = "bytes", tag = "2")]
    pub event: Bytes,
}

/// One user is a member of a conversation from now on.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Opened {
    /// The user, 16 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub user: Bytes,
    /// The conversation, 17 bytes.
    #[prost(bytes = "bytes", tag = "2")]
    pub conversation: Bytes,
    /// The other person of a direct conversation, 16 bytes; empty for a group.
    #[prost(bytes = "bytes", tag = "3")]
    pub peer: Bytes,
    /// Messages up to this sequence are before the user's time.
    #[prost(uint64, tag = "4")]
    pub joined_at: u64,
    /// The `event` field of the `plaza.chat.v1.Entry` that says so, encoded; empty when nothing is new to the user.
    #[prost(bytes = "bytes", tag = "5")]
    pub event: Bytes,
    /// The answer to give when the rows are written, an encoded `plaza_processor::Outcome`; empty when nobody waits.
    #[prost(bytes = "bytes", tag = "6")]
    pub answer: Bytes,
}

/// One user read on.
#[derive(Clone, PartialEq, prost::Message)]
pub struct MarkRead {
    /// The conversation, 17 bytes. The user is the envelope's caller.
    #[prost(bytes = "bytes", tag = "1")]
    pub conversation: Bytes,
    /// Up to where, not beyond the newest message.
    #[prost(uint64, tag = "2")]
    pub sequence: u64,
}

/// One user changes their settings of a conversation.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Update {
    /// The conversation, 17 bytes. The user is the envelope's caller.
    #[prost(bytes = "bytes", tag = "1")]
    pub conversation: Bytes,
    /// Pin or unpin.
    #[prost(bool, optional, tag = "2")]
    pub pinned: Option<bool>,
    /// Mute or unmute.
    #[prost(bool, optional, tag = "3")]
    pub muted: Option<bool>,
    /// Hide or show.
    #[prost(bool, optional, tag = "4")]
    pub hidden: Option<bool>,
    /// Another draft.
    #[prost(string, optional, tag = "5")]
    pub draft: Option<String>,
    /// The newest sequence that the API knew of: hiding holds as long as nothing newer comes.
    #[prost(uint64, tag = "6")]
    pub head: u64,
}
