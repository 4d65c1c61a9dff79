//! Live delivery: every device gets every entry once and in order whenever it comes and goes, one that does not read is cut off and holds
//! nobody up, and what a user does on one device is told to the user's others only.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, ensure};
use bytes::Bytes;
use plaza_client::{
    Account, Endpoint, LiveEvent, To, chat,
    chat::entry::Event,
    gateway::{ConnectRequest, ConnectResponse, Hello, Ping, connect_request::Frame, connect_response::Frame as Answer},
    new_id, text,
};
use plaza_testkit::{
    people::{SOON, another_device, befriend, newcomer},
    raw::{self, Connection},
    server::{Server, Shared},
    wait::wait_for,
};
use prost::Message;
use rand::Rng;
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt;

const BINARY: &str = env!("CARGO_BIN_EXE_plaza");
const CONNECT: &str = "/plaza.gateway.v1.GatewayService/Connect";

static SERVER: Shared = Shared::new();

/// A server, and a pair of friends on it with their conversation.
struct World {
    server: Arc<Server>,
    endpoint: Endpoint,
    ada: Account,
    bob: Account,
    conversation: String,
}

impl World {
    async fn new() -> anyhow::Result<Self> {
        Self::on(SERVER.get(BINARY, &[]).await?).await
    }

    async fn on(server: Arc<Server>) -> anyhow::Result<Self> {
        let endpoint = Endpoint::new(&server.address())?;
        let (ada, bob) = (newcomer(&endpoint, "ada").await?, newcomer(&endpoint, "bob").await?);
        let conversation = befriend(&ada, &bob).await?;
        Ok(Self { server, endpoint, ada, bob, conversation })
    }

    fn message(&self, words: impl Into<String>) -> chat::SendMessageRequest {
        chat::SendMessageRequest {
            conversation_id: self.conversation.clone(),
            client_message_id: new_id(),
            content: Some(text(words)),
            ..Default::default()
        }
    }
}

/// A stream as its frames.
struct Device {
    frames: mpsc::Sender<Bytes>,
    answers: Streaming<Bytes>,
}

impl Device {
    async fn open(server: &Server, account: &Account, cursor: u64) -> anyhow::Result<Self> {
        let connection = Connection::open(&server.address()).await?;
        let (frames, queue) = mpsc::channel(256);
        let device = raw::request(ReceiverStream::new(queue), Some(&account.access_token().await?))?;
        frames.send(encoded(Frame::Hello(Hello { cursor }))).await?;
        Ok(Self { answers: connection.streaming(CONNECT, device).await?, frames })
    }

    async fn say(&self, frame: Frame) -> anyhow::Result<()> {
        Ok(self.frames.send(encoded(frame)).await?)
    }

    async fn next(&mut self) -> anyhow::Result<Result<Answer, Status>> {
        match timeout(SOON, self.answers.message()).await.context("nothing came")? {
            Ok(Some(answer)) => Ok(Ok(ConnectResponse::decode(answer)?.frame.context("an empty frame")?)),
            Ok(None) => anyhow::bail!("the stream ended without a status"),
            Err(status) => Ok(Err(status)),
        }
    }

    /// The next answer of the kind that `wanted` picks; the others are passed over.
    async fn until<T>(&mut self, wanted: impl Fn(Answer) -> Option<T>) -> anyhow::Result<T> {
        loop {
            if let Some(found) = wanted(self.next().await??) {
                return Ok(found);
            }
        }
    }

    async fn entry(&mut self) -> anyhow::Result<chat::Entry> {
        self.until(|answer| match answer {
            Answer::Entry(entry) => Some(entry),
            _ => None,
        })
        .await
    }
}

fn encoded(frame: Frame) -> Bytes {
    ConnectRequest { frame: Some(frame) }.encode_to_vec().into()
}

async fn inbox(account: &Account, after: u64) -> anyhow::Result<Vec<chat::Entry>> {
    let (mut entries, mut cursor) = (Vec::new(), after);
    loop {
        let page = account.services().await?.chat.sync(chat::SyncRequest { cursor, page_size: 200 }).await?.into_inner();
        entries.extend(page.entries);
        cursor = page.next_cursor;
        if !page.more {
            return Ok(entries);
        }
    }
}

