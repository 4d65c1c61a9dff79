//! What a device is told, encoded once for everybody: the `event` field of a `plaza.chat.v1.Entry` without the cursor, which differs from
//! one inbox to the next. A stored message is kept in the same form, so nothing is decoded between the decision and the device.

use bytes::Bytes;
use plaza_proto::chat::v1::{
    self as proto, ConversationChanged, ConversationKind, Entry, GroupInvitation, GroupJoinRequest, MembershipChanged, MessageRecalled,
    MessagesDeleted, NoticeKind, ProfileChanged, ReadChanged, SystemNotice, entry::Event,
};
use plaza_types::{ClientId, ConversationId, UserId, id, limits::SECOND};
use prost::{
    Message as _,
    encoding::{WireType, encode_key, encode_varint, encoded_len_varint},
};

/// Room for the key and the length of the outer field.
const HEADER: usize = 11;
const ENTRY_MESSAGE: u32 = 2;

/// A message as its sender asked for it and its conversation decided it.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// Where it is.
    pub conversation: ConversationId,
    /// Its number there.
    pub sequence: u64,
    /// Who sent it.
    pub sender: UserId,
    /// The sender's id of it.
    pub client: ClientId,
    /// When it was accepted, microseconds.
    pub time: u64,
    /// Encoded `Content`.
    pub content: &'a [u8],
    /// Encoded `Quote`; empty for none.
    pub quote: &'a [u8],
    /// Users called, 16 bytes each.
    pub mentions: &'a [Bytes],
    /// Everybody is called.
    pub mentions_all: bool,
}

/// The event of a message. Content and quote go in as they are: decoding them to encode them again would be most of the cost.
#[must_use]
pub fn message(message: &Message<'_>) -> Bytes {
    let size = HEADER + 160 + message.content.len() + message.quote.len() + 40 * message.mentions.len();
    let mut buffer = Vec::with_capacity(size);
    buffer.resize(HEADER, 0);
    text(1, &message.conversation, &mut buffer);
    encode_key(2, WireType::Varint, &mut buffer);
    encode_varint(message.sequence, &mut buffer);
    text(3, &message.sender, &mut buffer);
    text(4, &message.client, &mut buffer);
    prost::encoding::message::encode(5, &timestamp(message.time), &mut buffer);
    field(6, message.content, &mut buffer);
    if !message.quote.is_empty() {
        field(7, message.quote, &mut buffer);
    }
    for user in message.mentions.iter().filter_map(|user| UserId::from_slice(user)) {
        text(8, &user, &mut buffer);
    }
    if message.mentions_all {
        prost::encoding::bool::encode(10, &true, &mut buffer);
    }
    let length = (buffer.len() - HEADER) as u64;
    let start = HEADER - 1 - encoded_len_varint(length);
    let mut header = &mut buffer[start..HEADER];
    encode_key(ENTRY_MESSAGE, WireType::LengthDelimited, &mut header);
    encode_varint(length, &mut header);
    Bytes::from(buffer).slice(start..)
}

/// The members of a conversation changed: these came.
#[must_use]
pub fn joined<'a>(conversation: ConversationId, users: impl Iterator<Item = &'a Bytes>) -> Bytes {
    let joined = users.filter_map(|user| UserId::from_slice(user)).map(|user| user.to_string());
    encode(Event::MembershipChanged(MembershipChanged {
        conversation_id: conversation.to_string(),
        kind: kind(conversation).into(),
        joined: joined.collect(),
        ..MembershipChanged::default()
    }))
}

/// A group changed, at a place of its own in the order.
#[must_use]
pub fn notice(conversation: ConversationId, sequence: u64, time: u64, notice: SystemNotice) -> Bytes {
    let (joined, left) = match notice.kind() {
        NoticeKind::Created => (std::iter::once(&notice.actor_id).chain(&notice.user_ids).cloned().collect(), Vec::new()),
        NoticeKind::Joined => (notice.user_ids.clone(), Vec::new()),
        NoticeKind::Left => (Vec::new(), vec![notice.actor_id.clone()]),
        NoticeKind::Removed => (Vec::new(), notice.user_ids.clone()),
        _ => (Vec::new(), Vec::new()),
    };
    encode(Event::MembershipChanged(MembershipChanged {
        conversation_id: conversation.to_string(),
        kind: kind(conversation).into(),
        joined,
        left,
        sequence,
        notice: Some(notice),
        changed_at: Some(timestamp(time)),
    }))
}

/// What is left of a message that was taken back.
#[must_use]
pub fn emptied(conversation: ConversationId, sequence: u64, sender: UserId, client: &str, time: u64) -> Bytes {
    encode(Event::Message(proto::Message {
        conversation_id: conversation.to_string(),
        sequence,
        sender_id: sender.to_string(),
        client_message_id: client.to_owned(),
        sent_at: Some(timestamp(time)),
        recalled: true,
        ..proto::Message::default()
    }))
}

/// A message was taken back.
#[must_use]
pub fn recalled(conversation: ConversationId, sequence: u64) -> Bytes {
    encode(Event::MessageRecalled(MessageRecalled { conversation_id: conversation.to_string(), sequence }))
}

/// The user is invited to a group, or no longer.
#[must_use]
pub fn invitation(conversation: ConversationId, title: &str, inviter: &[u8], pending: bool) -> Bytes {
    let (conversation_id, title) = (conversation.to_string(), title.to_owned());
    encode(Event::GroupInvitation(GroupInvitation { conversation_id, title, inviter_id: person(inviter), pending }))
}

