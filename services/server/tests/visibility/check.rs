//! Plays a history on a system and on the model at once, and compares what everybody is shown. Whatever somebody did holds for the next read
//! of anybody, but for one thing: a post may take a moment on its way into timelines, and a notice on its way to whom it tells. What must
//! not be shown is never waited for.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    hash::{DefaultHasher, Hash, Hasher},
};

use plaza_testkit::wait::wait_for;
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};

use crate::{
    history::History,
    metamorphic,
    model::{Answer, Hint, Model, SeenNotice, SeenPost},
    step::{Act, Step, Who},
    system::{Page, Refusal, System},
};

/// What nobody ever made.
const UNMADE: usize = 1_000_000;
/// A list that does not end.
const ENDLESS: usize = 1_000;

/// Everything that a list shows, read page by page.
macro_rules! pages {
    ($what:expr, $size:expr, from $from:expr, $token:ident => $page:expr) => {{
        let mut pages = Pages { shown: Vec::new(), size: $size, token: $from };
        while {
            let $token = std::mem::take(&mut pages.token);
            pages.add(&$what, $page.await)?
        } {}
        pages.shown
    }};
}

/// Why a history is not as the model says.
pub(crate) type Difference = String;

/// A history being played.
pub(crate) struct Player<S> {
    pub(crate) system: S,
    pub(crate) model: Model,
    seed: u64,
    rng: StdRng,
    /// What each was to be told at some time.
    told: Vec<Vec<Hint>>,
    /// How each kind of call is refused about what does not exist.
    missing: BTreeMap<&'static str, Refusal>,
}

impl<S: System> Player<S> {
    pub(crate) fn new(system: S, history: &History) -> Self {
        let model = Model { people: history.people, ..Model::default() };
        let (seed, rng) = (history.seed, StdRng::seed_from_u64(history.seed));
        Self { system, model, seed, rng, told: vec![Vec::new(); history.people], missing: BTreeMap::new() }
    }

    /// Does one step and looks at what it may have changed.
    pub(crate) async fn step(&mut self, step: &Step) -> Result<(), Difference> {
        // What is looked at follows from the step alone, so that it stays the same when others are left out.
        let mut hasher = DefaultHasher::new();
        (self.seed, step, self.model.now).hash(&mut hasher);
        self.rng = StdRng::seed_from_u64(hasher.finish());
        match step {
            Step::Do(act) => {
                self.act(act).await?;
                if let Act::Range(..) | Act::DeletePost(..) | Act::DeleteComment(..) = act {
                    let viewer = self.rng.random_range(0..self.model.people);
                    self.timeline(viewer, 50).await?;
                }
                if let Act::Befriend(one, other)
                | Act::Unfriend(one, other)
                | Act::Block(one, other)
                | Act::Unblock(one, other)
                | Act::Permit(one, other, _)
                | Act::Tag(one, other, _) = act
                    && !self.model.posts.is_empty()
                {
                    self.timeline(*one, 50).await?;
                    self.timeline(*other, 50).await?;
                }
            }
            Step::While { viewer, size, act } => self.act_while_reading(*viewer, *size, act).await?,
            // The clock is moved by whoever plays the history.
            Step::Wait(hours) => {
                self.model.now += hours;
                let viewer = self.rng.random_range(0..self.model.people);
                self.viewer(viewer).await?;
            }
        }
        Ok(())
    }

    /// What must follow from a few more changes, see [`metamorphic`]. The model knows nothing of them.
    pub(crate) async fn changes(&mut self, seed: u64) -> Result<(), Difference> {
        metamorphic::check(&mut self.system, &self.model, seed).await
    }

    /// What everybody is shown, in every way.
    pub(crate) async fn everybody(&mut self) -> Result<(), Difference> {
        for viewer in 0..self.model.people {
            self.rng = StdRng::seed_from_u64(self.seed + viewer as u64);
            self.viewer(viewer).await?;
        }
        Ok(())
    }

    async fn act(&mut self, act: &Act) -> Result<(), Difference> {
        if !self.model.can(act) {
            return Ok(());
        }
        let answer = self.model.act(act);
        for viewer in 0..self.model.people {
            self.told[viewer].extend(self.model.notices(viewer).iter().map(SeenNotice::hint));
        }
        let refused_as = if answer == Answer::Missing { Some(self.refused_as_missing(act).await?) } else { None };
        match (answer, self.system.act(act).await) {
            (Answer::Done, Ok(shown)) => {
                let expected = match *act {
                    Act::Post { who, post, .. } | Act::Like(who, post) | Act::Unlike(who, post) => self.model.get(who, post),
                    _ => None,
                };
                same(&format!("the answer to {act:?}"), &expected, &shown)
            }
            (Answer::Missing, Err(refusal)) => same(&format!("the refusal of {act:?}"), &refused_as, &Some(refusal)),
            (Answer::NotTheirs, Err(_)) => Ok(()),
            (expected, got) => Err(format!("{act:?}: expected {expected:?}, got {got:?}")),
        }
    }

