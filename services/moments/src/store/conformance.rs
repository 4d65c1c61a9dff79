//! What every implementation of the store does, listed once.

use bytes::Bytes;
use plaza_processor::{IdKey, Key, Machine, Position as LogPosition, Remembered, Timed};
use plaza_topics::moments::{Audience, AudienceKind};
use plaza_types::{ClientId, UserId, limits::DAY};

use super::{Place, Position, Store};
use crate::domain::{
    engagement::{CHUNK, Comment, Engagement, Like},
    notice::{Kind, Notice},
    post::{Post, PostId},
    posts::{Posts, Row},
    timeline::{self, Timelines, Viewer},
};

/// Expands every case as a test of its own, the same for every store, on one made by `$open`, which gives `None` where it cannot be had.
macro_rules! cases {
    ($open:ident) => {
        $crate::store::conformance::cases!($open: nothing_is_there_at_first, the_later_write_wins, everything_of_a_post_comes_back, lists_are_newest_first_and_go_on, viewers, ids_and_rows_together, lists_go_on_over_years, lists_go_on_over_many_days_of_little, a_chunk_behind_a_missing_one_is_not_read, what_names_is_seen_after_what_it_names);
    };
    ($open:ident: $($case:ident),*) => { $(
        #[tokio::test]
        async fn $case() {
            let Some(opened) = $open().await else { return };
            $crate::store::conformance::$case(&*opened).await;
        }
    )* };
}
pub(super) use cases;

fn user(number: u8) -> UserId {
    UserId::from_bytes([number; 16])
}

fn id(author: u8, number: u8) -> PostId {
    PostId { author: user(author), request: ClientId::new(1_700_000_000_000_000, [number; 10]) }
}

fn post(created: u64) -> Post {
    let audience =
        Audience { kind: AudienceKind::Only.into(), users: Bytes::copy_from_slice(user(7).as_bytes()), tags: vec!["work".to_owned()] };
    Post { created, content: Bytes::from_static(b"content"), audience, mentions: vec![user(2).to_key()], deleted: false }
}

async fn put(store: &dyn Store, time: u64, rows: impl IntoIterator<Item = Row>) {
    let rows: Vec<_> = rows.into_iter().map(|row| Timed { time, row }).collect();
    plaza_processor::Store::<Row>::write_rows(store, Posts::NAME, &rows, &[]).await.expect("written");
}

async fn put_timeline(store: &dyn Store, time: u64, rows: impl IntoIterator<Item = timeline::Row>) {
    let rows: Vec<_> = rows.into_iter().map(|row| Timed { time, row }).collect();
    plaza_processor::Store::<timeline::Row>::write_rows(store, Timelines::NAME, &rows, &[]).await.expect("written");
}

pub(super) async fn nothing_is_there_at_first(store: &dyn Store) {
    assert_eq!(store.posts(&[id(1, 1)]).await.expect("read"), [None]);
    assert_eq!(store.engagements(&[id(1, 1)]).await.expect("read"), [Engagement::default()]);
    assert_eq!(store.words(id(1, 1), &[1, 2]).await.expect("read"), ["", ""]);
    assert_eq!(store.own(user(1), Position::NEWEST, 9).await.expect("read"), []);
    assert_eq!(store.references(user(1), Position::NEWEST, 9).await.expect("read"), []);
    assert_eq!(store.notices(user(1), Position::NEWEST, 9).await.expect("read"), []);
    assert_eq!(store.viewer(user(1)).await.expect("read"), Viewer::default());
}

