//! The tables on a cluster pass the suite of every store.
#![cfg(feature = "cql")]

use plaza_processor::cql::{OVERLAY, STEP, StateTables};
use plaza_scylla_kit::{
    Migrations,
    testing::{Lease, lease},
};

const TABLES: &[Migrations] = &[Migrations { service: "processor", steps: &[STEP], overlay: &[OVERLAY] }];

struct Cql(StateTables);

plaza_processor::machine_store!(Cql: (), |store, _rows| store.0, |_, _| {});

async fn open() -> Option<(Cql, Lease)> {
    let lease = lease(&plaza_testkit::external::cql()?, TABLES).await;
    let tables = StateTables::open(&lease.session.keyspace("processor")).await.expect("prepared");
    Some((Cql(tables), lease))
}

plaza_processor::store_conformance!((), open);
