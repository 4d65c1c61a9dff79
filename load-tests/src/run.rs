//! A run from its beginning to its report: people, streams, the phases, quiet, the check.

pub mod base;
pub mod calls;
pub mod device;
pub mod drive;
pub mod lag;
pub mod pace;
pub mod people;
pub mod process;
pub mod progress;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering},
        mpsc,
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, ensure};
use parking_lot::Mutex;
use plaza_floor::process::{pss_kib, resident_kib};
use rlimit::Resource;
use tokio::sync::{Notify, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    base::{Base, bases},
    drive::Driver,
    lag::Lag,
    people::{Member, Outgoing, Shown, World},
    process::Processes,
    progress::{Stage, Standing},
};
use crate::{
    api::Api,
    arrivals::Arrivals,
    operation::Measure,
    population::prepare::{Ready, prepare},
    record::{Clock, Interval, Recorder, Totals},
    scenario::{Kind, Scenario},
    target::Target,
    verify::{Verified, verify},
};

/// How a run is made.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where.
    pub target: Target,
    /// The scenario's name.
    pub name: String,
    /// What.
    pub scenario: Scenario,
    /// The state file of the population.
    pub population: PathBuf,
    /// Decides the arrivals and who acts.
    pub seed: u64,
    /// Connections for calls.
    pub call_connections: usize,
    /// Processes to watch.
    pub server_pids: Vec<u32>,
    /// Where processes of the deployment tell their metrics.
    pub metrics: Vec<Target>,
    /// Whether progress is shown.
    pub shown: bool,
    /// How far the run is, for whoever follows it.
    pub followed: watch::Sender<Standing>,
    /// Whether everything is checked afterwards.
    pub check: bool,
}

/// How a run is stopped: at once, and it is still reported.
#[derive(Clone, Default)]
pub struct Stop {
    /// Set by Ctrl-C.
    pub asked: Arc<AtomicBool>,
    token: CancellationToken,
}

impl Stop {
    /// Stops it.
    pub fn stop(&self) {
        self.asked.store(true, Ordering::Relaxed);
        self.token.cancel();
    }

    /// Until it is stopped.
    pub async fn stopped(&self) {
        self.token.cancelled().await;
    }

    /// What comes of `work`; nothing if it was stopped before.
    pub async fn unless<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        self.token.run_until_cancelled(work).await
    }
}

/// What came of a run.
pub struct Outcome {
    /// When it began, seconds since the epoch.
    pub began: u64,
    /// How long the phases took, seconds; less than planned after a stop.
    pub lasted: f64,
    /// Whether it was stopped, in the phases or in the check.
    pub stopped: bool,
    /// What went wrong after the phases.
    pub trouble: Option<String>,
    /// In what the people are not those that the scenario asks for.
    pub other_people: Option<String>,
    /// All latencies.
    pub totals: Totals,
    /// The run second by second.
    pub intervals: Vec<Interval>,
    /// What the processes used.
    pub processes: Processes,
    /// How far the processors were behind.
    pub lags: Vec<Lag>,
    /// What the check found, as far as it came; nothing if there was none.
    pub verified: Option<Verified>,
    /// Sends that had no answer when the run was over and had waited.
    pub unanswered: usize,
    /// Deliveries of acknowledged messages that no live stream had shown by then.
    pub undelivered: usize,
    /// Sends that were not made because too many were open.
    pub shed: u64,
    /// Streams that were up when the phases began, and entries that all were shown.
    pub streams: usize,
    /// Entries that all streams were shown.
    pub entries: u64,
    /// What the preparation made and how long it took: people, friendships, groups.
    pub prepared: [(usize, f64); 3],
    /// People, friendships and groups there are.
    pub people: [usize; 3],
    /// Memory of this process for each live stream, KiB: growth while they were opened.
    pub stream_kib: f64,
    /// Memory of the watched servers for each live stream, KiB: growth from before the streams until the end of a run that only held them.
    pub server_stream_kib: Option<f64>,
}

/// Streams opened at once.
const CONNECTS_AT_ONCE: usize = 128;
/// Until all streams are up.
const CONNECT_FOR: Duration = Duration::from_secs(120);
/// After the last start: until everything has its answer.
const DRAIN: Duration = Duration::from_secs(15);
const INTERVAL: Duration = Duration::from_secs(1);
/// What Linux lets a process have at most, unless it is told otherwise.
const FILES: u64 = 1 << 20;
/// Open files that are no streams.
const FILES_BESIDE: usize = 100;
/// Tokens exchanged at once.
const REFRESHES_AT_ONCE: usize = 16;
/// How often tokens that end are exchanged.
const REFRESH_EVERY: Duration = Duration::from_secs(20);

