//! Measures the log on a cluster, with topics of its own that it deletes:
//! `cargo run --release -p plaza-event-log-kafka --example measure host:port [writers]`.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::join_all;
use plaza_event_log::{Error, EventLog, Record, Topic, TopicPartition};
use plaza_event_log_kafka::{Config, KafkaLog, TopicSpec, admin};

const TOPIC: Topic = Topic("topic");
const PARTITIONS: u32 = 48;
const VALUE_BYTES: usize = 512;
const LONE: u32 = 500;
const APPENDERS: u32 = 64;
const EACH: u32 = 200;
const BULK: u32 = 200_000;
const SEND: u32 = 200;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let brokers = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9092".to_owned());
    let mut config = Config { brokers, prefix: format!("measure-{:08x}.", rand::random::<u32>()), ..Config::default() };
    if let Some(writers) = std::env::args().nth(2).and_then(|writers| writers.parse().ok()) {
        config.writers = writers;
    }
    let specs = [TopicSpec { topic: TOPIC, partitions: PARTITIONS, generation: 1 }];
    admin::create(&config, &specs).await?;
    let began = Instant::now();
    let log = KafkaLog::open(&config, &specs).await?;
    println!("open: {:?}", began.elapsed());
    let measured = measure(&log).await;
    println!("threads: {}", std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count));
    log.close().await;
    admin::delete(&config, &specs).await?;
    measured
}

fn partition(partition: u32) -> TopicPartition {
    TopicPartition { topic: TOPIC, partition }
}

fn record() -> Record {
    Record { value: vec![7; VALUE_BYTES].into(), ..Record::default() }
}

fn report(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |share: usize| times[times.len() * share / 1000];
    println!("{what}: p50 {:?}, p99 {:?}, most {:?}", at(500), at(990), at(999));
}

async fn measure(log: &Arc<KafkaLog>) -> Result<(), Error> {
    lone(log).await?;
    ends(log).await?;
    readers(log).await?;
    load(log).await?;
    bulk(log).await
}

/// One record at a time: until it is acknowledged, and until a reader has it.
async fn lone(log: &Arc<KafkaLog>) -> Result<(), Error> {
    let mut reader = log.reader(partition(0), 0).await?;
    let (mut acknowledged, mut read) = (Vec::new(), Vec::new());
    for _ in 0..LONE {
        let began = Instant::now();
        let appending = async {
            log.append(partition(0), record()).await?;
            acknowledged.push(began.elapsed());
            Ok::<_, Error>(())
        };
        let (appended, records) = tokio::join!(appending, reader.next(10));
        appended?;
        records?;
        read.push(began.elapsed());
    }
    report("a lone append", acknowledged);
    report("a lone append until it is read", read);
    Ok(())
}

/// Of all partitions at once, as a read of Moments asks.
async fn ends(log: &Arc<KafkaLog>) -> Result<(), Error> {
    let mut times = Vec::new();
    for _ in 0..LONE {
        let began = Instant::now();
        for end in join_all((0..PARTITIONS).map(|part| log.end(partition(part)))).await {
            end?;
        }
        times.push(began.elapsed());
    }
    report("ends of all partitions", times);
    Ok(())
}

/// A new reader until its first record, on a client that waits for other partitions.
async fn readers(log: &Arc<KafkaLog>) -> Result<(), Error> {
    let _other = log.reader(partition(1), 0).await?;
    let mut times = Vec::new();
    for _ in 0..50 {
        let began = Instant::now();
        let mut reader = log.reader(partition(0), 0).await?;
        reader.next(1).await?;
        times.push(began.elapsed());
    }
    report("a new reader until its first record", times);
    Ok(())
}

async fn load(log: &Arc<KafkaLog>) -> Result<(), Error> {
    let began = Instant::now();
    let appenders = (0..APPENDERS).map(|appender| async move {
        let mut times = Vec::new();
        for number in 0..EACH {
            let began = Instant::now();
            log.append(partition((appender + number) % PARTITIONS), record()).await?;
            times.push(began.elapsed());
        }
        Ok::<_, Error>(times)
    });
    let mut times = Vec::new();
    for appender in join_all(appenders).await {
        times.extend(appender?);
    }
    println!("{APPENDERS} appenders: {:.0} appends/s", f64::from(APPENDERS * EACH) / began.elapsed().as_secs_f64());
    report("an append of one of them", times);
    Ok(())
}

/// A producer that does not wait, and a reader that catches up.
async fn bulk(log: &Arc<KafkaLog>) -> Result<(), Error> {
    let (producer, began) = (log.producer(), Instant::now());
    let sends = (0..BULK / SEND).map(|_| producer.send((0..SEND).map(|_| (partition(2), record())).collect()));
    for sent in join_all(sends).await {
        sent?;
    }
    println!("a producer: {:.0} records/s", f64::from(BULK) / began.elapsed().as_secs_f64());
    let began = Instant::now();
    let mut reader = log.reader(partition(2), 0).await?;
    let mut left = log.end(partition(2)).await?;
    while left > 0 {
        left -= reader.next(1000).await?.len() as u64;
    }
    println!("a reader far behind: {:.0} records/s", f64::from(BULK) / began.elapsed().as_secs_f64());
    Ok(())
}
