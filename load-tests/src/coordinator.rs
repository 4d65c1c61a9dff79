//! Several generators in one run, to go past one machine: the coordinator gives each a part of the people and of the rate, starts them together,
//! and merges what they measured. Each generator checks what it sent itself; people of different parts do not know each other.

pub mod generator;
pub mod merge;
pub mod parts;

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
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    time::{Instant, timeout},
};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming, transport::Server};

use self::{
    merge::Part,
    parts::parts,
    protocol::{
        JoinRequest, JoinResponse, Progress, Start, Stop as StopStep, Work,
        coordinator_service_server::{CoordinatorService, CoordinatorServiceServer},
        join_request, join_response,
    },
};
use crate::{
    report::Report,
    run::{
        Options, Stop,
        progress::{Standing, bar},
    },
    scenario::Scenario,
};

/// Histograms of all measures and phases fit into this.
const MESSAGE_BYTES: usize = 256 << 20;
/// A generator that says nothing for so long after the end of its phases is gone.
const SILENT: Duration = Duration::from_secs(600);
/// How often each end of a connection asks whether the other is there.
const ALIVE_EVERY: Duration = Duration::from_secs(20);
/// After a stop a generator brings what it has within this.
const STOP_FOR: Duration = Duration::from_secs(30);

/// Where a run with several generators stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    Gathering,
    Running,
    Stopped,
}

/// What a generator's stream tells the coordinator.
enum Told {
    At(u32, Standing),
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

/// What came of the generators.
#[derive(Default)]
struct Gathered {
    parts: Vec<Part>,
    lost: Vec<String>,
}

/// Waits for so many generators, runs the scenario with all of them, and answers with the merged report: of those that brought a result, if others
/// were lost. `bound` is told the address.
///
/// # Errors
/// The scenario cannot be shared, the port is in use, or no generator brought a result.
pub async fn coordinate(
    options: &Options,
    listen: SocketAddr,
    generators: usize,
    stop: &Stop,
    bound: impl FnOnce(SocketAddr),
) -> anyhow::Result<Report> {
    let works = parts(&options.scenario, generators)?.into_iter().zip(0u32..).map(|(part, place)| {
        Ok(Work {
            scenario: serde_json::to_string(&part)?,
            name: options.name.clone(),
            target: options.target.address.clone(),
            place,
            seed: options.seed.wrapping_add(place.into()),
            check: options.check,
            owned: !options.target.is_local(),
            call_connections: u32::try_from(options.call_connections)?,
        })
    });
    let mut works = works.collect::<anyhow::Result<Vec<_>>>()?;
    works.reverse();
    let (state, follow) = watch::channel(State::Gathering);
    let (told, mut telling) = mpsc::channel(generators);
    let listener = TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))?;
    bound(listener.local_addr()?);
    let works = Arc::new(parking_lot::Mutex::new(works));
    let service = CoordinatorServiceServer::new(Coordinator { works: Arc::clone(&works), state: follow, told })
        .max_decoding_message_size(MESSAGE_BYTES);
    let serving = Server::builder()
        .tcp_nodelay(true)
        .http2_keepalive_interval(Some(ALIVE_EVERY))
        .add_service(service)
        .serve_with_incoming(TcpListenerStream::new(listener));
    let gathered = tokio::select! {
        served = serving => { served?; bail!("the service ended") }
        gathered = gather(options, generators, &works, &state, &mut telling, stop) => gathered?,
    };
    let lost = gathered.lost.into_iter().map(|lost| format!("a generator is lost: {lost}"));
    if gathered.parts.is_empty() {
        bail!("no generator brought a result: {}", lost.collect::<Vec<_>>().join("; "));
    }
    let mut report = merge::merge(options, gathered.parts)?;
    if let (Some(checked), true) = (&mut report.checked, lost.len() > 0) {
        checked.complete = false;
    }
    report.problems.extend(lost);
    Ok(report)
}

