//! The faults, and what is done around each: load before it, during it and after it, then quiet, then judgement.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::ensure;
use plaza_testkit::{checker, circle, crowd::Crowd};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom as _};
use tokio::{sync::watch, task::JoinHandle, time::sleep};

use crate::{
    deployment::{Deployment, SESSION},
    gate::Passage,
    observe::Observer,
    report::Outcome,
};

const PAIRS: usize = 3;
const CIRCLES: u64 = 2;
/// How long it may take until it is as before.
const BACK_WITHIN: Duration = Duration::from_secs(30);

/// What is done to the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    KillOne,
    KillAll,
    Freeze,
    Rolling,
    Scale,
    CutCql,
    SlowCql,
    UnknownWrite,
    KillBroker,
    KillNode,
}

impl Fault {
    pub(crate) const ALL: [Self; 10] = [
        Self::KillOne,
        Self::KillAll,
        Self::Freeze,
        Self::Rolling,
        Self::Scale,
        Self::CutCql,
        Self::SlowCql,
        Self::UnknownWrite,
        Self::KillBroker,
        Self::KillNode,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::KillOne => "kill-one",
            Self::KillAll => "kill-all",
            Self::Freeze => "freeze",
            Self::Rolling => "rolling",
            Self::Scale => "scale",
            Self::CutCql => "cut-cql",
            Self::SlowCql => "slow-cql",
            Self::UnknownWrite => "unknown-write",
            Self::KillBroker => "kill-broker",
            Self::KillNode => "kill-node",
        }
    }

    fn what(self) -> &'static str {
        match self {
            Self::KillOne => "`kill -9` of any instance of any service, which is started again at once",
            Self::KillAll => "`kill -9` of all instances at once",
            Self::Freeze => "SIGSTOP of a chat instance for longer than its session lasts, then SIGCONT",
            Self::Rolling => "rolling restart of everything",
            Self::Scale => "from one chat instance to three and back",
            Self::CutCql => "a chat instance cut off from the CQL nodes for 5 s",
            Self::SlowCql => "500 ms more to one CQL node, for a chat instance, for 10 s",
            Self::UnknownWrite => "CQL answers to a chat instance lost for 2 s: outcomes unknown",
            Self::KillBroker => "`kill -9` and restart of a Kafka broker, one after another",
            Self::KillNode => "`kill -9` and restart of a CQL node, one after another",
        }
    }

    /// Whether it is in the short form.
    pub(crate) fn is_short(self) -> bool {
        matches!(self, Self::KillOne | Self::KillAll | Self::Freeze | Self::Scale)
    }

    /// Whether brokers or nodes go down.
    pub(crate) fn needs_replicas(self) -> bool {
        matches!(self, Self::KillBroker | Self::KillNode)
    }

    fn rounds(self, short: bool) -> u32 {
        match self {
            Self::KillOne if short => 6,
            Self::KillOne => 20,
            Self::KillAll | Self::Freeze if short => 1,
            Self::KillAll | Self::KillBroker | Self::KillNode => 3,
            Self::Freeze | Self::CutCql | Self::UnknownWrite => 3,
            Self::Rolling | Self::Scale | Self::SlowCql => 1,
        }
    }
}

/// Does it and judges what the clients recorded.
pub(crate) async fn run(fault: Fault, deployment: &mut Deployment, seed: u64, short: bool) -> anyhow::Result<Outcome> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut crowd = Crowd::gather(&deployment.address(), PAIRS).await?;
    crowd.meet().await?;
    let crowd = Arc::new(crowd);
    let stop = Arc::new(AtomicBool::new(false));
    let busy = {
        let (crowd, stop) = (Arc::clone(&crowd), Arc::clone(&stop));
        beside(async move { crowd.busy(seed, stop).await })
    };
    let steps = watch::Sender::new(0);
    let circles: Vec<_> = (0..CIRCLES)
        .map(|number| beside(circle::run(deployment.address(), seed.wrapping_add(number), steps.clone(), Arc::clone(&stop))))
        .collect();
    let observer = Observer::start(Arc::clone(&crowd));
    sleep(Duration::from_secs(if short { 5 } else { 8 })).await;
    let rate = observer.rate();
    ensure!(rate > 0.0, "nothing is acknowledged before the fault");

    let rounds = fault.rounds(short);
    let since = Instant::now();
    let done = inflict(fault, deployment, &mut rng, rounds).await;
    let back = observer.is_back(rate, BACK_WITHIN).await;
    let longest_gap = observer.longest_gap(since);
    stop.store(true, Ordering::Relaxed);
    done?;
    busy.await??;
    let mut posts = 0;
    for circle in circles {
        posts += circle.await??.is_complete().await?;
    }
    let history = crowd.finish().await?;
    let violations = checker::check(&history);
    let count = |what: &str| violations.iter().filter(|violation| violation.what.contains(what)).count();
    Ok(Outcome {
        fault: fault.name(),
        what: fault.what(),
        rounds,
        sends: history.sends.len(),
        acknowledged: history.sends.iter().filter(|sent| !sent.acked.is_empty()).count(),
        posts,
        lost: count("is not in the inbox"),
        duplicated: count("repeats client message id") + count("times in the inbox"),
        violations,
        errors: deployment.errors(),
        longest_gap,
        rate,
        back,
    })
}

