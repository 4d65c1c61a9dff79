//! When a record goes to the library. It sends no more to a partition while five or more records of an idempotent client are on their way there
//! (it counts records where the protocol counts requests: confluentinc/librdkafka#4989), and a thread of its with more to send polls without
//! a pause until one is answered: a core for each broker, for as long as brokers take to answer. So what must wait waits here, and goes together
//! when everything before it is answered.

use std::{
    collections::VecDeque,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;
use plaza_event_log::{Error, Record, limits};
use rdkafka::{
    message::{Header, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, Producer as _},
};

use super::{Ack, Deliveries};
use crate::connection::{is_final, unavailable};

/// So many records of a partition can be on their way before more have to wait.
const FREE: usize = 5;

/// A record and where it goes.
pub(super) struct Outgoing {
    pub(super) topic: Arc<str>,
    pub(super) partition: u32,
    /// The number of the partition among all of them.
    pub(super) place: usize,
    pub(super) record: Record,
    pub(super) ack: Arc<Ack>,
}

/// What travels with a record through the library.
pub(crate) struct Sent {
    pub(super) place: usize,
    pub(super) ack: Arc<Ack>,
}

/// The records of one client, by partition.
pub(super) struct Waves {
    partitions: Box<[Mutex<Wave>]>,
    client: OnceLock<Weak<BaseProducer<Deliveries>>>,
    waiting: AtomicUsize,
}

#[derive(Default)]
struct Wave {
    /// On their way.
    sent: usize,
    waiting: VecDeque<Outgoing>,
}

impl Waves {
    pub(super) fn new(partitions: usize) -> Self {
        let partitions = (0..partitions).map(|_| Mutex::default()).collect();
        Self { partitions, client: OnceLock::new(), waiting: AtomicUsize::new(0) }
    }

    /// Says whose records these are. Once, before the first.
    pub(super) fn belong_to(&self, client: &Arc<BaseProducer<Deliveries>>) {
        self.client.get_or_init(|| Arc::downgrade(client));
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Acquire)
    }

    /// Sends a record at once, or when those before it are answered.
    ///
    /// # Errors
    /// It was not taken.
    pub(super) fn send(&self, client: &BaseProducer<Deliveries>, outgoing: Outgoing) -> Result<(), Error> {
        let mut wave = self.partitions[outgoing.place].lock();
        if wave.sent >= FREE || !wave.waiting.is_empty() {
            wave.waiting.push_back(outgoing);
            self.waiting.fetch_add(1, Ordering::AcqRel);
            return Ok(());
        }
        hand(client, outgoing).map_err(|(error, _)| error)?;
        wave.sent += 1;
        Ok(())
    }

    /// One is answered; when it was the last of those on their way, what waits goes, unless the client has failed.
    pub(super) fn answered(&self, place: usize) {
        let mut wave = self.partitions[place].lock();
        wave.sent -= 1;
        if wave.sent > 0 || wave.waiting.is_empty() {
            return;
        }
        let next = std::mem::take(&mut wave.waiting);
        self.waiting.fetch_sub(next.len(), Ordering::AcqRel);
        let Some(client) = self.client.get().and_then(Weak::upgrade) else { return };
        for outgoing in next {
            let deliveries = client.context();
            if deliveries.health.failure().is_some() {
                // Whoever waits hears of that.
                return;
            }
            match hand(&client, outgoing) {
                Ok(()) => wave.sent += 1,
                Err((error, ack)) => deliveries.refused(error, &ack),
            }
        }
    }
}

fn hand(client: &BaseProducer<Deliveries>, outgoing: Outgoing) -> Result<(), (Error, Arc<Ack>)> {
    let Outgoing { topic, partition, place, record, ack } = outgoing;
    let mut message = BaseRecord::<[u8], [u8], Box<Sent>>::with_opaque_to(&topic, Box::new(Sent { place, ack }))
        .partition(partition.cast_signed())
        .key(&record.key)
        .payload(&record.value);
    let kept = record.headers.iter().filter(|(name, _)| limits::header_name(name).is_some());
    for (name, value) in kept {
        let headers = message.headers.take().unwrap_or_else(|| OwnedHeaders::new_with_capacity(1));
        message.headers = Some(headers.insert(Header { key: name, value: Some(&value[..]) }));
    }
    client.send(message).map_err(|(error, message)| {
        if is_final(&error) {
            client.context().health.fail(|| unavailable(&error));
        }
        (unavailable(&error), message.delivery_opaque.ack)
    })
}
