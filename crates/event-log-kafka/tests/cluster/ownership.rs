//! Who owns what when members come, leave and die.

use std::{
    collections::BTreeSet,
    env,
    process::Stdio,
    time::{Duration, Instant},
};

use plaza_event_log::{Assignment, Assignments, EventLog as _, Topic};
use plaza_event_log_kafka::KafkaLog;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Command,
    time::timeout,
};

use crate::places::Cluster;

const TOPIC: Topic = Topic("topic");
const PARTITIONS: u32 = 8;
const GROUP: &str = "group";
/// Tells the member in another process where it is.
const PREFIX: &str = "PLAZA_TEST_KAFKA_PREFIX";
const OWNS: &str = "member owns something";

struct Member {
    assignments: Box<dyn Assignments>,
    owned: BTreeSet<u32>,
}

impl Member {
    async fn join(log: &KafkaLog) -> Self {
        Self { assignments: log.assignments(GROUP, TOPIC).await.expect("a member"), owned: BTreeSet::new() }
    }

    async fn change(&mut self) {
        match self.assignments.next().await.expect("a change") {
            Assignment::Assigned(partition) => assert!(self.owned.insert(partition), "{partition} was assigned twice"),
            Assignment::Revoked(partition) => assert!(self.owned.remove(&partition), "{partition} was not owned"),
        }
    }

    /// Follows the changes until it owns this many; how long that took.
    async fn owns(&mut self, count: u32, limit: Duration) -> Duration {
        let began = Instant::now();
        let following = async {
            while self.owned.len() != count as usize {
                self.change().await;
            }
        };
        assert!(timeout(limit, following).await.is_ok(), "{:?} and not {count} after {limit:?}", self.owned);
        began.elapsed()
    }
}

const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_share_and_one_that_leaves_is_replaced_at_once() {
    let Some(cluster) = Cluster::with(&[(TOPIC, PARTITIONS)]).await else { return };
    let (here, there) = (cluster.open().await, cluster.open().await);
    let mut first = Member::join(&here).await;
    first.owns(PARTITIONS, PATIENCE).await;
    let mut second = Member::join(&there).await;
    tokio::join!(first.owns(PARTITIONS / 2, PATIENCE), second.owns(PARTITIONS / 2, PATIENCE));
    assert!(first.owned.is_disjoint(&second.owned));
    drop(second);
    let took = first.owns(PARTITIONS, Duration::from_secs(2)).await;
    println!("took over after {took:?}");
    there.close().await;
    // Closing the log is leaving too, and ends those who are still told changes.
    let mut third = Member::join(&here).await;
    here.close().await;
    let ending = async { while third.assignments.next().await.is_ok() {} };
    assert!(timeout(PATIENCE, ending).await.is_ok(), "a member of a log that is closed waits for ever");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_members_of_one_process_are_two_members() {
    let Some(cluster) = Cluster::with(&[(TOPIC, PARTITIONS)]).await else { return };
    let log = cluster.open().await;
    let (mut first, mut second) = (Member::join(&log).await, Member::join(&log).await);
    let sharing = async {
        while first.owned.len() != 4 || second.owned.len() != 4 {
            tokio::select! {
                () = first.change() => {}
                () = second.change() => {}
            }
        }
    };
    assert!(timeout(PATIENCE, sharing).await.is_ok(), "they do not share");
    assert!(first.owned.is_disjoint(&second.owned));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_dies_is_replaced_after_its_session() {
    let Some(cluster) = Cluster::with(&[(TOPIC, PARTITIONS)]).await else { return };
    let log = cluster.open().await;
    let mut survivor = Member::join(&log).await;
    survivor.owns(PARTITIONS, PATIENCE).await;
    let mut other = Command::new(env::current_exe().expect("this program"))
        .args(["--ignored", "--exact", "ownership::as_another_process", "--nocapture"])
        .env(PREFIX, &cluster.config.prefix)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("another process");
    let mut lines = BufReader::new(other.stdout.take().expect("its output")).lines();
    let until_it_owns = async { while lines.next_line().await.expect("a line").expect("it ended").as_str() != OWNS {} };
    let (shared, _) = tokio::join!(timeout(PATIENCE, until_it_owns), survivor.owns(PARTITIONS / 2, PATIENCE));
    assert!(shared.is_ok(), "it never owns anything");
    // Dies without a word.
    other.kill().await.expect("a kill");
    let took = survivor.owns(PARTITIONS, cluster.config.session_timeout + Duration::from_secs(4)).await;
    println!("took over after {took:?}");
    assert!(took > Duration::from_secs(1), "it did leave");
}

/// The other process of the test above, which kills it.
#[tokio::test]
#[ignore = "only the test of a member that dies runs it"]
async fn as_another_process() {
    let prefix = env::var(PREFIX).expect("where");
    let brokers = plaza_testkit::external::kafka().expect("a cluster");
    let cluster = Cluster::at(brokers, prefix, &[(TOPIC, PARTITIONS)]);
    let log = cluster.open().await;
    let mut member = Member::join(&log).await;
    loop {
        member.change().await;
        println!("\n{OWNS}");
    }
}
