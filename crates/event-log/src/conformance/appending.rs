//! Cases about appending, alone and with a producer.

use futures::{FutureExt as _, future::join_all};
use tokio::task::JoinSet;

use super::*;

const MAX_KEY: usize = 64;
const MAX_VALUE: usize = 1 << 20;

/// One appender's records are read in its order, each partition on its own.
pub async fn appends_are_read_in_order(mut harness: impl Harness) {
    let log = harness.open().await;
    for number in 0..300 {
        append(&*log, partition(MANY, (number % 3) as u32), numbered(number)).await;
    }
    for remainder in 0..3 {
        let read = read_all(&*log, partition(MANY, remainder as u32), 0).await;
        assert_eq!(first_numbers(&read), (0..300).filter(|number| number % 3 == remainder).collect::<Vec<_>>());
    }
    assert!(read_all(&*log, partition(MANY, 3), 0).await.is_empty(), "a record in a partition that none was appended to");
}

/// A record whose append was acknowledged is below the end, and readers are given it.
pub async fn an_append_is_there_when_it_returns(mut harness: impl Harness) {
    let log = harness.open().await;
    for number in 0..50 {
        let before = end(&*log, partition(ONE, 0)).await;
        append(&*log, partition(ONE, 0), numbered(number)).await;
        let after = end(&*log, partition(ONE, 0)).await;
        let mut reader = reader(&*log, partition(ONE, 0), before).await;
        let read = read_until(&mut *reader, 10, |stored| stored.record == numbered(number)).await;
        assert!(read.iter().all(|stored| (before..after).contains(&stored.offset)), "a record outside of the end before and after");
    }
}

/// Known headers and empty parts come back as they were.
pub async fn headers_travel(mut harness: impl Harness) {
    let log = harness.open().await;
    let traced = |key: &'static [u8], value: &'static [u8], trace: &'static [u8]| Record {
        key: Bytes::from_static(key),
        value: Bytes::from_static(value),
        headers: vec![("traceparent", Bytes::from_static(trace))],
    };
    let sent = [traced(b"key", b"value", b"00-trace-01"), traced(b"", b"", b""), record("bare"), Record::default()];
    for record in &sent {
        append(&*log, partition(ONE, 0), record.clone()).await;
    }
    let mut read: Vec<Record> = read_all(&*log, partition(ONE, 0), 0).await.into_iter().map(|stored| stored.record).collect();
    let mut at = 0;
    read.retain(|record| {
        let is_next = sent.get(at) == Some(record);
        at += usize::from(is_next);
        is_next || !sent[..at].contains(record)
    });
    assert_eq!(read, sent);
}

/// The limits are 64 bytes of key and 1 MiB of value; what is above is not appended.
pub async fn too_large_records_are_refused(mut harness: impl Harness) {
    let log = harness.open().await;
    let sized = |key: usize, value: usize| Record { key: vec![7; key].into(), value: vec![8; value].into(), headers: Vec::new() };
    for refused in [sized(MAX_KEY + 1, 0), sized(0, MAX_VALUE + 1)] {
        let outcome = again!(log.append(partition(ONE, 0), refused.clone()));
        assert!(matches!(outcome, Err(Error::TooLarge { .. })), "{outcome:?}");
    }
    let largest = sized(MAX_KEY, MAX_VALUE);
    append(&*log, partition(ONE, 0), largest.clone()).await;
    let read = read_all(&*log, partition(ONE, 0), 0).await;
    assert!(!read.is_empty());
    assert!(read.iter().all(|stored| stored.record == largest), "a record that was refused, or another than was appended");
}

/// Every call refuses a partition that does not exist.
pub async fn unknown_partitions_are_refused(mut harness: impl Harness) {
    let log = harness.open().await;
    assert_eq!(TOPICS.map(|(topic, _)| log.partitions(topic)), TOPICS.map(|(_, partitions)| partitions));
    assert_eq!(log.partitions(UNKNOWN), 0);
    for unknown in [partition(UNKNOWN, 0), partition(MANY, 4), partition(ONE, u32::MAX)] {
        let outcomes = [
            again!(log.append(unknown, numbered(1))),
            again!(log.reader(unknown, 0)).map(drop),
            again!(log.end(unknown)).map(drop),
            again!(log.offset_at(unknown, 0)).map(drop),
        ];
        for outcome in outcomes {
            assert!(matches!(outcome, Err(Error::UnknownPartition(found)) if found == unknown), "{outcome:?}");
        }
    }
    assert!(log.assignments("group", UNKNOWN).await.is_err());
}

