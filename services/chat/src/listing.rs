//! A user's list of conversations: pinned ones first, then the most recently active. A page goes on where the one before ended as of the
//! moment the first page was read, so that messages that come in between neither repeat nor leave out a conversation.

use std::cmp::Reverse;

use futures::{StreamExt as _, TryStreamExt as _, stream, try_join};
use plaza_processor::StoreError;
use plaza_proto::chat::v1::{Content, Conversation, Entry, Message, content::Kind, entry::Event};
use plaza_types::{ConversationId, UserId, id::ConversationKind};
use prost::Message as _;

use crate::{
    domain::{
        conversation::row::Group,
        event,
        inbox::{Membership, Reading},
    },
    reader::Reader,
    store::{Head, Member},
};

/// Conversations of a page that are looked up at once.
const AT_ONCE: usize = 16;
/// Messages among which the last one that was not deleted is looked for.
const LOOKED_BACK: u64 = 100;

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
        if member.membership.gone {
            continue;
        }
        let head = member.until(head);
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
    let at_hand = listed.iter().map(|((.., conversation), member, _)| reader.is_settled(user, *conversation, member));
    let at_hand = at_once(at_hand.collect()).await?;
    let mut settled = Vec::with_capacity(listed.len());
    for (((.., conversation), member, head), at_hand) in listed.into_iter().zip(at_hand) {
        // One after the other: what is waited for takes no less time when many wait for it, and more work.
        let (member, head) = match at_hand {
            true => (member, head),
            false => reader.settle(user, conversation, member, head).await?,
        };
        settled.push((conversation, member, head));
    }
    let views = settled.iter().map(|(conversation, member, head)| view(reader, user, *conversation, member, *head));
    Ok((at_once(views.collect()).await?, next))
}

/// What these come to, in their order, a bounded number of them at a time.
async fn at_once<T>(reads: Vec<impl Future<Output = Result<T, StoreError>>>) -> Result<Vec<T>, StoreError> {
    stream::iter(reads).buffered(AT_ONCE).try_collect().await
}

/// A conversation as its member sees it, or as a former member saw it last.
pub(crate) async fn view(
    reader: &Reader,
    user: UserId,
    conversation: ConversationId,
    member: &Member,
    head: Head,
) -> Result<Conversation, StoreError> {
    let (membership, reading) = (&member.membership, &member.reading);
    let group = async {
        match conversation.kind() {
            ConversationKind::Group => Ok(reader.store().group(conversation).await?.unwrap_or_default()),
            ConversationKind::Direct => Ok(Group::default()),
        }
    };
    let counts = unread(reader, user, conversation, reading, head);
    let last_message = last_message(reader, user, conversation, membership, head);
    let (group, (unread, mentioned), last_message) = try_join!(group, counts, last_message)?;
    Ok(Conversation {
        conversation_id: conversation.to_string(),
        kind: event::kind(conversation).into(),
        title: if membership.left_at.is_some() { membership.title.clone() } else { group.title },
        last_message,
        head: head.sequence,
        read: reading.read,
        unread,
        mentioned,
        pinned: membership.pinned,
        muted: membership.muted,
        hidden: membership.hidden(head.sequence),
        draft: membership.draft.clone(),
        peer_id: event::person(&membership.peer),
        read_only: membership.left_at.is_some() || group.dissolved,
    })
}

/// How many messages the user has not read, and whether one of them mentions the user.
async fn unread(
    reader: &Reader,
    user: UserId,
    conversation: ConversationId,
    reading: &Reading,
    head: Head,
) -> Result<(u64, bool), StoreError> {
    let (unread, mentioned) = (reading.unread(head.sequence), reading.mentioned());
    if unread == 0 || conversation.kind() == ConversationKind::Direct {
        return Ok((unread, mentioned));
    }
    // System notices take places in the order and are no messages: both counts are exact, so the difference is.
    let store = reader.store();
    let (up_to, read, called) = try_join!(
        store.notices(conversation, head.sequence),
        store.notices(conversation, reading.read),
        store.called_all(conversation, head.sequence, user)
    )?;
    Ok((unread.saturating_sub(up_to - read.min(up_to)), mentioned || called > reading.read))
}

/// The newest message that the user did not delete, if it is among the newest.
async fn last_message(
    reader: &Reader,
    user: UserId,
    conversation: ConversationId,
    membership: &Membership,
    head: Head,
) -> Result<Option<Message>, StoreError> {
    let first = head.sequence.saturating_sub(LOOKED_BACK).max(membership.joined_at) + 1;
    if first > head.sequence {
        return Ok(None);
    }
    let deleted = reader.store().deleted(user, conversation, first..=head.sequence);
    let (deleted, newest) = try_join!(deleted, reader.message(conversation, head.sequence))?;
    let last = (first..=head.sequence).rev().find(|sequence| !deleted.contains(sequence));
    Ok(match last {
        None => None,
        Some(last) if last == head.sequence => newest,
        Some(last) => reader.message(conversation, last).await?,
    }
    .and_then(message))
}

/// At most `size` messages of the user's time, the nearest ones before or after a sequence, without those the user deleted.
pub(crate) async fn messages(
    reader: &Reader,
    user: UserId,
    conversation: ConversationId,
    membership: &Membership,
    head: u64,
    (before, after): (Option<u64>, Option<u64>),
    size: usize,
) -> Result<Vec<Message>, StoreError> {
    let mut found: Vec<Message> = Vec::new();
    // What is left to look at; both ends belong to it. Messages from before the user's time are not the user's to read.
    let mut first = after.unwrap_or_default().max(membership.joined_at).saturating_add(1);
    let mut last = head.min(before.map_or(head, |before| before.saturating_sub(1)));
    // Where many were deleted, one stretch may not be enough: an empty page would look like the end.
    while first <= last && found.len() < size {
        let length = (size - found.len()) as u64;
        let stretch =
            if after.is_some() { first..=last.min(first + length - 1) } else { first.max(last.saturating_sub(length - 1))..=last };
        let deleted = reader.store().deleted(user, conversation, stretch.clone()).await?;
        let rows = reader.messages(conversation, stretch.clone()).await?;
        let kept = rows.into_iter().filter(|(sequence, _)| !deleted.contains(sequence)).filter_map(|(_, event)| message(event));
        if after.is_some() {
            found.extend(kept);
            first = stretch.end() + 1;
        } else {
            found.splice(0..0, kept);
            last = stretch.start() - 1;
        }
    }
    Ok(found)
}

/// The message in a stored event; of a change of a group, the system notice.
pub(crate) fn message(event: bytes::Bytes) -> Option<Message> {
    match Entry::decode(event).ok()?.event? {
        Event::Message(message) => Some(message),
        Event::MembershipChanged(changed) => {
            let notice = changed.notice?;
            Some(Message {
                conversation_id: changed.conversation_id,
                sequence: changed.sequence,
                sender_id: notice.actor_id.clone(),
                sent_at: changed.changed_at,
                content: Some(Content { kind: Some(Kind::SystemNotice(notice)) }),
                ..Message::default()
            })
        }
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

/// Microseconds of a time at the edge.
pub(crate) fn micros(time: prost_types::Timestamp) -> u64 {
    u64::try_from(time.seconds).unwrap_or_default() * 1_000_000 + u64::try_from(time.nanos).unwrap_or_default() / 1000
}
