//! A device's live stream: connected for as long as the run lasts, again after every cut, from the cursor it has; what had no answer then is sent
//! again with the id it had.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use plaza_checker::history::Entry;
use plaza_proto::{
    chat::v1::{content::Kind, entry::Event},
    gateway::v1::{self as gateway, ConnectRequest, connect_request, connect_response},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, Status};

use super::people::{Outcome, To, World, ack_of, fingerprint};
use crate::{api::failure, operation::Measure, wire};

/// The server cuts off who is silent for three of its heartbeats of 30 s.
const PING_EVERY: Duration = Duration::from_secs(25);
/// Between tries to connect at most.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// A ping that is not measured.
const UNMEASURED: u64 = 0;

/// Holds a person's live stream until the run stops.
pub async fn hold(world: Arc<World>, person: usize) {
    let mut backoff = plaza_client::Backoff::new(Duration::from_millis(50), LONGEST_WAIT);
    let stop = world.stop.clone();
    loop {
        let ended = stop.run_until_cancelled(connected(&world, person)).await;
        world.people[person].outgoing.lock().frames = None;
        match ended {
            None => return,
            Some(Ok(())) => backoff = plaza_client::Backoff::new(Duration::from_millis(50), LONGEST_WAIT),
            Some(Err(status)) => {
                world.people[person].shown.lock().cut_at.get_or_insert(world.recorder.clock().now());
                if world.measuring.load(Ordering::Relaxed) {
                    world.recorder.fail(Measure::Reconnect, failure(&status));
                } else {
                    *world.trouble.lock() = status.to_string();
                }
                if stop.run_until_cancelled(tokio::time::sleep(backoff.next_wait())).await.is_none() {
                    return;
                }
            }
        }
    }
}

/// One connection. Ends well when it was cut on purpose.
async fn connected(world: &World, person: usize) -> Result<(), Status> {
    let member = &world.people[person];
    let (frames, queue) = mpsc::unbounded_channel();
    let cursor = member.shown.lock().cursor;
    let _ = frames.send(frame(connect_request::Frame::Hello(gateway::Hello { cursor })));
    member.identity.refresh(&world.api).await.map_err(|error| Status::unavailable(format!("{error:#}")))?;
    let mut stream = wire::connect(&world.target, person, member.identity.header(), UnboundedReceiverStream::new(queue)).await?;
    let mut counted = Up { world, up: false };
    let mut pings = tokio::time::interval_at(tokio::time::Instant::now() + PING_EVERY.mul_f64(rand::random_range(0.3..1.0)), PING_EVERY);
    loop {
        tokio::select! {
            answer = stream.message() => match answer?.ok_or_else(|| Status::unavailable("the stream ended"))?.frame {
                Some(connect_response::Frame::Welcome(_)) => {
                    counted.up();
                    welcomed(world, person, frames.clone());
                }
                Some(connect_response::Frame::Entry(entry)) => shown(world, person, &entry),
                Some(connect_response::Frame::Sent(sent)) => acked(world, person, &sent),
                Some(connect_response::Frame::Refused(refused)) => self::refused(world, person, &refused),
                Some(connect_response::Frame::Pong(pong)) if pong.nonce != UNMEASURED => world.recorder.answer(Measure::Heartbeat, pong.nonce),
                Some(connect_response::Frame::Moved(_)) => return Err(Status::unavailable("told to move")),
                Some(connect_response::Frame::Pong(_)) | None => {}
            },
            _ = pings.tick() => {
                let _ = frames.send(ping(UNMEASURED));
            }
            () = member.cut.notified() => {
                member.shown.lock().cut_at = Some(world.recorder.clock().now());
                return Ok(());
            }
        }
    }
}

/// Counts a stream while it is up.
struct Up<'a> {
    world: &'a World,
    up: bool,
}

impl Up<'_> {
    fn up(&mut self) {
        if !std::mem::replace(&mut self.up, true) {
            self.world.streams.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Up<'_> {
    fn drop(&mut self) {
        if self.up {
            self.world.streams.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// A ping whose nonce says when it was due.
#[must_use]
pub fn ping(nonce: u64) -> ConnectRequest {
    frame(connect_request::Frame::Ping(gateway::Ping { nonce }))
}

fn frame(frame: connect_request::Frame) -> ConnectRequest {
    ConnectRequest { frame: Some(frame) }
}

fn welcomed(world: &World, person: usize, frames: mpsc::UnboundedSender<ConnectRequest>) {
    let member = &world.people[person];
    if let Some(cut_at) = member.shown.lock().cut_at.take()
        && world.measuring.load(Ordering::Relaxed)
    {
        world.recorder.see(Measure::Reconnect, cut_at);
    }
    let mut outgoing = member.outgoing.lock();
    for (number, send) in outgoing.sends.iter().enumerate().skip(outgoing.decided).filter(|(_, send)| send.outcome == Outcome::Open) {
        let _ = frames.send(world.frame(person, number, send));
    }
    outgoing.frames = Some(frames);
}

fn shown(world: &World, person: usize, entry: &plaza_proto::chat::v1::Entry) {
    world.entries.fetch_add(1, Ordering::Relaxed);
    let recorded = Entry::from(entry);
    let mut shown = world.people[person].shown.lock();
    shown.cursor = entry.cursor;
    shown.entries.push((entry.cursor, fingerprint(&recorded)));
    let Some(Event::Message(message)) = &entry.event else { return };
    shown.newest = Some((message.conversation_id.clone(), message.sequence));
    drop(shown);
    let Some(Kind::Text(text)) = message.content.as_ref().and_then(|content| content.kind.as_ref()) else { return };
    if let Some((sender, scheduled)) = world.read_text(&text.text)
        && sender != person
    {
        let measure = if message.conversation_id.starts_with('g') { Measure::DeliverGroup } else { Measure::DeliverDirect };
        world.recorder.see(measure, scheduled);
    }
}

fn acked(world: &World, person: usize, sent: &gateway::Sent) {
    let Some(number) = World::number_in(&sent.client_message_id) else { return };
    decide(world, person, number, Outcome::Acked(sent.sequence));
}

fn refused(world: &World, person: usize, refused: &gateway::Refused) {
    let Some(number) = World::number_in(&refused.client_message_id) else { return };
    let reason = if refused.reason.is_empty() { format!("{:?}", Code::from_i32(refused.code)) } else { refused.reason.clone() };
    if let Some(to) = decide(world, person, number, Outcome::Refused) {
        world.recorder.fail(ack_of(to), reason);
    }
}

/// Notes the first answer to a send. Answers to whom it went, if it was the first.
fn decide(world: &World, person: usize, number: usize, outcome: Outcome) -> Option<To> {
    let mut outgoing = world.people[person].outgoing.lock();
    let send = outgoing.sends.get_mut(number)?;
    let decided = *send;
    if decided.outcome != Outcome::Open {
        if let Outcome::Acked(sequence) = outcome {
            outgoing.answered_again.push((number, sequence));
        }
        return None;
    }
    send.outcome = outcome;
    let next = |outgoing: &super::people::Outgoing| outgoing.sends.get(outgoing.decided).is_some_and(|send| send.outcome != Outcome::Open);
    while next(&outgoing) {
        outgoing.decided += 1;
    }
    drop(outgoing);
    world.open.fetch_sub(1, Ordering::Relaxed);
    if let Outcome::Acked(_) = outcome {
        world.recorder.answer(ack_of(decided.to), decided.scheduled);
    }
    Some(decided.to)
}
