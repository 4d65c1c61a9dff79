//! A user's list of conversations: pinned ones first, then the most recently active. A page goes on where the one before ended as of the
//! moment the first page was read, so that messages that come in between neither repeat nor leave out a conversation.

use std::cmp::Reverse;

use plaza_processor::StoreError;
use plaza_proto::chat::v1::{Conversation, Entry, Message, entry::Event};
use plaza_types::{ConversationId, UserId};
use prost::Message as _;

use crate::{
    domain::event,
    reader::Reader,
    store::{Head, Member},
};

/// The place of a conversation in the list, smallest first.
type Place = (Reverse<bool>, Reverse<u64>, ConversationId);

/// Where a list goes on.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Position {
    /// The newest activity when the first page was read, microseconds.
    #[prost(uint64, tag = "1")]
    as_of: u64,
    /// The last conversation shown: pinned.
    #[prost(bool, tag = "2")]
    pinned: bool,
    /// Its activity.
    #[prost(uint64, tag = "3")]
    activity: u64,
    /// Its id.
    #[prost(bytes = "vec", tag = "4")]
    conversation: Vec<u8>,
}

/// A page, and where to go on if there is more.
pub(crate) async fn page(
    reader: &Reader,
    user: UserId,
    from: Option<Position>,
    size: usize,
) -> Result<(Vec<Conversation>, Option<Position>), StoreError> {
    let members = reader.store().conversations(user).await?;
    let ids: Vec<ConversationId> = members.iter().map(|(conversation, _)| *conversation).collect();
    let heads = reader.heads(&ids).await?;
    let last = from
        .as_ref()
        .and_then(|from| Some((Reverse(from.pinned), Reverse(from.activity), ConversationId::from_slice(&from.conversation)?)));
    let mut listed: Vec<(Place, Member, Head)> = Vec::with_capacity(members.len());
    let mut newest = 0;
    for ((conversation, member), head) in members.into_iter().zip(heads) {
        let now = activity(&member, head);
        newest = newest.max(now);
        let then = match &from {
            Some(from) if now > from.as_of => activity_as_of(reader, conversation, &member, head, from.as_of).await?,
            _ => Some(now),
        };
        let Some(then) = then else { continue };
        let place = (Reverse(member.membership.pinned), Reverse(then), conversation);
        if last.is_none_or(|last| place > last) {
            listed.push((place, member, head));
        }
    }
    listed.sort_unstable_by_key(|(place, ..)| *place);
    let more = listed.len() > size;
    listed.truncate(size);
    let as_of = from.map_or(newest, |from| from.as_of);
    let next = listed.last().filter(|_| more).map(|((pinned, activity, conversation), ..)| Position {
        as_of,
        pinned: pinned.0,
        activity: activity.0,
        conversation: conversation.as_bytes().to_vec(),
    });
    let mut conversations = Vec::with_capacity(listed.len());
    for ((.., conversation), member, head) in listed {
        let (member, head) = reader.settle(user, conversation, member, head).await?;
        conversations.push(view(reader, conversation, &member, head).await?);
    }
    Ok((conversations, next))
}

/// A conversation as its member sees it.
pub(crate) async fn view(reader: &Reader, conversation: ConversationId, member: &Member, head: Head) -> Result<Conversation, StoreError> {
    let (membership, reading) = (&member.membership, &member.reading);
    let last_message =
        if head.sequence > membership.joined_at { reader.message(conversation, head.sequence).await?.and_then(message) } else { None };
    Ok(Conversation {
        conversation_id: conversation.to_string(),
        kind: event::kind(conversation).into(),
        title: String::new(),
        last_message,
        head: head.sequence,
        read: reading.read,
        unread: reading.unread(head.sequence),
        mentioned: reading.mentioned(),
        pinned: membership.pinned,
        muted: membership.muted,
        hidden: membership.hidden(head.sequence),
        draft: membership.draft.clone(),
        peer_id: UserId::from_slice(&membership.peer).map(|peer| peer.to_string()).unwrap_or_default(),
    })
}

/// The message in a stored event.
pub(crate) fn message(event: bytes::Bytes) -> Option<Message> {
    match Entry::decode(event).ok()?.event? {
        Event::Message(message) => Some(message),
        _ => None,
    }
}

fn activity(member: &Member, head: Head) -> u64 {
    if head.sequence > member.membership.joined_at { head.time } else { member.membership.since }
}

/// What the activity was at an earlier moment: messages are in order of time, so the last one before it is found by halving. `None` when the
/// user was not in yet.
async fn activity_as_of(
    reader: &Reader,
    conversation: ConversationId,
    member: &Member,
    head: Head,
    as_of: u64,
) -> Result<Option<u64>, StoreError> {
    let since = member.membership.since;
    if since > as_of {
        return Ok(None);
    }
    let (mut known, mut above) = ((member.membership.joined_at, since), head.sequence);
    while known.0 + 1 < above {
        let middle = known.0 + (above - known.0) / 2;
        let sent = reader.message(conversation, middle).await?.and_then(message).and_then(|message| message.sent_at);
        match sent.map(micros) {
            Some(time) if time <= as_of => known = (middle, time),
            _ => above = middle,
        }
    }
    Ok(Some(known.1))
}

fn micros(time: prost_types::Timestamp) -> u64 {
    u64::try_from(time.seconds).unwrap_or_default() * 1_000_000 + u64::try_from(time.nanos).unwrap_or_default() / 1000
}
