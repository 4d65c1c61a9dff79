//! Writing rows: each a statement with its write time, in three turns. First the words of comments and what is put in timelines, which nothing shows
//! before something else names it or tells of it; then posts, likes and comments; then lists that name posts, how viewers stand, and the words of
//! deleted comments, which must not be missing while the comment is there.

use foldhash::{HashMap, HashMapExt as _};
use plaza_processor::Timed;
use plaza_scylla_kit::{Bound, Error, Keyspace, Session, Write};
use plaza_types::UserId;
use prost::Message as _;

use super::{
    COMMENTS, LIKES, POST, WORDS,
    lists::{Bucket, List, Lists},
    signed,
};
use crate::{
    domain::{
        notice::{self, Notice},
        post::PostId,
        posts, timeline,
    },
    store::{Place, chunk},
};

pub(super) struct Writes {
    part: Write,
    viewer: Write,
}

#[derive(Default)]
struct Turns {
    first: Vec<Bound>,
    second: Vec<Bound>,
    third: Vec<Bound>,
    /// Partitions of lists that are written into, and when.
    buckets: HashMap<Bucket, u64>,
}

/// What is written already as of this time or later: rows come newest first, and only the newest of each counts.
struct Newest<K>(HashMap<K, u64>);

impl<K: std::hash::Hash + Eq> Newest<K> {
    fn of(rows: usize) -> Self {
        Self(HashMap::with_capacity(rows))
    }

    fn is_superseded(&mut self, name: K, time: u64) -> bool {
        let latest = self.0.entry(name).or_insert(time);
        let superseded = *latest > time;
        *latest = time.max(*latest);
        superseded
    }
}

impl Writes {
    pub(super) async fn prepare(keyspace: &Keyspace) -> Result<Self, Error> {
        Ok(Self {
            part: keyspace
                .write("INSERT INTO {keyspace}.posts (post, part, number, contents) VALUES (?, ?, ?, ?) USING TIMESTAMP ?")
                .await?,
            viewer: keyspace.write("INSERT INTO {keyspace}.viewers (user_id, viewer) VALUES (?, ?) USING TIMESTAMP ?").await?,
        })
    }

    pub(super) async fn posts(&self, session: &Session, lists: &Lists, rows: &[Timed<posts::Row>]) -> Result<(), Error> {
        let (mut turns, mut newest) = (Turns::default(), Newest::of(rows.len()));
        for Timed { time, row } in rows.iter().rev() {
            let (id, part, number, contents) = match row {
                posts::Row::Post { id, post } => (*id, POST, 0, post.encode_to_vec()),
                posts::Row::Likes { id, chunk, likes } => (*id, LIKES, *chunk, chunk::Likes { likes: likes.clone() }.encode_to_vec()),
                posts::Row::Comments { id, chunk, comments } => {
                    (*id, COMMENTS, *chunk, chunk::Comments { comments: comments.clone() }.encode_to_vec())
                }
                posts::Row::Words { id, number, text } => (*id, WORDS, *number, text.clone().into_bytes()),
                posts::Row::Own { id, created } => {
                    let place = Place { created: *created, post: *id };
                    turns.list(*time, lists.put(List::Own, id.author, place, *time)?);
                    continue;
                }
                posts::Row::Notice { recipient, notice } => {
                    let Notice { time: created, post, kind, actor, number } = notice;
                    let stored = notice::Stored { kind: (*kind).into(), actor: actor.to_key(), number: *number };
                    let place = Place { created: *created, post: *post };
                    turns.list(*time, lists.put_notice(*recipient, place, stored.encode_to_vec(), *time)?);
                    continue;
                }
            };
            if !newest.is_superseded((id, part, number), *time) {
                let turn = match (part, contents.is_empty()) {
                    (WORDS, false) => &mut turns.first,
                    (WORDS, true) => &mut turns.third,
                    _ => &mut turns.second,
                };
                turn.push(self.part(id, part, number, contents, *time)?);
            }
        }
        turns.write(session, lists).await
    }

    fn part(&self, id: PostId, part: i8, number: u32, contents: Vec<u8>, time: u64) -> Result<Bound, Error> {
        self.part.bind((id.to_bytes(), part, i64::from(number), contents, signed(time)))
    }

    pub(super) async fn timelines(&self, session: &Session, lists: &Lists, rows: &[Timed<timeline::Row>]) -> Result<(), Error> {
        let (mut turns, mut newest) = (Turns::default(), Newest::<UserId>::of(0));
        for Timed { time, row } in rows.iter().rev() {
            match row {
                timeline::Row::Reference { viewer, created, post } => {
                    let (bucket, bound) = lists.put(List::Timeline, *viewer, Place { created: *created, post: *post }, *time)?;
                    turns.first.push(bound);
                    turns.buckets.insert(bucket, *time);
                }
                timeline::Row::Viewer { user, viewer } if !newest.is_superseded(*user, *time) => {
                    turns.third.push(self.viewer.bind((user.as_bytes(), viewer.encode_to_vec(), signed(*time)))?);
                }
                timeline::Row::Viewer { .. } => {}
            }
        }
        turns.write(session, lists).await
    }
}

impl Turns {
    fn list(&mut self, time: u64, (bucket, bound): (Bucket, Bound)) {
        self.third.push(bound);
        self.buckets.insert(bucket, time);
    }

    /// A partition is noted with the first turn: one that is noted and empty costs a look, one that is not noted hides what is in it.
    async fn write(mut self, session: &Session, lists: &Lists) -> Result<(), Error> {
        let notes: Vec<Bucket> = self
            .buckets
            .iter()
            .filter_map(|(bucket, time)| {
                let note = lists.note(*bucket, *time)?;
                Some(note.map(|bound| {
                    self.first.push(bound);
                    *bucket
                }))
            })
            .collect::<Result<_, _>>()?;
        session.write_all(self.first).await?;
        lists.noted(notes);
        session.write_all(self.second).await?;
        session.write_all(self.third).await
    }
}
