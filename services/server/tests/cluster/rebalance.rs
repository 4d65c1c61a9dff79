//! Devices are where their inboxes are decided soon after another instance of chat got these, and after it is gone.

use std::{path::Path, time::Duration};

use anyhow::{Context, ensure};
use plaza_client::{Account, Endpoint, Live, LiveEvent};
use plaza_testkit::{
    cluster::{Cluster, Plan},
    external,
    people::{SOON, newcomer},
    wait::wait_for,
};
use plaza_types::{UserId, partition};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::{BINARY, PARTITIONS, remove};

const SECOND: &str = "chat2";
/// It is a second where a machine has nothing else to do.
const FOLLOWED: Duration = Duration::from_secs(4);
/// Two rounds of the group, for which a member is waited for.
const REBALANCED: Duration = Duration::from_secs(60);

/// The inboxes' partitions that an instance of chat has, and the devices that are attached there. Nothing where there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Has {
    partitions: i64,
    devices: i64,
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_follow_their_inboxes_to_an_instance_that_comes_and_back_when_it_goes() -> anyhow::Result<()> {
    let Some((kafka, cql)) = external::kafka().zip(external::cql()) else { return Ok(()) };
    let prefix = format!("t{:07x}", rand::random::<u32>() >> 4);
    let plan = Plan {
        binary: Path::new(BINARY),
        kafka: &kafka,
        cql: &cql,
        prefix: &prefix,
        partitions: PARTITIONS,
        instances: &[("accounts", 1), ("graph", 1), ("chat", 2), ("gateway", 1)],
        later: &[SECOND],
        settings: "",
    };
    let mut cluster = Cluster::start(&plan).await?;
    if let Err(error) = come_and_go(&mut cluster).await {
        return Err(error.context(cluster.logs()));
    }
    cluster.stop_all().await?;
    remove(&kafka, &cql, &prefix).await
}

async fn come_and_go(cluster: &mut Cluster) -> anyhow::Result<()> {
    let all = i64::from(PARTITIONS);
    let _live = one_in_each_partition(&Endpoint::new(&cluster.address()?)?).await?;
    followed(cluster, [all, 0]).await?;
    cluster.launch(SECOND)?;
    cluster.is_up(SECOND).await?;
    followed(cluster, [all / 2, all / 2]).await?;
    cluster.stop(SECOND).await?;
    followed(cluster, [all, 0]).await
}

/// Devices that are connected, of people whose inboxes are all in different partitions.
async fn one_in_each_partition(endpoint: &Endpoint) -> anyhow::Result<Vec<Live>> {
    let mut people: Vec<Option<Account>> = (0..PARTITIONS).map(|_| None).collect();
    while people.iter().any(Option::is_none) {
        let somebody = newcomer(endpoint, "ada").await?;
        let user: UserId = somebody.user_id().parse().context("a user's id")?;
        people[partition::of(user.as_bytes(), PARTITIONS) as usize] = Some(somebody);
    }
    let mut connected = Vec::new();
    for somebody in people.into_iter().flatten() {
        let mut live = somebody.live(0);
        let first = timeout(SOON, live.next()).await?.context("the stream ended")??;
        ensure!(matches!(first, LiveEvent::Welcome { .. }), "{first:?}");
        connected.push(live);
    }
    Ok(connected)
}

/// Waits until the instances have so many partitions; then the devices must be there, too.
async fn followed(cluster: &Cluster, partitions: [i64; 2]) -> anyhow::Result<()> {
    let mut ports = cluster.admin_ports("chat");
    ports.resize(2, 0);
    let ports = &ports;
    wait_for("the partitions", REBALANCED, || so_many(ports, partitions, |has| has.partitions)).await?;
    wait_for("the devices", FOLLOWED, || so_many(ports, partitions, |has| has.devices)).await
}

async fn so_many(ports: &[u16], wanted: [i64; 2], of: fn(Has) -> i64) -> Result<(), [Has; 2]> {
    let has = [look(ports[0]).await.unwrap_or_default(), look(ports[1]).await.unwrap_or_default()];
    if has.map(of) == wanted { Ok(()) } else { Err(has) }
}

/// What the metrics of an instance say.
async fn look(port: u16) -> anyhow::Result<Has> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await?;
    let mut text = String::new();
    timeout(SOON, stream.read_to_string(&mut text)).await??;
    let sum = |name: &str, labels: [&str; 2]| {
        let lines = text.lines().filter(|line| line.starts_with(name) && labels.iter().all(|label| line.contains(label)));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>() as i64
    };
    let moved = |change| sum("plaza_kafka_assignments", ["group=\"inbox\"", change]);
    let partitions = moved("change=\"assigned\"") - moved("change=\"revoked\"");
    Ok(Has { partitions, devices: sum("plaza_chat_live_sessions", ["", ""]) })
}
