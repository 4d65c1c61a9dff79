//! The end of a process: ordered, named, bounded. Not ready, a delay in which load balancers notice, then stage after stage is told to stop
//! and waited for. What is still running when its time is over is logged by name and left behind.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use crate::config::{Problem, Validate, duration};
use crate::{Stage, Supervisor};

/// How much of the time after the drain delay may be over when a stage must have ended; an early end gives its rest to the next.
const fn share(stage: Stage) -> f64 {
    match stage {
        Stage::Readiness => 0.05,
        Stage::Accept => 0.1,
        Stage::Calls => 0.5,
        Stage::Consumers => 0.8,
        Stage::Producers => 0.9,
        Stage::Stores => 1.0,
    }
}

/// How long a shutdown may take; the table `shutdown` of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// From being not ready to the first connection told to go: the time load balancers need to notice.
    #[serde(with = "duration")]
    pub drain_delay: Duration,
    /// The whole shutdown, with the drain delay.
    #[serde(with = "duration")]
    pub total: Duration,
}

impl Validate for Limits {
    fn validate(&self, errors: &mut Vec<Problem>) {
        if self.total <= self.drain_delay {
            errors.push(Problem::new("total", "must be longer than drain_delay, which is a part of it"));
        }
    }
}

impl Default for Limits {
    /// No drain delay, 10 s.
    fn default() -> Self {
        Self { drain_delay: Duration::ZERO, total: Duration::from_secs(10) }
    }
}

/// Why a process ended otherwise than it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A task failed; the rest was shut down in order. It has been logged.
    #[error(transparent)]
    Task(anyhow::Error),
    /// A second signal came during the shutdown: the process must exit at once, waiting for nothing.
    #[error("a second signal came before the shutdown was over")]
    Interrupted,
}

/// The signals that end a process.
#[derive(Debug)]
pub struct Signals(Source);

#[derive(Debug)]
enum Source {
    System { interrupt: Signal, terminate: Signal },
    Manual(mpsc::Receiver<()>),
}

impl Signals {
    /// SIGINT and SIGTERM, which no longer end the process by themselves. To be called before anything is started.
    ///
    /// # Errors
    /// The operating system refuses.
    pub fn system() -> std::io::Result<Self> {
        let (interrupt, terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        Ok(Self(Source::System { interrupt, terminate }))
    }

    /// Signals that somebody in the process sends. Without a sender left none will come.
    pub fn manual() -> (mpsc::Sender<()>, Self) {
        let (sender, receiver) = mpsc::channel(2);
        (sender, Self(Source::Manual(receiver)))
    }

    /// Waits for the next one; its name.
    pub async fn next(&mut self) -> &'static str {
        match &mut self.0 {
            Source::System { interrupt, terminate } => tokio::select! {
                _ = interrupt.recv() => "SIGINT",
                _ = terminate.recv() => "SIGTERM",
            },
            Source::Manual(receiver) => match receiver.recv().await {
                Some(()) => "manual",
                None => std::future::pending().await,
            },
        }
    }
}

/// Waits for a signal or a failed task, then shuts everything down in order.
///
/// # Errors
/// A task failed, before or during the shutdown, or a second signal asks to exit at once.
pub async fn run(supervisor: &Supervisor, limits: Limits, mut signals: Signals) -> Result<(), Error> {
    tokio::select! {
        signal = signals.next() => tracing::info!(signal, "shutting down"),
        () = supervisor.failed() => tracing::info!("shutting down after a failed task"),
    }
    tokio::select! {
        () = shut_down(supervisor, limits) => {}
        signal = signals.next() => {
            tracing::warn!(signal, "second signal, exiting at once");
            return Err(Error::Interrupted);
        }
    }
    supervisor.take_failure().map_or(Ok(()), |failure| Err(Error::Task(failure)))
}

/// Tells stage after stage to stop and waits for each, within `limits`; then drops the tasks that are left.
pub async fn shut_down(supervisor: &Supervisor, limits: Limits) {
    let started = Instant::now();
    let drained = started + limits.drain_delay;
    let left = limits.total.saturating_sub(limits.drain_delay);
    let mut complete = true;
    for stage in Stage::ALL {
        supervisor.stopping(stage).cancel();
        if stage == Stage::Readiness {
            tokio::time::sleep_until(drained).await;
        }
        complete &= wait(supervisor, stage, drained + left.mul_f64(share(stage))).await;
    }
    supervisor.abort();
    let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    tracing::info!(duration_ms, complete, "shut down");
}

