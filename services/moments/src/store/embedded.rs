//! The store in the process. Everything a record causes goes into one batch.
//!
//! | keyspace | key | value |
//! | --- | --- | --- |
//! | `moments.rows` | `p`, post | a post; last write wins, as with all in this keyspace |
//! | `moments.rows` | `l`, post, chunk | up to 128 likes |
//! | `moments.rows` | `c`, post, chunk | up to 128 comments without their words |
//! | `moments.rows` | `w`, post, number | the words of a comment |
//! | `moments.rows` | `v`, user | how a viewer stands |
//! | `moments.lists` | `o`, author, time (newest first), post | nothing: a post of the author's |
//! | `moments.lists` | `t`, viewer, time (newest first), post | nothing: a post in the timeline |
//! | `moments.lists` | `n`, recipient, time (newest first), post | a notice; only ever written the same, as all in this keyspace |
//!
//! A page of posts costs a scan of the list and, for each post, three point reads: with few likes and comments each has one chunk.

use async_trait::async_trait;
use bytes::Bytes;
use plaza_embedded_db::{Batch, Db, Keyspace};
use plaza_processor::{StoreError, Timed, embedded::StateTables};
use plaza_types::UserId;
use prost::Message;

use super::{Place, Position, Store, chunk, malformed};
use crate::domain::{
    engagement::{CHUNK, Engagement},
    notice::{self, Notice},
    post::{Post, PostId},
    posts,
    timeline::{self, Viewer},
};

const POST: u8 = b'p';
const LIKES: u8 = b'l';
const COMMENTS: u8 = b'c';
const WORDS: u8 = b'w';
const VIEWER: u8 = b'v';
const OWN: u8 = b'o';
const REFERENCE: u8 = b't';
const NOTICE: u8 = b'n';

/// The tables.
#[derive(Debug)]
pub struct Embedded {
    tables: StateTables,
    rows: Keyspace,
    lists: Keyspace,
}

impl Embedded {
    /// Opens or creates the tables. Blocks while they are created.
    ///
    /// # Errors
    /// The engine's.
    pub fn open(db: &Db) -> Result<Self, StoreError> {
        Ok(Self {
            tables: StateTables::open(db, "moments")?,
            rows: db.keyspace("moments.rows").map_err(failed)?,
            lists: db.range_keyspace("moments.lists").map_err(failed)?,
        })
    }

    fn put_posts(&self, batch: &mut Batch, row: &Timed<posts::Row>) {
        let mut put = |key: Vec<u8>, value: Vec<u8>| batch.upsert_at(&self.rows, key, row.time, value);
        match &row.row {
            posts::Row::Post { id, post } => put(of_post(POST, *id), post.encode_to_vec()),
            posts::Row::Likes { id, chunk, likes } => {
                put(numbered(LIKES, *id, *chunk), chunk::Likes { likes: likes.clone() }.encode_to_vec());
            }
            posts::Row::Comments { id, chunk, comments } => {
                put(numbered(COMMENTS, *id, *chunk), chunk::Comments { comments: comments.clone() }.encode_to_vec());
            }
            posts::Row::Words { id, number, text } => put(numbered(WORDS, *id, *number), text.clone().into_bytes()),
            posts::Row::Own { id, created } => {
                batch.insert(&self.lists, listed(OWN, id.author, Place { created: *created, post: *id }), Bytes::new());
            }
            posts::Row::Notice { recipient, notice } => {
                let Notice { time, post, kind, actor, number } = notice;
                let value = notice::Stored { kind: (*kind).into(), actor: actor.to_key(), number: *number };
                let key = listed(NOTICE, *recipient, Place { created: *time, post: *post });
                batch.insert(&self.lists, key, value.encode_to_vec());
            }
        }
    }

    fn put_timeline(&self, batch: &mut Batch, row: &Timed<timeline::Row>) {
        match &row.row {
            timeline::Row::Reference { viewer, created, post } => {
                batch.insert(&self.lists, listed(REFERENCE, *viewer, Place { created: *created, post: *post }), Bytes::new());
            }
            timeline::Row::Viewer { user, viewer } => {
                batch.upsert_at(&self.rows, owned(VIEWER, *user), row.time, viewer.encode_to_vec());
            }
        }
    }

    fn get<V: Message + Default>(&self, key: &[u8]) -> Result<Option<V>, StoreError> {
        let stored = self.rows.get_at(key).map_err(failed)?;
        stored.map(|(_, value)| V::decode(value).map_err(malformed)).transpose()
    }

    /// All that is in the chunks of a post: behind a full one there may be another.
    fn chunks<V: Message + Default, T>(&self, kind: u8, id: PostId, items: impl Fn(V) -> Vec<T>) -> Result<Vec<T>, StoreError> {
        let mut all = Vec::new();
        for chunk in 0.. {
            let Some(value) = self.get::<V>(&numbered(kind, id, chunk))? else { break };
            let found = items(value);
            let full = found.len() == CHUNK;
            all.extend(found);
            if !full {
                break;
            }
        }
        Ok(all)
    }

