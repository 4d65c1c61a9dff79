//! Running the partitions that the log assigns to this process, each in a task of its own.

use std::{collections::HashMap, sync::Arc};

use plaza_event_log::{Assignment, Assignments, Error, EventLog, Topic};
use plaza_runtime::{Stage, Supervisor};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::{Announce, Config, Machine, Partition, Replies, Store, retry::Backoff};

/// What a machine runs on.
pub struct HostDeps<M: Machine> {
    /// Where its records come from and its emissions go.
    pub log: Arc<dyn EventLog>,
    /// Where its states and rows are.
    pub store: Arc<dyn Store<M::Row>>,
    /// The callers of this process that wait.
    pub replies: Arc<Replies>,
    /// Who is told announcements, if anybody.
    pub announce: Option<Arc<dyn Announce<M::Announcement>>>,
    /// What its tasks run under.
    pub supervisor: Supervisor,
    /// How.
    pub config: Config,
}

/// Runs a machine on this process's share of its topic.
#[derive(Debug)]
pub struct Host;

impl Host {
    /// Starts to follow the assignments of the group named after the machine. Ends with the process's consumers: batches are finished and
    /// checkpoints written. A membership that is lost for good ends the process.
    pub fn start<M: Machine>(machine: Arc<M>, deps: HostDeps<M>) {
        let parked = Topic(String::leak(format!("{}.dead", M::TOPIC.0)));
        let supervisor = deps.supervisor.clone();
        let owned = Owned { machine, deps: Arc::new(deps), parked, partitions: HashMap::new() };
        supervisor.spawn(M::NAME, Stage::Consumers, owned.follow());
    }
}

/// The partitions of this process.
struct Owned<M: Machine> {
    machine: Arc<M>,
    deps: Arc<HostDeps<M>>,
    parked: Topic,
    partitions: HashMap<u32, Running>,
}

struct Running {
    revoke: CancellationToken,
    ended: oneshot::Receiver<()>,
}

impl<M: Machine> Owned<M> {
    async fn follow(mut self) -> anyhow::Result<()> {
        let stop = self.deps.supervisor.stopping(Stage::Consumers);
        let Some(assignments) = stop.run_until_cancelled(self.join()).await else { return Ok(()) };
        let mut assignments = assignments?;
        while let Some(change) = stop.run_until_cancelled(assignments.next()).await {
            match change? {
                Assignment::Assigned(partition) => {
                    self.revoke(partition).await;
                    self.assign(partition, stop.clone());
                }
                Assignment::Revoked(partition) => self.revoke(partition).await,
            }
        }
        // The membership ends after the work does.
        for (_, running) in self.partitions.drain() {
            _ = running.ended.await;
        }
        Ok(())
    }

    async fn join(&self) -> Result<Box<dyn Assignments>, Error> {
        let mut backoff = Backoff::new(&self.deps.config);
        loop {
            match self.deps.log.assignments(M::NAME, M::TOPIC).await {
                Err(Error::Unavailable(reason)) => {
                    if backoff.is_news() {
                        tracing::warn!(machine = M::NAME, reason, "joining again");
                    }
                    backoff.wait().await;
                }
                joined => return joined,
            }
        }
    }

    fn assign(&mut self, number: u32, stop: CancellationToken) {
        let partition = Partition::new(Arc::clone(&self.machine), Arc::clone(&self.deps), number, self.parked);
        let revoke = CancellationToken::new();
        let (end, ended) = oneshot::channel();
        self.partitions.insert(number, Running { revoke: revoke.clone(), ended });
        self.deps.supervisor.spawn("partition", Stage::Consumers, async move {
            // A revoke drops everything at once, as a crash would.
            revoke.run_until_cancelled(partition.run(&stop)).await;
            drop(end);
            Ok(())
        });
    }

    /// Returns when nothing of the partition is left.
    async fn revoke(&mut self, number: u32) {
        if let Some(running) = self.partitions.remove(&number) {
            running.revoke.cancel();
            _ = running.ended.await;
            if let Some(announce) = &self.deps.announce {
                announce.revoked(number);
            }
        }
    }
}
