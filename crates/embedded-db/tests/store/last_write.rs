//! The last write wins, whatever the order of arrival and the grouping.

use std::{collections::BTreeMap, sync::OnceLock};

use bytes::Bytes;
use plaza_embedded_db::{Batch, Db, Keyspace};
use proptest::prelude::*;

use crate::open;

/// One write: key, time, `None` to remove.
type Write = (u8, u64, Option<Vec<u8>>);

/// What wins at a key: the time, removal over a value, the larger value.
type Winner = (u64, bool, Vec<u8>);

struct Fixture {
    runtime: tokio::runtime::Runtime,
    db: Db,
    rows: Keyspace,
    _folder: tempfile::TempDir,
}

fn fixture() -> &'static Fixture {
    static FIXTURE: OnceLock<Fixture> = OnceLock::new();
    FIXTURE.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let db = open(folder.path());
        Fixture { runtime: tokio::runtime::Runtime::new().unwrap(), rows: db.keyspace("rows").unwrap(), db, _folder: folder }
    })
}

fn writes() -> impl Strategy<Value = Vec<Vec<Write>>> {
    let value = proptest::option::weighted(0.7, proptest::collection::vec(0..3_u8, 0..3));
    let batch = proptest::collection::vec((0..4_u8, 0..4_u64, value), 1..6);
    proptest::collection::vec(batch, 1..10)
}

fn model(batches: &[Vec<Write>]) -> BTreeMap<u8, Winner> {
    let mut winners = BTreeMap::new();
    for (key, time, value) in batches.iter().flatten() {
        let candidate = (*time, value.is_none(), value.clone().unwrap_or_default());
        let winner = winners.entry(*key).or_insert_with(|| candidate.clone());
        *winner = candidate.max(winner.clone());
    }
    winners
}

/// Writes the batches under a prefix of their own; `pause` decides which ones are awaited one by one
/// rather than grouped with the next.
fn write(prefix: &[u8], batches: &[Vec<Write>], pause: bool) {
    let Fixture { runtime, db, rows, .. } = fixture();
    for batch in batches {
        let mut writes = Batch::new();
        for (key, time, value) in batch {
            let key = [prefix, &[*key]].concat();
            match value {
                Some(value) => writes.upsert_at(rows, key, *time, value),
                None => writes.remove_at(rows, key, *time),
            }
        }
        let position = db.enqueue(writes);
        if pause {
            runtime.block_on(db.visible(position)).unwrap();
        }
    }
    runtime.block_on(db.visible(db.enqueued())).unwrap();
}

fn expected(winners: &BTreeMap<u8, Winner>) -> Vec<(u8, u64, Vec<u8>)> {
    winners.iter().filter(|(_, (_, removed, _))| !removed).map(|(key, (time, _, value))| (*key, *time, value.clone())).collect()
}

fn found(prefix: &[u8]) -> Vec<(u8, u64, Vec<u8>)> {
    let end = [prefix, &[u8::MAX]].concat();
    let rows = &fixture().rows;
    let scanned = rows.scan_at(prefix, &end, false, usize::MAX).unwrap();
    for (key, time, value) in &scanned {
        assert_eq!(rows.get_at(key).unwrap(), Some((*time, Bytes::clone(value))));
    }
    scanned.into_iter().map(|(key, time, value)| (key[prefix.len()], time, value.to_vec())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn any_order_and_grouping_gives_the_model(
        (batches, shuffled) in writes().prop_flat_map(|batches| {
            (Just(batches.clone()), Just(batches).prop_shuffle())
        }),
        pause in any::<bool>(),
        case in any::<u64>(),
    ) {
        let expected = expected(&model(&batches));
        let prefix = |copy: u8| [&case.to_be_bytes()[..], &[copy]].concat();
        write(&prefix(0), &batches, pause);
        write(&prefix(1), &shuffled, !pause);
        write(&prefix(1), &batches, pause);
        prop_assert_eq!(found(&prefix(0)), expected.clone());
        prop_assert_eq!(found(&prefix(1)), expected);
    }
}

#[tokio::test]
async fn a_removed_row_is_not_brought_back_by_an_older_write_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    {
        let db = open(folder.path());
        let rows = db.keyspace("rows").unwrap();
        let mut batch = Batch::new();
        batch.upsert_at(&rows, "key", 5, "old");
        batch.remove_at(&rows, "key", 7);
        db.enqueue(batch);
        db.close().await.unwrap();
    }
    let db = open(folder.path());
    let rows = db.keyspace("rows").unwrap();
    let mut batch = Batch::new();
    batch.upsert_at(&rows, "key", 6, "late");
    db.visible(db.enqueue(batch)).await.unwrap();
    assert_eq!(rows.get_at(b"key").unwrap(), None);

    let mut batch = Batch::new();
    batch.upsert_at(&rows, "key", 8, "new");
    db.visible(db.enqueue(batch)).await.unwrap();
    assert_eq!(rows.get_at(b"key").unwrap(), Some((8, Bytes::from_static(b"new"))));
}
