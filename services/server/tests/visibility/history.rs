//! Random histories by their seeds: a few people, mostly friends, who tag, hide, block, part and meet again while they post, like and comment,
//! and time that passes for everybody of a batch at once. And the way to a short one from a long one that fails.

use std::{collections::BTreeSet, fmt};

use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};

use crate::{
    model::Model,
    step::{Act, Audience, Permissions, Range, Step, Tag, Who},
};

/// Histories that share a clock: those of the seeds `BATCH * n` to `BATCH * (n + 1) - 1`.
pub(crate) const BATCH: u64 = 100;
/// How often time passes in a history.
const WAITS: usize = 2;
/// Between two of them.
const ACTS: std::ops::RangeInclusive<usize> = 4..=7;
const TAGS: std::ops::Range<Tag> = 0..3;
/// Days that pass at once. Five hours more pass each time, so that nothing is ever as old as a visible range is long, give or take four hours.
const DAYS: [u64; 10] = [0, 1, 2, 3, 20, 28, 29, 30, 152, 183];
const ODD_HOURS: u64 = 5;

/// What happens, from the beginning.
#[derive(Debug, Clone)]
pub(crate) struct History {
    pub(crate) seed: u64,
    pub(crate) people: usize,
    pub(crate) steps: Vec<Step>,
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "history {} of {} people", self.seed, self.people)?;
        self.steps.iter().try_for_each(|step| writeln!(f, "  {step:?}"))
    }
}

impl History {
    /// The history of a seed.
    pub(crate) fn of(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let people = *[3, 4, 4, 4, 5, 6].choose(&mut rng).expect("there are some");
        let mut writer = Writer { rng, model: Model { people, ..Model::default() }, steps: Vec::new(), posts: 0, comments: 0 };
        writer.meet();
        for hours in waits(seed / BATCH) {
            writer.write();
            writer.model.now += hours;
            writer.steps.push(Step::Wait(hours));
        }
        writer.write();
        Self { seed, people, steps: writer.steps }
    }
}

/// The hours that pass in every history of a batch.
fn waits(batch: u64) -> Vec<u64> {
    let mut rng = StdRng::seed_from_u64(!batch);
    (0..WAITS).map(|_| DAYS.choose(&mut rng).expect("there are some") * 24 + ODD_HOURS).collect()
}

struct Writer {
    rng: StdRng,
    model: Model,
    steps: Vec<Step>,
    posts: usize,
    comments: usize,
}

impl Writer {
    fn meet(&mut self) {
        for one in 0..self.model.people {
            for other in 0..one {
                if self.rng.random_bool(0.7) {
                    self.push(Act::Befriend(one, other));
                }
            }
        }
        for _ in 0..2 {
            let act = Act::Tag(self.anybody(), self.anybody(), self.some_tags());
            if self.model.can(&act) {
                self.push(act);
            }
        }
    }

    fn write(&mut self) {
        for _ in 0..self.rng.random_range(ACTS) {
            let act = self.act();
            self.push(act);
        }
    }

    fn push(&mut self, act: Act) {
        self.model.act(&act);
        let step = match self.model.posts.len() > 1 && self.rng.random_bool(0.08) {
            true => Step::While { viewer: self.anybody(), size: self.rng.random_range(1..=3), act },
            false => Step::Do(act),
        };
        self.steps.push(step);
    }

    fn act(&mut self) -> Act {
        loop {
            let act = match self.rng.random_range(0..100) {
                0..20 => self.post(),
                20..33 => Act::Like(self.anybody(), 0),
                33..36 => self.unlike(),
                36..54 => self.comment(),
                54..58 => self.delete_comment(),
                58..60 => Act::DeletePost(self.anybody(), 0),
                60..68 => self.meet_again(),
                68..75 => Act::Unfriend(self.anybody(), self.anybody()),
                75..79 => Act::Block(self.anybody(), self.anybody()),
                79..84 => self.unblock(),
                84..91 => self.permit(),
                91..97 => Act::Tag(self.anybody(), self.anybody(), self.some_tags()),
                _ => Act::Range(self.anybody(), self.range()),
            };
            let act = match act {
                Act::Like(who, _) => Act::Like(who, self.post_for(who)),
                Act::DeletePost(who, _) => Act::DeletePost(who, self.post_to_delete(who)),
                other => other,
            };
            if self.model.can(&act) {
                return act;
            }
        }
    }

    fn anybody(&mut self) -> Who {
        self.rng.random_range(0..self.model.people)
    }

    fn some_tags(&mut self) -> BTreeSet<Tag> {
        TAGS.filter(|_| self.rng.random_bool(0.4)).collect()
    }

    fn range(&mut self) -> Range {
        *[Range::ThreeDays, Range::OneMonth, Range::SixMonths, Range::All].choose(&mut self.rng).expect("there are some")
    }

    fn post(&mut self) -> Act {
        let who = self.anybody();
        let post = self.posts;
        self.posts += 1;
        let audience = match self.rng.random_range(0..10) {
            0..5 => Audience::All,
            5 => Audience::Private,
            6..8 => self.named(who, Audience::Only),
            _ => self.named(who, Audience::Except),
        };
        let contacts = self.contacts(who);
        let mentions = contacts.into_iter().filter(|_| self.rng.random_bool(0.2)).collect();
        Act::Post { who, post, audience, mentions }
    }

