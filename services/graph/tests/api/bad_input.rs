//! What every method does with callers and requests that are wrong. The methods are read from the descriptors, so a new one is not forgotten.

use http_body_util::Full;
use plaza_proto::{
    graph::v1::{
        AcceptFriendRequestRequest, BlockRequest, GetContactRequest, GetRelationsRequest, IgnoreFriendRequestRequest, ListBlockedRequest,
        ListContactsRequest, ListFriendRequestsRequest, RemoveContactRequest, RequestBox, SendFriendRequestRequest, UnblockRequest,
        UpdateContactRequest, relations_service_client::RelationsServiceClient,
    },
    policy,
};
use plaza_types::limits::{REQUEST_AHEAD, REQUEST_WINDOW};
use prost_types::FieldMask;
use tonic::{Code, Status, body::Body};
use tonic_types::StatusExt;
use tower::ServiceExt;

use crate::world::{Person, World, refusal, requests, why};

/// Calls a method with these bytes as its message and gives its status; a success says so only after its answer, as OK.
async fn raw(world: &World, path: &str, caller: Option<&Person>, message: &[u8], timeout: Option<&str>) -> Status {
    let mut frame = vec![0];
    frame.extend((message.len() as u32).to_be_bytes());
    frame.extend(message);
    let mut request = http::Request::post(path).header("content-type", "application/grpc").header("te", "trailers");
    if let Some(timeout) = timeout {
        request = request.header("grpc-timeout", timeout);
    }
    let mut request = request.body(Body::new(Full::from(frame))).expect("a request");
    if let Some(caller) = caller {
        caller.identity.stamp(request.headers_mut());
    }
    let response = world.peer.clone().oneshot(request).await.expect("never fails");
    Status::from_header_map(response.headers()).unwrap_or_else(|| Status::ok(""))
}

fn paths() -> impl Iterator<Item = &'static str> {
    policy::methods().values().filter(|method| method.service == "plaza.graph.v1.GraphService").map(|method| method.path.as_str())
}

fn reason(status: &Status) -> String {
    status.get_details_error_info().map(|info| info.reason).unwrap_or_default()
}

fn fields<T: std::fmt::Debug>(answer: Result<T, Status>) -> Vec<String> {
    let status = answer.expect_err("a refusal");
    assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, "INVALID_ARGUMENT"));
    status.get_details_bad_request().expect("fields").field_violations.into_iter().map(|violation| violation.field).collect()
}

