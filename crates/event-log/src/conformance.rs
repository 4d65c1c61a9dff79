//! What every implementation of the log must pass. The cases are listed once, in [`event_log_conformance!`](crate::event_log_conformance),
//! which makes a test of each.
//!
//! They assert the contract and no more, so they hold under every fault it allows: records can appear twice, offsets can have gaps, reads and
//! appends can fail for the moment.

mod appending;
mod lasting;
mod reading;

use std::{
    collections::HashSet,
    fmt::Debug,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;

pub use self::{appending::*, lasting::*, reading::*};
use crate::{Error, EventLog, Offset, Reader, Record, Stored, Topic, TopicPartition};

/// The topics that a harness provides, with their numbers of partitions.
pub const TOPICS: [(Topic, u32); 2] = [(MANY, 4), (ONE, 1)];

const MANY: Topic = Topic("many");
const ONE: Topic = Topic("one");
const UNKNOWN: Topic = Topic("unknown");
const END: &str = "end ";

/// A case that takes longer hangs.
pub const CASE_TIMEOUT: Duration = Duration::from_secs(120);

/// Where the cases get their log from. Each case has a harness of its own, with nothing appended yet.
#[async_trait]
pub trait Harness: Send {
    /// Opens the log. When it was open before, it is closed first, as a process that ends closes it; the case has dropped whatever it had
    /// of it.
    async fn open(&mut self) -> Arc<dyn EventLog>;
}

/// Makes a test of every case: `event_log_conformance!(expression that makes a Harness)`, within a module of its own.
#[macro_export]
macro_rules! event_log_conformance {
    ($harness:expr) => {
        $crate::event_log_conformance! { $harness;
            appends_are_read_in_order,
            an_append_is_there_when_it_returns,
            headers_travel,
            too_large_records_are_refused,
            unknown_partitions_are_refused,
            concurrent_appenders_lose_nothing,
            a_producer_keeps_its_order,
            a_send_need_not_be_polled,
            a_producer_that_failed_stays_failed,
            readers_are_independent,
            a_reader_starts_anywhere,
            a_reader_gets_at_most_what_it_asks_for,
            a_waiting_reader_wakes,
            dropping_a_read_loses_nothing,
            a_reader_far_behind_catches_up,
            a_restart_keeps_everything,
            times_lead_to_offsets,
            every_partition_is_assigned,
        }
    };
    ($harness:expr; $($case:ident),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let case = $crate::conformance::$case($harness);
                assert!(tokio::time::timeout($crate::conformance::CASE_TIMEOUT, case).await.is_ok(), "the case hangs");
            }
        )*
    };
}

fn partition(topic: Topic, partition: u32) -> TopicPartition {
    TopicPartition { topic, partition }
}

fn record(value: impl Into<Bytes>) -> Record {
    Record { key: Bytes::from_static(b"key"), value: value.into(), headers: Vec::new() }
}

fn numbered(number: u64) -> Record {
    record(number.to_string())
}

/// A fault of the moment is tried again, like everybody does.
macro_rules! again {
    ($attempt:expr) => {
        loop {
            match $attempt.await {
                Err(Error::Unavailable(_)) => {}
                outcome => break outcome,
            }
        }
    };
}
use again;

fn expect<T>(outcome: Result<T, Error>) -> T {
    match outcome {
        Ok(value) => value,
        Err(error) => panic!("{error}"),
    }
}

async fn append(log: &dyn EventLog, to: TopicPartition, record: Record) {
    expect(again!(log.append(to, record.clone())));
}

async fn end(log: &dyn EventLog, of: TopicPartition) -> Offset {
    expect(again!(log.end(of)))
}

async fn reader(log: &dyn EventLog, from: TopicPartition, offset: Offset) -> Box<dyn Reader> {
    expect(again!(log.reader(from, offset)))
}

async fn next(reader: &mut dyn Reader, max: usize) -> Vec<Stored> {
    let records = expect(again!(reader.next(max)));
    assert!(!records.is_empty(), "a read without records");
    assert!(records.len() <= max, "{} records instead of {max}", records.len());
    records
}

/// Reads until a record fulfils a condition, that one included.
async fn read_until(reader: &mut dyn Reader, max: usize, found: impl Fn(&Stored) -> bool) -> Vec<Stored> {
    let mut read: Vec<Stored> = Vec::new();
    loop {
        for stored in next(reader, max).await {
            assert!(read.last().is_none_or(|last| last.offset < stored.offset), "offsets go back");
            let last = found(&stored);
            read.push(stored);
            if last {
                return read;
            }
        }
    }
}

/// Everything from an offset on that was appended before the call.
async fn read_all(log: &dyn EventLog, of: TopicPartition, from: Offset) -> Vec<Stored> {
    without_ends(read_to_end(log, of, from).await)
}

fn without_ends(mut records: Vec<Stored>) -> Vec<Stored> {
    records.retain(|stored| !stored.record.value.starts_with(END.as_bytes()));
    records
}

/// As [`read_all`], with the record that it appends itself to know where the end is: with gaps the offset alone does not tell.
async fn read_to_end(log: &dyn EventLog, of: TopicPartition, from: Offset) -> Vec<Stored> {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    let end = record(format!("{END}{}", CALLS.fetch_add(1, Ordering::Relaxed)));
    append(log, of, end.clone()).await;
    let mut reader = reader(log, of, from).await;
    read_until(&mut *reader, 100, |stored| stored.record == end).await
}

fn values(records: &[Stored]) -> Vec<Bytes> {
    records.iter().map(|stored| stored.record.value.clone()).collect()
}

/// The numbers in the order in which they appeared first: an append may have happened more often than it was acknowledged.
fn first_numbers(records: &[Stored]) -> Vec<u64> {
    let mut seen = HashSet::new();
    let numbers = records.iter().map(|stored| match std::str::from_utf8(&stored.record.value).map(str::parse) {
        Ok(Ok(number)) => number,
        other => panic!("a record that nobody appended: {other:?}"),
    });
    numbers.filter(|number| seen.insert(*number)).collect()
}

fn assert_is_prefix<T: PartialEq + Debug>(prefix: &[T], of: &[T]) {
    assert!(of.starts_with(prefix), "{prefix:?} does not begin {of:?}");
}
