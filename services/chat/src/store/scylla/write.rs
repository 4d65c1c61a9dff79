//! Writing rows: each a statement with its write time, all at once, and after all of them the watermarks.

use foldhash::HashMap;
use plaza_processor::Timed;
use plaza_scylla_kit::{Batch, Bound, Error, Keyspace, Session, Write, concurrently};
use plaza_types::{ConversationId, UserId};
use prost::Message;

use super::{
    BUCKET, entry,
    groups::{CALL, NOTICE, PLACES},
    signed,
};
use crate::{
    domain::{
        conversation::{
            self,
            row::{Pending, Waits},
        },
        inbox,
    },
    store::put::{Put, Rewritten},
};

pub(super) struct Writes {
    message: Write,
    recalled: Write,
    sent: Write,
    head: Write,
    notice: Write,
    call: Write,
    place_bucket: Write,
    group: Write,
    group_member: Changes,
    join_request: Changes,
    invitation: Changes,
    entry: Write,
    inbox_head: Write,
    membership: Write,
    reading: Write,
    deleted: Write,
    deleter: Write,
}

/// A row that is there, or no longer. Only one record of its partition writes at a time, so a delete hides nothing but what is older.
struct Changes {
    insert: Write,
    delete: Write,
}

/// What one write comes to.
#[derive(Default)]
struct Statements {
    rows: Vec<Bound>,
    members: HashMap<(UserId, ConversationId), Member>,
    watermarks: Vec<Bound>,
}

/// The newest of both columns of a member, each with its time.
#[derive(Default)]
struct Member {
    membership: Option<(u64, Vec<u8>)>,
    reading: Option<(u64, Vec<u8>)>,
}

impl Changes {
    /// Of a table whose key is (`of`, `by`).
    async fn prepare(keyspace: &Keyspace, table: &str, of: &str, by: &str, column: &str) -> Result<Self, Error> {
        let insert = format!("INSERT INTO {{keyspace}}.{table} ({of}, {by}, {column}) VALUES (?, ?, ?) USING TIMESTAMP ?");
        let delete = format!("DELETE FROM {{keyspace}}.{table} USING TIMESTAMP ? WHERE {of} = ? AND {by} = ?");
        Ok(Self { insert: keyspace.write(&insert).await?, delete: keyspace.write(&delete).await? })
    }

    fn bind(&self, of: &[u8], by: &[u8], time: u64, value: Option<&impl Message>) -> Result<Bound, Error> {
        match value {
            Some(value) => self.insert.bind((of, by, value.encode_to_vec(), signed(time))),
            None => self.delete.bind((signed(time), of, by)),
        }
    }
}

impl Writes {
    pub(super) async fn prepare(keyspace: &Keyspace) -> Result<Self, Error> {
        let insert = async |table: &str, columns: &str| {
            let marks = vec!["?"; columns.split(", ").count()].join(", ");
            keyspace.write(&format!("INSERT INTO {{keyspace}}.{table} ({columns}) VALUES ({marks}) USING TIMESTAMP ?")).await
        };
        Ok(Self {
            message: insert("messages", "conversation, bucket, sequence, event").await?,
            recalled: insert("messages", "conversation, bucket, sequence, event, remains").await?,
            sent: insert("sent", "conversation, user_id, sequence").await?,
            head: insert("heads", "conversation, sequence, sent_at").await?,
            notice: insert("places", "conversation, kind, bucket, sequence, number").await?,
            call: insert("places", "conversation, kind, bucket, sequence, sender, number").await?,
            place_bucket: insert("place_buckets", "conversation, kind, bucket").await?,
            group: insert("groups", "conversation, group_row").await?,
            group_member: Changes::prepare(keyspace, "group_members", "conversation", "user_id", "member").await?,
            join_request: Changes::prepare(keyspace, "join_requests", "conversation", "user_id", "pending").await?,
            invitation: Changes::prepare(keyspace, "invitations", "user_id", "conversation", "pending").await?,
            entry: insert("inbox_entries", "user_id, bucket, cursor, reference").await?,
            inbox_head: insert("inbox_heads", "user_id, cursor").await?,
            membership: insert("members", "user_id, conversation, membership").await?,
            reading: insert("members", "user_id, conversation, reading").await?,
            deleted: insert("deleted", "user_id, conversation, bucket, sequence").await?,
            deleter: insert("deleters", "user_id").await?,
        })
    }

    pub(super) async fn conversations(&self, session: &Session, rows: &[Timed<conversation::Row>]) -> Result<(), Error> {
        let (mut statements, mut put) = (Statements::default(), Put::of(rows.len()));
        for row in rows.iter().rev() {
            self.conversation(&mut statements, &mut put, row)?;
        }
        statements.write(self, session).await
    }

    pub(super) async fn inboxes(&self, session: &Session, rows: &[Timed<inbox::Row>]) -> Result<(), Error> {
        let (mut statements, mut put) = (Statements::default(), Put::of(rows.len()));
        for row in rows.iter().rev() {
            self.inbox(&mut statements, &mut put, row)?;
        }
        statements.write(self, session).await
    }

