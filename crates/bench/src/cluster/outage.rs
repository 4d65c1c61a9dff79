//! How long a conversation's sends are not acknowledged when one of two chat processes is killed, when it is stopped in order, and when it comes back:
//! of many conversations the longest time, for some belong to the other process and notice nothing.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::ensure;
use plaza_proto::chat::v1::chat_service_client::ChatServiceClient;
use tokio::task::JoinSet;

use super::{Bench, calm};
use crate::{
    measure::{Report, median},
    stream::message,
    target::Caller,
};

const ROUNDS: usize = 3;
const PAIRS: usize = 24;
/// A member of a group that says nothing keeps its partitions for this long, by default.
const SESSION: Duration = Duration::from_secs(6);
/// What takes longer than this to come back is an error.
const AT_LAST: Duration = Duration::from_secs(60);
/// How long everything is watched after it came back: members that find each other again move partitions twice.
const AFTER: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(20);

/// Sends of many pairs, one after the other each, until dropped.
struct Senders {
    acks: Arc<Vec<Acks>>,
    begin: Instant,
    stop: Arc<AtomicBool>,
    tasks: JoinSet<()>,
}

/// Microseconds since the beginning of the last acknowledgement, and the longest time between two.
#[derive(Default)]
struct Acks {
    last: AtomicU64,
    longest: AtomicU64,
}

pub(super) async fn run(bench: &mut Bench, report: &mut Report) -> anyhow::Result<()> {
    let pairs = bench.friends(PAIRS).await?;
    bench.join("chat2", &pairs).await?;
    let senders = Senders::start(&pairs);
    let (mut killed, mut stopped, mut joined) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS * 2 {
        calm(&pairs).await?;
        let name = if round / 2 % 2 == 0 { "chat1" } else { "chat2" };
        let since = senders.forget();
        if round % 2 == 0 {
            bench.ours.kill(name)?;
            killed.push(senders.longest(since, SESSION).await?);
        } else {
            bench.ours.stop(name).await?;
            stopped.push(senders.longest(since, Duration::ZERO).await?);
        }
        let since = senders.forget();
        bench.join(name, &pairs).await?;
        joined.push(senders.longest(since, Duration::ZERO).await?);
    }
    senders.end().await;
    let session = SESSION.as_secs_f64();
    let rounds: Vec<_> = killed.into_iter().map(|killed| (session, killed)).collect();
    report.ratio("a chat process is killed: longest without acks", "s", &rounds, (session + 2.0) / session, 1.0);
    report.note("stopped in order: longest without acks, s", median(stopped.into_iter()));
    report.note("started: longest without acks, s", median(joined.into_iter()));
    Ok(())
}

impl Senders {
    fn start(pairs: &[[Caller; 2]]) -> Self {
        let (begin, stop) = (Instant::now(), Arc::new(AtomicBool::new(false)));
        let acks: Arc<Vec<Acks>> = Arc::new(pairs.iter().map(|_| Acks::default()).collect());
        let mut tasks = JoinSet::new();
        for (place, [caller, _]) in pairs.iter().enumerate() {
            let (caller, acks, stop) = (caller.clone(), Arc::clone(&acks), Arc::clone(&stop));
            tasks.spawn(async move {
                let mut client = ChatServiceClient::new(caller.channel.clone());
                let mut next = message(&caller.peer);
                while !stop.load(Ordering::Relaxed) {
                    // A send that was not answered is sent again as it was, as clients do.
                    if client.send_message(caller.request(next.clone())).await.is_ok() {
                        next = message(&caller.peer);
                        acks[place].add(begin);
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            });
        }
        Self { acks, begin, stop, tasks }
    }

    /// Begins to measure; what was before does not count.
    fn forget(&self) -> u64 {
        self.acks.iter().for_each(|acks| acks.longest.store(0, Ordering::Relaxed));
        micros(self.begin)
    }

    /// The longest time of any pair without an acknowledgement, seconds, once all of them go on, which is not before a while is over.
    async fn longest(&self, since: u64, not_before: Duration) -> anyhow::Result<f64> {
        let behind = |since: u64| self.acks.iter().any(|acks| acks.last.load(Ordering::Relaxed) < since);
        let begun = Instant::now();
        tokio::time::sleep(not_before).await;
        loop {
            tokio::time::sleep(AFTER).await;
            // Everybody was acknowledged in the last second, after the event.
            if !behind(since.max(micros(self.begin).saturating_sub(1_000_000))) {
                break;
            }
            ensure!(begun.elapsed() < AT_LAST, "sends are not acknowledged {AT_LAST:?} after a change");
        }
        let longest = self.acks.iter().map(|acks| acks.longest.load(Ordering::Relaxed)).max();
        Ok(longest.unwrap_or_default() as f64 / 1e6)
    }

    async fn end(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        while self.tasks.join_next().await.is_some() {}
    }
}

impl Acks {
    fn add(&self, begin: Instant) {
        let now = micros(begin);
        let before = self.last.swap(now, Ordering::Relaxed);
        self.longest.fetch_max(now - before.min(now), Ordering::Relaxed);
    }
}

fn micros(begin: Instant) -> u64 {
    u64::try_from(begin.elapsed().as_micros()).unwrap_or(u64::MAX)
}
