//! Live streams, with the owner of inboxes played by the test.

use std::time::{Duration, Instant};

use bytes::Bytes;
use plaza_gateway::Config;
use plaza_proto::{
    chat::v1::{self as chat, Ask, Told, ask, entry::Event, told},
    gateway::v1::{
        ConnectRequest, ConnectResponse, Hello, Ping, connect_request, connect_response::Frame,
        gateway_service_client::GatewayServiceClient,
    },
};
use plaza_rpc::ApiError;
use plaza_types::Reason;
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming, transport::Channel};

use crate::support::{Gateway, NOW, Owner, authorized, reason, soon};

/// How soon a device is with the next owner of its inbox.
const MOVED: Duration = Duration::from_secs(1);

struct Device {
    frames: mpsc::Sender<ConnectRequest>,
    stream: Streaming<ConnectResponse>,
}

impl Device {
    async fn open(channel: Channel, token: &str) -> Self {
        let (frames, queue) = mpsc::channel(64);
        let opened = async { GatewayServiceClient::new(channel).connect(authorized(ReceiverStream::new(queue), token)).await };
        Self { frames, stream: soon("the stream", opened).await.expect("opened").into_inner() }
    }

    async fn connect(gateway: &Gateway, cursor: u64) -> Self {
        let device = Self::open(gateway.channel().await, &gateway.token()).await;
        device.send(connect_request::Frame::Hello(Hello { cursor })).await;
        device
    }

    async fn send(&self, frame: connect_request::Frame) {
        soon("the stream", self.frames.send(ConnectRequest { frame: Some(frame) })).await.expect("an open stream");
    }

    async fn frame(&mut self) -> Frame {
        soon("a frame", self.stream.message()).await.expect("no error").expect("no end").frame.expect("of a known kind")
    }

    async fn cursor(&mut self) -> u64 {
        match self.frame().await {
            Frame::Entry(entry) => {
                assert_eq!(entry.event, Some(event(entry.cursor)));
                entry.cursor
            }
            other => panic!("not an entry: {other:?}"),
        }
    }

    async fn end(&mut self) -> Status {
        loop {
            match soon("the end", self.stream.message()).await {
                Ok(frame) => assert!(frame.is_some(), "ended without an error"),
                Err(status) => return status,
            }
        }
    }

    async fn assert_welcome(&mut self, head: u64) {
        match self.frame().await {
            Frame::Welcome(welcome) => assert_eq!(welcome.head, head),
            other => panic!("not welcome: {other:?}"),
        }
    }
}

fn event(number: u64) -> Event {
    Event::Message(chat::Message { sequence: number, conversation_id: "d-0".into(), ..chat::Message::default() })
}

fn live(cursor: u64) -> chat::Live {
    chat::Live { cursor, event: chat::Entry { cursor: 0, event: Some(event(cursor)) }.encode_to_vec().into() }
}

fn config() -> Config {
    Config { heartbeat_ms: 10_000, ..Config::default() }
}

async fn attach(owner: &mut Owner) -> (u64, u64) {
    loop {
        match owner.next().await {
            Ask { session, ask: Some(ask::Ask::Attach(attach)) } => return (session, attach.after),
            // A stream of an earlier part of the test has gone.
            Ask { ask: Some(ask::Ask::Detach(_)), .. } => {}
            other => panic!("not an attach: {other:?}"),
        }
    }
}