async fn wait(supervisor: &Supervisor, stage: Stage, until: Instant) -> bool {
    let ended = timeout_at(until, supervisor.ended(stage)).await.is_ok();
    if !ended {
        let pending: Vec<_> = supervisor.running(stage).into_iter().map(|(name, count)| format!("{name} x{count}")).collect();
        tracing::warn!(%stage, pending = pending.join(", "), "tasks are still running");
    }
    ended
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::Arc;

    use anyhow::anyhow;
    use parking_lot::Mutex;

    use super::*;

    /// A task of every stage, each of which takes `took` to stop; what they saw, in order.
    fn staged(supervisor: &Supervisor, took: Duration) -> Arc<Mutex<Vec<Stage>>> {
        let seen = Arc::new(Mutex::new(Vec::new()));
        for stage in Stage::ALL.into_iter().rev() {
            let (seen, stop) = (Arc::clone(&seen), supervisor.stopping(stage));
            supervisor.spawn("staged", stage, async move {
                stop.cancelled().await;
                tokio::time::sleep(took).await;
                seen.lock().push(stage);
                Ok(())
            });
        }
        seen
    }

    #[tokio::test(start_paused = true)]
    async fn stages_stop_in_order_each_after_the_one_before_has_ended() {
        let supervisor = Supervisor::new();
        let seen = staged(&supervisor, Duration::from_millis(100));
        let (signal, signals) = Signals::manual();
        signal.send(()).await.unwrap();
        let started = Instant::now();
        let limits = Limits { drain_delay: Duration::from_secs(3), ..Limits::default() };
        run(&supervisor, limits, signals).await.unwrap();
        assert_eq!(*seen.lock(), Stage::ALL);
        assert_eq!(started.elapsed().as_millis() / 100, 35, "the drain delay and five stages");
    }

    #[tokio::test(start_paused = true)]
    async fn a_stuck_stage_takes_its_share_and_the_others_still_stop() {
        let supervisor = Supervisor::new();
        let seen = staged(&supervisor, Duration::ZERO);
        supervisor.spawn("stuck call", Stage::Calls, pending());
        supervisor.spawn("stuck store", Stage::Stores, pending());
        let started = Instant::now();
        shut_down(&supervisor, Limits::default()).await;
        assert_eq!(*seen.lock(), Stage::ALL);
        assert_eq!(started.elapsed().as_secs(), 10);
        supervisor.ended(Stage::Stores).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_task_shuts_the_rest_down_and_is_the_result() {
        let supervisor = Supervisor::new();
        let seen = staged(&supervisor, Duration::ZERO);
        supervisor.spawn("writer", Stage::Producers, async { Err(anyhow!("disk full")) });
        let (_signal, signals) = Signals::manual();
        let error = run(&supervisor, Limits::default(), signals).await.unwrap_err();
        assert!(matches!(&error, Error::Task(error) if format!("{error:#}") == "task \"writer\" failed: disk full"), "{error:?}");
        assert_eq!(*seen.lock(), Stage::ALL);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_during_the_shutdown_is_the_result_too() {
        let supervisor = Supervisor::new();
        let stop = supervisor.stopping(Stage::Stores);
        supervisor.spawn("store", Stage::Stores, async move {
            stop.cancelled().await;
            Err(anyhow!("not flushed"))
        });
        let (signal, signals) = Signals::manual();
        signal.send(()).await.unwrap();
        assert!(matches!(run(&supervisor, Limits::default(), signals).await, Err(Error::Task(_))));
    }

    #[tokio::test]
    async fn the_system_can_ask_for_the_end() {
        let supervisor = Supervisor::new();
        let signals = Signals::system().unwrap();
        let sent = tokio::process::Command::new("sh").args(["-c", "kill -TERM $PPID"]).status().await.unwrap();
        assert!(sent.success());
        run(&supervisor, Limits::default(), signals).await.unwrap();
        assert!(supervisor.stopping(Stage::Stores).is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_signal_ends_the_wait_at_once() {
        let supervisor = Supervisor::new();
        supervisor.spawn("stuck", Stage::Calls, pending());
        let (signal, signals) = Signals::manual();
        signal.send(()).await.unwrap();
        signal.send(()).await.unwrap();
        let started = Instant::now();
        assert!(matches!(run(&supervisor, Limits::default(), signals).await, Err(Error::Interrupted)));
        assert_eq!(started.elapsed(), Duration::ZERO);
    }
}
