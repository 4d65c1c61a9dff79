//! Unary calls that the gateway forwards to another process, beside those to a bare echo: CPU of the process that clients are connected to. Once as
//! many a second as to the echo, few enough that each is alone; once with each caller's next call right after an answer, and the echo is called as
//! often as that came to.

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
    measure::{Report, median},
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
    for (name, pace) in [("gateway CPU per proxied call", Some(EVERY)), ("gateway CPU per proxied call, back to back", None)] {
        let (mut rounds, mut rates) = (Vec::new(), Vec::new());
        // The first is to get warm.
        for round in 0..=ROUNDS {
            let ours = calls(gateway, &ours, pace).await?;
            let pace = pace.unwrap_or(Duration::from_secs_f64(PAIRS as f64 / ours.rate));
            let floor = calls(floor.pid(), &floors, Some(pace)).await?;
            if round > 0 {
                rounds.push((floor.cpu, ours.cpu));
                rates.push(ours.rate);
            }
        }
        report.ratio(name, "us", &rounds, 1.6, 1.2);
        report.note(&format!("{name}: calls a second"), median(rates.into_iter()));
    }
    Ok(())
}

struct Round {
    /// Microseconds of the process for each call.
    cpu: f64,
    /// Calls a second.
    rate: f64,
}

/// Calls for a while, each caller at this pace or as fast as it is answered.
async fn calls(pid: u32, callers: &[(Caller, String)], every: Option<Duration>) -> anyhow::Result<Round> {
    let calls = &AtomicU64::new(0);
    let (cpu, begin) = (cpu_seconds(pid)?, Instant::now());
    let each = callers.iter().enumerate().map(|(place, (caller, conversation))| async move {
        // Evenly spread: the same number at once, whoever answers.
        let mut ticks = every.map(|every| interval_at((begin + every * place as u32 / PAIRS as u32).into(), every));
        let mut client = ChatServiceClient::new(caller.channel.clone());
        while begin.elapsed() < TIME {
            if let Some(ticks) = &mut ticks {
                ticks.tick().await;
            }
            let request = caller.request(GetConversationRequest { conversation_id: conversation.clone() });
            client.get_conversation(request).await?;
            calls.fetch_add(1, Ordering::Relaxed);
        }
        anyhow::Ok(())
    });
    try_join_all(each).await?;
    sleep_until((begin + TIME).into()).await;
    let calls = calls.load(Ordering::Relaxed) as f64;
    Ok(Round { cpu: (cpu_seconds(pid)? - cpu) * 1e6 / calls, rate: calls / begin.elapsed().as_secs_f64() })
}
