//! What every implementation of the store does, listed once.

use plaza_processor::{IdKey, Key, Machine, Position, Remembered, Timed};
use plaza_types::{ClientId, UserId};

use super::{Place, Relation, Stance, Stances, Store};
use crate::domain::{Blocked, Contact, Folder, Graph, Permissions, Remark, Request, RequestStatus, Row, Status};

/// Expands every case as a test of its own, the same for every store, on one made by `$open`, which gives `None` where it cannot be had.
macro_rules! cases {
    ($open:ident) => {
        $crate::store::conformance::cases!($open: later_write_wins, contacts_in_pages, requests_newest_first, blocked_in_pages, relations, stances, ids_and_rows_together);
    };
    ($open:ident: $($case:ident),*) => { $(
        #[tokio::test]
        async fn $case() {
            let Some(opened) = $open().await else { return };
            $crate::store::conformance::$case(&*opened).await;
        }
    )* };
}
pub(super) use cases;

fn user(number: u8) -> UserId {
    UserId::from_bytes([number; 16])
}

fn contact(owner: u8, other: u8, since: u64) -> Contact {
    let permissions = Permissions { chat_only: true, ..Permissions::default() };
    Contact {
        owner: user(owner),
        other: user(other),
        listed: true,
        since,
        starred: true,
        permissions,
        tags: vec!["work".to_owned(), "school".to_owned()],
    }
}

fn gone(owner: u8, other: u8) -> Row {
    Row::Contact(Contact { listed: false, ..contact(owner, other, 0) })
}

fn remark(owner: u8, other: u8, remark: &str) -> Row {
    Row::Remark(Remark { owner: user(owner), other: user(other), remark: remark.to_owned() })
}

fn blocked(owner: u8, other: u8, blocked: bool) -> Row {
    Row::Blocked(Blocked { owner: user(owner), other: user(other), blocked })
}

fn request(owner: u8, kept_in: Folder, other: u8, time: u64) -> Request {
    let request = ClientId::new(time, [other; 10]);
    Request { owner: user(owner), kept_in, other: user(other), request, time, note: format!("note {time}"), source: "handle".to_owned() }
}

fn status(owner: u8, kept_in: Folder, other: u8, time: u64, status: Status) -> Row {
    Row::RequestStatus(RequestStatus { owner: user(owner), kept_in, other: user(other), time, status })
}

async fn write(store: &dyn Store, time: u64, rows: Vec<Row>) {
    let rows: Vec<_> = rows.into_iter().map(|row| Timed { time, row }).collect();
    store.write_rows(Graph::NAME, &rows, &[]).await.expect("written");
}

pub(super) async fn later_write_wins(store: &dyn Store) {
    write(store, 20, vec![Row::Contact(contact(1, 2, 7)), remark(1, 2, "Ann")]).await;
    write(store, 10, vec![gone(1, 2), remark(1, 2, "")]).await;
    let found = store.contact(user(1), user(2)).await.expect("read").expect("listed");
    assert_eq!((found.contact, found.remark.as_str()), (contact(1, 2, 7), "Ann"));
    assert_eq!(store.contact(user(2), user(1)).await.expect("read"), None);
    write(store, 30, vec![gone(1, 2), remark(1, 2, "")]).await;
    write(store, 20, vec![Row::Contact(contact(1, 2, 7))]).await;
    assert_eq!(store.contact(user(1), user(2)).await.expect("read"), None);
    write(store, 40, vec![Row::Contact(contact(1, 2, 9))]).await;
    let again = store.contact(user(1), user(2)).await.expect("read").expect("listed");
    assert_eq!((again.contact.since, again.remark.as_str()), (9, ""));
}

pub(super) async fn contacts_in_pages(store: &dyn Store) {
    for other in 0..=255 {
        write(store, 1, vec![Row::Contact(contact(7, other, 1)), Row::Contact(contact(8, other, 1)), Row::Contact(contact(6, other, 1))])
            .await;
    }
    write(store, 2, (0..=255).filter(|other| other % 3 > 0).map(|other| gone(7, other)).collect()).await;
    let (mut after, mut seen) = (None, Vec::new());
    loop {
        let page = store.contacts(user(7), after, 10).await.expect("read");
        let Some(last) = page.last() else { break };
        after = Some(last.contact.other);
        assert!(page.len() == 10 || seen.len() + page.len() == 86);
        seen.extend(page.into_iter().map(|found| found.contact.other));
    }
    assert_eq!(seen, (0..=255).filter(|other| other % 3 == 0).map(user).collect::<Vec<_>>());
}

