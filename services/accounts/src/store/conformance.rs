//! What every store of accounts must do, whatever it is made of. The cases are listed once, in [`accounts_store_conformance`](crate::accounts_store_conformance), which makes each
//! of them a test of one implementation.

use std::sync::Arc;

use futures::future::join_all;
use plaza_types::{ClientId, DeviceId, UserId};

use super::{Change, Keys, Pending, Registered, Registration, Remembered, Store, What};
use crate::domain::{Device, Lineage, MomentsRange, Profile, Settings, User};

/// Expands to one test per case, the same for every store. `$open` is an async function that gives an empty store (`Arc<dyn Store>`) and
/// whatever must live as long, or `None` for one that cannot be had here.
#[macro_export]
macro_rules! accounts_store_conformance {
    ($open:path) => {
        $crate::accounts_store_conformance! { $open =>
            keys_are_made_once
            a_registration_is_read_as_it_was_written
            a_handle_and_a_request_are_good_for_one_account
            of_racing_registrations_one_wins
            old_registrations_are_forgotten
            a_change_happens_whole
            a_change_of_what_has_changed_does_not_happen
            of_racing_changes_one_wins
            devices_are_listed_in_order_and_only_their_users
            events_stay_until_they_are_appended
        }
    };
    ($open:path => $($case:ident)*) => { $(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $case() {
            let Some((store, _alive)) = $open().await else { return };
            $crate::store::conformance::$case(store).await;
        }
    )* };
}

const NOW: u64 = 1_700_000_000_000_000;

fn id_bytes(number: u8) -> [u8; 10] {
    [number; 10]
}

fn request(number: u8) -> ClientId {
    ClientId::new(NOW, id_bytes(number))
}

fn device(number: u8) -> Device {
    Device {
        id: DeviceId::new(NOW + u64::from(number) * 1000, id_bytes(number)),
        version: u64::from(number),
        name: format!("phone {number}"),
        platform: "ios".to_owned(),
        created: NOW,
        last_seen: NOW + 1,
        lineage: Lineage { family: [number; 32], newest: [2; 32], before: Some([3; 32]), rotated: NOW + 2 },
    }
}

fn user(number: u8) -> User {
    User {
        id: UserId::new(NOW, id_bytes(number)),
        version: u64::from(number),
        handle: format!("Person_{number}"),
        password: format!("hash {number}"),
        created: NOW,
        profile: Profile { display_name: "界".to_owned(), region: Some("Xi'an".to_owned()), bio: None, avatar: Some("0f".repeat(32)) },
        settings: Settings { findable_by_handle: false, moments_range: MomentsRange::SixMonths },
    }
}

fn registration(number: u8) -> Registration {
    let user = user(number);
    Registration {
        request: request(number),
        fingerprint: [number; 32],
        handle_key: user.handle.to_ascii_lowercase(),
        user,
        device: device(number),
    }
}

fn event(number: u8, user: &User, time: u64) -> Pending {
    let what = if number.is_multiple_of(2) { What::ProfileChanged } else { What::DeviceRevoked(device(number).id) };
    Pending { id: u64::from(number), user: user.id, time, what }
}

async fn registered(store: &Arc<dyn Store>, number: u8) -> User {
    let registration = registration(number);
    assert!(store.register(&registration).await.expect("registered") == Registered::Created);
    registration.user
}

async fn read(store: &Arc<dyn Store>, id: UserId) -> Option<User> {
    store.users(&[id]).await.expect("read").pop()
}

/// The first keys stay.
pub async fn keys_are_made_once(store: Arc<dyn Store>) {
    let keys = |number| Keys { signing: vec![number; 83], refresh: [number; 32] };
    let made = join_all((0..8).map(|number| store.keys(keys(number)))).await;
    let first = made[0].clone().expect("keys");
    assert!((0..8).any(|number| keys(number) == first));
    for one in made {
        assert!(one.expect("keys") == first);
    }
    assert!(store.keys(keys(9)).await.expect("keys") == first);
}