/// Watches over streams that it drops and opens again with the last cursor, until it has seen this many entries.
async fn watch(account: Account, total: usize) -> anyhow::Result<Vec<chat::Entry>> {
    let mut seen: Vec<chat::Entry> = Vec::new();
    while seen.len() < total {
        let mut live = account.live(seen.last().map_or(0, |entry| entry.cursor));
        let until = seen.len() + rand::rng().random_range(1..60);
        while seen.len() < until.min(total) {
            let event = timeout(SOON, live.next()).await.with_context(|| format!("only {} of {total} entries came", seen.len()))?;
            if let LiveEvent::Entry(entry) = event.context("the stream ended")?? {
                seen.push(*entry);
            }
        }
    }
    Ok(seen)
}

#[tokio::test]
async fn every_device_gets_every_entry_once_and_in_order() -> anyhow::Result<()> {
    const EACH: usize = 100;
    let world = World::new().await?;
    let mut watching = JoinSet::new();
    let mut sending = JoinSet::new();
    for account in [&world.ada, &world.bob] {
        let devices = [account.clone(), another_device(&world.endpoint, account).await?, another_device(&world.endpoint, account).await?];
        // Signing in is told as well.
        let before = has(account, 2, |event| matches!(event, Event::ProfileChanged(_))).await?;
        for device in devices {
            watching.spawn(watch(device, before as usize + 2 * EACH));
        }
    }
    for account in [&world.ada, &world.bob] {
        let (account, conversation) = (account.clone(), world.conversation.clone());
        sending.spawn(async move {
            let live = account.live(u64::MAX);
            for number in 0..EACH {
                let to = To::Conversation(conversation.clone());
                if number % 2 == 0 {
                    live.sender().send(to, text(format!("{number} on the stream"))).await?;
                } else {
                    account.send(to, text(format!("{number} by a call"))).await?;
                }
            }
            anyhow::Ok(())
        });
    }
    while let Some(sent) = sending.join_next().await {
        sent??;
    }
    let seen = watching.join_all().await.into_iter().collect::<Result<Vec<_>, _>>()?;
    // Whoever was shown everything finds it by Sync as well, so this is the whole of it.
    let inboxes = futures::future::try_join_all([inbox(&world.ada, 0), inbox(&world.bob, 0)]).await?;
    for device in &seen {
        ensure!(device.iter().map(|entry| entry.cursor).eq(1..=device.len() as u64), "not every cursor once and in order");
        ensure!(inboxes.contains(device), "a device saw something else than its inbox");
    }
    ensure!(seen.len() == 6, "{} devices", seen.len());
    world.server.assert_quiet_log(&[])
}

/// Waits until somebody's inbox has this many such events; answers its newest cursor.
async fn has(account: &Account, count: usize, such: impl Fn(&Event) -> bool) -> anyhow::Result<u64> {
    wait_for("the events are in the inbox", SOON, || async {
        let inbox = inbox(account, 0).await.map_err(|error| error.to_string())?;
        let found = inbox.iter().filter(|entry| entry.event.as_ref().is_some_and(&such)).count();
        if found >= count { Ok(inbox.len() as u64) } else { Err(format!("{found} of {count} in {inbox:?}")) }
    })
    .await
}