/// Somebody is to be added to a group.
#[must_use]
pub fn join_request(conversation: ConversationId, users: &[Bytes], inviter: &[u8]) -> Bytes {
    let user_ids = users.iter().map(|user| person(user)).collect();
    encode(Event::GroupJoinRequest(GroupJoinRequest { conversation_id: conversation.to_string(), user_ids, inviter_id: person(inviter) }))
}

/// The user deleted messages.
#[must_use]
pub fn deleted(conversation: ConversationId, sequences: &[u64]) -> Bytes {
    encode(Event::MessagesDeleted(MessagesDeleted { conversation_id: conversation.to_string(), sequences: sequences.to_vec() }))
}

/// When the message of an event was accepted, microseconds; `None` for other events.
#[must_use]
pub fn sent_at(event: &Bytes) -> Option<u64> {
    #[derive(Clone, PartialEq, prost::Message)]
    struct Sent {
        #[prost(message, optional, tag = "5")]
        at: Option<prost_types::Timestamp>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    struct SentEntry {
        #[prost(message, optional, tag = "2")]
        message: Option<Sent>,
    }
    let at = SentEntry::decode(event.clone()).ok()?.message?.at?;
    let (seconds, nanos) = (u64::try_from(at.seconds).ok()?, u64::try_from(at.nanos).ok()?);
    Some(seconds * SECOND + nanos / 1000)
}

/// An event without what a user deleted: the place, the sender and the time stay. `None` when nothing of it is to be left out.
#[must_use]
pub fn without_content(event: &Bytes) -> Option<Bytes> {
    match Entry::decode(event.clone()).ok()?.event? {
        Event::Message(message) => Some(encode(Event::Message(proto::Message {
            content: None,
            quote: None,
            mentions: Vec::new(),
            mentions_all: false,
            deleted: true,
            ..message
        }))),
        _ => None,
    }
}

/// A user's id as text; empty for what is none.
#[must_use]
pub fn person(user: &[u8]) -> String {
    UserId::from_slice(user).map(|user| user.to_string()).unwrap_or_default()
}

/// The user read on, on some device.
#[must_use]
pub fn read(conversation: ConversationId, read: u64) -> Bytes {
    encode(Event::ReadChanged(ReadChanged { conversation_id: conversation.to_string(), read }))
}

/// The user changed the settings of a conversation.
#[must_use]
pub fn settings(changed: ConversationChanged) -> Bytes {
    encode(Event::ConversationChanged(changed))
}

/// The user's own profile, settings or devices changed.
#[must_use]
pub fn profile(user: UserId) -> Bytes {
    encode(Event::ProfileChanged(ProfileChanged { user_id: user.to_string() }))
}

/// A time at the edge.
#[must_use]
pub fn timestamp(micros: u64) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: i64::try_from(micros / 1_000_000).unwrap_or(i64::MAX),
        nanos: i32::try_from(micros % 1_000_000 * 1000).unwrap_or_default(),
    }
}

/// The kind of a conversation at the edge.
#[must_use]
pub fn kind(conversation: ConversationId) -> ConversationKind {
    match conversation.kind() {
        id::ConversationKind::Direct => ConversationKind::Direct,
        id::ConversationKind::Group => ConversationKind::Group,
    }
}

fn encode(event: Event) -> Bytes {
    Entry { cursor: 0, event: Some(event) }.encode_to_vec().into()
}

fn field(tag: u32, value: &[u8], buffer: &mut Vec<u8>) {
    encode_key(tag, WireType::LengthDelimited, buffer);
    encode_varint(value.len() as u64, buffer);
    buffer.extend_from_slice(value);
}

/// An id as text: at most 36 bytes, so that its length takes one.
fn text(tag: u32, id: &impl std::fmt::Display, buffer: &mut Vec<u8>) {
    use std::io::Write as _;
    encode_key(tag, WireType::LengthDelimited, buffer);
    let length = buffer.len();
    buffer.push(0);
    // Writing to memory does not fail.
    let _ = write!(buffer, "{id}");
    buffer[length] = u8::try_from(buffer.len() - length - 1).unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use plaza_proto::chat::v1::content;

    use super::*;

    #[test]
    fn a_message_is_encoded_as_the_generated_code_reads_it() {
        let user = |n| UserId::from_bytes([n; 16]);
        for length in [1, 100, 127, 128, 16 * 1024, 100_000] {
            let content = proto::Content { kind: Some(content::Kind::Text(proto::Text { text: "x".repeat(length) })) };
            let quote = proto::Quote { sequence: 7 };
            let (conversation, client) = (ConversationId::direct(user(1), user(2)), ClientId::new(1_700_000_000_000_000, [9; 10]));
            let event = message(&Message {
                conversation,
                sequence: 300,
                sender: user(1),
                client,
                time: 1_700_000_000_123_456,
                content: &content.encode_to_vec(),
                quote: &quote.encode_to_vec(),
                mentions: &[user(2).to_key()],
                mentions_all: length == 100,
            });
            let expected = proto::Message {
                conversation_id: conversation.to_string(),
                sequence: 300,
                sender_id: user(1).to_string(),
                client_message_id: client.to_string(),
                sent_at: Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 123_456_000 }),
                content: Some(content),
                quote: Some(quote),
                mentions: vec![user(2).to_string()],
                mentions_all: length == 100,
                ..proto::Message::default()
            };
            let entry = Entry { cursor: 0, event: Some(Event::Message(expected)) };
            assert_eq!(Entry::decode(event), Ok(entry));
        }
    }
}
