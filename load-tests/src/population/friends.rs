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

/// Who asks whom: whoever has asked less so far, so that nobody asks more than one may on one day. Answers also how many must be left out.
pub(super) fn asked(edges: &[(u32, u32)], people: usize) -> (Vec<(u32, u32)>, usize) {
    let mut asks = vec![0; people];
    let mut asked = Vec::with_capacity(edges.len());
    for (one, other) in edges {
        let (asker, accepter) = if asks[*one as usize] <= asks[*other as usize] { (*one, *other) } else { (*other, *one) };
        if asks[asker as usize] < REQUESTS_PER_DAY {
            asks[asker as usize] += 1;
            asked.push((asker, accepter));
        }
    }
    let left_out = edges.len() - asked.len();
    (asked, left_out)
}