pub(super) async fn the_later_write_wins(store: &dyn Store) {
    let like = |time| Row::Likes { id: id(1, 1), chunk: 0, likes: vec![Like { user: user(2).to_key(), time, gone: time == 20 }] };
    let gone = Post { deleted: true, ..Post::default() };
    put(store, 20, [Row::Post { id: id(1, 1), post: gone.clone() }, like(20)]).await;
    put(store, 10, [Row::Post { id: id(1, 1), post: post(10) }, like(10)]).await;
    assert_eq!(store.posts(&[id(1, 1)]).await.expect("read"), [Some(gone)]);
    assert_eq!(store.engagements(&[id(1, 1)]).await.expect("read")[0].likes[0].time, 20);
    let viewer = |seen| timeline::Row::Viewer { user: user(1), viewer: Viewer { seen, skipped: 3 } };
    put_timeline(store, 20, [viewer(20)]).await;
    put_timeline(store, 10, [viewer(10)]).await;
    assert_eq!(store.viewer(user(1)).await.expect("read").seen, 20);
}

pub(super) async fn everything_of_a_post_comes_back(store: &dyn Store) {
    let likes: Vec<Like> = (0..CHUNK as u64 * 2).map(|time| Like { user: user(time as u8).to_key(), time, gone: time == 4 }).collect();
    let comment =
        |time| Comment { user: user(9).to_key(), time, reply_to: time as u32, deleted: time == 5, request: user(time as u8).to_key() };
    let comments: Vec<Comment> = (0..CHUNK as u64 + 1).map(comment).collect();
    for (chunk, likes) in (0..).zip(likes.chunks(CHUNK)) {
        put(store, 1, [Row::Likes { id: id(1, 1), chunk, likes: likes.to_vec() }]).await;
    }
    for (chunk, comments) in (0..).zip(comments.chunks(CHUNK)) {
        put(store, 1, [Row::Comments { id: id(1, 1), chunk, comments: comments.to_vec() }]).await;
    }
    let words = |number, text: &str| Row::Words { id: id(1, 1), number, text: text.to_owned() };
    put(store, 1, [words(1, "one"), words(2, "zwölf"), Row::Post { id: id(1, 2), post: post(5) }]).await;
    put(store, 2, [words(1, "")]).await;
    let read = store.engagements(&[id(1, 2), id(1, 1)]).await.expect("read");
    assert_eq!(read, [Engagement::default(), Engagement { likes, comments }]);
    assert_eq!(store.words(id(1, 1), &[2, 1, 3]).await.expect("read"), ["zwölf", "", ""]);
    assert_eq!(store.posts(&[id(1, 1), id(1, 2)]).await.expect("read"), [None, Some(post(5))]);
}

pub(super) async fn lists_are_newest_first_and_go_on(store: &dyn Store) {
    let notice = |time, number| Notice { time, post: id(3, number), kind: Kind::Reply, actor: user(5), number: 12 };
    let places = [(30, 1), (20, 1), (20, 2), (20, 3), (10, 1)];
    for (created, number) in places.into_iter().rev() {
        // Each written twice, as a replay does.
        for _ in 0..2 {
            put(store, created, [Row::Own { id: id(1, number), created }]).await;
            put(store, created, [Row::Notice { recipient: user(1), notice: notice(created, number) }]).await;
            put_timeline(store, created, [timeline::Row::Reference { viewer: user(1), created, post: id(2, number) }]).await;
        }
    }
    put_timeline(store, 1, [timeline::Row::Reference { viewer: user(2), created: 1, post: id(2, 1) }]).await;
    put(store, 1, [Row::Own { id: id(2, 1), created: 1 }]).await;
    let place = |author: u8| move |(created, number): (u64, u8)| Place { created, post: id(author, number) };
    let position = |time, after: Option<PostId>| Position { time, after };
    for (from, first) in [(Position::NEWEST, 0), (position(20, None), 1), (position(20, Some(id(1, 2))), 3), (position(9, None), 5)] {
        let expected: Vec<Place> = places[first..].iter().copied().map(place(1)).collect();
        assert_eq!(store.own(user(1), from, 9).await.expect("read"), expected, "{from:?}");
        let from = Position { after: from.after.map(|after| PostId { author: user(2), ..after }), ..from };
        let expected: Vec<Place> = places[first..].iter().copied().map(place(2)).collect();
        assert_eq!(store.references(user(1), from, 9).await.expect("read"), expected, "{from:?}");
        assert_eq!(store.references(user(1), from, 1).await.expect("read"), expected[..expected.len().min(1)], "{from:?}");
        let from = Position { after: from.after.map(|after| PostId { author: user(3), ..after }), ..from };
        let expected: Vec<Notice> = places[first..].iter().map(|(time, number)| notice(*time, *number)).collect();
        assert_eq!(store.notices(user(1), from, 9).await.expect("read"), expected, "{from:?}");
    }
}

