//! One client, one send at a time, answer awaited: the floor is a bare unary call and one group commit of the same bytes.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use plaza_proto::chat::v1::chat_service_client::ChatServiceClient;

use crate::{
    measure::{Report, histogram, percentile_ms, record},
    stream::message,
    target::{Caller, Target},
};

const ROUNDS: usize = 7;
const SENDS: usize = 400;

pub(crate) async fn run(server: &Path, report: &mut Report) -> anyhow::Result<()> {
    let (floor, ours) = (Target::floor().await?, Target::plaza(server).await?);
    let [floor_caller, _] = floor.floor_friends(0)?;
    let [our_caller, _] = ours.friends(0).await?;
    for caller in [&floor_caller, &our_caller] {
        round(caller, SENDS, Duration::ZERO).await?;
    }
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        rounds.push((round(&floor_caller, SENDS, Duration::ZERO).await?, round(&our_caller, SENDS, Duration::ZERO).await?));
    }
    report.ratio("SendMessage ack, 1 client, p50", "ms", &rounds, 2.0, 1.3);
    Ok(())
}

/// The median of sends one after the other, with a pause after each, milliseconds.
pub(crate) async fn round(caller: &Caller, sends: usize, pause: Duration) -> anyhow::Result<f64> {
    let caller = caller.clone();
    let round = async move {
        let mut client = ChatServiceClient::new(caller.channel.clone());
        let mut took = histogram();
        for _ in 0..sends {
            let request = caller.request(message(&caller.peer));
            let started = Instant::now();
            client.send_message(request).await?;
            record(&mut took, started.elapsed());
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
        }
        Ok(percentile_ms(&took, 50.0))
    };
    on_a_worker(round).await
}

/// Runs what waits for one answer after the other as a task: `main` would be woken on a thread of its own for each, after the one that read it.
#[expect(clippy::disallowed_methods, reason = "it is awaited")]
pub(crate) async fn on_a_worker<T: Send + 'static>(task: impl Future<Output = anyhow::Result<T>> + Send + 'static) -> anyhow::Result<T> {
    tokio::spawn(task).await?
}
