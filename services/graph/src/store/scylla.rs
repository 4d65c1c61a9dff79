//! The store on ScyllaDB or Cassandra. The tables are in `scylla/0002_edges.cql`, those of the processor come first. A contact, its remark and
//! a block are columns of one row: how one user stands to another is one read.

use async_trait::async_trait;
use bytes::Bytes;
use plaza_processor::{
    StoreError, Timed,
    cql::{self, StateTables, Writes, timestamp},
};
use plaza_scylla_kit::{Error, Migrations, Read, Session, Step, Write, concurrently};
use plaza_types::{ClientId, UserId, limits::DAY};

use super::{Named, Place, Relation, Stance, Stances, Store};
use crate::domain::{Contact, Folder, Permissions, Request, Row, Status};

/// The tables.
pub const MIGRATIONS: Migrations = Migrations {
    service: "graph",
    steps: &[cql::STEP, Step { name: "edges", cql: include_str!("scylla/0002_edges.cql") }],
    overlay: &[cql::OVERLAY, include_str!("scylla/overlay.cql")],
};

/// Askings of so long are a partition. Changing it hides those that are stored.
const BUCKET: u64 = 30 * DAY;

/// The store.
pub struct Scylla {
    session: Session,
    tables: StateTables,
    edge: Read,
    edges: Read,
    put_contact: Write,
    put_remark: Write,
    put_blocked: Write,
    buckets: Read,
    put_bucket: Write,
    requests_at: Read,
    requests_before: Read,
    put_request: Write,
    statuses: Read,
    put_status: Write,
}

/// listed, since, starred, `chat_only`, `hide_my_moments`, `hide_their_moments`, tags, remark, blocked, and the write times of contact and block.
type EdgeColumns = (
    Option<bool>,
    Option<i64>,
    Option<bool>,
    Option<bool>,
    Option<bool>,
    Option<bool>,
    Option<Vec<String>>,
    Option<String>,
    Option<bool>,
    Option<i64>,
    Option<i64>,
);

/// As `EdgeColumns`, behind the other side.
type OtherAndEdgeColumns = (
    Bytes,
    Option<bool>,
    Option<i64>,
    Option<bool>,
    Option<bool>,
    Option<bool>,
    Option<bool>,
    Option<Vec<String>>,
    Option<String>,
    Option<bool>,
    Option<i64>,
    Option<i64>,
);

/// time, other, request, note, source
type RequestColumns = (i64, Bytes, Bytes, String, String);

const EDGE: &str = "listed, since, starred, chat_only, hide_my_moments, hide_their_moments, tags, remark, blocked, \
                    WRITETIME(listed), WRITETIME(blocked) FROM {keyspace}.edges WHERE owner = ?";

/// All of how one user stands to another. Everything is absent that was never written.
#[derive(Debug, Clone, Default)]
struct Edge {
    listed: Option<bool>,
    since: u64,
    starred: bool,
    permissions: Permissions,
    tags: Vec<String>,
    remark: String,
    blocked: Option<bool>,
    version: u64,
}

impl From<EdgeColumns> for Edge {
    fn from(columns: EdgeColumns) -> Self {
        let (listed, since, starred, chat_only, hide_my_moments, hide_their_moments, tags, remark, blocked, contact, block) = columns;
        Self {
            listed,
            since: since.unwrap_or_default().cast_unsigned(),
            starred: starred.unwrap_or_default(),
            permissions: Permissions {
                chat_only: chat_only.unwrap_or_default(),
                hide_my_moments: hide_my_moments.unwrap_or_default(),
                hide_their_moments: hide_their_moments.unwrap_or_default(),
            },
            tags: tags.unwrap_or_default(),
            remark: remark.unwrap_or_default(),
            blocked,
            version: contact.max(block).unwrap_or_default().cast_unsigned(),
        }
    }
}

impl Edge {
    fn named(self, owner: UserId, other: UserId) -> Option<Named> {
        if self.listed != Some(true) {
            return None;
        }
        let Self { since, starred, permissions, tags, remark, .. } = self;
        Some(Named { contact: Contact { owner, other, listed: true, since, starred, permissions, tags }, remark })
    }

    fn stance(self) -> Stance {
        let lists = self.listed == Some(true);
        Stance { lists, blocks: self.blocked == Some(true), permissions: self.permissions, tags: self.tags, version: self.version }
    }
}

