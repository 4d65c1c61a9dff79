//! One fault: load before it, during it and after it, then quiet, then judgement, then everything once more from the beginning of the log.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use plaza_testkit::{History, checker, circle, crowd::Crowd, replay};
use rand::{SeedableRng, rngs::StdRng};
use tokio::{sync::watch, task::JoinHandle, time::sleep};

use crate::{deployment::Deployment, fault::Fault, inflict::inflict, observe::Observer, recovery::Recovery, report::Outcome};

const PAIRS: usize = 3;
const CIRCLES: u64 = 2;
/// So that what they cost stays small beside the sends, whose rate is compared.
const CIRCLE_PAUSE: Duration = Duration::from_millis(300);
/// How often each client does something: well below what the processes can do, so that what is acknowledged before a fault and after it is the
/// same when nothing is wrong.
const PACE: Duration = Duration::from_millis(500);
/// How long it goes on before the fault, and how long at its beginning not all may have begun.
const BEFORE: Duration = Duration::from_secs(10);
const SHORT_BEFORE: Duration = Duration::from_secs(5);
const BEGINNING: Duration = Duration::from_secs(2);
/// How much of the rate before is nearly as much. The short form runs beside whatever else the machine does, so it only finds out what stays broken.
const BACK: f64 = 0.9;
const SHORT_BACK: f64 = 0.4;

/// Does it and judges what the clients recorded.
pub(crate) async fn run(fault: Fault, deployment: &mut Deployment, seed: u64, short: bool) -> anyhow::Result<Outcome> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut crowd = Crowd::gather(&deployment.address(), PAIRS).await?.paced(PACE);
    crowd.meet().await?;
    let crowd = Arc::new(crowd);
    let stop = Arc::new(AtomicBool::new(false));
    let busy = {
        let (crowd, stop) = (Arc::clone(&crowd), Arc::clone(&stop));
        beside(async move { crowd.busy(seed, stop).await })
    };
    let steps = watch::Sender::new(0);
    let circle = |number| circle::run(deployment.address(), seed.wrapping_add(number), CIRCLE_PAUSE, steps.clone(), Arc::clone(&stop));
    let circles: Vec<_> = (0..CIRCLES).map(|number| beside(circle(number))).collect();
    let observer = {
        let crowd = Arc::clone(&crowd);
        Observer::start(move || crowd.acknowledged())
    };
    let before = if short { SHORT_BEFORE } else { BEFORE };
    sleep(before).await;
    let rate = observer.rate(before - BEGINNING);
    if busy.is_finished() || rate == 0.0 {
        stop.store(true, Ordering::Relaxed);
        busy.await?.context("the load, before the fault")?;
        bail!("nothing is acknowledged before the fault");
    }

    let rounds = fault.rounds(short);
    let since = Instant::now();
    let mut recovery = Recovery::new(&observer, rate * if short { SHORT_BACK } else { BACK });
    let done = inflict(fault, deployment, &mut rng, rounds, &mut recovery).await;
    let back = recovery.longest();
    let (longest_gap, longest_of_one) = observer.longest_gaps(since);
    std::fs::write(deployment.folder().join("acks.csv"), observer.table())?;
    stop.store(true, Ordering::Relaxed);
    done?;
    busy.await??;
    let (mut lives, mut posts) = (Vec::new(), 0);
    for circle in circles {
        lives.push(circle.await??);
    }
    for life in &lives {
        posts += life.is_complete().await?;
    }
    let history = crowd.finish().await?;
    let mut violations = judge(&history);
    let count = |what: &str| violations.iter().filter(|violation| violation.contains(what)).count();
    let (lost, duplicated) = (count("is not in the inbox"), count("repeats client message id") + count("times in the inbox"));
    let is_replayed = fault.is_replayed(short);
    if is_replayed {
        violations.extend(replayed(deployment, &crowd, &history).await.context("replaying everything")?);
        for life in &lives {
            ensure!(life.is_complete().await? > 0, "nothing was posted");
        }
    }
    let mut errors = deployment.errors();
    errors.retain(|line| !fault.expected().iter().any(|expected| line.contains(expected)));
    Ok(Outcome {
        fault: fault.name().to_owned(),
        what: fault.what().to_owned(),
        rounds,
        sends: history.sends.len(),
        acknowledged: history.sends.iter().filter(|sent| !sent.acked.is_empty()).count(),
        posts,
        lost,
        duplicated,
        violations,
        errors,
        longest_gap,
        longest_of_one,
        rate,
        back,
        is_replayed,
        ..Outcome::default()
    })
}

fn judge(history: &History) -> Vec<String> {
    let violations = checker::check(history).into_iter();
    violations.map(|violation| format!("invariant {}: {}", violation.invariant, violation.what)).collect()
}

/// Invariant 9: every topic replayed from its beginning changes nothing.
async fn replayed(deployment: &mut Deployment, crowd: &Crowd, before: &History) -> anyhow::Result<Vec<String>> {
    deployment.stop_all().await?;
    deployment.servers.forget_checkpoints().await?;
    deployment.start_all().await?;
    let added = crowd.nudge().await?;
    let after = crowd.finish().await?;
    let changes = replay::changes(before, &after, added).into_iter().map(|change| format!("invariant 9: {change}"));
    Ok(judge(&after).into_iter().chain(changes).collect())
}

#[expect(clippy::disallowed_methods, reason = "joined by its caller")]
fn beside<T: Send + 'static>(load: impl Future<Output = anyhow::Result<T>> + Send + 'static) -> JoinHandle<anyhow::Result<T>> {
    tokio::spawn(load)
}
