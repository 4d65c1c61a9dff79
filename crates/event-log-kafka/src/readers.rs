//! Reading. A client takes a handful of threads and connections, so readers share a few: each partition is read at most once by a client, and
//! readers of the same partition are on different ones. There are as many clients as the partition with the most readers has.

mod poller;
mod slot;

use std::{
    collections::HashSet,
    sync::{Arc, mpsc},
};

use async_trait::async_trait;
use parking_lot::Mutex;
use plaza_event_log::{Error, Offset, Reader, Stored};
use tokio::task::coop;

use self::{
    poller::{Command, Poller},
    slot::{Slot, Total},
};
use crate::connection::{Connection, Threads};

/// Topic and partition on the cluster.
type Place = (Arc<str>, u32);

/// The clients that read.
pub(crate) struct Readers {
    connection: Arc<Connection>,
    threads: Arc<Threads>,
    clients: Mutex<Vec<Arc<Client>>>,
    total: Total,
}

/// One of them.
struct Client {
    commands: mpsc::Sender<Command>,
    taken: Mutex<HashSet<Place>>,
}

impl Readers {
    pub(crate) fn new(connection: &Arc<Connection>, threads: &Arc<Threads>) -> Self {
        Self { connection: Arc::clone(connection), threads: Arc::clone(threads), clients: Mutex::default(), total: Total::default() }
    }

    /// Reads a partition from `offset` on; `end` is where the partition ended a moment ago. Records below `offset` are never given: when it is
    /// above the end, those that come before it are passed over.
    ///
    /// # Errors
    /// `Unavailable`.
    pub(crate) fn open(&self, topic: &Arc<str>, partition: u32, offset: Offset, end: Offset) -> Result<KafkaReader, Error> {
        if offset > end {
            tracing::warn!(%topic, partition, offset, end, "reader begins above the end of the partition");
        }
        let place = (Arc::clone(topic), partition);
        let client = self.client_without(&place)?;
        let slot = Arc::new(Slot::new(Arc::clone(topic), partition, offset, self.total.clone()));
        let reader = KafkaReader { slot: Arc::clone(&slot), place, client };
        let started = reader.tell(Command::Start { slot, from: offset.min(end) });
        if started.is_err() {
            // Its thread has ended, so whoever tries again needs another one.
            self.clients.lock().retain(|client| !Arc::ptr_eq(client, &reader.client));
        }
        started.map(|()| reader)
    }

    /// A client that does not read the partition, and now does.
    fn client_without(&self, place: &Place) -> Result<Arc<Client>, Error> {
        let mut clients = self.clients.lock();
        let free = |client: &&Arc<Client>| client.taken.lock().insert(place.clone());
        if let Some(client) = clients.iter().find(free) {
            return Ok(Arc::clone(client));
        }
        let commands = Poller::start(&self.connection, &self.threads)?;
        let client = Arc::new(Client { commands, taken: Mutex::new(HashSet::from([place.clone()])) });
        clients.push(Arc::clone(&client));
        Ok(client)
    }
}

/// One reader.
pub(crate) struct KafkaReader {
    slot: Arc<Slot>,
    place: Place,
    client: Arc<Client>,
}

impl KafkaReader {
    fn tell(&self, command: Command) -> Result<(), Error> {
        self.client.commands.send(command).map_err(|_| Error::Unavailable("closed".to_owned()))
    }
}

#[async_trait]
impl Reader for KafkaReader {
    async fn next(&mut self, max: usize) -> Result<Vec<Stored>, Error> {
        // A reader far behind must not keep a worker to itself.
        coop::consume_budget().await;
        loop {
            let (records, is_wanting) = self.slot.take(max.max(1))?;
            if is_wanting {
                self.tell(Command::Resume(Arc::clone(&self.slot)))?;
            }
            if !records.is_empty() {
                return Ok(records);
            }
            self.slot.arrived().await;
        }
    }
}

impl Drop for KafkaReader {
    fn drop(&mut self) {
        // In this order: whoever takes the place next comes later in the queue of commands.
        _ = self.tell(Command::Stop(Arc::clone(&self.slot)));
        self.client.taken.lock().remove(&self.place);
    }
}
