//! Reading what the processors wrote: pages of an inbox with their messages, and a conversation as its member sees it. Reads only up to
//! watermarks. Messages lately told or read are kept encoded, because a message is read by all who were told of it.

use std::{
    collections::BTreeMap,
    ops::RangeInclusive,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::future::{try_join, try_join_all};
use plaza_processor::{Announce, StoreError};
use plaza_runtime::Clock;
use plaza_types::{
    ConversationId, UserId,
    id::ConversationKind,
    limits::{RECALL_WINDOW, SECOND},
};
use quick_cache::{Weighter, sync::Cache};

use crate::{
    domain::{conversation::Recalled, event, inbox::Reference},
    live::Sessions,
    metrics,
    store::{Head, Member, Store},
};

/// Bytes of events after which a page ends, well below what a gRPC message may have.
const PAGE_BYTES: usize = 2 << 20;
/// Messages not asked for that are read along rather than asked for separately.
const READ_ALONG: u64 = 16;
/// What another partition's owner is about to write is looked for again after this long, then after twice as long each time up to the longest:
/// when much is asked of a server the owners are behind, and whoever waits for them must not keep them from their work.
const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(64);
/// About a second together.
const LOOKS: usize = 20;
/// About a tenth.
const FEW_LOOKS: usize = 6;
/// Conversations of which it is known that there is something newer than the store may say.
const DECIDED: usize = 100_000;
/// Messages taken back that are remembered: more than can be between a decision and its row.
const RECALLED: usize = 100_000;

/// When a message can no longer be taken back, with what clocks may differ by.
const RECALLED_WITHIN: u64 = RECALL_WINDOW + 60 * SECOND;

type MessageKey = (ConversationId, u64);

fn pauses(looks: usize) -> impl Iterator<Item = Duration> {
    std::iter::successors(Some(FIRST_PAUSE), |pause| Some((*pause * 2).min(LONGEST_PAUSE))).take(looks)
}

/// Entries of an inbox, in order, without a gap.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Page {
    /// Cursors and encoded events.
    pub(crate) entries: Vec<(u64, Bytes)>,
    /// The newest cursor.
    pub(crate) head: u64,
}

/// The reading side.
pub(crate) struct Reader {
    store: Arc<dyn Store>,
    messages: Cache<MessageKey, Kept, ByLength>,
    /// What is left of messages taken back lately. Kept apart, because a read that began before may still bring the message.
    recalled: Cache<MessageKey, Bytes>,
    /// The newest sequences that somebody here was told of. An answer is faster than the row, and who was answered may ask at once.
    decided: Cache<ConversationId, u64>,
    /// Whether others have inboxes too, and the time.
    others: Option<(Arc<Sessions>, Clock)>,
    /// How often this instance got inboxes.
    assigned: AtomicU64,
}

#[derive(Clone)]
struct Kept {
    event: Bytes,
    /// Read from the store. What was only told may be a repetition of a message that was taken back since: the store is asked first.
    read: bool,
}

#[derive(Clone)]
struct ByLength;

impl Weighter<MessageKey, Kept> for ByLength {
    fn weight(&self, _: &MessageKey, kept: &Kept) -> u64 {
        // What an entry costs beyond its bytes.
        kept.event.len() as u64 + 128
    }
}

impl Reader {
    /// Reads from this store; keeps messages of this many bytes together.
    pub(crate) fn new(store: Arc<dyn Store>, cache_bytes: u64) -> Self {
        let items = usize::try_from(cache_bytes / 512).unwrap_or(usize::MAX);
        let messages = Cache::with_weighter(items, cache_bytes, ByLength);
        Self { store, messages, recalled: Cache::new(RECALLED), decided: Cache::new(DECIDED), others: None, assigned: AtomicU64::new(0) }
    }

    /// The same, in an instance that is maybe one of several: it does not hear of every message that is taken back.
    pub(crate) fn among(self, sessions: Arc<Sessions>, clock: Clock) -> Self {
        Self { others: Some((sessions, clock)), ..self }
    }

    pub(crate) fn store(&self) -> &dyn Store {
        &*self.store
    }

    /// Keeps a message that was told: it will be asked for soon, maybe before it can be read.
    pub(crate) fn keep(&self, conversation: ConversationId, sequence: u64, event: &Bytes) {
        let key = (conversation, sequence);
        if self.messages.get(&key).is_none() {
            // Copied, because the event is a part of its record, which would be kept whole.
            self.messages.insert(key, Kept { event: Bytes::copy_from_slice(event), read: false });
            self.decided(conversation, sequence);
        }
    }

