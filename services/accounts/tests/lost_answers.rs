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

#[tokio::test]
async fn a_change_happens_whole_or_not_at_all() {
    let Some(World { store, proxy, _lease }) = world().await else { return };
    let Registration { user, .. } = registration(1, "person_1");
    assert!(matches!(store.register(&registration(1, "person_1")).await, Ok(Registered::Created)));
    let ids = [user.id];
    let (mut version, mut events) = (1, Vec::new());
    for what in [Lost::Request, Lost::Answer] {
        for after in 0..REQUESTS {
            let next = version + 1;
            let event = Pending { id: next, user: user.id, time: NOW + next, what: What::ProfileChanged };
            let account = Some((version, User { version: next, ..user.clone() }));
            let change = Change { account, events: vec![event], ..Change::of(user.id) };
            proxy.lose(usize::from(after), what);
            let outcome = store.apply(&change).await;
            let lost = proxy.heal();
            let found = healed(|| store.users(&ids)).await[0].version;
            assert!(found == version || found == next);
            match outcome {
                Ok(applied) => assert_eq!(applied, found == next, "{what:?} {after}"),
                Err(Error::Unavailable(_)) => assert_eq!(found, version, "{what:?} {after}"),
                Err(Error::Unknown(_)) => {}
                Err(error) => panic!("{error}"),
            }
            if found == next {
                version = next;
                events.push(event);
            }
            assert_eq!(healed(|| store.pending_of(user.id)).await, events, "{what:?} {after}");
            // Every event is found by its hint.
            let mut before = healed(|| store.pending_before(NOW + 1000, 100)).await;
            before.sort_by_key(|event| event.id);
            assert_eq!(before, events, "{what:?} {after}");
            if !lost {
                assert!(after > 1, "a change has more than {after} requests");
                break;
            }
        }
    }
}
