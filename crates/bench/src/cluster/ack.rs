//! One client, one send at a time, answer awaited: the floor is what a record takes until it is acknowledged (`acks=all`) and what one takes until
//! it is consumed, together, and beside it what one takes until it is both, which is less, since one does not wait for the other. What
//! follows from a send goes on after its answer, and the servers' share of it takes most of a small machine; so there is a pause before the next
//! one, and sends without a pause, which wait for cores as much as for answers, are told beside it.

use std::time::Duration;

use super::{Bench, raw::Acks};
use crate::{
    latency,
    measure::{Report, median},
};

const ROUNDS: usize = 7;
const SENDS: usize = 150;
const PAUSE: Duration = Duration::from_millis(10);

pub(super) async fn run(bench: &mut Bench, report: &mut Report) -> anyhow::Result<()> {
    let pairs = bench.friends(1).await?;
    let caller = &pairs[0][0];
    let rounds = async |pause| {
        bench.raw.ack(SENDS, pause).await?;
        latency::round(caller, SENDS, pause).await?;
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            rounds.push((bench.raw.ack(SENDS, pause).await?, latency::round(caller, SENDS, pause).await?));
        }
        anyhow::Ok(rounds)
    };
    let with_pauses = rounds(PAUSE).await?;
    let sums: Vec<(f64, f64)> = with_pauses.iter().map(|(floor, ours)| (floor.acknowledged + floor.consumed, *ours)).collect();
    report.ratio("SendMessage ack on a cluster, 1 client, p50", "ms", &sums, 2.0, 1.3);
    let both = |rounds: &[(Acks, f64)]| median(rounds.iter().map(|(floor, _)| floor.both));
    report.note("SendMessage ack on a cluster: until a record is both acknowledged and consumed, ms", both(&with_pauses));
    report.note("SendMessage ack on a cluster: ours beside that", median(with_pauses.iter().map(|(floor, ours)| ours / floor.both)));
    let at_once = rounds(Duration::ZERO).await?;
    report.note("without a pause between sends, ms", median(at_once.iter().map(|(_, ours)| *ours)));
    report.note("without a pause between sends, until a record is both, ms", both(&at_once));
    Ok(())
}
