//! Devices that catch up and go live while entries are announced before they are written, links fill up, and users are forgotten.

use std::{cell::Cell, future::poll_fn, pin::pin, rc::Rc, task::Poll};

use futures::FutureExt as _;
use proptest::prelude::*;

use super::*;

fn user() -> UserId {
    UserId::from_bytes([7; 16])
}

fn sessions() -> Sessions {
    let sessions = Sessions::new(1);
    sessions.assigned(0, 1);
    sessions
}

fn event(cursor: u64) -> Bytes {
    Bytes::from(cursor.to_string())
}

/// What the link has to say right now.
fn told(link: &Outgoing) -> Vec<(u64, Told)> {
    let frames = std::iter::from_fn(|| link.next().now_or_never().flatten());
    frames.flat_map(|frame| frame.told).filter_map(|told| Some((told.session, told.told?))).collect()
}

async fn stored(head: u64) -> Result<u64, StoreError> {
    Ok(head)
}

fn attach(sessions: &Sessions, after: u64, link: &Arc<Outgoing>, number: u64, head: u64) {
    let attached = sessions.attach(user(), after, link, number, stored(head)).now_or_never();
    attached.expect("nothing to wait for").expect("the store answers");
}

fn cursors(told: &[(u64, Told)], session: u64) -> Vec<u64> {
    let live = told.iter().filter(|(number, _)| *number == session);
    live.filter_map(|(_, told)| if let Told::Live(live) = told { Some(live.cursor) } else { None }).collect()
}

#[test]
fn two_devices_are_told_the_same_and_a_detached_one_nothing() {
    let (sessions, link) = (sessions(), Arc::new(Outgoing::new(1 << 20)));
    attach(&sessions, 3, &link, 1, 3);
    attach(&sessions, 3, &link, 2, 3);
    for cursor in 4..6 {
        sessions.announce(user(), cursor, &event(cursor));
    }
    sessions.detach(user(), &link, 1);
    sessions.announce(user(), 6, &event(6));
    let told = told(&link);
    assert!(matches!(told[0], (1, Told::Attached(Attached { head: 3 }))));
    assert_eq!(cursors(&told, 1), [4, 5]);
    assert_eq!(cursors(&told, 2), [4, 5, 6]);
}

#[test]
fn an_entry_announced_before_it_is_written_is_not_lost_to_a_device_that_attaches_between() {
    let (sessions, link) = (sessions(), Arc::new(Outgoing::new(1 << 20)));
    sessions.announce(user(), 4, &event(4));
    attach(&sessions, 3, &link, 1, 3);
    assert!(matches!(told(&link)[..], [(1, Told::Behind(Behind { head: 4 }))]));
    attach(&sessions, 4, &link, 1, 3);
    sessions.announce(user(), 4, &event(4));
    sessions.announce(user(), 5, &event(5));
    assert_eq!(cursors(&told(&link), 1), [5], "announced again after a replay, told once");
}

#[test]
fn a_device_ahead_of_the_store_waits_for_what_it_has_not() {
    let (sessions, link) = (sessions(), Arc::new(Outgoing::new(1 << 20)));
    attach(&sessions, 9, &link, 1, 7);
    for cursor in 8..12 {
        sessions.announce(user(), cursor, &event(cursor));
    }
    assert_eq!(cursors(&told(&link), 1), [10, 11]);
}

#[test]
fn a_full_link_sends_its_devices_to_the_store_after_what_it_still_holds() {
    let (sessions, link) = (sessions(), Arc::new(Outgoing::new(300)));
    attach(&sessions, 0, &link, 1, 0);
    for cursor in 1..100 {
        sessions.announce(user(), cursor, &event(cursor));
    }
    let told = told(&link);
    let live = cursors(&told, 1);
    assert!(!live.is_empty() && live.len() < 10, "{live:?}");
    assert_eq!(live, (1..=live.len() as u64).collect::<Vec<_>>());
    assert!(matches!(told.last(), Some((1, Told::Behind(Behind { head })) ) if *head == live.len() as u64 + 1));
    attach(&sessions, 99, &link, 1, 0);
    sessions.announce(user(), 100, &event(100));
    assert_eq!(cursors(&self::told(&link), 1), [100]);
}

#[test]
fn a_device_that_came_again_is_not_told_what_was_true_before() {
    let (sessions, link) = (sessions(), Arc::new(Outgoing::new(60)));
    attach(&sessions, 0, &link, 1, 0);
    for cursor in 1..10 {
        sessions.announce(user(), cursor, &event(cursor));
    }
    attach(&sessions, 9, &link, 1, 0);
    let told = told(&link);
    assert!(matches!(told.last(), Some((1, Told::Attached(Attached { head: 9 })))), "{told:?}");
    assert!(!told.iter().any(|(_, told)| matches!(told, Told::Behind(_))));
}

