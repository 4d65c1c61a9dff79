//! Who is whose friend: clusters of people who are alike, as LDBC's generator makes them. People are put into a row three times, by place, by
//! interest, and at random, and meet those who stand close to them in it; 45, 45 and 10 % of everybody's friends come from each row.

use std::collections::HashSet;

use plaza_types::limits::REQUESTS_PER_DAY;
use rand::{Rng, seq::SliceRandom};

use crate::scenario::Population;

/// Whom somebody meets gets less likely by this with each step along the row, down to a floor.
const NEXT: f64 = 0.95;
const FLOOR: f64 = 0.2;
/// People of one place in the mean.
const PLACE: usize = 100;

/// Where everybody lives. Places differ in size.
pub(super) fn places(people: usize, rng: &mut impl Rng) -> Vec<u32> {
    let places = (people / PLACE).max(1) as f64;
    // Half as many again live in the first half of the places.
    (0..people).map(|_| (rng.random::<f64>().powf(1.3) * places) as u32).collect()
}

/// The friendships, each once, the lower number first.
pub(super) fn edges(degrees: &[usize], places: &[u32], population: &Population, rng: &mut impl Rng) -> Vec<(u32, u32)> {
    let mut meeting = Meeting { edges: Vec::new(), known: HashSet::new(), left: degrees.to_vec() };
    meeting.hubs(population, rng);
    let mut row: Vec<u32> = (0..degrees.len() as u32).collect();
    let rest = meeting.left.clone();
    for part in [0.45, 0.9, 1.0] {
        row.shuffle(rng);
        if part < 0.5 {
            row.sort_by_key(|person| places[*person as usize]);
        }
        // What one row could not give is left to the next.
        let quota: Vec<usize> =
            rest.iter().zip(&meeting.left).map(|(rest, left)| left.saturating_sub((*rest as f64 * (1.0 - part)) as usize)).collect();
        meeting.row(&row, quota, rng);
    }
    meeting.edges
}

struct Meeting {
    edges: Vec<(u32, u32)>,
    known: HashSet<(u32, u32)>,
    left: Vec<usize>,
}

impl Meeting {
    fn meet(&mut self, one: u32, other: u32) -> bool {
        let pair = (one.min(other), one.max(other));
        if !self.known.insert(pair) {
            return false;
        }
        self.edges.push(pair);
        for person in [one, other] {
            self.left[person as usize] = self.left[person as usize].saturating_sub(1);
        }
        true
    }

    /// Hubs meet anybody, those who want no more friends too: their number is set.
    fn hubs(&mut self, population: &Population, rng: &mut impl Rng) {
        let mut others: Vec<u32> = (0..population.people as u32).collect();
        for hub in 0..population.hubs as u32 {
            others.shuffle(rng);
            let mut others = others.iter().filter(|other| **other != hub);
            while self.left[hub as usize] > 0
                && let Some(other) = others.next()
            {
                self.meet(hub, *other);
            }
        }
    }

    fn row(&mut self, row: &[u32], mut quota: Vec<usize>, rng: &mut impl Rng) {
        for (place, person) in row.iter().enumerate() {
            let mut chance: f64 = 1.0;
            for other in &row[place + 1..] {
                if quota[*person as usize] == 0 {
                    break;
                }
                chance = (chance * NEXT).max(FLOOR);
                if quota[*other as usize] > 0 && rng.random_bool(chance) && self.meet(*person, *other) {
                    quota[*person as usize] -= 1;
                    quota[*other as usize] -= 1;
                }
            }
        }
    }
}

/// Who asks whom, so that nobody asks more than one may on so many days: whoever has asked less so far, and where both may ask no more, the friends of
/// one of them take over. As many friendships as can be asked for at all are, and the rest is left out; it is answered how many that are.
pub(super) fn asked(edges: &[(u32, u32)], people: usize, days: usize) -> (Vec<(u32, u32)>, usize) {
    let mut asking = Asking {
        most: REQUESTS_PER_DAY * days,
        edges,
        askers: vec![None; edges.len()],
        asks: vec![Vec::new(); people],
        stuck: vec![false; people],
        seen: vec![0; people],
        search: 0,
    };
    for (number, (one, other)) in edges.iter().enumerate() {
        let asked = |person: &u32| asking.asks[*person as usize].len();
        let [first, second] = if asked(one) <= asked(other) { [*one, *other] } else { [*other, *one] };
        if asking.has_room(first) || asking.finds_room(first) {
            asking.ask(number, first);
        } else if asking.has_room(second) || asking.finds_room(second) {
            asking.ask(number, second);
        }
    }
    let asked: Vec<_> = (0..edges.len()).filter_map(|number| Some((asking.askers[number]?, asking.accepter(number)?))).collect();
    let left_out = edges.len() - asked.len();
    (asked, left_out)
}

