//! Lists by time, newest first. A partition has some days of one owner's list, so that it has a bound; another table says which partitions there
//! are. Who writes into one that this process has written into before need not say so again.

use plaza_processor::StoreError;
use plaza_scylla_kit::{Bound, Error, Keyspace, Read, Session, Write, concurrently};
use plaza_types::{UserId, limits::DAY};
use quick_cache::sync::Cache;

use super::signed;
use crate::{
    domain::post::PostId,
    store::{Place, Position, malformed},
};

/// Partitions that are known to be written down as being there.
const KNOWN: usize = 200_000;
/// Partitions looked up at a time. More than a page needs unless little happened on many days.
const AHEAD: i32 = 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum List {
    Own,
    Timeline,
    Notices,
}

pub(super) struct Lists {
    buckets: Read,
    own: Read,
    timeline: Read,
    notices: Read,
    put_bucket: Write,
    put_own: Write,
    put_timeline: Write,
    put_notice: Write,
    known: Cache<Bucket, ()>,
}

/// A partition of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Bucket {
    list: List,
    owner: UserId,
    number: i64,
}

/// A row of a list: age, post, and what a notice says.
type Row = (i64, Vec<u8>, Option<Vec<u8>>);

impl List {
    fn number(self) -> i8 {
        match self {
            Self::Own => 0,
            Self::Timeline => 1,
            Self::Notices => 2,
        }
    }

    /// Microseconds in a partition: such that the busiest owner has some 50,000 rows in it. Never to be changed.
    fn width(self) -> i64 {
        signed(match self {
            Self::Own => 364 * DAY,
            Self::Timeline => 7 * DAY,
            Self::Notices => 2 * DAY,
        })
    }

    fn bucket(self, owner: UserId, time: u64) -> Bucket {
        Bucket { list: self, owner, number: age(time) / self.width() }
    }
}

impl Lists {
    pub(super) async fn prepare(keyspace: &Keyspace) -> Result<Self, Error> {
        let read = async |table: &str, columns: &str| {
            let page = "WHERE owner = ? AND bucket = ? AND (age, post) > (?, ?) LIMIT ?";
            keyspace.read(&format!("SELECT {columns} FROM {{keyspace}}.{table} {page}")).await
        };
        let put = async |table: &str| {
            let values = "(owner, bucket, age, post) VALUES (?, ?, ?, ?) USING TIMESTAMP ?";
            keyspace.write(&format!("INSERT INTO {{keyspace}}.{table} {values}")).await
        };
        Ok(Self {
            buckets: keyspace
                .read("SELECT bucket FROM {keyspace}.list_buckets WHERE owner = ? AND list = ? AND bucket >= ? LIMIT ?")
                .await?,
            own: read("own_posts", "age, post").await?,
            timeline: read("timelines", "age, post").await?,
            notices: read("notices", "age, post, notice").await?,
            put_bucket: keyspace
                .write("INSERT INTO {keyspace}.list_buckets (owner, list, bucket) VALUES (?, ?, ?) USING TIMESTAMP ?")
                .await?,
            put_own: put("own_posts").await?,
            put_timeline: put("timelines").await?,
            put_notice: keyspace
                .write("INSERT INTO {keyspace}.notices (owner, bucket, age, post, notice) VALUES (?, ?, ?, ?, ?) USING TIMESTAMP ?")
                .await?,
            known: Cache::new(KNOWN),
        })
    }

    pub(super) async fn places(
        &self,
        session: &Session,
        list: List,
        owner: UserId,
        from: Position,
        limit: usize,
    ) -> Result<Vec<Place>, StoreError> {
        Ok(self.rows(session, list, owner, from, limit).await?.into_iter().map(|(place, _)| place).collect())
    }

    pub(super) async fn notices(
        &self,
        session: &Session,
        owner: UserId,
        from: Position,
        limit: usize,
    ) -> Result<Vec<(Place, Vec<u8>)>, StoreError> {
        let rows = self.rows(session, List::Notices, owner, from, limit).await?;
        rows.into_iter().map(|(place, notice)| Ok((place, notice.ok_or_else(|| malformed("a notice"))?))).collect()
    }

