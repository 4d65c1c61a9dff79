//! What the generator itself can do on this machine: it drives a floor's server, which does almost nothing, and looks at its own CPU and memory.
//! A server whose figures come near these is no longer what is measured.

use std::{path::Path, sync::Arc};

use crate::{
    api::Identity,
    floor::Server,
    operation::Operation,
    population::{Plan, prepare::Ready},
    report::Report,
    run::{self, Options, Stop},
    scenario::{Kind, Phase, Population, Scenario},
};

/// Friends in the mean: nobody is registered, so it costs nothing, and few are enough to write to.
const FRIENDS: f64 = 8.0;

/// Holds so many connections and sends at so high a rate for so long, to a floor's server with its data in `folder`.
///
/// # Errors
/// The server does not start, or the streams cannot be opened.
pub async fn calibrate(program: &Path, folder: &Path, connections: usize, rate: f64, seconds: f64, stop: &Stop) -> anyhow::Result<Report> {
    run::raise_limits();
    std::fs::create_dir_all(folder)?;
    let server = Server::start(program, folder).await?;
    let population = Population { people: connections, friends_mean: FRIENDS, groups_per_person: 0.0, ..Population::default() };
    let plan = Plan::new(&population);
    let people = (0..connections).map(|person| Identity::named(&format!("p{person}")).map(Arc::new)).collect::<anyhow::Result<_>>()?;
    let phase = |kind, share| Phase { kind, share, rate: 1.0, reconnect: 0.0 };
    let scenario = Scenario {
        about: "The generator beside a server that only makes each message durable and hands it on".to_owned(),
        rate,
        seconds,
        text_bytes: 100,
        connected: 1.0,
        active: 1.0,
        population,
        mix: [(Operation::SendDirect, 1.0)].into(),
        phases: vec![phase(Kind::WarmUp, 0.2), phase(Kind::Steady, 0.8)],
        ..Scenario::default()
    };
    let options = Options {
        target: server.target.clone(),
        name: "calibrate".to_owned(),
        scenario,
        population: folder.join("nobody"),
        seed: 1,
        call_connections: 4,
        server_pids: server.pid().into_iter().collect(),
        metrics: Vec::new(),
        shown: true,
        followed: Default::default(),
        check: false,
    };
    let ready = Ready { plan, people, groups: Vec::new(), took: Default::default() };
    let outcome = run::drive(&options, ready, stop, std::future::ready(Ok(()))).await?;
    Ok(Report::new(&options, &outcome))
}