#[tokio::test]
async fn old_entries_come_before_live_ones_without_gap_or_repeat() {
    let mut gateway = Gateway::start(config()).await;
    let mut owner = gateway.link().await;
    let mut device = Device::connect(&gateway, 2).await;
    let (session, after) = attach(&mut owner).await;
    assert_eq!(after, 2);
    owner.tell(session, told::Told::Behind(chat::Behind { head: 5 })).await;
    let Some(ask::Ask::Pull(pull)) = owner.next().await.ask else { panic!("not a pull") };
    assert_eq!((pull.after, pull.user.as_slice()), (2, gateway.user.as_bytes().as_slice()));
    owner.tell(session, told::Told::Page(chat::Page { entries: vec![live(3), live(4)], head: 5 })).await;
    let Some(ask::Ask::Pull(pull)) = owner.next().await.ask else { panic!("not a pull") };
    assert_eq!(pull.after, 4);
    owner.tell(session, told::Told::Page(chat::Page { entries: vec![live(5)], head: 5 })).await;
    assert_eq!(attach(&mut owner).await, (session, 5));
    owner.tell(session, told::Told::Attached(chat::Attached { head: 5 })).await;
    // An owner may push again what it pushed before; a number it left out is fetched.
    let pushed = [5, 6, 6, 7, 9].map(|cursor| Told { session, told: Some(told::Told::Live(live(cursor))) });
    owner.tell_all(pushed.into()).await;
    assert!(matches!(owner.next().await.ask, Some(ask::Ask::Detach(_))));
    let Some(ask::Ask::Pull(pull)) = owner.next().await.ask else { panic!("not a pull") };
    assert_eq!(pull.after, 7);
    owner.tell(session, told::Told::Page(chat::Page { entries: vec![live(8), live(9)], head: 9 })).await;

    device.assert_welcome(5).await;
    for cursor in 3..=9 {
        assert_eq!(device.cursor().await, cursor);
    }
}

#[tokio::test]
async fn sends_and_reads_are_answered_and_pings_too() {
    let mut gateway = Gateway::start(config()).await;
    let mut owner = gateway.link().await;
    let mut device = Device::connect(&gateway, 0).await;
    let (session, _) = attach(&mut owner).await;
    owner.tell(session, told::Told::Attached(chat::Attached { head: 0 })).await;
    device.assert_welcome(0).await;
    device.send(connect_request::Frame::Ping(Ping { nonce: 42 })).await;
    assert!(matches!(device.frame().await, Frame::Pong(pong) if pong.nonce == 42));

    let request =
        |id: &str| chat::SendMessageRequest { client_message_id: id.into(), user_id: "to".into(), ..chat::SendMessageRequest::default() };
    let mut calls = Vec::new();
    for id in ["one", "two"] {
        device.send(connect_request::Frame::Send(request(id))).await;
        let Some(ask::Ask::Send(send)) = owner.next().await.ask else { panic!("not a send") };
        assert_eq!(chat::SendMessageRequest::decode(send.request).expect("the request"), request(id));
        assert_eq!(
            (send.user.as_slice(), send.device.as_slice()),
            (gateway.user.as_bytes().as_slice(), gateway.device.as_bytes().as_slice())
        );
        calls.push(send.call);
    }
    let response = chat::SendMessageResponse { conversation_id: "d-1".into(), sequence: 9, sent_at: None };
    owner.tell(session, told::Told::Sent(chat::Sent { call: calls[1], response: response.encode_to_vec().into() })).await;
    let Frame::Sent(sent) = device.frame().await else { panic!("not sent") };
    assert_eq!((sent.client_message_id.as_str(), sent.conversation_id.as_str(), sent.sequence), ("two", "d-1", 9));
    let status = Status::from(ApiError::refused(Reason::NotAContact, "user", "not in each other's lists", 0));
    let refused =
        chat::Refused { call: calls[0], code: status.code() as i32, message: status.message().into(), details: status.details().to_vec() };
    owner.tell(session, told::Told::Refused(refused)).await;
    let Frame::Refused(refused) = device.frame().await else { panic!("not refused") };
    assert_eq!((refused.client_message_id.as_str(), refused.code, refused.reason.as_str()), ("one", 9, "NOT_A_CONTACT"));

    let read = chat::MarkReadRequest { conversation_id: "d-1".into(), sequence: 9, request_id: "three".into() };
    device.send(connect_request::Frame::MarkRead(read.clone())).await;
    let Some(ask::Ask::Read(asked)) = owner.next().await.ask else { panic!("not a read") };
    assert_eq!(asked.request, Some(read));
    let status = Status::from(ApiError::not_found("conversation"));
    let refused = chat::Refused {
        call: asked.call,
        code: status.code() as i32,
        message: status.message().into(),
        details: status.details().to_vec(),
    };
    owner.tell(session, told::Told::Refused(refused)).await;
    let Frame::Refused(refused) = device.frame().await else { panic!("not refused") };
    assert_eq!((refused.request_id.as_str(), refused.reason.as_str()), ("three", "NOT_FOUND"));
}

