//! Owners of partitions, as the schedule starts, pauses, wakes and ends them: the real runtime, in tasks that can be stopped at any await.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use parking_lot::Mutex;
use plaza_event_log::TopicPartition;
use plaza_processor::{Announce, Config, HostDeps, Machine, Partition, Replies, ReplyTo};
use plaza_runtime::{Rng, Stage};
use plaza_types::ClientId;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::{
    log::{Log, PARKED, PARTITIONS},
    machines::{CHAT, Conversations, INBOX, Inboxes, Row, Shown},
    store::Simulated,
    world::World,
};

/// All partitions that have owners.
pub(crate) fn partitions() -> impl Iterator<Item = TopicPartition> {
    [CHAT, INBOX].into_iter().flat_map(|topic| (0..PARTITIONS).map(move |partition| TopicPartition { topic, partition }))
}

/// One owner of one partition.
pub(crate) struct Owner {
    stop: CancellationToken,
    crash: CancellationToken,
    pause: Arc<Pause>,
    cut: Arc<AtomicBool>,
    ended: oneshot::Receiver<()>,
}

/// While paused, a task is not run, whatever happens around it.
#[derive(Default)]
struct Pause {
    paused: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

struct Pausable<F> {
    pause: Arc<Pause>,
    inner: Pin<Box<F>>,
}

impl<F: Future> Future for Pausable<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        if self.pause.paused.load(Ordering::Relaxed) {
            *self.pause.waker.lock() = Some(context.waker().clone());
            return Poll::Pending;
        }
        self.inner.as_mut().poll(context)
    }
}

impl Owner {
    /// Starts an owner of the first or second binary.
    pub(crate) fn start(world: &Arc<World>, of: TopicPartition, second: bool) -> Self {
        world.say(|| format!("own {of}, second binary {second}"));
        if of.topic == CHAT {
            let panics = world.odds.poison && !second;
            Self::run(world, Arc::new(Conversations { panics }), of, None)
        } else {
            Self::run(world, Arc::new(Inboxes), of, Some(Arc::new(Devices(Arc::clone(world)))))
        }
    }

    fn run<M: Machine<Row = Row>>(
        world: &Arc<World>,
        machine: Arc<M>,
        of: TopicPartition,
        announce: Option<Arc<dyn Announce<M::Announcement>>>,
    ) -> Self {
        let log = Arc::new(Log::new(world));
        let cut = Arc::clone(&log.cut);
        let observer = Arc::clone(world);
        let odds = &world.odds;
        let config = Config {
            batch_records: odds.batch,
            batches_in_flight: odds.in_flight,
            states: odds.states,
            remembered: odds.remembered,
            checkpoint_records: odds.checkpoint_records,
            checkpoint_every: Duration::from_millis(40),
            retry_first: Duration::from_millis(2),
            retry_max: Duration::from_millis(20),
            rng: Rng::seeded(world.dice.draw()),
            clock: world.clock.clone(),
            ..Config::default()
        };
        let deps = HostDeps {
            log,
            store: Arc::new(Simulated(Arc::clone(world))),
            replies: Replies::observed(0, move |to, outcome| observer.replied(to, outcome)),
            announce,
            supervisor: world.supervisor.clone(),
            config,
        };
        let parked = PARKED[usize::from(of.topic == INBOX)];
        let partition = Partition::new(machine, Arc::new(deps), of.partition, parked);
        let (stop, crash, pause) = (CancellationToken::new(), CancellationToken::new(), Arc::<Pause>::default());
        let (end, ended) = oneshot::channel();
        let (stopping, crashing, pausing) = (stop.clone(), crash.clone(), Arc::clone(&pause));
        world.supervisor.spawn("owner", Stage::Consumers, async move {
            let run = async move { partition.run(&stopping).await };
            crashing.run_until_cancelled(Pausable { pause: pausing, inner: Box::pin(run) }).await;
            drop(end);
            Ok(())
        });
        Self { stop, crash, pause, cut, ended }
    }

    /// Ends it between two awaits. What its producer has not sent yet is lost, or not.
    pub(crate) fn crash(self, world: &World) {
        self.cut.store(world.dice.happens(500), Ordering::Relaxed);
        self.crash.cancel();
    }

    pub(crate) fn pause(&self) {
        self.pause.paused.store(true, Ordering::Relaxed);
    }

    pub(crate) fn wake(&self) {
        self.pause.paused.store(false, Ordering::Relaxed);
        if let Some(waker) = self.pause.waker.lock().take() {
            waker.wake();
        }
    }

    /// Ends it in order.
    pub(crate) async fn finish(self) {
        self.wake();
        self.stop.cancel();
        _ = self.ended.await;
    }
}

/// The attached devices.
struct Devices(Arc<World>);

impl Announce<Shown> for Devices {
    fn announce(&self, _: u32, announcements: Vec<Shown>) {
        for shown in announcements {
            if shown.cursor == 0 {
                self.0.broken(|| format!("an emission came twice: {shown:?}"));
            } else {
                self.0.show(&shown, "push");
            }
        }
    }

    fn assigned(&self, _: u32) {}

    fn revoked(&self, _: u32) {}
}

/// A request id and a reply address, as callers make them.
pub(crate) fn request(world: &World, skew: i64) -> (ClientId, ReplyTo) {
    let made = world.now().saturating_add_signed(skew);
    let draw = world.dice.draw();
    let mut random = [0; 10];
    random[..8].copy_from_slice(&draw.to_be_bytes());
    (ClientId::new(made, random), ReplyTo::new(0, draw, None))
}
