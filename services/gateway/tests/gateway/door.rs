//! Calls that pass and calls that do not.

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use http::uri::PathAndQuery;
use plaza_gateway::Config;
use plaza_types::{DeviceId, UserId};
use tonic::{
    Code, Request, Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient, server_reflection_request::MessageRequest,
    server_reflection_response::MessageResponse,
};

use crate::support::{ANSWER, Claims, Gateway, Log, NOW, Signer, authorized, reason, soon};

const SEND: &str = "/plaza.chat.v1.ChatService/SendMessage";
const LOGIN: &str = "/plaza.accounts.v1.AccountsService/Login";

/// Messages as they are.
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;
    fn encoder(&mut self) -> Self {
        Self
    }
    fn decoder(&mut self) -> Self {
        Self
    }
}
impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;
    fn encode(&mut self, item: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put(item);
        Ok(())
    }
}
impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;
    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

async fn call(gateway: &Gateway, path: &'static str, request: Request<Bytes>) -> Result<Bytes, Status> {
    let mut client = tonic::client::Grpc::new(gateway.channel().await);
    client.ready().await.expect("connected");
    let called = client.unary(request, PathAndQuery::from_static(path), Raw);
    soon("an answer", called).await.map(tonic::Response::into_inner)
}

async fn refusal(gateway: &Gateway, path: &'static str, request: Request<Bytes>) -> (Code, String) {
    let status = call(gateway, path, request).await.expect_err("a refusal");
    (status.code(), reason(&status))
}

fn body() -> Bytes {
    Bytes::from_static(b"\xc3\x28 is no message of any type")
}

fn refused(code: Code, reason: &str) -> (Code, String) {
    (code, reason.to_owned())
}

#[tokio::test]
async fn bytes_pass_undecoded_with_the_callers_identity_and_nothing_else() {
    let gateway = Gateway::start(Config::default()).await;
    let mut request = authorized(body(), &gateway.token());
    for name in ["x-plaza-user", "x-plaza-device", "x-plaza-priority", "x-plaza-anything", "x-other", "cookie"] {
        request.metadata_mut().insert(name, "forged".parse().expect("ascii"));
    }
    request.set_timeout(Duration::from_secs(7));
    assert_eq!(call(&gateway, SEND, request).await.expect("an answer"), ANSWER);
    let seen = gateway.chat.take();
    let [(parts, bytes)] = seen.as_slice() else { panic!("{seen:?}") };
    assert_eq!(parts.uri.path(), SEND);
    assert_eq!(bytes[5..], body());
    let mut names: Vec<_> = parts.headers.keys().map(http::HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["content-type", "grpc-timeout", "te", "x-plaza-device", "x-plaza-priority", "x-plaza-user"]);
    assert_eq!(parts.headers["x-plaza-user"], gateway.user.to_string());
    assert_eq!(parts.headers["x-plaza-device"], gateway.device.to_string());
    assert_eq!(parts.headers["x-plaza-priority"], "3");
    let micros: u64 = parts.headers["grpc-timeout"].to_str().expect("ascii").trim_end_matches('u').parse().expect("microseconds");
    assert!((5_000_000..7_000_000).contains(&micros), "{micros}");
}

#[tokio::test]
async fn open_methods_carry_no_identity_whatever_token_comes_along() {
    let gateway = Gateway::start(Config::default()).await;
    let mut request = authorized(body(), "garbage");
    request.metadata_mut().insert("x-plaza-user", gateway.user.to_string().parse().expect("ascii"));
    assert_eq!(call(&gateway, LOGIN, request).await.expect("an answer"), ANSWER);
    let seen = gateway.accounts.take();
    assert!(!seen[0].0.headers.contains_key("x-plaza-user") && !seen[0].0.headers.contains_key("authorization"));
    let micros: u64 = seen[0].0.headers["grpc-timeout"].to_str().expect("ascii").trim_end_matches('u').parse().expect("microseconds");
    assert!((8_000_000..=10_000_000).contains(&micros), "{micros}");
}

#[tokio::test]
async fn internal_methods_do_not_exist_outside() {
    let gateway = Gateway::start(Config::default()).await;
    let unknown = call(&gateway, "/plaza.chat.v1.ChatService/Nothing", authorized(body(), &gateway.token())).await.expect_err("unknown");
    let paths =
        ["/plaza.chat.v1.LiveService/Link", "/plaza.accounts.v1.DirectoryService/GetVerifyingKey", "/no.such.v1.Service/Method", "/"];
    for path in paths {
        let status = call(&gateway, path, authorized(body(), &gateway.token())).await.expect_err("unknown");
        assert_eq!(
            (status.code(), status.message(), status.details()),
            (Code::Unimplemented, unknown.message(), unknown.details()),
            "{path}"
        );
        assert_eq!(reason(&status), "UNKNOWN_METHOD");
    }
    assert!(gateway.chat.take().is_empty());
}