#[tokio::test]
async fn a_lost_link_is_made_again_and_nothing_is_missing() {
    let mut gateway = Gateway::start(config()).await;
    let mut owner = gateway.link().await;
    let mut device = Device::connect(&gateway, 0).await;
    let (session, _) = attach(&mut owner).await;
    owner.tell(session, told::Told::Attached(chat::Attached { head: 0 })).await;
    device.assert_welcome(0).await;
    owner.tell(session, told::Told::Live(live(1))).await;
    assert_eq!(device.cursor().await, 1);
    device.send(connect_request::Frame::Send(chat::SendMessageRequest { client_message_id: "lost".into(), ..Default::default() })).await;
    assert!(matches!(owner.next().await.ask, Some(ask::Ask::Send(_))));
    drop(owner);

    let Frame::Refused(refused) = device.frame().await else { panic!("not refused") };
    assert_eq!(
        (refused.client_message_id.as_str(), refused.code, refused.reason.as_str()),
        ("lost", Code::Unavailable as i32, "UNAVAILABLE")
    );
    assert!(refused.retry_after.is_some());
    let mut owner = gateway.link().await;
    assert_eq!(attach(&mut owner).await, (session, 1));
    owner.tell(session, told::Told::Attached(chat::Attached { head: 1 })).await;
    owner.tell(session, told::Told::Live(live(2))).await;
    assert_eq!(device.cursor().await, 2);
    // Whoever leaves is detached.
    drop(device);
    assert!(matches!(owner.next().await.ask, Some(ask::Ask::Detach(_))));
}

#[tokio::test]
async fn a_device_follows_its_inbox_to_another_owner_and_notices_nothing() {
    let mut gateway = Gateway::start_before_instances(config(), 2).await;
    let (mut first, mut second) = (gateway.unclaimed().await, gateway.unclaimed().await);
    first.owns(Some(1)).await;
    let mut device = Device::connect(&gateway, 0).await;
    let (session, _) = attach(&mut first).await;
    first.tell(session, told::Told::Attached(chat::Attached { head: 0 })).await;
    device.assert_welcome(0).await;
    first.tell(session, told::Told::Live(live(1))).await;
    assert_eq!(device.cursor().await, 1);
    let request = chat::SendMessageRequest { client_message_id: "under way".into(), ..Default::default() };
    device.send(connect_request::Frame::Send(request)).await;
    let Some(ask::Ask::Send(send)) = first.next().await.ask else { panic!("not a send") };

    let began = Instant::now();
    first.owns(None).await;
    assert!(matches!(first.next().await, Ask { ask: Some(ask::Ask::Detach(_)), session: left } if left == session));
    second.owns(Some(2)).await;
    assert_eq!(attach(&mut second).await, (session, 1));
    assert!(began.elapsed() < MOVED, "it took {:?}", began.elapsed());
    second.tell(session, told::Told::Attached(chat::Attached { head: 1 })).await;
    second.tell(session, told::Told::Live(live(2))).await;
    assert_eq!(device.cursor().await, 2);
    // The former owner answers what it was asked, and of the inbox it is not heard any more.
    let stale = told::Told::Live(chat::Live { cursor: 3, ..live(99) });
    let response = chat::SendMessageResponse { sequence: 1, ..Default::default() }.encode_to_vec();
    let answer = told::Told::Sent(chat::Sent { call: send.call, response: response.into() });
    first.tell_all([stale, answer].map(|told| Told { session, told: Some(told) }).into()).await;
    assert!(matches!(device.frame().await, Frame::Sent(sent) if sent.client_message_id == "under way"));
    second.tell(session, told::Told::Live(live(3))).await;
    assert_eq!(device.cursor().await, 3);

    // An owner that does not know yet that it lost the partition is left all the same.
    let began = Instant::now();
    first.owns(Some(3)).await;
    assert_eq!(attach(&mut first).await, (session, 3));
    assert!(matches!(second.next().await, Ask { ask: Some(ask::Ask::Detach(_)), session: left } if left == session));
    assert!(began.elapsed() < MOVED, "it took {:?}", began.elapsed());
    first.tell(session, told::Told::Attached(chat::Attached { head: 3 })).await;
    first.tell(session, told::Told::Live(live(4))).await;
    assert_eq!(device.cursor().await, 4);
}