#[tokio::test]
async fn a_device_that_does_not_read_is_cut_off_and_goes_on_by_its_cursor() -> anyhow::Result<()> {
    const SILENT: usize = 30;
    const MESSAGES: usize = 300;
    let arguments = ["--set", "gateway.slow_consumer_timeout_ms=1000", "--set", "chat.cache_bytes=1048576"];
    let server = Arc::new(Server::temporary(BINARY, &arguments).await?);
    let world = World::on(server).await?;
    let before = has(&world.bob, 3, |_| true).await?;
    let mut silent = Vec::new();
    for _ in 0..SILENT {
        let mut device = Device::open(&world.server, &world.bob, before).await?;
        device.until(|answer| matches!(answer, Answer::Welcome(_)).then_some(())).await?;
        silent.push(device);
    }
    let mut reader = Device::open(&world.server, &world.bob, before).await?;
    let at_first = memory(&world.server)?;
    let words = "x".repeat(15 << 10);
    let mut slowest = Duration::ZERO;
    for number in 0..MESSAGES {
        let sent = Instant::now();
        world.ada.services().await?.chat.send_message(world.message(format!("{number} {words}"))).await?;
        // Who reads is not held up by those who do not.
        let entry = reader.entry().await?;
        slowest = slowest.max(sent.elapsed());
        ensure!(entry.cursor == before + number as u64 + 1, "cursor {} after {number} messages", entry.cursor);
    }
    let grown = memory(&world.server)?.saturating_sub(at_first);
    // All of it for each of them would be several times that.
    let all = (SILENT * MESSAGES * words.len()) as u64;
    println!("{} MiB more for {} MiB not read; the slowest of {MESSAGES} took {slowest:?}", grown >> 20, all >> 20);
    ensure!(grown < all / 2, "{grown} bytes more for {all} bytes that nobody read");

    // The time after which they are cut off has to pass; the one who reads is there all the while.
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(4) {
        reader.say(Frame::Ping(Ping { nonce: 1 })).await?;
        reader.until(|answer| matches!(answer, Answer::Pong(_)).then_some(())).await?;
    }
    for mut device in silent {
        let mut cursor = before;
        let status = loop {
            match device.next().await.with_context(|| format!("after {cursor} of {} from {before}", before + MESSAGES as u64))? {
                Ok(Answer::Entry(entry)) => {
                    ensure!(entry.cursor == cursor + 1, "{} came after {cursor}", entry.cursor);
                    cursor = entry.cursor;
                }
                Ok(other) => anyhow::bail!("{other:?} came"),
                Err(status) => break status,
            }
        };
        let reason = status.get_details_error_info().map(|info| info.reason).unwrap_or_default();
        ensure!((status.code(), reason.as_str()) == (Code::ResourceExhausted, "SLOW_CONSUMER"), "{status:?}");
        ensure!(cursor < before + MESSAGES as u64, "it was given everything, and cut off");
        let mut again = Device::open(&world.server, &world.bob, cursor).await?;
        while cursor < before + MESSAGES as u64 {
            let entry = again.entry().await.with_context(|| format!("again after {cursor}"))?;
            ensure!(entry.cursor == cursor + 1, "{} came after {cursor}", entry.cursor);
            cursor = entry.cursor;
        }
    }
    world.server.assert_quiet_log(&[])
}

/// Bytes that the server holds in memory.
fn memory(server: &Server) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid().context("not running")?))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("no VmRSS")?;
    Ok(line.split_whitespace().nth(1).context("no number")?.parse::<u64>()? << 10)
}

#[tokio::test]
async fn a_frame_sent_again_is_the_same_message() -> anyhow::Result<()> {
    let world = World::new().await?;
    let start = has(&world.ada, 3, |_| true).await?;
    let mut first = Device::open(&world.server, &world.ada, start).await?;
    let mut second = Device::open(&world.server, &world.ada, start).await?;
    let message = world.message("once");
    let sent = |answer| match answer {
        Answer::Sent(sent) => Some(sent),
        _ => None,
    };
    for _ in 0..3 {
        first.say(Frame::Send(message.clone())).await?;
    }
    second.say(Frame::Send(message.clone())).await?;
    let by_call = world.ada.services().await?.chat.send_message(message.clone()).await?.into_inner();
    for device in [&mut first, &mut second] {
        let answer = device.until(sent).await?;
        ensure!(answer.client_message_id == message.client_message_id && answer.sequence == by_call.sequence, "{answer:?}, {by_call:?}");
        ensure!(answer.sent_at == by_call.sent_at && answer.conversation_id == by_call.conversation_id, "{answer:?}, {by_call:?}");
    }
    for _ in 0..2 {
        ensure!(first.until(sent).await?.sequence == by_call.sequence, "a resend got another sequence");
    }
    let other = chat::SendMessageRequest { content: Some(text("twice")), ..message.clone() };
    first.say(Frame::Send(other)).await?;
    let refused = |answer| match answer {
        Answer::Refused(refused) => Some(refused),
        _ => None,
    };
    let answer = first.until(refused).await?;
    ensure!((answer.code, answer.reason.as_str()) == (Code::AlreadyExists as i32, "REQUEST_ID_REUSED"), "{answer:?}");
    let next = world.ada.services().await?.chat.send_message(world.message("next")).await?.into_inner();
    ensure!(next.sequence == by_call.sequence + 1, "{next:?} after {by_call:?}");
    let inbox = wait_for("both messages are there", SOON, || async {
        let ids: Vec<_> = inbox(&world.bob, 0)
            .await
            .unwrap_or_default()
            .into_iter()
            .filter_map(|entry| match entry.event {
                Some(Event::Message(message)) => Some(message.client_message_id),
                _ => None,
            })
            .collect();
        if ids.len() >= 2 { Ok(ids) } else { Err(ids) }
    })
    .await?;
    ensure!(inbox.len() == 2 && inbox[0] == message.client_message_id, "{inbox:?}");
    world.server.assert_quiet_log(&[])
}

