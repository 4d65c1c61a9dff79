//! A page of 100 inbox entries: the floor reads as many raw rows of the same size from the same store and answers with the same bytes.

use std::{path::Path, time::Instant};

use anyhow::ensure;
use plaza_floor::PAGE;
use plaza_proto::chat::v1::{SyncRequest, chat_service_client::ChatServiceClient};

use crate::{
    measure::{Report, histogram, percentile_ms, record},
    stream::message,
    target::{Caller, Target},
};

const ROUNDS: usize = 7;
const CALLS: usize = 300;

pub(crate) async fn run(server: &Path, report: &mut Report) -> anyhow::Result<()> {
    let (floor, ours) = (Target::floor().await?, Target::plaza(server).await?);
    let [floor_caller, _] = floor.floor_friends(0)?;
    let [our_caller, _] = ours.friends(0).await?;
    let mut client = ChatServiceClient::new(our_caller.channel.clone());
    for _ in 0..PAGE + 20 {
        client.send_message(our_caller.request(message(&our_caller.peer))).await?;
    }
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        rounds.push((round(&floor_caller).await?, round(&our_caller).await?));
    }
    report.ratio("Sync page of 100 entries, p50", "ms", &rounds, 2.5, 1.5);
    Ok(())
}

async fn round(caller: &Caller) -> anyhow::Result<f64> {
    let mut client = ChatServiceClient::new(caller.channel.clone());
    let mut took = histogram();
    for _ in 0..CALLS {
        // From 10 on every entry of ours is a message, as all of the floor's are.
        let request = caller.request(SyncRequest { cursor: 10, page_size: PAGE as u32 });
        let started = Instant::now();
        let page = client.sync(request).await?.into_inner();
        record(&mut took, started.elapsed());
        ensure!(page.entries.len() as u64 == PAGE, "{} entries", page.entries.len());
    }
    Ok(percentile_ms(&took, 50.0))
}
