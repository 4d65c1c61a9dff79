//! The thread that starts operations when they are due. It does nothing else, so that nothing the server does can hold it up; it waits on a
//! channel, so that a stop is felt at once.

use std::{
    sync::mpsc::{Receiver, RecvTimeoutError},
    time::Instant,
};

use crate::{arrivals::Arrivals, operation::Operation, record::Recorder};

/// Starts every arrival when it is due, until there is none or the other end of `stop` is gone. A start that is late is made at once, with the
/// time it was due.
pub fn pace(arrivals: Arrivals, recorder: &Recorder, stop: &Receiver<()>, mut start: impl FnMut(Operation, u64)) {
    let clock = recorder.clock();
    for (at, operation) in arrivals {
        let wait = clock.at(at).saturating_duration_since(Instant::now());
        if !matches!(stop.recv_timeout(wait), Err(RecvTimeoutError::Timeout)) {
            return;
        }
        // 0 is what is not measured.
        let scheduled = u64::try_from(at.as_micros()).unwrap_or(u64::MAX).max(1);
        recorder.start(scheduled);
        start(operation, scheduled);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::mpsc::{channel, sync_channel},
        time::Duration,
    };

    use super::*;
    use crate::{operation::Measure, record::Clock, scenario::Kind};

    fn run(seconds: u64) -> (Recorder, Arrivals) {
        let end = Duration::from_secs(seconds);
        let recorder = Recorder::new(Clock::standing(), &[(end, Kind::Steady)]);
        recorder.clock().start();
        (recorder, Arrivals::new(&[(Operation::Sync, 500.0)], &[(end, 1.0)], 5))
    }

    /// A server that answers one call after the other and stands still for half a second in the middle: everybody who came meanwhile waited, and
    /// the figures say so, although only one call was under way when it stopped.
    #[test]
    fn a_server_that_stands_still_shows_in_the_latencies_of_all_who_came_meanwhile() {
        let (recorder, arrivals) = run(2);
        let (asked, server) = channel();
        let (_keep, stop) = channel();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (never, nobody) = sync_channel::<()>(1);
                let mut stood = false;
                for scheduled in server {
                    if !stood && scheduled > 700_000 {
                        stood = true;
                        let _ = nobody.recv_timeout(Duration::from_millis(500));
                    }
                    recorder.answer(Measure::Sync, scheduled);
                }
                drop(never);
            });
            pace(arrivals, &recorder, &stop, |_, scheduled| _ = asked.send(scheduled));
            drop(asked);
        });
        let _ = recorder.interval(Duration::from_secs(1));
        let totals = recorder.totals();
        let latencies = &totals.histograms[&(Measure::Sync, Kind::Steady)];
        assert_eq!(latencies.len(), totals.started);
        let waited =
            latencies.iter_recorded().filter(|value| value.value_iterated_to() > 100_000).map(|value| value.count_at_value()).sum::<u64>();
        // 500 a second for the 0.4 s in which one still had more than 0.1 s to wait.
        assert!((120..320).contains(&waited), "{waited} of {}", latencies.len());
        assert!(latencies.max() >= 490_000, "{}", latencies.max());
    }

    /// What holds up the generator itself is in the figures too: a start that is late has the time it was due.
    #[test]
    fn a_start_that_is_late_counts_from_when_it_was_due() {
        let (recorder, arrivals) = run(1);
        let (_keep, stop) = channel();
        let (_never, nobody) = channel::<()>();
        let mut stood = false;
        pace(arrivals, &recorder, &stop, |_, scheduled| {
            if !stood && scheduled > 300_000 {
                stood = true;
                let _ = nobody.recv_timeout(Duration::from_millis(400));
            }
            recorder.answer(Measure::Sync, scheduled);
        });
        let _ = recorder.interval(Duration::from_secs(1));
        let latencies = &recorder.totals().histograms[&(Measure::Sync, Kind::Steady)];
        assert!(latencies.max() >= 380_000 && latencies.value_at_quantile(0.75) > 50_000, "{:?}", crate::record::row(latencies));
    }

    #[test]
    fn it_stops_at_once() {
        let (recorder, arrivals) = run(60);
        let (keep, stop) = channel();
        let began = Instant::now();
        let mut keep = Some(keep);
        pace(arrivals, &recorder, &stop, |_, scheduled| {
            if scheduled > 50_000 {
                keep = None;
            }
        });
        assert!(began.elapsed() < Duration::from_secs(5));
        assert!(recorder.totals().started < 200);
    }
}
