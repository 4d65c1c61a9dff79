//! Migrations, shared rows and errors on a real cluster.

use std::time::Duration;

use futures::{FutureExt, future::join_all};
use plaza_scylla_kit::{
    CheckError, Config, Deployment, Error, Migrations, Server, Session, Step, check,
    deployment::Topic,
    migrate,
    testing::{Lease, lease},
};
use plaza_testkit::wait::wait_for;

const ONE: Step = Step { name: "one", cql: "CREATE TABLE IF NOT EXISTS {keyspace}.one (id int PRIMARY KEY, value text);\n" };
const TWO: Step = Step { name: "two", cql: "-- more\nCREATE TABLE IF NOT EXISTS {keyspace}.two (id int PRIMARY KEY);\n" };
const OLD: &[Migrations] = &[Migrations { service: "kit", steps: &[ONE], overlay: &[] }];
const NEW: &[Migrations] = &[Migrations { service: "kit", steps: &[ONE, TWO], overlay: &[] }];
const EDITED: &[Migrations] = &[Migrations { service: "kit", steps: &[TWO], overlay: &[] }];
const OTHER: &[Migrations] = &[Migrations { service: "other", steps: &[ONE], overlay: &[] }];

async fn open() -> Option<Lease> {
    Some(lease(&plaza_testkit::external::cql()?, OLD).await)
}

#[tokio::test]
async fn tables_are_migrated_once_and_checked() {
    let Some(lease) = open().await else { return };
    let session = &lease.session;
    check(session, OLD).await.expect("as the binary needs them");
    assert!(matches!(check(session, NEW).await, Err(CheckError::TooOld { service: "kit", found: 1, needed: 2 })));
    assert!(matches!(check(session, EDITED).await, Err(CheckError::Edited { service: "kit", number: 1 })));
    assert!(matches!(check(session, OTHER).await, Err(CheckError::TooOld { service: "other", found: 0, needed: 1 })));

    let runs = join_all(["a", "b", "c"].map(|owner| migrate(session, NEW, owner))).await;
    for run in runs {
        run.expect("each waits for the others");
    }
    check(session, NEW).await.expect("migrated");
    check(session, OLD).await.expect("newer tables are accepted");
    assert!(matches!(migrate(session, EDITED, "d").await, Err(CheckError::Edited { service: "kit", number: 1 })));
    migrate(session, OLD, "e").await.expect("the lock was given back, and nothing is to do");

    if session.server() == Server::Cassandra {
        session
            .change_tables(&session.keyspace("kit").fill("ALTER TABLE {keyspace}.one WITH read_repair = 'NONE'"))
            .await
            .expect("altered");
        let refused = check(session, OLD).await;
        assert!(matches!(refused, Err(CheckError::NoReadRepair { table }) if table.ends_with("kit.one")));
        session
            .change_tables(&session.keyspace("kit").fill("ALTER TABLE {keyspace}.one WITH read_repair = 'BLOCKING'"))
            .await
            .expect("altered");
    }
}

#[tokio::test]
async fn several_may_be_the_first() {
    let Some(lease) = open().await else { return };
    for round in 0..3 {
        let config = Config { keyspace_prefix: format!("{}first{round}_", lease.config.keyspace_prefix), ..lease.config.clone() };
        // Each has connections of its own, and with several nodes begins where it likes.
        let sessions = join_all((0..4).map(|_| Session::connect(&config))).await;
        let sessions: Vec<_> = sessions.into_iter().map(|session| session.expect("connected")).collect();
        let runs = sessions.iter().zip(["a", "b", "c", "d"]).map(|(session, owner)| migrate(session, NEW, owner));
        for run in join_all(runs).await {
            run.expect("nothing was there, and all make the same");
        }
        for session in &sessions {
            check(session, NEW).await.expect("migrated");
        }
        for service in ["plaza", "kit"] {
            let keyspace = sessions[0].keyspace(service);
            sessions[0].change_tables(&keyspace.fill("DROP KEYSPACE {keyspace}")).await.expect("dropped");
        }
    }
}

#[tokio::test]
async fn a_lock_holds_others_back_until_its_owner_is_gone() {
    let Some(lease) = open().await else { return };
    let (session, shared) = (&lease.session, lease.session.keyspace("plaza"));
    let taken = "INSERT INTO {keyspace}.locks (name, owner) VALUES (?, ?) IF NOT EXISTS USING TTL 3";
    let take = shared.conditional(taken).await.expect("prepared");
    assert!(session.conditional(&take, ("migrate", "killed")).await.expect("taken"));
    let began = std::time::Instant::now();
    migrate(session, OLD, "next").await.expect("migrated once the lock had expired");
    assert!(began.elapsed() > Duration::from_secs(1), "after {:?}", began.elapsed());
}