/// A flow in which each person asks at most so often. Who asks for a friendship is turned round along a path to somebody who may ask
/// more; so nothing that was asked for is ever given up.
struct Asking<'a> {
    most: usize,
    edges: &'a [(u32, u32)],
    /// Who asks, by the number of the friendship.
    askers: Vec<Option<u32>>,
    /// The numbers of the friendships that each person asks for.
    asks: Vec<Vec<u32>>,
    /// Who asks all that they may, as do all whom they ask, and those in turn: nothing will change that, so nobody searches there again.
    stuck: Vec<bool>,
    /// In which search each person was last met.
    seen: Vec<u32>,
    search: u32,
}

impl Asking<'_> {
    fn has_room(&self, person: u32) -> bool {
        self.asks[person as usize].len() < self.most
    }

    fn accepter(&self, number: usize) -> Option<u32> {
        let (one, other) = self.edges[number];
        self.askers[number].map(|asker| if asker == one { other } else { one })
    }

    fn ask(&mut self, number: usize, person: u32) {
        if let Some(before) = self.askers[number].replace(person) {
            self.asks[before as usize].retain(|asked| *asked as usize != number);
        }
        self.asks[person as usize].push(number as u32);
    }

    /// Lets somebody whom this person asks ask instead, or those whom that one asks, and so on: the shortest way.
    fn finds_room(&mut self, person: u32) -> bool {
        if self.stuck[person as usize] {
            return false;
        }
        self.search += 1;
        self.seen[person as usize] = self.search;
        // Who was met, by which friendship, and the place of who asks for it.
        let mut met: Vec<(u32, usize, usize)> = vec![(person, 0, 0)];
        let mut place = 0;
        while place < met.len() {
            for number in self.asks[met[place].0 as usize].clone() {
                let Some(other) = self.accepter(number as usize) else { continue };
                if self.stuck[other as usize] || self.seen[other as usize] == self.search {
                    continue;
                }
                self.seen[other as usize] = self.search;
                met.push((other, number as usize, place));
                if self.has_room(other) {
                    let mut last = met.len() - 1;
                    while last > 0 {
                        let (taker, number, before) = met[last];
                        self.ask(number, taker);
                        last = before;
                    }
                    return true;
                }
            }
            place += 1;
        }
        for (person, ..) in met {
            self.stuck[person as usize] = true;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everybody knows everybody.
    fn all_pairs(people: u32) -> Vec<(u32, u32)> {
        (0..people).flat_map(|one| (one + 1..people).map(move |other| (one, other))).collect()
    }

    fn most_asked(asked: &[(u32, u32)], people: usize) -> usize {
        let mut asks = vec![0; people];
        for (asker, _) in asked {
            asks[*asker as usize] += 1;
        }
        asks.into_iter().max().unwrap_or_default()
    }

    #[test]
    fn nothing_is_left_out_where_everybody_has_at_most_twice_the_limit_of_friends() {
        // 100 friends each: all of them ask 50 times, exactly, whatever the order is in which they meet.
        let mut edges = all_pairs(101);
        for turn in 0..4 {
            edges.rotate_left(1_237 * turn);
            let (asked, left_out) = asked(&edges, 101, 1);
            assert_eq!((asked.len(), left_out, most_asked(&asked, 101)), (5_050, 0, REQUESTS_PER_DAY), "{turn}");
        }
    }

    #[test]
    fn only_what_nobody_may_ask_for_is_left_out() {
        let edges = all_pairs(150);
        let (on_one_day, left_out) = asked(&edges, 150, 1);
        assert_eq!((on_one_day.len(), left_out), (150 * REQUESTS_PER_DAY, edges.len() - 150 * REQUESTS_PER_DAY));
        assert_eq!(most_asked(&on_one_day, 150), REQUESTS_PER_DAY);
        assert_eq!(asked(&edges, 150, 2).1, 0);
    }
}
