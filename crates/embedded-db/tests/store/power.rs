//! Power loss and damage. After a power loss any page that was not synced may be zeroes, as it was allocated, and the file shorter; what was
//! synced is whole. The store opens with a prefix that has all of that. Damage of what was synced is refused.

use std::{
    fs,
    path::{Path, PathBuf},
};

use plaza_embedded_db::{Batch, Db, OpenError, Options};
use proptest::{
    prelude::Rng as _,
    test_runner::{RngAlgorithm, TestRng},
};

use crate::{big_endian, number, open};

const PAGE: usize = 4096;
/// The first file of the journal.
const JOURNAL: &str = "journal/000000000000.journal";
const LOSSES: u64 = 150;
const FLIPS: u64 = 300;

/// A store that still runs, so that nothing is tidied up at its end.
struct Running {
    folder: tempfile::TempDir,
    db: Db,
    next: u64,
}

fn random(seed: u64) -> TestRng {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    TestRng::from_seed(RngAlgorithm::ChaCha, &bytes)
}

impl Running {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let db = open(folder.path());
        db.keyspace("rows").unwrap();
        Self { folder, db, next: 0 }
    }

    /// Writes groups of rows, the last of them synced if asked for.
    async fn write(&mut self, groups: u64, synced: bool, random: &mut TestRng) {
        let rows = self.db.keyspace("rows").unwrap();
        for _ in 0..groups {
            let mut batch = Batch::new();
            for _ in 0..=random.next_u32() % 4 {
                let mut value = vec![0; (random.next_u32() % 9000) as usize];
                random.fill_bytes(&mut value);
                // The end of what was written is known by it.
                value.push(1);
                batch.insert(&rows, big_endian(self.next), value);
                self.next += 1;
            }
            let position = self.db.enqueue(batch);
            self.db.visible(position).await.unwrap();
        }
        if synced {
            self.db.durable(self.db.enqueued()).await.unwrap();
        }
    }

    fn journal(&self) -> PathBuf {
        self.folder.path().join(JOURNAL)
    }

    /// Where the written part of the journal ends.
    fn written(&self) -> usize {
        let bytes = fs::read(self.journal()).unwrap();
        // A page at a time, for the debug build's sake.
        let page = bytes.chunks(PAGE).rposition(|page| *page != [0; PAGE][..page.len()]).unwrap_or_default() * PAGE;
        let end = bytes.len().min(page + PAGE);
        bytes[..end].iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
    }

    /// The journal, with some of the zeroes behind it.
    fn read(&self) -> Vec<u8> {
        let mut bytes = fs::read(self.journal()).unwrap();
        bytes.truncate(self.written() + 2 * PAGE);
        bytes
    }

    /// A copy of the folder as another start would find it, with another journal.
    fn copy(&self, journal: &[u8]) -> tempfile::TempDir {
        let copy = tempfile::tempdir().unwrap();
        copy_folder(&self.folder.path().join("tables"), &copy.path().join("tables"));
        fs::create_dir(copy.path().join("journal")).unwrap();
        fs::write(copy.path().join(JOURNAL), journal).unwrap();
        copy
    }
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, to) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        if path.is_dir() {
            copy_folder(&path, &to);
        } else {
            fs::copy(&path, &to).unwrap();
        }
    }
}

/// How many rows there are, after checking that there is no hole.
fn count(folder: &Path) -> u64 {
    let rows = open(folder).keyspace("rows").unwrap();
    let found: Vec<u64> = rows.range(..).map(|row| number(&row.unwrap().0)).collect();
    assert_eq!(found, (0..found.len() as u64).collect::<Vec<_>>(), "a hole");
    found.len() as u64
}

#[tokio::test]
async fn a_power_loss_leaves_a_prefix_with_everything_synced() {
    let mut torn = 0;
    let mut running = Running::new();
    for seed in 0..LOSSES {
        let random = &mut random(seed);
        running.write(u64::from(random.next_u32() % 3), true, random).await;
        let (synced_rows, synced_bytes) = (running.next, running.written());
        running.write(1 + u64::from(random.next_u32() % 4), false, random).await;
        let mut journal = running.read();
        let written = running.written();
        for page in synced_bytes / PAGE..=written / PAGE {
            if random.next_u32().is_multiple_of(2) {
                let end = journal.len().min((page + 1) * PAGE);
                journal[(page * PAGE).max(synced_bytes)..end].fill(0);
            }
        }
        if random.next_u32().is_multiple_of(4) {
            // The file had grown, and its new size is lost too.
            journal.truncate(synced_bytes + random.next_u32() as usize % (written - synced_bytes));
        }
        let copy = running.copy(&journal);
        let found = count(copy.path());
        assert!(found >= synced_rows, "seed {seed}: {found} of {synced_rows} synced rows");
        torn += u64::from(found < running.next);
        // It goes on from there, and what is written now is found too.
        let db = open(copy.path());
        let mut batch = Batch::new();
        batch.insert(&db.keyspace("rows").unwrap(), big_endian(found), "new");
        db.durable(db.enqueue(batch)).await.unwrap();
        drop(db);
        assert_eq!(count(copy.path()), found + 1);
        if written > 32 << 20 {
            running = Running::new();
        }
    }
    assert!(torn > LOSSES / 4, "only {torn} were torn");
}

#[tokio::test]
async fn damage_of_what_was_synced_is_refused_and_named() {
    let mut running = Running::new();
    let random = &mut random(1);
    running.write(20, false, random).await;
    let synced = running.written();
    // The group behind the last one that is damaged was synced too: what no checksum covers shows only there.
    running.write(1, true, random).await;
    running.write(3, false, random).await;
    let journal = running.read();
    for flip in 0..FLIPS {
        let at = random.next_u32() as usize % synced;
        let mut damaged = journal.clone();
        damaged[at] ^= 1 << (flip % 8);
        let copy = running.copy(&damaged);
        match Db::open(copy.path(), Options::default()) {
            Err(OpenError::Damaged { at: begins, .. }) => assert!(begins <= synced as u64),
            Err(other) => panic!("byte {at}: {other:?}"),
            Ok(_) => panic!("byte {at} of {synced} opened"),
        }
    }
    assert_eq!(count(running.copy(&journal).path()), running.next);
}

#[tokio::test]
async fn bytes_like_a_group_inside_a_message_change_nothing() {
    let mut running = Running::new();
    let random = &mut random(2);
    running.write(2, true, random).await;
    let (synced_rows, synced) = (running.next, running.written());
    // Whoever can read the journal of another store can send its groups, which say that everything was synced.
    let other = Running::new();
    for _ in 0..60 {
        let mut batch = Batch::new();
        batch.insert(&other.db.keyspace("rows").unwrap(), "key", "value");
        other.db.durable(other.db.enqueue(batch)).await.unwrap();
    }
    let foreign = fs::read(other.journal()).unwrap()[..other.written()].to_vec();
    let mut batch = Batch::new();
    let mut noise = vec![0; 2 * PAGE];
    random.fill_bytes(&mut noise);
    batch.insert(&running.db.keyspace("other").unwrap(), "noise", noise);
    batch.insert(&running.db.keyspace("other").unwrap(), "foreign", foreign[foreign.len() - 3000..].to_vec());
    running.db.visible(running.db.enqueue(batch)).await.unwrap();
    let mut journal = running.read();
    // Behind the rows that the new keyspace itself wrote.
    let at = journal.windows(5).rposition(|window| window == b"noise").unwrap();
    assert!(at > synced);
    journal[at + 100..at + 200].fill(0);
    assert_eq!(count(running.copy(&journal).path()), synced_rows);
}
