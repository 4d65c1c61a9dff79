//! `kill -9` with many messages in the log: the time from the start of the process to the first acknowledgement.

use std::{path::Path, time::Duration, time::Instant};

use plaza_proto::chat::v1::chat_service_client::ChatServiceClient;

use crate::{measure::Report, stream::message, target::Target, throughput::drive};

pub(crate) async fn run(server: &Path, messages: u64, report: &mut Report) -> anyhow::Result<()> {
    let mut ours = Target::plaza(server).await?;
    let mut pairs = Vec::new();
    for number in 0..64 {
        pairs.push(ours.friends(number).await?);
    }
    let mut sent = 0.0;
    while sent < messages as f64 {
        let time = Duration::from_secs(10);
        sent += drive(&[ours.pid()], &pairs, time).await?.per_second * time.as_secs_f64();
    }
    let started = Instant::now();
    ours.server.kill()?;
    ours.server.restart().await?;
    let caller = &pairs[0][0];
    let mut client = ChatServiceClient::new(ours.channel()?);
    while client.send_message(caller.request(message(&caller.peer))).await.is_err() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    report.note("restart: messages before the kill", sent);
    report.note("restart after kill -9: first ack, s", started.elapsed().as_secs_f64());
    Ok(())
}
