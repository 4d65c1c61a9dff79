//! Questions about offsets, answered by one thread with a client of its own: on a connection that is fetching, a question would wait until the
//! fetch has waited.
//!
//! An answer must hold everything that was acknowledged before it was asked for. So a question never joins a query that has begun: whatever
//! is asked while one runs waits for the next one, which then asks about all partitions at once.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use plaza_event_log::{Error, Offset};
use rdkafka::{
    Offset as KafkaOffset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
};
use tokio::sync::oneshot;

use crate::connection::{Connection, Events, Threads, describe, unavailable};

const ROLE: &str = "queries";
/// How long a query may take, with what is tried again: a partition whose leader has just changed fails the whole query.
const TIMEOUT: Duration = Duration::from_secs(2);
const AGAIN: Duration = Duration::from_millis(50);
/// How often a thread that nobody asks looks whether it is to end, and lets its client speak.
const IDLE: Duration = Duration::from_millis(250);

/// What is asked about a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Question {
    /// Its end.
    End,
    /// The first record at or after a time in milliseconds.
    At(i64),
}

impl Question {
    fn asked(self) -> KafkaOffset {
        match self {
            Self::End => KafkaOffset::End,
            Self::At(millis) => KafkaOffset::Offset(millis),
        }
    }
}

/// None when there is no such record.
type Answer = Result<Option<Offset>, Error>;

struct Asked {
    topic: Arc<str>,
    partition: u32,
    question: Question,
    answer: oneshot::Sender<Answer>,
}

/// Where questions are asked.
pub(crate) struct Queries(mpsc::Sender<Asked>);

impl Queries {
    /// # Errors
    /// `Unavailable`.
    pub(crate) fn open(connection: &Connection, threads: &Arc<Threads>) -> Result<Self, Error> {
        let client = connection.client(ROLE).create_with_context(Events::new(ROLE)).map_err(|error| unavailable(&error))?;
        let (ask, asked) = mpsc::channel();
        let until = Arc::clone(threads);
        threads.spawn(ROLE, move || run(&client, &asked, &until))?;
        Ok(Self(ask))
    }

    /// The answer as of some moment after this was called.
    ///
    /// # Errors
    /// `Unavailable`.
    pub(crate) async fn ask(&self, topic: &Arc<str>, partition: u32, question: Question) -> Answer {
        let (answer, told) = oneshot::channel();
        let asked = Asked { topic: Arc::clone(topic), partition, question, answer };
        let ended = || Error::Unavailable("closed".to_owned());
        self.0.send(asked).map_err(|_| ended())?;
        told.await.unwrap_or_else(|_| Err(ended()))
    }
}

