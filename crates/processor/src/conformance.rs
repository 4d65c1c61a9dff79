//! What every [`Store`] must do, as cases that each implementation runs in tests of its own: see [`store_conformance`](crate::store_conformance).
//! Rows are the service's, so its own suite covers them.

use bytes::Bytes;

use crate::{Checkpoint, IdKey, Key, Mark, Position, Remembered, StateRow, StateWrite, Store, Timed};

const ONE: &str = "one";
const TWO: &str = "two";

/// Expands to one test for each case, the same for every store. `$open` is an async function that gives a fresh store and what keeps it alive,
/// or `None` for one that cannot be had here.
///
/// ```ignore
/// plaza_processor::store_conformance!(Row, open);
/// ```
#[macro_export]
macro_rules! store_conformance {
    ($row:ty, $open:path) => {
        $crate::store_conformance!(@ $row, $open:
            nothing_is_there_before_it_is_written,
            states_come_in_the_order_asked,
            cold_stays_when_only_hot_is_written,
            the_later_state_stays_whatever_comes_last,
            the_later_checkpoint_stays_whatever_comes_last,
            machines_and_partitions_share_nothing,
            ids_are_found_by_key_caller_and_request,
        );
    };
    (@ $row:ty, $open:path: $($case:ident,)*) => {
        $(#[tokio::test]
        async fn $case() {
            let Some((store, _alive)) = $open().await else { return };
            $crate::conformance::$case::<$row>(&store).await;
        })*
    };
}

fn key(name: &str) -> Key {
    Key(Bytes::copy_from_slice(name.as_bytes()))
}

fn at(offset: u64) -> Position {
    Position { generation: 1, offset }
}

fn row(offset: u64, hot: &'static str) -> StateRow {
    StateRow { applied: at(offset), applied_time: offset * 10, hot: Bytes::from_static(hot.as_bytes()), cold: Bytes::new() }
}

fn state(name: &str, offset: u64, hot: &'static str, cold: Option<&'static str>) -> StateWrite {
    let cold = cold.map(|cold| Bytes::from_static(cold.as_bytes()));
    StateWrite { key: key(name), time: offset * 10, row: row(offset, hot), cold }
}

fn checkpoint(next: u64) -> Checkpoint {
    let mark = |partition| Mark { topic: "source".to_owned(), partition, position: at(next + 1), index: 1025 };
    Checkpoint { next: at(next), last_time: next * 10, marks: vec![mark(0), mark(7)] }
}

async fn read<R: Send + Sync + 'static>(store: &impl Store<R>, machine: &'static str, name: &str) -> Option<StateRow> {
    store.states(machine, &[key(name)]).await.unwrap_or_default().pop().flatten()
}

async fn write<R: Send + Sync + 'static>(store: &impl Store<R>, machine: &'static str, states: &[StateWrite]) {
    store.write_states(machine, states).await.expect("the store works");
}

/// A key, partition or id that was never written is `None`.
pub async fn nothing_is_there_before_it_is_written<R: Send + Sync + 'static>(store: &impl Store<R>) {
    assert_eq!(read(store, ONE, "a").await, None);
    assert_eq!(store.checkpoint(ONE, 0).await.expect("the store works"), None);
    assert_eq!(store.remembered(ONE, &[id("a", 1, 1)]).await.expect("the store works"), [None]);
    assert_eq!(store.states(ONE, &[]).await.expect("the store works"), []);
}

/// One read gives as many rows as keys were asked for, in their order.
pub async fn states_come_in_the_order_asked<R: Send + Sync + 'static>(store: &impl Store<R>) {
    write(store, ONE, &[state("b", 2, "two", Some("cold")), state("a", 1, "one", None)]).await;
    let rows = store.states(ONE, &[key("a"), key("x"), key("b")]).await.expect("the store works");
    let cold = Bytes::from_static(b"cold");
    assert_eq!(rows, [Some(row(1, "one")), None, Some(StateRow { cold, ..row(2, "two") })]);
}

