//! The largest partition of each table, from the limits. `docs/decisions/0009-cql.md` has the same numbers.

use bytes::Bytes;
use plaza_types::limits::{CONTACTS, DAY, POSTS_PER_DAY};
use prost::Message as _;

use super::{chunk, lists::List};
use crate::domain::{
    COMMENT, COMMENTS, LIKES,
    engagement::{CHUNK, Comment, Like},
    notice::{Kind, Stored},
};

/// No partition may have more bytes.
const BOUND: usize = 100_000_000;
/// What a row has beside its columns: flags, lengths, write time.
const ROW: usize = 20;
/// `age` and `post`.
const PLACE: usize = 8 + 32 + ROW;
/// No call that makes a post is larger.
const POST: usize = 524_288;
/// Likes and comments that the gateway lets one person make in an hour.
const ACTS: usize = (600 + 300) * 60;
/// So many do nothing else.
const ACTORS: usize = 10;
/// How old a deployment becomes.
const YEARS: u64 = 20;

fn days(list: List) -> usize {
    usize::try_from(list.width()).expect("positive") / usize::try_from(DAY).expect("it fits")
}

#[test]
fn no_partition_is_above_the_bound() {
    let id = Bytes::from_static(&[0xff; 16]);
    let like = Like { user: id.clone(), time: u64::MAX, gone: true };
    let comment = Comment { user: id.clone(), time: u64::MAX, reply_to: u32::MAX, deleted: true, request: id.clone() };
    let likes = LIKES.div_ceil(CHUNK) * (ROW + 9 + chunk::Likes { likes: vec![like; CHUNK] }.encoded_len());
    let comments = COMMENTS.div_ceil(CHUNK) * (ROW + 9 + chunk::Comments { comments: vec![comment; CHUNK] }.encoded_len());
    // A character has four bytes at most.
    let words = COMMENTS * (ROW + 9 + 4 * COMMENT);
    let post = POST + likes + comments + words;
    assert!(post < 50_000_000, "{post}");

    let own = days(List::Own) * POSTS_PER_DAY;
    assert_eq!(own, 18_200);
    assert!(own * PLACE < BOUND);

    let timeline = days(List::Timeline) * CONTACTS * POSTS_PER_DAY;
    assert_eq!(timeline, 500_000);
    assert!(timeline * PLACE < BOUND / 2, "who drops friends and finds new ones has the posts of both");

    let notice = PLACE + Stored { kind: Kind::Mention.into(), actor: id, number: u32::MAX }.encoded_len();
    let hours = 24 * usize::try_from(List::Notices.width()).expect("positive") / usize::try_from(DAY).expect("it fits");
    let notices = hours * ACTS * ACTORS;
    assert_eq!(notices, 540_000);
    assert!(notices * notice < BOUND / 2, "{}", notices * notice);

    for list in [List::Own, List::Timeline, List::Notices] {
        let buckets = YEARS * 366 * DAY / u64::try_from(list.width()).expect("positive");
        assert!(usize::try_from(buckets).expect("it fits") * (8 + ROW) < BOUND / 10, "{list:?} {buckets}");
    }
}
