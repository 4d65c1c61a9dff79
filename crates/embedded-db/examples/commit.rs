//! Measures what a durable write costs next to what the disk alone costs:
//! `cargo run --release -p plaza-embedded-db --example commit [folder [linger-micros]]`.
//!
//! A pair is a command and what follows from it, written by another task as soon as the command is
//! visible: both should share one fsync, whether or not the sender of the command waits for it.

use std::{
    fs::File,
    io::Write as _,
    path::Path,
    time::{Duration, Instant},
};

use plaza_embedded_db::{Batch, BusyGuard, Db, Keyspace, Options, Position};
use tokio::{sync::mpsc, task::JoinSet};

const ROUNDS: u64 = 5;
const LONE_WRITES: u64 = 600;
const PAIRS: u64 = 2000;
const WRITERS: u32 = 64;
const LOAD: Duration = Duration::from_secs(3);
const ROW_BYTES: usize = 512;

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let parent = arguments.next().unwrap_or_else(|| ".".to_owned());
    let mut options = Options::default();
    if let Some(micros) = arguments.next() {
        options.linger_max = Duration::from_micros(micros.parse()?);
    }
    let folder = tempfile::tempdir_in(parent)?;
    let db = Db::open(&folder.path().join("db"), options)?;
    let rows = db.keyspace("rows")?;
    lone(&db, &rows, &folder.path().join("raw")).await?;
    load(&db, &rows).await?;
    for (name, sender_waits, announced) in
        [("pair", false, false), ("pair whose sender waits", true, false), ("pair whose sender waits, announced", true, true)]
    {
        let before = db.stats().fsyncs;
        let sample = pair(&db, &rows, sender_waits, announced).await?;
        let fsyncs = db.stats().fsyncs - before;
        print(name, &sample);
        println!("    {:.2} fsyncs each", fsyncs as f64 / sample.len() as f64);
    }
    db.close().await?;
    Ok(())
}

fn write(db: &Db, rows: &Keyspace, writer: u32, sequence: u64) -> Position {
    let mut batch = Batch::new();
    let key = [&writer.to_be_bytes()[..], &sequence.to_be_bytes()].concat();
    batch.insert(rows, key, vec![7_u8; ROW_BYTES]);
    db.enqueue(batch)
}

/// By turns, so that both see the same disk.
async fn lone(db: &Db, rows: &Keyspace, path: &Path) -> Result<(), Failure> {
    let mut file = File::create(path)?;
    let row = [7_u8; ROW_BYTES];
    let (mut raw, mut ours, mut syncs) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        for _ in 0..LONE_WRITES {
            let start = Instant::now();
            file.write_all(&row)?;
            file.sync_data()?;
            raw.push(start.elapsed());
        }
        let (db, rows) = (db.clone(), rows.clone());
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut sample = Vec::new();
            for sequence in 0..LONE_WRITES {
                let start = Instant::now();
                let position = write(&db, &rows, u32::MAX, round * LONE_WRITES + sequence);
                db.durable(position).await?;
                let sync = Duration::from_micros(db.stats().last_sync_micros);
                sample.push((start.elapsed(), sync));
            }
            Ok::<_, plaza_embedded_db::Error>(sample)
        });
        for sample in task.join_all().await {
            for (total, sync) in sample? {
                ours.push(total);
                syncs.push(sync);
            }
        }
    }
    print("raw append and fdatasync", &raw);
    print("lone durable write", &ours);
    print("    of which fdatasync", &syncs);
    Ok(())
}

async fn load(db: &Db, rows: &Keyspace) -> Result<(), Failure> {
    let before = db.stats();
    let start = Instant::now();
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let (db, rows) = (db.clone(), rows.clone());
        writers.spawn(async move {
            let mut sequence = 0;
            while start.elapsed() < LOAD {
                db.ready().await;
                let position = write(&db, &rows, writer, sequence);
                db.durable(position).await?;
                sequence += 1;
            }
            Ok::<_, plaza_embedded_db::Error>(sequence)
        });
    }
    let mut total = 0;
    for written in writers.join_all().await {
        total += written?;
    }
    let seconds = start.elapsed().as_secs_f64();
    let fsyncs = db.stats().fsyncs - before.fsyncs;
    println!("{WRITERS} durable writers: {:.0} rows/s, {:.0} fsyncs/s", total as f64 / seconds, fsyncs as f64 / seconds,);
    Ok(())
}

/// A sender appends; a processor, woken when the command is visible, appends an effect and answers when
/// all of it is durable. Announced: the sender's guard is held until the effect is appended.
async fn pair(db: &Db, rows: &Keyspace, sender_waits: bool, announced: bool) -> Result<Vec<Duration>, Failure> {
    let (commands, mut inbox) = mpsc::channel(1);
    let (replies, mut outbox) = mpsc::channel(1);
    let mut processor = JoinSet::new();
    let (engine, effects) = (db.clone(), rows.clone());
    processor.spawn(async move {
        while let Some((sequence, command, guard)) = inbox.recv().await {
            engine.visible(command).await?;
            let effect = write(&engine, &effects, u32::MAX - 1, sequence);
            drop::<Option<BusyGuard>>(guard);
            engine.durable(effect).await?;
            if replies.send(()).await.is_err() {
                break;
            }
        }
        Ok::<_, plaza_embedded_db::Error>(())
    });
    let mut sample = Vec::new();
    for sequence in 0..PAIRS {
        let start = Instant::now();
        let guard = announced.then(|| db.busy());
        let command = write(db, rows, u32::MAX - 2, sequence);
        commands.send((sequence, command, guard)).await?;
        if sender_waits {
            db.durable(command).await?;
        }
        outbox.recv().await;
        sample.push(start.elapsed());
    }
    drop(commands);
    for outcome in processor.join_all().await {
        outcome?;
    }
    Ok(sample)
}

fn print(name: &str, sample: &[Duration]) {
    let mut sorted = sample.to_vec();
    sorted.sort();
    let at = |share: usize| sorted[(sorted.len() - 1) * share / 100].as_micros();
    println!("{name}: p50 {} us, p99 {} us", at(50), at(99));
}
