//! Payloads of the `chat` topic, keyed by conversation.

use bytes::Bytes;

/// A command or an emission to one conversation.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Payload {
    /// Which.
    #[prost(oneof = "Kind", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14")]
    pub kind: Option<Kind>,
}

/// Which.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Kind {
    /// From the chat API: a message.
    #[prost(message, tag = "1")]
    Send(Send),
    /// From graph: who lists and blocks whom in a direct conversation.
    #[prost(message, tag = "2")]
    Sides(Sides),
    /// From the chat API: make the group that the key names.
    #[prost(message, tag = "3")]
    Create(Create),
    /// From the chat API: add people to a group.
    #[prost(message, tag = "4")]
    Add(Add),
    /// From the chat API: remove members from a group.
    #[prost(message, tag = "5")]
    Remove(Remove),
    /// From the chat API: the caller leaves a group.
    #[prost(message, tag = "6")]
    Leave(Plain),
    /// From the chat API: make a member of a group an admin, or no longer.
    #[prost(message, tag = "7")]
    SetRole(SetRole),
    /// From the chat API: make a member the owner of a group.
    #[prost(message, tag = "8")]
    Transfer(Person),
    /// From the chat API: end a group.
    #[prost(message, tag = "9")]
    Dissolve(Plain),
    /// From the chat API: change title, notice or settings of a group.
    #[prost(message, tag = "10")]
    Describe(Describe),
    /// From the chat API: how the caller is called in a group.
    #[prost(message, tag = "11")]
    Nickname(Nickname),
    /// From the chat API: the caller answers an invitation to a group.
    #[prost(message, tag = "12")]
    AnswerInvitation(Answer),
    /// From the chat API: the caller answers a member's wish to add somebody.
    #[prost(message, tag = "13")]
    AnswerJoinRequest(Answer),
    /// From the chat API: take a message back.
    #[prost(message, tag = "14")]
    Recall(Recall),
}

/// A message to be decided. The caller and the client id are the envelope's.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Send {
    /// Encoded `plaza.chat.v1.Content`.
    #[prost(bytes = "bytes", tag = "1")]
    pub content: Bytes,
    /// Encoded `plaza.chat.v1.Quote`; empty for none.
    #[prost(bytes = "bytes", tag = "2")]
    pub quote: Bytes,
    /// Users called, 16 bytes each.
    #[prost(bytes = "bytes", repeated, tag = "3")]
    pub mentions: Vec<Bytes>,
    /// The sequence that the quote names; 0 for none.
    #[prost(uint64, tag = "4")]
    pub quoted: u64,
    /// Everybody is called.
    #[prost(bool, tag = "5")]
    pub mentions_all: bool,
}

/// Nothing more to say.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Plain {}

/// Make a group. The caller becomes its owner.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Create {
    /// 1 to 64 characters.
    #[prost(string, tag = "1")]
    pub title: String,
    /// Who else is to be in it.
    #[prost(message, optional, tag = "2")]
    pub people: Option<Add>,
}

/// Add people to a group.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Add {
    /// Different users, 16 bytes each.
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub users: Vec<Bytes>,
    /// Whether there are some among them who are no contacts of the caller: then it is refused, and the refusal remembered.
    #[prost(bool, tag = "2")]
    pub strangers: bool,
    /// How many members the group may have, the invited included.
    #[prost(uint32, tag = "3")]
    pub limit: u32,
}

/// Remove members from a group.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Remove {
    /// Different users, 16 bytes each.
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub users: Vec<Bytes>,
}

/// Make a member an admin, or no longer.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SetRole {
    /// The member, 16 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub user: Bytes,
    /// Whether an admin.
    #[prost(bool, tag = "2")]
    pub admin: bool,
}

/// One person.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Person {
    /// The user, 16 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub user: Bytes,
}

/// Change what is said about a group.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Describe {
    /// Another title.
    #[prost(string, optional, tag = "1")]
    pub title: Option<String>,
    /// Another notice.
    #[prost(string, optional, tag = "2")]
    pub notice: Option<String>,
    /// Whether owner or an admin must agree to those whom plain members add.
    #[prost(bool, optional, tag = "3")]
    pub approval_required: Option<bool>,
}

/// How the caller is called in a group.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Nickname {
    /// Empty for the name everywhere else.
    #[prost(string, tag = "1")]
    pub nickname: String,
}

/// Yes or no.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Answer {
    /// Whether yes.
    #[prost(bool, tag = "1")]
    pub accept: bool,
    /// Whom it is about, 16 bytes; empty for the caller.
    #[prost(bytes = "bytes", tag = "2")]
    pub user: Bytes,
}

/// Take a message back. What the API read of the stored message never changes, so that the decision follows from the record and the state.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Recall {
    /// The message.
    #[prost(uint64, tag = "1")]
    pub sequence: u64,
    /// Its sender, 16 bytes.
    #[prost(bytes = "bytes", tag = "2")]
    pub sender: Bytes,
    /// Its sender's id of it, 16 bytes.
    #[prost(bytes = "bytes", tag = "3")]
    pub client: Bytes,
    /// When it was accepted, microseconds.
    #[prost(uint64, tag = "4")]
    pub sent_at: u64,
}

/// What graph says of a direct conversation: one or both of its sides. Sides converge whatever order they come in: the larger version counts.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Sides {
    /// One or two.
    #[prost(message, repeated, tag = "1")]
    pub sides: Vec<Side>,
    /// Whose device waits for the answer once the conversation is open: it is then given by that user's inbox, after its rows are written.
    /// Empty when nobody waits. 16 bytes.
    #[prost(bytes = "bytes", tag = "2")]
    pub answer_to: Bytes,
    /// The answer to give, an encoded `plaza_processor::Outcome`.
    #[prost(bytes = "bytes", tag = "3")]
    pub answer: Bytes,
}

/// How one of the two stands to the other.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Side {
    /// The one, 16 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub user: Bytes,
    /// The other, 16 bytes.
    #[prost(bytes = "bytes", tag = "2")]
    pub other: Bytes,
    /// Grows with every change of this edge: the count of all changes of its owner's edges, from 1.
    #[prost(uint64, tag = "3")]
    pub version: u64,
    /// The one lists the other.
    #[prost(bool, tag = "4")]
    pub lists: bool,
    /// The one blocks the other.
    #[prost(bool, tag = "5")]
    pub blocks: bool,
}
