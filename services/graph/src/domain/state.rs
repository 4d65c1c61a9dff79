//! What one user's decisions depend on.

use std::collections::{BTreeMap, BTreeSet};

use plaza_topics::conversation::Side;
use plaza_types::{
    UserId,
    limits::{DAY, REQUEST_EXPIRY, TAGS},
};

use super::{
    UNANSWERED_MEMORY,
    row::{Contact, Permissions, is_open},
};

/// One user's edges, requests and counters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// Changes of `listed` or `blocked` over all edges: the version of the edge that changed last.
    pub changes: u64,
    /// The day (UTC, counted from the epoch) that `asked_today` is about.
    pub day: u64,
    /// New requests sent on that day.
    pub asked_today: u32,
    /// Everybody listed or blocked, nobody else.
    pub edges: BTreeMap<UserId, Edge>,
    /// Requests sent and not accepted; expired ones too, for a while.
    pub sent: BTreeMap<UserId, Sent>,
    /// When each request was sent that waits for this user's answer, microseconds. Nobody listed or blocked is in it.
    pub received: BTreeMap<UserId, u64>,
    /// The tags in use by their numbers in the edges.
    pub tags: BTreeMap<u32, String>,
}

/// How the user stands to one other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Edge {
    /// In the list.
    pub listed: bool,
    /// Blocked.
    pub blocked: bool,
    /// `State::changes` when one of the two changed last. It only grows, over an edge that was forgotten in between too.
    pub version: u64,
    /// Since when in the list, microseconds.
    pub since: u64,
    /// Starred.
    pub starred: bool,
    /// What is allowed.
    pub permissions: Permissions,
    /// Numbers of tags.
    pub tags: Vec<u32>,
}

/// A request sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// When last, microseconds.
    pub time: u64,
    /// How often since the person last became a contact.
    pub unanswered: u32,
}

/// More different tags than a user may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooManyTags;

impl State {
    /// Whether the other is in the list.
    #[must_use]
    pub fn lists(&self, other: UserId) -> bool {
        self.edges.get(&other).is_some_and(|edge| edge.listed)
    }

    /// Whether the other is blocked.
    #[must_use]
    pub fn blocks(&self, other: UserId) -> bool {
        self.edges.get(&other).is_some_and(|edge| edge.blocked)
    }

    /// How many are in the list.
    #[must_use]
    pub fn contacts(&self) -> usize {
        self.edges.values().filter(|edge| edge.listed).count()
    }

    /// How many are blocked.
    #[must_use]
    pub fn blocked(&self) -> usize {
        self.edges.values().filter(|edge| edge.blocked).count()
    }

    /// Requests sent that wait for an answer at this time.
    #[must_use]
    pub fn pending(&self, now: u64) -> usize {
        self.sent.values().filter(|sent| is_open(sent.time, now)).count()
    }

    /// Whether a request of the other waits for an answer at this time.
    #[must_use]
    pub fn is_asked_by(&self, other: UserId, now: u64) -> bool {
        self.received.get(&other).is_some_and(|sent| is_open(*sent, now))
    }

    /// Changes whether the other is listed and blocked, and says how the user stands to them then; `None` when nothing changed.
    pub fn set(&mut self, owner: UserId, other: UserId, change: impl FnOnce(&mut Edge)) -> Option<Side> {
        let edge = self.edges.entry(other).or_default();
        let before = (edge.listed, edge.blocked);
        change(edge);
        let changed = before != (edge.listed, edge.blocked);
        if changed {
            self.changes += 1;
            edge.version = self.changes;
        }
        let side = side(owner, other, edge);
        if !edge.listed && !edge.blocked {
            self.edges.remove(&other);
        }
        changed.then_some(side)
    }

    /// How the user stands to somebody listed or blocked.
    #[must_use]
    pub fn side(&self, owner: UserId, other: UserId) -> Option<Side> {
        self.edges.get(&other).map(|edge| side(owner, other, edge))
    }

    /// The row of somebody in the list.
    #[must_use]
    pub fn contact(&self, owner: UserId, other: UserId) -> Option<Contact> {
        let edge = self.edges.get(&other).filter(|edge| edge.listed)?;
        Some(Contact {
            owner,
            other,
            listed: true,
            since: edge.since,
            starred: edge.starred,
            permissions: edge.permissions,
            tags: edge.tags.iter().filter_map(|tag| self.tags.get(tag).cloned()).collect(),
        })
    }

    /// Puts these tags and no others on a contact; nothing for somebody who is none.
    ///
    /// # Errors
    /// The user would have too many different ones; nothing changed.
    pub fn set_tags(&mut self, other: UserId, names: &[String]) -> Result<(), TooManyTags> {
        let elsewhere: BTreeSet<u32> =
            self.edges.iter().filter(|(user, _)| **user != other).flat_map(|(_, edge)| edge.tags.iter().copied()).collect();
        let mut tags: BTreeMap<u32, String> =
            self.tags.iter().filter(|(tag, _)| elsewhere.contains(tag)).map(|(tag, name)| (*tag, name.clone())).collect();
        let mut chosen = Vec::with_capacity(names.len());
        for name in names {
            let known = tags.iter().find(|(_, known)| *known == name).map(|(tag, _)| *tag);
            // The table is never full: it has far fewer entries than there are numbers.
            let Some(tag) = known.or_else(|| (0..u32::MAX).find(|tag| !tags.contains_key(tag))) else { continue };
            tags.insert(tag, name.clone());
            chosen.push(tag);
        }
        if tags.len() > TAGS {
            return Err(TooManyTags);
        }
        if let Some(edge) = self.edges.get_mut(&other).filter(|edge| edge.listed) {
            edge.tags = chosen;
            self.tags = tags;
        }
        Ok(())
    }

    /// Forgets requests that no decision depends on any more.
    pub fn prune(&mut self, now: u64) {
        self.received.retain(|_, sent| is_open(*sent, now));
        self.sent.retain(|_, sent| now < sent.time.saturating_add(REQUEST_EXPIRY + UNANSWERED_MEMORY));
    }

    /// New requests sent on the day of this time.
    pub fn asked_on(&mut self, now: u64) -> &mut u32 {
        if self.day != now / DAY {
            self.day = now / DAY;
            self.asked_today = 0;
        }
        &mut self.asked_today
    }
}

fn side(owner: UserId, other: UserId, edge: &Edge) -> Side {
    Side { user: owner.to_key(), other: other.to_key(), version: edge.version, lists: edge.listed, blocks: edge.blocked }
}
