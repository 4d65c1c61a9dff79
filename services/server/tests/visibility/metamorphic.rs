//! What must follow when one thing changes, whatever the rules are in full: one edge removed takes exactly that person's things from the two
//! it joined, the edge put back brings all of them back, and a stranger changes nothing. Knows nothing of the model but who is a friend.

use std::collections::{BTreeMap, BTreeSet};

use plaza_testkit::wait::wait_for;
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};

use crate::{
    check::{Difference, is_part_of, refused, same},
    model::{Model, SeenNotice, SeenPost},
    step::{Act, Audience, Permissions, Who},
    system::{Refusal, System},
};

const STRANGERS_POST: usize = 2_000_000;

/// Everything that somebody is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Shown {
    timeline: Vec<SeenPost>,
    profiles: Vec<Vec<SeenPost>>,
    notices: Vec<SeenNotice>,
}

/// How two people are parted.
#[derive(Debug, Clone, Copy)]
enum Parting {
    Unfriend,
    Block,
    ChatOnly,
    HideMine,
    HideTheirs,
}

/// Parts two friends, puts them together again, and has a stranger come and a friend of one.
pub(crate) async fn check<S: System>(system: &mut S, model: &Model, seed: u64) -> Result<(), Difference> {
    let mut rng = StdRng::seed_from_u64(!seed);
    let people = 0..model.people;
    let pairs = people.clone().flat_map(|one| people.clone().map(move |other| (one, other)));
    let friends: Vec<(Who, Who)> = pairs.filter(|(one, other)| model.friends(*one, *other)).collect();
    if let Some((one, other)) = friends.choose(&mut rng).copied() {
        let partings = [Parting::Unfriend, Parting::Block, Parting::ChatOnly, Parting::HideMine, Parting::HideTheirs];
        let parting = *partings.choose(&mut rng).expect("there are some");
        part_and_meet(system, model, (one, other), parting).await?;
    }
    let friend = rng.random_range(people);
    stranger(system, model.people, friend).await
}

async fn part_and_meet<S: System>(system: &mut S, model: &Model, (one, other): (Who, Who), parting: Parting) -> Result<(), Difference> {
    let kept = model.contacts.get(&(one, other)).cloned().unwrap_or_default();
    let permitted =
        Permissions { chat_only: kept.chat_only, hide_my_moments: kept.hide_my_moments, hide_their_moments: kept.hide_their_moments };
    let before = everybody(system, model.people).await?;
    let parts = match parting {
        Parting::Unfriend => Act::Unfriend(one, other),
        Parting::Block => Act::Block(one, other),
        Parting::ChatOnly => Act::Permit(one, other, Permissions { chat_only: true, ..permitted }),
        Parting::HideMine => Act::Permit(one, other, Permissions { hide_my_moments: true, ..permitted }),
        Parting::HideTheirs => Act::Permit(one, other, Permissions { hide_their_moments: true, ..permitted }),
    };
    system.act(&parts).await.map_err(refused("the parting"))?;
    let authors = authors(&before);
    let mut expected = before.clone();
    match parting {
        Parting::Unfriend | Parting::Block => {
            expected[one].forget(other, &authors);
            expected[other].forget(one, &authors);
        }
        Parting::ChatOnly => {
            expected[one].forget_posts_of(other, &authors);
            expected[other].forget_posts_of(one, &authors);
        }
        Parting::HideMine => expected[other].forget_posts_of(one, &authors),
        Parting::HideTheirs => expected[one].forget_posts_of(other, &authors),
    }
    comes_to(system, &format!("after {parts:?}"), &expected, |_| ()).await?;

    let mends = match parting {
        // Whoever removes a contact removes what they kept about them.
        Parting::Unfriend => {
            vec![Act::Befriend(one, other), Act::Permit(one, other, permitted), Act::Tag(one, other, kept.tags.clone())]
        }
        Parting::Block => vec![Act::Unblock(one, other)],
        _ => vec![Act::Permit(one, other, permitted)],
    };
    for act in &mends {
        system.act(act).await.map_err(refused("the mending"))?;
    }
    comes_to(system, &format!("after {parts:?} and {mends:?}"), &before, |_| ()).await
}

