//! Sequences: whatever was stored together, each entry is read by its number.

use plaza_embedded_db::{Batch, Db, Sequence};

use crate::open;

fn entry(number: u64) -> Vec<u8> {
    vec![number as u8; number as usize % 500]
}

/// Appends these in one batch.
fn append(db: &Db, sequence: &Sequence, numbers: impl Iterator<Item = u64>) {
    let mut batch = Batch::new();
    numbers.for_each(|number| batch.append(sequence, number, entry(number)));
    db.enqueue(batch);
}

fn read(sequence: &Sequence, from: u64, to: u64) -> Vec<u64> {
    let entries = sequence.range(from..=to).unwrap();
    let check = |found: Result<(u64, bytes::Bytes), _>| {
        let (number, found) = found.unwrap();
        assert_eq!(found, entry(number), "entry {number}");
        number
    };
    entries.map(check).collect()
}

#[tokio::test]
async fn entries_are_read_by_their_numbers_before_and_after_opening_again() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..2 {
        let db = open(folder.path());
        let (sequence, other) = (db.sequence("sequence").unwrap(), db.sequence("other").unwrap());
        if round == 0 {
            assert_eq!(sequence.last().unwrap(), None);
            assert!(read(&sequence, 0, u64::MAX).is_empty());
            // Runs of one, runs that are full, and a gap.
            append(&db, &sequence, 5..6);
            db.visible(db.enqueued()).await.unwrap();
            append(&db, &sequence, 6..2000);
            append(&db, &other, 1..2);
            append(&db, &sequence, 2000..2010);
            append(&db, &sequence, 3000..3001);
            db.visible(db.enqueued()).await.unwrap();
        }
        let all: Vec<u64> = (5..2010).chain([3000]).collect();
        assert_eq!(read(&sequence, 0, u64::MAX), all);
        assert_eq!(read(&other, 0, u64::MAX), [1]);
        assert_eq!(sequence.last().unwrap().map(|(number, _)| number), Some(3000));
        for (from, to) in [(0, 4), (5, 5), (6, 6), (4, 7), (700, 1400), (2009, 3000), (2010, 2999), (2500, 4000), (3001, 4000)] {
            let expected: Vec<u64> = all.iter().copied().filter(|number| (from..=to).contains(number)).collect();
            assert_eq!(read(&sequence, from, to), expected, "{from} to {to}");
        }
        db.close().await.unwrap();
    }
}

#[tokio::test]
async fn what_is_enqueued_together_is_one_row() {
    let folder = tempfile::tempdir().unwrap();
    let db = open(folder.path());
    let sequence = db.sequence("sequence").unwrap();
    append(&db, &sequence, 0..100);
    db.visible(db.enqueued()).await.unwrap();
    assert_eq!(db.keyspace("sequence").unwrap().range(..).count(), 1);
}