pub(super) async fn viewers(store: &dyn Store) {
    let viewer = Viewer { seen: 5, skipped: 4 };
    put_timeline(store, 1, [timeline::Row::Viewer { user: user(1), viewer }]).await;
    assert_eq!(store.viewer(user(1)).await.expect("read"), viewer);
    assert_eq!(store.viewer(user(2)).await.expect("read"), Viewer::default());
}

pub(super) async fn ids_and_rows_together(store: &dyn Store) {
    let asked = IdKey { key: Key(user(1).to_key()), caller: user(1).to_key(), request: user(3).to_key() };
    let remembered = Remembered {
        id: asked.clone(),
        position: LogPosition { generation: 1, offset: 5 },
        fingerprint: 7,
        outcome: Bytes::from_static(b"x"),
    };
    let rows = [Timed { time: 1, row: Row::Post { id: id(1, 1), post: post(1) } }];
    let ids = [Timed { time: 1, row: remembered.clone() }];
    plaza_processor::Store::<Row>::write_rows(store, Posts::NAME, &rows, &ids).await.expect("written");
    assert_eq!(plaza_processor::Store::<Row>::remembered(store, Posts::NAME, &[asked]).await.expect("read"), [Some(remembered)]);
    assert_eq!(store.posts(&[id(1, 1)]).await.expect("read"), [Some(post(1))]);
}

pub(super) async fn lists_go_on_over_years(store: &dyn Store) {
    // Much on one day, then once a fortnight, then nothing for years.
    let days = (0..30).map(|_| 4_000).chain((0..40).map(|number| 3_000 - number * 14)).chain([9, 1, 0]);
    lists_go_on_over(store, days).await;
}

pub(super) async fn lists_go_on_over_many_days_of_little(store: &dyn Store) {
    // Once or twice a day, then nothing for some days, again and again; and in between a day with more.
    let little = (0..100).rev().map(|number| 100 + number / 2 + number / 5 * 3);
    lists_go_on_over(store, little.chain((0..25).map(|_| 50)).chain((0..50).rev())).await;
}

/// One of each list on each of these days, the newest first.
async fn lists_go_on_over(store: &dyn Store, days: impl Iterator<Item = u64>) {
    let begin = 1_700_000_000_000_000;
    let places: Vec<(u64, u8)> =
        days.zip(0..=u8::MAX).map(|(day, number)| (begin + day * DAY + u64::from(u8::MAX - number), number)).collect();
    for (created, number) in &places {
        let notice = Notice { time: *created, post: id(3, *number), kind: Kind::Reply, actor: user(5), number: 12 };
        put(store, 1, [Row::Own { id: id(1, *number), created: *created }, Row::Notice { recipient: user(1), notice }]).await;
        put_timeline(store, 1, [timeline::Row::Reference { viewer: user(1), created: *created, post: id(2, *number) }]).await;
    }
    for limit in [1, 7, 20, 500] {
        let (mut from, mut read) = (Position::NEWEST, Vec::new());
        loop {
            let page = store.references(user(1), from, limit).await.expect("read");
            assert!(page.len() <= limit);
            let places = |author: u8| page.iter().map(move |place| Place { post: PostId { author: user(author), ..place.post }, ..*place });
            let position = |author: u8| Position { after: from.after.map(|after| PostId { author: user(author), ..after }), ..from };
            assert!(places(1).eq(store.own(user(1), position(1), limit).await.expect("read")), "{from:?} {limit}");
            let notices = store.notices(user(1), position(3), limit).await.expect("read");
            assert!(places(3).eq(notices.iter().map(|notice| Place { created: notice.time, post: notice.post })), "{from:?} {limit}");
            read.extend(page.iter().map(|place| (place.created, place.post.request)));
            let Some(last) = page.last().filter(|_| page.len() == limit) else { break };
            from = Position { time: last.created, after: Some(last.post) };
        }
        assert!(places.iter().map(|(created, number)| (*created, id(2, *number).request)).eq(read), "{limit} at a time");
    }
}