/// Prepares the people and runs the scenario.
///
/// # Errors
/// The people cannot be prepared, or the streams not be opened.
pub async fn run(options: &Options, stop: &Stop) -> anyhow::Result<Outcome> {
    raise_limits();
    let ready = prepare(&options.target, &options.scenario.population, &options.population, options.shown, &stop.asked).await?;
    drive(options, ready, stop, std::future::ready(Ok(()))).await
}

/// As many open files as the system allows: each stream is one. Who may raise the limit of the process itself gets a million.
pub fn raise_limits() {
    // What stays too low shows as a stream that cannot be opened.
    if Resource::NOFILE.set(FILES, FILES).is_err() {
        let _ = rlimit::increase_nofile_limit(FILES);
    }
}

/// Runs the scenario with people who are there. The phases begin when the streams are up and `gate` is open.
///
/// # Errors
/// The streams cannot be opened, or the gate's.
pub async fn drive(
    options: &Options,
    ready: Ready,
    stop: &Stop,
    gate: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<Outcome> {
    let api = Api::new(&options.target, options.call_connections)?;
    let bases = stop.unless(bases(&api, &ready.people, &ready.plan, &ready.groups)).await.context("stopped before the run began")??;
    let (prepared, other_people) = (ready.took, ready.plan.doubt());
    let people = [ready.people.len(), ready.plan.friendships.len(), ready.groups.len()];
    let world = Arc::new(world(options, ready, &bases, api)?);
    let holders = TaskTracker::new();
    let resident = resident_kib(std::process::id())?;
    let only_held = options.scenario.mix.is_empty() && !options.server_pids.is_empty();
    let servers = || options.server_pids.iter().map(|pid| pss_kib(*pid)).sum::<anyhow::Result<f64>>();
    let served = if only_held { Some(servers()?) } else { None };
    connect(options, &world, &holders, stop).await?;
    let streams = world.streams.load(Ordering::Relaxed);
    let stream_kib = (resident_kib(std::process::id())? - resident) / streams.max(1) as f64;
    gate.await?;
    let began = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let lags = Mutex::default();
    let (intervals, processes, shed) = tokio::select! {
        done = phases(options, &world, stop) => done?,
        never = lag::watch(&options.metrics, Instant::now(), &lags) => match never {},
    };
    let lasted = world.recorder.clock().now() as f64 / 1e6;
    let server_stream_kib = served.and_then(|before| Some((servers().ok()? - before) / streams.max(1) as f64));
    let (unanswered, undelivered) = drain(&world, stop).await;
    // What was answered after the end is in the totals; as an interval it would be none of the run's.
    let _ = world.recorder.interval(INTERVAL);
    let totals = world.recorder.totals();
    world.measuring.store(false, Ordering::Relaxed);
    // Nothing is said any more from here on: what was never answered would otherwise be sent while it is read back.
    world.stop.cancel();
    holders.close();
    holders.wait().await;
    let mut stopped = stop.unless(world.tasks.wait()).await.is_none();
    let (mut verified, mut trouble) = (None, None);
    if options.check && !stopped {
        let verified = verified.insert(Verified::default());
        match stop.unless(checked(options, &world, &bases, verified)).await {
            None => stopped = true,
            Some(checked) => trouble = checked.err().map(|error| format!("{error:#}")),
        }
    }
    Ok(Outcome {
        began,
        lasted,
        stopped,
        trouble,
        other_people,
        totals,
        intervals,
        processes,
        lags: lags.into_inner(),
        verified,
        unanswered,
        undelivered,
        shed,
        streams,
        entries: world.entries.load(Ordering::Relaxed),
        prepared,
        people,
        stream_kib,
        server_stream_kib,
    })
}

fn world(options: &Options, ready: Ready, bases: &[Base], api: Api) -> anyhow::Result<World> {
    let scenario = &options.scenario;
    let kinds: Vec<(Duration, Kind)> = scenario.ends().iter().map(|(end, phase)| (*end, phase.kind)).collect();
    let part = |number: usize, share: f64| (number as f64) < share * ready.people.len() as f64;
    let people = ready.people.iter().enumerate().map(|(number, identity)| {
        let cursor = bases[number].cursor;
        Member {
            identity: Arc::clone(identity),
            connected: part(number, scenario.connected),
            active: part(number, scenario.active),
            outgoing: Mutex::new(Outgoing::default()),
            shown: Mutex::new(Shown { from: cursor, cursor, ..Shown::default() }),
            cut: Notify::new(),
        }
    });
    let people = people.collect();
    Ok(World {
        target: options.target.clone(),
        api,
        tag: format!("{:06x}", rand::random::<u32>() >> 8),
        text_bytes: scenario.text_bytes,
        people,
        plan: ready.plan,
        groups: ready.groups,
        moments: Mutex::default(),
        recorder: Recorder::new(Clock::standing(), &kinds),
        tasks: TaskTracker::new(),
        open: AtomicUsize::new(0),
        undelivered: AtomicI64::new(0),
        streams: AtomicUsize::new(0),
        entries: AtomicU64::new(0),
        measuring: AtomicBool::new(false),
        trouble: Mutex::default(),
        stop: CancellationToken::new(),
    })
}

/// Opens everybody's live stream, some at once, and waits until all are up.
async fn connect(options: &Options, world: &Arc<World>, holders: &TaskTracker, stop: &Stop) -> anyhow::Result<()> {
    let connected: Vec<usize> = (0..world.people.len()).filter(|person| world.people[*person].connected).collect();
    let files = Resource::NOFILE.get_soft().unwrap_or(u64::MAX);
    ensure!(
        (connected.len() + FILES_BESIDE) as u64 <= files,
        "{} live streams need as many open files, and the system allows {files}: raise the hard limit of `ulimit -n`, or use several generators",
        connected.len()
    );
    let stage = Stage::begin(options, "streams", connected.len());
    let until = Instant::now() + CONNECT_FOR;
    let mut opened = 0;
    loop {
        let up = world.streams.load(Ordering::Relaxed);
        stage.at(up as u64, connected.len() as u64, String::new());
        if up == connected.len() {
            break;
        }
        ensure!(
            Instant::now() < until,
            "{up} of {} live streams are up after {CONNECT_FOR:?}, the last that failed: {}",
            connected.len(),
            world.trouble.lock()
        );
        ensure!(!stop.asked.load(Ordering::Relaxed), "stopped while the streams were opened");
        let more = (up + CONNECTS_AT_ONCE).min(connected.len());
        for person in connected.get(opened..more).into_iter().flatten() {
            holders.spawn(device::hold(Arc::clone(world), *person));
        }
        opened = opened.max(more);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(())
}

/// The phases: starts what is due, cuts streams, looks at everything once a second.
async fn phases(options: &Options, world: &Arc<World>, stop: &Stop) -> anyhow::Result<(Vec<Interval>, Processes, u64)> {
    let scenario = &options.scenario;
    let ends = scenario.ends();
    let factors: Vec<(Duration, f64)> = ends.iter().map(|(end, phase)| (*end, phase.rate)).collect();
    let whole = ends.last().map(|(end, _)| *end).unwrap_or_default();
    let arrivals = Arrivals::new(&scenario.rates(), &factors, options.seed);
    let mut driver = Driver::new(world, scenario, options.seed)?;
    let mut processes = Processes::new(&options.server_pids)?;
    world.measuring.store(true, Ordering::Relaxed);
    world.recorder.clock().start();
    let (keep, stopped) = mpsc::channel();
    let pacing = {
        let world = Arc::clone(world);
        let pacing = move || {
            pace::pace(arrivals, &world.recorder, &stopped, |operation, scheduled| driver.start(operation, scheduled));
            driver.shed
        };
        std::thread::Builder::new().name("pace".to_owned()).spawn(pacing).context("starting a thread")?
    };
    let stage = Stage::begin(options, "running", whole.as_secs().max(1) as usize);
    let mut intervals = Vec::new();
    let mut cuts: Vec<(Duration, f64)> = Vec::new();
    let mut begin = Duration::ZERO;
    for (end, phase) in &ends {
        if phase.reconnect > 0.0 {
            cuts.push((begin, phase.reconnect));
        }
        begin = *end;
    }
    let mut cuts = cuts.into_iter().peekable();
    let (mut looked, mut refreshed) = (Instant::now(), Instant::now());
    let end = world.recorder.clock().at(whole);
    loop {
        let next = (looked + INTERVAL).min(end).min(cuts.peek().map_or(end, |(at, _)| world.recorder.clock().at(*at)));
        let waited = stop.token.run_until_cancelled(tokio::time::sleep_until(next.into())).await;
        if waited.is_none() {
            break;
        }
        if let Some((_, share)) = cuts.next_if(|(at, _)| Instant::now() >= world.recorder.clock().at(*at)) {
            cut(world, share);
        }
        // A last interval that is short says little, and its rates would be far off.
        if looked.elapsed() >= INTERVAL || (Instant::now() >= end && looked.elapsed() >= INTERVAL / 4) {
            let interval = world.recorder.interval(looked.elapsed());
            looked = Instant::now();
            processes.look(interval.at);
            stage.at(interval.at as u64, whole.as_secs().max(1), line(world, &interval, &processes));
            intervals.push(interval);
        }
        if refreshed.elapsed() > REFRESH_EVERY {
            refreshed = Instant::now();
            world.tasks.spawn(refresh(Arc::clone(world)));
        }
        if Instant::now() >= end {
            break;
        }
    }
    drop(stage);
    drop(keep);
    let shed = tokio::task::spawn_blocking(move || pacing.join()).await?;
    Ok((intervals, processes, shed.map_err(|_| anyhow::anyhow!("the thread that starts operations failed"))?))
}

/// Cuts a part of the live streams, all at once; they come back at once.
fn cut(world: &World, share: f64) {
    let connected: Vec<_> = world.people.iter().filter(|person| person.connected).collect();
    let count = (connected.len() as f64 * share).round() as usize;
    // Evenly over everybody, so that the active and the others are cut alike.
    for place in 0..count {
        connected[place * connected.len() / count].cut.notify_one();
    }
}

async fn refresh(world: Arc<World>) {
    let ending: Vec<_> = world.people.iter().map(|person| Arc::clone(&person.identity)).filter(|identity| identity.is_ending()).collect();
    for some in ending.chunks(REFRESHES_AT_ONCE) {
        // A call without a good token fails and is counted then.
        let refreshing = futures::future::join_all(some.iter().map(|identity| identity.refresh(&world.api)));
        if world.stop.run_until_cancelled(refreshing).await.is_none() {
            return;
        }
    }
}

/// One line of what goes on.
fn line(world: &World, interval: &Interval, processes: &Processes) -> String {
    let p99 = |measure| interval.latencies.get(&measure).map_or("-".to_owned(), |row: &[f64; 6]| format!("{:.1} ms", row[3]));
    let cores = processes.samples.get(Processes::GENERATOR).and_then(|samples| samples.last()).map_or(0.0, |sample| sample.cores);
    format!(
        "offered {:.0}/s answered {:.0}/s ack p99 {} delivery p99 {} open {} streams {} own {cores:.2} cores",
        interval.offered,
        interval.achieved,
        p99(Measure::AckDirect),
        p99(Measure::DeliverDirect),
        world.open.load(Ordering::Relaxed),
        world.streams.load(Ordering::Relaxed),
    )
}

/// Waits until everything has its answer and is delivered, but not for long; answers how many sends and deliveries are missing. A delivery that
/// the run does not wait for would be one that no latency tells of.
async fn drain(world: &World, stop: &Stop) -> (usize, usize) {
    let until = Instant::now() + if stop.asked.load(Ordering::Relaxed) { Duration::ZERO } else { DRAIN };
    world.tasks.close();
    let missing = || (world.open.load(Ordering::Relaxed), usize::try_from(world.undelivered.load(Ordering::Relaxed)).unwrap_or(0));
    while Instant::now() < until && !(world.tasks.is_empty() && missing() == (0, 0)) {
        if stop.token.run_until_cancelled(tokio::time::sleep(Duration::from_millis(10))).await.is_none() {
            break;
        }
    }
    missing()
}

async fn checked(options: &Options, world: &World, bases: &[Base], verified: &mut Verified) -> anyhow::Result<()> {
    let stage = Stage::begin(options, "checking", 1);
    verify(world, bases, verified, |done, of| stage.at(done as u64, of as u64, String::new())).await.context("checking what was sent")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// How to run `chat` where nobody listens.
    pub(crate) fn options() -> Options {
        Options {
            target: Target::new("http://127.0.0.1:1", false).expect("loopback"),
            name: "chat".into(),
            scenario: Scenario::load("chat").expect("built in"),
            population: "nowhere".into(),
            seed: 1,
            call_connections: 1,
            server_pids: Vec::new(),
            metrics: Vec::new(),
            shown: false,
            followed: watch::Sender::default(),
            check: true,
        }
    }
}
