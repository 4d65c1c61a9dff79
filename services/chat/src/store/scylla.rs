//! The store on ScyllaDB or Cassandra; its tables are in `scylla/0002_rows.cql`. Nothing is written at once here but the columns of one row, so the
//! watermarks of a write wait until all else of it is acknowledged (`write.rs`), and a read that saw a watermark finds what it covers.

mod groups;
mod write;

use std::ops::RangeInclusive;

use async_trait::async_trait;
use bytes::Bytes;
use plaza_processor::{
    StoreError,
    cql::{self, OwnRows, StateTables},
};
use plaza_scylla_kit::{Error, Migrations, PagingState, Read, Session, Step, concurrently};
use plaza_types::{ConversationId, UserId};
use prost::Message as _;

use super::{Head, Member, Store, entry, malformed};
use crate::domain::{
    conversation,
    inbox::{self, Membership, Reading, Reference},
};

/// The tables.
pub const MIGRATIONS: Migrations = Migrations {
    service: "chat",
    steps: &[cql::STEP, Step { name: "rows", cql: include_str!("scylla/0002_rows.cql") }],
    overlay: &[cql::OVERLAY, include_str!("scylla/overlay.cql")],
};

/// Numbers of a conversation or an inbox in one partition.
const BUCKET: u64 = 10_000;
/// Conversations of a user that are read at a time.
const PAGE: i32 = 1_000;

/// The store.
pub struct Scylla {
    session: Session,
    tables: StateTables,
    reads: Reads,
    writes: write::Writes,
    groups: groups::Reads,
}

struct Reads {
    inbox_head: Read,
    entries: Read,
    messages: Read,
    head: Read,
    sent: Read,
    member: Read,
    conversations: Read,
}

/// A conversation, membership and reading.
type MemberRow = (Vec<u8>, Option<Vec<u8>>, Option<Vec<u8>>);

impl Scylla {
    /// Prepares what it asks. The tables must be there.
    ///
    /// # Errors
    /// The cluster's.
    pub async fn open(session: &Session) -> Result<Self, Error> {
        let keyspace = session.keyspace(MIGRATIONS.service);
        let reads = Reads {
            inbox_head: keyspace.read("SELECT cursor FROM {keyspace}.inbox_heads WHERE user_id = ?").await?,
            entries: keyspace
                .read("SELECT cursor, reference FROM {keyspace}.inbox_entries WHERE user_id = ? AND bucket = ? AND cursor >= ? AND cursor <= ?")
                .await?,
            messages: keyspace
                .read(
                    "SELECT sequence, event, remains FROM {keyspace}.messages \
                     WHERE conversation = ? AND bucket = ? AND sequence >= ? AND sequence <= ?",
                )
                .await?,
            head: keyspace.read("SELECT sequence, sent_at FROM {keyspace}.heads WHERE conversation = ?").await?,
            sent: keyspace.read("SELECT sequence FROM {keyspace}.sent WHERE conversation = ? AND user_id = ?").await?,
            member: keyspace
                .read("SELECT conversation, membership, reading FROM {keyspace}.members WHERE user_id = ? AND conversation = ?")
                .await?,
            conversations: keyspace.read("SELECT conversation, membership, reading FROM {keyspace}.members WHERE user_id = ?").await?,
        };
        Ok(Self {
            session: session.clone(),
            tables: StateTables::open(&keyspace).await?,
            reads,
            writes: write::Writes::prepare(&keyspace).await?,
            groups: groups::Reads::prepare(&keyspace).await?,
        })
    }
}

#[async_trait]
impl Store for Scylla {
    async fn inbox_head(&self, user: UserId) -> Result<u64, StoreError> {
        let row = self.session.row(&self.reads.inbox_head, (user.as_bytes(),)).await?;
        row.map_or(Ok(0), |(cursor,)| unsigned(cursor))
    }

