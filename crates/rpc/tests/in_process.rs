//! Calls between services in one process: through a generated client, a peer and the stack, as in production.

use std::time::Duration;

use plaza_proto::accounts::v1::{
    GetVerifyingKeyRequest, GetVerifyingKeyResponse, LookupRequest, LookupResponse,
    directory_service_client::DirectoryServiceClient,
    directory_service_server::{DirectoryService, DirectoryServiceServer},
};
use plaza_rpc::{ApiError, Peer, StackDeps, deadline, stack};
use plaza_telemetry::RpcMetrics;
use tonic::{Code, Request, Response, Status, service::Routes};
use tonic_types::StatusExt;

struct Directory;

#[tonic::async_trait]
impl DirectoryService for Directory {
    async fn lookup(&self, request: Request<LookupRequest>) -> Result<Response<LookupResponse>, Status> {
        match request.get_ref().user_ids.first().map(String::as_str) {
            Some("panic") => panic!("as asked"),
            Some("hang") => std::future::pending().await,
            _ => Err(ApiError::not_found("user").into()),
        }
    }

    async fn get_verifying_key(&self, request: Request<GetVerifyingKeyRequest>) -> Result<Response<GetVerifyingKeyResponse>, Status> {
        let remaining = u64::try_from(deadline::remaining(&request).as_millis()).expect("short");
        Ok(Response::new(GetVerifyingKeyResponse { ed25519_public_key: remaining.to_be_bytes().to_vec() }))
    }
}

fn peer() -> Peer {
    Peer::in_process(stack("directory", Routes::new(DirectoryServiceServer::new(Directory)), &StackDeps { metrics: RpcMetrics::new() }))
}

fn lookup(user: &str) -> Request<LookupRequest> {
    Request::new(LookupRequest { user_ids: vec![user.to_owned()] })
}

async fn failure(request: Request<LookupRequest>) -> (Code, String) {
    let status = DirectoryServiceClient::new(peer()).lookup(request).await.expect_err("a failure");
    (status.code(), status.get_details_error_info().expect("a reason").reason)
}

#[tokio::test]
async fn failures_have_their_code_and_reason() {
    assert_eq!(failure(lookup("x")).await, (Code::NotFound, "NOT_FOUND".into()));
    assert_eq!(failure(lookup("panic")).await, (Code::Internal, "INTERNAL".into()));
    let mut hang = lookup("hang");
    hang.set_timeout(Duration::from_millis(20));
    assert_eq!(failure(hang).await, (Code::DeadlineExceeded, "DEADLINE_EXCEEDED".into()));
    let mut past = lookup("hang");
    past.set_timeout(Duration::ZERO);
    assert_eq!(failure(past).await, (Code::DeadlineExceeded, "DEADLINE_EXCEEDED".into()));
    let mut garbage = lookup("x");
    garbage.metadata_mut().insert("grpc-timeout", "soon".parse().expect("ascii"));
    assert_eq!(failure(garbage).await, (Code::InvalidArgument, "INVALID_ARGUMENT".into()));
}

#[tokio::test]
async fn what_tonic_finds_wrong_is_precise_too() {
    // The same field as bytes that are no text.
    let mut client = tonic::client::Grpc::new(peer());
    let raw = GetVerifyingKeyResponse { ed25519_public_key: vec![0xff, 0xfe] };
    let codec = tonic_prost::ProstCodec::<GetVerifyingKeyResponse, LookupResponse>::default();
    let path = http::uri::PathAndQuery::from_static("/plaza.accounts.v1.DirectoryService/Lookup");
    client.ready().await.expect("always ready");
    let status = client.unary(Request::new(raw.clone()), path, codec).await.expect_err("not a text");
    assert_eq!(
        (status.code(), status.get_details_error_info().expect("a reason").reason.as_str()),
        (Code::InvalidArgument, "INVALID_ARGUMENT")
    );
    for path in ["/plaza.accounts.v1.DirectoryService/Nothing", "/nothing.Service/Nothing"] {
        let codec = tonic_prost::ProstCodec::<GetVerifyingKeyResponse, LookupResponse>::default();
        let status = client.unary(Request::new(raw.clone()), http::uri::PathAndQuery::from_static(path), codec).await.expect_err("unknown");
        assert_eq!(
            (status.code(), status.get_details_error_info().expect("a reason").reason.as_str()),
            (Code::Unimplemented, "UNKNOWN_METHOD")
        );
    }
}

#[tokio::test]
async fn handlers_know_how_long_their_caller_waits() {
    let ask = |request| async {
        DirectoryServiceClient::new(peer()).get_verifying_key(request).await.expect("an answer").into_inner().ed25519_public_key
    };
    let millis = |bytes: Vec<u8>| u64::from_be_bytes(bytes.try_into().expect("8 bytes"));
    let unsaid = millis(ask(Request::new(GetVerifyingKeyRequest {})).await);
    assert!((9_000..=10_000).contains(&unsaid), "{unsaid}");
    let mut request = Request::new(GetVerifyingKeyRequest {});
    request.set_timeout(Duration::from_secs(3));
    let said = millis(ask(request).await);
    assert!((2_000..=3_000).contains(&said), "{said}");
}

#[tokio::test]
async fn a_slot_answers_once_it_is_bound() {
    let slot = Peer::slot();
    let mut client = DirectoryServiceClient::new(slot.clone());
    assert_eq!(client.lookup(lookup("x")).await.expect_err("unbound").code(), Code::Unavailable);
    slot.bind(peer());
    assert_eq!(client.lookup(lookup("x")).await.expect_err("bound").code(), Code::NotFound);
}
