//! The only place that starts tasks and threads. Every one has a name and a [`Stage`]; an error or a panic of one ends the process in
//! order, a cancel is normal. The stages are what [`crate::shutdown`] goes through.

use std::any::Any;
use std::collections::BTreeMap;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::{fmt, io, thread};

use anyhow::anyhow;
use futures::FutureExt;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{Group, Watchdog};

/// When in a shutdown a task is told to stop and waited for, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// Says to the outside that this process takes no new work.
    Readiness,
    /// Accepts connections; long streams watch it too, to tell their clients to move.
    Accept,
    /// Answers calls. A gRPC server belongs here and stops listening by the token of [`Stage::Accept`].
    Calls,
    /// Reads the log: finishes its batch and writes its checkpoint.
    Consumers,
    /// Writes the log: flushes.
    Producers,
    /// Stores and the log itself: close.
    Stores,
}

impl Stage {
    /// All of them, in order.
    pub const ALL: [Self; 6] = [Self::Readiness, Self::Accept, Self::Calls, Self::Consumers, Self::Producers, Self::Stores];
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Readiness => "readiness",
            Self::Accept => "accept",
            Self::Calls => "calls",
            Self::Consumers => "consumers",
            Self::Producers => "producers",
            Self::Stores => "stores",
        })
    }
}

/// Starts tasks and knows which are running. Clones are handles to the same one.
#[derive(Clone)]
pub struct Supervisor(Arc<Shared>);

struct Shared {
    runtime: Handle,
    stages: [StageTasks; Stage::ALL.len()],
    failure: Mutex<Option<anyhow::Error>>,
    failed: CancellationToken,
    abort: CancellationToken,
    watchdog: Option<Watchdog>,
}

#[derive(Default)]
struct StageTasks {
    stop: CancellationToken,
    running: Mutex<BTreeMap<&'static str, usize>>,
    ended: Notify,
}

impl Supervisor {
    /// A supervisor for tasks on the current runtime.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[expect(clippy::new_without_default, reason = "it depends on the current runtime and panics without one")]
    pub fn new() -> Self {
        Self::watched_by(None)
    }

    /// The same in a process that ends when it did not run for too long, see [`Watchdog`].
    ///
    /// # Errors
    /// The operating system has no thread to give for the watchdog.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn watched() -> io::Result<Self> {
        Ok(Self::watched_by(Some(Watchdog::start()?)))
    }

    fn watched_by(watchdog: Option<Watchdog>) -> Self {
        Self(Arc::new(Shared {
            runtime: Handle::current(),
            stages: Default::default(),
            failure: Mutex::default(),
            failed: CancellationToken::new(),
            abort: CancellationToken::new(),
            watchdog,
        }))
    }

    /// To be called before input or output that a process which did not run for too long must not do: it exits here then. Costs two readings
    /// of the clock; does nothing under [`Supervisor::new`].
    pub fn check_awake(&self) {
        if let Some(watchdog) = &self.0.watchdog {
            watchdog.check();
        }
    }

    /// Runs `task` until it ends. It must end soon after [`Supervisor::stopping`] of its stage is cancelled; what is left at the end of the
    /// shutdown is dropped. Its error or panic makes the process shut down; ending with `Ok` before is normal.
    pub fn spawn(&self, name: &'static str, stage: Stage, task: impl Future<Output = anyhow::Result<()>> + Send + 'static) {
        let running = self.enter(name, stage);
        let supervisor = self.clone();
        self.0.runtime.spawn(async move {
            let ended = supervisor.0.abort.run_until_cancelled(AssertUnwindSafe(task).catch_unwind()).await;
            // Recorded before the task counts as ended, so that a failure in the shutdown itself is never missed.
            supervisor.note(name, ended.unwrap_or(Ok(Ok(()))));
            drop(running);
        });
    }

    /// The same for a thread of its own, for work that blocks.
    ///
    /// # Errors
    /// The operating system has no thread to give.
    pub fn spawn_thread(
        &self,
        name: &'static str,
        stage: Stage,
        work: impl FnOnce() -> anyhow::Result<()> + Send + 'static,
    ) -> io::Result<()> {
        let running = self.enter(name, stage);
        let supervisor = self.clone();
        thread::Builder::new().name(name.to_owned()).spawn(move || {
            supervisor.note(name, catch_unwind(AssertUnwindSafe(work)));
            drop(running);
        })?;
        Ok(())
    }

    /// A bounded number of short tasks, such as one per connection: at most `limit` at a time, whose panics are logged and end nothing else.
    pub fn group(&self, name: &'static str, stage: Stage, limit: usize) -> Group {
        Group::new(self.clone(), name, stage, limit)
    }

    /// Cancelled when the tasks of `stage` are to stop.
    pub fn stopping(&self, stage: Stage) -> CancellationToken {
        self.tasks(stage).stop.clone()
    }

    /// The names of the tasks of `stage` that have not ended, with how many there are of each.
    pub fn running(&self, stage: Stage) -> Vec<(&'static str, usize)> {
        self.tasks(stage).running.lock().iter().map(|(name, count)| (*name, *count)).collect()
    }

    /// Returns once a task has failed.
    pub async fn failed(&self) {
        self.0.failed.cancelled().await;
    }

    /// The first failure, with the task's name as context; it has been logged.
    pub(crate) fn take_failure(&self) -> Option<anyhow::Error> {
        self.0.failure.lock().take()
    }

    /// Returns once no task of `stage` is running.
    pub(crate) async fn ended(&self, stage: Stage) {
        let tasks = self.tasks(stage);
        loop {
            let ended = tasks.ended.notified();
            if tasks.running.lock().is_empty() {
                return;
            }
            ended.await;
        }
    }

    /// Drops every task that is still running; threads cannot be.
    pub(crate) fn abort(&self) {
        self.0.abort.cancel();
    }

    pub(crate) fn enter(&self, name: &'static str, stage: Stage) -> Running {
        *self.tasks(stage).running.lock().entry(name).or_default() += 1;
        Running { supervisor: self.clone(), name, stage }
    }

    /// Runs a task that reports nothing and whose panic ends nothing else.
    pub(crate) fn spawn_minor(&self, running: Running, task: impl Future<Output = ()> + Send + 'static) {
        let abort = self.0.abort.clone();
        self.0.runtime.spawn(async move {
            if let Some(Err(panic)) = abort.run_until_cancelled(AssertUnwindSafe(task).catch_unwind()).await {
                tracing::error!(task = running.name, error = panic_text(&*panic), "task panicked");
            }
            drop(running);
        });
    }

    fn note(&self, name: &'static str, ended: Result<anyhow::Result<()>, Box<dyn Any + Send>>) {
        let error = match ended {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error,
            Err(panic) => anyhow!("panicked: {}", panic_text(&*panic)),
        };
        tracing::error!(task = name, error = format!("{error:#}"), "task failed");
        self.0.failure.lock().get_or_insert(error.context(format!("task {name:?} failed")));
        self.0.failed.cancel();
    }

    fn tasks(&self, stage: Stage) -> &StageTasks {
        &self.0.stages[stage as usize]
    }
}