#[tokio::test]
async fn a_request_runs_to_its_end_and_too_many_are_not_begun() {
    let Some(lease) = open().await else { return };
    let config = Config { requests: 1, queue_timeout: Duration::from_micros(1), ..lease.config.clone() };
    let session = Session::connect(&config).await.expect("connected");
    let keyspace = session.keyspace("kit");
    let write = keyspace.write("INSERT INTO {keyspace}.one (id, value) VALUES (?, ?) USING TIMESTAMP ?").await.expect("prepared");
    let read = keyspace.read("SELECT id FROM {keyspace}.one WHERE id = ?").await.expect("prepared");

    // Polled once, which begins it, and dropped.
    assert!(session.write(&write, (1, "given up", 1_i64)).now_or_never().is_none());
    let patient = &lease.session;
    let found = wait_for("the row", Duration::from_secs(30), async || match patient.row::<(i32,)>(&read, (1,)).await {
        Ok(Some(_)) => Ok(()),
        other => Err(other),
    });
    found.await.expect("the request was not given up with its caller");

    let outcomes = join_all((2..50).map(|id| session.write(&write, (id, "", 1_i64)))).await;
    assert!(outcomes.iter().any(|outcome| matches!(outcome, Err(Error::Unavailable(_)))), "48 at once where one may be");
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Ok(()) | Err(Error::Unavailable(_)))));
}

#[tokio::test]
async fn the_first_secret_and_topic_stay() {
    let Some(lease) = open().await else { return };
    let deployment = Deployment::open(&lease.session).await.expect("opened");
    let candidates = [[1_u8; 4], [2; 4], [3; 4]];
    let got = join_all(candidates.iter().map(|candidate| deployment.secret("key", candidate))).await;
    let first = got[0].clone().expect("made");
    assert!(candidates.iter().any(|candidate| first == candidate));
    for one in got {
        assert_eq!(one.expect("made"), first);
    }
    assert_eq!(deployment.secret("other", &[9]).await.expect("made"), [9]);

    assert_eq!(deployment.topic("graph").await.expect("read"), None);
    let topic = |generation, partitions| Topic { generation, partitions, settings: "compact".to_owned() };
    assert_eq!(deployment.put_topic("graph", &topic(1, 12)).await.expect("put"), topic(1, 12));
    assert_eq!(deployment.put_topic("graph", &topic(1, 24)).await.expect("put"), topic(1, 12));
    let replaced = deployment.replace_topic("graph", &topic(1, 24), &topic(2, 24)).await.expect("asked");
    assert_eq!(replaced, Some(topic(1, 12)), "it was not what it was thought to be");
    let replaced = deployment.replace_topic("graph", &topic(1, 12), &topic(2, 24)).await.expect("replaced");
    assert_eq!(replaced, Some(topic(2, 24)));
    let other = Topic { settings: "delete".to_owned(), ..topic(2, 24) };
    let replaced = deployment.replace_topic("graph", &other, &topic(3, 24)).await.expect("asked");
    assert_eq!(replaced, Some(topic(2, 24)), "its settings were not what they were thought to be");
}

#[tokio::test]
async fn statements_say_what_they_are() {
    let Some(lease) = open().await else { return };
    let (session, keyspace) = (&lease.session, lease.session.keyspace("kit"));
    let refused = keyspace.write("INSERT INTO {keyspace}.one (id, value) VALUES (?, ?)").await;
    assert!(matches!(refused, Err(Error::Refused(_))), "a write names its time");
    assert!(matches!(keyspace.read("SELECT nothing FROM {keyspace}.one").await, Err(Error::Refused(_))));

    let write = keyspace.write("INSERT INTO {keyspace}.one (id, value) VALUES (?, ?) USING TIMESTAMP ?").await.expect("prepared");
    let read = keyspace.read("SELECT value FROM {keyspace}.one WHERE id = ?").await.expect("prepared");
    let all = keyspace.read("SELECT id, value FROM {keyspace}.one").await.expect("prepared");
    assert!(matches!(write.bind(("no number",)), Err(Error::Refused(_))));
    let rows = (0..300).map(|id| write.bind((id, id.to_string(), 10_i64)).expect("bound"));
    session.write_all(rows).await.expect("written");
    session.write(&write, (7, "older", 9_i64)).await.expect("written");
    assert_eq!(session.row::<(String,)>(&read, (7,)).await.expect("read"), Some(("7".to_owned(),)));
    assert_eq!(session.row::<(String,)>(&read, (300,)).await.expect("read"), None);
    assert!(matches!(session.row::<(i32,)>(&read, (7,)).await, Err(Error::Malformed(_))));

    let (mut found, mut at) = (Vec::new(), Some(plaza_scylla_kit::PagingState::start()));
    while let Some(from) = at {
        let (rows, next) = session.page::<(i32, String)>(&all, (), 100, from).await.expect("read");
        assert!(rows.len() <= 100);
        found.extend(rows);
        at = next;
    }
    found.sort_unstable();
    assert_eq!(found, (0..300).map(|id| (id, id.to_string())).collect::<Vec<_>>());
}
