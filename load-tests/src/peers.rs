//! Tests A to D that other open messengers were measured with, by the same rules: closed loops, texts of 100 bytes, every message checked for one
//! acknowledgement and one delivery to each receiver. A: one pair, 2,000 messages one at a time after 100 to warm up. B: 64 pairs, 8 sends in
//! flight each, 20 s. C: one of a group of 100 sends 20 messages a second for 20 s. D: growth of memory for each idle stream after 60 s.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use futures::{StreamExt, TryStreamExt, future::try_join_all, stream};
use plaza_floor::process::{cpu_seconds, pss_kib};
use plaza_proto::{
    chat::v1::{SendMessageRequest, content::Kind, entry::Event},
    gateway::v1::{ConnectRequest, ConnectResponse, Hello, connect_request, connect_response::Frame},
};
use tokio::{
    sync::{Barrier, mpsc},
    time::timeout,
};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Streaming;

use crate::{
    api::{Api, Identity},
    population::prepare::Ready,
    record::histogram,
    run::{Options, Stop, progress::Stage},
    scenario::Peers,
    target::Target,
    wire,
};

const TEXT: usize = 100;
const WARM_UP: usize = 100;
const MESSAGES_A: usize = 2_000;
const PAIRS_B: usize = 64;
const IN_FLIGHT_B: usize = 8;
const TIME_B: Duration = Duration::from_secs(20);
const MEMBERS_C: usize = 100;
const EVERY_C: Duration = Duration::from_millis(50);
const MESSAGES_C: usize = 400;
const SETTLE_D: Duration = Duration::from_secs(60);
/// Between two tests: what a server still does for one of them is no part of the next.
const REST: Duration = Duration::from_secs(15);
const MISSING: Duration = Duration::from_secs(30);

/// A live stream and its person.
struct Live {
    identity: Arc<Identity>,
    frames: mpsc::UnboundedSender<ConnectRequest>,
    answers: Streaming<ConnectResponse>,
}

/// What of an answer counts.
enum Seen {
    Acked(String),
    Text(String),
    Other,
}

impl Live {
    /// Connects from the newest entry on.
    async fn open(target: &Target, api: &Api, identity: &Arc<Identity>, number: usize) -> anyhow::Result<Self> {
        identity.refresh(api).await?;
        let head = plaza_client::chat::SyncRequest { cursor: 0, page_size: 1 };
        let cursor = api.chat().sync(identity.request(head)).await?.into_inner().head;
        let (frames, queue) = mpsc::unbounded_channel();
        frames.send(ConnectRequest { frame: Some(connect_request::Frame::Hello(Hello { cursor })) }).context("a new queue")?;
        let answers = wire::connect(target, number, identity.header(), UnboundedReceiverStream::new(queue)).await?;
        let mut live = Self { identity: Arc::clone(identity), frames, answers };
        match live.frame().await? {
            Frame::Welcome(_) => Ok(live),
            other => bail!("the first frame is {other:?}"),
        }
    }

    async fn frame(&mut self) -> anyhow::Result<Frame> {
        loop {
            let answer = timeout(MISSING, self.answers.message()).await.context("an answer is missing")??;
            if let Some(frame) = answer.context("the stream ended")?.frame {
                return Ok(frame);
            }
        }
    }

    async fn next(&mut self) -> anyhow::Result<Seen> {
        Ok(match self.frame().await? {
            Frame::Sent(sent) => Seen::Acked(sent.client_message_id),
            Frame::Refused(refused) => bail!("refused: {refused:?}"),
            Frame::Entry(entry) => match entry.event {
                Some(Event::Message(message)) => match message.content.and_then(|content| content.kind) {
                    Some(Kind::Text(text)) => Seen::Text(text.text),
                    _ => Seen::Other,
                },
                _ => Seen::Other,
            },
            _ => Seen::Other,
        })
    }

    fn send(&self, to: &str, conversation: &str, text: String) -> anyhow::Result<String> {
        let id = plaza_client::new_id();
        let send = SendMessageRequest {
            user_id: to.to_owned(),
            conversation_id: conversation.to_owned(),
            client_message_id: id.clone(),
            content: Some(plaza_client::text(text)),
            ..Default::default()
        };
        self.frames.send(ConnectRequest { frame: Some(connect_request::Frame::Send(send)) }).context("the stream is closed")?;
        Ok(id)
    }
}

/// What came of the tests.
#[derive(Debug, Default)]
pub struct Tested {
    /// The figures of the tests that ended.
    pub figures: BTreeMap<String, f64>,
    /// Whether they were stopped.
    pub stopped: bool,
    /// Why a test did not end: a message that is not acknowledged and delivered exactly once, or a deployment that cannot be reached.
    pub problem: Option<String>,
}

/// Runs the named tests with these people. Without processes of the server to watch, what is measured on them is left out.
///
/// # Errors
/// The target is no address.
pub async fn run(options: &Options, ready: &Ready, tests: &[Peers], stop: &Stop) -> anyhow::Result<Tested> {
    let api = Api::new(&options.target, 2)?;
    let world = World { target: &options.target, ready, api: &api, pids: &options.server_pids };
    let mut tested = Tested::default();
    let testing = stop.unless(world.all(options, tests, &mut tested.figures)).await;
    tested.stopped = testing.is_none();
    tested.problem = testing.and_then(Result::err).map(|error| format!("{error:#}"));
    Ok(tested)
}