    /// Notes that a message was taken back, and what is left of it.
    pub(crate) fn recalled(&self, conversation: ConversationId, sequence: u64, left: &Bytes) {
        let (key, left) = ((conversation, sequence), Bytes::copy_from_slice(left));
        // In this order: who keeps the message meanwhile looks here after it did.
        self.recalled.insert(key, left.clone());
        self.messages.insert(key, Kept { event: left, read: true });
    }

    /// A message that is known as it stands in the store.
    fn known(&self, key: &MessageKey) -> Option<Bytes> {
        let stays = |kept: &Kept| kept.read && self.stays(&kept.event);
        self.recalled.get(key).or_else(|| self.messages.get(key).filter(stays).map(|kept| kept.event))
    }

    /// Whether a message that was read is what the store has now: this instance would have heard if not, or it is too old to be taken back.
    fn stays(&self, event: &Bytes) -> bool {
        let Some((_, clock)) = self.others.as_ref().filter(|(sessions, _)| !sessions.owns_all()) else { return true };
        event::sent_at(event).is_none_or(|sent_at| sent_at + RECALLED_WITHIN < clock.now_micros())
    }

    /// Inboxes are this instance's from now on. What was read before may have been taken back while it did not hear of it.
    pub(crate) fn assigned(&self) {
        // In this order: a read that is under way keeps what it found before it looks here.
        self.assigned.fetch_add(1, Ordering::AcqRel);
        self.messages.retain(|_, kept| !kept.read);
    }

    /// Notes that a message was decided: what is read from now on has it.
    pub(crate) fn decided(&self, conversation: ConversationId, sequence: u64) {
        if self.decided.get(&conversation).is_none_or(|known| known < sequence) {
            self.decided.insert(conversation, sequence);
        }
    }

    /// At most `limit` entries after a cursor.
    pub(crate) async fn page(&self, user: UserId, after: u64, limit: usize) -> Result<Page, StoreError> {
        let head = self.store.inbox_head(user).await?;
        let last = head.min(after.saturating_add(limit as u64));
        if after >= last {
            return Ok(Page { entries: Vec::new(), head });
        }
        let references = self.store.entries(user, after + 1..=last).await?;
        for pause in pauses(LOOKS) {
            let mut entries = self.resolve(after, &references).await?;
            if !entries.is_empty() {
                self.without_deleted(user, &references, &mut entries).await?;
                return Ok(Page { entries, head });
            }
            // The first message's row is still on its way from its conversation's owner.
            tokio::time::sleep(pause).await;
        }
        metrics::get().missing.add(1, &[]);
        Err(StoreError { message: format!("entry {} of {user} cannot be read", after + 1) })
    }

    /// The events of references, up to the first that cannot be read yet.
    async fn resolve(&self, after: u64, references: &[(u64, Reference)]) -> Result<Vec<(u64, Bytes)>, StoreError> {
        let mut missing: BTreeMap<ConversationId, Vec<u64>> = BTreeMap::new();
        let mut found: Vec<Option<Bytes>> = Vec::with_capacity(references.len());
        for (_, reference) in references {
            found.push(match reference {
                Reference::Event(event) => Some(event.clone()),
                Reference::Message { conversation, sequence } => {
                    let event = self.known(&(*conversation, *sequence));
                    if event.is_none() {
                        missing.entry(*conversation).or_default().push(*sequence);
                    }
                    event
                }
            });
        }
        let ranges = missing
            .into_iter()
            .flat_map(|(conversation, sequences)| ranges(sequences).into_iter().map(move |range| self.fetch(conversation, range)));
        let read: BTreeMap<MessageKey, Bytes> = try_join_all(ranges).await?.into_iter().flatten().collect();
        let mut entries = Vec::with_capacity(references.len());
        let mut bytes = 0;
        for ((cursor, reference), event) in references.iter().zip(found) {
            let event = event.or_else(|| match reference {
                Reference::Message { conversation, sequence } => {
                    let key = (*conversation, *sequence);
                    // Told and not written yet.
                    read.get(&key).cloned().or_else(|| self.messages.get(&key).map(|kept| kept.event))
                }
                Reference::Event(_) => None,
            });
            let Some(event) = event.filter(|_| *cursor == after + 1 + entries.len() as u64) else { break };
            bytes += event.len();
            entries.push((*cursor, event));
            if bytes > PAGE_BYTES {
                break;
            }
        }
        Ok(entries)
    }