impl fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(Stage::ALL.map(|stage| (stage, self.running(stage)))).finish()
    }
}

/// One running task or thread; it counts until this is dropped.
pub(crate) struct Running {
    supervisor: Supervisor,
    name: &'static str,
    stage: Stage,
}

impl Drop for Running {
    fn drop(&mut self) {
        let tasks = self.supervisor.tasks(self.stage);
        let mut running = tasks.running.lock();
        if let Some(count) = running.get_mut(self.name) {
            *count -= 1;
            if *count == 0 {
                running.remove(self.name);
            }
        }
        if running.is_empty() {
            tasks.ended.notify_waiters();
        }
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("a value that is not text")
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[tokio::test]
    async fn an_error_is_a_failure_with_the_name_of_the_task() {
        let supervisor = Supervisor::new();
        supervisor.spawn("quiet", Stage::Calls, async { Ok(()) });
        supervisor.spawn("broken", Stage::Calls, async { Err(anyhow!("no disk")) });
        supervisor.failed().await;
        let error = supervisor.take_failure().unwrap();
        assert_eq!(format!("{error:#}"), "task \"broken\" failed: no disk");
        supervisor.ended(Stage::Calls).await;
    }

    #[tokio::test]
    async fn a_panic_is_a_failure_in_a_task_and_in_a_thread() {
        for in_thread in [false, true] {
            let supervisor = Supervisor::new();
            if in_thread {
                supervisor.spawn_thread("broken", Stage::Stores, || panic!("index {}", 7)).unwrap();
            } else {
                supervisor.spawn("broken", Stage::Stores, async { panic!("index {}", 7) });
            }
            supervisor.failed().await;
            let error = supervisor.take_failure().unwrap();
            assert_eq!(format!("{error:#}"), "task \"broken\" failed: panicked: index 7");
        }
    }

    #[tokio::test]
    async fn only_the_first_failure_is_kept() {
        let supervisor = Supervisor::new();
        supervisor.note("first", Ok(Err(anyhow!("cause"))));
        supervisor.note("second", Ok(Err(anyhow!("effect"))));
        assert_eq!(supervisor.take_failure().unwrap().to_string(), "task \"first\" failed");
        assert!(supervisor.take_failure().is_none());
    }

    #[tokio::test]
    async fn running_counts_tasks_by_name_until_they_end() {
        let supervisor = Supervisor::new();
        for _ in 0..3 {
            let stop = supervisor.stopping(Stage::Consumers);
            supervisor.spawn("partition", Stage::Consumers, async move {
                stop.cancelled().await;
                Ok(())
            });
        }
        supervisor.spawn("stuck", Stage::Calls, pending());
        assert_eq!(supervisor.running(Stage::Consumers), [("partition", 3)]);
        supervisor.stopping(Stage::Consumers).cancel();
        supervisor.ended(Stage::Consumers).await;
        assert_eq!(supervisor.running(Stage::Calls), [("stuck", 1)]);
        supervisor.abort();
        supervisor.ended(Stage::Calls).await;
        assert!(supervisor.take_failure().is_none());
    }
}
