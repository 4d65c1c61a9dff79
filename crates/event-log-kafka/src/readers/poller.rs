//! One client that reads. A task gives its records to their readers as soon as the library says that there are some, which takes a switch of threads
//! less than a thread that waits for them, and each of them a message waits for. A thread begins and ends partitions, because that waits for the
//! library, up to a millisecond; the task does so only for a reader that has enough. Only one of the two is at work at any time: then no record of a
//! partition that was given up can come after it was begun again.
//!
//! A reader with too many records waiting is ended at the client and later begun where it stopped. Pausing it would throw away the same
//! records and leave it to the library where it goes on. Partitions are not split into queues of their own, which have stalled.

use std::{
    collections::HashMap,
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use plaza_event_log::{Error, Offset, Record, Stored, limits};
use rdkafka::{
    Message as _, Offset as KafkaOffset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaResult,
    message::{BorrowedMessage, Headers as _},
};
use tokio::{sync::Notify, task::yield_now, time::sleep};

use super::slot::{Push, Slot};
use crate::connection::{Connection, Events, Threads, describe, unavailable};

const ROLE: &str = "readers";
/// How soon the thread ends, and how often it has the task look.
const LOOK: Duration = Duration::from_millis(100);
/// Records that are given out before others have a turn.
const AT_ONCE: usize = 256;
/// Errors can come without end.
const AFTER_ERROR: Duration = Duration::from_millis(20);

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
    open: Mutex<Open>,
    /// The client has records, or nothing more is to come.
    arrived: Arc<Notify>,
    events: Events,
}

struct Open {
    /// Until the thread ends, which alone may drop it: that can block for seconds.
    consumer: Option<BaseConsumer<Events>>,
    /// Until either of the two ends.
    slots: Option<Slots>,
}

impl Poller {
    /// Starts the task and the thread.
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
        let mut consumer: BaseConsumer<Events> = settings.create_with_context(Events::new(ROLE)).map_err(|error| unavailable(&error))?;
        let arrived = Arc::new(Notify::new());
        let tell_of_it = Arc::clone(&arrived);
        consumer.set_nonempty_callback(move || tell_of_it.notify_one());
        // What came before is not told.
        arrived.notify_one();
        let open = Mutex::new(Open { consumer: Some(consumer), slots: Some(HashMap::new()) });
        let poller = Arc::new(Self { open, arrived, events: Events::new(ROLE) });
        let (tell, commands) = mpsc::channel();
        let thread = Thread { poller: Arc::clone(&poller), commands };
        let until = Arc::clone(threads);
        threads.spawn(ROLE, move || thread.run(&until))?;
        let task = Ending(poller);
        threads.run(async move { task.0.give_out().await });
        Ok(tell)
    }

    /// Until the end.
    async fn give_out(&self) {
        loop {
            self.arrived.notified().await;
            loop {
                match self.take() {
                    Taken::All => break,
                    Taken::Some => yield_now().await,
                    Taken::Wrong => sleep(AFTER_ERROR).await,
                    Taken::Ended => return,
                }
            }
        }
    }

    /// Gives out some of what the client has.
    fn take(&self) -> Taken {
        let open = self.open.lock();
        let (Some(consumer), Some(slots)) = (&open.consumer, &open.slots) else { return Taken::Ended };
        for _ in 0..AT_ONCE {
            let heard = consumer.context().heard();
            match consumer.poll(Duration::ZERO) {
                Some(Ok(message)) => dispatch(consumer, slots, &message),
                Some(Err(error)) => {
                    self.events.wrong(&error, "reading");
                    return Taken::Wrong;
                }
                // What the library had to say is in the same queue, and looks as if there were nothing in it.
                None if consumer.context().heard() != heard => {}
                None => return Taken::All,
            }
        }
        Taken::Some
    }

    fn obey(&self, command: Command) {
        let Open { consumer, slots } = &mut *self.open.lock();
        let (Some(consumer), Some(slots)) = (consumer, slots) else { return command.refuse() };
        match command {
            Command::Start { slot, from } => {
                slots.entry(Arc::clone(&slot.topic)).or_default().insert(slot.partition.cast_signed(), Arc::clone(&slot));
                begin(consumer, &slot, from);
            }
            Command::Resume(slot) => {
                let next = slot.resume();
                begin(consumer, &slot, next);
            }
            Command::Stop(slot) => {
                if let Some(partitions) = slots.get_mut(&slot.topic) {
                    partitions.remove(&slot.partition.cast_signed());
                }
                end(consumer, &slot);
            }
        }
    }

    /// A reader must not wait for ever.
    fn end(&self) {
        let slots = self.open.lock().slots.take();
        slots.iter().flat_map(HashMap::values).flat_map(HashMap::values).for_each(|slot| slot.fail(closed()));
    }

    fn has_ended(&self) -> bool {
        self.open.lock().slots.is_none()
    }
}

/// How far one got.
enum Taken {
    All,
    Some,
    Wrong,
    Ended,
}

/// Fails the readers when the task ends, also when it panics or never begins.
struct Ending(Arc<Poller>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.end();
    }
}

fn closed() -> Error {
    Error::Unavailable("closed".to_owned())
}

impl Command {
    fn refuse(self) {
        if let Self::Start { slot, .. } = self {
            slot.fail(closed());
        }
    }
}

/// Begins and ends partitions.
struct Thread {
    poller: Arc<Poller>,
    commands: mpsc::Receiver<Command>,
}

impl Thread {
    fn run(self, threads: &Threads) {
        let mut look = Instant::now();
        while !threads.are_ending() && !self.poller.has_ended() {
            // In case the library has something that it did not speak of.
            if look.elapsed() >= LOOK {
                look = Instant::now();
                self.poller.arrived.notify_one();
            }
            match self.commands.recv_timeout(LOOK) {
                Ok(command) => self.poller.obey(command),
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
            }
        }
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        let consumer = self.poller.open.lock().consumer.take();
        self.poller.end();
        self.poller.arrived.notify_one();
        drop(consumer);
        self.commands.try_iter().for_each(Command::refuse);
    }
}

fn begin(consumer: &BaseConsumer<Events>, slot: &Slot, from: Offset) {
    let begun = list(slot, KafkaOffset::Offset(from.cast_signed())).and_then(|list| consumer.incremental_assign(&list));
    if let Err(error) = begun {
        slot.fail(unavailable(&error));
    }
}

/// Gives a record to its reader.
fn dispatch(consumer: &BaseConsumer<Events>, slots: &Slots, message: &BorrowedMessage<'_>) {
    // Without one, the reader is gone.
    let Some(slot) = slots.get(message.topic()).and_then(|partitions| partitions.get(&message.partition())) else { return };
    match slot.push(decode(message)) {
        Push::Taken | Push::Old => {}
        Push::Full => end(consumer, slot),
        Push::Gap(missing) => {
            tracing::warn!(topic = %slot.topic, partition = slot.partition, offset = message.offset(), missing, "records are missing in the log");
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