/// The cold part is as it was last written.
pub async fn cold_stays_when_only_hot_is_written<R: Send + Sync + 'static>(store: &impl Store<R>) {
    write(store, ONE, &[state("a", 1, "h1", Some("c1"))]).await;
    write(store, ONE, &[state("a", 2, "h2", None)]).await;
    let cold = Bytes::from_static(b"c1");
    assert_eq!(read(store, ONE, "a").await, Some(StateRow { cold, ..row(2, "h2") }));
    write(store, ONE, &[state("a", 3, "h3", Some("c3"))]).await;
    let cold = Bytes::from_static(b"c3");
    assert_eq!(read(store, ONE, "a").await, Some(StateRow { cold, ..row(3, "h3") }));
}

/// A late write changes nothing, neither hot nor cold, and neither does the same write again.
pub async fn the_later_state_stays_whatever_comes_last<R: Send + Sync + 'static>(store: &impl Store<R>) {
    let newer = state("a", 5, "new", Some("new"));
    write(store, ONE, std::slice::from_ref(&newer)).await;
    write(store, ONE, &[state("a", 4, "old", Some("old"))]).await;
    write(store, ONE, &[newer]).await;
    let cold = Bytes::from_static(b"new");
    assert_eq!(read(store, ONE, "a").await, Some(StateRow { cold, ..row(5, "new") }));
}

/// A checkpoint of an owner that fell behind changes nothing.
pub async fn the_later_checkpoint_stays_whatever_comes_last<R: Send + Sync + 'static>(store: &impl Store<R>) {
    for next in [3, 9, 4] {
        store.write_checkpoint(ONE, 0, &checkpoint(next)).await.expect("the store works");
    }
    assert_eq!(store.checkpoint(ONE, 0).await.expect("the store works"), Some(checkpoint(9)));
}

/// What one machine or partition wrote, another does not see.
pub async fn machines_and_partitions_share_nothing<R: Send + Sync + 'static>(store: &impl Store<R>) {
    write(store, ONE, &[state("a", 1, "one", None)]).await;
    write(store, TWO, &[state("a", 2, "two", None)]).await;
    store.write_checkpoint(ONE, 1, &checkpoint(3)).await.expect("the store works");
    assert_eq!(read(store, ONE, "a").await, Some(row(1, "one")));
    assert_eq!(read(store, TWO, "a").await, Some(row(2, "two")));
    assert_eq!(read(store, ONE, "ah").await, None);
    assert_eq!(store.checkpoint(ONE, 0).await.expect("the store works"), None);
    assert_eq!(store.checkpoint(TWO, 1).await.expect("the store works"), None);
}

fn id(name: &str, caller: u8, request: u8) -> IdKey {
    IdKey { key: key(name), caller: Bytes::from(vec![caller; 16]), request: Bytes::from(vec![request; 16]) }
}

/// Another caller's id is another id, and so is the same one at another key.
pub async fn ids_are_found_by_key_caller_and_request<R: Send + Sync + 'static>(store: &impl Store<R>) {
    let remembered =
        |id, offset| Remembered { id, position: at(offset), fingerprint: u64::MAX - offset, outcome: Bytes::from_static(b"done") };
    let (first, second) = (remembered(id("a", 1, 1), 1), remembered(id("a", 2, 1), 2));
    let timed = |row: &Remembered| Timed { time: 10, row: row.clone() };
    store.write_rows(ONE, &[], &[timed(&first), timed(&second)]).await.expect("the store works");
    let asked = [id("a", 2, 1), id("a", 1, 1), id("a", 1, 2), id("b", 1, 1)];
    assert_eq!(store.remembered(ONE, &asked).await.expect("the store works"), [Some(second), Some(first), None, None]);
    assert_eq!(store.remembered(TWO, &asked[..1]).await.expect("the store works"), [None]);
}
