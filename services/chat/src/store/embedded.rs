//! The store in the process. Everything a record causes goes into one batch, so a watermark is never seen before what it covers.
//!
//! | keyspace | key | value |
//! | --- | --- | --- |
//! | `chat.messages` | conversation, sequence; the same and `r` | the event; what is left of it |
//! | `chat.entries` | user, cursor | a tag, then conversation and sequence or the event |
//! | `chat.marks` | conversation; user; conversation and user | head and time; head; newest own sequence |
//! | `chat.members` | user, conversation, `m` or `r` | `Membership`, `Reading` |

mod groups;

use std::ops::RangeInclusive;

use async_trait::async_trait;
use bytes::{Buf, Bytes};
use plaza_embedded_db::{Batch, Db, Keyspace};
use plaza_processor::{StoreError, Timed, embedded::StateTables};
use plaza_types::{ConversationId, UserId};
use prost::Message as _;

use super::{
    Head, Member, Store, entry, malformed,
    put::{Put, Rewritten},
};
use crate::domain::{
    conversation,
    inbox::{self, Membership, Reading, Reference},
};

const MEMBERSHIP: u8 = b'm';
const READING: u8 = b'r';
/// Follows a message's key where the message was taken back, so that one range read finds both.
const RECALLED: u8 = b'r';

/// The tables.
#[derive(Debug)]
pub struct Embedded {
    tables: StateTables,
    messages: Keyspace,
    entries: Keyspace,
    marks: Keyspace,
    members: Keyspace,
    groups: groups::Tables,
}

impl Embedded {
    /// Opens or creates the tables. Blocks while they are created.
    ///
    /// # Errors
    /// The engine's.
    pub fn open(db: &Db) -> Result<Self, StoreError> {
        Ok(Self {
            tables: StateTables::open(db, "chat")?,
            messages: db.range_keyspace("chat.messages").map_err(failed)?,
            entries: db.range_keyspace("chat.entries").map_err(failed)?,
            marks: db.keyspace("chat.marks").map_err(failed)?,
            members: db.keyspace("chat.members").map_err(failed)?,
            groups: groups::Tables::open(db)?,
        })
    }

    fn put_conversation(&self, batch: &mut Batch, put: &mut Put, row: &Timed<conversation::Row>) {
        let rewritten = match &row.row {
            conversation::Row::Sent { conversation, user, .. } => Some(Rewritten::Sent(*conversation, *user)),
            conversation::Row::Head { conversation, .. } => Some(Rewritten::Head(*conversation)),
            // Written once, or seldom.
            _ => None,
        };
        if rewritten.is_some_and(|name| put.is_superseded(name, row.time)) {
            return;
        }
        match &row.row {
            conversation::Row::Message { conversation, sequence, .. } if put.is_recalled(*conversation, *sequence) => {}
            conversation::Row::Message { conversation, sequence, event } => {
                batch.insert(&self.messages, numbered(conversation.as_bytes(), *sequence), event.clone());
            }
            conversation::Row::Recalled { conversation, sequence, event } => {
                put.recall(*conversation, *sequence);
                let mut key = numbered(conversation.as_bytes(), *sequence);
                batch.insert(&self.messages, key.clone(), event.clone());
                key.push(RECALLED);
                batch.insert(&self.messages, key, event.clone());
            }
            conversation::Row::Sent { conversation, user, sequence } => {
                batch.upsert_at(&self.marks, joined(conversation.as_bytes(), user.as_bytes()), row.time, sequence.to_be_bytes());
            }
            conversation::Row::Head { conversation, head, time } => {
                let value = [head.to_be_bytes(), time.to_be_bytes()].concat();
                batch.upsert_at(&self.marks, conversation.to_key(), row.time, value);
            }
            _ => self.groups.put_conversation(batch, row),
        }
    }

