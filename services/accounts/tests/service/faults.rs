//! Under a store that fails, and does not say whether it did: a client that tries again gets what it asked for, once, and everybody else hears
//! of it.

use std::{cell::OnceCell, sync::Arc, time::Duration};

use plaza_accounts::{
    Embedded,
    store::{
        Change, Pending, Store, What,
        fault::{Faulty, Rates},
    },
};
use plaza_proto::accounts::v1 as proto;
use plaza_testkit::wait::wait_for;
use tonic::{Code, Status};

use crate::harness::{PASSWORD, START, World, as_caller, mask, user_id, why};

const SEEDS: std::ops::Range<u64> = 0..24;
/// Tries of one call; all of them fail less often than a bit flips.
const TRIES: usize = 200;
const RATES: Rates = Rates { unavailable: 5, unknown_done: 15, unknown_not_done: 15 };

/// A world on a failing store, which fails from when it is told to.
async fn world(seed: u64) -> (World, Arc<Faulty>) {
    let failing = OnceCell::new();
    let world = World::wrapped(seed, |store, rng| failing.get_or_init(|| Arc::new(Faulty::new(store, rng, Rates::default()))).clone());
    let world = world.await;
    (world, failing.into_inner().expect("the store was wrapped"))
}

/// Tries again, as clients do, while the answer is UNAVAILABLE. Says whether it had to.
async fn persistent<T, F: Future<Output = Result<T, Status>>>(mut call: impl FnMut() -> F) -> (Result<T, Status>, bool) {
    for tried in 0..TRIES {
        match call().await {
            Err(status) if status.code() == Code::Unavailable => {
                assert!(matches!(why(&status).0.as_str(), "UNAVAILABLE" | "UNDECIDED"), "{status:?}");
            }
            outcome => return (outcome, tried > 0),
        }
    }
    panic!("unavailable {TRIES} times")
}

/// The outcome, which may be this refusal if an earlier try can have done it unknown to the client.
fn done_or<T>((outcome, again): (Result<T, Status>, bool), refusal: &str) -> Option<T> {
    match outcome {
        Ok(value) => Some(value),
        Err(status) => {
            assert!(again && why(&status).0 == refusal, "{status:?}");
            None
        }
    }
}

async fn story(seed: u64) {
    let (world, failing) = world(seed).await;
    failing.set(RATES);
    let request = world.registration("mei_lin");
    let session = persistent(|| world.try_register(request.clone())).await.0.expect("registered");
    let rival = world.registration("Mei_Lin");
    let refused = persistent(|| world.try_register(rival.clone())).await.0.expect_err("taken");
    assert_eq!(why(&refused).0, "HANDLE_TAKEN");
    let again = persistent(|| world.try_register(request.clone())).await.0.expect("the same");
    assert_eq!((user_id(&again), &again.refresh_token), (user_id(&session), &session.refresh_token));

    let mut second = persistent(|| world.login("mei_lin", PASSWORD, None)).await.0.expect("signed in");
    for _ in 0..5 {
        second = persistent(|| world.refresh(&second.refresh_token)).await.0.expect("refreshed");
    }
    let profile = proto::UpdateProfileRequest { bio: Some("hello".to_owned()), update_mask: mask(&["bio"]), ..Default::default() };
    let changed =
        persistent(|| async { world.accounts().update_profile(as_caller(&session, profile.clone())).await }).await.0.expect("changed");
    assert_eq!(changed.into_inner().user.and_then(|user| user.bio), Some("hello".to_owned()));

    let third = persistent(|| world.login("mei_lin", PASSWORD, None)).await.0.expect("signed in");
    let revoke = proto::RevokeDeviceRequest { device_id: third.device_id.clone() };
    done_or(persistent(|| async { world.accounts().revoke_device(as_caller(&session, revoke.clone())).await }).await, "NOT_FOUND");
    assert!(world.revoked(&session).await.contains(&third.device_id), "answered, so it is in the log");

    let change = proto::ChangePasswordRequest { old_password: PASSWORD.to_owned(), new_password: "battery staple".to_owned() };
    let answer = persistent(|| async { world.accounts().change_password(as_caller(&session, change.clone())).await }).await;
    done_or(answer, "BAD_CREDENTIALS");
    let newest = persistent(|| world.login("mei_lin", "battery staple", Some(&session.device_id))).await.0.expect("signed in");
    assert_eq!(newest.device_id, session.device_id);

    failing.set(Rates::default());
    for dead in [&second, &third] {
        assert_eq!(why(&world.refresh(&dead.refresh_token).await.expect_err("signed out")).0, "REFRESH_INVALID");
    }
    world.refresh(&newest.refresh_token).await.expect("signed in");
    // A sign-in whose answer was lost may have left a device behind, which the change of password signed out: whatever is gone is in the log.
    assert_eq!(world.devices(&session).await.len(), 1);
    for _ in 0..2 {
        // The second finds it done, and so makes sure that nothing is left half done.
        world.accounts().logout(as_caller(&newest, proto::LogoutRequest {})).await.expect("signed out");
    }
    let revoked = world.revoked(&session).await;
    for gone in [&session, &second, &third] {
        assert!(revoked.contains(&gone.device_id), "{revoked:?}");
    }
    noted(&*failing, &session).await;
}

