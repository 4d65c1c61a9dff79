//! Memory of an idle live stream: growth of the server's proportional set size over many of them, each on a connection of its own.

use std::{path::Path, time::Duration};

use plaza_floor::process::pss_kib;

use crate::{
    measure::Report,
    stream::Stream,
    target::{Caller, Target},
};

const PAIRS: usize = 250;

pub(crate) async fn run(server: &Path, report: &mut Report) -> anyhow::Result<()> {
    let (floor, ours) = (Target::floor().await?, Target::plaza(server).await?);
    let mut floor_callers = Vec::new();
    let mut our_callers = Vec::new();
    for number in 0..PAIRS {
        floor_callers.extend(floor.floor_friends(number)?);
        our_callers.extend(ours.friends(number).await?);
    }
    let settle = Duration::from_secs(5);
    let floor = growth_kib(floor.pid(), &floor_callers, settle).await?;
    let ours = growth_kib(ours.pid(), &our_callers, settle).await?;
    report.ratio("idle Connect stream, memory", "KiB", &[(floor, ours)], 2.0, 1.2);
    Ok(())
}

/// Kibibytes for each stream that is open and idle.
pub(crate) async fn growth_kib(pid: u32, callers: &[Caller], settle: Duration) -> anyhow::Result<f64> {
    let before = pss_kib(pid)?;
    let mut streams = Vec::new();
    for caller in callers {
        streams.push(Stream::open(caller).await?);
    }
    tokio::time::sleep(settle).await;
    Ok((pss_kib(pid)? - before) / streams.len() as f64)
}
