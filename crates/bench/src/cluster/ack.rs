//! One client, one send at a time, answer awaited: the floor is one record, produced with `acks=all` and consumed.

use super::Bench;
use crate::{latency, measure::Report};

const ROUNDS: usize = 7;
const SENDS: usize = 200;

pub(super) async fn run(bench: &mut Bench, report: &mut Report) -> anyhow::Result<()> {
    let pairs = bench.friends(1).await?;
    let caller = &pairs[0][0];
    bench.raw.ack(SENDS).await?;
    latency::round(caller, SENDS).await?;
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        rounds.push((bench.raw.ack(SENDS).await?, latency::round(caller, SENDS).await?));
    }
    report.ratio("SendMessage ack on a cluster, 1 client, p50", "ms", &rounds, 2.0, 1.3);
    Ok(())
}
