//! Logout, RevokeDevice, ListDevices.

use plaza_proto::accounts::v1 as proto;
use plaza_topics::account;
use tonic::{Code, Status};

use crate::harness::{PASSWORD, START, World, as_caller, reason, why};

async fn revoke(world: &World, caller: &proto::Session, device_id: &str) -> Result<(), Status> {
    let request = proto::RevokeDeviceRequest { device_id: device_id.to_owned() };
    world.accounts().revoke_device(as_caller(caller, request)).await.map(drop)
}

#[tokio::test]
async fn logging_out_ends_the_session_and_says_so_in_the_log() {
    let world = World::new().await;
    let session = world.register("mei_lin").await;
    world.advance(5);
    for _ in 0..2 {
        world.accounts().logout(as_caller(&session, proto::LogoutRequest {})).await.expect("signed out, also when signed out already");
    }
    assert_eq!(reason(world.refresh(&session.refresh_token).await), "REFRESH_INVALID");
    assert_eq!(world.revoked(&session).await, std::slice::from_ref(&session.device_id));
    let revocation = world.events(&session).await.into_iter().find(|event| matches!(event.kind, Some(account::Kind::DeviceRevoked(_))));
    assert_eq!(revocation.expect("an event").time, START + 5_000_000, "voids all access tokens issued until then");
}

#[tokio::test]
async fn a_revocation_is_not_before_the_newest_token_even_if_the_clock_goes_back() {
    let world = World::new().await;
    let session = world.register("mei_lin").await;
    world.clock.set(START - 1_000_000);
    world.accounts().logout(as_caller(&session, proto::LogoutRequest {})).await.expect("signed out");
    let times: Vec<_> =
        world.events(&session).await.into_iter().filter(|event| matches!(event.kind, Some(account::Kind::DeviceRevoked(_)))).collect();
    assert_eq!(times[0].time, START);
}

#[tokio::test]
async fn only_own_devices_are_revoked_and_others_do_not_exist() {
    let world = World::new().await;
    let first = world.register("mei_lin").await;
    let second = world.login("mei_lin", PASSWORD, None).await.expect("signed in");
    let stranger = world.register("stranger").await;
    let foreign = revoke(&world, &first, &stranger.device_id).await.expect_err("not hers");
    let missing = revoke(&world, &first, "01890a5d-ac96-774b-bcce-b302099a8057").await.expect_err("no such device");
    assert_eq!((foreign.code(), why(&foreign).0.as_str()), (Code::NotFound, "NOT_FOUND"));
    assert_eq!((foreign.message(), foreign.details()), (missing.message(), missing.details()));
    world.refresh(&stranger.refresh_token).await.expect("still signed in");
    assert_eq!(world.revoked(&stranger).await, Vec::<String>::new());

    revoke(&world, &first, &second.device_id).await.expect("revoked");
    assert_eq!(reason(revoke(&world, &first, &second.device_id).await), "NOT_FOUND");
    assert_eq!(reason(world.refresh(&second.refresh_token).await), "REFRESH_INVALID");
    assert_eq!(world.revoked(&first).await, std::slice::from_ref(&second.device_id));
    assert_eq!(world.devices(&first).await.len(), 1);
}

#[tokio::test]
async fn devices_come_in_pages_oldest_first() {
    let world = World::new().await;
    let first = world.register("mei_lin").await;
    let stranger = world.register("stranger").await;
    let mut expected = vec![first.device_id.clone()];
    for _ in 0..4 {
        world.advance(1);
        expected.push(world.login("mei_lin", PASSWORD, None).await.expect("signed in").device_id);
    }
    let page = |page_size, page_token: &str| proto::ListDevicesRequest { page_size, page_token: page_token.to_owned() };
    let (mut listed, mut token) = (Vec::new(), String::new());
    for size in [2, 2, 1] {
        let answer = world.accounts().list_devices(as_caller(&first, page(2, &token))).await.expect("a page").into_inner();
        assert_eq!(answer.devices.len(), size);
        listed.extend(answer.devices.into_iter().map(|device| (device.device_id, device.current)));
        if size == 2 {
            let foreign = world.accounts().list_devices(as_caller(&stranger, page(2, &answer.next_page_token))).await;
            assert_eq!(reason(foreign), "PAGE_TOKEN");
        }
        token = answer.next_page_token;
    }
    assert_eq!(token, "");
    assert_eq!(listed, expected.iter().map(|id| (id.clone(), *id == first.device_id)).collect::<Vec<_>>());
    for bad in ["x", "00", &"0".repeat(96)] {
        let refused = world.accounts().list_devices(as_caller(&first, page(2, bad))).await.expect_err("made up");
        assert_eq!((refused.code(), why(&refused).0.as_str()), (Code::InvalidArgument, "PAGE_TOKEN"));
    }
    let refused = world.accounts().list_devices(as_caller(&first, page(201, ""))).await.expect_err("too many");
    assert_eq!(why(&refused), ("INVALID_ARGUMENT".to_owned(), vec!["page_size".to_owned()]));
}
