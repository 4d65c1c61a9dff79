//! One fault: load before it, during it and after it, then quiet, then judgement, then everything once more from the beginning of the log.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use plaza_testkit::{
    History,
    checker::{self, Violation},
    crowd::Crowd,
    replay,
};
use rand::{SeedableRng, rngs::StdRng};
use tokio::time::sleep;

use crate::{
    beside::{self, Beside},
    deployment::Deployment,
    fault::Fault,
    inflict::inflict,
    listeners::Listeners,
    observe::Observer,
    recovery::Recovery,
    report::Outcome,
};

const PAIRS: usize = 3;
/// How often each client does something: well below what the processes can do, so that what is acknowledged before a fault and after it is the
/// same when nothing is wrong.
const PACE: Duration = Duration::from_millis(500);
/// How long it goes on before the fault, and how long at its beginning not all may have begun.
const BEFORE: Duration = Duration::from_secs(10);
const SHORT_BEFORE: Duration = Duration::from_secs(5);
const BEGINNING: Duration = Duration::from_secs(2);
/// How much of the rate before is nearly as much. The short form runs beside whatever else the machine does, so it only finds out what stays broken.
const BACK: f64 = 0.9;
const SHORT_BACK: f64 = 0.4;

/// Does it and judges what the clients recorded.
pub(crate) async fn run(fault: Fault, deployment: &mut Deployment, seed: u64, short: bool) -> anyhow::Result<Outcome> {
    let mut rng = StdRng::seed_from_u64(seed);
    let address = deployment.address();
    let crowd = async {
        let mut crowd = Crowd::gather(&address, PAIRS).await?.paced(PACE);
        crowd.meet().await.map(|()| crowd)
    };
    let (crowd, listeners) = tokio::try_join!(crowd, Listeners::gather(&address))?;
    let (crowd, listeners) = (Arc::new(crowd), Arc::new(listeners));
    let stop = Arc::new(AtomicBool::new(false));
    let busy = {
        let (crowd, stop) = (Arc::clone(&crowd), Arc::clone(&stop));
        beside::spawn(async move { crowd.busy(seed, stop).await })
    };
    let others = Beside::start(&address, seed, &listeners, PACE, &stop);
    let acknowledgements = {
        let crowd = Arc::clone(&crowd);
        Observer::start(move || crowd.acknowledged())
    };
    let deliveries = Observer::start(move || listeners.delivered());
    let before = if short { SHORT_BEFORE } else { BEFORE };
    sleep(before).await;
    let rate = acknowledgements.rate(before - BEGINNING);
    if busy.is_finished() || rate == 0.0 {
        stop.store(true, Ordering::Relaxed);
        busy.await?.context("the load, before the fault")?;
        bail!("nothing is acknowledged before the fault");
    }

    let rounds = fault.rounds(short);
    let since = Instant::now();
    let mut recovery = Recovery::new(&acknowledgements, rate * if short { SHORT_BACK } else { BACK });
    let done = inflict(fault, deployment, &mut rng, rounds, &mut recovery).await;
    let back = recovery.longest();
    let (longest_gap, longest_of_one) = acknowledgements.longest_gaps(since);
    let (longest_silence, longest_to_one) = deliveries.longest_gaps(since);
    for (file, observer) in [("acks.csv", &acknowledgements), ("deliveries.csv", &deliveries)] {
        std::fs::write(deployment.folder().join(file), observer.table())?;
    }
    stop.store(true, Ordering::Relaxed);
    done?;
    busy.await??;
    let others = others.ended().await?;
    let (posts, wrong) = others.judged().await;
    let history = crowd.finish().await?;
    let found = checker::check(&history);
    let (lost, duplicated) = (count(&found, is_loss), count(&found, is_duplicate));
    let mut violations = in_words(found);
    violations.extend(others.violations.iter().cloned().chain(wrong));
    let is_replayed = fault.is_replayed(short);
    if is_replayed {
        violations.extend(replayed(deployment, &crowd, &history).await.context("replaying everything")?);
        let (_, wrong) = others.judged().await;
        violations.extend(wrong.into_iter().map(|wrong| format!("after the replay, {wrong}")));
    }
    let mut errors = deployment.errors();
    errors.retain(|line| !fault.expected().iter().any(|expected| line.contains(expected)));
    Ok(Outcome {
        fault: fault.name().to_owned(),
        what: fault.what().to_owned(),
        rounds,
        sends: history.sends.len(),
        acknowledged: history.sends.iter().filter(|sent| !sent.acked.is_empty()).count(),
        posts,
        account_changes: others.account_changes(),
        lost,
        duplicated,
        violations,
        errors,
        longest_gap,
        longest_of_one,
        longest_silence,
        longest_to_one,
        rate,
        back,
        is_replayed,
        ..Outcome::default()
    })
}

