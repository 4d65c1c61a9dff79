//! People in the numbers that fan-out needs, made through the public API. The server is started without rates, because one person accepts
//! hundreds of requests at once here; everything else is as by default.

use std::time::Duration;

use anyhow::Context;
use futures::{StreamExt, TryStreamExt, stream};
use plaza_client::{Account, Device, Endpoint, graph, new_id};
use plaza_testkit::wait::wait_for;

use crate::target::{PASSWORD, Target};

/// Calls under way at once.
const AT_ONCE: usize = 16;
const SOON: Duration = Duration::from_secs(20);

/// Registers people named after a group of them and a number.
pub(crate) async fn register(target: &Target, name: &str, count: usize) -> anyhow::Result<Vec<Account>> {
    let endpoint = Endpoint::new(&target.server.address())?;
    let one = |number: usize| {
        let endpoint = endpoint.clone();
        async move { Account::register(&endpoint, &format!("{name}_{number:05}"), PASSWORD, name, &Device::new("bench", "bench")).await }
    };
    Ok(stream::iter(0..count).map(one).buffered(AT_ONCE).try_collect().await?)
}

/// Makes everybody a friend of one.
pub(crate) async fn befriend_all(hub: &Account, friends: &[Account]) -> anyhow::Result<()> {
    stream::iter(friends).map(|friend| befriend(hub, friend)).buffer_unordered(AT_ONCE).try_collect().await
}

/// Makes everybody a friend of everybody else.
pub(crate) async fn befriend_each_other(people: &[Account]) -> anyhow::Result<()> {
    for (place, person) in people.iter().enumerate() {
        befriend_all(person, &people[place + 1..]).await?;
    }
    Ok(())
}

async fn befriend(accepter: &Account, asker: &Account) -> anyhow::Result<()> {
    let ask =
        graph::SendFriendRequestRequest { user_id: accepter.user_id().into(), note: String::new(), source: None, request_id: new_id() };
    asker.services().await?.graph.send_friend_request(ask).await.context("asking")?;
    // The request travels through the log to the other side.
    wait_for("the request arrives and is accepted", SOON, || async {
        let accept = graph::AcceptFriendRequestRequest { user_id: asker.user_id().into(), request_id: new_id() };
        let services = accepter.services().await.map_err(|error| error.to_string());
        services?.graph.accept_friend_request(accept).await.map(drop).map_err(|status| status.to_string())
    })
    .await
}
