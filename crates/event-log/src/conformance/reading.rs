//! Cases about reading.

use futures::FutureExt as _;
use tokio::task::JoinSet;

use super::*;

async fn append_numbers(log: &Arc<dyn EventLog>, to: TopicPartition, numbers: std::ops::Range<u64>) {
    for number in numbers {
        append(&**log, to, numbered(number)).await;
    }
}

/// Readers do not take records away from each other, and one that starts again sees the same.
pub async fn readers_are_independent(mut harness: impl Harness) {
    let log = harness.open().await;
    append_numbers(&log, partition(ONE, 0), 0..100).await;
    let is_last = |stored: &Stored| stored.record == numbered(99);
    let mut readers = Vec::new();
    for _ in 0..3 {
        readers.push(reader(&*log, partition(ONE, 0), 0).await);
    }
    let mut seen = Vec::new();
    for (max, mut reader) in [1, 7, 1000].into_iter().zip(readers) {
        seen.push(read_until(&mut *reader, max, is_last).await);
    }
    let mut again = reader(&*log, partition(ONE, 0), 0).await;
    seen.push(read_until(&mut *again, 10, is_last).await);
    assert!(seen.windows(2).all(|pair| pair[0] == pair[1]), "readers saw different records");
}

/// A reader begins with the first record at or above the offset it is given, wherever that is.
pub async fn a_reader_starts_anywhere(mut harness: impl Harness) {
    let log = harness.open().await;
    append_numbers(&log, partition(ONE, 0), 0..60).await;
    let all = read_all(&*log, partition(ONE, 0), 0).await;
    let last = all[all.len() - 1].offset;
    for from in 0..=last {
        let expected = all.iter().find(|stored| stored.offset >= from);
        let mut reader = reader(&*log, partition(ONE, 0), from).await;
        assert_eq!(next(&mut *reader, 1).await.first(), expected, "from {from}");
    }
    // Past the end it waits for the first one there.
    let past = end(&*log, partition(ONE, 0)).await + 20;
    let mut waiting = reader(&*log, partition(ONE, 0), past).await;
    let mut number = 1000;
    while end(&*log, partition(ONE, 0)).await <= past {
        assert!(!matches!(waiting.next(1).now_or_never(), Some(Ok(_))), "a record below the offset asked for");
        append(&*log, partition(ONE, 0), numbered(number)).await;
        number += 1;
    }
    append(&*log, partition(ONE, 0), numbered(number)).await;
    let found = next(&mut *waiting, 1).await;
    let all = read_to_end(&*log, partition(ONE, 0), 0).await;
    assert_eq!(found.first(), all.iter().find(|stored| stored.offset >= past));
}

/// However many there are, and even when asked for none.
pub async fn a_reader_gets_at_most_what_it_asks_for(mut harness: impl Harness) {
    let log = harness.open().await;
    append_numbers(&log, partition(ONE, 0), 0..100).await;
    let mut reader = reader(&*log, partition(ONE, 0), 0).await;
    for max in [1, 2, 3, 5, 8, 13] {
        next(&mut *reader, max).await;
    }
}

/// A reader at the end is given what is appended while it waits, each time.
pub async fn a_waiting_reader_wakes(mut harness: impl Harness) {
    let log = harness.open().await;
    let mut readers = JoinSet::new();
    let (progress, _) = tokio::sync::watch::channel(0);
    let progress = Arc::new(progress);
    for _ in 0..3 {
        let (log, progress) = (log.clone(), progress.clone());
        readers.spawn(async move {
            let mut reader = reader(&*log, partition(ONE, 0), 0).await;
            for number in 0..100 {
                read_until(&mut *reader, 1, |stored| stored.record == numbered(number)).await;
                progress.send_modify(|read| *read += 1);
            }
        });
    }
    let mut watching = progress.subscribe();
    for number in 0..100 {
        append(&*log, partition(ONE, 0), numbered(number)).await;
        // All of them have it, so they wait, or are about to, when the next one comes.
        assert!(watching.wait_for(|read| *read == 3 * (number + 1)).await.is_ok());
    }
    readers.join_all().await;
}

/// A read that is given up, at whatever point, takes no record with it.
pub async fn dropping_a_read_loses_nothing(mut harness: impl Harness) {
    const RECORDS: u64 = 300;
    let log = harness.open().await;
    let mut appender = JoinSet::new();
    let appending = log.clone();
    appender.spawn(async move { append_numbers(&appending, partition(ONE, 0), 0..RECORDS).await });
    let mut impatient = reader(&*log, partition(ONE, 0), 0).await;
    let mut read: Vec<Stored> = Vec::new();
    while read.last().is_none_or(|last| last.record != numbered(RECORDS - 1)) {
        match impatient.next(5).now_or_never() {
            Some(Ok(records)) => read.extend(records),
            Some(Err(Error::Unavailable(_))) => {}
            Some(Err(error)) => panic!("{error}"),
            None => tokio::task::yield_now().await,
        }
    }
    appender.join_all().await;
    let mut patient = reader(&*log, partition(ONE, 0), 0).await;
    let expected = read_until(&mut *patient, 100, |stored| stored.record == numbered(RECORDS - 1)).await;
    assert_is_prefix(&expected, &read);
}

/// A reader that starts when a lot was appended sees all of it, and what is appended meanwhile.
pub async fn a_reader_far_behind_catches_up(mut harness: impl Harness) {
    const BEFORE: u64 = 9000;
    const MEANWHILE: u64 = 3000;
    let log = harness.open().await;
    let mut sent = 0;
    let mut send = async |until: u64| {
        while sent < until {
            // A producer may have failed after some of its records; the number says which are there.
            let records = (sent..until.min(sent + 500)).map(|number| (partition(ONE, 0), numbered(number))).collect();
            if log.producer().send(records).await.is_ok() {
                sent = until.min(sent + 500);
            }
        }
    };
    send(BEFORE).await;
    let mut readers = JoinSet::new();
    for max in [10, 1000] {
        let mut behind = reader(&*log, partition(ONE, 0), 0).await;
        readers.spawn(async move { read_until(&mut *behind, max, |stored| stored.record == numbered(BEFORE + MEANWHILE - 1)).await });
    }
    send(BEFORE + MEANWHILE).await;
    let read = readers.join_all().await;
    assert_eq!(read[0], read[1]);
    assert_eq!(first_numbers(&read[0]), (0..BEFORE + MEANWHILE).collect::<Vec<_>>());
}