#[expect(clippy::disallowed_methods, reason = "joined by its caller")]
fn beside<T: Send + 'static>(load: impl Future<Output = anyhow::Result<T>> + Send + 'static) -> JoinHandle<anyhow::Result<T>> {
    tokio::spawn(load)
}

async fn inflict(fault: Fault, deployment: &mut Deployment, rng: &mut StdRng, rounds: u32) -> anyhow::Result<()> {
    match fault {
        Fault::KillOne => {
            for _ in 0..rounds {
                let running = deployment.running();
                let Some(place) = running.choose(rng).copied() else { continue };
                deployment.kill(place)?;
                sleep(Duration::from_millis(rng.random_range(0..500))).await;
                deployment.launch(place)?;
                sleep(Duration::from_millis(rng.random_range(1000..4000))).await;
            }
        }
        Fault::KillAll => {
            for _ in 0..rounds {
                let running = deployment.running();
                for place in &running {
                    deployment.kill(*place)?;
                }
                for place in &running {
                    deployment.launch(*place)?;
                }
                for place in running {
                    deployment.is_up(place).await?;
                }
                sleep(SESSION * 2).await;
            }
        }
        Fault::Freeze => {
            let place = deployment.place("chat1")?;
            for _ in 0..rounds {
                deployment.signal(place, "STOP")?;
                sleep(SESSION + Duration::from_secs(4)).await;
                deployment.signal(place, "CONT")?;
                sleep(SESSION * 2).await;
            }
        }
        Fault::Rolling => {
            for place in deployment.running() {
                deployment.stop_one(place).await?;
                deployment.launch(place)?;
                deployment.is_up(place).await?;
            }
        }
        Fault::Scale => {
            let [first, second, third] = ["chat1", "chat2", "chat3"].map(|name| deployment.place(name));
            let (first, second, third) = (first?, second?, third?);
            deployment.stop_one(second).await?;
            sleep(Duration::from_secs(3)).await;
            for place in [second, third] {
                deployment.launch(place)?;
                deployment.is_up(place).await?;
                sleep(Duration::from_secs(2)).await;
            }
            deployment.stop_one(first).await?;
            sleep(Duration::from_secs(3)).await;
            deployment.stop_one(third).await?;
            deployment.launch(first)?;
            deployment.is_up(first).await?;
        }
        Fault::CutCql | Fault::UnknownWrite => {
            let (passage, time) = match fault {
                Fault::CutCql => (Passage::Shut, Duration::from_secs(5)),
                _ => (Passage::Swallowing, Duration::from_secs(2)),
            };
            for _ in 0..rounds {
                deployment.nodes.iter().for_each(|gate| gate.set(passage));
                sleep(time).await;
                // What was swallowed would never come: the connections end with it.
                deployment.nodes.iter().for_each(|gate| gate.set(Passage::Shut));
                sleep(Duration::from_millis(50)).await;
                deployment.nodes.iter().for_each(|gate| gate.set(Passage::Open));
                sleep(Duration::from_secs(3)).await;
            }
        }
        Fault::SlowCql => {
            let Some(gate) = deployment.nodes.first() else { return Ok(()) };
            gate.set(Passage::Slow(Duration::from_millis(500)));
            sleep(Duration::from_secs(10)).await;
            gate.set(Passage::Open);
        }
        Fault::KillBroker | Fault::KillNode => {
            let kind = if fault == Fault::KillBroker { "kafka" } else { "cassandra" };
            for number in 1..=rounds {
                let name = format!("{kind}{number}");
                deployment.server("kill", &name).await?;
                sleep(Duration::from_secs(3)).await;
                deployment.server("start", &name).await?;
                sleep(Duration::from_secs(5)).await;
            }
        }
    }
    Ok(())
}
