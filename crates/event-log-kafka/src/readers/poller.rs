//! The thread of one client that reads. It alone polls, begins and ends: then no record of a partition that was given up can come after it was
//! begun again somewhere else.
//!
//! A reader with too many records waiting is ended at the client and later begun where it stopped. Pausing it would throw away the same
//! records and leave it to the library where it goes on. Partitions are not split into queues of their own, which have stalled.

use std::{
    collections::HashMap,
    sync::{Arc, mpsc},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use plaza_event_log::{Error, Offset, Record, Stored, limits};
use rdkafka::{
    Message as _, Offset as KafkaOffset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaResult,
    message::{BorrowedMessage, Headers as _},
};

use super::slot::{Push, Slot};
use crate::connection::{Connection, Events, Threads, describe, unavailable};

const ROLE: &str = "readers";
/// How soon a command is obeyed when no record comes.
const POLL: Duration = Duration::from_millis(20);
/// The same while a reader has enough, and may have room at any moment.
const POLL_HELD: Duration = Duration::from_millis(2);

const SETTINGS: [(&str, &str); 11] = [
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    // What is below where a reader is, is passed over, so this is only ever a way to go on.
    ("auto.offset.reset", "earliest"),
    ("fetch.min.bytes", "1"),
    // A partition that is begun is asked for with the next fetch, so this is the longest it waits.
    ("fetch.wait.max.ms", "50"),
    ("fetch.error.backoff.ms", "100"),
    ("fetch.queue.backoff.ms", "5"),
    ("fetch.max.bytes", "8388608"),
    ("fetch.message.max.bytes", "1048576"),
    // Of all partitions together; the thread takes them out at once.
    ("queued.min.messages", "10000"),
    ("queued.max.messages.kbytes", "16384"),
];

/// What a reader wants.
pub(super) enum Command {
    /// To be given records, fetched from an offset on.
    Start {
        /// The reader's.
        slot: Arc<Slot>,
        /// Where to fetch.
        from: Offset,
    },
    /// To be given more.
    Resume(Arc<Slot>),
    /// No more.
    Stop(Arc<Slot>),
}

/// By topic and partition.
type Slots = HashMap<Arc<str>, HashMap<i32, Arc<Slot>>>;

/// The client and its readers.
pub(super) struct Poller {
    consumer: BaseConsumer<Events>,
    commands: mpsc::Receiver<Command>,
    slots: Slots,
    /// Those that have enough.
    held: Vec<Arc<Slot>>,
    events: Events,
}

impl Poller {
    /// Starts the thread.
    ///
    /// # Errors
    /// `Unavailable`.
    pub(super) fn start(connection: &Connection, threads: &Arc<Threads>) -> Result<mpsc::Sender<Command>, Error> {
        let mut settings = connection.client(ROLE);
        // Assigning takes a group, though nothing is ever committed to it and nobody joins it.
        settings.set("group.id", format!("{}{ROLE}", connection.config.prefix));
        settings.set("message.max.bytes", crate::MAX_MESSAGE_BYTES.to_string());
        for (key, value) in SETTINGS {
            settings.set(key, value);
        }
        let consumer = settings.create_with_context(Events::new(ROLE)).map_err(|error| unavailable(&error))?;
        let (tell, commands) = mpsc::channel();
        let mut poller = Self { consumer, commands, slots: HashMap::new(), held: Vec::new(), events: Events::new(ROLE) };
        let until = Arc::clone(threads);
        threads.spawn(ROLE, move || poller.run(&until))?;
        Ok(tell)
    }

    fn run(&mut self, threads: &Threads) {
        while !threads.are_ending() {
            loop {
                match self.commands.try_recv() {
                    Ok(command) => self.obey(command),
                    Err(mpsc::TryRecvError::Empty) => break,
                    Err(mpsc::TryRecvError::Disconnected) => return,
                }
            }
            match self.consumer.poll(if self.held.is_empty() { POLL } else { POLL_HELD }) {
                Some(Ok(message)) => self.held.extend(dispatch(&self.consumer, &self.slots, &message)),
                Some(Err(error)) => {
                    self.events.wrong(&error, "reading");
                    // Errors can come without end and without a pause.
                    std::thread::park_timeout(POLL);
                }
                None => {}
            }
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Start { slot, from } => {
                self.slots.entry(Arc::clone(&slot.topic)).or_default().insert(slot.partition.cast_signed(), Arc::clone(&slot));
                self.begin(&slot, from);
            }
            Command::Resume(slot) => {
                self.held.retain(|held| !Arc::ptr_eq(held, &slot));
                let next = slot.resume();
                self.begin(&slot, next);
            }
            Command::Stop(slot) => {
                if let Some(partitions) = self.slots.get_mut(&slot.topic) {
                    partitions.remove(&slot.partition.cast_signed());
                }
                self.held.retain(|held| !Arc::ptr_eq(held, &slot));
                end(&self.consumer, &slot);
            }
        }
    }

    fn begin(&self, slot: &Slot, from: Offset) {
        let begun = list(slot, KafkaOffset::Offset(from.cast_signed())).and_then(|list| self.consumer.incremental_assign(&list));
        if let Err(error) = begun {
            slot.fail(unavailable(&error));
        }
    }
}

impl Drop for Poller {
    fn drop(&mut self) {
        // Also when the thread panics: a reader must not wait for ever.
        let left = self.commands.try_iter().filter_map(|command| match command {
            Command::Start { slot, .. } => Some(slot),
            Command::Resume(_) | Command::Stop(_) => None,
        });
        let all = self.slots.values().flat_map(HashMap::values).cloned().chain(left);
        all.for_each(|slot| slot.fail(Error::Unavailable("closed".to_owned())));
    }
}

/// Gives a record to its reader, and gives the reader back when that has enough.
fn dispatch(consumer: &BaseConsumer<Events>, slots: &Slots, message: &BorrowedMessage<'_>) -> Option<Arc<Slot>> {
    // Without one, the reader is gone.
    let slot = slots.get(message.topic())?.get(&message.partition())?;
    match slot.push(decode(message)) {
        Push::Taken | Push::Old => None,
        Push::Full => {
            end(consumer, slot);
            Some(Arc::clone(slot))
        }
        Push::Gap(missing) => {
            tracing::warn!(topic = %slot.topic, partition = slot.partition, offset = message.offset(), missing, "records are missing in the log");
            None
        }
    }
}

/// A reader that is held has been ended before.
fn end(consumer: &BaseConsumer<Events>, slot: &Slot) {
    if let Err(error) = list(slot, KafkaOffset::Invalid).and_then(|list| consumer.incremental_unassign(&list)) {
        tracing::debug!(topic = %slot.topic, partition = slot.partition, error = describe(&error), "partition was not being read");
    }
}

fn list(slot: &Slot, offset: KafkaOffset) -> KafkaResult<TopicPartitionList> {
    let mut list = TopicPartitionList::with_capacity(1);
    list.add_partition_offset(&slot.topic, slot.partition.cast_signed(), offset)?;
    Ok(list)
}

/// The record with its place, in one piece of memory of its own.
fn decode(message: &BorrowedMessage<'_>) -> Stored {
    let key = message.key().unwrap_or_default();
    let value = message.payload().unwrap_or_default();
    let mut bytes = BytesMut::with_capacity(key.len() + value.len());
    bytes.extend_from_slice(key);
    bytes.extend_from_slice(value);
    let value = bytes.freeze();
    let key = value.slice(..key.len());
    let known = message.headers().into_iter().flat_map(|headers| headers.iter()).filter_map(|header| {
        let value = Bytes::copy_from_slice(header.value.unwrap_or_default());
        Some((limits::header_name(header.key)?, value))
    });
    let millis = message.timestamp().to_millis().unwrap_or_default();
    Stored {
        offset: message.offset().cast_unsigned(),
        appended: millis.cast_unsigned() * 1000,
        record: Record { value: value.slice(key.len()..), key, headers: known.collect() },
    }
}
