//! Bad input of every kind, and what is the same for every method: no credentials, garbage, a deadline already past.

use http_body_util::Full;
use plaza_proto::{accounts::v1 as proto, options::v1::Access, policy};
use plaza_types::ClientId;
use tonic::{Code, Status, body::Body};

use crate::harness::{PASSWORD, START, World, as_caller, phone, reason, why};

/// Sends bytes as they are and gives the status that comes back in the headers, as it does for every refusal.
async fn raw(world: &World, path: &str, message: &[u8], headers: &[(&'static str, &str)]) -> Status {
    let length = u32::try_from(message.len()).expect("short").to_be_bytes();
    let frame = [&[0], length.as_slice(), message].concat();
    let mut request = http::Request::post(path).header("content-type", "application/grpc").header("te", "trailers");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Body::new(Full::from(frame))).expect("a request");
    let mut peer = world.peer.clone();
    let response = tonic::client::GrpcService::call(&mut peer, request).await.expect("an answer");
    Status::from_header_map(response.headers()).unwrap_or_else(|| Status::ok("in the trailers"))
}

fn methods() -> Vec<&'static policy::Method> {
    let methods: Vec<_> = policy::methods().values().filter(|method| method.service.starts_with("plaza.accounts.v1.")).collect();
    assert!(methods.len() >= 15, "{}", methods.len());
    methods
}

#[tokio::test]
async fn every_method_for_users_needs_a_caller() {
    let world = World::new().await;
    for method in methods().into_iter().filter(|method| method.policy.access() == Access::User) {
        let refused = raw(&world, &method.path, &[], &[]).await;
        assert_eq!((refused.code(), why(&refused).0.as_str()), (Code::Unauthenticated, "TOKEN_MISSING"), "{}", method.path);
        let half = raw(&world, &method.path, &[], &[("x-plaza-user", "01890a5d-ac96-774b-bcce-b302099a8057")]).await;
        assert_eq!(half.code(), Code::Unauthenticated, "{}", method.path);
    }
}

#[tokio::test]
async fn every_method_refuses_garbage_and_a_deadline_already_past() {
    let world = World::new().await;
    for method in methods() {
        // Field 1 as a text that is longer than the message, and text that is not UTF-8.
        for garbage in [&[0x0a, 0x7f, 0x61][..], &[0xff; 7]] {
            let refused = raw(&world, &method.path, garbage, &[]).await;
            assert_eq!((refused.code(), why(&refused).0.as_str()), (Code::InvalidArgument, "INVALID_ARGUMENT"), "{}", method.path);
        }
        let refused = raw(&world, &method.path, &[], &[("grpc-timeout", "0n")]).await;
        assert_eq!((refused.code(), why(&refused).0.as_str()), (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"), "{}", method.path);
    }
    let not_utf8 = raw(&world, "/plaza.accounts.v1.AccountsService/Login", &[0x0a, 2, 0xc3, 0x28], &[]).await;
    assert_eq!(not_utf8.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_registration_is_told_all_its_mistakes_at_once() {
    let world = World::new().await;
    let bad = proto::RegisterRequest {
        handle: "7bad".to_owned(),
        password: "short".to_owned(),
        display_name: String::new(),
        device: Some(proto::Device { device_id: Some("x".to_owned()), name: "a\nb".to_owned(), platform: "p".repeat(33) }),
        request_id: "6ba7b810-9dad-11d1-80b4-00c04fd430c8".to_owned(),
    };
    let refused = world.try_register(bad).await.expect_err("mistakes");
    assert_eq!(refused.code(), Code::InvalidArgument);
    let fields = ["request_id", "handle", "password", "display_name", "device.device_id", "device.name", "device.platform"];
    assert_eq!(why(&refused).1, fields);

    let no_device = proto::RegisterRequest { device: None, ..world.registration("mei_lin") };
    assert_eq!(why(&world.try_register(no_device).await.expect_err("no device")).1, ["device"]);
    let named = proto::Device { device_id: Some("01890a5d-ac96-774b-bcce-b302099a8057".to_owned()), ..phone() };
    let with_id = proto::RegisterRequest { device: Some(named), ..world.registration("mei_lin") };
    assert_eq!(why(&world.try_register(with_id).await.expect_err("a new device has no id")).1, ["device.device_id"]);
    let empty_id = proto::Device { device_id: Some(String::new()), ..phone() };
    world.try_register(proto::RegisterRequest { device: Some(empty_id), ..world.registration("mei_lin") }).await.expect("empty is absent");
}

#[tokio::test]
async fn a_request_id_is_good_for_a_day() {
    let world = World::new().await;
    let minute = 60 * 1_000_000;
    for (made, good) in [
        (START - 24 * 60 * minute, true),
        (START - 24 * 60 * minute - 1000, false),
        (START + 10 * minute, true),
        (START + 10 * minute + 1000, false),
    ] {
        let request_id = ClientId::new(made, world.rng.bytes()).to_string();
        let request = proto::RegisterRequest { request_id, ..world.registration(&format!("person_{}", made % 999_983)) };
        match world.try_register(request).await {
            Ok(_) => assert!(good, "{made}"),
            Err(refused) => {
                assert!(!good, "{made}");
                assert_eq!((refused.code(), why(&refused).0.as_str()), (Code::InvalidArgument, "REQUEST_ID_TIME"));
            }
        }
    }
}

#[tokio::test]
async fn sign_ins_and_passwords_are_checked() {
    let world = World::new().await;
    let session = world.register("mei_lin").await;
    let bad = proto::LoginRequest {
        handle: "x".to_owned(),
        password: "p".repeat(129),
        device: Some(proto::Device { device_id: Some("x".to_owned()), name: String::new(), platform: String::new() }),
    };
    let refused = world.accounts().login(bad).await.expect_err("mistakes");
    assert_eq!(why(&refused).1, ["handle", "password", "device.device_id", "device.name", "device.platform"]);
    let no_device = proto::LoginRequest { handle: "mei_lin".to_owned(), password: PASSWORD.to_owned(), device: None };
    assert_eq!(why(&world.accounts().login(no_device).await.expect_err("no device")).1, ["device"]);

    let bad = proto::ChangePasswordRequest { old_password: String::new(), new_password: "1234567".to_owned() };
    let refused = world.accounts().change_password(as_caller(&session, bad)).await.expect_err("mistakes");
    assert_eq!(why(&refused).1, ["old_password", "new_password"]);
    let bad = proto::RevokeDeviceRequest { device_id: "x".to_owned() };
    let refused = world.accounts().revoke_device(as_caller(&session, bad)).await.expect_err("malformed");
    assert_eq!(why(&refused).1, ["device_id"]);
    assert_eq!(world.devices(&session).await.len(), 1);
}

#[tokio::test]
async fn a_caller_without_an_account_is_told_so() {
    let world = World::new().await;
    let mut session = world.register("mei_lin").await;
    session.user.as_mut().expect("a user").user_id = "01890a5d-ac96-774b-bcce-b302099a8057".to_owned();
    assert_eq!(reason(world.accounts().get_me(as_caller(&session, proto::GetMeRequest {})).await), "NOT_FOUND");
    assert_eq!(reason(world.accounts().get_settings(as_caller(&session, proto::GetSettingsRequest {})).await), "NOT_FOUND");
    let change = proto::ChangePasswordRequest { old_password: PASSWORD.to_owned(), new_password: "battery staple".to_owned() };
    assert_eq!(reason(world.accounts().change_password(as_caller(&session, change)).await), "NOT_FOUND");
    world.accounts().logout(as_caller(&session, proto::LogoutRequest {})).await.expect("nothing to sign out");
}
