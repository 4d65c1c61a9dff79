//! A sample of viewers against the rules of visibility, as far as the harness knows them: who posted for whom, and who is a friend of whom. What
//! a viewer is shown of this run must be exactly what they may see, each post once and newest first, with exactly the likes and comments of
//! the author and of the viewer's own friends.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use anyhow::{Context, bail};
use plaza_checker::Violation;
use plaza_client::moments;
use plaza_proto::graph::v1 as graph;
use plaza_types::limits::PAGE_MAX;
use tokio::time::Instant;

use crate::{
    api::again,
    run::{
        calls::post_number,
        people::{Audience, Moments, Post, World},
    },
};

/// Viewers whose timelines are read.
const VIEWERS: usize = 40;
/// A post is on its way for at most this.
const SOON: Duration = Duration::from_secs(30);
/// Who sees what, in the documentation's numbers.
const INVARIANT: u32 = 7;

#[derive(Default)]
pub(super) struct Seen {
    pub(super) viewers: usize,
    pub(super) judgements: usize,
    pub(super) violations: Vec<Violation>,
}

/// Reads the timelines of some viewers and judges them.
pub(super) async fn check(world: &World, stop: &AtomicBool) -> anyhow::Result<Seen> {
    let mut seen = Seen::default();
    let mut moments = std::mem::take(&mut *world.moments.lock());
    if moments.posts.is_empty() {
        return Ok(seen);
    }
    let numbers: HashMap<&str, usize> = world.people.iter().zip(0..).map(|(member, number)| (&*member.identity.user_id, number)).collect();
    let step = (world.people.len() / VIEWERS).max(1);
    for viewer in (0..world.people.len()).step_by(step) {
        if stop.load(Ordering::Relaxed) {
            bail!("stopped while timelines were checked");
        }
        // Runs before this one may have made friends of people who were none.
        let contacts = contacts(world, viewer).await?;
        let others = contacts.iter().filter_map(|user_id| numbers.get(&**user_id)).filter(|other| !world.are_friends(viewer, **other));
        moments.changed.extend(others.map(|other| (viewer.min(*other) as u32, viewer.max(*other) as u32)));
        let rules = Rules { world, moments: &moments, viewer };
        let until = Instant::now() + SOON;
        let (judgements, found) = loop {
            let (judgements, found) = rules.judge(&timeline(world, viewer).await?);
            // A post, a like or a comment may still be on its way.
            if found.is_empty() || Instant::now() > until {
                break (judgements, found);
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        };
        seen.viewers += 1;
        seen.judgements += judgements;
        seen.violations.extend(found.into_iter().map(|what| Violation { invariant: INVARIANT, what }));
    }
    Ok(seen)
}

/// The user ids of a viewer's contacts.
async fn contacts(world: &World, viewer: usize) -> anyhow::Result<Vec<String>> {
    let identity = &world.people[viewer].identity;
    identity.refresh(&world.api).await?;
    let (mut contacts, mut page_token) = (Vec::new(), String::new());
    loop {
        let page = again(|| {
            let asked = graph::ListContactsRequest { page_size: PAGE_MAX, page_token: page_token.clone() };
            async { world.api.graph().list_contacts(identity.request(asked)).await }
        });
        let page = page.await.context("listing contacts")?;
        contacts.extend(page.contacts.into_iter().map(|contact| contact.user_id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(contacts);
        }
    }
}

/// The posts of this run on a viewer's timeline, in the order shown.
async fn timeline(world: &World, viewer: usize) -> anyhow::Result<Vec<(usize, moments::Post)>> {
    let identity = &world.people[viewer].identity;
    let (mut posts, mut page_token) = (Vec::new(), String::new());
    loop {
        let page = again(|| {
            let asked = moments::ListTimelineRequest { page_size: PAGE_MAX, page_token: page_token.clone() };
            async { world.api.moments().list_timeline(identity.request(asked)).await }
        });
        let page = page.await.context("reading a timeline")?;
        let before = posts.len();
        posts.extend(page.posts.into_iter().filter_map(|post| {
            let text = post.content.as_ref().map(|content| content.text.clone())?;
            Some((post_number(world, &text)?, post))
        }));
        page_token = page.next_page_token;
        // Posts of this run are the newest: a page without any is older than all of them.
        if page_token.is_empty() || posts.len() == before {
            return Ok(posts);
        }
    }
}

struct Rules<'a> {
    world: &'a World,
    moments: &'a Moments,
    viewer: usize,
}

impl Rules<'_> {
    /// Whether nothing is known of two, because they may have become friends during the run.
    fn is_unknown(&self, one: usize, other: usize) -> bool {
        self.moments.changed.contains(&(one.min(other) as u32, one.max(other) as u32))
    }

    fn is_friend(&self, other: usize) -> bool {
        self.world.are_friends(self.viewer, other)
    }

    /// Whether the viewer may see a post; `None` where nothing is known.
    fn may_see(&self, post: &Post) -> Option<bool> {
        let author = post.author as usize;
        if author == self.viewer {
            return Some(true);
        }
        if self.is_unknown(author, self.viewer) {
            return None;
        }
        let named = |people: &[u32]| people.contains(&(self.viewer as u32));
        let admitted = match &post.audience {
            Audience::All => true,
            Audience::Private => false,
            Audience::Only(people) => named(people),
            Audience::Except(people) => !named(people),
        };
        Some(admitted && self.is_friend(author))
    }

    /// How much was judged, and what is wrong.
    fn judge(&self, shown: &[(usize, moments::Post)]) -> (usize, Vec<String>) {
        let (mut judgements, mut wrong) = (0, Vec::new());
        let viewer = self.viewer;
        let mut seen = BTreeSet::new();
        for pair in shown.windows(2) {
            let at = |post: &moments::Post| post.created.map(|at| (at.seconds, at.nanos));
            if at(&pair[0].1) < at(&pair[1].1) {
                wrong.push(format!("viewer {viewer}: post {} stands before the newer post {}", pair[0].0, pair[1].0));
            }
        }
        for (number, post) in shown {
            if !seen.insert(*number) {
                wrong.push(format!("viewer {viewer}: post {number} is shown twice"));
            }
            match self.moments.posts.get(*number) {
                None => wrong.push(format!("viewer {viewer}: post {number} was never made")),
                Some(made) if self.may_see(made) == Some(false) => {
                    wrong.push(format!("viewer {viewer} is shown post {number} of {} for {:?}", made.author, made.audience));
                }
                Some(made) => wrong.extend(self.participants(*number, made, post)),
            }
        }
        for (number, made) in self.moments.posts.iter().enumerate() {
            judgements += 1;
            if made.id.is_some() && self.may_see(made) == Some(true) && !seen.contains(&number) {
                wrong.push(format!("viewer {viewer} is not shown post {number} of {} for {:?}", made.author, made.audience));
            }
        }
        (judgements, wrong)
    }

    /// Likes and comments: of the author, of the viewer and of the viewer's friends, all that were answered and none that were never made.
    fn participants(&self, number: usize, made: &Post, shown: &moments::Post) -> Vec<String> {
        let mut wrong = Vec::new();
        let acts = |acts: &[(String, u32, bool)]| {
            let mut by: BTreeMap<u32, (u32, u32)> = BTreeMap::new();
            for (_, who, answered) in acts.iter().filter(|(post, ..)| *post == shown.post_id) {
                let (asked, sure) = by.entry(*who).or_default();
                *asked += 1;
                *sure += u32::from(*answered);
            }
            by.retain(|who, _| *who == made.author || *who as usize == self.viewer || self.is_friend(*who as usize));
            by
        };
        let unknown = |by: &BTreeMap<u32, (u32, u32)>| by.keys().any(|who| self.is_unknown(*who as usize, self.viewer));
        let hidden = |post: &str, acts: &[(String, u32, bool)]| {
            acts.iter().any(|(acted, who, _)| acted == post && self.is_unknown(*who as usize, self.viewer))
        };
        let likes = acts(&self.moments.likes);
        // Liking twice is liking once.
        let (least, most) = (likes.values().filter(|(_, sure)| *sure > 0).count() as u32, likes.len() as u32);
        if !unknown(&likes) && !hidden(&shown.post_id, &self.moments.likes) && !(least..=most).contains(&shown.like_count) {
            wrong.push(format!("viewer {}: post {number} shows {} likes, not {least} to {most}", self.viewer, shown.like_count));
        }
        let comments = acts(&self.moments.comments);
        let (least, most) = (comments.values().map(|(_, sure)| sure).sum::<u32>(), comments.values().map(|(asked, _)| asked).sum::<u32>());
        if !unknown(&comments) && !hidden(&shown.post_id, &self.moments.comments) && !(least..=most).contains(&shown.comment_count) {
            wrong.push(format!("viewer {}: post {number} shows {} comments, not {least} to {most}", self.viewer, shown.comment_count));
        }
        wrong
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::people::tests::world;

    const VIEWER: usize = 1;

    /// 0 and 1 are friends, so are 1 and 2; 3 is a stranger to 1, and 4 may have become a friend.
    fn moments() -> Moments {
        let made = |author, id: &str, audience| Post { author, id: Some(id.to_owned()), audience };
        Moments {
            posts: vec![
                made(0, "p0", Audience::All),
                made(0, "p1", Audience::Private),
                made(0, "p2", Audience::Only(vec![1])),
                made(0, "p3", Audience::Except(vec![1])),
                made(3, "p4", Audience::All),
                made(1, "p5", Audience::Private),
                made(4, "p6", Audience::All),
            ],
            likes: vec![("p0".into(), 2, true), ("p0".into(), 2, true), ("p0".into(), 3, true), ("p2".into(), 1, false)],
            comments: vec![("p0".into(), 0, true), ("p0".into(), 3, true)],
            changed: [(1, 4)].into(),
        }
    }

    fn shown(number: usize, likes: u32, comments: u32) -> (usize, moments::Post) {
        let created = plaza_client::moments::Post::default().created.unwrap_or_default();
        let created = Some(created).map(|mut at| {
            at.seconds = number as i64;
            at
        });
        let post =
            moments::Post { post_id: format!("p{number}"), like_count: likes, comment_count: comments, created, ..Default::default() };
        (number, post)
    }

    fn good() -> Vec<(usize, moments::Post)> {
        vec![shown(5, 0, 0), shown(2, 0, 0), shown(0, 1, 1)]
    }

    fn judged(shown: &[(usize, moments::Post)]) -> Vec<String> {
        let world = world(5, &[(0, 1), (1, 2)]);
        Rules { world: &world, moments: &moments(), viewer: VIEWER }.judge(shown).1
    }

    #[tokio::test]
    async fn what_may_be_seen_passes_also_where_nothing_is_known() {
        assert_eq!(judged(&good()), [""; 0]);
        let unknown = [&[shown(6, 9, 9)][..], &good()[..]].concat();
        assert!(judged(&unknown).iter().all(|wrong| !wrong.contains("is shown post 6")), "{:?}", judged(&unknown));
        let mut asked = good();
        // The own like had no answer: it may be there.
        asked[1].1.like_count = 1;
        assert_eq!(judged(&asked), [""; 0]);
    }

    #[tokio::test]
    async fn what_must_not_be_seen_and_what_is_missing_is_found() {
        for (number, words) in [(1, "is shown post 1"), (3, "is shown post 3"), (4, "is shown post 4"), (9, "never made")] {
            let planted = [&[shown(number, 0, 0)][..], &good()[..]].concat();
            assert!(judged(&planted).iter().any(|wrong| wrong.contains(words)), "{:?}", judged(&planted));
        }
        let mut missing = good();
        missing.remove(1);
        assert!(judged(&missing).iter().any(|wrong| wrong.contains("is not shown post 2")), "{:?}", judged(&missing));
        let twice = [&good()[..1], &good()[..]].concat();
        assert!(judged(&twice).iter().any(|wrong| wrong.contains("shown twice")), "{:?}", judged(&twice));
        let mut order = good();
        order.reverse();
        assert!(judged(&order).iter().any(|wrong| wrong.contains("stands before the newer")), "{:?}", judged(&order));
    }

    #[tokio::test]
    async fn likes_and_comments_of_strangers_and_lost_ones_are_found() {
        for (likes, comments, words) in [(2, 1, "2 likes"), (0, 1, "0 likes"), (1, 2, "2 comments"), (1, 0, "0 comments")] {
            let mut planted = good();
            planted[2] = shown(0, likes, comments);
            assert!(judged(&planted).iter().any(|wrong| wrong.contains(words)), "{:?}", judged(&planted));
        }
    }
}