/// Somebody comes whom nobody knows, and then becomes a friend of one person: nobody but that person sees anything new.
async fn stranger<S: System>(system: &mut S, people: usize, friend: Who) -> Result<(), Difference> {
    let before = everybody(system, people).await?;
    let stranger = system.newcomer().await.map_err(refused("the stranger"))?;
    let post = |post| Act::Post { who: stranger, post, audience: Audience::All, mentions: Vec::new() };
    system.act(&post(STRANGERS_POST)).await.map_err(refused("the stranger's post"))?;
    let own = before.iter().flat_map(|shown| &shown.timeline).map(|seen| seen.post).collect::<BTreeSet<_>>();
    for post in own {
        if system.act(&Act::Like(stranger, post)).await.is_ok() {
            return Err(format!("a stranger likes post {post}"));
        }
    }
    comes_to(system, "after a stranger came", &before, |_| ()).await?;

    system.act(&Act::Befriend(stranger, friend)).await.map_err(refused("a friendship"))?;
    for post in before[friend].timeline.iter().filter(|post| post.author == friend).map(|post| post.post) {
        // Some of them are not for this new friend.
        let _: Result<_, Refusal> = system.act(&Act::Like(stranger, post)).await;
    }
    let mut known = authors(&before);
    known.insert(STRANGERS_POST, stranger);
    let when = format!("after a stranger became a friend of {friend}");
    comes_to(system, &when, &before, |after| after[friend].forget(stranger, &known)).await
}

/// Whether all is as expected, or becomes so in a moment: what must not be shown is wrong at once. `leave_out` takes away what is not compared.
async fn comes_to<S: System>(system: &S, when: &str, expected: &[Shown], leave_out: impl Fn(&mut Vec<Shown>)) -> Result<(), Difference> {
    let attempt = || async {
        let mut got = match everybody(system, expected.len()).await {
            Ok(got) => got,
            Err(difference) => return Ok(Err(difference)),
        };
        leave_out(&mut got);
        let comes = |(expected, got): (&Shown, &Shown)| {
            is_part_of(&got.timeline, &expected.timeline)
                && is_part_of(&got.notices, &expected.notices)
                && got.profiles == expected.profiles
        };
        match same_for_all(when, expected, &got) {
            Err(difference) if expected.iter().zip(&got).all(comes) => Err(difference),
            settled => Ok(settled),
        }
    };
    wait_for(when, S::PATIENCE, attempt).await.map_err(|error| error.to_string())?
}

fn same_for_all(when: &str, expected: &[Shown], got: &[Shown]) -> Result<(), Difference> {
    for (viewer, (expected, got)) in expected.iter().zip(got).enumerate() {
        same(&format!("the timeline of {viewer} {when}"), &expected.timeline, &got.timeline)?;
        same(&format!("the posts of everybody for {viewer} {when}"), &expected.profiles, &got.profiles)?;
        same(&format!("the notices of {viewer} {when}"), &expected.notices, &got.notices)?;
    }
    Ok(())
}

async fn everybody<S: System>(system: &S, people: usize) -> Result<Vec<Shown>, Difference> {
    let mut all = Vec::new();
    for viewer in 0..people {
        let timeline = system.timeline(viewer, 200, "").await.map_err(refused("a timeline"))?.0;
        let notices = system.notices(viewer, 200, "").await.map_err(refused("notices"))?.0;
        let mut profiles = Vec::new();
        for author in 0..people {
            profiles.push(system.posts_of(viewer, author, 200, "").await.map_err(refused("a profile"))?.0);
        }
        all.push(Shown { timeline, profiles, notices });
    }
    Ok(all)
}

/// Who made which post: everybody sees their own.
fn authors(all: &[Shown]) -> BTreeMap<usize, Who> {
    all.iter().flat_map(|shown| &shown.timeline).map(|post| (post.post, post.author)).collect()
}

impl Shown {
    /// Takes away whatever is this person's: their posts, what they did on others', and what hangs on it.
    fn forget(&mut self, person: Who, authors: &BTreeMap<usize, Who>) {
        self.forget_posts_of(person, authors);
        let posts = self.timeline.iter_mut().chain(self.profiles.iter_mut().flatten());
        let mut left = BTreeSet::new();
        for post in posts {
            post.likes.retain(|by| *by != person);
            post.like_count = post.likes.len();
            let mut shown = BTreeSet::new();
            // Oldest first: what is answered is before its answers.
            post.comments.retain(|comment| {
                let stays = comment.by != person && comment.answers.is_none_or(|answered| shown.contains(&answered));
                stays && shown.insert(comment.comment)
            });
            post.comment_count = post.comments.len();
            left.extend(shown);
        }
        self.notices
            .retain(|notice| notice.actor != person && notice.comment.as_ref().is_none_or(|comment| left.contains(&comment.comment)));
    }

    fn forget_posts_of(&mut self, person: Who, authors: &BTreeMap<usize, Who>) {
        let of_person = |post: usize| authors.get(&post) == Some(&person);
        self.timeline.retain(|post| !of_person(post.post));
        self.profiles.iter_mut().for_each(|posts| posts.retain(|post| !of_person(post.post)));
        self.notices.retain(|notice| !of_person(notice.post));
    }
}