fn run(client: &BaseConsumer<Events>, asked: &mpsc::Receiver<Asked>, threads: &Threads) {
    while !threads.are_ending() {
        match asked.recv_timeout(IDLE) {
            Ok(first) => {
                let mut waiting: Vec<Asked> = std::iter::once(first).chain(asked.try_iter()).collect();
                while !waiting.is_empty() {
                    waiting = query(client, waiting);
                }
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => return,
        }
        // It has no records to give, only things to say, which would pile up.
        client.poll(Duration::ZERO);
    }
}

/// Answers them, except those about a partition that another question was asked about, which are left.
fn query(client: &BaseConsumer<Events>, waiting: Vec<Asked>) -> Vec<Asked> {
    let mut round: By<Vec<Asked>> = HashMap::new();
    let mut left = Vec::new();
    for asked in waiting {
        let together = round.entry((Arc::clone(&asked.topic), asked.partition)).or_default();
        match together.first() {
            Some(other) if other.question != asked.question => left.push(asked),
            _ => together.push(asked),
        }
    }
    let until = Instant::now() + TIMEOUT;
    let found = loop {
        let found = look_up(client, &round, until);
        if !found.as_ref().is_ok_and(|found| found.values().all(Result::is_ok)) {
            renew(client, &round, until);
        }
        match found {
            Err(_) if Instant::now() + AGAIN < until => thread::park_timeout(AGAIN),
            found => break found,
        }
    };
    for (place, together) in round {
        let answer = match &found {
            Ok(found) => found.get(&place).cloned().unwrap_or_else(|| Err(Error::Unavailable("no answer".to_owned()))),
            Err(error) => Err(error.clone()),
        };
        for asked in together {
            // Whoever asked may have gone.
            _ = asked.answer.send(answer.clone());
        }
    }
    left
}

/// By topic and partition.
type By<T> = HashMap<(Arc<str>, u32), T>;

fn look_up(client: &BaseConsumer<Events>, round: &By<Vec<Asked>>, until: Instant) -> Result<By<Answer>, Error> {
    let mut list = TopicPartitionList::with_capacity(round.len());
    for ((topic, partition), together) in round {
        if let Some(first) = together.first() {
            let added = list.add_partition_offset(topic, partition.cast_signed(), first.question.asked());
            added.map_err(|error| unavailable(&error))?;
        }
    }
    // The protocol has the end as a "time" of its own, and the library passes it on.
    let list = client.offsets_for_times(list, until.saturating_duration_since(Instant::now())).map_err(|error| unavailable(&error))?;
    let answers = list.elements().into_iter().map(|element| {
        let answer = match (element.error(), element.offset()) {
            (Ok(()), KafkaOffset::Offset(offset)) => Ok(Some(offset.cast_unsigned())),
            (Ok(()), _) => Ok(None),
            (Err(error), _) => Err(unavailable(&error)),
        };
        ((Arc::from(element.topic()), element.partition().cast_unsigned()), answer)
    });
    Ok(answers.collect())
}

/// Has the client learn anew who leads the partitions. The library takes one that had no leader when it last looked for one that never has, and
/// does not look again for minutes ("this is a permanent error" in `rd_kafka_topic_partition_list_get_leaders`, rdkafka_partition.c of 2.12.1).
fn renew(client: &BaseConsumer<Events>, round: &By<Vec<Asked>>, until: Instant) {
    let topics: HashSet<&str> = round.keys().map(|(topic, _)| &**topic).collect();
    for topic in topics {
        if let Err(error) = client.fetch_metadata(Some(topic), until.saturating_duration_since(Instant::now())) {
            tracing::debug!(topic, error = describe(&error), "leaders are not known");
        }
    }
}

#[cfg(test)]
mod tests {
    use plaza_testkit::wait::wait_for;
    use rdkafka::mocking::MockCluster;

    use super::*;
    use crate::Config;

    /// What the library knows of leaders is its own affair, so it is its own brokers that lose one here. `cargo xtask faults` kills real ones.
    #[tokio::test]
    async fn a_partition_that_had_no_leader_is_asked_about_as_soon_as_it_has_one() {
        const SOON: Duration = Duration::from_secs(10);
        let brokers = MockCluster::new(1).expect("brokers");
        brokers.create_topic("topic", 2, 1).expect("a topic");
        let config = Config { brokers: brokers.bootstrap_servers(), ..Config::default() };
        let threads = Arc::new(Threads::default());
        let queries = Queries::open(&Connection::new(&config).expect("settings"), &threads).expect("a client");
        let topic = Arc::from("topic");
        let ask = |partition| queries.ask(&topic, partition, Question::End);
        // All that is asked about, then one of two.
        for (without, with) in [(vec![0, 1], vec![]), (vec![0], vec![1])] {
            for partition in without {
                brokers.partition_leader("topic", partition, None).expect("no leader");
            }
            let both = tokio::join!(ask(0), ask(1));
            assert!(both.0.is_err(), "{both:?}");
            assert_eq!(both.1.is_ok(), with == [1], "{both:?}");
            for partition in 0..2 {
                brokers.partition_leader("topic", partition, Some(1)).expect("a leader");
            }
            for partition in 0..2 {
                assert_eq!(wait_for("an answer", SOON, || ask(partition)).await.expect("in time"), Some(0));
            }
        }
        threads.end();
        threads.ended().await;
    }
}
