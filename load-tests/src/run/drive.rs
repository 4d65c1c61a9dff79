//! Starts operations: who acts is drawn by activity, towards whom by closeness. Nothing here waits; what must be waited for is a task of its own.

use std::sync::{Arc, atomic::Ordering};

use anyhow::{Context, ensure};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, weighted::WeightedAliasIndex};

use super::{
    calls, device,
    people::{Audience, Outcome, Send, To, World},
};
use crate::{operation::Operation, scenario};

/// More sends without an answer than this are not made: the memory of the generator is bounded, and the run is not valid.
const MOST_OPEN: usize = 1_000_000;
/// Friends named by an audience.
const NAMED: usize = 3;

/// Draws who does what and starts it.
pub struct Driver {
    world: Arc<World>,
    rng: ChaCha8Rng,
    /// Who may send: the numbers, and their draw.
    senders: Draw,
    actors: Draw,
    /// Groups with somebody who may send, and these.
    groups: Vec<(u32, Vec<u32>)>,
    audiences: WeightedAliasIndex<f64>,
    runtime: tokio::runtime::Handle,
    /// Sends that were not made.
    pub shed: u64,
}

struct Draw {
    people: Vec<u32>,
    by_activity: Option<WeightedAliasIndex<f64>>,
}

impl Draw {
    fn new(world: &World, may: impl Fn(usize) -> bool) -> Self {
        let people: Vec<u32> = (0..world.people.len()).filter(|person| may(*person)).map(|person| person as u32).collect();
        let weights = people.iter().map(|person| world.plan.people[*person as usize].activity.max(1e-3)).collect();
        Self { people, by_activity: WeightedAliasIndex::new(weights).ok() }
    }

    fn one(&self, rng: &mut ChaCha8Rng) -> Option<usize> {
        let place = self.by_activity.as_ref()?.sample(rng);
        Some(self.people[place] as usize)
    }
}

impl Driver {
    /// For a world whose people are connected. The same seed draws the same.
    ///
    /// # Errors
    /// The mix needs people, groups or streams that are not there.
    pub fn new(world: &Arc<World>, scenario: &scenario::Scenario, seed: u64) -> anyhow::Result<Self> {
        let people = &world.people;
        let sends = |person: usize| people[person].active && people[person].connected && !world.plan.people[person].friends.is_empty();
        let senders = Draw::new(world, sends);
        let groups: Vec<(u32, Vec<u32>)> = world
            .plan
            .groups
            .iter()
            .enumerate()
            .map(|(number, group)| (number as u32, group.everybody().filter(|member| sends(*member as usize)).collect()))
            .filter(|(_, members): &(u32, Vec<u32>)| !members.is_empty())
            .collect();
        let wanted = |operation: Operation| scenario.mix.get(&operation).is_some_and(|share| *share > 0.0);
        ensure!(!wanted(Operation::SendGroup) || !groups.is_empty(), "mix.send_group: there is no group with somebody who sends");
        ensure!(scenario.mix.is_empty() || !senders.people.is_empty(), "mix: there is nobody who is connected, active and has friends");
        let audience = &scenario.audience;
        Ok(Self {
            world: Arc::clone(world),
            rng: ChaCha8Rng::seed_from_u64(seed ^ 0xd21f_e45e),
            senders,
            actors: Draw::new(world, |person| people[person].active && !world.plan.people[person].friends.is_empty()),
            groups,
            audiences: WeightedAliasIndex::new(vec![audience.all, audience.private, audience.only, audience.except]).context("audience")?,
            runtime: tokio::runtime::Handle::current(),
            shed: 0,
        })
    }

    /// Starts one operation that is due.
    pub fn start(&mut self, operation: Operation, scheduled: u64) {
        match operation {
            Operation::SendDirect => {
                let Some(sender) = self.senders.one(&mut self.rng) else { return };
                let friend = self.friend(sender);
                self.send(sender, To::Person(friend), scheduled);
            }
            Operation::SendGroup => {
                let (group, members) = &self.groups[self.rng.random_range(0..self.groups.len())];
                let (group, sender) = (*group, members[self.rng.random_range(0..members.len())]);
                self.send(sender as usize, To::Group(group), scheduled);
            }
            Operation::Heartbeat => {
                let Some(person) = self.senders.one(&mut self.rng) else { return };
                let frames = self.world.people[person].outgoing.lock().frames.clone();
                match frames {
                    Some(frames) => _ = frames.send(device::ping(scheduled)),
                    None => self.world.recorder.fail(operation.measure(), "no stream".into()),
                }
            }
            Operation::Request => {
                let Some(asker) = self.actors.one(&mut self.rng) else { return };
                let other = self.rng.random_range(0..self.world.people.len());
                self.call(calls::request(Arc::clone(&self.world), asker, other, scheduled));
            }
            Operation::Post => {
                let Some(author) = self.actors.one(&mut self.rng) else { return };
                let audience = self.audience(author);
                let watcher = self.friend(author) as usize;
                self.call(calls::post(Arc::clone(&self.world), author, audience, watcher, scheduled));
            }
            Operation::Sync
            | Operation::MarkRead
            | Operation::ListConversations
            | Operation::Timeline
            | Operation::Like
            | Operation::Comment => {
                let Some(person) = self.actors.one(&mut self.rng) else { return };
                self.call(calls::plain(Arc::clone(&self.world), operation, person, scheduled));
            }
        }
    }

    /// The closest friends are written to the most: the place in the list is drawn with a square.
    fn friend(&mut self, person: usize) -> u32 {
        let friends = &self.world.plan.people[person].friends;
        let place = self.rng.random::<f64>().powi(2) * friends.len() as f64;
        friends[(place as usize).min(friends.len() - 1)]
    }

    fn audience(&mut self, author: usize) -> Audience {
        let kind = self.audiences.sample(&mut self.rng);
        let mut named: Vec<u32> = (0..NAMED).map(|_| self.friend(author)).collect();
        named.sort_unstable();
        named.dedup();
        match kind {
            0 => Audience::All,
            1 => Audience::Private,
            2 => Audience::Only(named),
            _ => Audience::Except(named),
        }
    }

    fn send(&mut self, sender: usize, to: To, scheduled: u64) {
        if self.world.open.load(Ordering::Relaxed) >= MOST_OPEN {
            self.shed += 1;
            return;
        }
        self.world.open.fetch_add(1, Ordering::Relaxed);
        let mut outgoing = self.world.people[sender].outgoing.lock();
        let (number, send) = (outgoing.sends.len(), Send { scheduled, to, outcome: Outcome::Open });
        outgoing.sends.push(send);
        // Without a stream it goes out with the next one; its time runs meanwhile.
        if let Some(frames) = &outgoing.frames {
            let _ = frames.send(self.world.frame(sender, number, &send));
        }
    }

    fn call(&self, call: impl Future<Output = ()> + std::marker::Send + 'static) {
        self.world.tasks.spawn_on(call, &self.runtime);
    }
}
