//! The embedded tables pass the suite of every store, also with faults around them.

use std::sync::Arc;

use plaza_embedded_db::{Db, Options};
use plaza_processor::{
    Checkpoint, Store,
    embedded::StateTables,
    fault::{Faulty, Odds},
};
use plaza_runtime::Rng;
use tempfile::TempDir;

struct Embedded(StateTables);

plaza_processor::machine_store!(Embedded: (), |store, _rows| store.0, |_, _| {});

fn open() -> (Embedded, TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let db = Db::open(folder.path(), Options::default()).expect("a store");
    (Embedded(StateTables::open(&db, "test").expect("tables")), folder)
}

mod plain {
    async fn open() -> Option<(super::Embedded, super::TempDir)> {
        Some(super::open())
    }

    plaza_processor::store_conformance!((), open);
}

mod with_late_writes {
    use super::*;

    async fn open() -> Option<(Faulty<()>, TempDir)> {
        let (inner, folder) = super::open();
        Some((Faulty::new(Arc::new(inner), Rng::seeded(7), Odds { before: 0, after: 0, late: 1000 }), folder))
    }

    plaza_processor::store_conformance!((), open);
}

#[tokio::test]
async fn a_failed_write_is_sometimes_done() {
    let (inner, _folder) = open();
    let store: Faulty<()> = Faulty::new(Arc::new(inner), Rng::seeded(3), Odds { before: 300, after: 300, late: 300 });
    let (mut done, mut not_done) = (0, 0);
    for partition in 0..100 {
        let checkpoint = Checkpoint { last_time: 1, ..Checkpoint::default() };
        if store.write_checkpoint("machine", partition, &checkpoint).await.is_err() {
            let found = loop {
                if let Ok(found) = store.checkpoint("machine", partition).await {
                    break found;
                }
            };
            *if found.is_some() { &mut done } else { &mut not_done } += 1;
        }
    }
    assert!(done > 5 && not_done > 5, "{done} done, {not_done} not");
}
