//! Register, Login, Refresh, ChangePassword.

use std::collections::HashSet;

use futures::future::join_all;
use plaza_proto::accounts::v1 as proto;
use tonic::{Code, Status};

use crate::harness::{PASSWORD, START, World, as_caller, phone, reason, user_id, why};

fn same(one: &Status, other: &Status) -> bool {
    (one.code(), one.message(), one.details()) == (other.code(), other.message(), other.details())
}

#[tokio::test]
async fn registering_signs_the_first_device_in() {
    let world = World::new().await;
    let session = world.register("Mei_Lin").await;
    let user = session.user.clone().expect("a user");
    assert_eq!((user.handle.as_str(), user.display_name.as_str()), ("Mei_Lin", "Mei_Lin of the tests"));
    assert_eq!((user.region, user.bio, user.avatar), (None, None, None));
    assert_eq!(session.access_expires_at.expect("a time").seconds as u64, START / 1_000_000 + 900);
    let devices = world.devices(&session).await;
    assert_eq!((devices.len(), devices[0].device_id.as_str(), devices[0].current), (1, session.device_id.as_str(), true));
    assert_eq!((devices[0].name.as_str(), devices[0].platform.as_str()), ("phone", "ios"));

    let key = world.directory().get_verifying_key(proto::GetVerifyingKeyRequest {}).await.expect("a key").into_inner();
    let mut parts = session.access_token.rsplitn(2, '.');
    let (signature, signed) = (parts.next().expect("a signature"), parts.next().expect("claims"));
    let decoding = jsonwebtoken::DecodingKey::from_ed_der(&key.ed25519_public_key);
    let good = jsonwebtoken::crypto::verify(signature, signed.as_bytes(), &decoding, jsonwebtoken::Algorithm::EdDSA);
    assert!(good.expect("verified"));
}

#[tokio::test]
async fn the_same_registration_again_is_the_same_session_and_another_one_is_refused() {
    let world = World::new().await;
    let request = world.registration("mei_lin");
    let first = world.try_register(request.clone()).await.expect("registered");
    let again = world.try_register(request.clone()).await.expect("the same");
    assert_eq!((first.user.clone(), &first.device_id, &first.refresh_token), (again.user, &again.device_id, &again.refresh_token));

    let other = |change: fn(&mut proto::RegisterRequest)| {
        let mut request = request.clone();
        change(&mut request);
        request
    };
    for request in [
        other(|request| request.handle = "another".to_owned()),
        other(|request| request.handle = "Mei_Lin".to_owned()),
        other(|request| request.password = "battery staple".to_owned()),
        other(|request| request.display_name = "Mei".to_owned()),
        other(|request| request.device = Some(proto::Device { name: "pad".to_owned(), ..phone() })),
    ] {
        let refused = world.try_register(request).await.expect_err("other content");
        assert_eq!((refused.code(), why(&refused).0.as_str()), (Code::AlreadyExists, "REQUEST_ID_REUSED"));
    }
    assert_eq!(reason(world.login("another", PASSWORD, None).await), "BAD_CREDENTIALS");

    // Whoever repeats it after the device went on, or was signed out, has proved the password: it is a sign-in.
    let rotated = world.refresh(&first.refresh_token).await.expect("refreshed");
    let again = world.try_register(request.clone()).await.expect("the same");
    assert_eq!(again.device_id, first.device_id);
    assert_eq!(reason(world.refresh(&rotated.refresh_token).await), "REFRESH_INVALID");
    world.refresh(&again.refresh_token).await.expect("the newest sign-in");
    world.accounts().logout(as_caller(&again, proto::LogoutRequest {})).await.expect("signed out");
    let again = world.try_register(request.clone()).await.expect("the same account");
    assert_eq!(user_id(&again), user_id(&first));
    assert_ne!(again.device_id, first.device_id);

    let change = proto::ChangePasswordRequest { old_password: PASSWORD.to_owned(), new_password: "battery staple".to_owned() };
    world.accounts().change_password(as_caller(&again, change)).await.expect("changed");
    assert_eq!(reason(world.try_register(request).await), "BAD_CREDENTIALS");
}

