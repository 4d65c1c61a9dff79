//! Groups: what a message costs for each member who is online, and for each who is not; and the same work as other open messengers were
//! measured with: C, a group of 100 online, one of whom sends 20 messages a second.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use hdrhistogram::Histogram;
use plaza_client::{Account, chat, new_id};
use plaza_floor::{EVERYBODY, process::cpu_seconds};
use plaza_proto::{
    chat::v1::chat_service_client::ChatServiceClient,
    gateway::v1::{self as gateway, connect_request},
};
use plaza_testkit::wait::wait_for;
use tokio::{task::JoinSet, time::timeout};

use crate::{
    measure::{Report, histogram, percentile_ms, record},
    moments::rows,
    population::{befriend_all, register},
    stream::{Seen, Stream, message},
    target::{Caller, Target},
};

/// Members of the large group.
const MEMBERS: usize = 500;
/// Members of the group of C.
const MEMBERS_C: usize = 100;
/// Above this many, who is added must accept.
const AT_ONCE_IN: usize = 39;
const ROUNDS: usize = 3;
const MESSAGES: usize = 100;
const IN_FLIGHT: usize = 4;
const SOON: Duration = Duration::from_secs(60);
/// C: how often and how long.
const EVERY: Duration = Duration::from_millis(50);
const MESSAGES_C: usize = 400;

/// A group and its members, the owner first.
struct Group {
    conversation_id: String,
    members: Vec<Caller>,
}

impl Group {
    async fn new(target: &Target, size: usize) -> anyhow::Result<Self> {
        let owner = register(target, "owner", 1).await?.pop().context("an owner")?;
        let others = register(target, "member", size - 1).await?;
        befriend_all(&owner, &others).await?;
        let ids: Vec<_> = others.iter().map(|account| account.user_id().to_owned()).collect();
        let (first, later) = ids.split_at(ids.len().min(AT_ONCE_IN));
        let create = chat::CreateGroupRequest { title: "everybody".into(), user_ids: first.to_vec(), request_id: new_id() };
        let group = owner.services().await?.chat.create_group(create).await?.into_inner().group.context("a group")?;
        let conversation_id = group.conversation_id;
        if !later.is_empty() {
            let add = chat::AddMembersRequest { conversation_id: conversation_id.clone(), user_ids: later.to_vec(), request_id: new_id() };
            owner.services().await?.chat.add_members(add).await?;
        }
        let invited = &others[first.len()..];
        stream::iter(invited).map(|account| accept(account, &conversation_id)).buffer_unordered(16).try_collect::<()>().await?;
        let mut members = Vec::new();
        for account in std::iter::once(&owner).chain(&others) {
            let caller = target.caller(account, "").await?;
            wait_for("everybody is in", SOON, || is_in(&caller, &conversation_id)).await?;
            members.push(caller);
        }
        Ok(Self { conversation_id, members })
    }

    fn text(&self, text: String) -> chat::SendMessageRequest {
        chat::SendMessageRequest { conversation_id: self.conversation_id.clone(), content: Some(plaza_client::text(text)), ..message("") }
    }

    fn message(&self) -> chat::SendMessageRequest {
        chat::SendMessageRequest { conversation_id: self.conversation_id.clone(), ..message("") }
    }
}

async fn accept(account: &Account, conversation_id: &str) -> anyhow::Result<()> {
    wait_for("the invitation arrives and is accepted", SOON, || async {
        let answer = chat::AnswerInvitationRequest { conversation_id: conversation_id.to_owned(), accept: true, request_id: new_id() };
        let services = account.services().await.map_err(|error| error.to_string());
        services?.chat.answer_invitation(answer).await.map(drop).map_err(|status| status.to_string())
    })
    .await
}

async fn is_in(caller: &Caller, conversation_id: &str) -> Result<(), String> {
    let request = chat::GetConversationRequest { conversation_id: conversation_id.to_owned() };
    let answer = ChatServiceClient::new(caller.channel.clone()).get_conversation(caller.request(request)).await;
    answer.map(drop).map_err(|status| status.to_string())
}

/// Server CPU for each copy that a member's stream is sent, beside a bare push of the same bytes to as many streams.
pub(crate) async fn online(server: &Path, report: &mut Report) -> anyhow::Result<()> {
    let (floor, ours) = (Target::floor().await?, Target::plaza_without_rates(server).await?);
    let floor_members =
        (0..MEMBERS).map(|number| floor.floor_caller(&format!("m{number}"), EVERYBODY)).collect::<anyhow::Result<Vec<_>>>()?;
    let group = Group::new(&ours, MEMBERS).await?;
    let mut floor_streams = open(&floor_members).await?;
    let mut our_streams = open(&group.members).await?;
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let floor = broadcast(floor.pid(), &mut floor_streams, || message(EVERYBODY)).await?;
        let ours = broadcast(ours.pid(), &mut our_streams, || group.message()).await?;
        rounds.push((floor, ours));
    }
    report.ratio("group of 500 online, CPU per delivery", "us", &rounds, 2.5, 1.4);
    Ok(())
}

