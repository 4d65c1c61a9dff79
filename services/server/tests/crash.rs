//! The real binary under concurrent load is killed with SIGKILL at random moments, again and again, and what its clients recorded is judged:
//! invariants 1 to 9. `PLAZA_CRASH_ROUNDS` sets the number of kills, `PLAZA_CRASH_SEED` repeats the choices of a run.

#[path = "crash/meeting.rs"]
mod meeting;

use std::{
    future::Future,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use plaza_testkit::{History, checker, circle, crowd::Crowd, people::SOON, replay, server::Server};
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::{sync::watch, task::JoinHandle, time::timeout};

const BINARY: &str = env!("CARGO_BIN_EXE_plaza");
const ROUNDS: u64 = 50;
const MEETING_ROUNDS: u64 = 30;
const CIRCLE_ROUNDS: u64 = 20;
const PAIRS: usize = 3;

/// What a kill may leave in the log: nothing but the start that follows it.
const EXPECTED: [&str; 0] = [];

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// The seed and the number of kills of a run.
fn run(rounds: u64) -> (u64, u64) {
    let seed = number("PLAZA_CRASH_SEED").unwrap_or_else(rand::random);
    println!("seed {seed}: repeat with PLAZA_CRASH_SEED={seed}");
    (seed, number("PLAZA_CRASH_ROUNDS").unwrap_or(rounds))
}

#[expect(clippy::disallowed_methods, reason = "a test's own task, joined by the test")]
fn beside(load: impl Future<Output = anyhow::Result<()>> + Send + 'static) -> JoinHandle<anyhow::Result<()>> {
    tokio::spawn(load)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_by_kill_9() -> anyhow::Result<()> {
    let (seed, rounds) = run(ROUNDS);
    let mut rng = StdRng::seed_from_u64(seed);
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let data = folder.path().join("data");
    // As small as it can be, so that memory is written out in the middle of it. Two of everything, so that inboxes hear of conversations of another
    // partition.
    let small = ["--set", "embedded.journal_bytes=16777216", "--set", "chat.cache_bytes=65536", "--set", "embedded.partitions=2"];
    let mut server = Server::start(Path::new(BINARY), &data, &small).await?;
    let mut crowd = Crowd::gather(&server.address(), PAIRS).await?;
    crowd.meet().await?;
    let crowd = Arc::new(crowd);

    let stop = Arc::new(AtomicBool::new(false));
    let busy = {
        let (crowd, stop) = (Arc::clone(&crowd), Arc::clone(&stop));
        beside(async move { crowd.busy(seed, stop).await })
    };
    for _ in 0..rounds {
        // The load is what this waits for; how much of it is what makes the moments differ.
        crowd.after_sends(rng.random_range(0..200)).await;
        if busy.is_finished() {
            break;
        }
        server.kill()?;
        if rng.random_ratio(1, 4) {
            server.launch()?;
            // Not to wait for anything, but to hit any moment of the start.
            tokio::time::sleep(Duration::from_millis(rng.random_range(0..400))).await;
            server.kill()?;
        }
        server.restart().await?;
    }
    if !busy.is_finished() {
        crowd.after_sends(50).await;
    }
    stop.store(true, Ordering::Relaxed);
    busy.await??;

    let history = crowd.finish().await?;
    judge(&history, seed);
    let acked = history.sends.iter().filter(|sent| !sent.acked.is_empty()).count();
    let shown: usize = history.devices.iter().map(|device| device.shown.len()).sum();
    let joins: u64 = history.groups.values().flat_map(|group| group.changes.values()).map(|changes| changes.joins).sum();
    println!("{rounds} kills, {} sends, {acked} acknowledged, {joins} joins, {shown} entries shown on live streams", history.sends.len());
    assert!(acked as u64 > rounds, "only {acked} sends were acknowledged: nothing was tested");
    assert!(joins > 2 * PAIRS as u64, "nobody came back to the group: nothing was tested");
    server.assert_quiet_log(&EXPECTED)?;

    // Invariant 9: every topic replayed from its beginning changes nothing.
    server.stop(SOON).await?;
    let forgotten = replay::forget_checkpoints(&data).await?;
    assert!(forgotten > 0, "there was no checkpoint to forget");
    server.restart().await?;
    let added = crowd.nudge().await?;
    let replayed = crowd.finish().await?;
    judge(&replayed, seed);
    let changed = replay::changes(&history, &replayed, added);
    assert!(changed.is_empty(), "seed {seed}: {changed:#?}");
    server.assert_quiet_log(&EXPECTED)
}

fn judge(history: &History, seed: u64) {
    let violations = checker::check(history);
    assert!(violations.is_empty(), "seed {seed}: {violations:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_who_met_stay_met_after_kill_9() -> anyhow::Result<()> {
    let (seed, rounds) = run(MEETING_ROUNDS);
    let mut rng = StdRng::seed_from_u64(seed);
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    // Cheap passwords: what is tested is not how long a hash takes. Two partitions: some pairs are in one, some are not.
    let cheap = ["--set", "accounts.password.memory_kib=64", "--set", "accounts.password.passes=1", "--set", "embedded.partitions=2"];
    let mut server = Server::start(Path::new(BINARY), folder.path().join("data"), &cheap).await?;

    let stop = Arc::new(AtomicBool::new(false));
    let (progress, mut progressed) = watch::channel(0);
    let meetings: Vec<_> = (0..4)
        .map(|number| {
            let meetings = meeting::run(server.address(), seed.wrapping_add(number), progress.clone(), Arc::clone(&stop));
            #[expect(clippy::disallowed_methods, reason = "a test's own task, joined below")]
            tokio::spawn(meetings)
        })
        .collect();
    for _ in 0..rounds {
        // A step of one of them; the others are in the middle of theirs.
        let until = *progressed.borrow() + rng.random_range(1..4);
        if timeout(SOON, progressed.wait_for(|steps| *steps >= until)).await.is_err() {
            break;
        }
        server.kill()?;
        server.restart().await?;
    }
    stop.store(true, Ordering::Relaxed);
    let mut met = 0;
    for meetings in meetings {
        for pair in meetings.await?? {
            pair.stay_met().await?;
            met += 1;
        }
    }
    println!("{rounds} kills, {met} pairs met");
    assert!(met > 0, "nobody met: nothing was tested");
    server.assert_quiet_log(&EXPECTED)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_forbidden_is_not_seen_and_what_is_allowed_is_after_kill_9() -> anyhow::Result<()> {
    let (seed, rounds) = run(CIRCLE_ROUNDS);
    let mut rng = StdRng::seed_from_u64(seed);
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let data = folder.path().join("data");
    let cheap = ["--set", "accounts.password.memory_kib=64", "--set", "accounts.password.passes=1", "--set", "gateway.rate_limits=false"];
    let mut server = Server::start(Path::new(BINARY), &data, &cheap).await?;

    let stop = Arc::new(AtomicBool::new(false));
    let (progress, mut progressed) = watch::channel(0);
    let lives: Vec<_> = (0..4)
        .map(|number| {
            let life = circle::run(server.address(), seed.wrapping_add(number), Duration::ZERO, progress.clone(), Arc::clone(&stop));
            #[expect(clippy::disallowed_methods, reason = "a test's own task, joined below")]
            tokio::spawn(life)
        })
        .collect();
    for _ in 0..rounds {
        let until = *progressed.borrow() + rng.random_range(5..30);
        if timeout(SOON, progressed.wait_for(|steps| *steps >= until)).await.is_err() {
            break;
        }
        server.kill()?;
        server.restart().await?;
    }
    stop.store(true, Ordering::Relaxed);
    let (mut circles, mut posts) = (Vec::new(), 0);
    for life in lives {
        circles.push(life.await??);
    }
    for circle in &circles {
        posts += circle.is_complete().await?;
    }
    println!("seed {seed}: {rounds} kills, {posts} posts");
    // An author's day has a limit.
    assert!(posts as u64 > rounds.min(100), "only {posts} posts: nothing was tested");

    // Invariant 9: every topic replayed from its beginning changes nothing.
    server.stop(SOON).await?;
    assert!(replay::forget_checkpoints(&data).await? > 0, "there was no checkpoint to forget");
    server.restart().await?;
    for circle in &circles {
        circle.is_complete().await?;
    }
    server.assert_quiet_log(&EXPECTED)
}
