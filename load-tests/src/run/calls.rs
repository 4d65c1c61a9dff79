//! Operations that are calls of their own: made once, with the time they were due, and noted for the checker.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use plaza_client::{chat, graph, moments, new_id};
use tonic::{Response, Status};

use super::people::{Audience, Post, World};
use crate::{
    api::failure,
    operation::{Measure, Operation},
    population::prepare,
};

/// Entries that a sync asks for again from those it has, and at most.
const BEHIND: u64 = 20;
const PAGE: u32 = 50;
/// Posts of a page of the timeline.
const POSTS: u32 = 20;
/// One post in so many is waited for.
const WATCHED: usize = 8;
const LOOK_EVERY: Duration = Duration::from_millis(20);
const LOOK_FOR: Duration = Duration::from_secs(30);

/// Records the answer to what was due at `scheduled`.
fn answered<T>(world: &World, measure: Measure, scheduled: u64, answer: Result<Response<T>, Status>) -> Option<T> {
    match answer {
        Ok(answer) => {
            world.recorder.answer(measure, scheduled);
            Some(answer.into_inner())
        }
        Err(status) => {
            world.recorder.fail(measure, failure(&status));
            None
        }
    }
}

/// A call that needs only its caller.
pub async fn plain(world: Arc<World>, operation: Operation, person: usize, scheduled: u64) {
    let member = &world.people[person];
    let measure = operation.measure();
    match operation {
        Operation::Sync => {
            let cursor = member.shown.lock().cursor.saturating_sub(BEHIND);
            let asked = member.identity.request(chat::SyncRequest { cursor, page_size: PAGE });
            let answer = world.api.chat().sync(asked).await;
            answered(&world, measure, scheduled, answer);
        }
        Operation::ListConversations => {
            let asked = member.identity.request(chat::ListConversationsRequest { page_size: PAGE, page_token: String::new() });
            let answer = world.api.chat().list_conversations(asked).await;
            answered(&world, measure, scheduled, answer);
        }
        Operation::MarkRead => mark_read(&world, person, scheduled).await,
        Operation::Like => like(&world, person, scheduled).await,
        Operation::Comment => comment(&world, person, scheduled).await,
        _ => timeline(&world, person, scheduled).await,
    }
}

async fn mark_read(world: &World, person: usize, scheduled: u64) {
    let member = &world.people[person];
    let Some((conversation, sequence)) = member.shown.lock().newest.clone() else {
        // Who was shown nothing looks at the list instead.
        let asked = member.identity.request(chat::ListConversationsRequest { page_size: PAGE, page_token: String::new() });
        let answer = world.api.chat().list_conversations(asked).await;
        answered(world, Measure::ListConversations, scheduled, answer);
        return;
    };
    let reads = |asked: u64, answered: u64| {
        let mut shown = member.shown.lock();
        let (most_asked, most_answered) = shown.reads.entry(conversation.clone()).or_default();
        *most_asked = asked.max(*most_asked);
        *most_answered = answered.max(*most_answered);
    };
    reads(sequence, 0);
    let mark = chat::MarkReadRequest { conversation_id: conversation.clone(), sequence, request_id: new_id() };
    let answer = world.api.chat().mark_read(member.identity.request(mark)).await;
    if let Some(answer) = answered(world, Measure::MarkRead, scheduled, answer) {
        reads(0, answer.read);
    }
}

async fn timeline(world: &World, person: usize, scheduled: u64) {
    let member = &world.people[person];
    let asked = member.identity.request(moments::ListTimelineRequest { page_size: POSTS, page_token: String::new() });
    let answer = world.api.moments().list_timeline(asked).await;
    if let Some(page) = answered(world, Measure::Timeline, scheduled, answer) {
        member.shown.lock().posts = page.posts.into_iter().map(|post| post.post_id).collect();
    }
}

/// A post that somebody was shown; who was shown none looks at the timeline instead.
async fn known_post(world: &World, person: usize, scheduled: u64) -> Option<String> {
    let known = {
        let shown = world.people[person].shown.lock();
        let place = rand::random_range(0..shown.posts.len().max(1));
        shown.posts.get(place).cloned()
    };
    if known.is_none() {
        timeline(world, person, scheduled).await;
    }
    known
}

async fn like(world: &World, person: usize, scheduled: u64) {
    let Some(post_id) = known_post(world, person, scheduled).await else { return };
    let number = {
        let mut moments = world.moments.lock();
        moments.likes.push((post_id.clone(), person as u32, false));
        moments.likes.len() - 1
    };
    let like = moments::LikeRequest { post_id, request_id: new_id() };
    let answer = world.api.moments().like(world.people[person].identity.request(like)).await;
    if answered(world, Measure::Like, scheduled, answer).is_some() {
        world.moments.lock().likes[number].2 = true;
    }
}

