//! Conditional writes: decided one after another in journal order, all or nothing.

use bytes::Bytes;
use plaza_embedded_db::{Batch, Db, Expect, Keyspace};
use tokio::task::JoinSet;

use crate::{big_endian, number, open};

const CLAIMANTS: u64 = 32;

async fn claim(db: Db, handles: Keyspace, users: Keyspace, user: u64, handle: u64) -> bool {
    let mut batch = Batch::new();
    batch.insert(&handles, big_endian(handle), big_endian(user));
    batch.insert(&users, big_endian(user), big_endian(handle));
    let expects = vec![Expect::absent(&handles, big_endian(handle)), Expect::absent(&users, big_endian(user))];
    db.conditional(expects, batch).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_many_claimants_gets_each_handle() {
    let folder = tempfile::tempdir().unwrap();
    let db = open(folder.path());
    let handles = db.keyspace("handles").unwrap();
    let users = db.keyspace("users").unwrap();
    for handle in 0..20 {
        let mut claims = JoinSet::new();
        for claimant in 0..CLAIMANTS {
            let user = handle * CLAIMANTS + claimant;
            let claim = claim(db.clone(), handles.clone(), users.clone(), user, handle);
            claims.spawn(async move { (user, claim.await) });
        }
        let winners: Vec<u64> = claims.join_all().await.into_iter().filter_map(|(user, won)| won.then_some(user)).collect();
        let [winner] = winners[..] else {
            panic!("handle {handle} went to {winners:?}");
        };
        let owner = handles.get(&big_endian(handle)).unwrap().unwrap();
        assert_eq!(number(&owner), winner);
        for user in handle * CLAIMANTS..(handle + 1) * CLAIMANTS {
            let row = users.get(&big_endian(user)).unwrap();
            assert_eq!(row.is_some(), user == winner, "a loser left a row");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_increment_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let db = open(folder.path());
    let counters = db.keyspace("counters").unwrap();
    let mut tasks = JoinSet::new();
    for _ in 0..8 {
        let (db, counters) = (db.clone(), counters.clone());
        tasks.spawn(async move {
            for _ in 0..25 {
                while !increment(&db, &counters).await {}
            }
        });
    }
    tasks.join_all().await;
    assert_eq!(number(&counters.get(b"counter").unwrap().unwrap()), 200);
}

async fn increment(db: &Db, counters: &Keyspace) -> bool {
    let current = counters.get(b"counter").unwrap();
    let next = current.as_deref().map_or(0, number) + 1;
    let expect = match current {
        Some(current) => Expect::equal(counters, "counter", current),
        None => Expect::absent(counters, "counter"),
    };
    let mut batch = Batch::new();
    batch.insert(counters, "counter", big_endian(next));
    db.conditional(vec![expect], batch).await.unwrap()
}

#[tokio::test]
async fn a_condition_sees_what_was_enqueued_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let db = open(folder.path());
    let rows = db.keyspace("rows").unwrap();
    for round in 0..50 {
        let key = big_endian(round);
        let mut batch = Batch::new();
        batch.insert(&rows, key.clone(), "first");
        db.enqueue(batch);
        let mut batch = Batch::new();
        batch.insert(&rows, key.clone(), "second");
        let expect = Expect::absent(&rows, key.clone());
        assert!(!db.conditional(vec![expect], batch).await.unwrap());
        let found = rows.get(&key).unwrap();
        assert_eq!(found, Some(Bytes::from_static(b"first")));
    }
}
