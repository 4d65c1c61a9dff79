//! The same work as other open messengers were measured with: A, one pair and one message at a time; B, 64 pairs with 8 sends in flight each;
//! D, memory of idle signed-in streams; C, a group, is in [`crate::groups`]. Texts are of 100 bytes, and every message is checked for one
//! acknowledgement and one delivery.

use std::{path::Path, time::Duration, time::Instant};

use anyhow::Context;
use tokio::time::timeout;

use crate::{
    measure::{Report, histogram, percentile_ms, record},
    memory::growth_kib,
    stream::{Seen, Stream},
    target::Target,
    throughput::drive,
};

/// A: 2,000 messages after 100 to warm up; the next when acknowledgement and delivery of the last are in.
pub(crate) async fn a(server: &Path, report: &mut Report) -> anyhow::Result<()> {
    let ours = Target::plaza(server).await?;
    let [one, other] = ours.friends(0).await?;
    let (mut one, mut other) = (Stream::open(&one).await?, Stream::open(&other).await?);
    let (mut acks, mut deliveries) = (histogram(), histogram());
    for number in 0..2_100 {
        let started = Instant::now();
        one.send().await?;
        let (mut ack, mut own, mut delivery) = (None, false, None);
        while ack.is_none() || delivery.is_none() || !own {
            let step = async {
                tokio::select! {
                    answer = one.next(), if ack.is_none() || !own => match answer? {
                        Seen::Sent => ack = Some(started.elapsed()),
                        Seen::Message => own = true,
                        Seen::Other => {}
                    },
                    answer = other.next(), if delivery.is_none() => if let Seen::Message = answer? { delivery = Some(started.elapsed()) },
                }
                anyhow::Ok(())
            };
            timeout(Duration::from_secs(10), step).await.context("an answer is missing")??;
        }
        if number >= 100 {
            record(&mut acks, ack.unwrap_or_default());
            record(&mut deliveries, delivery.unwrap_or_default());
        }
    }
    report.note("peers A: ack p50, ms", percentile_ms(&acks, 50.0));
    report.note("peers A: ack p99, ms", percentile_ms(&acks, 99.0));
    report.note("peers A: delivery p50, ms", percentile_ms(&deliveries, 50.0));
    report.note("peers A: delivery p99, ms", percentile_ms(&deliveries, 99.0));
    Ok(())
}

/// B: 64 pairs, 512 sends in flight in all, 20 s.
pub(crate) async fn b(server: &Path, report: &mut Report) -> anyhow::Result<()> {
    let ours = Target::plaza(server).await?;
    let mut pairs = Vec::new();
    for number in 0..64 {
        pairs.push(ours.friends(number).await?);
    }
    let driven = drive(&[ours.pid()], &pairs, Duration::from_secs(20)).await?;
    report.note("peers B: acked and delivered, messages/s", driven.per_second);
    report.note("peers B: server CPU per message, ms", driven.cpu_ms);
    Ok(())
}

/// D: 2,000 accounts signed in and streaming, growth after 60 s.
pub(crate) async fn d(server: &Path, report: &mut Report) -> anyhow::Result<()> {
    let ours = Target::plaza(server).await?;
    let mut callers = Vec::new();
    for number in 0..1_000 {
        callers.extend(ours.friends(number).await?);
    }
    report.note("peers D: memory per idle stream, KiB", growth_kib(ours.pid(), &callers, Duration::from_secs(60)).await?);
    Ok(())
}
