//! Accounts' store on a cluster loses, one after the other, each request of a registration and of a change, and the answer to each: whatever it
//! says then is true, and what it does not know it finds out.

use std::time::Duration;

use plaza_accounts::{
    MIGRATIONS, Scylla,
    domain::{Device, Lineage, Profile, Settings, User},
    store::{Change, Error, Pending, Registered, Registration, Store, What},
};
use plaza_scylla_kit::{
    Config, Session,
    testing::{Lost, Proxy, lease},
};
use plaza_testkit::wait::wait_for;
use plaza_types::{ClientId, DeviceId, UserId};

const NOW: u64 = 1_700_000_000_000_000;
/// More than either has.
const REQUESTS: u8 = 20;

fn registration(number: u8, handle: &str) -> Registration {
    let id = UserId::new(NOW, [number; 10]);
    let user = User {
        id,
        version: 1,
        handle: handle.to_owned(),
        password: "hash".to_owned(),
        created: NOW,
        profile: Profile::default(),
        settings: Settings::default(),
    };
    let device = Device {
        id: DeviceId::new(NOW, [number; 10]),
        version: 1,
        name: "phone".to_owned(),
        platform: "ios".to_owned(),
        created: NOW,
        last_seen: NOW,
        lineage: Lineage { family: [1; 32], newest: [2; 32], before: None, rotated: NOW },
    };
    Registration { request: ClientId::new(NOW, [number; 10]), fingerprint: [number; 32], handle_key: handle.to_owned(), user, device }
}

struct World {
    store: Scylla,
    proxy: Proxy,
    _lease: plaza_scylla_kit::testing::Lease,
}

async fn world() -> Option<World> {
    let node = plaza_testkit::external::cql()?;
    let lease = lease(&node, &[MIGRATIONS]).await;
    let proxy = Proxy::start(&node).await;
    let config = Config { nodes: vec![proxy.address.to_string()], ..lease.config.clone() };
    let session = Session::connect(&config).await.expect("through the proxy");
    Some(World { store: Scylla::open(&session).await.expect("opened"), proxy, _lease: lease })
}

/// After a loss the connection is made anew, and until then nothing happens.
async fn healed<T, F: Future<Output = Result<T, Error>>>(ask: impl FnMut() -> F) -> T {
    wait_for("an answer", Duration::from_secs(60), ask).await.expect("healed")
}

#[tokio::test]
async fn a_registration_happens_whole_or_not_at_all() {
    let Some(World { store, proxy, _lease }) = world().await else { return };
    let mut number = 0;
    for what in [Lost::Request, Lost::Answer] {
        for after in 0..REQUESTS {
            number += 1;
            let handle = format!("person_{number}");
            let asked = registration(number, &handle);
            proxy.lose(usize::from(after), what);
            let outcome = store.register(&asked).await;
            let lost = proxy.heal();
            if !lost {
                assert!(after > 3, "a registration has more than {after} requests");
                break;
            }
            // Somebody else wants the handle next.
            let other = registration(100 + number, &handle);
            let others = healed(|| store.register(&other)).await;
            let found = healed(|| store.register(&asked)).await;
            let winner = match (&outcome, found) {
                (Ok(Registered::Created | Registered::Before(_)), Registered::Before(_)) => &asked,
                (Err(Error::Unknown(_)), Registered::Created | Registered::Before(_)) => &asked,
                (Err(Error::Unknown(_) | Error::Unavailable(_)), Registered::HandleTaken) => &other,
                (outcome, _) => panic!("{what:?} {after}: {:?}", outcome.as_ref().err()),
            };
            assert!(matches!(others, Registered::HandleTaken) == std::ptr::eq(winner, &asked), "{what:?} {after}");
            let id = winner.user.id;
            assert_eq!(healed(|| store.user_of(&handle)).await, Some(id));
            let ids = [asked.user.id, other.user.id];
            let both = healed(|| store.users(&ids)).await;
            assert_eq!(both.iter().map(|user| user.id).collect::<Vec<_>>(), [id], "{what:?} {after}");
            assert_eq!(healed(|| store.devices(id)).await, std::slice::from_ref(&winner.device));
            for one in [&asked, &other] {
                let remembered = healed(|| store.remembered(one.request)).await;
                assert_eq!(remembered.is_some(), std::ptr::eq(one, winner), "{what:?} {after}");
            }
        }
    }
}

/// Asks for a registration and dies with the request or answer that gets lost; `false` if none did.
async fn dies(World { store, proxy, .. }: &World, asked: &Registration, what: Lost, after: u8) -> bool {
    proxy.lose(usize::from(after), what);
    tokio::select! {
        biased;
        () = proxy.lost() => true,
        outcome = store.register(asked) => {
            assert!(outcome.is_ok() && !proxy.heal());
            false
        }
    }
}