/// Every field, under every key.
pub async fn a_registration_is_read_as_it_was_written(store: Arc<dyn Store>) {
    let wanted = registration(1);
    let user = registered(&store, 1).await;
    assert!(read(&store, user.id).await.as_ref() == Some(&user));
    assert_eq!(store.user_of("person_1").await.expect("read"), Some(user.id));
    assert_eq!(store.user_of("Person_1").await.expect("read"), None);
    assert_eq!(store.devices(user.id).await.expect("read"), std::slice::from_ref(&wanted.device));
    assert_eq!(store.device(user.id, wanted.device.id).await.expect("read"), Some(wanted.device.clone()));
    let remembered = store.remembered(wanted.request).await.expect("read");
    let expected = Remembered { fingerprint: [1; 32], password: "hash 1".to_owned(), user: user.id, device: wanted.device.id };
    assert!(remembered == Some(expected));
    let unknown = UserId::new(NOW, id_bytes(9));
    assert!(read(&store, unknown).await.is_none());
    let second = registered(&store, 2).await;
    let both = store.users(&[second.id, unknown, user.id]).await.expect("read");
    assert_eq!(both.iter().map(|user| user.id).collect::<Vec<_>>(), [second.id, user.id]);
    store.durable().await.expect("durable");
}

/// The second of either is refused and leaves nothing behind.
pub async fn a_handle_and_a_request_are_good_for_one_account(store: Arc<dyn Store>) {
    let user = registered(&store, 1).await;
    let Registered::Before(before) = store.register(&registration(1)).await.expect("asked") else { panic!("the request was used") };
    assert_eq!(before.user, user.id);

    let other_handle = Registration { request: request(1), ..registration(2) };
    let Registered::Before(before) = store.register(&other_handle).await.expect("asked") else { panic!("the request was used") };
    assert_eq!((before.user, before.fingerprint), (user.id, [1; 32]));

    let other_request = Registration { handle_key: "person_1".to_owned(), ..registration(3) };
    assert!(store.register(&other_request).await.expect("asked") == Registered::HandleTaken);
    for loser in [&other_handle, &other_request] {
        assert!(read(&store, loser.user.id).await.is_none());
        assert_eq!(store.devices(loser.user.id).await.expect("read"), []);
    }
    assert!(store.remembered(request(3)).await.expect("read").is_none());
    assert_eq!(store.user_of("person_1").await.expect("read"), Some(user.id));
}

/// One account, and everybody else learns of it.
pub async fn of_racing_registrations_one_wins(store: Arc<dyn Store>) {
    let asked: Vec<_> = (1..=8).map(|number| Registration { handle_key: "the_handle".to_owned(), ..registration(number) }).collect();
    let outcomes = join_all(asked.iter().map(|one| store.register(one))).await;
    let winners: Vec<_> = asked.iter().zip(outcomes).filter(|(_, outcome)| matches!(outcome, Ok(Registered::Created))).collect();
    assert_eq!(winners.len(), 1);
    assert_eq!(store.user_of("the_handle").await.expect("read"), Some(winners[0].0.user.id));
    let ids: Vec<_> = asked.iter().map(|one| one.user.id).collect();
    assert_eq!(store.users(&ids).await.expect("read").len(), 1);
}

/// By the time in their ids; the accounts stay.
pub async fn old_registrations_are_forgotten(store: Arc<dyn Store>) {
    let old = registered(&store, 1).await;
    let young = Registration { request: ClientId::new(NOW + 5_000, id_bytes(2)), ..registration(2) };
    store.register(&young).await.expect("registered");
    store.forget(NOW).await.expect("forgotten");
    assert!(store.remembered(request(1)).await.expect("read").is_some());
    store.forget(NOW + 5_000).await.expect("forgotten");
    assert!(store.remembered(request(1)).await.expect("read").is_none());
    assert!(store.remembered(young.request).await.expect("read").is_some());
    assert!(read(&store, old.id).await.is_some());
    assert_eq!(store.user_of("person_1").await.expect("read"), Some(old.id));
}

/// All rows and events of it.
pub async fn a_change_happens_whole(store: Arc<dyn Store>) {
    let old = registered(&store, 1).await;
    let renamed = User { version: 100, profile: Profile { bio: Some("new".to_owned()), ..old.profile.clone() }, ..old.clone() };
    let change = Change {
        user: old.id,
        account: Some((1, renamed.clone())),
        device: Some((None, device(2))),
        removed: vec![(device(1).id, 1)],
        events: vec![event(1, &old, NOW)],
    };
    assert!(store.apply(&change).await.expect("applied"));
    assert!(read(&store, old.id).await == Some(renamed));
    assert_eq!(store.devices(old.id).await.expect("read"), [device(2)]);
    assert_eq!(store.pending_of(old.id).await.expect("read"), change.events);

    let again = Device { version: 200, last_seen: NOW + 9, lineage: device(2).lineage.rotated([7; 32], NOW + 9), ..device(2) };
    let change = Change { device: Some((Some(2), again.clone())), ..Change::of(old.id) };
    assert!(store.apply(&change).await.expect("applied"));
    assert_eq!(store.device(old.id, again.id).await.expect("read"), Some(again));
}