    /// How an act is refused that is about nothing: tried with a number that was never given.
    async fn refused_as_missing(&mut self, act: &Act) -> Result<Refusal, Difference> {
        let (kind, unmade) = match *act {
            Act::DeletePost(who, _) => ("delete a post", Act::DeletePost(who, UNMADE)),
            Act::Like(who, _) => ("like", Act::Like(who, UNMADE)),
            Act::Unlike(who, _) => ("unlike", Act::Unlike(who, UNMADE)),
            Act::DeleteComment(who, _) => ("delete a comment", Act::DeleteComment(who, UNMADE)),
            Act::Comment { who, post, answers: Some(_), .. } if self.model.get(who, post).is_some() => {
                ("answer", Act::Comment { who, post, comment: UNMADE, answers: Some(UNMADE) })
            }
            Act::Comment { who, .. } => ("comment", Act::Comment { who, post: UNMADE, comment: UNMADE, answers: None }),
            _ => return Err(format!("{act:?} cannot be about what is missing")),
        };
        if let Some(refusal) = self.missing.get(kind) {
            return Ok(refusal.clone());
        }
        match self.system.act(&unmade).await {
            Ok(_) => Err(format!("{unmade:?} was done")),
            Err(refusal) => Ok(self.missing.entry(kind).or_insert(refusal).clone()),
        }
    }

    /// Pages that were not read yet show what is visible now, of what is older than what was read.
    async fn act_while_reading(&mut self, viewer: Who, size: u32, act: &Act) -> Result<(), Difference> {
        self.timeline(viewer, size).await?;
        let before = self.model.timeline(viewer);
        let (first, token) = self.system.timeline(viewer, size, "").await.map_err(refused("the first page"))?;
        same("the first page", &before[..before.len().min(size as usize)], &first)?;
        self.act(act).await?;
        let Some(last) = first.last().filter(|_| !token.is_empty()) else { return Ok(()) };
        let rest: Vec<SeenPost> = self.model.timeline(viewer).into_iter().filter(|post| post.post < last.post).collect();
        let what = format!("the timeline of {viewer} after its first page of {size}, {act:?} in between");
        let read = || async { Ok(pages!(what, size, from token.clone(), next => self.system.timeline(viewer, size, &next))) };
        shows::<_, S, _>(&what, &rest, read).await
    }

    async fn viewer(&mut self, viewer: Who) -> Result<(), Difference> {
        self.try_unseen(viewer).await?;
        let size = self.page_size();
        self.timeline(viewer, size).await?;
        self.profiles(viewer).await?;
        self.single_posts(viewer).await?;
        self.notices(viewer).await
    }

    async fn timeline(&mut self, viewer: Who, size: u32) -> Result<(), Difference> {
        let what = format!("the timeline of {viewer} in pages of {size}");
        let read = || async { Ok(pages!(what, size, from String::new(), token => self.system.timeline(viewer, size, &token))) };
        shows::<_, S, _>(&what, &self.model.timeline(viewer), read).await
    }

    /// Of an author, and of somebody who does not exist.
    async fn profiles(&mut self, viewer: Who) -> Result<(), Difference> {
        for author in [self.rng.random_range(0..self.model.people), UNMADE] {
            let size = self.page_size();
            let what = format!("the posts of {author} for {viewer} in pages of {size}");
            let shown = pages!(what, size, from String::new(), token => self.system.posts_of(viewer, author, size, &token));
            same(&what, &self.model.posts_of(viewer, author), &shown)?;
        }
        Ok(())
    }

    /// One that is seen and one that is not. What is seen was in the timeline already.
    async fn single_posts(&mut self, viewer: Who) -> Result<(), Difference> {
        let (seen, unseen): (Vec<usize>, Vec<usize>) =
            self.model.posts.iter().map(|post| post.post).partition(|post| self.model.get(viewer, *post).is_some());
        if let Some(post) = seen.choose(&mut self.rng).copied() {
            let what = format!("post {post} for {viewer}");
            same(&what, &Ok(self.model.get(viewer, post)), &self.system.get(viewer, post).await.map(Some))?;
            let size = self.page_size();
            let what = format!("the comments on post {post} for {viewer} in pages of {size}");
            let shown = pages!(what, size, from String::new(), token => self.system.comments(viewer, post, size, &token));
            same(&what, &self.model.comments(viewer, post), &Some(shown))?;
        }
        if let Some(post) = unseen.choose(&mut self.rng).copied() {
            let no_post = self.system.get(viewer, UNMADE).await;
            same(&format!("post {post} for {viewer}, who must not see it"), &no_post, &self.system.get(viewer, post).await)?;
            let no_comments = self.system.comments(viewer, UNMADE, 50, "").await;
            let what = format!("the comments on post {post} for {viewer}, who must not see it");
            same(&what, &no_comments, &self.system.comments(viewer, post, 50, "").await)?;
            if no_post.is_ok() || no_comments.is_ok() {
                return Err("an unmade post was shown".to_owned());
            }
        }
        Ok(())
    }

