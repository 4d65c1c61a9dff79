//! The part of the store in the process that is about groups.
//!
//! | keyspace | key | value |
//! | --- | --- | --- |
//! | `chat.groups` | conversation; `m`, conversation, user; `w`, conversation, user; `i`, user, conversation | group; member; who waits for approval; invitation |
//! | `chat.places` | conversation, `n` or `c`, sequence | notices up to it; who calls everybody, and the newest such call by others before |
//! | `chat.deleted` | user, conversation, sequence | nothing |

use std::ops::RangeInclusive;

use async_trait::async_trait;
use bytes::{Buf, Bytes};
use plaza_embedded_db::{Batch, Db, Keyspace};
use plaza_processor::{StoreError, Timed};
use plaza_types::{ConversationId, UserId};
use prost::Message;

use super::{Embedded, failed, joined, numbered};
use crate::{
    domain::{
        conversation::{
            self,
            row::{Group, GroupMember, Pending, Waits},
        },
        inbox,
    },
    store::{Groups, malformed},
};

const MEMBER: u8 = b'm';
const WAITS: u8 = b'w';
const INVITATION: u8 = b'i';
const NOTICE: u8 = b'n';
const CALL: u8 = b'c';

/// The tables.
#[derive(Debug)]
pub(super) struct Tables {
    groups: Keyspace,
    places: Keyspace,
    deleted: Keyspace,
}

impl Tables {
    pub(super) fn open(db: &Db) -> Result<Self, StoreError> {
        Ok(Self {
            groups: db.keyspace("chat.groups").map_err(failed)?,
            places: db.range_keyspace("chat.places").map_err(failed)?,
            deleted: db.range_keyspace("chat.deleted").map_err(failed)?,
        })
    }

    pub(super) fn put_conversation(&self, batch: &mut Batch, row: &Timed<conversation::Row>) {
        let time = row.time;
        match &row.row {
            conversation::Row::Notice { conversation, sequence, count } => {
                batch.insert(&self.places, place(*conversation, NOTICE, *sequence), count.to_be_bytes().to_vec());
            }
            conversation::Row::CalledAll { conversation, sequence, sender, before } => {
                batch.insert(&self.places, place(*conversation, CALL, *sequence), joined(sender.as_bytes(), &before.to_be_bytes()));
            }
            conversation::Row::Group { conversation, group } => {
                batch.upsert_at(&self.groups, conversation.to_key(), time, group.encode_to_vec());
            }
            conversation::Row::Member { conversation, user, member } => {
                self.put(batch, tagged(MEMBER, conversation.as_bytes(), user.as_bytes()), time, member.as_ref());
            }
            conversation::Row::Pending { conversation, user, pending } => {
                let of = |waits| pending.as_ref().filter(|pending| pending.waits() == waits);
                self.put(batch, tagged(WAITS, conversation.as_bytes(), user.as_bytes()), time, of(Waits::Approval));
                self.put(batch, tagged(INVITATION, user.as_bytes(), conversation.as_bytes()), time, of(Waits::Invited));
            }
            conversation::Row::Message { .. }
            | conversation::Row::Recalled { .. }
            | conversation::Row::Sent { .. }
            | conversation::Row::Head { .. } => {}
        }
    }

    fn put(&self, batch: &mut Batch, key: Vec<u8>, time: u64, value: Option<&impl Message>) {
        match value {
            Some(value) => batch.upsert_at(&self.groups, key, time, value.encode_to_vec()),
            None => batch.remove_at(&self.groups, key, time),
        }
    }

    pub(super) fn put_inbox(&self, batch: &mut Batch, row: &Timed<inbox::Row>) {
        if let inbox::Row::Deleted { user, conversation, sequence } = &row.row {
            batch.insert(&self.deleted, numbered(&joined(user.as_bytes(), conversation.as_bytes()), *sequence), Bytes::new());
        }
    }

    fn one<T: Message + Default>(&self, key: &[u8]) -> Result<Option<T>, StoreError> {
        self.groups.get_at(key).map_err(failed)?.map(|(_, value)| T::decode(value).map_err(malformed)).transpose()
    }

    /// At most `limit` rows whose keys begin with `prefix`, after the one with this rest; each with its rest.
    fn page<T: Message + Default>(&self, prefix: &[u8], after: &[u8], limit: usize) -> Result<Vec<(Bytes, T)>, StoreError> {
        let start = if after.is_empty() { prefix.to_vec() } else { [prefix, after, &[0]].concat() };
        let end = [prefix, &[u8::MAX; 18]].concat();
        let rows = self.groups.scan_at(&start, &end, false, limit).map_err(failed)?;
        rows.into_iter().map(|(key, _, value)| Ok((key.slice(prefix.len()..), T::decode(value).map_err(malformed)?))).collect()
    }

