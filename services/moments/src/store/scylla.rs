//! The store on ScyllaDB or Cassandra; its tables are in `scylla/0002_rows.cql`. Nothing is written at once here but the columns of one row, so
//! the rows of a write go in three turns (`write.rs`), each when the one before is acknowledged: whoever sees a row finds what it names.

#[cfg(test)]
mod bounds;
mod lists;
mod write;

use std::collections::HashMap;

use async_trait::async_trait;
use futures::future::try_join_all;
use plaza_processor::{
    StoreError,
    cql::{self, OwnRows, StateTables},
};
use plaza_scylla_kit::{Error, Migrations, Read, Session, Step, concurrently};
use plaza_types::UserId;
use prost::Message;

use self::lists::{List, Lists};
use super::{Place, Position, Store, chunk, malformed};
use crate::domain::{
    engagement::{CHUNK, Engagement},
    notice::{self, Notice},
    post::{Post, PostId},
    posts,
    timeline::{self, Viewer},
};

/// The tables.
pub const MIGRATIONS: Migrations = Migrations {
    service: "moments",
    steps: &[cql::STEP, Step { name: "rows", cql: include_str!("scylla/0002_rows.cql") }],
    overlay: &[cql::OVERLAY, include_str!("scylla/overlay.cql")],
};

/// Parts of a post's partition.
const POST: i8 = 0;
const LIKES: i8 = 1;
const COMMENTS: i8 = 2;
const WORDS: i8 = 3;

/// Numbers in one statement; ScyllaDB takes no more than 100.
const NUMBERS: usize = 100;

/// The store.
pub struct Scylla {
    session: Session,
    tables: StateTables,
    lists: Lists,
    post: Read,
    engagement: Read,
    words: Read,
    viewer: Read,
    writes: write::Writes,
}

impl Scylla {
    /// Prepares what it asks. The tables must be there.
    ///
    /// # Errors
    /// The cluster's.
    pub async fn open(session: &Session) -> Result<Self, Error> {
        let keyspace = session.keyspace(MIGRATIONS.service);
        let words = "SELECT number, contents FROM {keyspace}.posts WHERE post = ? AND part = ? AND number IN ?";
        Ok(Self {
            session: session.clone(),
            tables: StateTables::open(&keyspace).await?,
            lists: Lists::prepare(&keyspace).await?,
            post: keyspace.read("SELECT contents FROM {keyspace}.posts WHERE post = ? AND part = ? AND number = 0").await?,
            engagement: keyspace
                .read("SELECT part, number, contents FROM {keyspace}.posts WHERE post = ? AND part >= ? AND part <= ?")
                .await?,
            words: keyspace.read(words).await?,
            viewer: keyspace.read("SELECT viewer FROM {keyspace}.viewers WHERE user_id = ?").await?,
            writes: write::Writes::prepare(&keyspace).await?,
        })
    }

    async fn post(&self, id: PostId) -> Result<Option<Post>, StoreError> {
        let row: Option<(Vec<u8>,)> = self.session.row(&self.post, (id.to_bytes(), POST)).await?;
        row.map(|(contents,)| Post::decode(&*contents).map_err(malformed)).transpose()
    }

    /// A chunk that is not full is the last. One behind it is of a write that is not seen whole yet, and would shift the numbers.
    async fn engagement(&self, id: PostId) -> Result<Engagement, StoreError> {
        let rows: Vec<(i8, i64, Vec<u8>)> = self.session.rows(&self.engagement, (id.to_bytes(), LIKES, COMMENTS)).await?;
        let mut engagement = Engagement::default();
        let (likes, comments) = (&mut engagement.likes, &mut engagement.comments);
        let follows = |known: usize, number: i64| u64::try_from(number).is_ok_and(|number| number * CHUNK as u64 == known as u64);
        for (part, number, contents) in rows {
            if part == LIKES && follows(likes.len(), number) {
                likes.extend(chunk::Likes::decode(&*contents).map_err(malformed)?.likes);
            }
            if part == COMMENTS && follows(comments.len(), number) {
                comments.extend(chunk::Comments::decode(&*contents).map_err(malformed)?.comments);
            }
        }
        Ok(engagement)
    }
}

#[async_trait]
impl Store for Scylla {
    async fn posts(&self, ids: &[PostId]) -> Result<Vec<Option<Post>>, StoreError> {
        try_join_all(ids.iter().copied().map(|id| self.post(id))).await
    }

    async fn engagements(&self, ids: &[PostId]) -> Result<Vec<Engagement>, StoreError> {
        try_join_all(ids.iter().copied().map(|id| self.engagement(id))).await
    }

    async fn words(&self, post: PostId, numbers: &[u32]) -> Result<Vec<String>, StoreError> {
        let chunks: Vec<Vec<i64>> = numbers.chunks(NUMBERS).map(|numbers| numbers.iter().copied().map(i64::from).collect()).collect();
        let values = |numbers| (post.to_bytes(), WORDS, numbers);
        let read = concurrently(chunks.into_iter().map(|numbers| self.session.rows::<(i64, Vec<u8>)>(&self.words, values(numbers))));
        let known: HashMap<i64, Vec<u8>> = read.await?.into_iter().flatten().collect();
        let words = |number: &u32| String::from_utf8(known.get(&i64::from(*number)).cloned().unwrap_or_default()).map_err(malformed);
        numbers.iter().map(words).collect()
    }

    async fn own(&self, author: UserId, from: Position, limit: usize) -> Result<Vec<Place>, StoreError> {
        self.lists.places(&self.session, List::Own, author, from, limit).await
    }

    async fn references(&self, viewer: UserId, from: Position, limit: usize) -> Result<Vec<Place>, StoreError> {
        self.lists.places(&self.session, List::Timeline, viewer, from, limit).await
    }

    async fn viewer(&self, user: UserId) -> Result<Viewer, StoreError> {
        let row: Option<(Vec<u8>,)> = self.session.row(&self.viewer, (user.as_bytes(),)).await?;
        row.map_or_else(|| Ok(Viewer::default()), |(viewer,)| Viewer::decode(&*viewer).map_err(malformed))
    }

    async fn notices(&self, recipient: UserId, from: Position, limit: usize) -> Result<Vec<Notice>, StoreError> {
        let notice = |(place, stored): (Place, Vec<u8>)| {
            let stored = notice::Stored::decode(&*stored).map_err(malformed)?;
            let actor = UserId::from_slice(&stored.actor).ok_or_else(|| malformed("an actor"))?;
            Ok(Notice { time: place.created, post: place.post, kind: stored.kind(), actor, number: stored.number })
        };
        self.lists.notices(&self.session, recipient, from, limit).await?.into_iter().map(notice).collect()
    }
}

plaza_processor::machine_store!(Scylla: posts::Row, |store, rows| OwnRows(&store.tables), store.writes.posts(&store.session, &store.lists, rows));
plaza_processor::machine_store!(Scylla: timeline::Row, |store, rows| OwnRows(&store.tables), store.writes.timelines(&store.session, &store.lists, rows));

/// As CQL has numbers. None of ours comes near the end.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
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
        Some(Opened { store: Scylla::open(&lease.session).await.expect("tables"), _lease: lease })
    }

    crate::store::conformance::cases!(open);
}
