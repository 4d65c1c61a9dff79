//! Rule 8 against a model that remembers everything: the same id of the same caller gets the same answer, acceptance or refusal; with other
//! content it is refused; another caller's is another id; one too old or ahead of time is refused. Whether memory still has the id, the
//! tables have it, or another process decided it makes no difference.

use std::{collections::HashMap, time::Duration};

use plaza_processor::{Config, Outcome};
use plaza_runtime::Clock;
use plaza_types::{
    ClientId, Reason, UserId,
    limits::{REQUEST_AHEAD, REQUEST_WINDOW, SECOND},
};
use proptest::prelude::*;

use crate::process::{ELSEWHERE, LARGE, Process};

const NOON: u64 = 1_700_006_400_000_000;
const KEYS: [&str; 3] = ["a", "b", ELSEWHERE];

/// One call.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Ask {
    key: &'static str,
    caller: u8,
    value: u64,
    /// How far the id is ahead of the clock, microseconds.
    ahead: i64,
}

/// How an earlier call is repeated.
#[derive(Debug, Clone, Copy)]
enum Change {
    Nothing,
    Value(u64),
    Caller(u8),
    Key(&'static str),
}

#[derive(Debug, Clone)]
enum Step {
    New(Ask),
    Again(prop::sample::Index, Change),
    Wait(u64),
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (ahead, window) = (REQUEST_AHEAD as i64, REQUEST_WINDOW as i64);
    let (key, caller, value) = (|| prop::sample::select(&KEYS[..]), || 1..=2u8, || prop::sample::select(&[1, 2, 3, LARGE][..]));
    let second = SECOND as i64;
    let off = prop::sample::select(vec![0, 0, 0, 0, ahead - second, ahead, ahead + second, second - window, -window, -window - second]);
    let ask = (key(), caller(), value(), off).prop_map(|(key, caller, value, ahead)| Ask { key, caller, value, ahead });
    let change = prop_oneof![
        3 => Just(Change::Nothing),
        2 => value().prop_map(Change::Value),
        1 => caller().prop_map(Change::Caller),
        1 => key().prop_map(Change::Key),
    ];
    let step = prop_oneof![
        6 => ask.prop_map(Step::New),
        8 => (any::<prop::sample::Index>(), change).prop_map(|(which, change)| Step::Again(which, change)),
        2 => prop::sample::select(&[SECOND, REQUEST_AHEAD, REQUEST_WINDOW / 2, REQUEST_WINDOW][..]).prop_map(Step::Wait),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..40)
}

/// What should be.
#[derive(Default)]
struct Model {
    sums: HashMap<&'static str, u64>,
    answers: HashMap<(&'static str, u8, ClientId), (u64, Outcome)>,
}

impl Model {
    fn ask(&mut self, Ask { key, caller, value, .. }: Ask, id: ClientId, now: u64) -> Outcome {
        if id.micros() > now + REQUEST_AHEAD || id.micros() + REQUEST_WINDOW < now {
            return Outcome::refused(Reason::RequestIdTime, "request", "the request id is too old or ahead of time");
        }
        if let Some((before, answer)) = self.answers.get(&(key, caller, id)) {
            let reused = Outcome::refused(Reason::RequestIdReused, "request", "the request id was used for something else");
            return if *before == value { answer.clone() } else { reused };
        }
        let sum = self.sums.entry(key).or_default();
        let answer = if value == LARGE && *sum < LARGE {
            Outcome::refused(Reason::QuotaExceeded, "number", "too large so far")
        } else {
            *sum += value;
            Outcome::accepted(sum.to_string())
        };
        self.answers.insert((key, caller, id), (value, answer.clone()));
        answer
    }
}

async fn every_call_is_answered_as_the_model_says(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let folder = tempfile::tempdir().expect("a folder");
    let clock = Clock::manual(NOON);
    // So little is kept in memory that most is looked up.
    let config = || Config { states: 1, remembered: 2, checkpoint_records: 3, ..Config::default() };
    let mut process = Process::open::<1>(&folder, clock.clone(), config());
    let (mut model, mut asked) = (Model::default(), Vec::<(Ask, ClientId)>::new());
    for (nth, step) in (0..).zip(steps) {
        // A record's write time is then the time of the call.
        clock.advance(Duration::from_millis(10));
        let (ask, id) = match step {
            Step::New(ask) => (ask, ClientId::new(clock.now_micros().saturating_add_signed(ask.ahead), [nth; 10])),
            Step::Again(which, change) if !asked.is_empty() => {
                let (ask, id) = asked[which.index(asked.len())];
                let ask = match change {
                    Change::Nothing => ask,
                    Change::Value(value) => Ask { value, ..ask },
                    Change::Caller(caller) => Ask { caller, ..ask },
                    Change::Key(key) => Ask { key, ..ask },
                };
                (ask, id)
            }
            Step::Wait(micros) => {
                clock.advance(Duration::from_micros(micros));
                continue;
            }
            Step::Restart => {
                process.stop().await;
                process = Process::open::<1>(&folder, clock.clone(), config());
                continue;
            }
            Step::Again(..) => continue,
        };
        asked.push((ask, id));
        let expected = model.ask(ask, id, clock.now_micros());
        let caller = UserId::from_bytes([ask.caller; 16]);
        let answer = process.add_within(Duration::from_secs(10), caller, ask.key, ask.value, id).await.expect("a decision");
        prop_assert_eq!(answer, expected, "step {}: {:?} under {}", nth, ask, id);
    }
    process.stop().await;
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_id_is_one_request_of_one_caller(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(every_call_is_answered_as_the_model_says(steps))?;
    }
}
