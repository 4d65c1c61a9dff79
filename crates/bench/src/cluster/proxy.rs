//! Unary calls that the gateway forwards to another process, as many a second as to a bare echo: CPU of the process that clients are connected to.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use futures::future::try_join_all;
use plaza_floor::process::cpu_seconds;
use plaza_proto::chat::v1::{GetConversationRequest, chat_service_client::ChatServiceClient};
use tokio::time::{interval_at, sleep_until};

use super::Bench;
use crate::{
    measure::Report,
    stream::message,
    target::{Caller, Target},
};

const ROUNDS: usize = 7;
const TIME: Duration = Duration::from_secs(4);
const PAIRS: usize = 64;
/// Each of the pairs calls so often: 2,000 a second together.
const EVERY: Duration = Duration::from_millis(32);

pub(super) async fn run(bench: &mut Bench, report: &mut Report) -> anyhow::Result<()> {
    let (floor, gateway) = (Target::floor().await?, bench.ours.pids(Some("gateway"))[0]);
    let (mut floors, mut ours) = (Vec::new(), Vec::new());
    for (number, [caller, _]) in bench.friends(PAIRS).await?.into_iter().enumerate() {
        let sent = ChatServiceClient::new(caller.channel.clone()).send_message(caller.request(message(&caller.peer))).await?;
        let conversation = sent.into_inner().conversation_id;
        let [one, _] = floor.floor_friends(number)?;
        floors.push((one, conversation.clone()));
        ours.push((caller, conversation));
    }
    for (pid, callers) in [(floor.pid(), &floors), (gateway, &ours)] {
        calls(pid, callers).await?;
    }
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        rounds.push((calls(floor.pid(), &floors).await?, calls(gateway, &ours).await?));
    }
    report.ratio("gateway CPU per proxied call", "us", &rounds, 1.6, 1.2);
    Ok(())
}

/// CPU microseconds of a process for each call.
async fn calls(pid: u32, callers: &[(Caller, String)]) -> anyhow::Result<f64> {
    let calls = &AtomicU64::new(0);
    let (cpu, begin) = (cpu_seconds(pid)?, Instant::now());
    let each = callers.iter().enumerate().map(|(place, (caller, conversation))| async move {
        // Evenly spread: the same number at once, whoever answers.
        let mut ticks = interval_at((begin + EVERY * place as u32 / PAIRS as u32).into(), EVERY);
        let mut client = ChatServiceClient::new(caller.channel.clone());
        while begin.elapsed() < TIME {
            ticks.tick().await;
            let request = caller.request(GetConversationRequest { conversation_id: conversation.clone() });
            client.get_conversation(request).await?;
            calls.fetch_add(1, Ordering::Relaxed);
        }
        anyhow::Ok(())
    });
    try_join_all(each).await?;
    sleep_until((begin + TIME).into()).await;
    Ok((cpu_seconds(pid)? - cpu) * 1e6 / calls.load(Ordering::Relaxed) as f64)
}
