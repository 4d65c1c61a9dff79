//! The store in the process. All rows are in one keyspace, those of one user and kind together:
//!
//! | key | value |
//! | --- | --- |
//! | `c`, owner, other | a contact |
//! | `n`, owner, other | a remark |
//! | `b`, owner, other | a block |
//! | `r`, owner, folder, time (newest first), other | a request |
//! | `s`, owner, folder, other | the newest request's time and status |

use async_trait::async_trait;
use bytes::Bytes;
use plaza_embedded_db::{Batch, Db, Keyspace};
use plaza_processor::{StoreError, Timed, embedded::StateTables};
use plaza_types::{ClientId, UserId};
use prost::Message;

use super::{Named, Place, Relation, Stance, Stances, Store};
use crate::domain::{Contact, Folder, Permissions, Request, Row, Status};

const CONTACT: u8 = b'c';
const REMARK: u8 = b'n';
const BLOCKED: u8 = b'b';
const REQUEST: u8 = b'r';
const STATUS: u8 = b's';

/// The tables.
#[derive(Debug)]
pub struct Embedded {
    tables: StateTables,
    rows: Keyspace,
}

#[derive(Clone, PartialEq, Message)]
struct ContactValue {
    #[prost(bool, tag = "1")]
    listed: bool,
    #[prost(uint64, tag = "2")]
    since: u64,
    #[prost(bool, tag = "3")]
    starred: bool,
    #[prost(bool, tag = "4")]
    chat_only: bool,
    #[prost(bool, tag = "5")]
    hide_my_moments: bool,
    #[prost(bool, tag = "6")]
    hide_their_moments: bool,
    #[prost(string, repeated, tag = "7")]
    tags: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct RemarkValue {
    #[prost(string, tag = "1")]
    remark: String,
}

#[derive(Clone, PartialEq, Message)]
struct BlockedValue {
    #[prost(bool, tag = "1")]
    blocked: bool,
}

#[derive(Clone, PartialEq, Message)]
struct RequestValue {
    #[prost(bytes = "bytes", tag = "1")]
    request: Bytes,
    #[prost(string, tag = "2")]
    note: String,
    #[prost(string, tag = "3")]
    source: String,
}

#[derive(Clone, PartialEq, Message)]
struct StatusValue {
    #[prost(uint64, tag = "1")]
    time: u64,
    #[prost(uint32, tag = "2")]
    status: u32,
}

impl Embedded {
    /// Opens or creates the tables. Blocks while they are created.
    ///
    /// # Errors
    /// The engine's.
    pub fn open(db: &Db) -> Result<Self, StoreError> {
        Ok(Self { tables: StateTables::open(db, "graph")?, rows: db.keyspace("graph.rows").map_err(failed)? })
    }

    fn put(&self, batch: &mut Batch, row: &Timed<Row>) {
        let (key, value) = match &row.row {
            Row::Contact(row) => {
                let Permissions { chat_only, hide_my_moments, hide_their_moments } = row.permissions;
                let tags = row.tags.clone();
                let value = ContactValue {
                    listed: row.listed,
                    since: row.since,
                    starred: row.starred,
                    chat_only,
                    hide_my_moments,
                    hide_their_moments,
                    tags,
                };
                (pair(CONTACT, row.owner, row.other), value.encode_to_vec())
            }
            Row::Remark(row) => (pair(REMARK, row.owner, row.other), RemarkValue { remark: row.remark.clone() }.encode_to_vec()),
            Row::Blocked(row) => (pair(BLOCKED, row.owner, row.other), BlockedValue { blocked: row.blocked }.encode_to_vec()),
            Row::Request(row) => {
                let request = Bytes::copy_from_slice(row.request.as_bytes());
                let value = RequestValue { request, note: row.note.clone(), source: row.source.clone() };
                (request_key(row.owner, row.kept_in, Place { time: row.time, other: row.other }), value.encode_to_vec())
            }
            Row::RequestStatus(row) => {
                let status = match row.status {
                    Status::Pending => 0,
                    Status::Accepted => 1,
                    Status::Ignored => 2,
                    Status::Withdrawn => 3,
                };
                (status_key(row.owner, row.kept_in, row.other), StatusValue { time: row.time, status }.encode_to_vec())
            }
        };
        batch.upsert_at(&self.rows, key, row.time, value);
    }

    fn get<V: Message + Default>(&self, key: &[u8]) -> Result<Option<V>, StoreError> {
        let stored = self.rows.get_at(key).map_err(failed)?;
        stored.map(|(_, value)| V::decode(value).map_err(malformed)).transpose()
    }