/// Waits until all events of a user are noted as appended.
async fn noted(store: &dyn Store, session: &proto::Session) {
    let none_pending = || async {
        let pending = store.pending_of(user_id(session)).await.expect("read");
        if pending.is_empty() { Ok(()) } else { Err(pending) }
    };
    wait_for("the events are noted as appended", Duration::from_secs(20), none_pending).await.expect("noted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_tries_again_gets_what_it_asked_for() {
    for seed in SEEDS {
        println!("seed {seed}");
        story(seed).await;
    }
}

#[tokio::test]
async fn a_store_that_is_down_answers_unavailable_and_changes_nothing() {
    let (world, failing) = world(1).await;
    let session = world.register("mei_lin").await;
    failing.set(Rates { unavailable: 100, ..Rates::default() });
    let calls = [
        world.login("mei_lin", PASSWORD, None).await,
        world.refresh(&session.refresh_token).await,
        world.try_register(world.registration("another")).await,
    ];
    for refused in calls {
        let refused = refused.expect_err("down");
        assert_eq!((refused.code(), why(&refused).0.as_str()), (Code::Unavailable, "UNAVAILABLE"));
    }
    failing.set(Rates { unknown_not_done: 100, ..Rates::default() });
    let undecided = world.try_register(world.registration("another")).await.expect_err("unknown");
    assert_eq!((undecided.code(), why(&undecided).0.as_str()), (Code::Unavailable, "UNDECIDED"));
    failing.set(Rates::default());
    world.refresh(&session.refresh_token).await.expect("as if nothing had been");
    assert_eq!(why(&world.login("another", PASSWORD, None).await.expect_err("nobody")).0, "BAD_CREDENTIALS");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_left_between_its_row_and_the_log_is_appended_by_the_next_process() {
    let world = World::new().await;
    let session = world.register("mei_lin").await;
    let store = Embedded::open(&world.db).expect("keyspaces");
    let device = store.devices(user_id(&session)).await.expect("read").remove(0);
    let events = vec![Pending { id: 1, user: user_id(&session), time: START, what: What::DeviceRevoked(device.id) }];
    let removed = vec![(device.id, device.version)];
    assert!(store.apply(&Change { removed, events, ..Change::of(user_id(&session)) }).await.expect("applied"));
    store.durable().await.expect("durable");

    let world = world.killed_and_started_again().await;
    let appended = || async {
        let revoked = world.revoked(&session).await;
        if revoked == std::slice::from_ref(&session.device_id) { Ok(()) } else { Err(revoked) }
    };
    wait_for("the revocation is in the log", Duration::from_secs(20), appended).await.expect("appended");
    let store = Embedded::open(&world.db).expect("keyspaces");
    noted(&store, &session).await;
}
