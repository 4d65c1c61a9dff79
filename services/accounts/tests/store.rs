//! Both stores keep the contract, and what the embedded one made durable outlives it.

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

mod in_the_process {
    use super::*;

    async fn open() -> Option<(Arc<dyn Store>, TempDir)> {
        Some(embedded().await)
    }

    plaza_accounts::accounts_store_conformance!(open);
}

mod on_a_cluster {
    use plaza_accounts::{MIGRATIONS, Scylla};
    use plaza_scylla_kit::testing::{Lease, lease};

    use super::*;

    async fn open() -> Option<(Arc<dyn Store>, Lease)> {
        let lease = lease(&plaza_testkit::external::cql()?, &[MIGRATIONS]).await;
        let store = Scylla::open(&lease.session).await.expect("opened");
        Some((Arc::new(store), lease))
    }

    plaza_accounts::accounts_store_conformance!(open);
}

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
