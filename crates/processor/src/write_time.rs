//! Rule 7: the write time of every record is a function of the log, real time as far as the clocks of brokers and callers agree, and always
//! larger than that of the record before.

use plaza_types::limits::SECOND;

/// How far a broker's clock may be ahead of the clock of whoever made the record.
const AHEAD: u64 = 300 * SECOND;

/// Gives write times.
#[derive(Debug, Clone)]
pub(crate) struct WriteTimes {
    last: u64,
}

impl WriteTimes {
    /// Continues after a checkpoint's last one.
    pub(crate) fn after(last: u64) -> Self {
        Self { last }
    }

    /// For the next record, whatever becomes of it. `own` is the time the record carries, 0 when it cannot be read.
    pub(crate) fn next(&mut self, appended: u64, own: u64) -> u64 {
        self.last = (self.last + 1).max(appended.min(own.saturating_add(AHEAD)));
        self.last
    }

    pub(crate) fn last(&self) -> u64 {
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_log_and_never_goes_back() {
        let mut times = WriteTimes::after(100);
        assert_eq!(times.next(500, 480), 500);
        assert_eq!(times.next(300, 480), 501);
        assert_eq!(times.next(502, 490), 502);
        assert_eq!(times.last(), 502);
    }

    #[test]
    fn a_broker_far_ahead_is_held_back_by_the_records_own_time() {
        let mut times = WriteTimes::after(0);
        assert_eq!(times.next(u64::MAX, 1_000), 1_000 + AHEAD);
        assert_eq!(times.next(u64::MAX, 0), 1_001 + AHEAD);
    }
}
