//! What every implementation of the store does, listed once.

use bytes::Bytes;
use plaza_processor::{IdKey, Key, Machine, Position as LogPosition, Remembered, Timed};
use plaza_topics::moments::{Audience, AudienceKind};
use plaza_types::{ClientId, UserId};

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
        $crate::store::conformance::cases!($open: nothing_is_there_at_first, the_later_write_wins, everything_of_a_post_comes_back, lists_are_newest_first_and_go_on, viewers, ids_and_rows_together);
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
