//! Telling callers and attached readers, in log order: as soon as the records are durable, for a decision follows from the records alone
//! and can no longer change then (rule 12). Rows come later.

use tokio::sync::mpsc;

use crate::{
    Machine,
    batch::Told,
    partition::{GivenUp, Partition},
};

/// Batches told with one wait.
const TOGETHER: usize = 16;

/// Until there are no more batches.
pub(crate) async fn run<M: Machine>(partition: &Partition<M>, mut batches: mpsc::Receiver<Told<M::Announcement>>) -> Result<(), GivenUp> {
    let deps = &partition.deps;
    let mut group = Vec::with_capacity(TOGETHER);
    while batches.recv_many(&mut group, TOGETHER).await > 0 {
        if !mistake!(ReplyBeforeDurable) {
            deps.log.durable().await.map_err(GivenUp::Log)?;
        }
        for told in group.drain(..) {
            for (to, outcome) in told.replies {
                deps.replies.deliver(to, outcome);
            }
            if let Some(announce) = deps.announce.as_ref().filter(|_| !told.announcements.is_empty()) {
                announce.announce(partition.number, told.announcements);
            }
            partition.when_written.durable(told.batch, &deps.replies);
        }
    }
    Ok(())
}