/// Records of many at once are all there, each appender's in its order, and every reader sees the same.
pub async fn concurrent_appenders_lose_nothing(mut harness: impl Harness) {
    const APPENDERS: u64 = 32;
    const EACH: u64 = 60;
    let log = harness.open().await;
    let mut follower = reader(&*log, partition(ONE, 0), 0).await;
    let mut tasks = JoinSet::new();
    for appender in 0..APPENDERS {
        let log = log.clone();
        tasks.spawn(async move {
            for number in 0..EACH {
                append(&*log, partition(ONE, 0), numbered(appender * EACH + number)).await;
            }
        });
    }
    let following = async {
        let mut left: HashSet<u64> = (0..APPENDERS * EACH).collect();
        let mut read = Vec::new();
        while !left.is_empty() {
            let records = next(&mut *follower, 100).await;
            for number in first_numbers(&records) {
                left.remove(&number);
            }
            read.extend(records);
        }
        read
    };
    let (followed, _) = tokio::join!(following, tasks.join_all());
    let read = read_all(&*log, partition(ONE, 0), 0).await;
    assert_is_prefix(&followed, &read);
    let numbers = first_numbers(&read);
    for appender in 0..APPENDERS {
        let own = appender * EACH..(appender + 1) * EACH;
        assert!(numbers.iter().filter(|number| own.contains(number)).copied().eq(own.clone()), "appender {appender} is out of order");
    }
}

/// In each partition a producer's records are a prefix of what it sent there, with everything acknowledged in it, none twice.
pub async fn a_producer_keeps_its_order(mut harness: impl Harness) {
    let log = harness.open().await;
    for round in 0..20_u64 {
        let first = round * 1000;
        let ends = join_all((0..4).map(|part| end(&*log, partition(MANY, part)))).await;
        let producer = log.producer();
        let mut sent: [Vec<u64>; 4] = Default::default();
        let mut acknowledgements = Vec::new();
        for send in 0..40 {
            let mut records = Vec::new();
            for number in first + send * 5..first + send * 5 + 5 {
                let part = (number * 7 % 4) as usize;
                sent[part].push(number);
                records.push((partition(MANY, part as u32), numbered(number)));
            }
            acknowledgements.push(producer.send(records));
        }
        let outcomes = join_all(acknowledgements).await;
        let sends = outcomes.iter().take_while(|outcome| outcome.is_ok()).count();
        assert!(outcomes[sends..].iter().all(Result::is_err), "a send succeeded after another had failed");
        let acknowledged = first..first + sends as u64 * 5;
        for (part, end) in ends.into_iter().enumerate() {
            let read = read_all(&*log, partition(MANY, part as u32), end).await;
            assert_is_prefix(&values(&read), &sent[part].iter().map(|number| numbered(*number).value).collect::<Vec<_>>());
            let numbers = first_numbers(&read);
            assert!(sent[part].iter().filter(|number| acknowledged.contains(number)).all(|number| numbers.contains(number)));
        }
    }
}

/// What was sent arrives even if nobody waits for the acknowledgement, and a send of nothing is acknowledged.
pub async fn a_send_need_not_be_polled(mut harness: impl Harness) {
    let log = harness.open().await;
    for round in 0.. {
        let producer = log.producer();
        let end = end(&*log, partition(ONE, 0)).await;
        drop(producer.send(vec![(partition(ONE, 0), numbered(round))]));
        if producer.send(Vec::new()).await.is_ok() {
            let mut reader = reader(&*log, partition(ONE, 0), end).await;
            read_until(&mut *reader, 1, |stored| stored.record == numbered(round)).await;
            return;
        }
    }
}

/// After an error nothing that the producer is given is appended.
pub async fn a_producer_that_failed_stays_failed(mut harness: impl Harness) {
    let log = harness.open().await;
    let producer = log.producer();
    assert!(producer.send(vec![(partition(UNKNOWN, 0), numbered(1))]).await.is_err());
    for number in 2..5 {
        let outcome = producer.send(vec![(partition(ONE, 0), numbered(number))]).now_or_never();
        assert!(!matches!(outcome, Some(Ok(()))), "it works again");
        assert!(producer.send(vec![(partition(ONE, 0), numbered(number))]).await.is_err());
    }
    assert_eq!(read_all(&*log, partition(ONE, 0), 0).await, []);
}
