//! What is read of groups.

use std::ops::RangeInclusive;

use async_trait::async_trait;
use plaza_processor::StoreError;
use plaza_scylla_kit::{Error, Keyspace, Read, concurrently};
use plaza_types::{ConversationId, UserId};
use prost::Message;

use super::{Scylla, partitions, signed, unsigned};
use crate::{
    domain::conversation::row::{Group, GroupMember, Pending},
    store::{Groups, malformed},
};

/// Places of a group's order in one partition. Few of them are notices or calls, so most groups have all of theirs in the first one.
pub(super) const PLACES: u64 = 50_000;
pub(super) const NOTICE: i8 = 0;
pub(super) const CALL: i8 = 1;

pub(super) struct Reads {
    group: Read,
    member: Read,
    members: Read,
    join_requests: Read,
    invitations: Read,
    newest_place: Read,
    bucket_before: Read,
    deleted: Read,
    deleter: Read,
}

impl Reads {
    pub(super) async fn prepare(keyspace: &Keyspace) -> Result<Self, Error> {
        let page = |column: &str, table: &str, of: &str, by: &str| {
            format!("SELECT {by}, {column} FROM {{keyspace}}.{table} WHERE {of} = ? AND {by} > ? LIMIT ?")
        };
        Ok(Self {
            group: keyspace.read("SELECT group_row FROM {keyspace}.groups WHERE conversation = ?").await?,
            member: keyspace.read("SELECT member FROM {keyspace}.group_members WHERE conversation = ? AND user_id = ?").await?,
            members: keyspace.read(&page("member", "group_members", "conversation", "user_id")).await?,
            join_requests: keyspace.read(&page("pending", "join_requests", "conversation", "user_id")).await?,
            invitations: keyspace.read(&page("pending", "invitations", "user_id", "conversation")).await?,
            newest_place: keyspace
                .read(
                    "SELECT sequence, sender, number FROM {keyspace}.places \
                     WHERE conversation = ? AND kind = ? AND bucket = ? AND sequence <= ? LIMIT 1",
                )
                .await?,
            bucket_before: keyspace
                .read("SELECT bucket FROM {keyspace}.place_buckets WHERE conversation = ? AND kind = ? AND bucket < ? LIMIT 1")
                .await?,
            deleted: keyspace
                .read(
                    "SELECT sequence FROM {keyspace}.deleted \
                     WHERE user_id = ? AND conversation = ? AND bucket = ? AND sequence >= ? AND sequence <= ?",
                )
                .await?,
            deleter: keyspace.read("SELECT user_id FROM {keyspace}.deleters WHERE user_id = ?").await?,
        })
    }
}

/// A sequence, who calls, and the number that goes with it.
type Place = (i64, Option<Vec<u8>>, i64);

impl Scylla {
    /// The newest place up to a sequence. What a partition is said to have is there, or just being written: so this ends after one or two.
    async fn newest_place(&self, conversation: ConversationId, kind: i8, sequence: u64) -> Result<Option<Place>, StoreError> {
        let (key, sequence) = (conversation.as_bytes(), signed(sequence));
        let mut bucket = sequence / signed(PLACES);
        loop {
            let found = self.session.row(&self.groups.newest_place, (key, kind, bucket, sequence)).await?;
            if found.is_some() || bucket == 0 {
                return Ok(found);
            }
            let Some((before,)) = self.session.row(&self.groups.bucket_before, (key, kind, bucket)).await? else { return Ok(None) };
            bucket = before;
        }
    }

    /// Rows with the id each of them is of; every id is above none.
    async fn listed<I, T: Message + Default>(
        &self,
        read: &Read,
        of: &[u8],
        after: &[u8],
        limit: usize,
        id: impl Fn(&[u8]) -> Option<I>,
    ) -> Result<Vec<(I, T)>, StoreError> {
        let limit = i32::try_from(limit).unwrap_or(i32::MAX);
        let rows = self.session.rows::<(Vec<u8>, Vec<u8>)>(read, (of, after, limit)).await?;
        let row =
            |(key, value): (Vec<u8>, Vec<u8>)| Ok((id(&key).ok_or_else(|| malformed("an id"))?, T::decode(&*value).map_err(malformed)?));
        rows.into_iter().map(row).collect()
    }
}

#[async_trait]
impl Groups for Scylla {
    async fn group(&self, conversation: ConversationId) -> Result<Option<Group>, StoreError> {
        decode(self.session.row(&self.groups.group, (conversation.as_bytes(),)).await?)
    }

    async fn group_member(&self, conversation: ConversationId, user: UserId) -> Result<Option<GroupMember>, StoreError> {
        decode(self.session.row(&self.groups.member, (conversation.as_bytes(), user.as_bytes())).await?)
    }

    async fn group_members(
        &self,
        conversation: ConversationId,
        after: Option<UserId>,
        limit: usize,
    ) -> Result<Vec<(UserId, GroupMember)>, StoreError> {
        let after = after.map(|user| user.to_key()).unwrap_or_default();
        self.listed(&self.groups.members, conversation.as_bytes(), &after, limit, UserId::from_slice).await
    }

    async fn join_requests(
        &self,
        conversation: ConversationId,
        after: Option<UserId>,
        limit: usize,
    ) -> Result<Vec<(UserId, Pending)>, StoreError> {
        let after = after.map(|user| user.to_key()).unwrap_or_default();
        self.listed(&self.groups.join_requests, conversation.as_bytes(), &after, limit, UserId::from_slice).await
    }

    async fn invitations(
        &self,
        user: UserId,
        after: Option<ConversationId>,
        limit: usize,
    ) -> Result<Vec<(ConversationId, Pending)>, StoreError> {
        let after = after.map(|conversation| conversation.to_key()).unwrap_or_default();
        self.listed(&self.groups.invitations, user.as_bytes(), &after, limit, ConversationId::from_slice).await
    }

    async fn notices(&self, conversation: ConversationId, sequence: u64) -> Result<u64, StoreError> {
        self.newest_place(conversation, NOTICE, sequence).await?.map_or(Ok(0), |(_, _, number)| unsigned(number))
    }

    async fn called_all(&self, conversation: ConversationId, sequence: u64, user: UserId) -> Result<u64, StoreError> {
        match self.newest_place(conversation, CALL, sequence).await? {
            Some((_, Some(sender), earlier)) if sender == user.as_bytes() => unsigned(earlier),
            Some((sequence, _, _)) => unsigned(sequence),
            None => Ok(0),
        }
    }

    async fn deleted(&self, user: UserId, conversation: ConversationId, sequences: RangeInclusive<u64>) -> Result<Vec<u64>, StoreError> {
        let rows = concurrently(partitions(sequences).map(|(bucket, first, last)| {
            let values = (user.as_bytes(), conversation.as_bytes(), bucket, first, last);
            self.session.rows::<(i64,)>(&self.groups.deleted, values)
        }));
        rows.await?.into_iter().flatten().map(|(sequence,)| unsigned(sequence)).collect()
    }

    async fn has_deleted(&self, user: UserId) -> Result<bool, StoreError> {
        Ok(self.session.row::<(Vec<u8>,)>(&self.groups.deleter, (user.as_bytes(),)).await?.is_some())
    }
}

fn decode<T: Message + Default>(row: Option<(Vec<u8>,)>) -> Result<Option<T>, StoreError> {
    row.map(|(value,)| T::decode(&*value).map_err(malformed)).transpose()
}