/// Whatever has changed, nothing of the change happens.
pub async fn a_change_of_what_has_changed_does_not_happen(store: Arc<dyn Store>) {
    let user = registered(&store, 1).await;
    let next = User { version: 100, ..user.clone() };
    let stranger = UserId::new(NOW, id_bytes(9));
    let good = Change { account: Some((1, next.clone())), events: vec![event(1, &user, NOW)], ..Change::of(user.id) };
    let refused = [
        Change { account: Some((2, next.clone())), ..good.clone() },
        Change { device: Some((None, device(1))), ..good.clone() },
        Change { device: Some((Some(2), device(1))), ..good.clone() },
        Change { device: Some((Some(2), device(2))), ..good.clone() },
        Change { removed: vec![(device(1).id, 2)], ..good.clone() },
        Change { removed: vec![(device(1).id, 1), (device(2).id, 2)], ..good.clone() },
        Change { user: stranger, account: Some((1, User { id: stranger, ..next })), ..Change::of(stranger) },
    ];
    for change in &refused {
        assert!(!store.apply(change).await.expect("asked"));
    }
    assert!(read(&store, user.id).await.as_ref() == Some(&user));
    assert_eq!(store.devices(user.id).await.expect("read"), [device(1)]);
    assert_eq!(store.pending_of(user.id).await.expect("read"), []);
    assert!(store.apply(&good).await.expect("applied"));
    assert!(!store.apply(&good).await.expect("asked"));
}

/// Those that replace the same version.
pub async fn of_racing_changes_one_wins(store: Arc<dyn Store>) {
    let user = registered(&store, 1).await;
    let changes: Vec<_> = (10..18)
        .map(|version| Change {
            account: Some((1, User { version, ..user.clone() })),
            events: vec![event(u8::try_from(version).expect("small"), &user, NOW)],
            ..Change::of(user.id)
        })
        .collect();
    let outcomes = join_all(changes.iter().map(|change| store.apply(change))).await;
    let winners: Vec<_> = changes.iter().zip(outcomes).filter(|(_, outcome)| matches!(outcome, Ok(true))).collect();
    assert_eq!(winners.len(), 1);
    assert!(read(&store, user.id).await == winners[0].0.account.clone().map(|(_, user)| user));
    assert_eq!(store.pending_of(user.id).await.expect("read"), winners[0].0.events);
}

/// Their ids say the order.
pub async fn devices_are_listed_in_order_and_only_their_users(store: Arc<dyn Store>) {
    let (one, two) = (registered(&store, 1).await, registered(&store, 2).await);
    for number in [5, 3, 4] {
        let change = Change { device: Some((None, device(number))), ..Change::of(one.id) };
        assert!(store.apply(&change).await.expect("applied"));
    }
    assert_eq!(store.devices(one.id).await.expect("read"), [1, 3, 4, 5].map(device));
    assert_eq!(store.devices(two.id).await.expect("read"), [device(2)]);
    assert_eq!(store.device(two.id, device(3).id).await.expect("read"), None);
}

/// Oldest first, by user and by age.
pub async fn events_stay_until_they_are_appended(store: Arc<dyn Store>) {
    let (one, two) = (registered(&store, 1).await, registered(&store, 2).await);
    let events = [event(1, &one, NOW + 2), event(2, &one, NOW + 1), event(3, &one, NOW + 3)];
    let others = [event(4, &two, NOW)];
    for (user, events) in [(&one, events.to_vec()), (&two, others.to_vec())] {
        let account = Some((user.version, User { version: 100, ..user.clone() }));
        assert!(store.apply(&Change { account, events, ..Change::of(user.id) }).await.expect("applied"));
    }
    assert_eq!(store.pending_of(one.id).await.expect("read"), [events[1], events[0], events[2]]);
    let mut before = store.pending_before(NOW + 2, 10).await.expect("read");
    before.sort_by_key(|event| event.id);
    assert_eq!(before, [events[1], others[0]]);
    assert_eq!(store.pending_before(NOW + 9, 3).await.expect("read").len(), 3);
    store.appended(&events[..2]).await.expect("noted");
    store.appended(&events[..2]).await.expect("noted again");
    assert_eq!(store.pending_of(one.id).await.expect("read"), [events[2]]);
    assert_eq!(store.pending_of(two.id).await.expect("read"), others);
}