#[tokio::test]
async fn a_device_that_does_not_read_is_cut_off_and_resumes_by_its_cursor() {
    let mut gateway = Gateway::start(Config { slow_consumer_timeout_ms: 300, ..config() }).await;
    let mut owner = gateway.link().await;
    let channel = soon("the gateway", gateway.endpoint().initial_stream_window_size(65_535).connect()).await.expect("connected");
    let mut device = Device::open(channel, &gateway.token()).await;
    device.send(connect_request::Frame::Hello(Hello { cursor: 0 })).await;
    let (session, _) = attach(&mut owner).await;
    owner.tell(session, told::Told::Attached(chat::Attached { head: 0 })).await;
    let large = Bytes::from(
        chat::Entry { cursor: 0, event: Some(Event::Message(chat::Message { conversation_id: "x".repeat(8_000), ..Default::default() })) }
            .encode_to_vec(),
    );
    for cursor in 1..=400 {
        owner.tell(session, told::Told::Live(chat::Live { cursor, event: large.clone() })).await;
    }
    // First it falls behind, then it is given up.
    for _ in 0..2 {
        assert!(matches!(owner.next().await, Ask { ask: Some(ask::Ask::Detach(_)), session: asked } if asked == session));
    }
    device.assert_welcome(0).await;
    let mut last = 0;
    let status = loop {
        match soon("the end", device.stream.message()).await {
            Ok(Some(ConnectResponse { frame: Some(Frame::Entry(entry)) })) => {
                assert_eq!(entry.cursor, last + 1);
                last = entry.cursor;
            }
            Ok(other) => panic!("{other:?}"),
            Err(status) => break status,
        }
    };
    assert_eq!((status.code(), reason(&status).as_str()), (Code::ResourceExhausted, "SLOW_CONSUMER"));
    assert!((1..100).contains(&last), "what was under way was bounded: {last}");
    let device = Device::connect(&gateway, last).await;
    assert_eq!(attach(&mut owner).await.1, last);
    drop(device);
}

#[tokio::test]
async fn frames_out_of_order_and_garbage_end_the_stream() {
    let mut gateway = Gateway::start(Config { hello_timeout_ms: 200, ..config() }).await;
    let _owner = gateway.link().await;
    let ping = || connect_request::Frame::Ping(Ping { nonce: 1 });
    let hello = || connect_request::Frame::Hello(Hello { cursor: 0 });
    let cases = [
        vec![ConnectRequest { frame: Some(ping()) }],
        vec![ConnectRequest { frame: Some(hello()) }, ConnectRequest { frame: Some(hello()) }],
        vec![ConnectRequest { frame: None }],
        vec![],
    ];
    for frames in cases {
        let mut device = Device::open(gateway.channel().await, &gateway.token()).await;
        for frame in frames.clone() {
            device.frames.send(frame).await.expect("an open stream");
        }
        let status = device.end().await;
        assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, "STREAM_PROTOCOL"), "{frames:?}");
    }
    let mut device = Device::connect(&gateway, 0).await;
    device.send(connect_request::Frame::Send(chat::SendMessageRequest { conversation_id: "x".repeat(40_000), ..Default::default() })).await;
    let status = device.end().await;
    assert_eq!((status.code(), reason(&status).as_str()), (Code::ResourceExhausted, "TOO_LARGE"));
}