    fn put_inbox(&self, batch: &mut Batch, put: &mut Put, row: &Timed<inbox::Row>) {
        let rewritten = match &row.row {
            inbox::Row::Entry { .. } | inbox::Row::Deleted { .. } => None,
            inbox::Row::Head { user, .. } => Some(Rewritten::InboxHead(*user)),
            inbox::Row::Membership { user, conversation, .. } => Some(Rewritten::Membership(*user, *conversation)),
            inbox::Row::Reading { user, conversation, .. } => Some(Rewritten::Reading(*user, *conversation)),
        };
        if rewritten.is_some_and(|name| put.is_superseded(name, row.time)) {
            return;
        }
        match &row.row {
            inbox::Row::Entry { user, cursor, reference } => {
                batch.insert(&self.entries, numbered(user.as_bytes(), *cursor), entry::encode(reference));
            }
            inbox::Row::Head { user, head } => {
                batch.upsert_at(&self.marks, user.to_key(), row.time, head.to_be_bytes());
            }
            inbox::Row::Membership { user, conversation, membership } => {
                batch.upsert_at(&self.members, member_key(*user, *conversation, MEMBERSHIP), row.time, membership.encode_to_vec());
            }
            inbox::Row::Reading { user, conversation, reading } => {
                batch.upsert_at(&self.members, member_key(*user, *conversation, READING), row.time, reading.encode_to_vec());
            }
            inbox::Row::Deleted { .. } => self.groups.put_inbox(batch, row),
        }
    }

    fn mark(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self.marks.get_at(key).map_err(failed)?.map(|(_, value)| value))
    }

    fn number(&self, key: &[u8]) -> Result<u64, StoreError> {
        self.mark(key)?.map_or(Ok(0), |mut value| value.try_get_u64().map_err(malformed))
    }

    fn range(&self, keyspace: &Keyspace, prefix: &[u8], numbers: RangeInclusive<u64>) -> Result<Vec<(u64, Bytes)>, StoreError> {
        let (first, last) = (numbered(prefix, *numbers.start()), numbered(prefix, *numbers.end()));
        let number = |(key, value): (Bytes, Bytes)| Ok((key.slice(prefix.len()..).try_get_u64().map_err(malformed)?, value));
        keyspace.range(&first[..]..=&last[..]).map(|row| row.map_err(failed).and_then(number)).collect()
    }
}

#[async_trait]
impl Store for Embedded {
    async fn inbox_head(&self, user: UserId) -> Result<u64, StoreError> {
        self.number(user.as_bytes())
    }

    async fn entries(&self, user: UserId, cursors: RangeInclusive<u64>) -> Result<Vec<(u64, Reference)>, StoreError> {
        let rows = self.range(&self.entries, user.as_bytes(), cursors)?;
        rows.into_iter().map(|(cursor, value)| Ok((cursor, entry::decode(&value)?))).collect()
    }

    async fn messages(&self, conversation: ConversationId, sequences: RangeInclusive<u64>) -> Result<Vec<(u64, Bytes)>, StoreError> {
        let prefix = conversation.as_bytes();
        let (first, mut last) = (numbered(prefix, *sequences.start()), numbered(prefix, *sequences.end()));
        last.push(RECALLED);
        let mut messages: Vec<(u64, Bytes)> = Vec::new();
        for row in self.messages.range(&first[..]..=&last[..]) {
            let (key, event) = row.map_err(failed)?;
            let sequence = key.slice(prefix.len()..).try_get_u64().map_err(malformed)?;
            // What is left of a message comes after it.
            messages.pop_if(|(last, _)| *last == sequence);
            messages.push((sequence, event));
        }
        Ok(messages)
    }

    async fn heads(&self, conversations: &[ConversationId]) -> Result<Vec<Head>, StoreError> {
        let head = |conversation: &ConversationId| match self.mark(conversation.as_bytes())? {
            Some(mut value) if value.len() == 16 => Ok(Head { sequence: value.get_u64(), time: value.get_u64() }),
            Some(_) => Err(malformed("a head")),
            None => Ok(Head::default()),
        };
        conversations.iter().map(head).collect()
    }