impl Scylla {
    /// Prepares the statements. The tables must be there.
    ///
    /// # Errors
    /// The cluster's.
    pub async fn open(session: &Session) -> Result<Self, Error> {
        let keyspace = session.keyspace(MIGRATIONS.service);
        let requests = "SELECT time, other, request, note, source FROM {keyspace}.requests_sent_and_received \
                        WHERE owner = ? AND folder = ? AND bucket = ?";
        Ok(Self {
            session: session.clone(),
            tables: StateTables::open(&keyspace).await?,
            edge: keyspace.read(&format!("SELECT {EDGE} AND other = ?")).await?,
            edges: keyspace.read(&format!("SELECT other, {EDGE} AND other > ? LIMIT ?")).await?,
            put_contact: keyspace
                .write(
                    "INSERT INTO {keyspace}.edges \
                     (owner, other, listed, since, starred, chat_only, hide_my_moments, hide_their_moments, tags) \
                     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?",
                )
                .await?,
            put_remark: keyspace.write("INSERT INTO {keyspace}.edges (owner, other, remark) VALUES (?, ?, ?) USING TIMESTAMP ?").await?,
            put_blocked: keyspace.write("INSERT INTO {keyspace}.edges (owner, other, blocked) VALUES (?, ?, ?) USING TIMESTAMP ?").await?,
            buckets: keyspace.read("SELECT bucket FROM {keyspace}.request_buckets WHERE owner = ? AND folder = ?").await?,
            put_bucket: keyspace
                .write("INSERT INTO {keyspace}.request_buckets (owner, folder, bucket) VALUES (?, ?, ?) USING TIMESTAMP ?")
                .await?,
            requests_at: keyspace.read(&format!("{requests} AND time = ? AND other > ? LIMIT ?")).await?,
            requests_before: keyspace.read(&format!("{requests} AND time < ? LIMIT ?")).await?,
            put_request: keyspace
                .write(
                    "INSERT INTO {keyspace}.requests_sent_and_received \
                     (owner, folder, bucket, time, other, request, note, source) VALUES (?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?",
                )
                .await?,
            statuses: keyspace.read("SELECT folder, time, status FROM {keyspace}.request_status WHERE owner = ? AND other = ?").await?,
            put_status: keyspace
                .write(
                    "INSERT INTO {keyspace}.request_status (owner, other, folder, time, status) VALUES (?, ?, ?, ?, ?) USING TIMESTAMP ?",
                )
                .await?,
        })
    }

    fn put(&self, writes: &mut Writes, row: &Timed<Row>) {
        let time = timestamp(row.time);
        match &row.row {
            Row::Contact(row) => {
                let Permissions { chat_only, hide_my_moments, hide_their_moments } = row.permissions;
                let (owner, other, since) = (bytes(&row.owner), bytes(&row.other), row.since.cast_signed());
                writes.push(self.put_contact.bind((
                    owner,
                    other,
                    row.listed,
                    since,
                    row.starred,
                    chat_only,
                    hide_my_moments,
                    hide_their_moments,
                    &row.tags,
                    time,
                )));
            }
            Row::Remark(row) => writes.push(self.put_remark.bind((bytes(&row.owner), bytes(&row.other), &row.remark, time))),
            Row::Blocked(row) => writes.push(self.put_blocked.bind((bytes(&row.owner), bytes(&row.other), row.blocked, time))),
            Row::Request(row) => {
                let (owner, other, kept_in, bucket) = (bytes(&row.owner), bytes(&row.other), folder(row.kept_in), bucket(row.time));
                let request = row.request.as_bytes().as_slice();
                let sent = row.time.cast_signed();
                writes.push(self.put_request.bind((owner, kept_in, bucket, sent, other, request, &row.note, &row.source, time)));
                writes.push(self.put_bucket.bind((owner, kept_in, bucket, time)));
            }
            Row::RequestStatus(row) => {
                let status: i8 = match row.status {
                    Status::Pending => 0,
                    Status::Accepted => 1,
                    Status::Ignored => 2,
                    Status::Withdrawn => 3,
                };
                let (owner, other, sent) = (bytes(&row.owner), bytes(&row.other), row.time.cast_signed());
                writes.push(self.put_status.bind((owner, other, folder(row.kept_in), sent, status, time)));
            }
        }
    }