    fn list(&self, kind: u8, owner: UserId, from: Position, limit: usize) -> Result<Vec<(Place, Bytes)>, StoreError> {
        let prefix = owned(kind, owner);
        let mut start = [prefix.as_slice(), &(!from.time).to_be_bytes()].concat();
        if let Some(after) = from.after {
            start.extend_from_slice(&after.to_bytes());
            start.push(0);
        }
        // Above every rest: the longest is shorter.
        let end = [prefix.as_slice(), &[u8::MAX; 48]].concat();
        let rows = self.lists.scan(&start, &end, false, limit).map_err(failed)?;
        rows.into_iter().map(|(key, value)| Ok((place(&key[prefix.len()..])?, value))).collect()
    }

    fn places(&self, kind: u8, owner: UserId, from: Position, limit: usize) -> Result<Vec<Place>, StoreError> {
        Ok(self.list(kind, owner, from, limit)?.into_iter().map(|(place, _)| place).collect())
    }
}

#[async_trait]
impl Store for Embedded {
    async fn posts(&self, ids: &[PostId]) -> Result<Vec<Option<Post>>, StoreError> {
        ids.iter().map(|id| self.get(&of_post(POST, *id))).collect()
    }

    async fn engagements(&self, ids: &[PostId]) -> Result<Vec<Engagement>, StoreError> {
        let engagement = |id: &PostId| {
            Ok(Engagement {
                likes: self.chunks(LIKES, *id, |value: chunk::Likes| value.likes)?,
                comments: self.chunks(COMMENTS, *id, |value: chunk::Comments| value.comments)?,
            })
        };
        ids.iter().map(engagement).collect()
    }

    async fn words(&self, post: PostId, numbers: &[u32]) -> Result<Vec<String>, StoreError> {
        let words = |number: &u32| {
            let stored = self.rows.get_at(&numbered(WORDS, post, *number)).map_err(failed)?;
            stored.map_or(Ok(String::new()), |(_, value)| String::from_utf8(value.into()).map_err(malformed))
        };
        numbers.iter().map(words).collect()
    }

    async fn own(&self, author: UserId, from: Position, limit: usize) -> Result<Vec<Place>, StoreError> {
        self.places(OWN, author, from, limit)
    }

    async fn references(&self, viewer: UserId, from: Position, limit: usize) -> Result<Vec<Place>, StoreError> {
        self.places(REFERENCE, viewer, from, limit)
    }

    async fn viewer(&self, user: UserId) -> Result<Viewer, StoreError> {
        Ok(self.get(&owned(VIEWER, user))?.unwrap_or_default())
    }

    async fn notices(&self, recipient: UserId, from: Position, limit: usize) -> Result<Vec<Notice>, StoreError> {
        let notice = |(place, value): (Place, Bytes)| {
            let stored = notice::Stored::decode(value).map_err(malformed)?;
            let actor = UserId::from_slice(&stored.actor).ok_or_else(|| malformed("an actor"))?;
            Ok(Notice { time: place.created, post: place.post, kind: stored.kind(), actor, number: stored.number })
        };
        self.list(NOTICE, recipient, from, limit)?.into_iter().map(notice).collect()
    }
}

plaza_processor::machine_store!(Embedded: posts::Row, |store, _rows| store.tables, |batch, row| store.put_posts(batch, row));
plaza_processor::machine_store!(Embedded: timeline::Row, |store, _rows| store.tables, |batch, row| store.put_timeline(batch, row));

fn owned(kind: u8, owner: UserId) -> Vec<u8> {
    [&[kind], owner.as_bytes().as_slice()].concat()
}

fn of_post(kind: u8, id: PostId) -> Vec<u8> {
    [&[kind], id.to_bytes().as_slice()].concat()
}

fn numbered(kind: u8, id: PostId, number: u32) -> Vec<u8> {
    [of_post(kind, id).as_slice(), &number.to_be_bytes()].concat()
}

fn listed(kind: u8, owner: UserId, place: Place) -> Vec<u8> {
    [owned(kind, owner).as_slice(), &(!place.created).to_be_bytes(), &place.post.to_bytes()].concat()
}

fn place(rest: &[u8]) -> Result<Place, StoreError> {
    let read = || {
        let (newest_first, post) = rest.split_first_chunk()?;
        Some(Place { created: !u64::from_be_bytes(*newest_first), post: PostId::from_slice(post)? })
    };
    read().ok_or_else(|| malformed("a place's key"))
}

fn failed(error: plaza_embedded_db::Error) -> StoreError {
    StoreError { message: error.to_string() }
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
