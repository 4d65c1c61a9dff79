//! Writing what was decided, in the order that makes a crash harmless: rows and emissions, then the states that say so, then the checkpoint.
//! One batch after the other, so a state is written only after the same key's state before it was acknowledged.

use futures::future::{OptionFuture, try_join};
use plaza_event_log::Producer;
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

use crate::{
    Checkpoint, Machine, Remembered, StateWrite, Timed,
    batch::Work,
    partition::{GivenUp, Partition},
    retry::until_done,
};

/// Until there are no more batches. `written` is the last batch that is written whole.
pub(crate) async fn run<M: Machine>(
    partition: &Partition<M>,
    producer: &dyn Producer,
    mut batches: mpsc::Receiver<Work<M::Row>>,
    written: watch::Sender<u64>,
) -> Result<(), GivenUp> {
    while let Some(work) = batches.recv().await {
        let began = Instant::now();
        if mistake!(StateBeforeRows) {
            write_states(partition, &work.states).await;
        }
        if mistake!(StateBeforeEmissions) {
            write_rows(partition, &work.rows, &work.remembered).await;
            write_states(partition, &work.states).await;
        }
        if mistake!(CheckpointAhead)
            && let Some(checkpoint) = &work.checkpoint
        {
            write_checkpoint(partition, checkpoint.clone()).await;
        }
        let rows = async {
            write_rows(partition, &work.rows, &work.remembered).await;
            if !work.after_rows.is_empty() {
                producer.send(work.after_rows).await?;
            }
            Ok(())
        };
        let emissions = async { OptionFuture::from(work.emitted).await.unwrap_or(Ok(())) };
        try_join(rows, emissions).await.map_err(GivenUp::Log)?;
        write_states(partition, &work.states).await;
        partition.metrics.written(began.elapsed());
        written.send_replace(work.batch);
        partition.when_written.written(work.batch, &partition.deps.replies);
        if let Some(checkpoint) = work.checkpoint {
            write_checkpoint(partition, checkpoint).await;
        }
    }
    Ok(())
}

async fn write_rows<M: Machine>(partition: &Partition<M>, rows: &[Timed<M::Row>], remembered: &[Timed<Remembered>]) {
    if !rows.is_empty() || !remembered.is_empty() {
        let store = &partition.deps.store;
        until_done(&partition.deps.config, "write rows", || store.write_rows(M::NAME, rows, remembered)).await;
    }
}

async fn write_states<M: Machine>(partition: &Partition<M>, states: &[StateWrite]) {
    if !states.is_empty() {
        let store = &partition.deps.store;
        if mistake!(StatesNotAcknowledged) {
            _ = store.write_states(M::NAME, states).await;
            return;
        }
        until_done(&partition.deps.config, "write states", || store.write_states(M::NAME, states)).await;
    }
}

async fn write_checkpoint<M: Machine>(partition: &Partition<M>, checkpoint: Checkpoint) {
    #[cfg(feature = "mistakes")]
    let checkpoint = crate::mistakes::mixed(std::ptr::from_ref(partition).addr(), checkpoint);
    let store = &partition.deps.store;
    until_done(&partition.deps.config, "write checkpoint", || store.write_checkpoint(M::NAME, partition.number, &checkpoint)).await;
}
