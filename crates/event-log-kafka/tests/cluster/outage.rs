//! What happens when the brokers cannot be reached, or connections break with requests on their way.

use std::{collections::BTreeSet, time::Duration};

use futures::future::join_all;
use plaza_event_log::{Assignment, Error, EventLog as _, Topic, TopicPartition};
use tokio::time::{interval, timeout};

use crate::{
    places::{Cluster, append, read_until, record},
    proxy::Proxy,
};

const TOPIC: Topic = Topic("topic");
const LIMIT: Duration = Duration::from_secs(60);

fn partition(partition: u32) -> TopicPartition {
    TopicPartition { topic: TOPIC, partition }
}

/// A log behind a proxy.
async fn cluster(partitions: u32) -> Option<(Cluster, Proxy)> {
    let mut cluster = Cluster::with(&[(TOPIC, partitions)]).await?;
    let proxy = Proxy::start(&cluster.config.brokers).await;
    cluster.config.brokers = proxy.brokers();
    Some((cluster, proxy))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_producer_keeps_its_order_while_connections_break() {
    const SENDS: u32 = 4000;
    let Some((cluster, proxy)) = cluster(2).await else { return };
    let log = cluster.open().await;
    let producer = log.producer();
    let sending = async {
        let mut acknowledgements = Vec::new();
        let mut pace = interval(Duration::from_millis(5));
        for number in 0..SENDS {
            if number % 10 == 0 {
                pace.tick().await;
            }
            acknowledgements.push(producer.send([0, 1].map(|part| (partition(part), record(number.to_string()))).into()));
        }
        join_all(acknowledgements).await
    };
    let mut cuts = interval(Duration::from_millis(60));
    let breaking = async {
        loop {
            cuts.tick().await;
            proxy.cut();
        }
    };
    let acknowledged = timeout(LIMIT, async {
        tokio::select! {
            acknowledged = sending => acknowledged,
            () = breaking => unreachable!("it never ends"),
        }
    });
    let acknowledged = acknowledged.await.expect("acknowledgements");
    assert!(acknowledged.iter().all(Result::is_ok), "{:?}", acknowledged.iter().find(|sent| sent.is_err()));
    for part in 0..2 {
        append(&log, partition(part), "end").await;
        let mut reader = log.reader(partition(part), 0).await.unwrap();
        let read = read_until(&mut *reader, b"end").await;
        let values: Vec<_> = read.iter().map(|stored| String::from_utf8_lossy(&stored.record.value)).collect();
        let expected: Vec<_> = (0..SENDS).map(|number| number.to_string()).chain(["end".to_owned()]).collect();
        let wrong = values.iter().zip(&expected).position(|(value, expected)| value != expected);
        assert!(values == expected, "{} records, the first wrong one at {wrong:?}", values.len());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_is_waited_for_by_readers_and_producers_and_told_to_those_who_ask() {
    let Some((cluster, proxy)) = cluster(1).await else { return };
    let log = cluster.open().await;
    append(&log, partition(0), "before").await;
    let mut reader = log.reader(partition(0), 1).await.unwrap();
    let producer = log.producer();
    proxy.block(true);
    assert!(matches!(log.end(partition(0)).await, Err(Error::Unavailable(_))));
    let mut sent = producer.send(vec![(partition(0), record("during"))]);
    assert!(timeout(Duration::from_secs(2), &mut sent).await.is_err(), "nobody can have acknowledged it");
    let behind = producer.send(vec![(partition(0), record("behind"))]);
    proxy.block(false);
    timeout(LIMIT, sent).await.expect("an acknowledgement").unwrap();
    timeout(LIMIT, behind).await.expect("an acknowledgement").unwrap();
    let read = read_until(&mut *reader, b"behind").await;
    assert_eq!(read.iter().map(|stored| stored.offset).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(log.end(partition(0)).await.unwrap(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_is_cut_off_is_told_and_comes_back() {
    const PARTITIONS: u32 = 4;
    let Some((cluster, proxy)) = cluster(PARTITIONS).await else { return };
    let log = cluster.open().await;
    let mut member = log.assignments("group", TOPIC).await.unwrap();
    let mut owned = BTreeSet::new();
    for (is_blocked, count) in [(false, PARTITIONS), (true, 0), (false, PARTITIONS)] {
        proxy.block(is_blocked);
        let following = async {
            while owned.len() != count as usize {
                match member.next().await.expect("a change") {
                    Assignment::Assigned(partition) => assert!(owned.insert(partition)),
                    Assignment::Revoked(partition) => assert!(owned.remove(&partition)),
                }
            }
        };
        let limit = cluster.config.session_timeout * 3;
        assert!(timeout(limit, following).await.is_ok(), "owns {owned:?} and not {count}");
    }
}
