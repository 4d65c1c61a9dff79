//! A machine hosted on the embedded log and tables, called as services call it.

mod process;
mod request_ids;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use plaza_event_log::{EventLog, Record, TopicPartition};
use plaza_processor::{CallError, Config, Envelope, Outcome, Store, outcome::Kind};
use plaza_runtime::Clock;
use plaza_types::{ClientId, Reason, UserId, partition};
use prost::Message as _;

use crate::process::{BOMB, COUNTS, ELSEWHERE, Number, PARKED, Process};

fn request(number: u8) -> ClientId {
    ClientId::new(Clock::system().now_micros(), [number; 10])
}

#[tokio::test]
async fn a_machine_answers_remembers_and_goes_on_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let process = Process::start(&folder);
    let first = request(1);
    assert_eq!(process.add("a", 5, first).await, Outcome::accepted("5"));
    assert_eq!(process.add("b", 1, request(2)).await, Outcome::accepted("1"));
    assert_eq!(process.add("a", 5, first).await, Outcome::accepted("5"), "asked again");
    assert_eq!(process.add("a", 2, request(3)).await, Outcome::accepted("7"));
    let reused = process.add("a", 9, first).await;
    assert!(matches!(&reused.kind, Some(Kind::Refused(refusal)) if refusal.reason == Reason::RequestIdReused.number()), "{reused:?}");
    assert_eq!(process.heard.owned.lock().len(), 2);
    let mut heard = process.heard.numbers.lock().clone();
    heard.sort_unstable();
    assert_eq!(heard, [1, 5, 7]);
    let ends = [0, 1].map(|partition| TopicPartition { topic: COUNTS, partition });
    let (log, tables) = (Arc::clone(&process.log), Arc::clone(&process.tables));
    process.stop().await;
    for of in ends {
        let checkpoint = tables.checkpoint("counts", of.partition).await.expect("the store works").expect("an orderly end writes one");
        assert_eq!(checkpoint.next.offset, log.end(of).await.expect("the log works"));
    }
    drop((log, tables));

    let process = Process::start(&folder);
    assert_eq!(process.add("a", 5, first).await, Outcome::accepted("5"), "remembered in the store");
    assert_eq!(process.add("a", 1, request(4)).await, Outcome::accepted("8"));
    process.stop().await;
}

#[tokio::test]
async fn what_another_owner_has_written_is_told_again_to_the_readers_of_this_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let process = Process::start(&folder);
    for (number, value) in [(1, 5), (2, 2)] {
        process.add("a", value, request(number)).await;
    }
    process.stop().await;
    // As where the other one wrote the states and not yet the checkpoint.
    process::rewind(&folder, partition::of(b"a", 2)).await;

    let process = Process::start(&folder);
    assert_eq!(process.add("a", 1, request(3)).await, Outcome::accepted("8"));
    assert_eq!(*process.heard.numbers.lock(), [7, 7, 8]);
    process.stop().await;
}

#[tokio::test]
async fn poison_is_parked_and_its_key_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let process = Process::start(&folder);
    assert_eq!(process.add("a", 5, request(1)).await, Outcome::accepted("5"));
    let parked = process.add("a", BOMB, request(2)).await;
    assert!(matches!(&parked.kind, Some(Kind::Refused(refusal)) if refusal.reason == Reason::Internal.number()), "{parked:?}");
    assert_eq!(process.add("a", 2, request(3)).await, Outcome::accepted("7"), "nothing of the poison is left");
    let parked = process.add("a", BOMB, request(4)).await;
    assert!(matches!(&parked.kind, Some(Kind::Refused(_))), "the first one is not decided again: {parked:?}");
    for partition in 0..2 {
        for value in [Bytes::new(), Bytes::from_static(&[0xff; 8])] {
            let record = Record { value, ..Record::default() };
            process.log.append(TopicPartition { topic: COUNTS, partition }, record).await.expect("the log works");
        }
    }
    assert_eq!(process.add("a", 1, request(5)).await, Outcome::accepted("8"), "what is no record at all is passed over");
    assert_eq!(process.add(ELSEWHERE, 1, request(6)).await, Outcome::accepted("1"), "in the other partition too");
    let mut dead = 0;
    for partition in 0..2 {
        dead += process.log.end(TopicPartition { topic: PARKED, partition }).await.expect("the log works");
    }
    assert_eq!(dead, 6);
    process.stop().await;
}

#[tokio::test]
async fn a_partition_waits_for_a_binary_that_knows_the_rules() {
    let folder = tempfile::tempdir().expect("a folder");
    let process = Process::start(&folder);
    assert_eq!(process.add("a", 5, request(1)).await, Outcome::accepted("5"));
    let number = partition::of(b"a", 2);
    let of = TopicPartition { topic: COUNTS, partition: number };
    assert_ne!(number, partition::of(ELSEWHERE.as_bytes(), 2));
    let unknown = process.log.end(of).await.expect("the log works");
    let envelope = Envelope { rules: 99, payload: Number { value: 2 }.encode_to_vec().into(), ..Envelope::default() };
    let record = Record { key: Bytes::from_static(b"a"), value: envelope.encode_to_vec().into(), headers: Vec::new() };
    process.log.append(of, record).await.expect("the log works");
    let behind = request(2);
    let undecided = process.add_within(Duration::from_millis(300), UserId::from_bytes([1; 16]), "a", 1, behind).await;
    assert!(matches!(undecided, Err(CallError::Undecided)), "what is behind it waits: {undecided:?}");
    assert_eq!(process.add(ELSEWHERE, 1, request(3)).await, Outcome::accepted("1"), "the other partition goes on");
    let (log, tables) = (Arc::clone(&process.log), Arc::clone(&process.tables));
    process.stop().await;
    let checkpoint = tables.checkpoint("counts", number).await.expect("the store works").unwrap_or_default();
    assert!(checkpoint.next.offset <= unknown, "it is not passed over");
    for partition in 0..2 {
        assert_eq!(log.end(TopicPartition { topic: PARKED, partition }).await.expect("the log works"), 0, "nor parked");
    }
    drop((log, tables));

    let process = Process::open::<99>(&folder, Clock::system(), Config::default());
    assert_eq!(process.add("a", 1, behind).await, Outcome::accepted("8"), "5 and 2 and this");
    process.stop().await;
}