    /// At most `limit` of what `read` makes of the rows below a prefix, beginning behind `after`. It is given the key's rest and the value.
    fn list<T>(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
        read: impl Fn(&[u8], Bytes) -> Result<Option<T>, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        // Above every rest: the longest is shorter.
        let end = [prefix, &[u8::MAX; 32]].concat();
        let mut start = after.map_or_else(|| prefix.to_vec(), |rest| [prefix, rest, &[0]].concat());
        let mut found = Vec::new();
        loop {
            let rows = self.rows.scan_at(&start, &end, false, limit).map_err(failed)?;
            let Some((last, ..)) = rows.last() else { return Ok(found) };
            start = [last, &[0][..]].concat();
            for (key, _, value) in rows {
                found.extend(read(&key[prefix.len()..], value)?);
                if found.len() == limit {
                    return Ok(found);
                }
            }
        }
    }

    fn named(&self, owner: UserId, other: UserId, value: ContactValue) -> Result<Option<Named>, StoreError> {
        if !value.listed {
            return Ok(None);
        }
        let remark = self.get::<RemarkValue>(&pair(REMARK, owner, other))?.unwrap_or_default().remark;
        let permissions = Permissions {
            chat_only: value.chat_only,
            hide_my_moments: value.hide_my_moments,
            hide_their_moments: value.hide_their_moments,
        };
        let contact = Contact { owner, other, listed: true, since: value.since, starred: value.starred, permissions, tags: value.tags };
        Ok(Some(Named { contact, remark }))
    }

    fn status(&self, owner: UserId, folder: Folder, other: UserId) -> Result<Option<(u64, Status)>, StoreError> {
        let Some(value) = self.get::<StatusValue>(&status_key(owner, folder, other))? else { return Ok(None) };
        let status = match value.status {
            0 => Status::Pending,
            1 => Status::Accepted,
            2 => Status::Ignored,
            3 => Status::Withdrawn,
            _ => return Err(malformed("a request status of a newer version")),
        };
        Ok(Some((value.time, status)))
    }

    fn stance(&self, owner: UserId, other: UserId) -> Result<Stance, StoreError> {
        let read = |kind| self.rows.get_at(&pair(kind, owner, other)).map_err(failed);
        let mut stance = Stance::default();
        if let Some((time, value)) = read(CONTACT)? {
            let value = ContactValue::decode(value).map_err(malformed)?;
            stance = Stance {
                lists: value.listed,
                blocks: false,
                permissions: Permissions {
                    chat_only: value.chat_only,
                    hide_my_moments: value.hide_my_moments,
                    hide_their_moments: value.hide_their_moments,
                },
                tags: value.tags,
                version: time,
            };
        }
        if let Some((time, value)) = read(BLOCKED)? {
            stance.blocks = BlockedValue::decode(value).map_err(malformed)?.blocked;
            stance.version = stance.version.max(time);
        }
        Ok(stance)
    }

    /// Whether the owner lists the other; `None` for one who never was in the list.
    fn lists(&self, owner: UserId, other: UserId) -> Result<Option<bool>, StoreError> {
        Ok(self.get::<ContactValue>(&pair(CONTACT, owner, other))?.map(|value| value.listed))
    }

    /// Whether the owner blocks the other; `None` for one who never was blocked.
    fn blocks(&self, owner: UserId, other: UserId) -> Result<Option<bool>, StoreError> {
        Ok(self.get::<BlockedValue>(&pair(BLOCKED, owner, other))?.map(|value| value.blocked))
    }
}

#[async_trait]
impl Store for Embedded {
    async fn contacts(&self, owner: UserId, after: Option<UserId>, limit: usize) -> Result<Vec<Named>, StoreError> {
        let after = after.as_ref().map(|user| user.as_bytes().as_slice());
        self.list(&owned(CONTACT, owner), after, limit, |rest, value| {
            self.named(owner, user(rest)?, ContactValue::decode(value).map_err(malformed)?)
        })
    }

    async fn contact(&self, owner: UserId, other: UserId) -> Result<Option<Named>, StoreError> {
        match self.get::<ContactValue>(&pair(CONTACT, owner, other))? {
            Some(value) => self.named(owner, other, value),
            None => Ok(None),
        }
    }

