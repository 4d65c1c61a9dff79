//! Callers that ask again until they are answered and use ids again, and devices that read by cursor.

use std::sync::Arc;

use bytes::Bytes;
use plaza_event_log::{EventLog, Record, TopicPartition};
use plaza_processor::{Envelope, ReplyTo};
use plaza_types::{ClientId, limits::SECOND, partition};
use prost::Message;

use crate::{
    log::{Log, PARTITIONS},
    machines::{CHAT, CONVERSATIONS, Command, Delivery, INBOX, Row, Shown, home, id},
    owners::request,
    world::World,
};

const COMMANDS: usize = 9;
const ATTEMPTS: usize = 5;

/// What a user asked, under which id.
#[derive(Clone)]
pub(crate) struct Asked {
    user: &'static str,
    to: TopicPartition,
    key: Bytes,
    payload: Bytes,
    id: ClientId,
}

/// One user's commands, one after the other.
pub(crate) async fn caller(world: Arc<World>, user: &'static str) {
    let log = Log::new(&world);
    // A phone whose clock is off, sometimes by more than is allowed.
    let skew = world.dice.pick(&[0, 0, 0, -300, 500, 900]) * SECOND as i64;
    for nth in 0..COMMANDS {
        let (to, key, payload) = command(&world, user, nth);
        let (id, first) = request(&world, skew);
        let asked = Asked { user, to, key, payload, id };
        world.asked.lock().push(asked.clone());
        // Some wait long, some hardly at all.
        let patience = world.dice.pick(&[40, 40, 400]) * 20 * SECOND;
        let mut reply_to = first;
        if world.odds.restless && nth % 4 == 3 {
            // Back at once.
            append(&world, &log, &asked, patience, reply_to).await;
            continue;
        }
        for _ in 0..ATTEMPTS {
            if ask(&world, &log, &asked, patience, reply_to).await {
                break;
            }
            reply_to = request(&world, 0).1;
        }
        if world.dice.happens(150) {
            let again = reused(&world, user);
            ask(&world, &log, &again, patience, request(&world, 0).1).await;
        }
    }
}

/// Asks, and tells whether there was an answer.
async fn ask(world: &World, log: &Log, asked: &Asked, patience: u64, reply_to: ReplyTo) -> bool {
    append(world, log, asked, patience, reply_to).await;
    answered(world, reply_to).await
}

async fn append(world: &World, log: &Log, asked: &Asked, patience: u64, reply_to: ReplyTo) {
    let time = world.now();
    let envelope = Envelope {
        rules: 1,
        time,
        deadline: time + patience,
        caller: id(asked.user).to_key(),
        request: Bytes::copy_from_slice(asked.id.as_bytes()),
        fingerprint: asked.payload.iter().fold(0, |hash: u64, byte| hash.wrapping_mul(31) + u64::from(*byte)),
        reply_to: Some(reply_to),
        origin: None,
        payload: asked.payload.clone(),
    };
    let record = Record { key: asked.key.clone(), value: envelope.encode_to_vec().into(), headers: Vec::new() };
    world.say(|| format!("{} asks {} as {}", asked.user, asked.to, reply_to.call));
    // Whether it was taken is for the answer to say.
    _ = log.append(asked.to, record).await;
}

/// An id that was used before, by anybody: for the same once more, or for something else.
fn reused(world: &World, user: &'static str) -> Asked {
    let of_all = world.asked.lock();
    let before = &of_all[world.dice.below(of_all.len())];
    let other = u64::from(world.dice.happens(500));
    let (user_of_it, key) = (user.to_owned(), Bytes::from_static(user.as_bytes()));
    if before.to.topic == CHAT {
        let command = Command::decode(before.payload.clone()).expect("a command");
        let payload = Command { user: user_of_it, body: command.body + other, ..command }.encode_to_vec().into();
        Asked { user, payload, ..before.clone() }
    } else {
        let read = Delivery::decode(before.payload.clone()).expect("a delivery");
        let payload = Delivery { sender: user_of_it, sequence: read.sequence + other, ..read }.encode_to_vec().into();
        Asked { user, payload, key, to: TopicPartition { topic: INBOX, partition: home(user) }, id: before.id }
    }
}

fn command(world: &World, user: &str, nth: usize) -> (TopicPartition, Bytes, Bytes) {
    let dice = &world.dice;
    let conversation = if world.odds.restless { CONVERSATIONS[usize::from(user.as_bytes()[1]) % 3] } else { dice.pick(&CONVERSATIONS) };
    if dice.happens(120) {
        let sequence = 1 + dice.below(6) as u64;
        let read = Delivery { sender: user.to_owned(), conversation: conversation.to_owned(), sequence, read: true, ..Delivery::default() };
        let to = TopicPartition { topic: INBOX, partition: home(user) };
        return (to, Bytes::copy_from_slice(user.as_bytes()), read.encode_to_vec().into());
    }
    let kinds: &[_] = match nth {
        _ if world.odds.restless => [&["join"], &["send"], &["send"], &["leave"]][nth % 4],
        0 | 1 => &["join"],
        _ => &["send", "send", "send", "send", "join", "leave", "nick", "nick"],
    };
    let kind = dice.pick(kinds).to_owned();
    let payload = Command { user: user.to_owned(), kind, body: dice.below(100) as u64 };
    let key = Bytes::from_static(conversation.as_bytes());
    let to = TopicPartition { topic: CHAT, partition: partition::of(&key, PARTITIONS) };
    (to, key, payload.encode_to_vec().into())
}

async fn answered(world: &World, to: ReplyTo) -> bool {
    let hears = world.dice.happens(800);
    for _ in 0..5 + world.dice.below(10) {
        tokio::time::sleep(std::time::Duration::from_millis(3)).await;
        if hears && world.told.lock().replies.contains_key(&to.call) {
            return true;
        }
    }
    false
}

/// One device that reads by cursor, for as long as the run lasts.
pub(crate) async fn reader(world: Arc<World>, user: &'static str) {
    let mut cursor = 0;
    loop {
        tokio::time::sleep(std::time::Duration::from_millis(1) + world.dice.millis(25)).await;
        cursor = read_on(&world, user, cursor);
    }
}

/// Reads everything up to the watermark.
pub(crate) fn read_on(world: &World, user: &str, cursor: u64) -> u64 {
    let tables = world.tables.lock();
    let Some((_, Row::Head { cursor: head, .. })) = tables.rows.get(&format!("head {user}")) else { return cursor };
    for place in cursor + 1..=*head {
        match tables.rows.get(&format!("entry {user} {place}")) {
            Some((_, Row::Entry { what, .. })) => {
                world.show(&Shown { user: user.to_owned(), cursor: place, what: what.clone() }, "reading");
            }
            _ => world.broken(|| format!("no entry {place} of {user} below the watermark {head}")),
        }
    }
    cursor.max(*head)
}