    fn users<T: Message + Default>(
        &self,
        tag: u8,
        conversation: ConversationId,
        after: Option<UserId>,
        limit: usize,
    ) -> Result<Vec<(UserId, T)>, StoreError> {
        let after = after.map(|user| user.to_key()).unwrap_or_default();
        let rows = self.page(&joined(&[tag], conversation.as_bytes()), &after, limit)?;
        rows.into_iter().map(|(user, row)| Ok((UserId::from_slice(&user).ok_or_else(|| malformed("a user"))?, row))).collect()
    }

    fn newest(&self, conversation: ConversationId, tag: u8, sequence: u64) -> Result<Option<(u64, Bytes)>, StoreError> {
        let (first, last) = (place(conversation, tag, 0), place(conversation, tag, sequence.saturating_add(1)));
        let row = self.places.last(&first, &last).map_err(failed)?;
        row.map(|(key, value)| Ok((key.slice(18..).try_get_u64().map_err(malformed)?, value))).transpose()
    }
}

#[async_trait]
impl Groups for Embedded {
    async fn group(&self, conversation: ConversationId) -> Result<Option<Group>, StoreError> {
        self.groups.one(conversation.as_bytes())
    }

    async fn group_member(&self, conversation: ConversationId, user: UserId) -> Result<Option<GroupMember>, StoreError> {
        self.groups.one(&tagged(MEMBER, conversation.as_bytes(), user.as_bytes()))
    }

    async fn group_members(
        &self,
        conversation: ConversationId,
        after: Option<UserId>,
        limit: usize,
    ) -> Result<Vec<(UserId, GroupMember)>, StoreError> {
        self.groups.users(MEMBER, conversation, after, limit)
    }

    async fn join_requests(
        &self,
        conversation: ConversationId,
        after: Option<UserId>,
        limit: usize,
    ) -> Result<Vec<(UserId, Pending)>, StoreError> {
        self.groups.users(WAITS, conversation, after, limit)
    }

    async fn invitations(
        &self,
        user: UserId,
        after: Option<ConversationId>,
        limit: usize,
    ) -> Result<Vec<(ConversationId, Pending)>, StoreError> {
        let after = after.map(|conversation| conversation.to_key()).unwrap_or_default();
        let rows = self.groups.page(&joined(&[INVITATION], user.as_bytes()), &after, limit)?;
        rows.into_iter()
            .map(|(conversation, row)| Ok((ConversationId::from_slice(&conversation).ok_or_else(|| malformed("a group"))?, row)))
            .collect()
    }

    async fn notices(&self, conversation: ConversationId, sequence: u64) -> Result<u64, StoreError> {
        let row = self.groups.newest(conversation, NOTICE, sequence)?;
        row.map_or(Ok(0), |(_, mut count)| count.try_get_u64().map_err(malformed))
    }

    async fn called_all(&self, conversation: ConversationId, sequence: u64, user: UserId) -> Result<u64, StoreError> {
        match self.groups.newest(conversation, CALL, sequence)? {
            Some((_, mut call)) if call.len() == 24 && call[..16] == user.as_bytes()[..] => {
                call.advance(16);
                Ok(call.get_u64())
            }
            Some((sequence, call)) if call.len() == 24 => Ok(sequence),
            Some(_) => Err(malformed("a call")),
            None => Ok(0),
        }
    }

    async fn deleted(&self, user: UserId, conversation: ConversationId, sequences: RangeInclusive<u64>) -> Result<Vec<u64>, StoreError> {
        let rows = self.range(&self.groups.deleted, &joined(user.as_bytes(), conversation.as_bytes()), sequences)?;
        Ok(rows.into_iter().map(|(sequence, _)| sequence).collect())
    }

    async fn has_deleted(&self, user: UserId) -> Result<bool, StoreError> {
        Ok(self.groups.deleted.prefix(user.as_bytes()).next().transpose().map_err(failed)?.is_some())
    }
}

fn place(conversation: ConversationId, tag: u8, sequence: u64) -> Vec<u8> {
    numbered(&joined(conversation.as_bytes(), &[tag]), sequence)
}

fn tagged(tag: u8, one: &[u8], other: &[u8]) -> Vec<u8> {
    [&[tag], one, other].concat()
}
