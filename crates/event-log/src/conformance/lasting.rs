//! Cases about what lasts: restarts, times, ownership.

use super::*;
use crate::Assignment;

/// Records keep their places over a restart, and later ones come above them.
pub async fn a_restart_keeps_everything(mut harness: impl Harness) {
    let mut known: Vec<Vec<Stored>> = vec![Vec::new(); 4];
    for round in 0..3 {
        let log = harness.open().await;
        for (part, known) in known.iter_mut().enumerate() {
            let part = partition(MANY, part as u32);
            let read = read_to_end(&*log, part, 0).await;
            assert_is_prefix(known, &read);
            let end = end(&*log, part).await;
            for number in round * 100..round * 100 + 100 {
                append(&*log, part, numbered(number)).await;
            }
            *known = read_to_end(&*log, part, 0).await;
            assert!(known.iter().filter(|stored| stored.offset >= end).count() > 100);
            let numbered = without_ends(known.clone());
            assert_eq!(first_numbers(&numbered), (0..round * 100 + 100).collect::<Vec<_>>());
        }
        expect(log.durable().await);
        assert_eq!(log.generation(MANY), 1);
    }
}

/// For any time, the offset is that of the first record appended at or after it.
pub async fn times_lead_to_offsets(mut harness: impl Harness) {
    let of = partition(ONE, 0);
    for _ in 0..2 {
        let log = harness.open().await;
        assert_eq!(expect(again!(log.offset_at(of, u64::MAX))), end(&*log, of).await);
        for number in 0..50 {
            append(&*log, of, numbered(number)).await;
        }
        let all = read_to_end(&*log, of, 0).await;
        let times = all.iter().flat_map(|stored| [stored.appended.saturating_sub(1), stored.appended, stored.appended + 1]);
        for time in times.chain([0]) {
            let found = expect(again!(log.offset_at(of, time)));
            match all.iter().find(|stored| stored.appended >= time) {
                Some(first) => assert_eq!(found, first.offset, "at {time}"),
                None => assert!(all.iter().all(|stored| stored.offset < found), "at {time}"),
            }
        }
    }
}

/// A member gets every partition; one that comes after it does too.
pub async fn every_partition_is_assigned(mut harness: impl Harness) {
    let log = harness.open().await;
    for _ in 0..2 {
        let mut assignments = expect(again!(log.assignments("group", MANY)));
        let mut owned = HashSet::new();
        while owned.len() < 4 {
            match expect(assignments.next().await) {
                Assignment::Assigned(partition) => assert!(owned.insert(partition), "{partition} was assigned twice"),
                Assignment::Revoked(partition) => assert!(owned.remove(&partition), "{partition} was not owned"),
            }
        }
        assert!(owned.iter().all(|partition| *partition < 4));
    }
}