#[tokio::test]
async fn a_handle_is_taken_whatever_its_case() {
    let world = World::new().await;
    world.register("mei_lin").await;
    let refused = world.try_register(world.registration("MEI_LIN")).await.expect_err("taken");
    assert_eq!((refused.code(), why(&refused).0.as_str()), (Code::AlreadyExists, "HANDLE_TAKEN"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_who_register_one_handle_at_once_one_gets_it() {
    let world = World::new().await;
    for round in 0..10 {
        let handle = format!("wanted_{round}");
        let requests: Vec<_> = (0..4).map(|_| world.registration(&handle)).collect();
        let outcomes = join_all(requests.iter().map(|request| world.try_register(request.clone()))).await;
        let (winners, losers): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
        assert_eq!(winners.len(), 1);
        assert!(losers.into_iter().all(|loser| reason(loser) == "HANDLE_TAKEN"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_registration_sent_many_times_at_once_is_one_account_and_one_session() {
    let world = World::new().await;
    for round in 0..10 {
        let request = world.registration(&format!("wanted_{round}"));
        let sessions = join_all((0..4).map(|_| world.try_register(request.clone()))).await;
        let mut tokens: Vec<_> = sessions.into_iter().map(|session| session.expect("registered").refresh_token).collect();
        tokens.dedup();
        assert_eq!(tokens.len(), 1);
    }
}

#[tokio::test]
async fn an_unknown_handle_and_a_wrong_password_look_the_same() {
    let world = World::new().await;
    world.register("mei_lin").await;
    world.login("MEI_lin", PASSWORD, None).await.expect("the case of a handle does not matter");
    let wrong = world.login("mei_lin", "battery staple", None).await.expect_err("wrong");
    let short = world.login("mei_lin", "x", None).await.expect_err("wrong");
    let unknown = world.login("nobody_", PASSWORD, None).await.expect_err("unknown");
    assert_eq!((wrong.code(), why(&wrong).0.as_str()), (Code::Unauthenticated, "BAD_CREDENTIALS"));
    assert!(same(&wrong, &unknown) && same(&wrong, &short));
}

#[tokio::test]
async fn a_device_signs_in_again_under_its_id_and_nobody_elses() {
    let world = World::new().await;
    let first = world.register("mei_lin").await;
    let stranger = world.register("stranger").await;
    let changes = world.profile_changes(&first).await;
    let again = world.login("mei_lin", PASSWORD, Some(&first.device_id)).await.expect("signed in");
    assert_eq!((again.device_id.as_str(), world.devices(&first).await.len()), (first.device_id.as_str(), 1));
    assert_eq!(world.profile_changes(&first).await, changes, "nothing of the device changed");
    assert_eq!(reason(world.refresh(&first.refresh_token).await), "REFRESH_INVALID");
    world.refresh(&again.refresh_token).await.expect("a token of an earlier sign-in revokes nothing");

    let foreign = world.login("mei_lin", PASSWORD, Some(&stranger.device_id)).await.expect_err("not hers");
    let missing = world.login("mei_lin", PASSWORD, Some("01890a5d-ac96-774b-bcce-b302099a8057")).await.expect_err("no such device");
    assert_eq!((foreign.code(), why(&foreign).0.as_str()), (Code::NotFound, "NOT_FOUND"));
    assert!(same(&foreign, &missing));
    assert_eq!(world.devices(&first).await.len(), 1);
    assert_eq!(reason(world.login("mei_lin", "battery staple", Some(&first.device_id)).await), "BAD_CREDENTIALS");
}

#[tokio::test]
async fn the_twenty_first_device_signs_the_oldest_out() {
    let world = World::new().await;
    let first = world.register("mei_lin").await;
    let mut newest = first.clone();
    for _ in 0..20 {
        world.advance(1);
        newest = world.login("mei_lin", PASSWORD, None).await.expect("signed in");
    }
    let devices = world.devices(&newest).await;
    assert_eq!(devices.len(), 20);
    assert!(devices.iter().all(|device| device.device_id != first.device_id));
    assert!(devices.iter().any(|device| device.device_id == newest.device_id && device.current));
    assert_eq!(world.revoked(&first).await, std::slice::from_ref(&first.device_id));
    assert_eq!(world.profile_changes(&first).await, 20);
    assert_eq!(reason(world.refresh(&first.refresh_token).await), "REFRESH_INVALID");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_who_sign_in_at_once_do_not_pass_the_limit() {
    let world = World::new().await;
    let first = world.register("mei_lin").await;
    let outcomes = join_all((0..30).map(|_| world.login("mei_lin", PASSWORD, None))).await;
    let good = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    assert!(outcomes.into_iter().all(|outcome| outcome.is_ok() || reason(outcome) == "UNAVAILABLE"));
    let left = world.devices(&first).await.len();
    assert!(left <= 20, "{left}");
    let revoked: HashSet<_> = world.revoked(&first).await.into_iter().collect();
    assert_eq!(left + revoked.len(), good + 1, "whoever is gone is in the log");
}

#[tokio::test]
async fn a_refresh_token_is_good_once_and_a_lost_reply_is_forgiven_for_a_while() {
    let world = World::new().await;
    let first = world.register("mei_lin").await;
    world.advance(60);
    let second = world.refresh(&first.refresh_token).await.expect("refreshed");
    assert_ne!(first.refresh_token, second.refresh_token);
    assert_ne!(first.access_token, second.access_token);
    assert_eq!((&first.user, &first.device_id), (&second.user, &second.device_id));
    assert_eq!(world.devices(&first).await[0].last_seen.expect("a time").seconds as u64, START / 1_000_000 + 60);

    world.advance(120);
    let repeated = world.refresh(&first.refresh_token).await.expect("the reply was lost");
    assert_eq!(repeated.refresh_token, second.refresh_token, "both replies continue the same session");
    let third = world.refresh(&second.refresh_token).await.expect("refreshed");
    world.refresh(&third.refresh_token).await.expect("refreshed");
    assert_eq!(world.revoked(&first).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_refresh_sent_many_times_at_once_continues_one_session() {
    let world = World::new().await;
    let mut newest = world.register("mei_lin").await;
    for _ in 0..10 {
        let sessions = join_all((0..4).map(|_| world.refresh(&newest.refresh_token))).await;
        let mut tokens: Vec<_> = sessions.into_iter().map(|session| session.expect("refreshed").refresh_token).collect();
        tokens.dedup();
        assert_eq!(tokens.len(), 1);
        newest.refresh_token = tokens.remove(0);
    }
    assert_eq!(world.revoked(&newest).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_refresh_token_used_again_later_signs_its_device_out() {
    let world = World::new().await;
    for (older, wait) in [(false, 121), (true, 0)] {
        let first = world.register(if older { "older_one" } else { "later_one" }).await;
        let other = world.login(&first.user.clone().expect("a user").handle, PASSWORD, None).await.expect("signed in");
        let mut newest = world.refresh(&first.refresh_token).await.expect("refreshed");
        if older {
            newest = world.refresh(&newest.refresh_token).await.expect("refreshed");
        }
        world.advance(wait);
        assert_eq!(reason(world.refresh(&first.refresh_token).await), "REFRESH_INVALID");
        assert_eq!(reason(world.refresh(&newest.refresh_token).await), "REFRESH_INVALID", "whoever holds it, the family is revoked");
        assert_eq!(world.revoked(&first).await, std::slice::from_ref(&first.device_id));
        let devices = world.devices(&other).await;
        assert_eq!((devices.len(), &devices[0].device_id), (1, &other.device_id));
    }
}

#[tokio::test]
async fn a_made_up_refresh_token_changes_nothing() {
    let world = World::new().await;
    let session = world.register("mei_lin").await;
    let token = &session.refresh_token;
    let ids = &token[..64];
    for bad in
        [String::new(), "x".to_owned(), token.to_uppercase() + "A", format!("{ids}{}", "0".repeat(128)), "界".repeat(64), "é".repeat(96)]
    {
        let refused = world.refresh(&bad).await.expect_err("made up");
        assert_eq!((refused.code(), why(&refused).0.as_str()), (Code::Unauthenticated, "REFRESH_INVALID"));
    }
    world.refresh(token).await.expect("still good");
}

#[tokio::test]
async fn a_changed_password_signs_all_other_devices_out() {
    let world = World::new().await;
    let first = world.register("mei_lin").await;
    let calling = world.login("mei_lin", PASSWORD, None).await.expect("signed in");
    let change = |old: &str, new: &str| proto::ChangePasswordRequest { old_password: old.to_owned(), new_password: new.to_owned() };
    let wrong = world.accounts().change_password(as_caller(&calling, change("wrong one", "battery staple"))).await.expect_err("wrong");
    assert_eq!((wrong.code(), why(&wrong).0.as_str()), (Code::Unauthenticated, "BAD_CREDENTIALS"));
    assert_eq!(world.devices(&calling).await.len(), 2);

    world.advance(5);
    let answer = world.accounts().change_password(as_caller(&calling, change(PASSWORD, "battery staple"))).await.expect("changed");
    let session = answer.into_inner().session.expect("a session");
    assert_eq!(session.device_id, calling.device_id);
    let devices = world.devices(&session).await;
    assert_eq!((devices.len(), &devices[0].device_id), (1, &calling.device_id));
    assert_eq!(world.revoked(&first).await, std::slice::from_ref(&first.device_id));
    for dead in [&first, &calling] {
        assert_eq!(reason(world.refresh(&dead.refresh_token).await), "REFRESH_INVALID");
    }
    world.refresh(&session.refresh_token).await.expect("the new session");
    assert_eq!(reason(world.login("mei_lin", PASSWORD, None).await), "BAD_CREDENTIALS");
    world.login("mei_lin", "battery staple", None).await.expect("the new password");

    let signed_out = world.accounts().change_password(as_caller(&first, change("battery staple", "another one"))).await;
    assert_eq!(reason(signed_out), "TOKEN_REVOKED");
}