#[tokio::test]
async fn tokens_must_be_ours_and_current() {
    let gateway = Gateway::start(Config::default()).await;
    assert_eq!(refusal(&gateway, SEND, Request::new(body())).await, refused(Code::Unauthenticated, "TOKEN_MISSING"));
    let with = |change: fn(&mut Claims)| {
        let mut claims = gateway.claims();
        change(&mut claims);
        gateway.signer.sign(&claims)
    };
    let good = gateway.token();
    let (head, signature) = good.rsplit_once('.').expect("three parts");
    let mut parts = head.split('.');
    let (header, payload) = (parts.next().expect("a header"), parts.next().expect("a payload"));
    let invalid = [
        "garbage".to_owned(),
        Signer::new().sign(&gateway.claims()),
        with(|claims| claims.iss = "another".into()),
        with(|claims| claims.sub = "nobody".into()),
        with(|claims| claims.dev = String::new()),
        format!("{header}.{payload}x.{signature}"),
        format!("{header}.{payload}."),
        // {"typ":"JWT","alg":"none"}
        format!("eyJ0eXAiOiJKV1QiLCJhbGciOiJub25lIn0.{payload}."),
    ];
    for token in &invalid {
        assert_eq!(refusal(&gateway, SEND, authorized(body(), token)).await, refused(Code::Unauthenticated, "TOKEN_INVALID"), "{token}");
    }
    let mut basic = Request::new(body());
    basic.metadata_mut().insert("authorization", "Basic eA==".parse().expect("ascii"));
    assert_eq!(refusal(&gateway, SEND, basic).await, refused(Code::Unauthenticated, "TOKEN_INVALID"));
    assert_eq!(
        refusal(&gateway, SEND, authorized(body(), &with(|claims| claims.exp = NOW))).await,
        refused(Code::Unauthenticated, "TOKEN_EXPIRED")
    );
    assert!(gateway.chat.take().is_empty());

    // Remembered as good, and expired all the same when its time has come.
    for _ in 0..2 {
        assert!(call(&gateway, SEND, authorized(body(), &good)).await.is_ok());
    }
    gateway.clock.advance(Duration::from_secs(900));
    for _ in 0..2 {
        assert_eq!(refusal(&gateway, SEND, authorized(body(), &good)).await, refused(Code::Unauthenticated, "TOKEN_EXPIRED"));
    }
}

#[tokio::test]
async fn signed_out_devices_are_refused_from_the_start_and_as_it_happens() {
    let log = Log::default();
    let early = DeviceId::new(1, [9; 10]);
    log.revoke(early, NOW * 1_000_000);
    let gateway = Gateway::start_with(Config::default(), log).await;
    let of_early = gateway.signer.sign(&Claims { dev: early.to_string(), ..gateway.claims() });
    assert_eq!(refusal(&gateway, SEND, authorized(body(), &of_early)).await, refused(Code::Unauthenticated, "TOKEN_REVOKED"));
    let anew = gateway.signer.sign(&Claims { dev: early.to_string(), iau: NOW * 1_000_000 + 1, ..gateway.claims() });
    assert!(call(&gateway, SEND, authorized(body(), &anew)).await.is_ok());

    let token = gateway.token();
    assert!(call(&gateway, SEND, authorized(body(), &token)).await.is_ok());
    gateway.log.revoke(gateway.device, NOW * 1_000_000 + 5);
    let revoked = async { while call(&gateway, SEND, authorized(body(), &token)).await.is_ok() {} };
    soon("the revocation", revoked).await;
    assert_eq!(refusal(&gateway, SEND, authorized(body(), &token)).await, refused(Code::Unauthenticated, "TOKEN_REVOKED"));
}