    async fn edge(&self, owner: UserId, other: UserId) -> Result<Edge, Error> {
        let row = self.session.row::<EdgeColumns>(&self.edge, (bytes(&owner), bytes(&other))).await?;
        Ok(row.map(Edge::from).unwrap_or_default())
    }

    /// At most `limit` of what `read` makes of an owner's edges, in the order of the others' ids, from behind `after` on.
    async fn edges<T>(
        &self,
        owner: UserId,
        after: Option<UserId>,
        limit: usize,
        read: impl Fn(UserId, Edge) -> Option<T>,
    ) -> Result<Vec<T>, StoreError> {
        let mut after = after.map_or_else(Bytes::new, |user| user.to_key());
        let mut found = Vec::new();
        loop {
            let rows = self.session.rows::<OtherAndEdgeColumns>(&self.edges, (bytes(&owner), &after, count(limit))).await?;
            let Some(last) = rows.last() else { return Ok(found) };
            after = last.0.clone();
            for (other, listed, since, starred, chat_only, hide_mine, hide_theirs, tags, remark, blocked, contact, block) in rows {
                let columns = (listed, since, starred, chat_only, hide_mine, hide_theirs, tags, remark, blocked, contact, block);
                found.extend(read(user(&other)?, Edge::from(columns)));
                if found.len() == limit {
                    return Ok(found);
                }
            }
        }
    }

    /// Of a bucket, at most `limit` askings from behind `after` on.
    async fn bucket(&self, key: (UserId, Folder, i32), after: Option<Place>, limit: usize) -> Result<Vec<RequestColumns>, Error> {
        let (owner, kept_in, bucket) = (bytes(&key.0), folder(key.1), key.2);
        let (mut rows, mut before) = (Vec::new(), i64::MAX);
        if let Some(Place { time, other }) = after {
            before = time.cast_signed();
            rows = self.session.rows(&self.requests_at, (owner, kept_in, bucket, before, bytes(&other), count(limit))).await?;
        }
        if rows.len() < limit {
            let left = count(limit - rows.len());
            rows.extend(self.session.rows::<RequestColumns>(&self.requests_before, (owner, kept_in, bucket, before, left)).await?);
        }
        Ok(rows)
    }

    async fn statuses(&self, owner: UserId, other: UserId) -> Result<Vec<(Folder, u64, Status)>, StoreError> {
        let rows = self.session.rows::<(i8, i64, i8)>(&self.statuses, (bytes(&owner), bytes(&other))).await?;
        let read = |(folder, time, status): (i8, i64, i8)| {
            let folder = match folder {
                0 => Folder::Received,
                1 => Folder::Sent,
                _ => return Err(malformed("a folder of a newer version")),
            };
            let status = match status {
                0 => Status::Pending,
                1 => Status::Accepted,
                2 => Status::Ignored,
                3 => Status::Withdrawn,
                _ => return Err(malformed("a request status of a newer version")),
            };
            Ok((folder, time.cast_unsigned(), status))
        };
        rows.into_iter().map(read).collect()
    }

    /// The request of a row, if it is the newest of its pair.
    async fn newest(&self, owner: UserId, folder: Folder, row: RequestColumns) -> Result<Option<(Request, Status)>, StoreError> {
        let (time, other, request, note, source) = row;
        let (time, other) = (time.cast_unsigned(), user(&other)?);
        let statuses = self.statuses(owner, other).await?;
        let Some((.., status)) = statuses.into_iter().find(|(kept_in, newest, _)| *kept_in == folder && *newest == time) else {
            return Ok(None);
        };
        let request = ClientId::from_slice(&request).ok_or_else(|| malformed("a request id"))?;
        Ok(Some((Request { owner, kept_in: folder, other, request, time, note, source }, status)))
    }

    async fn relation(&self, one: UserId, other: UserId) -> Result<Relation, StoreError> {
        let edges = async { Ok::<_, StoreError>(tokio::try_join!(self.edge(one, other), self.edge(other, one))?) };
        let ((own, theirs), statuses) = tokio::try_join!(edges, self.statuses(one, other))?;
        let pending = statuses.iter().filter(|(.., status)| *status == Status::Pending);
        Ok(Relation {
            lists: own.listed == Some(true),
            listed_by: theirs.listed == Some(true),
            blocks: own.blocked == Some(true),
            blocked_by: theirs.blocked == Some(true),
            asked: pending.map(|(_, time, _)| *time).max(),
            known: own.listed.is_some() || own.blocked.is_some() || !statuses.is_empty(),
        })
    }
}

