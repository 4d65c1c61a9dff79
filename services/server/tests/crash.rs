//! The real binary under concurrent load is killed with SIGKILL at random moments, again and again, and what its clients recorded is judged:
//! invariants 1, 2, 3, 4, 5, 8 and 9. `PLAZA_CRASH_ROUNDS` sets the number of kills, `PLAZA_CRASH_SEED` repeats the moments of a run.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use plaza_testkit::{checker, crowd::Crowd, server::Server};
use rand::{Rng, SeedableRng, rngs::StdRng};

const ROUNDS: u32 = 30;
const PAIRS: usize = 3;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_by_kill_9() -> anyhow::Result<()> {
    let seed = number("PLAZA_CRASH_SEED").unwrap_or_else(rand::random);
    let rounds = number("PLAZA_CRASH_ROUNDS").map_or(ROUNDS, |rounds| u32::try_from(rounds).unwrap_or(ROUNDS));
    println!("seed {seed}: repeat with PLAZA_CRASH_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let data = folder.path().join("data");
    let mut server = Server::start(Path::new(env!("CARGO_BIN_EXE_plaza")), &data, &[]).await?;
    let crowd = Arc::new(Crowd::gather(&server.address(), PAIRS).await?);

    let stop = Arc::new(AtomicBool::new(false));
    let busy = {
        let (crowd, stop) = (Arc::clone(&crowd), Arc::clone(&stop));
        #[expect(clippy::disallowed_methods, reason = "a test's own task, joined below")]
        tokio::spawn(async move { crowd.busy(seed, stop).await })
    };
    for _ in 0..rounds {
        // The load is what this waits for; how much of it is what makes the moments differ.
        crowd.after_sends(rng.random_range(1..200)).await;
        server.kill()?;
        server.restart().await?;
    }
    crowd.after_sends(50).await;
    stop.store(true, Ordering::Relaxed);
    busy.await??;

    let history = crowd.finish().await?;
    let acked = history.sends.iter().filter(|sent| !sent.acked.is_empty()).count();
    println!("{rounds} kills, {} sends, {acked} acknowledged", history.sends.len());
    let violations = checker::check(&history);
    assert!(violations.is_empty(), "seed {seed}: {violations:#?}");
    assert!(acked as u32 > rounds, "only {acked} sends were acknowledged: nothing was tested");

    // Invariant 9: every topic replayed from its beginning changes nothing.
    server.stop(Duration::from_secs(10)).await?;
    plaza::forget_checkpoints(&data).await?;
    server.restart().await?;
    let replayed = crowd.finish().await?;
    assert_eq!(replayed.finals, history.finals, "seed {seed}: a replay changed something");
    Ok(())
}