    async fn requests(
        &self,
        owner: UserId,
        folder: Folder,
        after: Option<Place>,
        limit: usize,
    ) -> Result<Vec<(Request, Status)>, StoreError> {
        let prefix = folder_key(REQUEST, owner, folder);
        let after = after.map(place_key);
        self.list(&prefix, after.as_deref(), limit, |rest, value| {
            let (newest_first, other) = rest.split_first_chunk().ok_or_else(|| malformed("a request's key"))?;
            let (time, other) = (!u64::from_be_bytes(*newest_first), user(other)?);
            let Some((_, status)) = self.status(owner, folder, other)?.filter(|(newest, _)| *newest == time) else { return Ok(None) };
            let value = RequestValue::decode(value).map_err(malformed)?;
            let request = ClientId::from_slice(&value.request).ok_or_else(|| malformed("a request id"))?;
            Ok(Some((Request { owner, kept_in: folder, other, request, time, note: value.note, source: value.source }, status)))
        })
    }

    async fn blocked(&self, owner: UserId, after: Option<UserId>, limit: usize) -> Result<Vec<UserId>, StoreError> {
        let after = after.as_ref().map(|user| user.as_bytes().as_slice());
        self.list(&owned(BLOCKED, owner), after, limit, |rest, value| {
            let blocked = BlockedValue::decode(value).map_err(malformed)?.blocked;
            Ok(blocked.then_some(user(rest)?))
        })
    }

    async fn relations(&self, one: UserId, others: &[UserId]) -> Result<Vec<Relation>, StoreError> {
        let relation = |other: &UserId| {
            let (lists, blocks) = (self.lists(one, *other)?, self.blocks(one, *other)?);
            let requests = [self.status(one, Folder::Sent, *other)?, self.status(one, Folder::Received, *other)?];
            Ok(Relation {
                lists: lists == Some(true),
                listed_by: self.lists(*other, one)? == Some(true),
                blocks: blocks == Some(true),
                blocked_by: self.blocks(*other, one)? == Some(true),
                asked: requests.iter().flatten().filter(|(_, status)| *status == Status::Pending).map(|(time, _)| *time).max(),
                known: lists.is_some() || blocks.is_some() || requests.iter().any(Option::is_some),
            })
        };
        others.iter().map(relation).collect()
    }

    async fn stances(&self, one: UserId, others: &[UserId]) -> Result<Vec<Stances>, StoreError> {
        let stances = |other: &UserId| Ok(Stances { own: self.stance(one, *other)?, theirs: self.stance(*other, one)? });
        others.iter().map(stances).collect()
    }
}

plaza_processor::machine_store!(Embedded: Row, |store, _rows| store.tables, |batch, row| store.put(batch, row));

fn owned(kind: u8, owner: UserId) -> Vec<u8> {
    [&[kind], owner.as_bytes().as_slice()].concat()
}

fn pair(kind: u8, owner: UserId, other: UserId) -> Vec<u8> {
    [&[kind], owner.as_bytes().as_slice(), other.as_bytes()].concat()
}

fn folder_key(kind: u8, owner: UserId, folder: Folder) -> Vec<u8> {
    let folder = match folder {
        Folder::Received => 0,
        Folder::Sent => 1,
    };
    [&[kind], owner.as_bytes().as_slice(), &[folder]].concat()
}

fn status_key(owner: UserId, folder: Folder, other: UserId) -> Vec<u8> {
    [folder_key(STATUS, owner, folder).as_slice(), other.as_bytes()].concat()
}

fn request_key(owner: UserId, folder: Folder, place: Place) -> Vec<u8> {
    [folder_key(REQUEST, owner, folder), place_key(place)].concat()
}

fn place_key(place: Place) -> Vec<u8> {
    [(!place.time).to_be_bytes().as_slice(), place.other.as_bytes()].concat()
}

fn user(bytes: &[u8]) -> Result<UserId, StoreError> {
    UserId::from_slice(bytes).ok_or_else(|| malformed("a user id in a key"))
}

fn failed(error: plaza_embedded_db::Error) -> StoreError {
    StoreError { message: error.to_string() }
}

fn malformed(error: impl std::fmt::Display) -> StoreError {
    StoreError { message: format!("a stored row cannot be read: {error}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Opened {
        store: Embedded,
        _folder: tempfile::TempDir,
    }

    impl std::ops::Deref for Opened {
        type Target = dyn Store;
        fn deref(&self) -> &Self::Target {
            &self.store
        }
    }

    async fn open() -> Option<Opened> {
        let folder = tempfile::tempdir().expect("a folder");
        let db = Db::open(folder.path(), plaza_embedded_db::Options::default()).expect("a store");
        Some(Opened { store: Embedded::open(&db).expect("tables"), _folder: folder })
    }

    crate::store::conformance::cases!(open);
}