#[tokio::test]
async fn what_is_too_large_is_refused_with_a_reason() {
    let gateway = Gateway::start(Config::default()).await;
    let token = gateway.token();
    let sized = |size| authorized(Bytes::from(vec![0u8; size]), &token);
    assert!(call(&gateway, SEND, sized(32_768)).await.is_ok());
    gateway.chat.take();
    assert_eq!(refusal(&gateway, SEND, sized(32_769)).await, refused(Code::ResourceExhausted, "TOO_LARGE"));
    assert_eq!(refusal(&gateway, SEND, sized(3_000_000)).await, refused(Code::ResourceExhausted, "TOO_LARGE"));
    let mut request = authorized(body(), &token);
    request.metadata_mut().insert("x-much", "m".repeat(20_000).parse().expect("ascii"));
    assert_eq!(refusal(&gateway, SEND, request).await, refused(Code::ResourceExhausted, "TOO_LARGE"));
    assert!(gateway.chat.take().is_empty());
}

#[tokio::test]
async fn a_deadline_in_the_past_or_none_at_all_is_refused() {
    let gateway = Gateway::start(Config::default()).await;
    let told = |text: &'static str| {
        let mut request = authorized(body(), &gateway.token());
        request.metadata_mut().insert("grpc-timeout", text.parse().expect("ascii"));
        request
    };
    // Without a transport: tonic's would end the call at the deadline by itself.
    let mut client = tonic::client::Grpc::new(plaza_rpc::Peer::in_process(gateway.routes.clone()));
    for (timeout, expected) in
        [("0n", refused(Code::DeadlineExceeded, "DEADLINE_EXCEEDED")), ("soon", refused(Code::InvalidArgument, "INVALID_ARGUMENT"))]
    {
        client.ready().await.expect("always ready");
        let status = client.unary(told(timeout), PathAndQuery::from_static(SEND), Raw).await.expect_err("refused");
        assert_eq!((status.code(), reason(&status)), expected, "{timeout}");
    }
    assert!(gateway.chat.take().is_empty());
    assert!(call(&gateway, SEND, told("99999999H")).await.is_ok());
    let micros: u64 =
        gateway.chat.take()[0].0.headers["grpc-timeout"].to_str().expect("ascii").trim_end_matches('u').parse().expect("microseconds");
    assert!(micros < 60_000_000, "{micros}");
}

#[tokio::test]
async fn rates_hold_per_user() {
    const CHANGE: &str = "/plaza.accounts.v1.AccountsService/ChangePassword";
    let gateway = Gateway::start(Config::default()).await;
    let token = gateway.token();
    let mut passed = 0;
    let status = loop {
        match call(&gateway, CHANGE, authorized(body(), &token)).await {
            Ok(_) => passed += 1,
            Err(status) => break status,
        }
    };
    assert!((20..30).contains(&passed), "{passed}");
    assert_eq!((status.code(), reason(&status)), refused(Code::ResourceExhausted, "RATE_LIMITED"));
    assert!(tonic_types::StatusExt::get_details_retry_info(&status).and_then(|retry| retry.retry_delay).is_some());
    let other = gateway.signer.sign(&Claims { sub: UserId::new(5, [5; 10]).to_string(), ..gateway.claims() });
    assert!(call(&gateway, CHANGE, authorized(body(), &other)).await.is_ok());
}

#[tokio::test]
async fn health_is_answered_here() {
    let gateway = Gateway::start(Config::default()).await;
    let mut client = HealthClient::new(gateway.channel().await);
    for service in ["", "plaza.chat.v1.ChatService"] {
        let status = client.check(HealthCheckRequest { service: service.into() }).await.expect("known").into_inner().status;
        assert_eq!(status, 1, "{service:?}");
    }
    let internal = client.check(HealthCheckRequest { service: "plaza.chat.v1.LiveService".into() }).await.expect_err("not shown");
    assert_eq!(internal.code(), Code::NotFound);
}

#[tokio::test]
async fn reflection_lists_the_public_services_unless_it_is_off() {
    let list = || {
        let request = ServerReflectionRequest { host: String::new(), message_request: Some(MessageRequest::ListServices(String::new())) };
        tokio_stream::iter([request])
    };
    let gateway = Gateway::start(Config::default()).await;
    let mut client = ServerReflectionClient::new(gateway.channel().await);
    let mut answers = soon("reflection", client.server_reflection_info(list())).await.expect("answered").into_inner();
    let answer = soon("a list", answers.message()).await.expect("no error").expect("a list").message_response;
    let Some(MessageResponse::ListServicesResponse(services)) = answer else { panic!("{answer:?}") };
    let names: Vec<_> = services.service.iter().map(|service| service.name.as_str()).collect();
    assert!(names.contains(&"plaza.gateway.v1.GatewayService") && names.contains(&"grpc.health.v1.Health"), "{names:?}");
    assert!(!names.iter().any(|name| name.contains("LiveService") || name.contains("DirectoryService")), "{names:?}");

    let silent = Gateway::start(Config { reflection: false, ..Config::default() }).await;
    let refused = ServerReflectionClient::new(silent.channel().await).server_reflection_info(list()).await.expect_err("off");
    assert_eq!((refused.code(), reason(&refused)), (Code::Unimplemented, "UNKNOWN_METHOD".to_owned()));
}