    fn page_size(&mut self) -> u32 {
        *[1, 2, 3, 50, 50].choose(&mut self.rng).expect("there are some")
    }

    async fn notices(&mut self, viewer: Who) -> Result<(), Difference> {
        let size = self.page_size();
        let what = format!("the notices of {viewer} in pages of {size}");
        let read = || async { Ok(pages!(what, size, from String::new(), token => self.system.notices(viewer, size, &token))) };
        shows::<_, S, _>(&what, &self.model.notices(viewer), read).await?;
        // A hint is given once, when the act is done, or not at all.
        let hints = self.system.hints(viewer).map_err(refused("hints"))?;
        match hints.iter().find(|hint| !self.told[viewer].contains(hint)) {
            Some(hint) => Err(format!("the devices of {viewer} were told what {viewer} could never see: {hint:?}")),
            None => Ok(()),
        }
    }

    /// Doing something about what one does not see is refused as if it did not exist. That it changed nothing shows in what is seen next.
    async fn try_unseen(&mut self, viewer: Who) -> Result<(), Difference> {
        let unseen: Vec<usize> =
            self.model.posts.iter().map(|post| post.post).filter(|post| self.model.get(viewer, *post).is_none()).collect();
        if let Some(post) = unseen.choose(&mut self.rng).copied() {
            let comment = UNMADE + 1;
            let acts = [
                Act::Like(viewer, post),
                Act::Unlike(viewer, post),
                Act::Comment { who: viewer, post, comment, answers: None },
                Act::DeletePost(viewer, post),
            ];
            let act = acts.choose(&mut self.rng).expect("there are some").clone();
            self.act(&act).await?;
        }
        let seen = |model: &Model, post| model.comments(viewer, post).unwrap_or_default().into_iter().map(|shown| shown.comment);
        let comments = self.model.comments.iter().map(|comment| (comment.comment, comment.post));
        let unseen: Vec<_> = comments.filter(|(comment, post)| !seen(&self.model, *post).any(|seen| seen == *comment)).collect();
        if let Some((comment, post)) = unseen.choose(&mut self.rng).copied() {
            let answer = Act::Comment { who: viewer, post, comment: UNMADE + 1, answers: Some(comment) };
            let acts = [Act::DeleteComment(viewer, comment), answer];
            let act = acts.choose(&mut self.rng).expect("there are some").clone();
            self.act(&act).await?;
        }
        Ok(())
    }
}

/// A list read page by page, from a token to its end.
struct Pages<T> {
    shown: Vec<T>,
    size: u32,
    token: String,
}

impl<T: Debug> Pages<T> {
    /// Adds a page; says whether there is another.
    fn add(&mut self, what: &str, page: Result<Page<T>, Refusal>) -> Result<bool, Difference> {
        let (shown, token) = page.map_err(refused(what))?;
        let full = shown.len() == self.size as usize;
        if shown.len() > self.size as usize || (!token.is_empty() && !full) {
            return Err(format!("{what}: a page of {} that says {}", shown.len(), if token.is_empty() { "the end" } else { "go on" }));
        }
        self.shown.extend(shown);
        if self.shown.len() > ENDLESS {
            return Err(format!("{what}: no end"));
        }
        self.token = token;
        Ok(!self.token.is_empty())
    }
}

pub(crate) fn refused(what: &str) -> impl FnOnce(Refusal) -> Difference {
    move |refusal| format!("{what}: refused with {refusal:?}")
}

/// Whether a list is as expected, or becomes so in a moment. One that shows what it must not is wrong at once.
pub(crate) async fn shows<T: PartialEq + Debug, S: System, F: Future<Output = Result<Vec<T>, Difference>>>(
    what: &str,
    expected: &[T],
    read: impl Fn() -> F,
) -> Result<(), Difference> {
    let attempt = || async {
        let difference = match read().await {
            Ok(got) => same(what, expected, &got).map_err(|difference| (difference, is_part_of(&got, expected))),
            Err(difference) => Err((difference, false)),
        };
        match difference {
            Err((difference, true)) => Err(difference),
            Err((difference, false)) => Ok(Err(difference)),
            Ok(()) => Ok(Ok(())),
        }
    };
    wait_for(what, S::PATIENCE, attempt).await.map_err(|error| error.to_string())?
}

/// Whether the one list is the other with some left out.
pub(crate) fn is_part_of<T: PartialEq>(some: &[T], all: &[T]) -> bool {
    let mut rest = all.iter();
    some.iter().all(|one| rest.any(|other| other == one))
}

/// Whether what was got is what was expected.
pub(crate) fn same<T: PartialEq + Debug + ?Sized>(what: &str, expected: &T, got: &T) -> Result<(), Difference> {
    if expected == got { Ok(()) } else { Err(format!("{what}\n  expected {expected:?}\n  got      {got:?}")) }
}