#[tokio::test]
async fn what_is_read_on_a_stream_is_told_to_the_own_devices_only() -> anyhow::Result<()> {
    let world = World::new().await?;
    world.bob.services().await?.chat.send_message(world.message("read me")).await?;
    let is_message = |event: &Event| matches!(event, Event::Message(_));
    let (ada, bob) = (has(&world.ada, 1, is_message).await?, has(&world.bob, 1, is_message).await?);
    let mut first = Device::open(&world.server, &world.ada, ada).await?;
    let mut second = Device::open(&world.server, &another_device(&world.endpoint, &world.ada).await?, ada).await?;
    let mut other = Device::open(&world.server, &world.bob, bob).await?;
    other.until(|answer| matches!(answer, Answer::Welcome(_)).then_some(())).await?;
    let mark = chat::MarkReadRequest { conversation_id: world.conversation.clone(), sequence: 1, request_id: new_id() };
    first.say(Frame::MarkRead(mark)).await?;
    for device in [&mut first, &mut second] {
        let read = device
            .until(|answer| match answer {
                Answer::Entry(chat::Entry { event: Some(Event::ReadChanged(read)), .. }) => Some(read),
                _ => None,
            })
            .await?;
        ensure!((read.conversation_id.as_str(), read.read) == (world.conversation.as_str(), 1), "{read:?}");
    }
    // What the other is shown next is the message sent after it.
    world.ada.services().await?.chat.send_message(world.message("did you see that I read it")).await?;
    let next = other.entry().await?;
    ensure!(next.cursor == bob + 1 && matches!(next.event, Some(Event::Message(_))), "the other was shown {next:?}");
    world.server.assert_quiet_log(&[])
}

#[tokio::test]
async fn a_cursor_beyond_everything_is_harmless() -> anyhow::Result<()> {
    let world = World::new().await?;
    let head = has(&world.bob, 3, |_| true).await?;
    let mut beyond = Device::open(&world.server, &world.bob, u64::MAX).await?;
    let mut ahead = Device::open(&world.server, &world.bob, head + 1).await?;
    for device in [&mut beyond, &mut ahead] {
        let welcomed = device.until(|answer| if let Answer::Welcome(welcome) = answer { Some(welcome.head) } else { None }).await?;
        ensure!(welcomed >= head, "welcomed with {welcomed}, not {head}");
    }
    for cursor in [head + 1, u64::MAX - 1, u64::MAX] {
        let page = world.bob.services().await?.chat.sync(chat::SyncRequest { cursor, page_size: 200 }).await?.into_inner();
        ensure!(page.entries.is_empty() && !page.more && page.next_cursor == cursor, "{page:?}");
    }
    for (before, after) in [(Some(u64::MAX), None), (Some(0), None), (None, Some(u64::MAX)), (None, Some(u64::MAX - 1))] {
        let list = chat::ListMessagesRequest { conversation_id: world.conversation.clone(), before, after, page_size: 200 };
        let page = world.bob.services().await?.chat.list_messages(list).await?.into_inner();
        ensure!(page.messages.is_empty(), "{page:?}");
    }
    for words in ["one", "two"] {
        world.ada.services().await?.chat.send_message(world.message(words)).await?;
    }
    let next = ahead.entry().await?;
    ensure!(next.cursor == head + 2, "{next:?} after {}", head + 1);
    beyond.say(Frame::Send(world.message("three"))).await?;
    let sent = beyond.until(|answer| if let Answer::Sent(sent) = answer { Some(sent.sequence) } else { None }).await?;
    ensure!(sent == 3, "{sent}");
    world.server.assert_quiet_log(&[])
}
