//! Live links: devices that catch up and go live while messages come in, several of one user, a gateway that does not read.

mod support;

use std::collections::HashMap;

use plaza_proto::chat::v1::{
    Ask, Attach, Detach, LinkRequest, LinkResponse, MarkReadRequest, Pull, Read, Send, SendMessageResponse, Told, ask, told,
};
use plaza_types::UserId;
use prost::Message as _;
use support::{LIMIT, Server, message};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};

/// A gateway with one link, which does for its devices what a gateway does.
struct Gateway {
    asks: mpsc::Sender<LinkRequest>,
    told: Streaming<LinkResponse>,
    devices: HashMap<u64, Device>,
    answers: HashMap<u64, told::Told>,
}

struct Device {
    user: UserId,
    entries: Vec<(u64, Vec<u8>)>,
    live: u64,
    behind: u64,
}

impl Device {
    fn cursor(&self) -> u64 {
        self.entries.len() as u64
    }

    fn take(&mut self, cursor: u64, event: &[u8]) {
        assert_eq!(cursor, self.cursor() + 1, "a gap or a repetition");
        self.entries.push((cursor, event.to_vec()));
    }
}

impl Gateway {
    async fn open(server: &Server) -> Self {
        let (asks, requests) = mpsc::channel(1024);
        let mut told = server.live().link(ReceiverStream::new(requests)).await.expect("a link").into_inner();
        // Whoever attaches to an inbox that is nobody's yet is not answered.
        loop {
            let frame = tokio::time::timeout(LIMIT, told.message()).await.expect("told in time").expect("the link holds");
            let owned = frame.expect("the link is open").owned.expect("nothing else is told before");
            if owned.owned.len() == owned.partitions as usize {
                break;
            }
        }
        Self { asks, told, devices: HashMap::new(), answers: HashMap::new() }
    }

    async fn ask(&self, session: u64, ask: ask::Ask) {
        self.asks.send(LinkRequest { asks: vec![Ask { session, ask: Some(ask) }] }).await.expect("the link is open");
    }

    async fn attach(&self, session: u64) {
        let device = &self.devices[&session];
        self.ask(session, ask::Ask::Attach(Attach { user: device.user.as_bytes().to_vec(), after: device.cursor() })).await;
    }

    async fn connect(&mut self, session: u64, user: UserId) {
        self.devices.insert(session, Device { user, entries: Vec::new(), live: 0, behind: 0 });
        self.attach(session).await;
    }

    /// Reads one frame and does what it asks for.
    async fn step(&mut self) {
        let frame = tokio::time::timeout(LIMIT, self.told.message())
            .await
            .expect("told in time")
            .expect("the link holds")
            .expect("the link is open");
        for Told { session, told } in frame.told {
            let device = self.devices.get_mut(&session);
            match told.expect("something") {
                told::Told::Attached(_) => {}
                told::Told::Live(live) => {
                    let device = device.expect("a device");
                    device.take(live.cursor, &live.event);
                    device.live += 1;
                }
                told::Told::Behind(_) => {
                    let device = device.expect("a device");
                    device.behind += 1;
                    let pull = Pull { user: device.user.as_bytes().to_vec(), after: device.cursor(), limit: 50 };
                    self.ask(session, ask::Ask::Pull(pull)).await;
                }
                told::Told::Page(page) => {
                    let device = device.expect("a device");
                    for entry in &page.entries {
                        device.take(entry.cursor, &entry.event);
                    }
                    self.attach(session).await;
                }
                told @ (told::Told::Sent(_) | told::Told::Refused(_) | told::Told::Read(_)) => {
                    let call = match &told {
                        told::Told::Sent(sent) => sent.call,
                        told::Told::Refused(refused) => refused.call,
                        told::Told::Read(read) => read.call,
                        _ => 0,
                    };
                    assert!(self.answers.insert(call, told).is_none(), "answered once");
                }
            }
        }
    }

    async fn send(&self, server: &Server, call: u64, from: UserId, to: UserId, text: &str) {
        let request = message(to, text, &server.client_id()).encode_to_vec().into();
        let send = Send { user: from.as_bytes().to_vec(), device: vec![1; 16], call, request, traceparent: Vec::new() };
        self.ask(0, ask::Ask::Send(send)).await;
    }

    async fn until_all_have(&mut self, entries: u64) {
        while self.devices.values().any(|device| device.cursor() < entries) {
            self.step().await;
        }
    }

    async fn answer(&mut self, call: u64) -> told::Told {
        loop {
            if let Some(answer) = self.answers.remove(&call) {
                return answer;
            }
            self.step().await;
        }
    }
}