pub(super) async fn a_chunk_behind_a_missing_one_is_not_read(store: &dyn Store) {
    let comment = |time| Comment { user: user(9).to_key(), time, ..Comment::default() };
    let chunk = |chunk, size| Row::Comments { id: id(1, 1), chunk, comments: (0..size).map(comment).collect() };
    let count = async || store.engagements(&[id(1, 1)]).await.expect("read")[0].comments.len();
    put(store, 1, [chunk(1, 5)]).await;
    assert_eq!(count().await, 0);
    put(store, 2, [chunk(0, 100)]).await;
    assert_eq!(count().await, 100);
    put(store, 3, [chunk(0, CHUNK as u64)]).await;
    assert_eq!(count().await, CHUNK + 5);
}

pub(super) async fn what_names_is_seen_after_what_it_names(store: &dyn Store) {
    // So many that writing them takes a while.
    const POSTS: u8 = 249;
    const REFERENCES: u64 = 2_000;
    let written = async {
        let comment = Comment { user: user(9).to_key(), time: 1, ..Comment::default() };
        // What names comes first when they are written newest first.
        let posts = (1..=POSTS).map(|number| Row::Post { id: id(1, number), post: post(5) });
        let words = |text: &'static str| {
            (0..2_000_u16).map(move |word| Row::Words { id: id(1, (word / 8) as u8), number: u32::from(word % 8), text: text.to_owned() })
        };
        let comments = (1..=POSTS).map(|number| Row::Comments { id: id(1, number), chunk: 0, comments: vec![comment.clone()] });
        let own = (1..=POSTS).map(|number| Row::Own { id: id(1, number), created: u64::from(number) });
        put(store, 1, words("words").chain(posts).chain(comments).chain(own)).await;
        let deleted = Comment { deleted: true, ..comment.clone() };
        let comments = (1..=POSTS).map(|number| Row::Comments { id: id(1, number), chunk: 0, comments: vec![deleted.clone()] });
        put(store, 2, comments.chain(words(""))).await;
        let reference = |created| timeline::Row::Reference { viewer: user(1), created, post: id(2, 1) };
        let references = (1..=REFERENCES).map(reference);
        let viewer = timeline::Row::Viewer { user: user(1), viewer: Viewer { seen: 7, skipped: 0 } };
        put_timeline(store, 3, references.chain([viewer])).await;
    };
    let read = async {
        while store.viewer(user(1)).await.expect("read").seen == 0 {
            // Few, so that they are read soon after the list was.
            let own = store.own(user(1), Position::NEWEST, 5).await.expect("read");
            let ids: Vec<PostId> = own.iter().map(|place| place.post).collect();
            assert!(store.posts(&ids).await.expect("read").iter().all(Option::is_some), "a list names a post that is not there");
            for number in [1, POSTS / 2, POSTS] {
                // The words last, which are never gone before the comment.
                let before = store.engagements(&[id(1, number)]).await.expect("read").remove(0);
                let words = store.words(id(1, number), &[1]).await.expect("read").remove(0);
                let after = store.engagements(&[id(1, number)]).await.expect("read").remove(0);
                let shown = !before.comments.is_empty() && after.comments.iter().all(|comment| !comment.deleted);
                assert!(!shown || !words.is_empty(), "a comment without words");
            }
            tokio::task::yield_now().await;
        }
        let references = store.references(user(1), Position::NEWEST, 5_000).await.expect("read");
        assert_eq!(references.len() as u64, REFERENCES, "who is said to have looked misses nothing");
    };
    futures::future::join(written, read).await;
}