    async fn sent(&self, conversation: ConversationId, user: UserId) -> Result<u64, StoreError> {
        self.number(&joined(conversation.as_bytes(), user.as_bytes()))
    }

    async fn member(&self, user: UserId, conversation: ConversationId) -> Result<Option<Member>, StoreError> {
        Ok(self.scan(&joined(user.as_bytes(), conversation.as_bytes()))?.pop().map(|(_, member)| member))
    }

    async fn conversations(&self, user: UserId) -> Result<Vec<(ConversationId, Member)>, StoreError> {
        self.scan(user.as_bytes())
    }
}

impl Embedded {
    /// Both rows of each member follow each other, so one scan reads them as of one moment.
    fn scan(&self, prefix: &[u8]) -> Result<Vec<(ConversationId, Member)>, StoreError> {
        let mut members: Vec<(ConversationId, Member)> = Vec::new();
        let end = [prefix, &[u8::MAX; 18]].concat();
        for (key, _, value) in self.members.scan_at(prefix, &end, false, usize::MAX).map_err(failed)? {
            let Some((conversation, kind)) = key.get(16..33).and_then(ConversationId::from_slice).zip(key.get(33)) else {
                return Err(malformed("a member's key"));
            };
            match (*kind, members.last_mut()) {
                (MEMBERSHIP, _) => {
                    let membership = Membership::decode(value).map_err(malformed)?;
                    members.push((conversation, Member { membership, reading: Reading::default() }));
                }
                (READING, Some((known, member))) if *known == conversation => {
                    member.reading = Reading::decode(value).map_err(malformed)?;
                }
                _ => return Err(malformed("a member's row")),
            }
        }
        Ok(members)
    }
}

plaza_processor::machine_store!(Embedded: conversation::Row, |store, rows| store.tables, {
    let mut put = Put::of(rows.len());
    move |batch, row| store.put_conversation(batch, &mut put, row)
});
plaza_processor::machine_store!(Embedded: inbox::Row, |store, rows| store.tables, {
    let mut put = Put::of(rows.len());
    move |batch, row| store.put_inbox(batch, &mut put, row)
});

fn joined(one: &[u8], other: &[u8]) -> Vec<u8> {
    [one, other].concat()
}

fn numbered(prefix: &[u8], number: u64) -> Vec<u8> {
    joined(prefix, &number.to_be_bytes())
}

fn member_key(user: UserId, conversation: ConversationId, kind: u8) -> Vec<u8> {
    [user.as_bytes().as_slice(), conversation.as_bytes(), &[kind]].concat()
}

fn failed(error: plaza_embedded_db::Error) -> StoreError {
    StoreError { message: error.to_string() }
}

#[cfg(test)]
mod tests {
    use plaza_embedded_db::Options;
    use plaza_processor::{Machine as _, Store as _};

    use super::*;
    use crate::domain::conversation::Conversations;

    #[tokio::test]
    async fn a_message_sent_and_taken_back_in_one_batch_leaves_no_content_on_disk() {
        let folder = tempfile::tempdir().expect("a folder");
        let db = Db::open(folder.path(), Options::default()).expect("a store");
        let store = Embedded::open(&db).expect("tables");
        let user = |n| UserId::from_bytes([n; 16]);
        let conversation = ConversationId::direct(user(1), user(2));
        let row = |time, row| Timed { time, row };
        let rows = [
            row(1, conversation::Row::Message { conversation, sequence: 1, event: Bytes::from_static(b"secret") }),
            row(2, conversation::Row::Recalled { conversation, sequence: 1, event: Bytes::from_static(b"gone") }),
            row(3, conversation::Row::Message { conversation, sequence: 2, event: Bytes::from_static(b"stays") }),
        ];
        store.write_rows(Conversations::NAME, &rows, &[]).await.expect("written");
        let stored: Vec<_> = store.messages.range(..).map(|row| row.expect("a row").1).collect();
        assert_eq!(stored, [&b"gone"[..], b"gone", b"stays"]);
    }
}
