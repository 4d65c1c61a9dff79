//! 64 pairs on open streams: CPU of all our processes for each message that was acknowledged and delivered to both, and what a second chat process
//! changes about it. How many rows a message is, is counted at ours, and the floor writes as many.

use std::time::Duration;

use anyhow::Context;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{Bench, PAIRS, calm, share::Share};
use crate::{
    measure::{Report, median},
    target::Caller,
    throughput::{Driven, drive_until},
};

const ROUNDS: usize = 3;
const TIME: Duration = Duration::from_secs(6);
const WARM: Duration = Duration::from_secs(3);
/// Everything is written when nothing was for so many looks: for longer than until the next checkpoint.
const QUIET: u32 = 6;
const LOOK: Duration = Duration::from_millis(250);
/// What each process of chat may use where a second one is measured. With much more of two cores there is no room left for the servers and the load;
/// with less, what a process does when nothing is asked of it counts for more.
const CORES: f64 = 0.3;
const SERVICES: [&str; 4] = ["gateway", "chat", "graph", "accounts"];

/// A drive of ours.
struct Drive {
    all: Driven,
    /// CPU milliseconds for each message, by service.
    of: [f64; 4],
    /// Rows written for each message.
    rows: f64,
}

/// One process of each service, beside one produce, two consumes and the rows.
pub(super) async fn one(bench: &mut Bench, report: &mut Report) -> anyhow::Result<()> {
    let pairs = bench.friends(PAIRS).await?;
    calm(&pairs).await?;
    let mut last = drive_ours(bench, &pairs, WARM).await?;
    bench.raw.drive(WARM, last.rows).await?;
    let (mut rounds, mut drives) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let floor = bench.raw.drive(TIME, last.rows).await?;
        last = drive_ours(bench, &pairs, TIME).await?;
        rounds.push((floor, last.all.cpu_ms));
        drives.push((last.all.per_second, last.rows, last.of));
    }
    report.ratio("CPU of all processes per message, 64 senders", "ms", &rounds, 2.5, 1.5);
    report.note("messages/s, one process of each service", median(drives.iter().map(|drive| drive.0)));
    report.note("rows written per message", median(drives.iter().map(|drive| drive.1)));
    for (place, service) in SERVICES.into_iter().enumerate() {
        report.note(&format!("CPU per message of {service}, ms"), median(drives.iter().map(|drive| drive.2[place])));
    }
    Ok(())
}

/// With one and with two processes of chat, by turns, each with a part of a core.
pub(super) async fn two(bench: &mut Bench, report: &mut Report) -> anyhow::Result<()> {
    let pairs = bench.friends(PAIRS).await?;
    let share = |bench: &Bench, place: usize| Share::of(bench.ours.pids(Some("chat"))[place], CORES);
    let _first = match share(bench, 0) {
        Ok(first) => first,
        Err(error) => {
            println!("two chat processes against one: NOT MEASURED, {error:#}");
            return Ok(());
        }
    };
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        calm(&pairs).await?;
        drive_ours(bench, &pairs, WARM).await?;
        let one = drive_ours(bench, &pairs, TIME).await?;
        bench.join("chat2", &pairs).await?;
        let second = share(bench, 1)?;
        drive_ours(bench, &pairs, WARM).await?;
        let two = drive_ours(bench, &pairs, TIME).await?;
        drop(second);
        bench.ours.stop("chat2").await?;
        rounds.push((one, two));
    }
    let median_of = |figure: fn(&(Drive, Drive)) -> f64| median(rounds.iter().map(figure));
    report.note("two chat processes against one, throughput (reach 1.7)", median_of(|(one, two)| two.all.per_second / one.all.per_second));
    report.note("cores for each chat process", CORES);
    report.note("one chat process, messages/s", median_of(|(one, _)| one.all.per_second));
    report.note("two chat processes, messages/s", median_of(|(_, two)| two.all.per_second));
    report.note("one chat process, CPU of chat per message, ms", median_of(|(one, _)| one.of[1]));
    report.note("two chat processes, CPU of chat per message, ms", median_of(|(_, two)| two.of[1]));
    Ok(())
}

async fn drive_ours(bench: &Bench, pairs: &[[Caller; 2]], time: Duration) -> anyhow::Result<Drive> {
    let pids = SERVICES.map(|service| bench.ours.pids(Some(service)));
    let before = rows_written(bench).await?;
    let all = drive_until(&pids.concat(), pairs, time, async || rows_are_written(bench).await).await?;
    let rows = (rows_written(bench).await? - before) / all.messages;
    let mut each = all.cpu_ms_of.iter();
    let of = pids.map(|pids| each.by_ref().take(pids.len()).sum());
    Ok(Drive { all, of, rows })
}

/// Waits until no row was written for a while: they are written after their messages were told.
async fn rows_are_written(bench: &Bench) -> anyhow::Result<()> {
    let (mut before, mut unchanged) = (rows_written(bench).await?, 0);
    while unchanged < QUIET {
        tokio::time::sleep(LOOK).await;
        let now = rows_written(bench).await?;
        unchanged = if now == before { unchanged + 1 } else { 0 };
        before = now;
    }
    Ok(())
}

/// What chat's processes have written so far, by their own metrics.
async fn rows_written(bench: &Bench) -> anyhow::Result<f64> {
    let mut rows = 0.0;
    for port in bench.ours.admin_ports("chat") {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        let of =
            text.lines().filter(|line| line.starts_with("plaza_cql_request_duration_seconds_count{") && line.contains("kind=\"write\""));
        let counts: Vec<f64> = of.filter_map(|line| line.rsplit(' ').next()?.parse().ok()).collect();
        rows += counts.iter().sum::<f64>();
    }
    (rows > 0.0).then_some(rows).context("chat's metrics tell of no rows")
}
