//! Several generators in one run, to go past one machine: the coordinator gives each a part of the people and of the rate, starts them together,
//! and merges what they measured. Each generator checks what it sent itself; people of different parts do not know each other.

pub mod generator;
pub mod merge;

mod protocol {
    #![allow(
        missing_docs,
        unreachable_pub,
        clippy::all,
        clippy::allow_attributes,
        clippy::allow_attributes_without_reason,
        reason = "generated code"
    )]
    include!(concat!(env!("OUT_DIR"), "/plaza.load.v1.rs"));
}

use std::{net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use anyhow::{Context, bail, ensure};
use futures::{Stream, StreamExt};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    time::timeout,
};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming, transport::Server};

use self::{
    merge::Part,
    protocol::{
        JoinRequest, JoinResponse, Start, Stop as StopStep, Work,
        coordinator_service_server::{CoordinatorService, CoordinatorServiceServer},
        join_request, join_response,
    },
};
use crate::{
    report::Report,
    run::{Options, Stop},
    scenario::Scenario,
};

/// Histograms of all measures and phases fit into this.
const MESSAGE_BYTES: usize = 256 << 20;
/// A generator that says nothing for so long after the end of its phases is gone.
const SILENT: Duration = Duration::from_secs(600);

/// Where a run with several generators stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    Gathering,
    Running,
    Stopped,
}

/// What a generator's stream tells the coordinator.
enum Told {
    Ready,
    Done(Box<Part>),
    Lost(String),
}

/// The coordinator of one run.
#[derive(Clone)]
struct Coordinator {
    works: Arc<parking_lot::Mutex<Vec<Work>>>,
    state: watch::Receiver<State>,
    told: mpsc::Sender<Told>,
}

/// The part of a scenario that one of several generators has.
#[must_use]
pub fn part(scenario: &Scenario, place: usize, of: usize) -> Scenario {
    let mut part = scenario.clone();
    part.rate /= of as f64;
    let people = &mut part.population;
    people.people = (people.people / of + usize::from(place < people.people % of)).max(2);
    people.hubs /= of;
    people.full_groups = if people.hubs == 0 { 0 } else { people.full_groups / of };
    people.hub_friends = people.hub_friends.min(people.people - 1);
    // Other people, not the same ones twice.
    people.seed = people.seed.wrapping_mul(1_000_003).wrapping_add(place as u64);
    part
}

/// Waits for so many generators, runs the scenario with all of them, and answers with the merged report. `bound` is told the address.
///
/// # Errors
/// A generator failed or went away, or the port is in use.
pub async fn coordinate(
    options: &Options,
    listen: SocketAddr,
    generators: usize,
    stop: &Stop,
    bound: impl FnOnce(SocketAddr),
) -> anyhow::Result<Report> {
    ensure!(generators > 0, "there is no generator");
    let works = (0..generators).rev().map(|place| {
        Ok(Work {
            scenario: serde_json::to_string(&part(&options.scenario, place, generators))?,
            name: options.name.clone(),
            target: options.target.address.clone(),
            place: u32::try_from(place)?,
            seed: options.seed.wrapping_add(place as u64),
            check: options.check,
            owned: !options.target.is_local(),
        })
    });
    let works = works.collect::<anyhow::Result<Vec<_>>>()?;
    let (state, follow) = watch::channel(State::Gathering);
    let (told, mut telling) = mpsc::channel(generators);
    let listener = TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))?;
    bound(listener.local_addr()?);
    let service = CoordinatorServiceServer::new(Coordinator { works: Arc::new(parking_lot::Mutex::new(works)), state: follow, told })
        .max_decoding_message_size(MESSAGE_BYTES);
    let serving = Server::builder().tcp_nodelay(true).add_service(service).serve_with_incoming(TcpListenerStream::new(listener));
    let gathering = async {
        let (mut ready, mut parts) = (0, Vec::new());
        while parts.len() < generators {
            let next = tokio::select! {
                next = telling.recv() => next.context("the service ended")?,
                () = stop.stopped(), if *state.borrow() < State::Stopped => {
                    state.send_replace(State::Stopped);
                    continue;
                }
            };
            match next {
                Told::Ready => {
                    ready += 1;
                    if ready == generators && *state.borrow() == State::Gathering {
                        state.send_replace(State::Running);
                    }
                }
                Told::Done(part) => parts.push(*part),
                Told::Lost(why) => {
                    // The others would drive a part of what was asked for.
                    state.send_replace(State::Stopped);
                    bail!("a generator is lost: {why}");
                }
            }
        }
        Ok(parts)
    };
    tokio::select! {
        served = serving => { served?; bail!("the service ended") }
        parts = gathering => merge::merge(options, parts?),
    }
}

