//! The suite under every fault, and that each fault happens.

use super::*;
use crate::{
    Assignment,
    conformance::{Harness, TOPICS},
    embedded::tests::Embedded,
};

const OF: TopicPartition = TopicPartition { topic: TOPICS[1].0, partition: 0 };

struct Wrapped {
    inner: Embedded,
    seed: u64,
    faults: Faults,
}

impl Wrapped {
    fn new(seed: u64, faults: Faults) -> Self {
        Self { inner: Embedded::new(), seed, faults }
    }
}

#[async_trait]
impl Harness for Wrapped {
    async fn open(&mut self) -> Arc<dyn EventLog> {
        Arc::new(Faulty::new(self.inner.open().await, self.seed, self.faults.clone()))
    }
}

mod conforms_without_faults {
    crate::event_log_conformance!(super::Wrapped::new(1, super::Faults::default()));
}

mod conforms_with_all_faults {
    crate::event_log_conformance!(super::Wrapped::new(2, super::Faults::all()));
}

const RECORDS: usize = 200;

/// The numbers found in the log after appending the first ones in order, and those whose append failed.
async fn append_under(faults: Faults) -> (Vec<usize>, Vec<usize>) {
    let mut harness = Embedded::new();
    let inner = harness.open().await;
    let log = Faulty::new(inner.clone(), 3, faults);
    let mut failed = Vec::new();
    for number in 0..RECORDS {
        if log.append(OF, record(number)).await.is_err() {
            failed.push(number);
        }
    }
    let found = read(&log, &inner).await.iter().map(|stored| std::str::from_utf8(&stored.record.value).unwrap().parse().unwrap()).collect();
    (found, failed)
}

/// All records as seen through the faults.
async fn read(log: &Faulty, inner: &Arc<dyn EventLog>) -> Vec<Stored> {
    let count = inner.end(OF).await.unwrap() as usize;
    let mut reader = log.reader(OF, 0).await.unwrap();
    let mut records = Vec::new();
    while records.len() < count {
        records.extend(reader.next(count).await.unwrap());
    }
    records
}

fn record(number: usize) -> Record {
    Record { value: number.to_string().into(), ..Record::default() }
}

#[tokio::test]
async fn an_append_fails_and_is_there() {
    let (found, failed) = append_under(Faults { lost_answers: 0.2, ..Faults::default() }).await;
    assert!(!failed.is_empty() && failed.len() < RECORDS / 2);
    assert_eq!(found, (0..RECORDS).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_append_fails_and_comes_later() {
    let (found, failed) = append_under(Faults { late_appends: 0.2, ..Faults::default() }).await;
    assert!(!failed.is_empty() && failed.len() < RECORDS / 2);
    let place = |number: usize| found.iter().position(|found| *found == number);
    assert!(failed.iter().any(|number| place(*number) > place(number + 1)), "none came behind its successor");
    assert!((0..RECORDS).filter(|number| !failed.contains(number)).all(|number| place(number).is_some()));
}

#[tokio::test]
async fn an_append_happens_twice() {
    let (mut found, failed) = append_under(Faults { double_appends: 0.2, ..Faults::default() }).await;
    assert!(failed.is_empty());
    assert!(found.len() > RECORDS && found.len() < 2 * RECORDS);
    found.dedup();
    assert_eq!(found, (0..RECORDS).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_producer_fails_after_any_number_of_its_records() {
    let mut left = std::collections::BTreeSet::new();
    for seed in 0..100 {
        let mut harness = Embedded::new();
        let inner = harness.open().await;
        let log = Faulty::new(inner.clone(), seed, Faults { failed_producers: 0.5, ..Faults::default() });
        let producer = log.producer();
        let sends = [0, 1, 2].map(|send| producer.send((0..3).map(|number| (OF, record(send * 3 + number))).collect()));
        let acknowledged = futures::future::join_all(sends).await.into_iter().filter(Result::is_ok).count() * 3;
        let found = inner.end(OF).await.unwrap() as usize;
        assert!((acknowledged..=9).contains(&found));
        left.insert(found - acknowledged);
    }
    assert!(left.iter().copied().eq(0..=3), "{left:?}");
}

#[tokio::test]
async fn places_and_times_are_the_same_for_everybody() {
    let faults = Faults { gaps: true, clock_back_micros: 5_000, ..Faults::default() };
    let mut harness = Embedded::new();
    let inner = harness.open().await;
    let log = Faulty::new(inner.clone(), 3, faults.clone());
    for number in 0..RECORDS {
        log.append(OF, record(number)).await.unwrap();
    }
    let records = read(&log, &inner).await;
    assert!(records.windows(2).all(|pair| pair[0].offset < pair[1].offset));
    assert!(records.windows(2).any(|pair| pair[0].offset + 1 < pair[1].offset), "no gap");
    assert!(records.windows(2).any(|pair| pair[0].appended > pair[1].appended), "the clock never went back");
    assert_eq!(read(&Faulty::new(inner.clone(), 3, faults.clone()), &inner).await, records);
    assert_ne!(read(&Faulty::new(inner.clone(), 4, faults), &inner).await, records);
}

/// Follows what the members of a group are told, and checks that it makes sense to each.
#[tokio::test]
async fn two_members_own_a_partition_for_a_while() {
    let mut harness = Embedded::new();
    let inner = harness.open().await;
    let log = Faulty::new(inner, 3, Faults { moves: Some(Duration::from_millis(1)), ..Faults::default() });
    let topic = TOPICS[0].0;
    let mut members = [log.assignments("group", topic).await.unwrap(), log.assignments("group", topic).await.unwrap()];
    let mut owned = [[false; 4]; 2];
    let (mut twice, mut given_again) = (0, 0);
    for _ in 0..1000 {
        let [first, second] = &mut members;
        let (member, news) = tokio::select! {
            news = first.next() => (0, news.unwrap()),
            news = second.next() => (1, news.unwrap()),
        };
        let (partition, assigned) = match news {
            Assignment::Assigned(partition) => (partition as usize, true),
            Assignment::Revoked(partition) => (partition as usize, false),
        };
        assert_ne!(owned[member][partition], assigned, "member {member} is told what it knows");
        owned[member][partition] = assigned;
        twice += usize::from(owned[0][partition] && owned[1][partition]);
        given_again += usize::from(assigned && !owned[1 - member][partition]);
    }
    assert!(twice > 50, "{twice} overlaps");
    assert!(given_again > 50, "{given_again} without overlap");
    let [first, mut second] = members;
    drop(first);
    while owned[1].contains(&false) {
        match second.next().await.unwrap() {
            Assignment::Assigned(partition) => owned[1][partition as usize] = true,
            Assignment::Revoked(partition) => owned[1][partition as usize] = false,
        }
    }
}