#[tokio::test]
async fn every_method_needs_a_caller_a_message_and_time() {
    let world = World::new().await;
    let ann = world.person();
    assert_eq!(paths().count(), 11);
    for path in paths() {
        let nobody = raw(&world, path, None, &[], None).await;
        assert_eq!((nobody.code(), reason(&nobody).as_str()), (Code::Unauthenticated, "TOKEN_MISSING"), "{path}");
        let garbage = raw(&world, path, Some(&ann), &[0xff, 0xff, 0xff], None).await;
        assert_eq!((garbage.code(), reason(&garbage).as_str()), (Code::InvalidArgument, "INVALID_ARGUMENT"), "{path}");
        let not_text = raw(&world, path, Some(&ann), &[0x0a, 0x02, 0xc3, 0x28, 0x12, 0x02, 0xc3, 0x28, 0x1a, 0x02, 0xc3, 0x28], None).await;
        assert_eq!(not_text.code(), Code::InvalidArgument, "{path}");
        let late = raw(&world, path, Some(&ann), &[], Some("0n")).await;
        assert_eq!((late.code(), reason(&late).as_str()), (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"), "{path}");
        let empty = raw(&world, path, Some(&ann), &[], None).await;
        let needs_nothing = path.ends_with("ListContacts") || path.ends_with("ListBlocked");
        assert_eq!(empty.code(), if needs_nothing { Code::Ok } else { Code::InvalidArgument }, "{path}");
    }
    let unknown = raw(&world, "/plaza.graph.v1.GraphService/Befriend", Some(&ann), &[], None).await;
    assert_eq!((unknown.code(), reason(&unknown).as_str()), (Code::Unimplemented, "UNKNOWN_METHOD"));
}

#[tokio::test]
async fn malformed_ids_are_named() {
    let world = World::new().await;
    let ann = world.person();
    let bad = ["", "x", "{01890a5d-ac96-774b-bcce-b302099a8057}", "01890A5D-AC96-774B-BCCE-B302099A8057"];
    let mut graph = ann.graph.clone();
    for bad in bad.map(str::to_owned) {
        let user_id = bad.clone();
        let contact = graph.get_contact(ann.identity.request(GetContactRequest { user_id: bad.clone() })).await;
        assert_eq!(fields(contact), ["user_id"]);
        let accept = AcceptFriendRequestRequest { user_id: bad.clone(), request_id: bad.clone() };
        assert_eq!(fields(graph.accept_friend_request(ann.identity.request(accept)).await), ["user_id", "request_id"]);
        let request_id = world.request_id();
        let ignore = IgnoreFriendRequestRequest { user_id: user_id.clone(), request_id: request_id.clone() };
        assert_eq!(fields(graph.ignore_friend_request(ann.identity.request(ignore)).await), ["user_id"]);
        let remove = RemoveContactRequest { user_id: user_id.clone(), request_id: request_id.clone() };
        assert_eq!(fields(graph.remove_contact(ann.identity.request(remove)).await), ["user_id"]);
        let block = BlockRequest { user_id: user_id.clone(), request_id: request_id.clone() };
        assert_eq!(fields(graph.block(ann.identity.request(block)).await), ["user_id"]);
        let unblock = UnblockRequest { user_id, request_id };
        assert_eq!(fields(graph.unblock(ann.identity.request(unblock)).await), ["user_id"]);
        let relations = GetRelationsRequest { user_id: bad.clone(), other_ids: vec![bad] };
        assert_eq!(fields(RelationsServiceClient::new(world.peer.clone()).get_relations(relations).await), ["user_id", "other_ids"]);
    }
    let too_many = GetRelationsRequest { user_id: ann.id.clone(), other_ids: vec![ann.id.clone(); 201] };
    assert_eq!(fields(RelationsServiceClient::new(world.peer.clone()).get_relations(too_many).await), ["other_ids"]);
}

#[tokio::test]
async fn everything_wrong_with_a_request_is_told_at_once() {
    let world = World::new().await;
    let (ann, bob) = (world.person(), world.person());
    let mut graph = ann.graph.clone();
    let ask = SendFriendRequestRequest {
        user_id: "x".to_owned(),
        note: "é".repeat(101),
        source: Some("s".repeat(33)),
        request_id: "6ba7b810-9dad-11d1-80b4-00c04fd430c8".to_owned(),
    };
    assert_eq!(fields(graph.send_friend_request(ann.identity.request(ask)).await), ["user_id", "request_id", "note", "source"]);
    let longest = SendFriendRequestRequest {
        user_id: bob.id.clone(),
        note: "é".repeat(100),
        source: Some("s".repeat(32)),
        request_id: world.request_id(),
    };
    graph.send_friend_request(ann.identity.request(longest)).await.expect("just right");
    let update = UpdateContactRequest {
        user_id: "x".to_owned(),
        request_id: "x".to_owned(),
        remark: "é".repeat(65),
        tags: ["", "a", "a"].map(str::to_owned).into_iter().chain((0..20).map(|tag| tag.to_string())).chain(["t".repeat(33)]).collect(),
        update_mask: Some(FieldMask { paths: ["remark", "tags", "since"].map(str::to_owned).to_vec() }),
        ..Default::default()
    };
    let expected = ["update_mask", "user_id", "request_id", "remark", "tags", "tags", "tags"];
    assert_eq!(fields(graph.update_contact(ann.identity.request(update)).await), expected);
    let nothing = UpdateContactRequest { user_id: bob.id.clone(), ..Default::default() };
    assert_eq!(fields(graph.update_contact(ann.identity.request(nothing)).await), ["update_mask"]);
    assert_eq!(why(world.ask(&ann, &ann).await), refusal(Code::InvalidArgument, "YOURSELF"));
}

#[tokio::test]
async fn request_ids_are_good_for_a_day() {
    let world = World::new().await;
    let (ann, bob) = (world.person(), world.person());
    let id = world.request_id();
    world.wait(REQUEST_WINDOW + 2_000);
    assert_eq!(why(world.ask_with(&ann, &bob, "", &id).await), refusal(Code::InvalidArgument, "REQUEST_ID_TIME"));
    let now = world.clock.now_micros();
    world.wait(REQUEST_AHEAD + 60_000_000);
    let id = world.request_id();
    world.clock.set(now);
    assert_eq!(why(world.ask_with(&ann, &bob, "", &id).await), refusal(Code::InvalidArgument, "REQUEST_ID_TIME"));
    assert_eq!(requests(&ann, RequestBox::Sent).await, []);
}

#[tokio::test]
async fn page_tokens_are_of_one_caller_and_one_list() {
    let world = World::new().await;
    let (ann, bob) = (world.person(), world.person());
    for _ in 0..3 {
        world.ask(&ann, &world.person()).await.expect("asked");
    }
    let list = |person: &Person, kept_in: i32, page_token: String| {
        let (person, request) = (person.clone(), ListFriendRequestsRequest { r#box: kept_in, page_size: 2, page_token });
        async move { person.graph.clone().list_friend_requests(person.identity.request(request)).await }
    };
    let token = list(&ann, RequestBox::Sent.into(), String::new()).await.expect("a page").into_inner().next_page_token;
    assert_eq!(list(&ann, RequestBox::Sent.into(), token.clone()).await.expect("the next").into_inner().requests.len(), 1);
    let refused = refusal(Code::InvalidArgument, "PAGE_TOKEN");
    assert_eq!(why(list(&bob, RequestBox::Sent.into(), token.clone()).await), refused);
    assert_eq!(why(list(&ann, RequestBox::Received.into(), token.clone()).await), refused);
    let contacts = ListContactsRequest { page_size: 2, page_token: token.clone() };
    assert_eq!(why(ann.graph.clone().list_contacts(ann.identity.request(contacts)).await), refused);
    let blocked = ListBlockedRequest { page_size: 2, page_token: token.replace('0', "1") };
    assert_eq!(why(ann.graph.clone().list_blocked(ann.identity.request(blocked)).await), refused);
    for kept_in in [0, 3, -1] {
        assert_eq!(fields(list(&ann, kept_in, String::new()).await), ["box"]);
    }
    let large = ListContactsRequest { page_size: 201, page_token: String::new() };
    assert_eq!(fields(ann.graph.clone().list_contacts(ann.identity.request(large)).await), ["page_size"]);
}
