//! Ranges, prefixes and their ends.

use bytes::Bytes;
use plaza_embedded_db::{Batch, Error, Keyspace};

use crate::open;

fn keys(rows: Vec<(Bytes, Bytes)>) -> Vec<String> {
    rows.into_iter().map(|(key, _)| String::from_utf8(key.to_vec()).unwrap()).collect()
}

async fn with_rows(test: impl FnOnce(&Keyspace)) {
    let folder = tempfile::tempdir().unwrap();
    let db = open(folder.path());
    let rows = db.keyspace("rows").unwrap();
    let mut batch = Batch::new();
    for key in ["a", "b1", "b2", "b3", "c", "gone"] {
        batch.insert(&rows, key, format!("value of {key}"));
    }
    db.enqueue(batch);
    let mut batch = Batch::new();
    batch.remove(&rows, "gone");
    db.visible(db.enqueue(batch)).await.unwrap();
    test(&rows);
}

#[tokio::test]
async fn scans_are_half_open_ordered_and_limited() {
    with_rows(|rows| {
        let scan = |start: &str, end: &str, reverse, limit| {
            let page = rows.scan(start.as_bytes(), end.as_bytes(), reverse, limit);
            keys(page.unwrap())
        };
        assert_eq!(scan("b1", "c", false, 9), ["b1", "b2", "b3"]);
        assert_eq!(scan("b1", "c", true, 2), ["b3", "b2"]);
        assert_eq!(scan("a", "zz", false, 2), ["a", "b1"]);
        assert_eq!(scan("c", "a", false, 9), [""; 0]);
        assert_eq!(scan("c", "c", true, 9), [""; 0]);
    })
    .await;
}

#[tokio::test]
async fn prefixes_ends_and_single_rows() {
    with_rows(|rows| {
        let prefix = |reverse, limit| keys(rows.scan_prefix(b"b", reverse, limit).unwrap());
        assert_eq!(prefix(false, 9), ["b1", "b2", "b3"]);
        assert_eq!(prefix(true, 1), ["b3"]);
        let end = |row: Option<(Bytes, Bytes)>| row.map(|(key, _)| key);
        let (first, last) = (rows.first(b"b", b"c"), rows.last(b"b", b"c"));
        assert_eq!(end(first.unwrap()), Some(Bytes::from_static(b"b1")));
        assert_eq!(end(last.unwrap()), Some(Bytes::from_static(b"b3")));
        assert_eq!(end(rows.last(b"d", b"e").unwrap()), None);
        let value = rows.get(b"b2").unwrap();
        assert_eq!(value, Some(Bytes::from_static(b"value of b2")));
        assert_eq!(rows.get(b"gone").unwrap(), None);
        let backwards: Vec<_> = rows.range(&b"b3"[..]..).rev().collect();
        let backwards: Result<Vec<_>, _> = backwards.into_iter().collect();
        assert_eq!(keys(backwards.unwrap()), ["c", "b3"]);
    })
    .await;
}

#[tokio::test]
async fn a_row_without_a_time_is_refused_rather_than_misread() {
    let folder = tempfile::tempdir().unwrap();
    let db = open(folder.path());
    let rows = db.keyspace("rows").unwrap();
    let mut batch = Batch::new();
    batch.insert(&rows, "plain", "v");
    db.visible(db.enqueue(batch)).await.unwrap();
    assert!(matches!(rows.get_at(b"plain"), Err(Error::Untimed)));
    assert!(matches!(rows.scan_at(b"a", b"z", false, 1), Err(Error::Untimed)));
}

#[tokio::test]
#[should_panic(expected = "a key of 0 bytes")]
async fn an_empty_key_stops_its_caller() {
    let folder = tempfile::tempdir().unwrap();
    let db = open(folder.path());
    let rows = db.keyspace("rows").unwrap();
    Batch::new().insert(&rows, "", "value");
}
