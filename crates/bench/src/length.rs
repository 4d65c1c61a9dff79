//! What a send costs while its conversation grows to a hundred times its length: it must stay the same.

use std::{path::Path, time::Duration};

use crate::{
    measure::Report,
    target::{Caller, Target},
    throughput::drive,
};

/// Messages in the conversation.
const LENGTHS: [u64; 3] = [1_000, 10_000, 100_000];
const MEASURED: Duration = Duration::from_secs(3);

pub(crate) async fn run(server: &Path, report: &mut Report) -> anyhow::Result<()> {
    let ours = Target::plaza_without_rates(server).await?;
    let pair = [ours.friends(0).await?];
    let mut length = 0;
    for wanted in LENGTHS {
        while length < wanted {
            length += sent(&ours, &pair, Duration::from_millis(500)).await?.0;
        }
        let (sent, cpu_ms) = sent(&ours, &pair, MEASURED).await?;
        report.note(&format!("CPU per message, conversation of {wanted} or more, ms"), cpu_ms);
        length += sent;
    }
    report.note("messages in the conversation at the end", length as f64);
    Ok(())
}

/// How many messages were sent in a while, and the CPU time of each.
async fn sent(ours: &Target, pair: &[[Caller; 2]], time: Duration) -> anyhow::Result<(u64, f64)> {
    let driven = drive(&[ours.pid()], pair, time).await?;
    Ok(((driven.per_second * time.as_secs_f64()) as u64, driven.cpu_ms))
}
