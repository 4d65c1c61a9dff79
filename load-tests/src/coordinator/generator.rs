//! A generator that does what a coordinator tells it.

use std::{convert::Infallible, path::PathBuf, time::Duration};

use anyhow::{Context, bail};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Streaming, transport::Endpoint};

use super::{
    ALIVE_EVERY, MESSAGE_BYTES, merge,
    protocol::{
        Hello, JoinRequest, JoinResponse, Progress, Ready, Result as ResultStep, Work,
        coordinator_service_client::CoordinatorServiceClient, join_request, join_response,
    },
};
use crate::{
    population::prepare::prepare,
    report::Report,
    run::{self, Options, Stop, progress::Standing},
    scenario::Scenario,
    target::Target,
};

/// What a generator is told by whoever starts it.
#[derive(Debug, Clone)]
pub struct Own {
    /// What it is called in the report.
    pub name: String,
    /// Whether the target may be loaded though it is not this machine.
    pub owned: bool,
    /// The state of its people is kept here.
    pub folder: PathBuf,
    /// Processes of the server on this machine, to be watched.
    pub pids: Vec<u32>,
    /// Where processes of the deployment tell their metrics.
    pub metrics: Vec<Target>,
    /// Whether progress is shown.
    pub shown: bool,
    /// How far this part is, for whoever follows it.
    pub followed: watch::Sender<Standing>,
}

/// How often the coordinator hears how far it is at most.
const TELL_EVERY: Duration = Duration::from_millis(500);

/// Does one part of a run. Answers with its own report.
///
/// # Errors
/// The coordinator or the deployment cannot be reached. The coordinator is told.
pub async fn generate(coordinator: &str, own: &Own, stop: &Stop) -> anyhow::Result<Report> {
    let endpoint = Endpoint::from_shared(coordinator.to_owned())?.tcp_nodelay(true).http2_keep_alive_interval(ALIVE_EVERY);
    let channel = endpoint.connect().await.context("reaching the coordinator")?;
    let mut client = CoordinatorServiceClient::new(channel).max_encoding_message_size(MESSAGE_BYTES);
    let (steps, queue) = mpsc::channel(4);
    say(&steps, join_request::Step::Hello(Hello { name: own.name.clone() })).await?;
    let mut answers = client.join(ReceiverStream::new(queue)).await?.into_inner();
    let Some(join_response::Step::Work(work)) = next(&mut answers).await? else { bail!("the coordinator gave no work") };
    let (started, start) = watch::channel(false);
    let done = async {
        match part(&work, own, stop, &steps, start).await {
            Ok((mut report, result)) => {
                // What was measured is worth something, also when nobody takes it.
                if let Err(error) = say(&steps, join_request::Step::Result(result)).await {
                    report.problems.push(format!("{error:#}"));
                }
                Ok(report)
            }
            Err(error) => {
                let problem = format!("{error:#}");
                let _ = say(&steps, join_request::Step::Result(ResultStep { problem, ..ResultStep::default() })).await;
                Err(error)
            }
        }
    };
    let following = async {
        loop {
            match next(&mut answers).await {
                Ok(Some(join_response::Step::Start(_))) => _ = started.send_replace(true),
                Ok(Some(join_response::Step::Stop(_))) => stop.stop(),
                Ok(_) => {}
                // Without a coordinator nobody could stop this part: it ends with what it has.
                Err(_) => {
                    stop.stop();
                    return std::future::pending().await;
                }
            }
        }
    };
    let report: anyhow::Result<Report> = tokio::select! {
        report = done => report,
        never = following => match never {},
        never = tell(&steps, own.followed.subscribe()) => match never {},
    };
    // The result is out when the coordinator has ended the stream.
    drop(steps);
    while let Ok(Some(_)) = answers.message().await {}
    report
}

/// Tells the coordinator how far this part is.
async fn tell(steps: &mpsc::Sender<JoinRequest>, mut followed: watch::Receiver<Standing>) -> Infallible {
    while followed.changed().await.is_ok() {
        let Standing { stage, done, of, line } = followed.borrow_and_update().clone();
        // A coordinator that is gone is noticed by who follows it.
        let _ = say(steps, join_request::Step::Progress(Progress { stage, done, of, line })).await;
        tokio::time::sleep(TELL_EVERY).await;
    }
    std::future::pending().await
}

async fn part(
    work: &Work,
    own: &Own,
    stop: &Stop,
    steps: &mpsc::Sender<JoinRequest>,
    mut start: watch::Receiver<bool>,
) -> anyhow::Result<(Report, ResultStep)> {
    // Whoever coordinates says that the target may be loaded, and so does whoever starts a generator.
    let target = Target::new(&work.target, own.owned && work.owned)?;
    let scenario: Scenario = serde_json::from_str(&work.scenario)?;
    let problems = scenario.problems();
    anyhow::ensure!(problems.is_empty(), "{}", problems.join("; "));
    let people =
        own.folder.join(format!("{}-{}-{}-part{}.people.json", work.name, target.socket.port(), scenario.population.people, work.place));
    let options = Options {
        target,
        name: work.name.clone(),
        scenario,
        population: people,
        seed: work.seed,
        call_connections: work.call_connections as usize,
        server_pids: own.pids.clone(),
        metrics: own.metrics.clone(),
        shown: own.shown,
        followed: own.followed.clone(),
        check: work.check,
    };
    run::raise_limits();
    own.followed.send_replace(Standing { stage: "preparing".to_owned(), ..Standing::default() });
    let ready = prepare(&options.target, &options.scenario.population, &options.population, own.shown, &stop.asked).await?;
    let gate = async {
        say(steps, join_request::Step::Ready(Ready {})).await?;
        tokio::select! {
            started = start.wait_for(|started| *started) => started.map(drop).context("the coordinator went away"),
            () = stop.stopped() => bail!("stopped before the start"),
        }
    };
    let outcome = run::drive(&options, ready, stop, gate).await?;
    let report = Report::new(&options, &outcome);
    let result = merge::encode(&report, &outcome.totals)?;
    Ok((report, result))
}

async fn say(steps: &mpsc::Sender<JoinRequest>, step: join_request::Step) -> anyhow::Result<()> {
    steps.send(JoinRequest { step: Some(step) }).await.map_err(|_| anyhow::anyhow!("the coordinator went away"))
}

async fn next(answers: &mut Streaming<JoinResponse>) -> anyhow::Result<Option<join_response::Step>> {
    Ok(answers.message().await?.context("the coordinator ended the stream")?.step)
}