    async fn fetch(&self, conversation: ConversationId, range: RangeInclusive<u64>) -> Result<Vec<(MessageKey, Bytes)>, StoreError> {
        let assigned = self.assigned.load(Ordering::Acquire);
        let rows = self.store.messages(conversation, range).await?;
        let kept = |(sequence, event): (u64, Bytes)| {
            let key = (conversation, sequence);
            self.messages.insert(key, Kept { event: event.clone(), read: true });
            if self.assigned.load(Ordering::Acquire) != assigned {
                self.messages.remove(&key);
            }
            // Looked at after keeping it, so that whoever takes it back meanwhile has the last word.
            let left = self.recalled.get(&key);
            if let Some(left) = &left {
                self.messages.insert(key, Kept { event: left.clone(), read: true });
            }
            (key, left.unwrap_or(event))
        };
        Ok(rows.into_iter().map(kept).collect())
    }

    /// The messages with these numbers, in order.
    pub(crate) async fn messages(&self, conversation: ConversationId, range: RangeInclusive<u64>) -> Result<Vec<(u64, Bytes)>, StoreError> {
        let rows = self.store.messages(conversation, range).await?;
        let left = |(sequence, event)| (sequence, self.recalled.get(&(conversation, sequence)).unwrap_or(event));
        Ok(rows.into_iter().map(left).collect())
    }

    /// One message, if it can be read.
    pub(crate) async fn message(&self, conversation: ConversationId, sequence: u64) -> Result<Option<Bytes>, StoreError> {
        if let Some(event) = self.known(&(conversation, sequence)) {
            return Ok(Some(event));
        }
        let read = self.fetch(conversation, sequence..=sequence).await?.pop().map(|(_, event)| event);
        Ok(read.or_else(|| self.messages.get(&(conversation, sequence)).map(|kept| kept.event)))
    }

    /// Leaves out what the user deleted; the places stay.
    async fn without_deleted(&self, user: UserId, references: &[(u64, Reference)], entries: &mut [(u64, Bytes)]) -> Result<(), StoreError> {
        if !self.store.has_deleted(user).await? {
            return Ok(());
        }
        let mut places: BTreeMap<ConversationId, BTreeMap<u64, usize>> = BTreeMap::new();
        for (place, (_, reference)) in references.iter().enumerate().take(entries.len()) {
            if let Reference::Message { conversation, sequence } = reference {
                places.entry(*conversation).or_default().insert(*sequence, place);
            }
        }
        for (conversation, places) in places {
            let Some(((first, _), (last, _))) = places.first_key_value().zip(places.last_key_value()) else { continue };
            for sequence in self.store.deleted(user, conversation, *first..=*last).await? {
                let Some(place) = places.get(&sequence) else { continue };
                if let Some(left) = event::without_content(&entries[*place].1) {
                    entries[*place].1 = left;
                }
            }
        }
        Ok(())
    }

    /// Where conversations stand, with everything that somebody here was told of.
    pub(crate) async fn heads(&self, conversations: &[ConversationId]) -> Result<Vec<Head>, StoreError> {
        let mut heads = self.store.heads(conversations).await?;
        for (conversation, head) in conversations.iter().zip(&mut heads) {
            let Some(decided) = self.decided.get(conversation) else { continue };
            for pause in pauses(LOOKS) {
                if head.sequence >= decided {
                    break;
                }
                tokio::time::sleep(pause).await;
                *head = self.store.heads(&[*conversation]).await?.pop().unwrap_or_default();
            }
        }
        Ok(heads)
    }

    pub(crate) async fn head(&self, conversation: ConversationId) -> Result<Head, StoreError> {
        Ok(self.heads(&[conversation]).await?.pop().unwrap_or_default())
    }

    /// A user in a conversation and where that stands, such that unread messages can be counted: own messages up to the head are known.
    /// The conversation's owner and the inbox's write on their own, so the latter may be a moment behind.
    pub(crate) async fn member(&self, user: UserId, conversation: ConversationId) -> Result<Option<(Member, Head)>, StoreError> {
        let Some(member) = self.store.member(user, conversation).await? else { return Ok(None) };
        let head = self.head(conversation).await?;
        self.settle(user, conversation, member, head).await.map(Some)
    }