#[test]
fn devices_of_a_lost_partition_are_sent_away() {
    let (sessions, link) = (sessions(), Arc::new(Outgoing::new(1 << 20)));
    attach(&sessions, 0, &link, 1, 0);
    sessions.revoked(0);
    sessions.announce(user(), 1, &event(1));
    assert!(matches!(told(&link)[..], [(1, Told::Attached(_)), (1, Told::Behind(_))]));
    attach(&sessions, 0, &link, 1, 0);
    assert!(told(&link).is_empty(), "nothing would ever be announced here");
    sessions.assigned(0, 2);
    attach(&sessions, 1, &link, 1, 0);
    sessions.announce(user(), 2, &event(2));
    assert_eq!(cursors(&told(&link), 1), [2]);
}

#[test]
fn what_another_owner_told_its_own_devices_is_caught_up_with() {
    let (sessions, link) = (sessions(), Arc::new(Outgoing::new(1 << 20)));
    attach(&sessions, 3, &link, 1, 3);
    sessions.has(user(), 3);
    assert!(matches!(told(&link)[..], [(1, Told::Attached(Attached { head: 3 }))]), "it has all of them");
    sessions.has(user(), 4);
    assert!(matches!(told(&link)[..], [(1, Told::Behind(Behind { head: 4 }))]));
    attach(&sessions, 3, &link, 1, 3);
    assert!(matches!(told(&link)[..], [(1, Told::Behind(Behind { head: 4 }))]), "looked for before it was written");
    attach(&sessions, 4, &link, 1, 4);
    sessions.announce(user(), 5, &event(5));
    assert_eq!(cursors(&told(&link), 1), [5]);
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Announce,
    Write,
    Device,
    Forget,
    Reconnect,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Announce),
        4 => Just(Step::Write),
        6 => Just(Step::Device),
        1 => Just(Step::Forget),
        1 => Just(Step::Reconnect),
    ]
}

proptest! {
    /// One device, driven one poll at a time between announcements and writes in any order that the owner can cause.
    #[test]
    fn no_gap_and_no_repetition(steps in prop::collection::vec(step(), 1..200), limit in 100usize..2000) {
        let (sessions, link) = (sessions(), Arc::new(Outgoing::new(limit)));
        let (announced, written) = (Cell::new(0u64), Rc::new(Cell::new(0u64)));
        let mut received: u64 = 0;
        let mut number = 1;
        let mut must_attach = true;
        let mut attaching = None;
        let mut drive = |step: Step| {
            match step {
                Step::Announce => {
                    announced.set(announced.get() + 1);
                    sessions.announce(user(), announced.get(), &event(announced.get()));
                }
                Step::Write => written.set(announced.get().min(written.get() + 1)),
                // Only what is written is ever forgotten.
                Step::Forget if written.get() == announced.get() => {
                    let mut shard = sessions.shard(user()).lock();
                    shard.young.clear();
                    shard.old.clear();
                }
                Step::Forget => {}
                Step::Reconnect => {
                    attaching = None;
                    sessions.detach(user(), &link, number);
                    number += 1;
                    must_attach = true;
                }
                Step::Device => {
                    for (session, told) in told(&link) {
                        if session != number {
                            continue;
                        }
                        match told {
                            Told::Live(live) => {
                                assert_eq!(live.cursor, received + 1);
                                assert_eq!(live.event, event(live.cursor));
                                received += 1;
                            }
                            // Pulls what can be read, then comes again.
                            Told::Behind(_) => {
                                received = received.max(written.get());
                                must_attach = true;
                            }
                            _ => {}
                        }
                    }
                    if must_attach {
                        must_attach = false;
                        let (head, mut asked) = (Rc::clone(&written), false);
                        let stored = poll_fn(move |_| {
                            if !std::mem::replace(&mut asked, true) {
                                return Poll::Pending;
                            }
                            Poll::Ready(Ok(head.get()))
                        });
                        attaching = Some(Box::pin(sessions.attach(user(), received, &link, number, stored)));
                    }
                    if let Some(attach) = attaching.as_mut() && let Some(attached) = attach.now_or_never() {
                        attached.expect("the store answers");
                        attaching = None;
                    }
                }
            }
            received
        };
        for step in steps {
            drive(step);
        }
        for step in std::iter::repeat_n(Step::Write, 200).chain(std::iter::repeat_n(Step::Device, 20)) {
            drive(step);
        }
        prop_assert_eq!(drive(Step::Device), announced.get());
    }
}

#[tokio::test]
async fn a_closed_link_ends_and_room_comes_when_it_is_read() {
    let link = Outgoing::new(100);
    assert!(link.live(1, 1, &event(1)));
    assert!(link.live(1, 2, &event(2)));
    assert!(!link.live(1, 3, &event(3)), "full");
    let mut room = pin!(link.room());
    assert!(room.as_mut().now_or_never().is_none());
    assert!(link.next().await.is_some());
    room.await;
    link.close();
    assert!(link.next().await.is_none());
}
