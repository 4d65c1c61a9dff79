//! Lists by time, newest first. A partition has some days of one owner's list, so that it has a bound; another table says which partitions there
//! are. Who writes into one that this process has written into before need not say so again.

use plaza_processor::StoreError;
use plaza_scylla_kit::{Bound, Error, Keyspace, Read, Session, Write, concurrently};
use plaza_types::{
    UserId,
    limits::{DAY, SECOND},
};
use quick_cache::sync::Cache;

use super::signed;
use crate::{
    domain::post::PostId,
    store::{Place, Position, malformed},
};

/// Partitions that are known to be written down as being there.
const KNOWN: usize = 200_000;
/// Partitions looked up at a time, and read at once at most.
const AHEAD: i32 = 32;

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

    /// Microseconds in a partition. Never to be changed: rows would be looked for where they are not. Posts are limited by the day. Nothing
    /// limits notices but what people can do in the time, so theirs is short.
    pub(super) fn width(self) -> i64 {
        signed(match self {
            Self::Own => 364 * DAY,
            Self::Timeline => DAY,
            Self::Notices => 3_600 * SECOND,
        })
    }

    /// Partitions begin with a day or an hour (UTC), and grow from the newest to the oldest.
    fn bucket(self, owner: UserId, time: u64) -> Bucket {
        let width = self.width();
        Bucket { list: self, owner, number: i64::MAX / width - signed(time) / width }
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

    /// Partition by partition: the newest, then as many at once as have the rest if they are like those before. So a page of posts that were
    /// made on many days takes hardly more turns than one of a single day.
    async fn rows(
        &self,
        session: &Session,
        list: List,
        owner: UserId,
        from: Position,
        limit: usize,
    ) -> Result<Vec<(Place, Option<Vec<u8>>)>, StoreError> {
        let (mut found, mut next, mut read) = (Vec::new(), list.bucket(owner, from.time).number, 0);
        while found.len() < limit {
            let values = (owner.as_bytes(), list.number(), next, AHEAD);
            let buckets: Vec<(i64,)> = session.rows(&self.buckets, values).await?;
            let Some((last,)) = buckets.last() else { break };
            next = last + 1;
            let mut rest = &buckets[..];
            while !rest.is_empty() && found.len() < limit {
                let (now, later) = rest.split_at(rest.len().min(at_once(limit, found.len(), read)));
                let wanted = i32::try_from(limit - found.len()).unwrap_or(i32::MAX);
                let reads = now.iter().copied().map(|(bucket,)| self.partition(session, list, owner, bucket, from, wanted));
                for row in concurrently(reads).await?.into_iter().flatten() {
                    found.push(listed(row)?);
                }
                (rest, read) = (later, read + now.len());
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

/// Partitions to read next, when so many rows were found in so many partitions. Where nothing was found, the position may have been at the end
/// of a partition and the next one full.
fn at_once(limit: usize, found: usize, read: usize) -> usize {
    let by_density = (limit.saturating_sub(found) * read).checked_div(found).map(|partitions| partitions + 1);
    by_density.unwrap_or(read * 2).max(1)
}

/// Grows from the newest to the oldest.
fn age(time: u64) -> i64 {
    i64::MAX - signed(time)
}

fn listed((age, post, notice): Row) -> Result<(Place, Option<Vec<u8>>), StoreError> {
    let created = u64::try_from(i64::MAX - age).map_err(malformed)?;
    Ok((Place { created, post: PostId::from_slice(&post).ok_or_else(|| malformed("a post's id"))? }, notice))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Turns and partitions that a page takes where each partition has so many rows.
    fn turns(limit: usize, rows: impl Fn(usize) -> usize) -> (usize, usize) {
        let (mut turns, mut found, mut read) = (0, 0, 0);
        while found < limit {
            let now = at_once(limit, found, read).min(AHEAD as usize);
            found += (read..read + now).map(|partition| rows(partition).min(limit)).sum::<usize>();
            (turns, read) = (turns + 1, read + now);
        }
        (turns, read)
    }

    #[test]
    fn a_page_of_many_days_takes_few_turns_and_one_of_a_day_reads_no_other() {
        assert_eq!(turns(21, |_| 21), (1, 1));
        assert_eq!(turns(21, |_| 1), (2, 22), "one post a day");
        assert_eq!(turns(51, |_| 3), (2, 18));
        assert_eq!(turns(51, |_| 1), (3, 52));
        assert_eq!(turns(21, |partition| if partition == 0 { 0 } else { 21 }), (2, 3), "the position is at the end of a day");
    }

    #[test]
    fn a_partition_of_a_list_has_a_day_or_an_hour_of_the_clock() {
        let number = |list: List, time: u64| list.bucket(UserId::from_bytes([1; 16]), time).number;
        for (list, width) in [(List::Own, 364 * DAY), (List::Timeline, DAY), (List::Notices, 3_600 * SECOND)] {
            let begin = 1_700_000_000_000_000 / width * width;
            assert_eq!(number(list, begin), number(list, begin + width - 1), "{list:?}");
            assert_eq!(number(list, begin), number(list, begin - 1) - 1, "{list:?}");
            assert_eq!(number(list, u64::MAX), 0, "before all others");
        }
    }
}