async fn open(callers: &[Caller]) -> anyhow::Result<Vec<Stream>> {
    stream::iter(callers).map(Stream::open).buffered(16).try_collect().await
}

/// CPU microseconds for each delivery, when the first of the streams sends and all of them are told.
async fn broadcast(pid: u32, streams: &mut [Stream], message: impl Fn() -> chat::SendMessageRequest) -> anyhow::Result<f64> {
    let before = cpu_seconds(pid)?;
    let frames = streams[0].frames.clone();
    let sends = async {
        for _ in 0..MESSAGES {
            let send = connect_request::Frame::Send(message());
            frames.send(gateway::ConnectRequest { frame: Some(send) }).await.context("the stream is closed")?;
        }
        anyhow::Ok(())
    };
    let told = futures::future::try_join_all(streams.iter_mut().map(|stream| async move {
        let mut seen = 0;
        while seen < MESSAGES {
            if let Seen::Message = timeout(SOON, stream.next()).await.context("a delivery is missing")?? {
                seen += 1;
            }
        }
        anyhow::Ok(())
    }));
    futures::future::try_join(sends, told).await?;
    Ok((cpu_seconds(pid)? - before) * 1e6 / (MESSAGES * streams.len()) as f64)
}

/// Server CPU for each inbox row of members who are not connected, beside a raw batched insert of as many rows.
pub(crate) async fn offline(server: &Path, report: &mut Report) -> anyhow::Result<()> {
    let (floor, ours) = (Target::floor().await?, Target::plaza_without_rates(server).await?);
    let caller = floor.floor_caller("a", "b")?;
    let group = Group::new(&ours, MEMBERS).await?;
    let mut rounds = Vec::new();
    for round in 1..=ROUNDS {
        let floor = rows(floor.pid(), &caller, MEMBERS, MESSAGES).await?;
        let before = cpu_seconds(ours.pid())?;
        let owner = &group.members[0];
        let send = |_| async { ChatServiceClient::new(owner.channel.clone()).send_message(owner.request(group.message())).await.map(drop) };
        stream::iter(0..MESSAGES).map(send).buffered(IN_FLIGHT).try_collect::<Vec<_>>().await?;
        tokio::time::sleep(Duration::from_secs(2)).await;
        let cpu = cpu_seconds(ours.pid())? - before;
        // Everybody's rows are there.
        for member in &group.members {
            let request = chat::GetConversationRequest { conversation_id: group.conversation_id.clone() };
            let answer = ChatServiceClient::new(member.channel.clone()).get_conversation(member.request(request)).await?.into_inner();
            let head = answer.conversation.context("a conversation")?.head as usize;
            ensure!(head >= round * MESSAGES, "{head}");
        }
        rounds.push((floor, cpu * 1e6 / (MESSAGES * MEMBERS) as f64));
    }
    report.ratio("group of 500 offline, CPU per inbox row", "us", &rounds, 2.5, 1.5);
    Ok(())
}

/// C: 20 messages a second for 20 s to a group of 100 who are all online.
pub(crate) async fn c(server: &Path, report: &mut Report) -> anyhow::Result<()> {
    let ours = Target::plaza_without_rates(server).await?;
    let group = Group::new(&ours, MEMBERS_C).await?;
    let mut streams = open(&group.members).await?;
    let sender = streams.remove(0);
    let begin = Instant::now();
    let sent: Arc<Vec<AtomicU64>> = Arc::new((0..MESSAGES_C).map(|_| AtomicU64::new(0)).collect());
    let mut receivers = JoinSet::new();
    for mut stream in streams {
        let sent = Arc::clone(&sent);
        receivers.spawn(async move {
            let mut took = histogram();
            for _ in 0..MESSAGES_C {
                let text = timeout(SOON, stream.next_text()).await.context("a delivery is missing")??;
                let number: usize = text.trim_end_matches('.').parse()?;
                let at = Duration::from_micros(sent[number].load(Ordering::Acquire));
                record(&mut took, begin.elapsed().saturating_sub(at));
            }
            anyhow::Ok(took)
        });
    }
    let before = cpu_seconds(ours.pid())?;
    let mut ticks = tokio::time::interval(EVERY);
    for (number, sent) in sent.iter().enumerate() {
        ticks.tick().await;
        let send = connect_request::Frame::Send(group.text(format!("{number:.<100}")));
        sent.store(u64::try_from(begin.elapsed().as_micros())?, Ordering::Release);
        sender.frames.send(gateway::ConnectRequest { frame: Some(send) }).await.context("the stream is closed")?;
    }
    let mut took: Histogram<u64> = histogram();
    while let Some(ended) = receivers.join_next().await {
        took.add(ended??)?;
    }
    let cpu = cpu_seconds(ours.pid())? - before;
    report.note("peers C: delivery p50, ms", percentile_ms(&took, 50.0));
    report.note("peers C: delivery p99, ms", percentile_ms(&took, 99.0));
    report.note("peers C: server CPU per delivery, ms", cpu * 1e3 / (MESSAGES_C * (MEMBERS_C - 1)) as f64);
    Ok(())
}
