//! What was acknowledged is there after a kill, and every acknowledgement waited for a sync.

use plaza_proto::accounts::v1 as proto;

use crate::harness::{PASSWORD, World, as_caller, reason, user_id};

#[tokio::test]
async fn everything_acknowledged_survives_a_kill() {
    let world = World::new().await;
    let request = world.registration("mei_lin");
    let first = world.try_register(request.clone()).await.expect("registered");
    let second = world.login("mei_lin", PASSWORD, None).await.expect("signed in");
    let rotated = world.refresh(&second.refresh_token).await.expect("refreshed");
    world.hide(&first).await;
    let third = world.login("mei_lin", PASSWORD, None).await.expect("signed in");
    world.accounts().logout(as_caller(&third, proto::LogoutRequest {})).await.expect("signed out");
    let key = world.directory().get_verifying_key(proto::GetVerifyingKeyRequest {}).await.expect("a key").into_inner();

    let world = world.killed_and_started_again().await;
    let again = world.try_register(request).await.expect("the same request");
    assert_eq!((user_id(&again), &again.device_id, &again.refresh_token), (user_id(&first), &first.device_id, &first.refresh_token));
    world.refresh(&rotated.refresh_token).await.expect("still signed in");
    assert_eq!(reason(world.refresh(&third.refresh_token).await), "REFRESH_INVALID");
    let settings = world.accounts().get_settings(as_caller(&first, proto::GetSettingsRequest {})).await.expect("settings").into_inner();
    assert!(!settings.settings.expect("settings").findable_by_handle);
    assert_eq!(world.revoked(&first).await, [third.device_id]);
    assert_eq!(world.devices(&first).await.len(), 2);
    assert_eq!(world.directory().get_verifying_key(proto::GetVerifyingKeyRequest {}).await.expect("a key").into_inner(), key);
}

#[tokio::test]
async fn nothing_is_acknowledged_before_a_sync() {
    let world = World::new().await;
    let syncs = || world.db.stats().fsyncs;
    let before = syncs();
    let session = world.register("mei_lin").await;
    let registered = syncs();
    let login = world.login("mei_lin", PASSWORD, None).await.expect("signed in");
    let signed_in = syncs();
    world.refresh(&login.refresh_token).await.expect("refreshed");
    let refreshed = syncs();
    world.hide(&session).await;
    let hidden = syncs();
    world.accounts().logout(as_caller(&login, proto::LogoutRequest {})).await.expect("signed out");
    let counts = [before, registered, signed_in, refreshed, hidden, syncs()];
    assert!(counts.is_sorted_by(|one, next| one < next), "{counts:?}");
}