#[tonic::async_trait]
impl CoordinatorService for Coordinator {
    type JoinStream = Pin<Box<dyn Stream<Item = Result<JoinResponse, Status>> + Send>>;

    async fn join(&self, request: Request<Streaming<JoinRequest>>) -> Result<Response<Self::JoinStream>, Status> {
        let work = self.works.lock().pop().ok_or_else(|| Status::resource_exhausted("all generators are there"))?;
        let (answers, queue) = mpsc::channel(4);
        let (this, steps) = (self.clone(), request.into_inner());
        let joined = async move {
            let told = match this.generator(work, steps, answers).await {
                Ok(part) => Told::Done(Box::new(part)),
                Err(error) => Told::Lost(format!("{error:#}")),
            };
            // Nobody listens only when the run is over.
            let _ = this.told.send(told).await;
        };
        #[expect(clippy::disallowed_methods, reason = "its end, whatever it is, is told to the coordinator")]
        tokio::spawn(joined);
        Ok(Response::new(Box::pin(ReceiverStream::new(queue))))
    }
}

type Answers = mpsc::Sender<Result<JoinResponse, Status>>;

impl Coordinator {
    /// One generator from its hello to its result.
    async fn generator(&self, work: Work, mut steps: Streaming<JoinRequest>, answers: Answers) -> anyhow::Result<Part> {
        let mut state = self.state.clone();
        let seconds = serde_json::from_str::<Scenario>(&work.scenario)?.seconds;
        let mut name = format!("generator {}", work.place);
        answer(&answers, join_response::Step::Work(work)).await?;
        let mut told = State::Gathering;
        loop {
            // Preparing takes as long as it takes; after the start there is an end.
            let silent = if told == State::Gathering { Duration::MAX } else { SILENT + Duration::from_secs_f64(seconds) };
            let step = tokio::select! {
                step = timeout(silent, steps.next()) => step.context("it says nothing")?.context("it went away")??.step,
                changed = state.changed(), if told < State::Stopped => {
                    changed?;
                    let now = *state.borrow_and_update();
                    if now > told {
                        told = now;
                        let step = if now == State::Running { join_response::Step::Start(Start {}) } else { join_response::Step::Stop(StopStep {}) };
                        answer(&answers, step).await?;
                    }
                    continue;
                }
            };
            match step {
                Some(join_request::Step::Hello(hello)) if !hello.name.is_empty() => name = hello.name,
                Some(join_request::Step::Ready(_)) => self.told.send(Told::Ready).await.map_err(|_| anyhow::anyhow!("the run is over"))?,
                Some(join_request::Step::Result(result)) => return Part::decode(name, &result),
                Some(join_request::Step::Hello(_)) | None => {}
            }
        }
    }
}

async fn answer(answers: &Answers, step: join_response::Step) -> anyhow::Result<()> {
    answers.send(Ok(JoinResponse { step: Some(step) })).await.map_err(|_| anyhow::anyhow!("it went away"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_together_what_was_asked_for() {
        let mut whole = Scenario::load("fanout").expect("built in");
        whole.population.people = 1_001;
        let parts: Vec<_> = (0..3).map(|place| part(&whole, place, 3)).collect();
        assert!((parts.iter().map(|part| part.rate).sum::<f64>() - whole.rate).abs() < 1e-9);
        assert_eq!(parts.iter().map(|part| part.population.people).sum::<usize>(), 1_001);
        assert!(parts.iter().all(|part| part.problems().is_empty()), "{:?}", parts[0].problems());
        assert_ne!(parts[0].population.seed, parts[1].population.seed);
    }
}
