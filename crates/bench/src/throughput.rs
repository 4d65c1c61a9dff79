//! 64 pairs on open streams: CPU time of the server for each message that was acknowledged and delivered to both. Once with 8 sends in flight
//! each, as fast as they are answered, and once as many a second to the floor as to ours: whoever answers faster does more at once, so the floor
//! would have several times as many messages for each of its writes.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context;
use plaza_floor::process::cpu_seconds;
use tokio::{
    sync::Barrier,
    task::JoinSet,
    time::{MissedTickBehavior, interval_at, timeout},
};

use crate::{
    measure::Report,
    stream::{Seen, Stream},
    target::{Caller, Target},
};

const PAIRS: usize = 64;
const IN_FLIGHT: usize = 8;
const ROUNDS: usize = 3;
const TIME: Duration = Duration::from_secs(5);
/// Each pair sends so often: 8,000 a second together.
const EVERY: Duration = Duration::from_millis(8);

pub(crate) async fn run(server: &Path, report: &mut Report) -> anyhow::Result<()> {
    let (floor, ours) = (Target::floor().await?, Target::plaza(server).await?);
    let mut floor_pairs = Vec::new();
    let mut our_pairs = Vec::new();
    for number in 0..PAIRS {
        floor_pairs.push(floor.floor_friends(number)?);
        our_pairs.push(ours.friends(number).await?);
    }
    for (path, pace) in [("CPU per message, 64 senders", Pace::Answers), ("CPU per message, 64 senders, 8,000/s", Pace::Every(EVERY))] {
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            let floor = drive_paced(&[floor.pid()], &floor_pairs, pace, TIME, async || Ok(())).await?;
            let ours = drive_paced(&[ours.pid()], &our_pairs, pace, TIME, async || Ok(())).await?;
            rounds.push((floor.cpu_ms, ours.cpu_ms));
        }
        report.ratio(path, "ms", &rounds, 2.5, 1.6);
    }
    Ok(())
}

/// When a pair sends.
#[derive(Debug, Clone, Copy)]
enum Pace {
    /// As soon as a send before is answered.
    Answers,
    Every(Duration),
}

/// What a drive came to.
pub(crate) struct Driven {
    pub(crate) messages: f64,
    pub(crate) per_second: f64,
    /// CPU of all processes for each message, and of each.
    pub(crate) cpu_ms: f64,
    pub(crate) cpu_ms_of: Vec<f64>,
}

/// Every pair's first sends, with `IN_FLIGHT` sends not yet acknowledged, for a while; then everything sent must have been acknowledged and
/// delivered to both streams.
pub(crate) async fn drive(pids: &[u32], pairs: &[[Caller; 2]], time: Duration) -> anyhow::Result<Driven> {
    drive_until(pids, pairs, time, async || Ok(())).await
}

/// The same, and CPU is counted until `settled` returns: where rows are written after their messages were told, they are a part of the cost.
pub(crate) async fn drive_until(
    pids: &[u32],
    pairs: &[[Caller; 2]],
    time: Duration,
    settled: impl AsyncFnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<Driven> {
    drive_paced(pids, pairs, Pace::Answers, time, settled).await
}

async fn drive_paced(
    pids: &[u32],
    pairs: &[[Caller; 2]],
    pace: Pace,
    time: Duration,
    settled: impl AsyncFnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<Driven> {
    let stop = Arc::new(AtomicBool::new(false));
    let ready = Arc::new(Barrier::new(pairs.len() * 2 + 1));
    let acked = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    for (place, [sender, receiver]) in pairs.iter().enumerate() {
        let (mut own, mut other) = (Stream::open(sender).await?, Stream::open(receiver).await?);
        let (stop, ready, acked) = (Arc::clone(&stop), Arc::clone(&ready), Arc::clone(&acked));
        let (count, expected) = tokio::sync::watch::channel(None);
        let receiver_ready = Arc::clone(&ready);
        tasks.spawn(async move {
            ready.wait().await;
            let (mut sent, mut confirmed, mut seen) = (0u64, 0u64, 0u64);
            let (first, every) = match pace {
                Pace::Answers => (IN_FLIGHT as u64, None),
                Pace::Every(every) => (0, Some(every)),
            };
            for _ in 0..first {
                own.send().await?;
                sent += 1;
            }
            // Evenly spread over the pairs, all of which begin now.
            let offset = every.unwrap_or_default() * place as u32 / PAIRS as u32;
            let mut ticks = interval_at((Instant::now() + offset).into(), every.unwrap_or(time));
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let goes_on = || every.is_some() && !stop.load(Ordering::Relaxed);
            while confirmed < sent || seen < sent || goes_on() {
                let answer = tokio::select! {
                    _ = ticks.tick(), if goes_on() && sent - confirmed < IN_FLIGHT as u64 => {
                        own.send().await?;
                        sent += 1;
                        continue;
                    }
                    answer = timeout(Duration::from_secs(30), own.next()) => answer,
                };
                match answer.context("an answer is missing")?? {
                    Seen::Sent => {
                        confirmed += 1;
                        acked.fetch_add(1, Ordering::Relaxed);
                        if every.is_none() && !stop.load(Ordering::Relaxed) {
                            own.send().await?;
                            sent += 1;
                        }
                    }
                    Seen::Message => seen += 1,
                    Seen::Other => {}
                }
            }
            count.send_replace(Some(sent));
            anyhow::Ok(())
        });
        tasks.spawn(async move {
            receiver_ready.wait().await;
            let mut expected = expected;
            let mut seen = 0;
            loop {
                if expected.borrow().is_some_and(|expected| seen >= expected) {
                    return anyhow::Ok(());
                }
                tokio::select! {
                    answer = other.next() => if let Seen::Message = answer? { seen += 1 },
                    changed = expected.changed(), if expected.borrow().is_none() => changed?,
                    () = tokio::time::sleep(Duration::from_secs(30)) => anyhow::bail!("{seen} of {:?} delivered", *expected.borrow()),
                }
            }
        });
    }
    ready.wait().await;
    let (started, before) = (Instant::now(), cpu_seconds_of(pids)?);
    tokio::time::sleep(time).await;
    stop.store(true, Ordering::Relaxed);
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    let messages = acked.load(Ordering::Relaxed) as f64;
    let per_second = messages / started.elapsed().as_secs_f64();
    settled().await?;
    let after = cpu_seconds_of(pids)?;
    let cpu_ms_of: Vec<f64> = before.iter().zip(after).map(|(before, after)| (after - before) * 1000.0 / messages).collect();
    Ok(Driven { messages, per_second, cpu_ms: cpu_ms_of.iter().sum(), cpu_ms_of })
}

fn cpu_seconds_of(pids: &[u32]) -> anyhow::Result<Vec<f64>> {
    pids.iter().map(|pid| cpu_seconds(*pid)).collect()
}