async fn stored(server: &Server, user: UserId) -> Vec<(u64, Vec<u8>)> {
    let strip = |entry: plaza_proto::chat::v1::Entry| (entry.cursor, plaza_proto::chat::v1::Entry { cursor: 0, ..entry }.encode_to_vec());
    server.sync(user, 200).await.into_iter().map(strip).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn devices_go_from_old_to_live_without_gap_or_repetition_while_messages_come() {
    const MESSAGES: u64 = 600;
    let server = Server::start().await;
    let (a, b) = (server.user(), server.user());
    server.befriend(a, b).await;
    let mut gateway = Gateway::open(&server).await;
    let sender = Gateway::open(&server).await;
    let mut connected = 0;
    for call in 1..=MESSAGES {
        let (from, to) = if call % 2 == 0 { (a, b) } else { (b, a) };
        sender.send(&server, call, from, to, &format!("message {call}")).await;
        if call % 40 == 1 {
            connected += 1;
            gateway.connect(connected, if connected % 2 == 0 { a } else { b }).await;
            gateway.step().await;
        }
    }
    gateway.until_all_have(MESSAGES + 1).await;
    for user in [a, b] {
        // What was told live may be written later.
        let expected = server.until("all written", async || match stored(&server, user).await {
            entries if entries.len() as u64 == MESSAGES + 1 => Ok(entries),
            fewer => Err(fewer.len()),
        });
        let expected = expected.await;
        for device in gateway.devices.values().filter(|device| device.user == user) {
            assert_eq!(device.entries, expected);
        }
    }
    assert!(gateway.devices.values().any(|device| device.live > 0), "somebody went live");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_devices_of_both_are_told_and_the_sender_is_answered() {
    let server = Server::start().await;
    let (a, b) = (server.user(), server.user());
    let id = server.befriend(a, b).await;
    let mut gateway = Gateway::open(&server).await;
    for (session, user) in [(1, a), (2, a), (3, b)] {
        gateway.connect(session, user).await;
    }
    gateway.until_all_have(1).await;
    gateway.send(&server, 7, a, b, "hello").await;
    let told::Told::Sent(sent) = gateway.answer(7).await else { panic!("refused") };
    let sent = SendMessageResponse::decode(sent.response).expect("a response");
    assert_eq!((sent.sequence, sent.conversation_id), (1, id.to_string()));
    gateway.until_all_have(2).await;

    gateway.send(&server, 8, a, server.user(), "hello").await;
    let told::Told::Refused(refused) = gateway.answer(8).await else { panic!("sent") };
    assert_eq!(refused.code, Code::FailedPrecondition as i32);
    assert!(!refused.details.is_empty());

    let request = MarkReadRequest { conversation_id: id.to_string(), sequence: 1, request_id: String::new() };
    gateway.ask(3, ask::Ask::Read(Read { user: b.as_bytes().to_vec(), device: vec![1; 16], call: 9, request: Some(request) })).await;
    assert!(matches!(gateway.answer(9).await, told::Told::Read(_)));
    gateway.devices.retain(|session, _| *session == 3);
    gateway.until_all_have(3).await;
    assert_eq!(server.conversation(b, id).await.expect("seen").unread, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_detached_device_is_told_nothing_and_malformed_asks_harm_nobody() {
    let server = Server::start().await;
    let (a, b) = (server.user(), server.user());
    server.befriend(a, b).await;
    let mut gateway = Gateway::open(&server).await;
    gateway.connect(1, a).await;
    gateway.connect(2, b).await;
    gateway.until_all_have(1).await;
    gateway.ask(1, ask::Ask::Detach(Detach {})).await;
    gateway.ask(5, ask::Ask::Attach(Attach { user: vec![1], after: 0 })).await;
    gateway.ask(5, ask::Ask::Send(Send { user: vec![1], call: 1, ..Send::default() })).await;
    gateway.ask(5, ask::Ask::Send(Send { user: a.as_bytes().to_vec(), call: 2, request: vec![255].into(), ..Send::default() })).await;
    for call in [1, 2] {
        let told::Told::Refused(refused) = gateway.answer(call).await else { panic!("sent") };
        assert_eq!(refused.code, Code::InvalidArgument as i32);
    }
    let left = gateway.devices.remove(&1).expect("a device");
    server.send(a, b, "x").await;
    gateway.until_all_have(2).await;
    assert_eq!(left.cursor(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_does_not_read_holds_nobody_up_and_catches_up() {
    let server = Server::with(plaza_chat::Config { link_bytes: 4096, ..plaza_chat::Config::default() }).await;
    let (a, b) = (server.user(), server.user());
    server.befriend(a, b).await;
    let (mut slow, mut quick) = (Gateway::open(&server).await, Gateway::open(&server).await);
    slow.connect(1, b).await;
    quick.connect(1, b).await;
    slow.until_all_have(1).await;
    quick.until_all_have(1).await;
    for n in 0..200 {
        server.send(a, b, &format!("{n} {}", "x".repeat(400))).await;
        quick.until_all_have(n + 2).await;
    }
    let before = slow.devices[&1].behind;
    slow.until_all_have(201).await;
    assert!(slow.devices[&1].behind > before, "it was sent to the store");
    assert_eq!(slow.devices[&1].entries, quick.devices[&1].entries);
    server.send(a, b, "last").await;
    slow.until_all_have(202).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_ahead_of_the_store_is_attached_and_waits() {
    let server = Server::start().await;
    let (a, b) = (server.user(), server.user());
    server.befriend(a, b).await;
    let mut gateway = Gateway::open(&server).await;
    gateway.devices.insert(1, Device { user: a, entries: vec![(1, Vec::new()), (2, Vec::new())], live: 0, behind: 0 });
    gateway.attach(1).await;
    for _ in 0..2 {
        server.send(b, a, "x").await;
    }
    gateway.until_all_have(3).await;
}