#[tokio::test]
async fn a_registration_left_half_way_is_finished_by_whoever_meets_it() {
    let Some(world) = world().await else { return };
    let store = &world.store;
    let mut number = 0;
    let mut outcomes = [0, 0];
    for what in [Lost::Request, Lost::Answer] {
        for after in 0..REQUESTS {
            let mut died = false;
            for next in ["its request id", "its handle", "its request id with another handle"] {
                number += 1;
                let handle = format!("person_{number}");
                let asked = registration(number, &handle);
                died = dies(&world, &asked, what, after).await;
                if !died {
                    break;
                }
                let happened = match next {
                    "its request id" => healed(|| store.remembered(asked.request)).await.is_some(),
                    "its handle" => healed(|| store.user_of(&handle)).await.is_some(),
                    _ => {
                        let other = Registration { request: asked.request, ..registration(100 + number, &format!("other_{number}")) };
                        match healed(|| store.register(&other)).await {
                            Registered::Before(before) if before.user == asked.user.id => true,
                            // Asked again after the connection was made anew.
                            Registered::Created | Registered::Before(_) => false,
                            Registered::HandleTaken => panic!("{what:?} {after}: nobody has it"),
                        }
                    }
                };
                outcomes[usize::from(happened)] += 1;
                let told = format!("{what:?} {after}, met by {next}: happened {happened}");
                let ids = [asked.user.id];
                assert_eq!(healed(|| store.users(&ids)).await.len(), usize::from(happened), "{told}");
                assert_eq!(healed(|| store.devices(asked.user.id)).await.len(), usize::from(happened), "{told}");
                assert_eq!(healed(|| store.user_of(&handle)).await, happened.then_some(asked.user.id), "{told}");
            }
            if !died {
                assert!(after > 3, "a registration has more than {after} requests");
                break;
            }
        }
    }
    assert!(outcomes.iter().all(|count| *count > 0), "{outcomes:?}");
}

#[tokio::test]
async fn a_claim_without_its_handle_counts_as_absent() {
    let Some(world) = world().await else { return };
    let store = &world.store;
    let owner = registration(255, "the_handle");
    assert!(matches!(store.register(&owner).await, Ok(Registered::Created)));
    for (number, what) in [(1, Lost::Request), (51, Lost::Answer)] {
        for after in 0..REQUESTS {
            let asked = registration(number + after, "the_handle");
            if !dies(&world, &asked, what, after).await {
                assert!(after > 2, "it has more than {after} requests");
                break;
            }
            assert!(healed(|| store.remembered(asked.request)).await.is_none(), "{what:?} {after}");
            let again = Registration { request: asked.request, ..registration(100 + number + after, &format!("free_{number}_{after}")) };
            let found = healed(|| store.register(&again)).await;
            assert!(matches!(found, Registered::Created), "{what:?} {after}");
        }
    }
    assert_eq!(healed(|| store.user_of("the_handle")).await, Some(owner.user.id));
}

/// What a change does beside the row of the account.
#[derive(Debug, Clone, Copy)]
enum Shape {
    Nothing,
    SignsIn,
    Rotates,
    SignsOut,
}

/// The change, and the devices after it. There is one at least before, and so again after all shapes.
fn change(shape: Shape, user: &User, version: u64, devices: &[Device]) -> (Change, Vec<Device>) {
    let (next, newest) = (version + 1, devices.last().expect("a device"));
    let mut change = Change { account: Some((version, User { version: next, ..user.clone() })), ..Change::of(user.id) };
    let mut after = devices.to_vec();
    let mut what = What::ProfileChanged;
    match shape {
        Shape::Nothing => {}
        Shape::SignsIn => {
            let device = Device { id: DeviceId::new(NOW + next, [9; 10]), version: next, ..newest.clone() };
            change.device = Some((None, device.clone()));
            after.push(device);
        }
        Shape::Rotates => {
            let device = Device { version: next, lineage: newest.lineage.rotated([3; 32], NOW + next), ..newest.clone() };
            change.device = Some((Some(newest.version), device.clone()));
            *after.last_mut().expect("a device") = device;
        }
        Shape::SignsOut => {
            change.removed.push((newest.id, newest.version));
            after.pop();
            what = What::DeviceRevoked(newest.id);
        }
    }
    change.events.push(Pending { id: next, user: user.id, time: NOW + next, what });
    (change, after)
}

#[tokio::test]
async fn a_change_happens_whole_or_not_at_all() {
    let Some(World { store, proxy, _lease }) = world().await else { return };
    let registration = registration(1, "person_1");
    assert!(matches!(store.register(&registration).await, Ok(Registered::Created)));
    let Registration { user, device, .. } = registration;
    let ids = [user.id];
    let (mut version, mut devices, mut events) = (1, vec![device], Vec::new());
    for what in [Lost::Request, Lost::Answer] {
        for after in 0..REQUESTS {
            let mut lost = false;
            // Twice in, because one may not happen, and then nobody would be left to be signed out.
            for shape in [Shape::Nothing, Shape::SignsIn, Shape::SignsIn, Shape::Rotates, Shape::SignsOut] {
                let (change, then) = change(shape, &user, version, &devices);
                let next = version + 1;
                proxy.lose(usize::from(after), what);
                let outcome = store.apply(&change).await;
                lost |= proxy.heal();
                let told = format!("{what:?} {after} {shape:?}");
                let found = healed(|| store.users(&ids)).await[0].version;
                assert!(found == version || found == next, "{told}");
                match outcome {
                    Ok(applied) => assert_eq!(applied, found == next, "{told}"),
                    Err(Error::Unavailable(_)) => assert_eq!(found, version, "{told}"),
                    Err(Error::Unknown(_)) => {}
                    Err(error) => panic!("{told}: {error}"),
                }
                if found == next {
                    (version, devices) = (next, then);
                    events.extend(change.events);
                }
                assert_eq!(healed(|| store.devices(user.id)).await, devices, "{told}");
                assert_eq!(healed(|| store.pending_of(user.id)).await, events, "{told}");
                // Every event is found by its hint.
                let mut before = healed(|| store.pending_before(NOW + 1000, 100)).await;
                before.sort_by_key(|event| event.id);
                assert_eq!(before, events, "{told}");
            }
            if !lost {
                assert!(after > 1, "a change has more than {after} requests");
                break;
            }
        }
    }
}