#[tokio::test]
async fn browsers_come_by_grpc_web() {
    let gateway = Gateway::start(Config::default()).await;
    let web = tower::ServiceBuilder::new()
        .layer(tonic_web::GrpcWebClientLayer::new())
        .map_request(|request: http::Request<tonic_web::GrpcWebCall<tonic::body::Body>>| request.map(tonic::body::Body::new))
        .service(gateway.channel().await);
    let mut client = tonic::client::Grpc::new(web);
    client.ready().await.expect("connected");
    let answer = client.unary(authorized(body(), &gateway.token()), PathAndQuery::from_static(SEND), Raw).await.expect("an answer");
    assert_eq!(answer.into_inner(), ANSWER);
    assert_eq!(gateway.chat.take()[0].0.headers["x-plaza-user"], gateway.user.to_string());
}

#[tokio::test]
async fn pages_of_allowed_origins_may_call() {
    let gateway = Gateway::start(Config { allowed_origins: vec!["https://plaza.example".into()], ..Config::default() }).await;
    let request = |method: &str, origin: &str| {
        let head = format!(
            "{method} {LOGIN} HTTP/1.1\r\nhost: x\r\nconnection: close\r\norigin: {origin}\r\ncontent-type: application/grpc-web+proto\r\n"
        );
        [head.as_bytes(), b"content-length: 8\r\n\r\n\0\0\0\0\x03\x01\x02\x03"].concat()
    };
    let preflight = gateway.http1(request("OPTIONS", "https://plaza.example")).await;
    assert!(
        preflight.starts_with("HTTP/1.1 204") && preflight.contains("access-control-allow-origin: https://plaza.example"),
        "{preflight}"
    );
    let answer = gateway.http1(request("POST", "https://plaza.example")).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("grpc-status:0"), "{answer}");
    assert!(answer.contains("access-control-expose-headers: grpc-status"), "{answer}");
    let other = gateway.http1(request("OPTIONS", "https://other.example")).await;
    assert!(!other.contains("access-control"), "{other}");
    assert_eq!(gateway.accounts.take().len(), 1);
}

#[tokio::test]
async fn a_forwarded_call_is_part_of_the_gateways_trace() {
    let (_collecting, spans) = plaza_telemetry::testing::collect();
    let gateway = Gateway::start(Config::default()).await;
    let mut request = authorized(body(), &gateway.token());
    request.metadata_mut().insert("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".parse().expect("ascii"));
    assert!(call(&gateway, SEND, request).await.is_ok());
    let calls: Vec<_> = spans.finished().into_iter().filter(|span| span.name == SEND[1..]).collect();
    let [chat, gateway] = calls.as_slice() else { panic!("{calls:?}") };
    assert_eq!(chat.parent_span_id, gateway.span_context.span_id());
    assert_eq!(gateway.parent_span_id.to_string(), "b7ad6b7169203331");
    assert_eq!(chat.span_context.trace_id().to_string(), "0af7651916cd43dd8448eb211c80319c");
}

#[tokio::test]
async fn plaintext_is_for_loopback() {
    use std::{collections::HashMap, sync::Arc};
    let serve = async |config: Config| {
        let peers = HashMap::from([("plaza.accounts.v1", plaza_rpc::Peer::slot()), ("plaza.chat.v1", plaza_rpc::Peer::slot())]);
        let deps = plaza_gateway::Deps {
            log: Arc::new(Log::default()),
            peers,
            clock: plaza_runtime::Clock::system(),
            rng: plaza_runtime::Rng::seeded(1),
            supervisor: plaza_runtime::Supervisor::new(),
            stack: plaza_rpc::StackDeps { metrics: plaza_telemetry::RpcMetrics::new() },
        };
        let built = plaza_gateway::build(config, deps).await.expect("built");
        built.serve(tokio::net::TcpListener::bind("0.0.0.0:0").await.expect("a port"))
    };
    let refused = serve(Config::default()).await.expect_err("plaintext for everybody");
    assert!(refused.to_string().contains("allow_plaintext"), "{refused}");
    assert!(serve(Config { allow_plaintext: true, ..Config::default() }).await.is_ok());
}
