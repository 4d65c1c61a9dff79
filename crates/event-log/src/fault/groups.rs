//! Who owns which partition. A partition that moves is given to its new owner before the old one is told, as when a member of a group was
//! believed dead, so for a while two members own it.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

use super::Shared;
use crate::{Assignment, Assignments, Error, Topic};

type Name = (&'static str, Topic);
type Member = u64;

pub(super) struct Groups {
    shared: Arc<Shared>,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    last_member: Member,
    groups: HashMap<Name, Group>,
}

/// The members of a group for one topic.
#[derive(Default)]
struct Group {
    /// What each member has not been told yet.
    members: BTreeMap<Member, VecDeque<Assignment>>,
    owners: Vec<Member>,
    /// Members who do not know yet that they lost a partition.
    unaware: Vec<(Member, u32)>,
}

impl Groups {
    pub(super) fn new(shared: Arc<Shared>) -> Arc<Self> {
        Arc::new(Self { shared, state: Mutex::default(), changed: Notify::new() })
    }

    pub(super) fn join(self: &Arc<Self>, group: &'static str, topic: Topic, partitions: u32) -> Box<dyn Assignments> {
        let name = (group, topic);
        let mut state = self.state.lock();
        state.last_member += 1;
        let member = state.last_member;
        let group = state.groups.entry(name).or_default();
        group.members.insert(member, VecDeque::new());
        if group.members.len() == 1 {
            group.owners = vec![member; partitions as usize];
            group.tell(member, (0..partitions).map(Assignment::Assigned));
        } else {
            for partition in (0..partitions).filter(|_| self.shared.happens(0.5)) {
                group.move_to(member, partition);
            }
            self.catch_up(group);
        }
        drop(state);
        self.changed.notify_waiters();
        Box::new(Membership { groups: self.clone(), name, member, move_at: self.next_move() })
    }

    fn next_move(&self) -> Option<Instant> {
        let most = self.shared.faults.moves?;
        Some(Instant::now() + self.shared.time_up_to(most))
    }

    /// Without moves nobody stays unaware.
    fn catch_up(&self, group: &mut Group) {
        if self.shared.faults.moves.is_none() {
            group.tell_unaware();
        }
    }

    fn take(&self, name: Name, member: Member) -> Option<Assignment> {
        self.state.lock().groups.get_mut(&name)?.members.get_mut(&member)?.pop_front()
    }

    /// Those who lost a partition the last time learn of it, and another one moves.
    fn move_one(&self, name: Name) {
        let mut state = self.state.lock();
        if let Some(group) = state.groups.get_mut(&name) {
            group.tell_unaware();
            let partition = self.shared.below(group.owners.len()) as u32;
            group.move_to(self.any_member(group), partition);
        }
        drop(state);
        self.changed.notify_waiters();
    }

    fn any_member(&self, group: &Group) -> Member {
        let place = self.shared.below(group.members.len());
        group.members.keys().copied().nth(place).unwrap_or_default()
    }

    fn leave(&self, name: Name, member: Member) {
        let mut state = self.state.lock();
        let Some(group) = state.groups.get_mut(&name) else { return };
        group.members.remove(&member);
        group.unaware.retain(|(unaware, _)| *unaware != member);
        if group.members.is_empty() {
            state.groups.remove(&name);
            return;
        }
        for partition in 0..group.owners.len() {
            if group.owners[partition] == member {
                group.move_to(self.any_member(group), partition as u32);
            }
        }
        self.catch_up(group);
        drop(state);
        self.changed.notify_waiters();
    }
}

impl Group {
    fn tell(&mut self, member: Member, news: impl IntoIterator<Item = Assignment>) {
        if let Some(untold) = self.members.get_mut(&member) {
            untold.extend(news);
        }
    }

    fn tell_unaware(&mut self) {
        for (member, partition) in std::mem::take(&mut self.unaware) {
            self.tell(member, [Assignment::Revoked(partition)]);
        }
    }

    fn move_to(&mut self, member: Member, partition: u32) {
        let former = std::mem::replace(&mut self.owners[partition as usize], member);
        self.unaware.push((former, partition));
        if let Some(place) = self.unaware.iter().position(|unaware| *unaware == (member, partition)) {
            self.unaware.remove(place);
            self.tell(member, [Assignment::Revoked(partition)]);
        }
        self.tell(member, [Assignment::Assigned(partition)]);
    }
}

struct Membership {
    groups: Arc<Groups>,
    name: Name,
    member: Member,
    move_at: Option<Instant>,
}

#[async_trait]
impl Assignments for Membership {
    async fn next(&mut self) -> Result<Assignment, Error> {
        loop {
            let changed = self.groups.changed.notified();
            if let Some(assignment) = self.groups.take(self.name, self.member) {
                return Ok(assignment);
            }
            match self.move_at {
                None => changed.await,
                Some(at) => {
                    if tokio::time::timeout_at(at, changed).await.is_err() {
                        self.groups.move_one(self.name);
                        self.move_at = self.groups.next_move();
                    }
                }
            }
        }
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.groups.leave(self.name, self.member);
    }
}