    fn conversation(
        &self,
        statements: &mut Statements,
        put: &mut Put,
        Timed { time, row }: &Timed<conversation::Row>,
    ) -> Result<(), Error> {
        let (at, rows) = (signed(*time), &mut statements.rows);
        match row {
            conversation::Row::Message { conversation, sequence, event } => {
                let (bucket, sequence) = numbered(*sequence);
                rows.push(self.message.bind((conversation.as_bytes(), bucket, sequence, event, at))?);
            }
            conversation::Row::Recalled { conversation, sequence, event } => {
                let (bucket, sequence) = numbered(*sequence);
                rows.push(self.recalled.bind((conversation.as_bytes(), bucket, sequence, event, event, at))?);
            }
            conversation::Row::Sent { conversation, user, sequence } => {
                if !put.is_superseded(Rewritten::Sent(*conversation, *user), *time) {
                    rows.push(self.sent.bind((conversation.as_bytes(), user.as_bytes(), signed(*sequence), at))?);
                }
            }
            conversation::Row::Head { conversation, head, time: sent_at } => {
                if !put.is_superseded(Rewritten::Head(*conversation), *time) {
                    let values = (conversation.as_bytes(), signed(*head), signed(*sent_at), at);
                    statements.watermarks.push(self.head.bind(values)?);
                }
            }
            conversation::Row::Notice { conversation, sequence, count } => {
                let (bucket, sequence) = (signed(sequence / PLACES), signed(*sequence));
                rows.push(self.notice.bind((conversation.as_bytes(), NOTICE, bucket, sequence, signed(*count), at))?);
                rows.push(self.place_bucket.bind((conversation.as_bytes(), NOTICE, bucket, at))?);
            }
            conversation::Row::CalledAll { conversation, sequence, sender, before } => {
                let (bucket, sequence) = (signed(sequence / PLACES), signed(*sequence));
                let values = (conversation.as_bytes(), CALL, bucket, sequence, sender.as_bytes(), signed(*before), at);
                rows.push(self.call.bind(values)?);
                rows.push(self.place_bucket.bind((conversation.as_bytes(), CALL, bucket, at))?);
            }
            conversation::Row::Group { conversation, group } => {
                rows.push(self.group.bind((conversation.as_bytes(), group.encode_to_vec(), at))?);
            }
            conversation::Row::Member { conversation, user, member } => {
                rows.push(self.group_member.bind(conversation.as_bytes(), user.as_bytes(), *time, member.as_ref())?);
            }
            conversation::Row::Pending { conversation, user, pending } => {
                let of = |waits| pending.as_ref().filter(|pending: &&Pending| pending.waits() == waits);
                rows.push(self.join_request.bind(conversation.as_bytes(), user.as_bytes(), *time, of(Waits::Approval))?);
                rows.push(self.invitation.bind(user.as_bytes(), conversation.as_bytes(), *time, of(Waits::Invited))?);
            }
        }
        Ok(())
    }

    fn inbox(&self, statements: &mut Statements, put: &mut Put, Timed { time, row }: &Timed<inbox::Row>) -> Result<(), Error> {
        let (at, rows) = (signed(*time), &mut statements.rows);
        match row {
            inbox::Row::Entry { user, cursor, reference } => {
                let (bucket, cursor) = numbered(*cursor);
                rows.push(self.entry.bind((user.as_bytes(), bucket, cursor, entry::encode(reference), at))?);
            }
            inbox::Row::Head { user, head } => {
                if !put.is_superseded(Rewritten::InboxHead(*user), *time) {
                    statements.watermarks.push(self.inbox_head.bind((user.as_bytes(), signed(*head), at))?);
                }
            }
            inbox::Row::Membership { user, conversation, membership } => {
                if !put.is_superseded(Rewritten::Membership(*user, *conversation), *time) {
                    let member = statements.members.entry((*user, *conversation)).or_default();
                    member.membership = Some((*time, membership.encode_to_vec()));
                }
            }
            inbox::Row::Reading { user, conversation, reading } => {
                if !put.is_superseded(Rewritten::Reading(*user, *conversation), *time) {
                    let member = statements.members.entry((*user, *conversation)).or_default();
                    member.reading = Some((*time, reading.encode_to_vec()));
                }
            }
            inbox::Row::Deleted { user, conversation, sequence } => {
                let (bucket, sequence) = numbered(*sequence);
                rows.push(self.deleted.bind((user.as_bytes(), conversation.as_bytes(), bucket, sequence, at))?);
                if !put.is_superseded(Rewritten::Deleter(*user), *time) {
                    rows.push(self.deleter.bind((user.as_bytes(), at))?);
                }
            }
        }
        Ok(())
    }

    /// Both columns of a member in one request, so that they are seen as of one moment.
    async fn member(&self, session: &Session, (user, conversation): (UserId, ConversationId), member: Member) -> Result<(), Error> {
        let mut batch = Batch::new();
        for (write, column) in [(&self.membership, member.membership), (&self.reading, member.reading)] {
            if let Some((time, value)) = column {
                batch.write(write, (*user.as_bytes(), *conversation.as_bytes(), value, signed(time)));
            }
        }
        session.write_batch(batch).await
    }
}

impl Statements {
    async fn write(self, writes: &Writes, session: &Session) -> Result<(), Error> {
        let members = concurrently(self.members.into_iter().map(|(name, member)| writes.member(session, name, member)));
        let (rows, members) = futures::join!(session.write_all(self.rows), members);
        rows.and(members.map(drop))?;
        session.write_all(self.watermarks).await
    }
}

fn numbered(number: u64) -> (i64, i64) {
    (signed(number / BUCKET), signed(number))
}