#[async_trait]
impl Store for Scylla {
    async fn contacts(&self, owner: UserId, after: Option<UserId>, limit: usize) -> Result<Vec<Named>, StoreError> {
        self.edges(owner, after, limit, |other, edge| edge.named(owner, other)).await
    }

    async fn contact(&self, owner: UserId, other: UserId) -> Result<Option<Named>, StoreError> {
        Ok(self.edge(owner, other).await?.named(owner, other))
    }

    async fn requests(
        &self,
        owner: UserId,
        kept_in: Folder,
        after: Option<Place>,
        limit: usize,
    ) -> Result<Vec<(Request, Status)>, StoreError> {
        let first = after.map_or(i32::MAX, |place| bucket(place.time));
        let buckets = self.session.rows::<(i32,)>(&self.buckets, (bytes(&owner), folder(kept_in))).await?;
        let mut found = Vec::new();
        for (bucket,) in buckets.into_iter().filter(|(bucket,)| *bucket <= first) {
            let mut after = after.filter(|_| bucket == first);
            loop {
                let rows = self.bucket((owner, kept_in, bucket), after, limit).await?;
                let Some((time, other, ..)) = rows.last() else { break };
                after = Some(Place { time: time.cast_unsigned(), other: user(other)? });
                let newest = rows.into_iter().map(|row| async { Ok(self.newest(owner, kept_in, row).await) });
                for request in concurrently(newest).await? {
                    found.extend(request?);
                    if found.len() == limit {
                        return Ok(found);
                    }
                }
            }
        }
        Ok(found)
    }

    async fn blocked(&self, owner: UserId, after: Option<UserId>, limit: usize) -> Result<Vec<UserId>, StoreError> {
        self.edges(owner, after, limit, |other, edge| (edge.blocked == Some(true)).then_some(other)).await
    }

    async fn relations(&self, one: UserId, others: &[UserId]) -> Result<Vec<Relation>, StoreError> {
        let relations = others.iter().map(|other| async { Ok(self.relation(one, *other).await) });
        concurrently(relations).await?.into_iter().collect()
    }

    async fn stances(&self, one: UserId, others: &[UserId]) -> Result<Vec<Stances>, StoreError> {
        let stances = others.iter().map(|other| async {
            let (own, theirs) = tokio::try_join!(self.edge(one, *other), self.edge(*other, one))?;
            Ok(Stances { own: own.stance(), theirs: theirs.stance() })
        });
        Ok(concurrently(stances).await?)
    }
}

plaza_processor::machine_store!(Scylla: Row, |store, _rows| store.tables, |writes, row| store.put(writes, row));

fn bytes(user: &UserId) -> &[u8] {
    user.as_bytes()
}

fn folder(folder: Folder) -> i8 {
    match folder {
        Folder::Received => 0,
        Folder::Sent => 1,
    }
}

fn bucket(time: u64) -> i32 {
    i32::try_from(time / BUCKET).unwrap_or(i32::MAX)
}

fn count(limit: usize) -> i32 {
    i32::try_from(limit.max(1)).unwrap_or(i32::MAX)
}

fn user(bytes: &[u8]) -> Result<UserId, StoreError> {
    UserId::from_slice(bytes).ok_or_else(|| malformed("a user id"))
}

fn malformed(what: &str) -> StoreError {
    StoreError { message: format!("a stored row cannot be read: {what}") }
}

#[cfg(test)]
mod tests {
    use plaza_scylla_kit::testing::{Lease, lease};

    use super::*;

    struct Opened {
        store: Scylla,
        _lease: Lease,
    }

    impl std::ops::Deref for Opened {
        type Target = dyn Store;
        fn deref(&self) -> &Self::Target {
            &self.store
        }
    }

    async fn open() -> Option<Opened> {
        let lease = lease(&plaza_testkit::external::cql()?, &[MIGRATIONS]).await;
        Some(Opened { store: Scylla::open(&lease.session).await.expect("opened"), _lease: lease })
    }

    crate::store::conformance::cases!(open);
}
