//! A sample of viewers against the rules of visibility, as far as the harness knows them: who posted for whom, and who is a friend of whom. What
//! a viewer is shown of this run must be exactly what they may see, each post once and newest first, with exactly the likes and comments of
//! the author and of the viewer's own friends.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use anyhow::Context;
use plaza_checker::Violation;
use plaza_client::moments;
use plaza_proto::graph::v1 as graph;
use plaza_types::limits::PAGE_MAX;
use tokio::time::Instant;

use super::{Broken, Verified, context::AROUND};
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

/// Reads the timelines of some viewers and judges them.
pub(super) async fn check(world: &World, verified: &mut Verified) -> anyhow::Result<()> {
    let mut moments = std::mem::take(&mut *world.moments.lock());
    if moments.posts.is_empty() {
        return Ok(());
    }
    let numbers: HashMap<&str, usize> = world.people.iter().zip(0..).map(|(member, number)| (&*member.identity.user_id, number)).collect();
    let step = (world.people.len() / VIEWERS).max(1);
    for viewer in (0..world.people.len()).step_by(step) {
        // Runs before this one may have made friends of people who were none.
        let contacts = contacts(world, viewer).await?;
        let others = contacts.iter().filter_map(|user_id| numbers.get(&**user_id)).filter(|other| !world.are_friends(viewer, **other));
        moments.changed.extend(others.map(|other| (viewer.min(*other) as u32, viewer.max(*other) as u32)));
        let rules = Rules { world, moments: &moments, viewer };
        let until = Instant::now() + SOON;
        let (judgements, found) = loop {
            let shown = timeline(world, viewer).await?;
            let (judgements, wrong) = rules.judge(&shown);
            // A post, a like or a comment may still be on its way.
            if wrong.is_empty() || Instant::now() > until {
                break (judgements, wrong.into_iter().map(|wrong| rules.broken(&shown, wrong)).collect::<Vec<_>>());
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        };
        verified.viewers += 1;
        verified.judgements += judgements;
        verified.violations.extend(found);
    }
    Ok(())
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

/// Something wrong with a post on a timeline.
struct Wrong {
    /// The post, by number.
    post: usize,
    what: String,
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
    fn judge(&self, shown: &[(usize, moments::Post)]) -> (usize, Vec<Wrong>) {
        let (mut judgements, mut found) = (0, Vec::new());
        let mut wrong = |post: usize, what: String| found.push(Wrong { post, what });
        let viewer = self.viewer;
        let mut seen = BTreeSet::new();
        for pair in shown.windows(2) {
            let at = |post: &moments::Post| post.created.map(|at| (at.seconds, at.nanos));
            if at(&pair[0].1) < at(&pair[1].1) {
                wrong(pair[0].0, format!("viewer {viewer}: post {} stands before the newer post {}", pair[0].0, pair[1].0));
            }
        }
        for (number, post) in shown {
            if !seen.insert(*number) {
                wrong(*number, format!("viewer {viewer}: post {number} is shown twice"));
            }
            match self.moments.posts.get(*number) {
                None => wrong(*number, format!("viewer {viewer}: post {number} was never made")),
                Some(made) if self.may_see(made) == Some(false) => {
                    wrong(*number, format!("viewer {viewer} is shown post {number} of {} for {:?}", made.author, made.audience));
                }
                Some(made) => self.participants(*number, made, post).into_iter().for_each(|what| wrong(*number, what)),
            }
        }
        for (number, made) in self.moments.posts.iter().enumerate() {
            judgements += 1;
            if made.id.is_some() && self.may_see(made) == Some(true) && !seen.contains(&number) {
                wrong(number, format!("viewer {viewer} is not shown post {number} of {} for {:?}", made.author, made.audience));
            }
        }
        (judgements, found)
    }

    /// What is wrong, with what the rules know of the post and of the timeline around it.
    fn broken(&self, shown: &[(usize, moments::Post)], Wrong { post: number, what }: Wrong) -> Broken {
        let viewer = self.viewer;
        let mut lines = Vec::new();
        if let Some(made) = self.moments.posts.get(number) {
            lines.push(format!("post {number} by user {} for {:?}, answered {:?}", made.author, made.audience, made.id));
            let author = made.author as usize;
            let is = match (author == viewer, self.is_unknown(author, viewer), self.is_friend(author)) {
                (true, _, _) => "is the author",
                (_, true, _) => "may have become a friend of the author",
                (_, _, true) => "is a friend of the author",
                _ => "is a stranger to the author",
            };
            lines.push(format!("viewer {viewer} {is}"));
            for (name, acts) in [("like", &self.moments.likes), ("comment", &self.moments.comments)] {
                lines.extend(acts.iter().filter(|(post, ..)| made.id.as_ref() == Some(post)).map(|(_, who, answered)| {
                    let friend = if self.is_friend(*who as usize) { "a friend" } else { "no friend" };
                    format!("{name} by user {who}, {friend} of the viewer, {}", if *answered { "answered" } else { "not answered" })
                }));
            }
        }
        // What is not shown would stand before the older ones.
        let at = shown.iter().position(|(other, _)| *other == number);
        let middle = at.or_else(|| shown.iter().position(|(other, _)| *other < number)).unwrap_or(shown.len());
        lines.push(format!("timeline of user {viewer}, {} posts of this run", shown.len()));
        for (place, (other, post)) in shown.iter().enumerate().skip(middle.saturating_sub(AROUND)).take(2 * AROUND + 1) {
            let mark = if *other == number { '>' } else { ' ' };
            let author = self.moments.posts.get(*other).map_or("nobody".to_owned(), |made| format!("user {}", made.author));
            lines.push(format!(
                "{mark} {:>6} post {other} by {author}, {} likes, {} comments",
                place + 1,
                post.like_count,
                post.comment_count
            ));
        }
        Broken { violation: Violation { invariant: INVARIANT, what }, around: Some(lines.join("\n")) }
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
        let wrong = Rules { world: &world, moments: &moments(), viewer: VIEWER }.judge(shown).1;
        wrong.into_iter().map(|wrong| wrong.what).collect()
    }

    #[tokio::test]
    async fn what_is_wrong_is_shown_with_its_post_and_the_timeline_around_it() {
        let world = world(5, &[(0, 1), (1, 2)]);
        let around = |shown: &[(usize, moments::Post)], words: &str| {
            let moments = moments();
            let rules = Rules { world: &world, moments: &moments, viewer: VIEWER };
            let wrong = rules.judge(shown).1.into_iter().find(|wrong| wrong.what.contains(words)).expect(words);
            rules.broken(shown, wrong).around.expect("it is known")
        };
        let text = around(&[&[shown(4, 0, 0)][..], &good()[..]].concat(), "is shown post 4");
        assert!(text.contains("post 4 by user 3 for All") && text.contains("is a stranger") && text.contains(">      1 post 4"), "{text}");
        let mut missing = good();
        missing.remove(1);
        let text = around(&missing, "is not shown post 2");
        assert!(text.contains("post 2 by user 0 for Only([1])") && text.contains("is a friend of the author"), "{text}");
        assert!(text.contains("timeline of user 1, 2 posts") && text.contains("post 5 by user 1") && !text.contains('>'), "{text}");
        let mut likes = good();
        likes[2] = shown(0, 7, 1);
        let text = around(&likes, "7 likes");
        assert!(text.contains("like by user 3, no friend of the viewer, answered") && text.contains("> "), "{text}");
        assert!(text.contains("comment by user 0, a friend of the viewer, answered") && text.contains("0 by user 0, 7 likes"), "{text}");
        let text = around(&[&good()[..], &[shown(9, 0, 0)]].concat(), "post 9 was never made");
        assert!(text.contains("post 9 by nobody") && text.contains("> "), "{text}");
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