async fn comment(world: &World, person: usize, scheduled: u64) {
    let Some(post_id) = known_post(world, person, scheduled).await else { return };
    let number = {
        let mut moments = world.moments.lock();
        moments.comments.push((post_id.clone(), person as u32, false));
        moments.comments.len() - 1
    };
    let text = format!("{} comment {number}", world.tag);
    let comment = moments::CommentRequest { post_id, text, reply_to: None, request_id: new_id() };
    let answer = world.api.moments().comment(world.people[person].identity.request(comment)).await;
    if answered(world, Measure::Comment, scheduled, answer).is_some() {
        world.moments.lock().comments[number].2 = true;
    }
}

/// The text of a post: unique, and it says which one it is.
#[must_use]
pub fn post_text(world: &World, number: usize) -> String {
    format!("{} post {number}", world.tag)
}

/// The number of a post of this run in its text.
#[must_use]
pub fn post_number(world: &World, text: &str) -> Option<usize> {
    text.strip_prefix(&world.tag)?.strip_prefix(" post ")?.parse().ok()
}

/// Makes a post; some are waited for on the timeline of a friend.
pub async fn post(world: Arc<World>, author: usize, audience: Audience, watcher: usize, scheduled: u64) {
    let number = {
        let mut moments = world.moments.lock();
        moments.posts.push(Post { author: author as u32, id: None, audience: audience.clone() });
        moments.posts.len() - 1
    };
    let people = |named: &[u32]| moments::People {
        user_ids: named.iter().map(|person| world.people[*person as usize].identity.user_id.clone()).collect(),
        tags: vec![],
    };
    let kind = match &audience {
        Audience::All => moments::audience::Kind::All(moments::AllFriends {}),
        Audience::Private => moments::audience::Kind::Private(moments::OnlyMe {}),
        Audience::Only(named) => moments::audience::Kind::Only(people(named)),
        Audience::Except(named) => moments::audience::Kind::Except(people(named)),
    };
    let request = moments::CreatePostRequest {
        audience: Some(moments::Audience { kind: Some(kind) }),
        ..plaza_client::post(post_text(&world, number))
    };
    let answer = world.api.moments().create_post(world.people[author].identity.request(request)).await;
    let Some(post) = answered(&world, Measure::Post, scheduled, answer).and_then(|answer| answer.post) else { return };
    world.moments.lock().posts[number].id = Some(post.post_id.clone());
    if audience == Audience::All && number.is_multiple_of(WATCHED) {
        arrives(&world, &post.post_id, watcher, scheduled).await;
    }
}

/// Looks until a post is among the newest of a friend's timeline.
async fn arrives(world: &World, post_id: &str, watcher: usize, scheduled: u64) {
    let until = Instant::now() + LOOK_FOR;
    loop {
        let asked = moments::ListTimelineRequest { page_size: POSTS, page_token: String::new() };
        let page = world.api.moments().list_timeline(world.people[watcher].identity.request(asked)).await;
        if page.is_ok_and(|page| page.into_inner().posts.iter().any(|post| post.post_id == post_id)) {
            world.recorder.see(Measure::PostArrives, scheduled);
            return;
        }
        if Instant::now() > until || world.stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_none() {
            // It may be behind newer ones by now; that it is there at all is checked after the run.
            return;
        }
    }
}

/// Asks somebody to be friends, who accepts.
pub async fn request(world: Arc<World>, asker: usize, other: usize, scheduled: u64) {
    let pair = (asker.min(other) as u32, asker.max(other) as u32);
    if asker == other || world.are_friends(asker, other) || !world.moments.lock().changed.insert(pair) {
        // Who knows the other already looks at the list of contacts instead.
        let asked = graph::ListContactsRequest { page_size: PAGE, page_token: String::new() };
        let answer = world.api.graph().list_contacts(world.people[asker].identity.request(asked)).await;
        answered(&world, Measure::Request, scheduled, answer);
        return;
    }
    let (asker, other) = (&world.people[asker].identity, &world.people[other].identity);
    let ask = graph::SendFriendRequestRequest { user_id: other.user_id.clone(), request_id: new_id(), ..Default::default() };
    let answer = world.api.graph().send_friend_request(asker.request(ask)).await;
    if answered(&world, Measure::Request, scheduled, answer).is_none() {
        return;
    }
    let asked_at = world.recorder.clock().now().max(1);
    match prepare::accept(&world.api, asker, other).await {
        Ok(()) => world.recorder.see(Measure::Accept, asked_at),
        Err(status) => world.recorder.fail(Measure::Accept, failure(&status)),
    }
}
