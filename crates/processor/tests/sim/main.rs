//! Deterministic simulation of the real runtime over a simulated log and store: one seed is one schedule.
//!
//! `PLAZA_SIM_SEED=7 cargo test -p plaza-processor --test sim seeds` replays one seed with a trace; `PLAZA_SIM_SEEDS=0..5000` runs a range.
//! Seeds that ever failed are in `regressions.txt` and always run.

mod clients;
mod dice;
mod log;
mod machines;
mod oracle;
mod owners;
mod run;
mod store;
mod world;

use std::{
    panic,
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

const SEEDS: u64 = 1_000;
#[cfg(not(feature = "mistakes"))]
const REGRESSIONS: &str = include_str!("regressions.txt");

/// The first of these seeds that breaks something, and what. Runs on all cores.
fn first_broken(seeds: Vec<u64>, prepare: impl Fn() + Sync) -> Option<(u64, String)> {
    let next = AtomicU64::new(0);
    let worker = || {
        let mut broken = None;
        while broken.is_none() {
            let place = next.fetch_add(1, Ordering::Relaxed);
            let Some(seed) = seeds.get(place as usize) else { break };
            prepare();
            let ended = panic::catch_unwind(|| run::seed(*seed, false)).unwrap_or_else(|_| Err("panicked".to_owned()));
            broken = ended.err().map(|what| (*seed, what));
        }
        next.fetch_add(if broken.is_some() { seeds.len() as u64 } else { 0 }, Ordering::Relaxed);
        broken
    };
    thread::scope(|scope| {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().filter_map(|worker| worker.join().ok().flatten()).min()
    })
}

/// Poison panics on purpose, in thousands: only what is unexpected is printed.
fn quiet_poison() {
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if info.payload().downcast_ref::<&str>() != Some(&"poison") {
            usual(info);
        }
    }));
}

#[cfg(not(feature = "mistakes"))]
#[test]
fn seeds() {
    quiet_poison();
    if let Ok(seed) = std::env::var("PLAZA_SIM_SEED") {
        run::seed(seed.parse().unwrap(), true).unwrap();
        return;
    }
    let range = std::env::var("PLAZA_SIM_SEEDS").ok().map(|range| {
        let (from, to) = range.split_once("..").unwrap();
        from.parse().unwrap()..to.parse().unwrap()
    });
    let kept = REGRESSIONS.lines().filter(|line| !line.starts_with('#')).map(|line| line.trim().parse().unwrap());
    let seeds: Vec<u64> = kept.chain(range.unwrap_or(0..SEEDS)).collect();
    if let Some((seed, what)) = first_broken(seeds, || {}) {
        panic!("{what}\nreplay: PLAZA_SIM_SEED={seed} cargo test -p plaza-processor --test sim seeds -- --nocapture");
    }
}

#[cfg(feature = "mistakes")]
mod mistakes;