/// Whether something acknowledged is not where it is to be: of what breaks the first invariant all but what is there more than once.
fn is_loss(violation: &Violation) -> bool {
    violation.invariant == 1 && !is_duplicate(violation)
}

fn is_duplicate(violation: &Violation) -> bool {
    ["times in the inbox", "repeats client message id"].iter().any(|words| violation.what.contains(words))
}

fn count(found: &[Violation], kind: fn(&Violation) -> bool) -> usize {
    found.iter().filter(|violation| kind(violation)).count()
}

fn in_words(found: Vec<Violation>) -> Vec<String> {
    found.into_iter().map(|violation| format!("invariant {}: {}", violation.invariant, violation.what)).collect()
}

/// Invariant 9: every topic replayed from its beginning changes nothing.
async fn replayed(deployment: &mut Deployment, crowd: &Crowd, before: &History) -> anyhow::Result<Vec<String>> {
    deployment.stop_all().await?;
    deployment.servers.forget_checkpoints().await?;
    deployment.start_all().await?;
    let added = crowd.nudge().await?;
    let after = crowd.finish().await?;
    let changes = replay::changes(before, &after, added).into_iter().map(|change| format!("invariant 9: {change}"));
    Ok(in_words(checker::check(&after)).into_iter().chain(changes).collect())
}

#[cfg(test)]
mod tests {
    use plaza_testkit::history::{Entry, Final, Group, Message, Sent, What};

    use super::*;

    /// Ada and Bob have heard these messages of their conversation `d` and of Ada's group `g`; of each conversation one is acknowledged to Ada.
    fn heard(ada: &[(&str, u64)], bob: &[(&str, u64)]) -> Vec<Violation> {
        let mut history = History { members: [("d".to_owned(), vec![0, 1])].into(), ..History::default() };
        history.groups.insert("g".to_owned(), Group::default());
        for conversation in ["d", "g"] {
            let (id, text) = (format!("of {conversation}"), "words".to_owned());
            history.sends.push(Sent { from: 0, id, conversation: conversation.to_owned(), acked: vec![1], text });
        }
        for (user_id, heard) in [("ada", ada), ("bob", bob)] {
            let message = |(conversation, sequence): &(&str, u64)| Message {
                conversation: (*conversation).to_owned(),
                sequence: *sequence,
                sender: "ada".to_owned(),
                id: format!("of {conversation}"),
                text: "words".to_owned(),
                ..Message::default()
            };
            let inbox = heard.iter().zip(1..).map(|(heard, cursor)| Entry { cursor, what: What::Message(message(heard)) }).collect();
            history.finals.push(Final { user_id: user_id.to_owned(), inbox, ..Final::default() });
        }
        checker::check(&history)
    }

    #[test]
    fn what_is_not_there_is_lost_in_a_group_as_between_two() {
        let lost = |found: &[Violation]| count(found, is_loss);
        let all = [("d", 1), ("g", 1)];
        assert_eq!(lost(&heard(&all, &[("d", 1)])), 0);
        assert_eq!(lost(&heard(&all, &[])), 1);
        assert_eq!(lost(&heard(&[("d", 1)], &[("d", 1)])), 1);
        assert_eq!(lost(&heard(&[], &[])), 3);
    }

    #[test]
    fn what_is_there_twice_is_duplicated_and_not_lost() {
        let found = heard(&[("d", 1), ("g", 1)], &[("d", 1), ("d", 2)]);
        assert_eq!((count(&found, is_loss), count(&found, is_duplicate)), (0, 2), "{found:?}");
        let found = heard(&[("d", 1), ("g", 1), ("g", 2)], &[("d", 1)]);
        assert_eq!((count(&found, is_loss), count(&found, is_duplicate)), (0, 1), "{found:?}");
    }
}
