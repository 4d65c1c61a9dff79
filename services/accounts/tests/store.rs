//! The embedded store keeps the contract, and what it made durable outlives it.

use std::sync::Arc;

use plaza_accounts::{
    Embedded,
    store::{Keys, Store},
};
use plaza_embedded_db::{Db, Options};
use tempfile::TempDir;

async fn embedded() -> (Arc<dyn Store>, TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let db = Db::open(folder.path(), Options::default()).expect("opened");
    (Arc::new(Embedded::open(&db).expect("keyspaces")), folder)
}

plaza_accounts::accounts_store_conformance!(embedded);

#[tokio::test]
async fn what_is_durable_is_there_after_a_restart() {
    let (store, folder) = embedded().await;
    let keys = store.keys(Keys { signing: vec![1; 83], refresh: [2; 32] }).await.expect("keys");
    store.durable().await.expect("durable");
    drop(store);
    let db = Db::open(folder.path(), Options::default()).expect("opened again");
    let store = Embedded::open(&db).expect("keyspaces");
    assert!(store.keys(Keys { signing: vec![3; 83], refresh: [4; 32] }).await.expect("keys") == keys);
}
