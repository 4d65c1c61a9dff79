//! Every mistake is planted in the real code, and a seed among the first ones shows it.
//!
//! Not planted, for there is no place for it: an insert of some columns only (states and rows are whole values, and a store is given nothing
//! less). Planted in the simulated log and store: a producer that times out, a state in two parts.

use plaza_processor::mistakes::{Mistake, plant};

use crate::{SEEDS, first_broken, quiet_poison};

fn is_caught(mistake: Mistake) {
    quiet_poison();
    let caught = first_broken((0..SEEDS).collect(), || plant(mistake));
    let (seed, what) = caught.unwrap_or_else(|| panic!("{mistake:?} is not caught by {SEEDS} seeds"));
    println!("{mistake:?} is caught by seed {seed}: {what}");
}

macro_rules! caught {
    ($($test:ident = $mistake:ident;)*) => {
        $(#[test]
        fn $test() {
            is_caught(Mistake::$mistake);
        })*
    };
}

caught! {
    reply_before_durable = ReplyBeforeDurable;
    reply_before_written = ReplyBeforeWritten;
    state_before_rows = StateBeforeRows;
    state_before_emissions = StateBeforeEmissions;
    states_not_acknowledged = StatesNotAcknowledged;
    state_in_two_parts = StateInTwoParts;
    checkpoint_ahead = CheckpointAhead;
    marks_not_in_checkpoint = MarksNotInCheckpoint;
    marks_live = MarksLive;
    write_time_live = WriteTimeLive;
    write_time_not_restored = WriteTimeNotRestored;
    write_time_by_wall_clock = WriteTimeByWallClock;
    write_time_only_on_applied = WriteTimeOnlyOnApplied;
    one_write_time_per_batch = OneWriteTimePerBatch;
    id_row_without_position = IdRowWithoutPosition;
    ids_complete_at_load = IdsCompleteAtLoad;
    id_age_unchecked = IdAgeUnchecked;
    id_of_any_sender = IdOfAnySender;
    id_for_any_content = IdForAnyContent;
    deadline_ignored = DeadlineIgnored;
    only_sends_remembered = OnlySendsRemembered;
    dirty_key_evicted = DirtyKeyEvicted;
    cache_kept_over_revoke = CacheKeptOverRevoke;
    first_key_decides = FirstKeyDecides;
    emissions_not_in_log_order = EmissionsNotInLogOrder;
    producer_times_out = ProducerTimesOut;
    parked_without_state = ParkedWithoutState;
    states_prefetched = StatesPrefetched;
    cold_only_when_different = ColdOnlyWhenDifferent;
}