/// Waits for the results, and starts and stops those who bring them.
async fn gather(
    options: &Options,
    generators: usize,
    works: &parking_lot::Mutex<Vec<Work>>,
    state: &watch::Sender<State>,
    telling: &mut mpsc::Receiver<Told>,
    stop: &Stop,
) -> anyhow::Result<Gathered> {
    let view = View::new(options, generators);
    let (mut gathered, mut ready, mut expected) = (Gathered::default(), 0, generators);
    let mut until = None;
    while gathered.parts.len() + gathered.lost.len() < expected {
        let gone = async { tokio::time::sleep_until(until.unwrap_or_else(Instant::now)).await };
        let next = tokio::select! {
            next = telling.recv() => Some(next.context("the service ended")?),
            () = stop.stopped(), if until.is_none() => None,
            () = gone, if until.is_some() => {
                let silent = expected - gathered.parts.len() - gathered.lost.len();
                gathered.lost.extend((0..silent).map(|_| format!("it brought nothing within {STOP_FOR:?} after the stop")));
                break;
            }
        };
        let over = match next {
            Some(Told::At(place, standing)) => {
                view.at(place, &standing);
                false
            }
            Some(Told::Ready) => {
                ready += 1;
                if ready == generators && *state.borrow() == State::Gathering {
                    state.send_replace(State::Running);
                }
                false
            }
            Some(Told::Done(part)) => {
                gathered.parts.push(*part);
                false
            }
            Some(Told::Lost(why)) => {
                view.say(&why);
                gathered.lost.push(why);
                // Those who run go on: what they sent is checked. Before the start, they would drive a part of what was asked for.
                *state.borrow() == State::Gathering
            }
            None => true,
        };
        if over && until.is_none() {
            state.send_replace(State::Stopped);
            until = Some(Instant::now() + STOP_FOR);
            // Nobody joins any more, and nobody waits for those who did not.
            let mut works = works.lock();
            expected = generators - works.len();
            works.clear();
        }
    }
    ensure!(expected > 0, "stopped before a generator joined");
    Ok(gathered)
}

/// What is seen of the generators: a line for each.
struct View {
    all: MultiProgress,
    bars: Vec<ProgressBar>,
}

impl View {
    fn new(options: &Options, generators: usize) -> Self {
        let all = MultiProgress::with_draw_target(match options.shown {
            true => ProgressDrawTarget::stderr(),
            false => ProgressDrawTarget::hidden(),
        });
        let bars = (0..generators).map(|_| all.add(bar("")));
        Self { bars: bars.collect(), all }
    }

    fn at(&self, place: u32, standing: &Standing) {
        let Some(bar) = self.bars.get(place as usize) else { return };
        bar.set_prefix(format!("{place} {}", standing.stage));
        bar.set_length(standing.of);
        bar.set_position(standing.done);
        bar.set_message(standing.line.clone());
    }

    fn say(&self, why: &str) {
        // A terminal that cannot be written to takes nothing from the run.
        let _ = self.all.println(format!("lost: {why}"));
    }
}

impl Drop for View {
    fn drop(&mut self) {
        let _ = self.all.clear();
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
            let mut name = format!("generator {}", work.place);
            let told = match this.generator(work, steps, answers, &mut name).await {
                Ok(part) => Told::Done(Box::new(part)),
                Err(error) => Told::Lost(format!("{name}: {error:#}")),
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
    async fn tell(&self, told: Told) -> anyhow::Result<()> {
        self.told.send(told).await.map_err(|_| anyhow::anyhow!("the run is over"))
    }

    /// One generator from its hello to its result.
    async fn generator(&self, work: Work, mut steps: Streaming<JoinRequest>, answers: Answers, name: &mut String) -> anyhow::Result<Part> {
        let mut state = self.state.clone();
        let seconds = serde_json::from_str::<Scenario>(&work.scenario)?.seconds;
        let place = work.place;
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
                Some(join_request::Step::Hello(hello)) if !hello.name.is_empty() => *name = hello.name,
                Some(join_request::Step::Ready(_)) => self.tell(Told::Ready).await?,
                Some(join_request::Step::Progress(Progress { stage, done, of, line })) => {
                    self.tell(Told::At(place, Standing { stage, done, of, line })).await?;
                }
                Some(join_request::Step::Result(result)) => return Part::decode(name.clone(), &result),
                Some(join_request::Step::Hello(_)) | None => {}
            }
        }
    }
}

async fn answer(answers: &Answers, step: join_response::Step) -> anyhow::Result<()> {
    answers.send(Ok(JoinResponse { step: Some(step) })).await.map_err(|_| anyhow::anyhow!("it went away"))
}
