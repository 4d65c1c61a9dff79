//! The generator against a floor's server: the load of a scenario where nothing is decided and nothing but the messages is stored.

use std::{path::PathBuf, sync::Arc};

use crate::{
    api::Identity,
    floor::Server,
    operation::Operation,
    population::{Plan, prepare::Ready},
    report::Report,
    run::{self, Options, Outcome, Stop},
    scenario::{Kind, Phase, Population, Scenario},
};

/// Friends in the mean: nobody is registered, so it costs nothing, and few are enough to write to.
const FRIENDS: f64 = 8.0;
/// Connections for calls beside the live streams, as many as a run has unless it is told otherwise.
pub const CALL_CONNECTIONS: usize = 8;

/// What a floor's server is asked.
#[derive(Debug, Clone)]
pub struct Load {
    /// Each with a live stream, and friends to write to.
    pub people: usize,
    /// Messages a second, each of which the sender and another are shown.
    pub sends: f64,
    /// Other calls a second, which the server answers without doing anything.
    pub calls: f64,
    /// Heartbeats a second.
    pub heartbeats: f64,
    /// For how long, the first fifth to get warm.
    pub seconds: f64,
    /// Bytes of a message's text.
    pub text_bytes: usize,
    /// Connections for calls beside the live streams.
    pub call_connections: usize,
    /// The part of all operations that may fail, 0 to 1.
    pub failed_most: f64,
}

impl Default for Load {
    fn default() -> Self {
        Self {
            people: 200,
            sends: 0.0,
            calls: 0.0,
            heartbeats: 0.0,
            seconds: 6.0,
            text_bytes: 100,
            call_connections: CALL_CONNECTIONS,
            failed_most: 0.0,
        }
    }
}

impl Load {
    /// As a scenario's: the same people are connected, who send as many messages and make as many calls, whatever they ask for.
    #[must_use]
    pub fn like(scenario: &Scenario) -> Self {
        let mut load = Self { text_bytes: scenario.text_bytes, failed_most: scenario.failed_most, ..Self::default() };
        load.people = ((scenario.population.people as f64 * scenario.connected) as usize).max(2);
        for (operation, rate) in scenario.rates() {
            match operation {
                Operation::SendDirect | Operation::SendGroup => load.sends += rate,
                Operation::Heartbeat => load.heartbeats += rate,
                _ => load.calls += rate,
            }
        }
        load
    }
}

/// What the generator sends a floor's server to, in a run that is not shown and not checked.
pub(crate) fn options(server: &Server, load: &Load) -> Options {
    let population = Population { people: load.people, friends_mean: FRIENDS, groups_per_person: 0.0, ..Population::default() };
    let phase = |kind, share| Phase { kind, share, rate: 1.0, reconnect: 0.0 };
    let mix = [(Operation::SendDirect, load.sends), (Operation::ListConversations, load.calls), (Operation::Heartbeat, load.heartbeats)];
    let rate = load.sends + load.calls + load.heartbeats;
    let scenario = Scenario {
        about: "The generator beside a server that only makes each message durable and hands it on".to_owned(),
        rate,
        seconds: load.seconds,
        text_bytes: load.text_bytes,
        connected: 1.0,
        active: 1.0,
        failed_most: load.failed_most,
        population,
        mix: mix.into_iter().filter(|(_, of)| *of > 0.0).map(|(operation, of)| (operation, of / rate)).collect(),
        phases: vec![phase(Kind::WarmUp, 0.2), phase(Kind::Steady, 0.8)],
        ..Scenario::default()
    };
    Options {
        target: server.target.clone(),
        name: "floor".to_owned(),
        scenario,
        population: PathBuf::new(),
        seed: 1,
        call_connections: load.call_connections,
        server_pids: server.pid().into_iter().collect(),
        metrics: Vec::new(),
        shown: false,
        followed: Default::default(),
        check: false,
    }
}

/// Sends it there, and tells what came of it.
///
/// # Errors
/// The streams cannot be opened.
pub async fn run(server: &Server, load: &Load, stop: &Stop) -> anyhow::Result<Report> {
    let options = options(server, load);
    Ok(Report::new(&options, &drive(&options, stop).await?))
}

/// Whoever is named is somebody there, so nobody is prepared.
pub(crate) async fn drive(options: &Options, stop: &Stop) -> anyhow::Result<Outcome> {
    let plan = Plan::new(&options.scenario.population);
    let identity = |person: usize| Identity::named(&format!("p{person}")).map(Arc::new);
    let people = (0..options.scenario.population.people).map(identity).collect::<anyhow::Result<_>>()?;
    let ready = Ready { plan, people, groups: Vec::new(), took: Default::default() };
    run::drive(options, ready, stop, std::future::ready(Ok(()))).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_has_the_rates_and_the_streams_of_its_scenario() {
        let mut scenario = Scenario { rate: 1_000.0, connected: 0.5, ..Scenario::load("chat").expect("built in") };
        scenario.population.people = 300;
        let Load { people, sends, calls, heartbeats, .. } = Load::like(&scenario);
        assert_eq!((people, sends.round(), calls.round(), heartbeats.round()), (150, 650.0, 300.0, 50.0));
    }
}