    /// As [`Reader::member`], for a member and a head read before, the member first.
    pub(crate) async fn settle(
        &self,
        user: UserId,
        conversation: ConversationId,
        mut member: Member,
        head: Head,
    ) -> Result<(Member, Head), StoreError> {
        let sent = self.store.sent(conversation, user).await?;
        for pause in pauses(LOOKS) {
            if sent <= member.reading.counted() {
                break;
            }
            if let Some(newer) = self.store.member(user, conversation).await? {
                member = newer;
            }
            if sent > member.reading.counted() {
                tokio::time::sleep(pause).await;
            }
        }
        let member = self.in_time(user, conversation, member).await?;
        let head = member.until(head);
        Ok((member, head))
    }

    /// Whether [`Reader::settle`] has nothing to wait for.
    pub(crate) async fn is_settled(&self, user: UserId, conversation: ConversationId, member: &Member) -> Result<bool, StoreError> {
        let (sent, in_time) = try_join(self.store.sent(conversation, user), self.is_in_time(user, conversation, member)).await?;
        Ok(in_time && sent <= member.reading.counted())
    }

    /// As the user's inbox knows the member, once that is what the conversation knows. The inbox may not know yet that the user left a group,
    /// and what came after that is not for the user. Called after the head was read: who is a member now was one when that was written.
    pub(crate) async fn in_time(&self, user: UserId, conversation: ConversationId, mut member: Member) -> Result<Member, StoreError> {
        for pause in pauses(LOOKS) {
            if self.is_in_time(user, conversation, &member).await? {
                return Ok(member);
            }
            tokio::time::sleep(pause).await;
            if let Some(newer) = self.store.member(user, conversation).await? {
                member = newer;
            }
        }
        Err(StoreError { message: format!("the inbox of {user} does not know how long they are in {conversation}") })
    }

    async fn is_in_time(&self, user: UserId, conversation: ConversationId, member: &Member) -> Result<bool, StoreError> {
        if conversation.kind() == ConversationKind::Direct || member.membership.left_at.is_some() {
            return Ok(true);
        }
        let known = self.store.group_member(conversation, user).await?;
        Ok(known.is_some_and(|known| known.joined_at == member.membership.joined_at))
    }

    /// The newest sequence, looked for a moment longer when the caller speaks of one slightly above it: another instance may have told of it.
    pub(crate) async fn head_for(&self, conversation: ConversationId, sequence: u64) -> Result<u64, StoreError> {
        let mut head = self.head(conversation).await?.sequence;
        for pause in pauses(FEW_LOOKS) {
            if sequence <= head || sequence > head + READ_ALONG {
                break;
            }
            tokio::time::sleep(pause).await;
            head = self.head(conversation).await?.sequence;
        }
        Ok(head)
    }
}

impl Announce<Recalled> for Reader {
    fn announce(&self, _: u32, announcements: Vec<Recalled>) {
        for Recalled { conversation, sequence, event } in announcements {
            self.recalled(conversation, sequence, &event);
        }
    }

    fn assigned(&self, _: u32) {}

    fn revoked(&self, _: u32) {}
}