pub(super) async fn requests_newest_first(store: &dyn Store) {
    for (number, time) in [(2, 100), (3, 300), (4, 200), (2, 400), (5, 300)] {
        write(
            store,
            time,
            vec![Row::Request(request(1, Folder::Received, number, time)), status(1, Folder::Received, number, time, Status::Pending)],
        )
        .await;
    }
    write(store, 500, vec![status(1, Folder::Received, 4, 200, Status::Ignored)]).await;
    write(store, 150, vec![Row::Request(request(1, Folder::Sent, 9, 150)), status(1, Folder::Sent, 9, 150, Status::Accepted)]).await;
    let all = store.requests(user(1), Folder::Received, None, 10).await.expect("read");
    let expected = [(2, 400, Status::Pending), (3, 300, Status::Pending), (5, 300, Status::Pending), (4, 200, Status::Ignored)];
    assert_eq!(all, expected.map(|(other, time, status)| (request(1, Folder::Received, other, time), status)));
    let place = Place { time: 300, other: user(3) };
    let behind = store.requests(user(1), Folder::Received, Some(place), 1).await.expect("read");
    assert_eq!(behind, all[2..3]);
    let sent = store.requests(user(1), Folder::Sent, None, 10).await.expect("read");
    assert_eq!(sent, [(request(1, Folder::Sent, 9, 150), Status::Accepted)]);
    assert_eq!(store.requests(user(2), Folder::Received, None, 10).await.expect("read"), []);
}

pub(super) async fn blocked_in_pages(store: &dyn Store) {
    write(store, 1, [2, 3, 4, 255].map(|other| blocked(1, other, true)).to_vec()).await;
    write(store, 2, vec![blocked(1, 3, false)]).await;
    assert_eq!(store.blocked(user(1), None, 2).await.expect("read"), [user(2), user(4)]);
    assert_eq!(store.blocked(user(1), Some(user(4)), 2).await.expect("read"), [user(255)]);
    assert_eq!(store.blocked(user(2), None, 2).await.expect("read"), []);
}

pub(super) async fn relations(store: &dyn Store) {
    let rows = vec![Row::Contact(contact(1, 2, 1)), Row::Contact(contact(3, 1, 1)), blocked(1, 3, true), blocked(2, 1, true)];
    write(store, 1, rows).await;
    let pending = vec![
        status(1, Folder::Sent, 4, 5, Status::Pending),
        status(1, Folder::Received, 4, 6, Status::Ignored),
        status(1, Folder::Received, 5, 7, Status::Pending),
        status(1, Folder::Sent, 6, 8, Status::Accepted),
    ];
    write(store, 2, pending).await;
    let found = store.relations(user(1), &[2, 3, 4, 5, 6, 7].map(user)).await.expect("read");
    let none = Relation::default();
    let expected = [
        Relation { lists: true, blocked_by: true, known: true, ..none },
        Relation { listed_by: true, blocks: true, known: true, ..none },
        Relation { asked: Some(5), known: true, ..none },
        Relation { asked: Some(7), known: true, ..none },
        Relation { known: true, ..none },
        none,
    ];
    assert_eq!(found, expected);
}

pub(super) async fn stances(store: &dyn Store) {
    write(store, 10, vec![Row::Contact(contact(1, 2, 5)), blocked(2, 1, true), Row::Contact(contact(3, 1, 5))]).await;
    write(store, 20, vec![blocked(1, 2, true), gone(3, 1)]).await;
    write(store, 30, vec![blocked(1, 2, false)]).await;
    let Contact { permissions, tags, .. } = contact(1, 2, 5);
    let listed = Stance { lists: true, blocks: false, permissions, tags, version: 30 };
    let blocking = Stance { blocks: true, version: 10, ..Stance::default() };
    let found = store.stances(user(1), &[user(2), user(4), user(3)]).await.expect("read");
    assert_eq!(found[0], Stances { own: listed.clone(), theirs: blocking.clone() });
    assert_eq!(found[1], Stances::default(), "nothing to do with each other");
    assert_eq!((found[2].own.clone(), found[2].theirs.lists, found[2].theirs.version), (Stance::default(), false, 20));
    assert_eq!(store.stances(user(2), &[user(1)]).await.expect("read"), [Stances { own: blocking, theirs: listed }]);
}

pub(super) async fn ids_and_rows_together(store: &dyn Store) {
    let id = IdKey { key: Key(user(1).to_key()), caller: user(1).to_key(), request: user(9).to_key() };
    let remembered =
        Remembered { id: id.clone(), position: Position { generation: 1, offset: 4 }, fingerprint: 5, outcome: user(3).to_key() };
    let row = Timed { time: 1, row: blocked(1, 2, true) };
    store.write_rows(Graph::NAME, &[row], &[Timed { time: 1, row: remembered.clone() }]).await.expect("written");
    assert_eq!(store.remembered(Graph::NAME, &[id]).await.expect("read"), [Some(remembered)]);
    assert_eq!(store.blocked(user(1), None, 2).await.expect("read"), [user(2)]);
}