    fn named(&mut self, who: Who, audience: fn(Vec<Who>, Vec<Tag>) -> Audience) -> Audience {
        let people: Vec<Who> = self.contacts(who).into_iter().filter(|_| self.rng.random_bool(0.3)).collect();
        let tags: Vec<Tag> = self.model.tags_of(who).into_iter().filter(|_| self.rng.random_bool(0.5)).collect();
        match people.is_empty() && tags.is_empty() {
            true => Audience::All,
            false => audience(people, tags),
        }
    }

    fn contacts(&self, who: Who) -> Vec<Who> {
        (0..self.model.people).filter(|other| self.model.lists(who, *other)).collect()
    }

    /// Mostly one that they see; sometimes any, or one that never was.
    fn post_for(&mut self, who: Who) -> usize {
        let seen: Vec<usize> = self.model.timeline(who).iter().map(|post| post.post).collect();
        match seen.choose(&mut self.rng) {
            Some(post) if self.rng.random_bool(0.85) => *post,
            _ => self.rng.random_range(0..=self.posts),
        }
    }

    fn post_to_delete(&mut self, who: Who) -> usize {
        let own: Vec<usize> = self.model.posts_of(who, who).iter().map(|post| post.post).collect();
        match own.choose(&mut self.rng) {
            Some(post) if self.rng.random_bool(0.85) => *post,
            _ => self.rng.random_range(0..=self.posts),
        }
    }

    fn unlike(&mut self) -> Act {
        match self.model.likes.choose(&mut self.rng) {
            Some(like) if self.rng.random_bool(0.9) => Act::Unlike(like.by, like.post),
            _ => Act::Unlike(self.anybody(), self.rng.random_range(0..=self.posts)),
        }
    }

    fn comment(&mut self) -> Act {
        let who = self.anybody();
        let post = self.post_for(who);
        let comment = self.comments;
        self.comments += 1;
        let seen: Vec<usize> = self.model.comments(who, post).into_iter().flatten().map(|comment| comment.comment).collect();
        let all: Vec<usize> = self.model.comments.iter().filter(|known| known.post == post).map(|known| known.comment).collect();
        let answers = match self.rng.random_range(0..20) {
            0..8 => None,
            8..18 => seen.choose(&mut self.rng),
            _ => all.choose(&mut self.rng),
        };
        Act::Comment { who, post, comment, answers: answers.copied() }
    }

    fn delete_comment(&mut self) -> Act {
        match self.model.comments.choose(&mut self.rng) {
            Some(comment) if self.rng.random_bool(0.6) => Act::DeleteComment(comment.by, comment.comment),
            Some(comment) => Act::DeleteComment(self.rng.random_range(0..self.model.people), comment.comment),
            None => Act::DeleteComment(self.anybody(), 0),
        }
    }

    /// Two who are no friends, if there are any.
    fn meet_again(&mut self) -> Act {
        let pairs = (0..self.model.people).flat_map(|one| (0..self.model.people).map(move |other| (one, other)));
        let apart: Vec<(Who, Who)> = pairs.filter(|(one, other)| one != other && !self.model.friends(*one, *other)).collect();
        let (one, other) = apart.choose(&mut self.rng).copied().unwrap_or((0, 1));
        Act::Befriend(one, other)
    }

    fn unblock(&mut self) -> Act {
        let blocks: Vec<(Who, Who)> = self.model.blocks.iter().copied().collect();
        let (one, other) = blocks.choose(&mut self.rng).copied().unwrap_or((0, 0));
        Act::Unblock(one, other)
    }

    /// Half of the time it takes back what was set.
    fn permit(&mut self) -> Act {
        let contacts = &self.model.contacts;
        let set = contacts.iter().filter(|(_, kept)| kept.chat_only || kept.hide_my_moments || kept.hide_their_moments);
        let set: Vec<(Who, Who)> = set.map(|(pair, _)| *pair).collect();
        match set.choose(&mut self.rng) {
            Some((one, other)) if self.rng.random_bool(0.5) => Act::Permit(*one, *other, Permissions::default()),
            _ => {
                let (one, other) = (self.anybody(), self.anybody());
                let (chat_only, hide_my_moments) = (self.rng.random_bool(0.3), self.rng.random_bool(0.4));
                let permissions = Permissions { chat_only, hide_my_moments, hide_their_moments: self.rng.random_bool(0.4) };
                Act::Permit(one, other, permissions)
            }
        }
    }
}

/// The shortest history that can be had from one that fails by leaving out steps. `fails` says why one fails.
pub(crate) async fn shorten(history: &History, mut fails: impl AsyncFnMut(&History) -> bool) -> History {
    let mut shortest = history.clone();
    let mut length = shortest.steps.len().div_ceil(2);
    while length > 0 {
        let mut from = 0;
        let mut shortened = false;
        while from < shortest.steps.len() {
            let mut steps = shortest.steps.clone();
            steps.drain(from..(from + length).min(steps.len()));
            let shorter = History { steps, ..shortest.clone() };
            if fails(&shorter).await {
                (shortest, shortened) = (shorter, true);
            } else {
                from += length;
            }
        }
        // What one step needed may go once that step is gone.
        length = if shortened && length == 1 { 1 } else { length / 2 };
    }
    shortest
}