struct World<'a> {
    target: &'a Target,
    ready: &'a Ready,
    api: &'a Api,
    pids: &'a [u32],
}

type Figures = Vec<(&'static str, f64)>;

impl World<'_> {
    async fn all(&self, options: &Options, tests: &[Peers], figures: &mut BTreeMap<String, f64>) -> anyhow::Result<()> {
        for (test, place) in tests.iter().zip(1..) {
            let stage = Stage::begin(options, "tests", tests.len());
            stage.at(place - 1, tests.len() as u64, format!("{test:?}"));
            let found = match test {
                Peers::A => self.a().await,
                Peers::B => self.b().await,
                Peers::C => self.c().await,
                Peers::D => self.d().await,
            };
            let found = found.with_context(|| format!("test {test:?}"))?;
            figures.extend(found.into_iter().map(|(name, value)| (format!("{test:?}: {name}"), value)));
            if place < tests.len() as u64 {
                stage.at(place, tests.len() as u64, "rest".to_owned());
                tokio::time::sleep(REST).await;
            }
        }
        Ok(())
    }

    async fn open(&self, person: usize) -> anyhow::Result<Live> {
        Live::open(self.target, self.api, &self.ready.people[person], person).await
    }

    /// Pairs of friends, each person in one pair at most.
    fn pairs(&self, count: usize) -> anyhow::Result<Vec<(usize, usize)>> {
        let mut taken = HashSet::new();
        let free = |(one, other): &&(u32, u32)| {
            let free = !taken.contains(one) && !taken.contains(other);
            if free {
                taken.extend([*one, *other]);
            }
            free
        };
        let pairs: Vec<_> =
            self.ready.plan.friendships.iter().filter(free).take(count).map(|(one, other)| (*one as usize, *other as usize)).collect();
        ensure!(pairs.len() == count, "there are {} pairs of friends, not {count}", pairs.len());
        Ok(pairs)
    }

    fn cpu(&self) -> anyhow::Result<Option<f64>> {
        if self.pids.is_empty() {
            return Ok(None);
        }
        let all: anyhow::Result<Vec<f64>> = self.pids.iter().map(|pid| cpu_seconds(*pid)).collect();
        Ok(Some(all?.into_iter().sum()))
    }

    async fn a(&self) -> anyhow::Result<Figures> {
        let (one, other) = self.pairs(1)?[0];
        let (mut one, mut other) = (self.open(one).await?, self.open(other).await?);
        let (mut acks, mut deliveries) = (histogram(), histogram());
        let peer = other.identity.user_id.clone();
        for number in 0..WARM_UP + MESSAGES_A {
            let text = format!("{number:.<TEXT$}");
            let began = Instant::now();
            let id = one.send(&peer, "", text.clone())?;
            let acked = async {
                let (mut acked, mut own) = (None, false);
                while acked.is_none() || !own {
                    match one.next().await? {
                        Seen::Acked(answered) if answered == id => acked = Some(began.elapsed()),
                        Seen::Text(shown) if shown == text => own = true,
                        Seen::Acked(_) | Seen::Text(_) => bail!("an answer that is not of the one message"),
                        Seen::Other => {}
                    }
                }
                Ok(acked.unwrap_or_default())
            };
            let delivered = async {
                loop {
                    match other.next().await? {
                        Seen::Text(shown) if shown == text => return anyhow::Ok(began.elapsed()),
                        Seen::Acked(_) | Seen::Text(_) => bail!("a delivery that is not of the one message"),
                        Seen::Other => {}
                    }
                }
            };
            let (acked, delivered) = futures::future::try_join(acked, delivered).await?;
            if number >= WARM_UP {
                acks.saturating_record(u64::try_from(acked.as_micros())?);
                deliveries.saturating_record(u64::try_from(delivered.as_micros())?);
            }
        }
        let at = |of: &hdrhistogram::Histogram<u64>, quantile| of.value_at_quantile(quantile) as f64 / 1000.0;
        Ok(vec![
            ("ack p50, ms", at(&acks, 0.5)),
            ("ack p99, ms", at(&acks, 0.99)),
            ("delivery p50, ms", at(&deliveries, 0.5)),
            ("delivery p99, ms", at(&deliveries, 0.99)),
        ])
    }

    async fn b(&self) -> anyhow::Result<Figures> {
        let pairs = self.pairs(PAIRS_B)?;
        let ready = Arc::new(Barrier::new(PAIRS_B));
        let mut opened = Vec::new();
        for (one, other) in pairs {
            opened.push((self.open(one).await?, self.open(other).await?));
        }
        let before = self.cpu()?;
        let began = Instant::now();
        let until = began + TIME_B;
        let driving = opened.into_iter().map(|(mut sender, mut receiver)| {
            let ready = Arc::clone(&ready);
            async move {
                ready.wait().await;
                let peer = receiver.identity.user_id.clone();
                let (told, mut sent) = tokio::sync::watch::channel(None);
                let sending = async {
                    let (mut waiting, mut own, mut count) = (HashSet::new(), HashSet::new(), 0usize);
                    while count == 0 || !waiting.is_empty() || !own.is_empty() {
                        while waiting.len() < IN_FLIGHT_B && Instant::now() < until {
                            let text = format!("{count:.<TEXT$}");
                            waiting.insert(sender.send(&peer, "", text.clone())?);
                            own.insert(text);
                            count += 1;
                        }
                        match sender.next().await? {
                            Seen::Acked(id) => ensure!(waiting.remove(&id), "{id} was acknowledged twice or never sent"),
                            Seen::Text(text) => ensure!(own.remove(&text), "{text} came twice"),
                            Seen::Other => {}
                        }
                    }
                    told.send_replace(Some(count));
                    anyhow::Ok(count)
                };
                let receiving = async {
                    let mut shown = HashSet::new();
                    loop {
                        if sent.borrow().is_some_and(|count| shown.len() >= count) {
                            return anyhow::Ok(());
                        }
                        tokio::select! {
                            seen = receiver.next() => if let Seen::Text(text) = seen? { ensure!(shown.insert(text), "a message was delivered twice") },
                            changed = sent.changed() => changed?,
                        }
                    }
                };
                anyhow::Ok(futures::future::try_join(sending, receiving).await?.0)
            }
        });
        let counts: Vec<usize> = try_join_all(driving).await?;
        let (messages, took) = (counts.into_iter().sum::<usize>() as f64, began.elapsed().as_secs_f64());
        let mut figures = vec![("acknowledged and delivered, messages/s", messages / took)];
        if let (Some(before), Some(after)) = (before, self.cpu()?) {
            figures.push(("server CPU per delivered message, ms", (after - before) * 1e3 / messages));
        }
        Ok(figures)
    }

    async fn c(&self) -> anyhow::Result<Figures> {
        let group = self.ready.plan.groups.iter().position(|group| group.members.len() + 1 == MEMBERS_C);
        let group = group.with_context(|| format!("there is no group of {MEMBERS_C}"))?;
        let mut lives = Vec::new();
        for person in self.ready.plan.groups[group].everybody() {
            lives.push(self.open(person as usize).await?);
        }
        let mut sender = lives.remove(0);
        let conversation = self.ready.groups[group].clone();
        let (before, began) = (self.cpu()?, Instant::now());
        let receiving = lives.into_iter().map(|mut live| async move {
            let mut took = histogram();
            for number in 0..MESSAGES_C {
                let text = loop {
                    if let Seen::Text(text) = live.next().await? {
                        break text;
                    }
                };
                let mut words = text.split('.');
                let (Some(shown), Some(at)) = (words.next(), words.next()) else { bail!("another text: {text}") };
                ensure!(shown.parse::<usize>()? == number, "{shown} was delivered for {number}");
                let sent = Duration::from_micros(at.parse()?);
                took.saturating_record(u64::try_from(began.elapsed().saturating_sub(sent).as_micros())?.max(1));
            }
            anyhow::Ok(took)
        });
        let sending = async {
            let mut ticks = tokio::time::interval(EVERY_C);
            let mut open = 0;
            for number in 0..MESSAGES_C {
                ticks.tick().await;
                let at = began.elapsed().as_micros();
                let text = format!("{:.<TEXT$}", format!("{number}.{at}."));
                sender.send("", &conversation, text)?;
                open += 1;
                while let Ok(seen) = timeout(Duration::ZERO, sender.next()).await {
                    open -= usize::from(matches!(seen?, Seen::Acked(_)));
                }
            }
            while open > 0 {
                open -= usize::from(matches!(sender.next().await?, Seen::Acked(_)));
            }
            anyhow::Ok(())
        };
        let (receivers, ()) = futures::future::try_join(try_join_all(receiving), sending).await?;
        let deliveries = receivers.len() * MESSAGES_C;
        let mut all = histogram();
        for took in receivers {
            all.add(took)?;
        }
        let mut figures = vec![
            ("delivery p50, ms", all.value_at_quantile(0.5) as f64 / 1e3),
            ("delivery p99, ms", all.value_at_quantile(0.99) as f64 / 1e3),
        ];
        if let (Some(before), Some(after)) = (before, self.cpu()?) {
            figures.push(("server CPU per delivery, ms", (after - before) * 1e3 / deliveries as f64));
        }
        Ok(figures)
    }

    async fn d(&self) -> anyhow::Result<Figures> {
        if self.pids.is_empty() {
            return Ok(Vec::new());
        }
        let memory = || self.pids.iter().map(|pid| pss_kib(*pid)).sum::<anyhow::Result<f64>>();
        let before = memory()?;
        let opening = stream::iter(0..self.ready.people.len()).map(|person| self.open(person)).buffer_unordered(64);
        let lives: Vec<Live> = opening.try_collect().await?;
        tokio::time::sleep(SETTLE_D).await;
        Ok(vec![("memory per idle stream, KiB", (memory()? - before) / lives.len() as f64)])
    }
}