#[tokio::test]
async fn bytes_that_are_no_frame_end_the_stream() {
    let mut gateway = Gateway::start(config()).await;
    let _owner = gateway.link().await;
    // A cursor where hello should be: the same field number, another type on the wire.
    let garbage = Hello { cursor: 7 };
    let mut client = tonic::client::Grpc::new(gateway.channel().await);
    client.ready().await.expect("connected");
    let codec = tonic_prost::ProstCodec::<Hello, ConnectResponse>::default();
    let path = http::uri::PathAndQuery::from_static("/plaza.gateway.v1.GatewayService/Connect");
    let request = authorized(tokio_stream::iter([garbage]), &gateway.token());
    let mut stream = soon("the stream", client.streaming(request, path, codec)).await.expect("opened").into_inner();
    let status = soon("the end", stream.message()).await.expect_err("garbage");
    assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, "STREAM_PROTOCOL"));
}

#[tokio::test]
async fn a_silent_device_is_cut_off() {
    let mut gateway = Gateway::start(Config { heartbeat_ms: 100, ..config() }).await;
    let _owner = gateway.link().await;
    let mut device = Device::connect(&gateway, 0).await;
    let status = device.end().await;
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "UNAVAILABLE"));
}

#[tokio::test]
async fn streams_end_with_their_token_and_with_their_device() {
    let mut gateway = Gateway::start(Config { hello_timeout_ms: 200, ..config() }).await;
    let _owner = gateway.link().await;
    let mut device = Device::connect(&gateway, 0).await;
    gateway.log.revoke(gateway.device, NOW * 1_000_000);
    let status = device.end().await;
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unauthenticated, "TOKEN_REVOKED"));

    let mut claims = gateway.claims();
    claims.iau += 1;
    let mut device = Device::open(gateway.channel().await, &gateway.signer.sign(&claims)).await;
    device.send(connect_request::Frame::Hello(Hello { cursor: 0 })).await;
    gateway.clock.advance(Duration::from_secs(900));
    let status = device.end().await;
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unauthenticated, "TOKEN_EXPIRED"));
}

#[tokio::test]
async fn on_shutdown_devices_are_told_to_move_after_what_they_are_owed() {
    let mut gateway = Gateway::start(config()).await;
    let mut owner = gateway.link().await;
    let mut device = Device::connect(&gateway, 0).await;
    let (session, _) = attach(&mut owner).await;
    owner.tell(session, told::Told::Attached(chat::Attached { head: 0 })).await;
    device.assert_welcome(0).await;
    device.send(connect_request::Frame::Send(chat::SendMessageRequest { client_message_id: "last".into(), ..Default::default() })).await;
    let Some(ask::Ask::Send(send)) = owner.next().await.ask else { panic!("not a send") };
    gateway.stop_accepting();
    let response = chat::SendMessageResponse { sequence: 1, ..Default::default() }.encode_to_vec();
    owner.tell(session, told::Told::Sent(chat::Sent { call: send.call, response: response.into() })).await;
    assert!(matches!(device.frame().await, Frame::Sent(sent) if sent.client_message_id == "last"));
    let Frame::Moved(moved) = device.frame().await else { panic!("not moved") };
    assert!(Duration::try_from(moved.retry_after.expect("a time")).expect("positive") <= Duration::from_secs(3));
    assert!(soon("the end", device.stream.message()).await.expect("no error").is_none());
}
