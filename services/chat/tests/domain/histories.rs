//! Any history of a group, against a model that knows nothing but who was in it when.

use std::collections::{BTreeMap, BTreeSet};

use plaza_topics::conversation as chat;
use plaza_types::{Reason, UserId};
use proptest::prelude::*;

use super::{
    groups::{group, person, single},
    world::{World, text},
};

const PEOPLE: usize = 7;

#[derive(Debug, Clone)]
enum Step {
    Send { by: usize, calls: Option<usize>, all: bool },
    Read { by: usize, at: u64 },
    Add { by: usize, whom: Vec<usize> },
    Remove { by: usize, whom: usize },
    Leave { by: usize },
    Promote { by: usize, whom: usize, admin: bool },
    Transfer { by: usize, whom: usize },
    Title { by: usize },
    Dissolve { by: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let who = || 0..PEOPLE;
    prop_oneof![
        10 => (who(), prop::option::of(who()), prop::bool::weighted(0.2)).prop_map(|(by, calls, all)| Step::Send { by, calls, all }),
        4 => (who(), 0..80u64).prop_map(|(by, at)| Step::Read { by, at }),
        4 => (who(), prop::collection::vec(who(), 1..3)).prop_map(|(by, whom)| Step::Add { by, whom }),
        2 => (who(), who()).prop_map(|(by, whom)| Step::Remove { by, whom }),
        2 => who().prop_map(|by| Step::Leave { by }),
        2 => (who(), who(), any::<bool>()).prop_map(|(by, whom, admin)| Step::Promote { by, whom, admin }),
        1 => (who(), who()).prop_map(|(by, whom)| Step::Transfer { by, whom }),
        1 => who().prop_map(|by| Step::Title { by }),
        1 => prop_oneof![9 => Just(Step::Title { by: 0 }), 1 => who().prop_map(|by| Step::Dissolve { by })],
    ]
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Role {
    Member,
    Admin,
    Owner,
}

/// What is at one place of the order.
#[derive(Debug)]
enum Place {
    Notice,
    Message { by: usize, calls: Option<usize>, all: bool },
}

#[derive(Debug, Default)]
struct Model {
    roles: BTreeMap<usize, Role>,
    dissolved: bool,
    order: Vec<Place>,
    /// By person: the places of their time, first and last; open ends are `None`.
    times: BTreeMap<usize, Vec<(u64, Option<u64>)>>,
    read: BTreeMap<usize, u64>,
}

impl Model {
    fn head(&self) -> u64 {
        self.order.len() as u64
    }

    fn enters(&mut self, who: usize) {
        self.roles.insert(who, Role::Member);
        let first = self.head() + 1;
        self.times.entry(who).or_default().push((first, None));
        let read = self.read.entry(who).or_default();
        *read = (*read).max(first - 1);
    }

    fn exits(&mut self, who: usize) {
        self.roles.remove(&who);
        let last = self.head() + 1;
        self.times.get_mut(&who).and_then(|times| times.last_mut()).expect("was in").1 = Some(last);
    }

    /// The role of somebody who is in, or why not.
    fn role(&self, who: usize) -> Result<Role, Reason> {
        let role = self.roles.get(&who).copied().ok_or(Reason::NotFound)?;
        if self.dissolved { Err(Reason::GroupDissolved) } else { Ok(role) }
    }

    fn step(&mut self, step: &Step) -> Result<(), Reason> {
        match step {
            Step::Send { by, calls, all } => {
                let role = self.role(*by)?;
                if calls.is_some_and(|calls| !self.roles.contains_key(&calls)) {
                    return Err(Reason::InvalidArgument);
                }
                if *all && role < Role::Admin {
                    return Err(Reason::RoleRequired);
                }
                self.order.push(Place::Message { by: *by, calls: *calls, all: *all });
                return Ok(());
            }
            Step::Read { by, at } => {
                let last = self.last(*by).ok_or(Reason::NotFound)?;
                let read = self.read.entry(*by).or_default();
                *read = (*read).max((*at).min(last));
                return Ok(());
            }
            Step::Add { by, whom } => {
                self.role(*by)?;
                let new: BTreeSet<usize> = whom.iter().copied().filter(|whom| !self.roles.contains_key(whom)).collect();
                if new.is_empty() {
                    return Ok(());
                }
                new.into_iter().for_each(|whom| self.enters(whom));
            }
            Step::Remove { by, whom } => {
                let role = self.role(*by)?;
                let other = self.roles.get(whom).copied();
                match other {
                    _ if by == whom => return Err(Reason::Yourself),
                    None => return Err(Reason::InvalidArgument),
                    Some(other) if role < Role::Admin || other >= role => return Err(Reason::RoleRequired),
                    Some(_) => self.exits(*whom),
                }
            }
            Step::Leave { by } => match self.role(*by)? {
                Role::Owner => return Err(Reason::OwnerStays),
                _ => self.exits(*by),
            },
            Step::Promote { by, whom, admin } => {
                let new = if *admin { Role::Admin } else { Role::Member };
                self.another(*by, *whom)?;
                if self.roles.insert(*whom, new) == Some(new) {
                    return Ok(());
                }
            }
            Step::Transfer { by, whom } => {
                self.another(*by, *whom)?;
                self.roles.insert(*by, Role::Member);
                self.roles.insert(*whom, Role::Owner);
            }
            Step::Title { by } if self.role(*by)? < Role::Admin => return Err(Reason::RoleRequired),
            Step::Title { .. } => {}
            Step::Dissolve { by } if self.role(*by)? < Role::Owner => return Err(Reason::RoleRequired),
            Step::Dissolve { .. } => self.dissolved = true,
        }
        self.order.push(Place::Notice);
        Ok(())
    }

    fn another(&self, by: usize, whom: usize) -> Result<(), Reason> {
        match self.role(by)? {
            Role::Owner if by == whom => Err(Reason::Yourself),
            Role::Owner if self.roles.contains_key(&whom) => Ok(()),
            Role::Owner => Err(Reason::InvalidArgument),
            _ => Err(Reason::RoleRequired),
        }
    }

    /// The newest place of somebody's time.
    fn last(&self, who: usize) -> Option<u64> {
        self.times.get(&who)?.last().map(|(_, last)| last.unwrap_or(self.head()))
    }

    /// A recount: unread messages, and whether one of them calls.
    fn shown(&self, who: usize) -> (u64, bool) {
        let (read, last) = (self.read[&who], self.last(who).unwrap_or_default());
        let after = self.order.iter().zip(1..).filter(|(_, sequence)| *sequence > read && *sequence <= last);
        let (mut unread, mut called) = (0, false);
        for (place, _) in after {
            if let Place::Message { by, calls, all } = place
                && *by != who
            {
                unread += 1;
                called |= *all || *calls == Some(who);
            }
        }
        (unread, called)
    }
}

impl World {
    fn step(&mut self, step: &Step, number: usize) -> Result<(), Reason> {
        match step {
            Step::Send { by, calls, all } => {
                let mentions = calls.iter().map(|calls| person(*calls).to_key()).collect();
                self.send(person(*by), group(), chat::Send { mentions, mentions_all: *all, ..text("x") }).map(|_| ())
            }
            Step::Read { by, at } => {
                let last = self.memberships.get(&(person(*by), group())).map_or(0, |membership| membership.last(self.heads[&group()]));
                self.mark_read(person(*by), group(), (*at).min(last)).map(|_| ())
            }
            Step::Add { by, whom } => {
                let whom: BTreeSet<UserId> = whom.iter().map(|whom| person(*whom)).collect();
                self.add(person(*by), whom).map(|_| ())
            }
            Step::Remove { by, whom } => self.remove(person(*by), [person(*whom)]).map(|_| ()),
            Step::Leave { by } => self.leave(person(*by)).map(|_| ()),
            Step::Promote { by, whom, admin } => self.promote(person(*by), person(*whom), *admin).map(|_| ()),
            Step::Transfer { by, whom } => self.ask(person(*by), chat::Kind::Transfer(single(person(*whom)))).map(|_| ()),
            Step::Title { by } => {
                let title = chat::Describe { title: Some(format!("title {number}")), ..chat::Describe::default() };
                self.ask(person(*by), chat::Kind::Describe(title)).map(|_| ())
            }
            Step::Dissolve { by } => self.ask(person(*by), chat::Kind::Dissolve(chat::Plain {})).map(|_| ()),
        }
    }
}

proptest! {
    #[test]
    fn everybody_hears_the_one_order_between_their_join_and_their_leave(steps in prop::collection::vec(step(), 1..120)) {
        let (mut world, mut model) = (World::default(), Model::default());
        world.create(person(0), [person(1)]).expect("made");
        [0, 1].into_iter().for_each(|who| model.enters(who));
        model.roles.insert(0, Role::Owner);
        model.order.push(Place::Notice);
        for (number, step) in steps.iter().enumerate() {
            prop_assert_eq!(world.step(step, number), model.step(step), "{:?}", step);
            prop_assert_eq!(world.heads[&group()], model.head());
            for who in model.times.keys() {
                prop_assert_eq!(world.shown(person(*who)), model.shown(*who), "{} after {:?}", who, step);
            }
        }
        for who in 0..PEOPLE {
            let times = model.times.get(&who).into_iter().flatten();
            let expected: Vec<u64> = times.flat_map(|(first, last)| *first..=last.unwrap_or(model.head())).collect();
            prop_assert_eq!(world.heard(person(who)), expected, "{}", who);
        }
        let irregular = world.announced.iter().any(|told| matches!(told, plaza_chat::domain::inbox::Announcement::Irregular(_)));
        prop_assert!(!irregular);
    }
}
