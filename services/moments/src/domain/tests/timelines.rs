//! Viewers who look and who do not.

use bytes::Bytes;
use plaza_processor::{Effects, Envelope, Input, Machine, Position};
use plaza_topics::timeline::{Kind, Payload, Rebuilt, Reference, References, Seen};
use plaza_types::{ClientId, UserId};

use crate::domain::timeline::{Row, Timelines, Viewer};

const IDLE: u64 = 100;

fn user(number: u8) -> UserId {
    UserId::from_bytes([number; 16])
}

fn given(created: u64, idle_after: u64) -> Kind {
    let post = Bytes::copy_from_slice(ClientId::new(1, [1; 10]).as_bytes());
    let posts = vec![Reference { author: user(9).to_key(), post, created }];
    Kind::References(References { viewers: vec![user(1).to_key(), user(2).to_key()], posts, idle_after })
}

/// Applies one record for the first viewer; answers the rows.
fn apply(viewer: &mut Viewer, time: u64, kind: Kind) -> Vec<Row> {
    let key = user(1).to_key();
    let envelope = Envelope { caller: key.clone(), ..Envelope::default() };
    let payload = Payload { kind: Some(kind) };
    let keys = Timelines.keys(&key, &envelope, &payload);
    let mut effects = Effects::<Timelines>::default();
    let input = Input { envelope: &envelope, payload: &payload, position: Position::default(), time };
    Timelines.apply(input, 0, &keys[0], viewer, &mut effects);
    effects.rows().to_vec()
}

fn references(rows: &[Row]) -> usize {
    rows.iter().filter(|row| matches!(row, Row::Reference { .. })).count()
}

#[test]
fn who_does_not_look_is_passed_over_and_it_is_known_since_when() {
    let mut viewer = Viewer::default();
    assert_eq!(references(&apply(&mut viewer, 1_000, given(1_000, IDLE))), 1, "the first reference counts as a look");
    assert_eq!(references(&apply(&mut viewer, 1_099, given(1_099, IDLE))), 1);
    let skipped = apply(&mut viewer, 1_100, given(1_095, IDLE));
    assert_eq!(skipped, [Row::Viewer { user: user(1), viewer: Viewer { seen: 1_000, skipped: 1_095 } }]);
    assert_eq!(apply(&mut viewer, 1_101, given(1_101, IDLE)), [], "only the oldest is noted");
    assert_eq!(apply(&mut viewer, 1_102, given(1_090, IDLE)).len(), 1);
    assert_eq!(references(&apply(&mut viewer, 1_103, given(500, 0))), 1, "nobody is passed over when edges ask");
    apply(&mut viewer, 1_200, Kind::Seen(Seen {}));
    assert_eq!(references(&apply(&mut viewer, 1_201, given(1_201, IDLE))), 1, "from the look on nothing is passed over");
    assert_eq!(viewer, Viewer { seen: 1_200, skipped: 1_090 });
    apply(&mut viewer, 1_210, Kind::Rebuilt(Rebuilt { since: 1_080 }));
    assert_eq!(viewer.skipped, 1_090, "of another return");
    apply(&mut viewer, 1_211, Kind::Rebuilt(Rebuilt { since: 1_090 }));
    assert_eq!(viewer, Viewer { seen: 1_200, skipped: 0 });
}

#[test]
fn nobody_looks_for_somebody_else() {
    let envelope = Envelope { caller: user(2).to_key(), ..Envelope::default() };
    assert!(Timelines.keys(&user(1).to_key(), &envelope, &Payload { kind: Some(Kind::Seen(Seen {})) }).is_empty());
}