/// Joins numbers that are near each other.
fn ranges(mut numbers: Vec<u64>) -> Vec<RangeInclusive<u64>> {
    numbers.sort_unstable();
    let mut ranges: Vec<RangeInclusive<u64>> = Vec::new();
    for number in numbers {
        match ranges.last_mut() {
            Some(range) if number - range.end() <= READ_ALONG => *range = *range.start()..=number,
            _ => ranges.push(number..=number),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use plaza_embedded_db::{Db, Options};

    use super::*;
    use crate::{
        domain::{
            conversation::{self, row::GroupMember},
            inbox::{self, Membership},
        },
        store::conformance::{embedded, put_conversation, put_inbox},
    };

    #[test]
    fn numbers_near_each_other_are_read_together() {
        assert_eq!(ranges(vec![40, 1, 2, 5, 57, 56]), [1..=5, 40..=57]);
        assert_eq!(ranges(vec![1, 18]), [1..=1, 18..=18]);
        assert!(ranges(Vec::new()).is_empty());
    }

    fn user(n: u8) -> UserId {
        UserId::from_bytes([n; 16])
    }

    fn text(sequence: u64) -> Bytes {
        Bytes::from(format!("message {sequence}"))
    }

    #[tokio::test]
    async fn a_page_ends_before_a_message_that_is_not_written_yet_and_waits_for_the_first() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = embedded(&Db::open(folder.path(), Options::default()).expect("a store"));
        let reader = Reader::new(Arc::clone(&store), 1 << 20);
        let conversation = ConversationId::direct(user(1), user(2));
        let entry = |cursor| inbox::Row::Entry { user: user(1), cursor, reference: Reference::Message { conversation, sequence: cursor } };
        let message = |sequence| conversation::Row::Message { conversation, sequence, event: text(sequence) };
        put_inbox(&store, 9, (1..=6).map(entry).chain([inbox::Row::Head { user: user(1), head: 6 }])).await;
        put_conversation(&store, 3, [message(1), message(2), message(4)]).await;
        reader.keep(conversation, 5, &text(5));
        let page = reader.page(user(1), 0, 50).await.expect("a page");
        assert_eq!(page, Page { entries: vec![(1, text(1)), (2, text(2))], head: 6 });

        let mut waiting = Box::pin(reader.page(user(1), 2, 50));
        assert!(waiting.as_mut().now_or_never().is_none(), "nothing can be told yet");
        put_conversation(&store, 4, [message(3)]).await;
        let page = waiting.await.expect("a page");
        assert_eq!(page.entries, [(3, text(3)), (4, text(4)), (5, text(5))], "one of them was told and not read");
    }

    #[tokio::test]
    async fn a_page_is_bounded_in_bytes() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = embedded(&Db::open(folder.path(), Options::default()).expect("a store"));
        let large = Bytes::from(vec![7; PAGE_BYTES / 3]);
        let entry = |cursor| inbox::Row::Entry { user: user(1), cursor, reference: Reference::Event(large.clone()) };
        put_inbox(&store, 9, (1..=9).map(entry).chain([inbox::Row::Head { user: user(1), head: 9 }])).await;
        let page = Reader::new(store, 1 << 20).page(user(1), 1, 50).await.expect("a page");
        assert_eq!(page.entries.iter().map(|(cursor, _)| *cursor).collect::<Vec<_>>(), [2, 3, 4, 5]);
    }

    #[tokio::test]
    async fn who_was_answered_reads_what_was_decided() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = embedded(&Db::open(folder.path(), Options::default()).expect("a store"));
        let reader = Reader::new(Arc::clone(&store), 1 << 20);
        let conversation = ConversationId::direct(user(1), user(2));
        reader.decided(conversation, 3);
        let mut head = Box::pin(reader.head(conversation));
        assert!(head.as_mut().now_or_never().is_none());
        put_conversation(&store, 5, [conversation::Row::Head { conversation, head: 3, time: 5 }]).await;
        assert_eq!(head.await.expect("read").sequence, 3);
    }

    #[tokio::test]
    async fn a_message_taken_back_is_read_from_no_memory() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = embedded(&Db::open(folder.path(), Options::default()).expect("a store"));
        let conversation = ConversationId::direct(user(1), user(2));
        let left = Bytes::from_static(b"left");
        let entry = |cursor| inbox::Row::Entry { user: user(1), cursor, reference: Reference::Message { conversation, sequence: cursor } };
        put_inbox(&store, 9, (1..=2).map(entry).chain([inbox::Row::Head { user: user(1), head: 2 }])).await;
        let message = |sequence| conversation::Row::Message { conversation, sequence, event: text(sequence) };
        put_conversation(&store, 1, [message(1), message(2)]).await;
        let read = async |reader: &Reader| {
            let page = reader.page(user(1), 0, 9).await.expect("a page").entries;
            let one = reader.message(conversation, 2).await.expect("read");
            let listed = reader.messages(conversation, 2..=2).await.expect("read");
            [page[1].1.clone(), one.expect("there"), listed[0].1.clone()]
        };
        // Known to be taken back before its row says so, and read before.
        let reader = Reader::new(Arc::clone(&store), 1 << 20);
        assert_eq!(read(&reader).await, [text(2), text(2), text(2)]);
        reader.announce(0, vec![Recalled { conversation, sequence: 2, event: left.clone() }]);
        reader.keep(conversation, 2, &text(2));
        assert_eq!(read(&reader).await, [left.clone(), left.clone(), left.clone()]);
        // A read that began before brings the message all the same: neither is it given nor kept.
        let fetched = reader.fetch(conversation, 1..=2).await.expect("read");
        assert_eq!(fetched.into_iter().map(|(_, event)| event).collect::<Vec<_>>(), [text(1), left.clone()]);
        assert_eq!(reader.messages.get(&(conversation, 2)).map(|kept| kept.event), Some(left.clone()));
        // After a start the message may be told again, and that it was taken back not.
        put_conversation(&store, 3, [conversation::Row::Recalled { conversation, sequence: 2, event: left.clone() }]).await;
        let reader = Reader::new(Arc::clone(&store), 1 << 20);
        reader.keep(conversation, 2, &text(2));
        put_conversation(&store, 4, [conversation::Row::Head { conversation, head: 2, time: 4 }]).await;
        assert_eq!(read(&reader).await, [left.clone(), left.clone(), left]);
    }

    #[tokio::test]
    async fn one_of_several_instances_keeps_no_message_that_can_be_taken_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = embedded(&Db::open(folder.path(), Options::default()).expect("a store"));
        let conversation = ConversationId::direct(user(1), user(2));
        let (clock, sent) = (Clock::manual(1_000 * SECOND), 1_000 * SECOND);
        let said = |content: &[u8]| {
            let (sender, client) = (user(1), plaza_types::ClientId::new(sent, [1; 10]));
            let whole = event::Message {
                conversation,
                sequence: 1,
                sender,
                client,
                time: sent,
                content,
                quote: &[],
                mentions: &[],
                mentions_all: false,
            };
            event::message(&whole)
        };
        let (words, left) = (said(&[10, 3, 10, 1, 65]), event::emptied(conversation, 1, user(1), "id", sent));
        assert_eq!((event::sent_at(&words), event::sent_at(&left)), (Some(sent), Some(sent)));
        put_conversation(&store, 1, [conversation::Row::Message { conversation, sequence: 1, event: words.clone() }]).await;
        let sessions = Arc::new(Sessions::new(2));
        sessions.assigned(0, 1);
        let reader = Reader::new(Arc::clone(&store), 1 << 20).among(Arc::clone(&sessions), clock.clone());
        let read = async || reader.message(conversation, 1).await.expect("read").expect("there");
        assert_eq!(read().await, words);
        // Another instance is told.
        put_conversation(&store, 3, [conversation::Row::Recalled { conversation, sequence: 1, event: left.clone() }]).await;
        assert_eq!(read().await, left);
        // What can no longer change is kept, and everything where everything is heard of.
        let newer = |event: Bytes| [conversation::Row::Recalled { conversation, sequence: 1, event }];
        sessions.assigned(1, 1);
        reader.assigned();
        put_conversation(&store, 4, newer(words.clone())).await;
        assert_eq!(read().await, words, "it was not heard of what happened before");
        put_conversation(&store, 5, newer(left.clone())).await;
        assert_eq!(read().await, words);
        sessions.revoked(1);
        assert_eq!(read().await, left);
        clock.advance(Duration::from_micros(RECALLED_WITHIN + SECOND));
        put_conversation(&store, 6, newer(words)).await;
        assert_eq!(read().await, left);
    }

    #[tokio::test]
    async fn a_former_member_waits_until_the_inbox_knows_and_reads_no_further() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = embedded(&Db::open(folder.path(), Options::default()).expect("a store"));
        let (reader, group) = (Reader::new(Arc::clone(&store), 1 << 20), ConversationId::group(7, [7; 10]));
        let row = |joined_at| conversation::Row::Member {
            conversation: group,
            user: user(1),
            member: Some(GroupMember { joined_at, ..GroupMember::default() }),
        };
        let head = |head| conversation::Row::Head { conversation: group, head, time: head };
        let membership = |joined_at, left_at| inbox::Row::Membership {
            user: user(1),
            conversation: group,
            membership: Membership { joined_at, since: 1, left_at, left: 4, ..Membership::default() },
        };
        put_conversation(&store, 1, [row(2), head(3)]).await;
        put_inbox(&store, 1, [membership(2, None)]).await;
        let read = async || reader.member(user(1), group).await.expect("read").expect("known").1.sequence;
        assert_eq!(read().await, 3);
        // Removed by 4, and the inbox does not know.
        put_conversation(&store, 2, [conversation::Row::Member { conversation: group, user: user(1), member: None }, head(9)]).await;
        let mut waiting = Box::pin(read());
        assert!(waiting.as_mut().now_or_never().is_none(), "9 is not for them");
        put_inbox(&store, 2, [membership(2, Some(4))]).await;
        assert_eq!(waiting.await, 4);
        // In again by 11, and the inbox does not know: the time before is what is shown.
        put_conversation(&store, 3, [row(10), head(11)]).await;
        assert_eq!(read().await, 4);
        put_inbox(&store, 3, [membership(10, None)]).await;
        assert_eq!(read().await, 11);
    }
}