    async fn entries(&self, user: UserId, cursors: RangeInclusive<u64>) -> Result<Vec<(u64, Reference)>, StoreError> {
        let rows =
            concurrently(partitions(cursors).map(|(bucket, first, last)| {
                self.session.rows::<(i64, Vec<u8>)>(&self.reads.entries, (user.as_bytes(), bucket, first, last))
            }));
        rows.await?.into_iter().flatten().map(|(cursor, value)| Ok((unsigned(cursor)?, entry::decode(&value)?))).collect()
    }

    async fn messages(&self, conversation: ConversationId, sequences: RangeInclusive<u64>) -> Result<Vec<(u64, Bytes)>, StoreError> {
        // Copied out of the answer: a message is kept in memory for longer than those it came with.
        let rows = concurrently(partitions(sequences).map(|(bucket, first, last)| {
            let values = (conversation.as_bytes(), bucket, first, last);
            self.session.rows::<(i64, Option<Vec<u8>>, Option<Vec<u8>>)>(&self.reads.messages, values)
        }));
        let message = |(sequence, event, remains): (i64, Option<Vec<u8>>, Option<Vec<u8>>)| {
            Ok((unsigned(sequence)?, remains.or(event).ok_or_else(|| malformed("a message"))?.into()))
        };
        rows.await?.into_iter().flatten().map(message).collect()
    }

    async fn heads(&self, conversations: &[ConversationId]) -> Result<Vec<Head>, StoreError> {
        let rows = conversations.iter().copied().map(|conversation| self.session.row(&self.reads.head, (*conversation.as_bytes(),)));
        let head = |row: Option<(i64, i64)>| match row {
            Some((sequence, time)) => Ok(Head { sequence: unsigned(sequence)?, time: unsigned(time)? }),
            None => Ok(Head::default()),
        };
        concurrently(rows).await?.into_iter().map(head).collect()
    }

    async fn sent(&self, conversation: ConversationId, user: UserId) -> Result<u64, StoreError> {
        let row = self.session.row(&self.reads.sent, (conversation.as_bytes(), user.as_bytes())).await?;
        row.map_or(Ok(0), |(sequence,)| unsigned(sequence))
    }

    async fn member(&self, user: UserId, conversation: ConversationId) -> Result<Option<Member>, StoreError> {
        let row = self.session.row(&self.reads.member, (user.as_bytes(), conversation.as_bytes())).await?;
        row.map(|row| member(row).map(|(_, member)| member)).transpose()
    }

    async fn conversations(&self, user: UserId) -> Result<Vec<(ConversationId, Member)>, StoreError> {
        let (mut members, mut at) = (Vec::new(), Some(PagingState::start()));
        while let Some(from) = at {
            let (rows, next) = self.session.page(&self.reads.conversations, (user.as_bytes(),), PAGE, from).await?;
            for row in rows {
                members.push(member(row)?);
            }
            at = next;
        }
        Ok(members)
    }
}

fn member((conversation, membership, reading): MemberRow) -> Result<(ConversationId, Member), StoreError> {
    let conversation = ConversationId::from_slice(&conversation).ok_or_else(|| malformed("a member's key"))?;
    let membership = membership.ok_or_else(|| malformed("a member without membership"))?;
    let membership = Membership::decode(&*membership).map_err(malformed)?;
    let reading = reading.map_or_else(|| Ok(Reading::default()), |reading| Reading::decode(&*reading)).map_err(malformed)?;
    Ok((conversation, Member { membership, reading }))
}

/// The partitions that have these numbers, each with the ends of the range. Nobody asks for more than a page or what is up to a head.
fn partitions(numbers: RangeInclusive<u64>) -> impl Iterator<Item = (i64, i64, i64)> {
    let (first, last) = numbers.into_inner();
    (first / BUCKET..=last / BUCKET).map(move |bucket| (signed(bucket), signed(first), signed(last)))
}

/// As CQL has numbers. None of ours comes near the end.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> Result<u64, StoreError> {
    u64::try_from(number).map_err(malformed)
}

plaza_processor::machine_store!(Scylla: conversation::Row, |store, rows| OwnRows(&store.tables), store.writes.conversations(&store.session, rows));
plaza_processor::machine_store!(Scylla: inbox::Row, |store, rows| OwnRows(&store.tables), store.writes.inboxes(&store.session, rows));
