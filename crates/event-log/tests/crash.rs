//! A process killed at any point leaves a prefix of what was appended: with everything durable in it, in order, and with nothing that follows
//! from a record that is gone.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use plaza_embedded_db::{Db, Options};
use plaza_event_log::{EventLog, Offset, Record, Topic, TopicPartition, embedded::EmbeddedLog};
use tokio::task::JoinSet;

/// Set in the process that the test starts and kills.
const CHILD_FOLDER: &str = "PLAZA_TEST_CHILD_FOLDER";
const ROUNDS: usize = 10;
const APPENDERS: usize = 4;
const TOPIC: Topic = Topic("topic");
/// Appended to by all appenders; a record is its appender and its number.
const COMMANDS: TopicPartition = TopicPartition { topic: TOPIC, partition: 0 };
/// For each command one record, appended by whoever reads the commands: the command's offset.
const ECHOES: TopicPartition = TopicPartition { topic: TOPIC, partition: 1 };

/// How far an appender, or with number [`APPENDERS`] the echoing reader, has come.
type Progress = [u64; APPENDERS + 1];

#[test]
fn a_kill_leaves_a_prefix_with_everything_durable() {
    if let Some(folder) = std::env::var_os(CHILD_FOLDER) {
        append_for_ever(&PathBuf::from(folder));
    }
    let folder = tempfile::tempdir().unwrap();
    let mut commands = 0;
    for round in 0..ROUNDS {
        let durable = kill_after(folder.path(), 1 + round * 41);
        let (_db, log) = open(folder.path());
        let found = check(&log);
        for (found, durable) in found.iter().zip(durable) {
            assert!(*found >= durable, "{durable} records were durable, {found} are left");
        }
        let appended = found[..APPENDERS].iter().sum();
        assert!(appended > commands, "round {round} appended nothing");
        commands = appended;
    }
}

fn open(folder: &Path) -> (Db, Arc<EmbeddedLog>) {
    let db = Db::open(folder, Options::default()).unwrap();
    let log = EmbeddedLog::open(&db, &[(TOPIC, 2)], || 7).unwrap();
    (db, log)
}

/// How many records there are of each, after checking that they are whole and in order.
#[tokio::main(flavor = "current_thread")]
async fn check(log: &EmbeddedLog) -> Progress {
    let mut found = Progress::default();
    let commands = numbers(log, COMMANDS).await;
    for command in &commands {
        let appender = command[0] as usize;
        assert_eq!(command[1], found[appender], "a hole in what appender {appender} appended");
        found[appender] += 1;
    }
    let echoes = numbers(log, ECHOES).await;
    assert!(echoes.len() <= commands.len(), "more echoes than commands");
    assert!(echoes.iter().map(|echo| echo[0]).eq(0..echoes.len() as u64), "a hole in the echoes");
    found[APPENDERS] = echoes.len() as u64;
    found
}

/// The numbers at the beginning of each record of a partition.
async fn numbers(log: &EmbeddedLog, of: TopicPartition) -> Vec<[u64; 2]> {
    let end = log.end(of).await.unwrap();
    let mut reader = log.reader(of, 0).await.unwrap();
    let mut found = Vec::new();
    while (found.len() as Offset) < end {
        for stored in reader.next(1000).await.unwrap() {
            assert_eq!(stored.offset, found.len() as Offset, "a hole in {of}");
            let number = |at| u64::from_be_bytes(*stored.record.value[at..].first_chunk().unwrap());
            found.push([number(0), number(8)]);
        }
    }
    found
}

fn record(first: u64, second: u64) -> Record {
    let padding = vec![7; (second % 900) as usize];
    Record { value: [&first.to_be_bytes()[..], &second.to_be_bytes(), &padding].concat().into(), ..Record::default() }
}

/// Starts an appending process, kills it after some reports, and returns what it reported as durable.
fn kill_after(folder: &Path, reports: usize) -> Progress {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_kill_leaves_a_prefix_with_everything_durable", "--nocapture"])
        .env(CHILD_FOLDER, folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut durable = Progress::default();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok).filter_map(|line| {
        let (who, count) = line.strip_prefix("durable ")?.split_once(' ')?;
        Some((who.parse::<usize>().ok()?, count.parse::<u64>().ok()?))
    });
    let mut seen = 0;
    // The echoing reader reports what was there before, too: that is no sign that anything was appended.
    for (who, count) in lines.by_ref() {
        durable[who] = durable[who].max(count);
        seen += usize::from(who < APPENDERS);
        if seen == reports {
            break;
        }
    }
    child.kill().unwrap();
    // What it reported between the last line read and the kill was durable too.
    for (who, count) in lines {
        durable[who] = durable[who].max(count);
    }
    child.wait().unwrap();
    assert_eq!(seen, reports, "the process stopped by itself");
    durable
}

fn append_for_ever(folder: &Path) -> ! {
    let (_db, log) = open(folder);
    let start = check(&log);
    run(log, start);
    unreachable!("appending never ends");
}

#[tokio::main]
async fn run(log: Arc<EmbeddedLog>, start: Progress) {
    let mut tasks = JoinSet::new();
    let echoed = Arc::new(AtomicU64::new(start[APPENDERS]));
    for (appender, first) in start.into_iter().take(APPENDERS).enumerate() {
        let log = log.clone();
        tasks.spawn(async move {
            for number in first.. {
                log.append(COMMANDS, record(appender as u64, number)).await.unwrap();
                if number % 3 == 0 {
                    log.durable().await.unwrap();
                    println!("durable {appender} {}", number + 1);
                }
            }
        });
    }
    let (echoing, counted) = (log.clone(), echoed.clone());
    tasks.spawn(async move {
        let mut reader = echoing.reader(COMMANDS, start[APPENDERS]).await.unwrap();
        let producer = echoing.producer();
        loop {
            let commands = reader.next(100).await.unwrap();
            let echoes = commands.iter().map(|command| (ECHOES, record(command.offset, 0))).collect();
            producer.send(echoes).await.unwrap();
            counted.fetch_add(commands.len() as u64, Ordering::SeqCst);
        }
    });
    tasks.spawn(async move {
        loop {
            let count = echoed.load(Ordering::SeqCst);
            log.durable().await.unwrap();
            println!("durable {APPENDERS} {count}");
        }
    });
    tasks.join_all().await;
}