    /// Partition by partition, and the more of them at a time the more were not enough.
    async fn rows(
        &self,
        session: &Session,
        list: List,
        owner: UserId,
        from: Position,
        limit: usize,
    ) -> Result<Vec<(Place, Option<Vec<u8>>)>, StoreError> {
        let (mut found, mut next, mut at_once) = (Vec::new(), list.bucket(owner, from.time).number, 1);
        while found.len() < limit {
            let values = (owner.as_bytes(), list.number(), next, AHEAD);
            let buckets: Vec<(i64,)> = session.rows(&self.buckets, values).await?;
            let Some((last,)) = buckets.last() else { break };
            next = last + 1;
            let mut rest = &buckets[..];
            while !rest.is_empty() && found.len() < limit {
                let (now, later) = rest.split_at(rest.len().min(at_once));
                let wanted = i32::try_from(limit - found.len()).unwrap_or(i32::MAX);
                let reads = now.iter().copied().map(|(bucket,)| self.partition(session, list, owner, bucket, from, wanted));
                for row in concurrently(reads).await?.into_iter().flatten() {
                    found.push(listed(row)?);
                }
                (rest, at_once) = (later, at_once * 2);
            }
            if buckets.len() < AHEAD as usize {
                break;
            }
        }
        found.truncate(limit);
        Ok(found)
    }

    async fn partition(
        &self,
        session: &Session,
        list: List,
        owner: UserId,
        bucket: i64,
        from: Position,
        limit: i32,
    ) -> Result<Vec<Row>, Error> {
        // Every post is above none, so the very time itself belongs to what comes behind it.
        let after = from.after.map(|post| post.to_bytes().to_vec()).unwrap_or_default();
        let values = (owner.as_bytes(), bucket, age(from.time), after, limit);
        let places = |rows: Vec<(i64, Vec<u8>)>| rows.into_iter().map(|(age, post)| (age, post, None)).collect();
        match list {
            List::Own => session.rows(&self.own, values).await.map(places),
            List::Timeline => session.rows(&self.timeline, values).await.map(places),
            List::Notices => session.rows(&self.notices, values).await,
        }
    }

    /// Puts a post in a list. The partition must be noted too, if that is asked for.
    pub(super) fn put(&self, list: List, owner: UserId, place: Place, time: u64) -> Result<(Bucket, Bound), Error> {
        let bucket = list.bucket(owner, place.created);
        let write = if list == List::Own { &self.put_own } else { &self.put_timeline };
        let values = (owner.as_bytes(), bucket.number, age(place.created), place.post.to_bytes(), signed(time));
        Ok((bucket, write.bind(values)?))
    }

    pub(super) fn put_notice(&self, owner: UserId, place: Place, notice: Vec<u8>, time: u64) -> Result<(Bucket, Bound), Error> {
        let bucket = List::Notices.bucket(owner, place.created);
        let values = (owner.as_bytes(), bucket.number, age(place.created), place.post.to_bytes(), notice, signed(time));
        Ok((bucket, self.put_notice.bind(values)?))
    }

    /// Notes a partition, unless it is known to be noted. What is acknowledged stays so: nothing is ever deleted there.
    pub(super) fn note(&self, bucket: Bucket, time: u64) -> Option<Result<Bound, Error>> {
        let Bucket { list, owner, number } = bucket;
        let note = || self.put_bucket.bind((owner.as_bytes(), list.number(), number, signed(time)));
        self.known.get(&bucket).is_none().then(note)
    }

    /// To be called when the notes of partitions are acknowledged.
    pub(super) fn noted(&self, buckets: impl IntoIterator<Item = Bucket>) {
        buckets.into_iter().for_each(|bucket| self.known.insert(bucket, ()));
    }
}

/// Grows from the newest to the oldest.
fn age(time: u64) -> i64 {
    i64::MAX - signed(time)
}

fn listed((age, post, notice): Row) -> Result<(Place, Option<Vec<u8>>), StoreError> {
    let created = u64::try_from(i64::MAX - age).map_err(malformed)?;
    Ok((Place { created, post: PostId::from_slice(&post).ok_or_else(|| malformed("a post's id"))? }, notice))
}
