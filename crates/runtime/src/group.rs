//! Short tasks of one kind, bounded in number.

use std::future::Future;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{Stage, Supervisor};

/// Starts short tasks, at most so many at a time. From [`Supervisor::group`]; clones share the bound.
#[derive(Debug, Clone)]
pub struct Group {
    supervisor: Supervisor,
    name: &'static str,
    stage: Stage,
    room: Arc<Semaphore>,
}

/// The group has as many tasks as it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many at a time")]
pub struct Full;

impl Group {
    pub(crate) fn new(supervisor: Supervisor, name: &'static str, stage: Stage, limit: usize) -> Self {
        Self { supervisor, name, stage, room: Arc::new(Semaphore::new(limit)) }
    }

    /// Starts `task` if there is room. It must end soon after the token of the group's stage is cancelled.
    ///
    /// # Errors
    /// There is no room; the task was dropped.
    pub fn try_spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> Result<(), Full> {
        let permit = Arc::clone(&self.room).try_acquire_owned().map_err(|_| Full)?;
        self.start(permit, task);
        Ok(())
    }

    /// Waits for room and starts `task`. Dropped before that, it has started nothing.
    pub async fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Ok(permit) = Arc::clone(&self.room).acquire_owned().await {
            self.start(permit, task);
        }
    }

    fn start(&self, permit: OwnedSemaphorePermit, task: impl Future<Output = ()> + Send + 'static) {
        let running = self.supervisor.enter(self.name, self.stage);
        self.supervisor.spawn_minor(running, async move {
            let _permit = permit;
            task.await;
        });
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn a_group_takes_no_more_than_its_limit() {
        let supervisor = Supervisor::new();
        let group = supervisor.group("connection", Stage::Calls, 1);
        let (finish, finished) = oneshot::channel::<()>();
        group.try_spawn(finished.map(drop)).unwrap();
        assert_eq!(group.try_spawn(async {}), Err(Full));
        assert_eq!(supervisor.running(Stage::Calls), [("connection", 1)]);

        let (ran, second) = oneshot::channel();
        let waiting = group.spawn(async move { ran.send(()).unwrap() });
        finish.send(()).unwrap();
        waiting.await;
        second.await.unwrap();
        supervisor.ended(Stage::Calls).await;
    }

    #[tokio::test]
    async fn a_panic_in_a_group_gives_its_place_back_and_ends_nothing_else() {
        let supervisor = Supervisor::new();
        let group = supervisor.group("connection", Stage::Calls, 1);
        group.try_spawn(async { panic!("bad frame") }).unwrap();
        supervisor.ended(Stage::Calls).await;
        group.spawn(async {}).await;
        assert!(supervisor.take_failure().is_none());
    }
}
