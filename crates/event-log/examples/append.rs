//! Measures the log next to what the disk alone does:
//! `cargo run --release -p plaza-event-log --example append [folder]`.

use std::{
    fs::File,
    io::Write as _,
    path::Path,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use plaza_embedded_db::{Db, Options};
use plaza_event_log::{EventLog, Record, Topic, TopicPartition, embedded::EmbeddedLog};
use tokio::task::JoinSet;

const TOPIC: Topic = Topic("topic");
const PARTITIONS: u32 = 16;
const VALUE_BYTES: usize = 512;
const ROUNDS: u64 = 5;
const LONE_APPENDS: u64 = 600;
const APPENDERS: u32 = 64;
const LOAD: Duration = Duration::from_secs(3);
const BULK: u64 = 1_000_000;
const SEND: u64 = 100;
const READ: usize = 500;

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let parent = std::env::args().nth(1).unwrap_or_else(|| ".".to_owned());
    let folder = tempfile::tempdir_in(parent)?;
    let db = Db::open(&folder.path().join("db"), Options::default())?;
    let log = open(&db)?;
    lone(&log, &folder.path().join("raw")).await?;
    load(&db, &log, true).await?;
    load(&db, &log, false).await?;
    bulk(&log).await?;
    drop(log);
    db.close().await?;
    drop(db);
    let start = Instant::now();
    let db = Db::open(&folder.path().join("db"), Options::default())?;
    println!("reopening the store: {} ms", start.elapsed().as_millis());
    let start = Instant::now();
    let log = open(&db)?;
    println!("reopening the log: {} us", start.elapsed().as_micros());
    read(&log, "from the store after reopening").await?;
    offset_at(&log).await
}

fn open(db: &Db) -> Result<Arc<EmbeddedLog>, Failure> {
    let now = || SystemTime::UNIX_EPOCH.elapsed().map_or(0, |elapsed| elapsed.as_micros() as u64);
    Ok(EmbeddedLog::open(db, &[(TOPIC, PARTITIONS)], now)?)
}

fn partition(partition: u32) -> TopicPartition {
    TopicPartition { topic: TOPIC, partition }
}

fn record() -> Record {
    Record {
        key: vec![1; 16].into(),
        value: vec![7; VALUE_BYTES].into(),
        headers: vec![("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into())],
    }
}

/// By turns, so that both see the same disk.
async fn lone(log: &Arc<EmbeddedLog>, path: &Path) -> Result<(), Failure> {
    let mut file = File::create(path)?;
    let bytes = [7; VALUE_BYTES + 128];
    let (mut raw, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        for _ in 0..LONE_APPENDS {
            let start = Instant::now();
            file.write_all(&bytes)?;
            file.sync_data()?;
            raw.push(start.elapsed());
        }
        let log = log.clone();
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut sample = Vec::new();
            for _ in 0..LONE_APPENDS {
                let start = Instant::now();
                log.append(partition(0), record()).await?;
                log.durable().await?;
                sample.push(start.elapsed());
            }
            Ok::<_, plaza_event_log::Error>(sample)
        });
        for sample in task.join_all().await {
            ours.extend(sample?);
        }
    }
    for (name, sample) in [("raw append and fdatasync", &mut raw), ("append and durable", &mut ours)] {
        sample.sort();
        let at = |share: usize| sample[(sample.len() - 1) * share / 100].as_micros();
        println!("{name}: p50 {} us, p99 {} us", at(50), at(99));
    }
    Ok(())
}

/// Many append at once, one reader per partition follows.
async fn load(db: &Db, log: &Arc<EmbeddedLog>, durable: bool) -> Result<(), Failure> {
    let fsyncs = db.stats().fsyncs;
    let mut readers = JoinSet::new();
    let mut expected = 0;
    for number in 0..PARTITIONS {
        let end = log.end(partition(number)).await?;
        expected += end;
        let mut reader = log.reader(partition(number), end).await?;
        readers.spawn(async move { while reader.next(READ).await.is_ok() {} });
    }
    let (start, before) = (Instant::now(), cpu()?);
    let mut appenders = JoinSet::new();
    for appender in 0..APPENDERS {
        let log = log.clone();
        appenders.spawn(async move {
            while start.elapsed() < LOAD {
                log.append(partition(appender % PARTITIONS), record()).await?;
                if durable {
                    log.durable().await?;
                }
            }
            Ok::<_, plaza_event_log::Error>(())
        });
    }
    for outcome in appenders.join_all().await {
        outcome?;
    }
    log.durable().await?;
    let (seconds, cpu) = (start.elapsed().as_secs_f64(), cpu()? - before);
    readers.shutdown().await;
    let mut appended = 0;
    for number in 0..PARTITIONS {
        appended += log.end(partition(number)).await?;
    }
    let appended = (appended - expected) as f64;
    let fsyncs = (db.stats().fsyncs - fsyncs) as f64;
    let kind = if durable { "durable appenders" } else { "appenders" };
    println!(
        "{APPENDERS} {kind}, followed: {:.0} records/s, {:.0} fsyncs/s, {:.1} us of CPU per record",
        appended / seconds,
        fsyncs / seconds,
        cpu.as_secs_f64() * 1e6 / appended
    );
    Ok(())
}

/// CPU time of this process, in user and kernel.
fn cpu() -> Result<Duration, Failure> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let ticks: u64 = fields.split_whitespace().skip(11).take(2).flat_map(str::parse::<u64>).sum();
    Ok(Duration::from_millis(ticks * 10))
}

/// One producer fills a partition; readers take it from memory while it is new, then from the store.
async fn bulk(log: &Arc<EmbeddedLog>) -> Result<(), Failure> {
    let first = log.end(partition(1)).await?;
    let mut reader = log.reader(partition(1), first).await?;
    let producer = log.producer();
    let (mut sending, mut reading) = (Duration::ZERO, Duration::ZERO);
    for _ in 0..BULK / SEND {
        let records = (0..SEND).map(|_| (partition(1), record())).collect();
        let start = Instant::now();
        producer.send(records).await?;
        sending += start.elapsed();
        let start = Instant::now();
        let mut left = SEND as usize;
        while left > 0 {
            left -= reader.next(left).await?.len();
        }
        reading += start.elapsed();
    }
    let rate = |time: Duration| BULK as f64 / time.as_secs_f64();
    println!("sending {BULK} records, {SEND} at once: {:.0} records/s", rate(sending));
    println!("reading them from memory: {:.0} records/s", rate(reading));
    read(log, "from the store").await
}

async fn read(log: &Arc<EmbeddedLog>, from: &str) -> Result<(), Failure> {
    let end = log.end(partition(1)).await?;
    let mut reader = log.reader(partition(1), end - BULK).await?;
    let start = Instant::now();
    let mut last = 0;
    while last + 1 < end {
        last = reader.next(READ).await?.last().map_or(last, |stored| stored.offset);
    }
    println!("reading {BULK} {from}: {:.0} records/s", BULK as f64 / start.elapsed().as_secs_f64());
    Ok(())
}

async fn offset_at(log: &Arc<EmbeddedLog>) -> Result<(), Failure> {
    let end = log.end(partition(1)).await?;
    let mut times = Vec::new();
    for step in 1..100 {
        let mut reader = log.reader(partition(1), end / 100 * step).await?;
        times.push(reader.next(1).await?[0].appended);
    }
    let start = Instant::now();
    for time in &times {
        log.offset_at(partition(1), *time).await?;
    }
    println!("offset_at among {end} records: {} us", start.elapsed().as_micros() / times.len() as u128);
    Ok(())
}
