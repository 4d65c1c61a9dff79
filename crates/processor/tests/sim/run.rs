//! One run: clients and owners under a schedule of crashes, pauses and overlaps; then quiet, and everything is compared; then every
//! partition again from an old checkpoint, and nothing may have changed.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use plaza_event_log::TopicPartition;
use plaza_runtime::Stage;
use plaza_types::limits::SECOND;

use crate::{
    clients,
    machines::{CHAT, USERS},
    oracle,
    owners::{Owner, partitions},
    world::World,
};

/// Long enough for whatever was under way to arrive.
const QUIET: Duration = Duration::from_millis(1500);

type Owners = BTreeMap<TopicPartition, Vec<Owner>>;

/// Runs a seed.
///
/// # Errors
/// The first contradiction.
pub(crate) fn seed(seed: u64, traced: bool) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.map_err(|error| error.to_string())?.block_on(async {
        let world = World::new(seed, traced);
        run(&world).await;
        world.verdict()
    })
}

async fn run(world: &Arc<World>) {
    let clients = clients(world);
    let mut owners: Owners = partitions().map(|of| (of, vec![Owner::start(world, of, false)])).collect();
    let mut second = false;
    while !clients.iter().all(|client| client.is_cancelled()) && !world.is_broken() {
        tokio::time::sleep(Duration::from_millis(1) + world.dice.millis(8)).await;
        second |= world.odds.poison && world.dice.happens(20);
        disturb(world, &mut owners, second);
    }
    settle(world, &mut owners).await;
    oracle::check(world);
    replay(world).await;
    oracle::check(world);
}

/// The users' tasks; each token is cancelled when its user is done.
fn clients(world: &Arc<World>) -> Vec<tokio_util::sync::CancellationToken> {
    let start = |user| {
        let done = tokio_util::sync::CancellationToken::new();
        let guard = done.clone().drop_guard();
        let (calling, reading) = (Arc::clone(world), Arc::clone(world));
        world.supervisor.spawn("caller", Stage::Calls, async move {
            let _guard = guard;
            clients::caller(calling, user).await;
            Ok(())
        });
        world.supervisor.spawn("reader", Stage::Calls, async move {
            clients::reader(reading, user).await;
            Ok(())
        });
        done
    };
    USERS.map(start).into()
}

/// Something happens to one partition's owners, perhaps.
fn disturb(world: &Arc<World>, owners: &mut Owners, second: bool) {
    let dice = &world.dice;
    let all: Vec<_> = partitions().collect();
    let of = dice.pick(&all);
    let owned = owners.entry(of).or_default();
    if dice.happens(10) {
        let off = (dice.below(2400) as i64 - 1200) * SECOND as i64;
        world.logs.lock().skew(of, off);
    }
    // Two binaries that decide differently must not overlap: that is what the rules number is for.
    let overlap = !(world.odds.poison && of.topic == CHAT);
    if dice.happens(world.odds.crash) && !owned.is_empty() {
        world.say(|| format!("crash {of}"));
        owned.swap_remove(dice.below(owned.len())).crash(world);
    }
    if dice.happens(world.odds.pause) && !owned.is_empty() {
        world.say(|| format!("pause {of}"));
        owned[dice.below(owned.len())].pause();
        if owned.len() < 3 && overlap {
            owned.push(Owner::start(world, of, second));
        }
    }
    if dice.happens(150) {
        for owner in owned.iter() {
            owner.wake();
        }
    }
    if owned.is_empty() && dice.happens(500) {
        owned.push(Owner::start(world, of, second));
    }
}

/// Faults end, everybody who is alive finishes, and a fresh owner of each partition has the last word.
async fn settle(world: &Arc<World>, owners: &mut Owners) {
    world.calm_down();
    for owner in owners.values().flatten() {
        owner.wake();
    }
    tokio::time::sleep(QUIET).await;
    for (_, owned) in std::mem::take(owners) {
        for owner in owned {
            owner.finish().await;
        }
    }
    own_once(world).await;
    for user in USERS {
        clients::read_on(world, user, 0);
    }
}

/// One owner of each partition until everything is decided.
async fn own_once(world: &Arc<World>) {
    let owners: Vec<_> = partitions().map(|of| Owner::start(world, of, true)).collect();
    tokio::time::sleep(QUIET).await;
    for owner in owners {
        owner.finish().await;
    }
    for of in partitions() {
        let (end, machine) = (world.logs.lock().end(of), if of.topic == CHAT { "conversations" } else { "inboxes" });
        let next = world.tables.lock().checkpoints.get(&(machine, of.partition)).map_or(0, |checkpoint| checkpoint.next.offset);
        if next != end {
            world.broken(|| format!("stuck: {of} is decided up to {next} of {end}"));
        }
    }
}

/// Invariant 9: every partition from a checkpoint it once had, or from none.
async fn replay(world: &Arc<World>) {
    {
        let mut tables = world.tables.lock();
        let tables = &mut *tables;
        for (at, history) in &tables.history {
            let pick = world.dice.below(history.len() + 1);
            match history.get(pick) {
                Some(old) => _ = tables.checkpoints.insert(*at, old.clone()),
                None => _ = tables.checkpoints.remove(at),
            }
        }
    }
    own_once(world).await;
}
