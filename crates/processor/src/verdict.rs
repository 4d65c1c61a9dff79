//! What is decided about a command before its machine is asked: by the record, its write time, and what its request id was given before.
//! The age of the id comes first, so that it never matters whether an old row is still there.

use plaza_types::{ClientId, Reason, limits};

use crate::{Outcome, ReplyWhen, remembered::Known};

/// What becomes of a command.
#[derive(Debug, PartialEq)]
pub(crate) enum Verdict {
    /// The machine decides.
    Apply,
    /// It is decided already, or refused, and changes nothing.
    Told(Outcome, ReplyWhen),
}

/// Decides by what is known of `id`: `time` is the record's write time.
pub(crate) fn on(id: &ClientId, fingerprint: u64, deadline: u64, time: u64, known: Option<&Known>) -> Verdict {
    let made = id.micros();
    if !mistake!(IdAgeUnchecked) && (made > time + limits::REQUEST_AHEAD || made + limits::REQUEST_WINDOW < time) {
        return refused(Reason::RequestIdTime, "the request id is too old or ahead of time");
    }
    match known {
        Some(known) if known.fingerprint == fingerprint || mistake!(IdForAnyContent) => Verdict::Told(known.outcome.clone(), known.when),
        Some(_) => refused(Reason::RequestIdReused, "the request id was used for something else"),
        // Not remembered: nobody waits for this record any more, but the caller may well ask again.
        None if deadline != 0 && time > deadline && !mistake!(DeadlineIgnored) => {
            refused(Reason::Undecided, "not decided within the deadline")
        }
        None => Verdict::Apply,
    }
}

fn refused(reason: Reason, message: &str) -> Verdict {
    Verdict::Told(Outcome::refused(reason, "request", message), ReplyWhen::Decided)
}

#[cfg(test)]
mod tests {
    use plaza_types::limits::{REQUEST_AHEAD, REQUEST_WINDOW, SECOND};

    use super::*;

    const NOW: u64 = 1_700_000_000 * SECOND;

    fn reason(verdict: &Verdict) -> Option<u32> {
        match verdict {
            Verdict::Told(Outcome { kind: Some(crate::outcome::Kind::Refused(refusal)) }, _) => Some(refusal.reason),
            _ => None,
        }
    }

    fn verdict(made: u64, deadline: u64, known: Option<&Known>) -> Verdict {
        on(&ClientId::new(made, [0; 10]), 7, deadline, NOW, known)
    }

    #[test]
    fn the_age_of_an_id_is_checked_before_everything_else() {
        let known = Known { fingerprint: 7, outcome: Outcome::accepted("a"), when: ReplyWhen::Decided };
        for made in [NOW + REQUEST_AHEAD + SECOND, NOW - REQUEST_WINDOW - SECOND] {
            assert_eq!(reason(&verdict(made, 1, Some(&known))), Some(Reason::RequestIdTime.number()));
        }
        for made in [NOW + REQUEST_AHEAD, NOW - REQUEST_WINDOW] {
            assert_eq!(verdict(made, 0, None), Verdict::Apply);
        }
    }

    #[test]
    fn a_known_id_gets_what_it_got_even_past_its_deadline_and_another_question_gets_nothing() {
        let mut known = Known { fingerprint: 7, outcome: Outcome::accepted("a"), when: ReplyWhen::Written };
        assert_eq!(verdict(NOW, 1, Some(&known)), Verdict::Told(Outcome::accepted("a"), ReplyWhen::Written));
        known.fingerprint = 8;
        assert_eq!(reason(&verdict(NOW, 0, Some(&known))), Some(Reason::RequestIdReused.number()));
    }

    #[test]
    fn nobody_waits_past_the_deadline() {
        assert_eq!(verdict(NOW, NOW, None), Verdict::Apply);
        assert_eq!(reason(&verdict(NOW, NOW - 1, None)), Some(Reason::Undecided.number()));
    }
}
