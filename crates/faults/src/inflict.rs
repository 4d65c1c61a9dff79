//! Doing it: each fault round after round, with time between them to recover.

use std::time::Duration;

use anyhow::ensure;
use plaza_testkit::wait::wait_for;
use rand::{Rng, rngs::StdRng, seq::IndexedRandom as _};
use tokio::time::sleep;

use crate::{
    deployment::{Deployment, SESSION},
    fault::Fault,
    gate::{Gate, Passage},
    recovery::Recovery,
};

/// Another configuration, with which every process can work beside those that have the first one.
const OTHER_SETTINGS: &[&str] = &["kafka.writers=3", "chat.cache_bytes=1048576", "cql.requests=64"];
/// How long the brokers cannot be reached: once for less than a session, then for longer.
/// How long records that cannot be read may lie before they are parked.
const PARKED_WITHIN: Duration = Duration::from_secs(30);
const CUTS: [Duration; 3] = [Duration::from_millis(1500), Duration::from_secs(5), Duration::from_secs(8)];

/// Does it, and returns when it is over.
pub(crate) async fn inflict(
    fault: Fault,
    deployment: &mut Deployment,
    rng: &mut StdRng,
    rounds: u32,
    recovery: &mut Recovery<'_>,
) -> anyhow::Result<()> {
    match fault {
        Fault::KillOne => kill_one(deployment, rng, rounds, recovery).await,
        Fault::KillAll => kill_all(deployment, rounds, recovery).await,
        Fault::KillOwner | Fault::StopOwner => {
            for round in 0..rounds {
                let owner = deployment.place(if round % 2 == 0 { "chat1" } else { "chat2" })?;
                if fault == Fault::KillOwner {
                    deployment.processes[owner].kill()?;
                    sleep(SESSION + Duration::from_secs(3)).await;
                } else {
                    deployment.stop_one(owner).await?;
                    sleep(Duration::from_secs(3)).await;
                }
                recovery.healed();
                deployment.bring_up(owner).await?;
                recovery.rest(Duration::from_secs(4)).await;
            }
            Ok(())
        }
        Fault::Freeze => {
            let place = deployment.place("chat1")?;
            for _ in 0..rounds {
                deployment.processes[place].signal("STOP")?;
                sleep(SESSION + Duration::from_secs(4)).await;
                recovery.healed();
                deployment.processes[place].signal("CONT")?;
                recovery.rest(SESSION * 2).await;
            }
            Ok(())
        }
        Fault::Rolling => {
            for round in 0..rounds {
                deployment.settings = if round % 2 == 0 { OTHER_SETTINGS } else { &[] };
                let places = deployment.running();
                for place in &places {
                    deployment.stop_one(*place).await?;
                    if Some(place) == places.last() {
                        recovery.healed();
                    }
                    deployment.bring_up(*place).await?;
                }
                recovery.rest(Duration::ZERO).await;
            }
            Ok(())
        }
        Fault::Scale => scale(deployment, recovery).await,
        Fault::CutCql => {
            for _ in 0..rounds {
                cut(deployment.nodes.iter().flatten(), Passage::Shut, Duration::from_secs(5), recovery).await;
            }
            Ok(())
        }
        Fault::UnknownWrite => {
            for _ in 0..rounds {
                cut(deployment.nodes.iter().flatten(), Passage::Swallowing, Duration::from_secs(2), recovery).await;
            }
            Ok(())
        }
        Fault::CutKafka => {
            ensure!(!deployment.brokers.is_empty(), "the brokers have no gates");
            for round in 0..rounds {
                cut(deployment.brokers.iter(), Passage::Shut, CUTS[round as usize % CUTS.len()], recovery).await;
                sleep(SESSION).await;
            }
            Ok(())
        }
        Fault::SlowCql => {
            let Some(gates) = deployment.nodes.first() else { return Ok(()) };
            // Each way.
            gates.iter().for_each(|gate| gate.set(Passage::Slow(Duration::from_millis(250))));
            sleep(Duration::from_secs(10)).await;
            recovery.healed();
            gates.iter().for_each(|gate| gate.set(Passage::Open));
            recovery.rest(Duration::ZERO).await;
            Ok(())
        }
        Fault::Poison => {
            let mut poisoned = 0;
            for _ in 0..rounds {
                poisoned += deployment.servers.poison().await?;
                recovery.healed();
                recovery.rest(Duration::from_secs(5)).await;
            }
            // Services that clients do not wait for park theirs later.
            let parked = wait_for("the records are parked", PARKED_WITHIN, async || match deployment.servers.parked().await {
                Ok(parked) if parked >= poisoned => Ok(parked),
                other => Err(other),
            });
            let parked = parked.await?;
            ensure!(parked == poisoned, "{parked} records are parked of {poisoned} that cannot be read");
            Ok(())
        }
        Fault::KillBroker | Fault::KillNode => {
            let kind = if fault == Fault::KillBroker { "kafka" } else { "cassandra" };
            for number in 1..=rounds {
                let name = format!("{kind}{number}");
                deployment.server("kill", &name).await?;
                sleep(Duration::from_secs(3)).await;
                recovery.healed();
                deployment.server("start", &name).await?;
                recovery.rest(Duration::from_secs(5)).await;
            }
            Ok(())
        }
    }
}

async fn kill_one(deployment: &mut Deployment, rng: &mut StdRng, rounds: u32, recovery: &mut Recovery<'_>) -> anyhow::Result<()> {
    for _ in 0..rounds {
        let running = deployment.running();
        let Some(place) = running.choose(rng).copied() else { continue };
        deployment.processes[place].kill()?;
        sleep(Duration::from_millis(rng.random_range(0..500))).await;
        recovery.healed();
        deployment.launch(place)?;
        // Whether it is as before or not: one may be killed while another comes back.
        sleep(Duration::from_millis(rng.random_range(1000..4000))).await;
    }
    recovery.rest(Duration::ZERO).await;
    Ok(())
}

async fn kill_all(deployment: &mut Deployment, rounds: u32, recovery: &mut Recovery<'_>) -> anyhow::Result<()> {
    for _ in 0..rounds {
        for place in deployment.running() {
            deployment.processes[place].kill()?;
        }
        recovery.healed();
        deployment.start_all().await?;
        recovery.rest(SESSION * 2).await;
    }
    Ok(())
}

async fn scale(deployment: &mut Deployment, recovery: &mut Recovery<'_>) -> anyhow::Result<()> {
    let [first, second, third] = ["chat1", "chat2", "chat3"].map(|name| deployment.place(name));
    let (first, second, third) = (first?, second?, third?);
    deployment.stop_one(second).await?;
    sleep(Duration::from_secs(3)).await;
    for place in [second, third] {
        deployment.bring_up(place).await?;
        sleep(Duration::from_secs(2)).await;
    }
    deployment.stop_one(first).await?;
    sleep(Duration::from_secs(3)).await;
    deployment.stop_one(third).await?;
    recovery.healed();
    deployment.bring_up(first).await?;
    recovery.rest(Duration::ZERO).await;
    Ok(())
}

async fn cut<'a>(gates: impl Iterator<Item = &'a Gate> + Clone, passage: Passage, time: Duration, recovery: &mut Recovery<'_>) {
    gates.clone().for_each(|gate| gate.set(passage));
    sleep(time).await;
    // What was swallowed would never come: the connections end with it.
    gates.clone().for_each(|gate| gate.set(Passage::Shut));
    sleep(Duration::from_millis(50)).await;
    recovery.healed();
    gates.for_each(|gate| gate.set(Passage::Open));
    recovery.rest(Duration::from_secs(3)).await;
}
