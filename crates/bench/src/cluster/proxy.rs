//! Unary calls that the gateway forwards to another process: CPU of the gateway, which is the server of one call and the client of another, beside
//! that of both ends of a bare echo, and of its server alone. Once as many a second as echoes, few enough that each is alone; once with each caller's
//! next call right after an answer, and as many echoes a second as that came to.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use futures::future::{join_all, try_join_all};
use plaza_floor::process::cpu_seconds;
use plaza_proto::chat::v1::{GetConversationRequest, chat_service_client::ChatServiceClient};
use tokio::time::{Interval, interval_at, sleep_until};

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
        let (mut rounds, mut of_load) = (Vec::new(), 0.0);
        // The first is to get warm.
        for round in 0..=ROUNDS {
            let ours = calls(gateway, &ours, pace).await?;
            let pace = pace.unwrap_or(Duration::from_secs_f64(PAIRS as f64 / ours.rate));
            let mut floor = calls(floor.pid(), &floors, Some(pace)).await?;
            if round == 0 {
                of_load = ticking(pace).await?;
            } else {
                floor.own -= of_load;
                rounds.push((floor, ours));
            }
        }
        let both_ends: Vec<(f64, f64)> = rounds.iter().map(|(floor, ours)| (floor.cpu + floor.own, ours.cpu)).collect();
        report.ratio(name, "us", &both_ends, 1.6, 1.2);
        let median_of = |figure: fn(&(Round, Round)) -> f64| median(rounds.iter().map(figure));
        report.note(&format!("{name}: the echo's server alone, us"), median_of(|(floor, _)| floor.cpu));
        report.note(&format!("{name}: ours beside that"), median_of(|(floor, ours)| ours.cpu / floor.cpu));
        report.note(&format!("{name}: calls a second"), median_of(|(_, ours)| ours.rate));
    }
    Ok(())
}

struct Round {
    /// Microseconds of the process that is called, for each call.
    cpu: f64,
    /// The same of this process, which calls.
    own: f64,
    /// Calls a second.
    rate: f64,
}

/// Calls for a while, each caller at this pace or as fast as it is answered.
async fn calls(pid: u32, callers: &[(Caller, String)], every: Option<Duration>) -> anyhow::Result<Round> {
    let calls = &AtomicU64::new(0);
    let spent = || anyhow::Ok([cpu_seconds(pid)?, cpu_seconds(std::process::id())?]);
    let (before, begin) = (spent()?, Instant::now());
    let each = callers.iter().enumerate().map(|(place, (caller, conversation))| async move {
        let mut ticks = every.map(|every| ticks(begin, place, every));
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
    let (calls, after) = (calls.load(Ordering::Relaxed) as f64, spent()?);
    let [cpu, own] = [0, 1].map(|end| (after[end] - before[end]) * 1e6 / calls);
    Ok(Round { cpu, own, rate: calls / begin.elapsed().as_secs_f64() })
}

/// Evenly spread over the callers: the same number at once, whoever answers.
fn ticks(begin: Instant, place: usize, every: Duration) -> Interval {
    interval_at((begin + every * place as u32 / PAIRS as u32).into(), every)
}

/// Microseconds that it takes to know when a call is due.
async fn ticking(every: Duration) -> anyhow::Result<f64> {
    let (before, begin) = (cpu_seconds(std::process::id())?, Instant::now());
    let each = (0..PAIRS).map(|place| async move {
        let (mut ticks, mut count) = (ticks(begin, place, every), 0_u64);
        while begin.elapsed() < TIME {
            ticks.tick().await;
            count += 1;
        }
        count
    });
    let count: u64 = join_all(each).await.into_iter().sum();
    Ok((cpu_seconds(std::process::id())? - before) * 1e6 / count as f64)
}
