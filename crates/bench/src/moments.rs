//! Moments: what a post costs for each follower, and what a page of the timeline takes. The author of the posts and the viewer of the page
//! have 862 friends: the mean of a friend's friends where people have 200 on average.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use plaza_client::{Account, new_id};
use plaza_floor::{
    process::cpu_seconds,
    timeline::{COMMENTS, LIKES, POSTS, comment_text, content},
};
use plaza_proto::{
    chat::v1::{SendMessageRequest, chat_service_client::ChatServiceClient},
    moments::v1::{self as moments, moments_service_client::MomentsServiceClient},
};
use plaza_testkit::wait::wait_for;
use tonic::transport::Channel;

use crate::{
    measure::{Report, histogram, percentile_ms, record},
    population::{befriend_all, befriend_each_other, register},
    target::{Caller, Target},
};

/// Friends of the author and of the viewer.
pub(crate) const FRIENDS: usize = 862;
/// Those who post, like and comment: friends of each other, and of the viewer.
const CIRCLE: usize = LIKES + 2;
const ROUNDS: usize = 3;
const POSTS_A_ROUND: usize = 40;
const AT_ONCE: usize = 4;
const PAGES_A_ROUND: usize = 200;
const PAGE_ROUNDS: usize = 7;
const LATEST: Duration = Duration::from_secs(60);

/// Somebody who uses Moments.
struct Person {
    caller: Caller,
}

impl Person {
    fn client(&self) -> MomentsServiceClient<Channel> {
        MomentsServiceClient::new(self.caller.channel.clone())
    }

    async fn post(&self) -> anyhow::Result<String> {
        let request = moments::CreatePostRequest { request_id: new_id(), content: Some(content()), audience: None, mentions: vec![] };
        let answer = self.client().create_post(self.caller.request(request)).await?.into_inner();
        Ok(answer.post.context("no post")?.post_id)
    }

    async fn like(&self, post_id: &str) -> anyhow::Result<()> {
        let request = moments::LikeRequest { post_id: post_id.to_owned(), request_id: new_id() };
        self.client().like(self.caller.request(request)).await?;
        Ok(())
    }

    async fn comment(&self, post_id: &str) -> anyhow::Result<()> {
        let request = moments::CommentRequest { post_id: post_id.to_owned(), text: comment_text(), reply_to: None, request_id: new_id() };
        self.client().comment(self.caller.request(request)).await?;
        Ok(())
    }

    async fn page(&self, page_size: usize) -> anyhow::Result<Vec<moments::Post>> {
        let request = moments::ListTimelineRequest { page_size: u32::try_from(page_size)?, page_token: String::new() };
        Ok(self.client().list_timeline(self.caller.request(request)).await?.into_inner().posts)
    }
}

/// The people of these measurements.
pub(crate) struct World {
    /// With all friends each.
    hubs: Vec<Person>,
    /// All friends, through one connection.
    friends: Vec<Person>,
    circle: Vec<Person>,
    /// Some of the followers, by whom the end of a fan-out is seen.
    watchers: Vec<Person>,
}

impl World {
    /// Makes so many with the same 862 friends, of whom a circle are friends of each other.
    pub(crate) async fn new(target: &Target, hubs: usize) -> anyhow::Result<Self> {
        let hubs = register(target, "hub", hubs).await?;
        let friends = register(target, "friend", FRIENDS).await?;
        for hub in &hubs {
            befriend_all(hub, &friends).await?;
        }
        befriend_each_other(&friends[..CIRCLE]).await?;
        let person = async |account: &Account| anyhow::Ok(Person { caller: target.caller(account, "").await? });
        let mut world = Self { hubs: Vec::new(), friends: Vec::new(), circle: Vec::new(), watchers: Vec::new() };
        for hub in &hubs {
            world.hubs.push(person(hub).await?);
        }
        for friend in &friends[..CIRCLE] {
            world.circle.push(person(friend).await?);
        }
        for friend in friends[CIRCLE..].iter().step_by(50) {
            world.watchers.push(person(friend).await?);
        }
        let channel = target.channel()?;
        for friend in &friends {
            let mut friend = person(friend).await?;
            friend.caller.channel = channel.clone();
            // Who never looks is idle one day, and is passed over.
            friend.page(1).await?;
            world.friends.push(friend);
        }
        Ok(world)
    }

    /// Until the author's newest post is the newest of every watcher.
    async fn arrived(&self, post_id: &str) -> anyhow::Result<()> {
        for watcher in &self.watchers {
            wait_for("the post arrives", LATEST, || async {
                let page = watcher.page(1).await.map_err(|error| error.to_string())?;
                if page.first().is_some_and(|post| post.post_id == post_id) { Ok(()) } else { Err("an older one is the newest".to_owned()) }
            })
            .await?;
        }
        Ok(())
    }
}

/// Server CPU for each follower of a post, beside that of a raw batched insert of the same number of rows with the same durability.
pub(crate) async fn fan_out(server: &Path, report: &mut Report) -> anyhow::Result<()> {
    let (floor, ours) = (Target::floor().await?, Target::plaza_without_rates(server).await?);
    let caller = floor.floor_caller("a", "b")?;
    let world = World::new(&ours, ROUNDS).await?;
    let mut rounds = Vec::new();
    // An author may make so many posts a day as one round has.
    for author in &world.hubs {
        let floor = rows(floor.pid(), &caller, FRIENDS, POSTS_A_ROUND).await?;
        let before = cpu_seconds(ours.pid())?;
        stream::iter(0..POSTS_A_ROUND).map(|_| author.post()).buffered(AT_ONCE).try_collect::<Vec<_>>().await?;
        // Read only at the end: reading is not what is measured.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let cpu = cpu_seconds(ours.pid())? - before;
        // Those made at once may have come in any order; one more is the newest.
        let last = author.post().await?;
        world.arrived(&last).await?;
        rounds.push((floor, cpu * 1e6 / (POSTS_A_ROUND * FRIENDS) as f64));
    }
    report.ratio("post fan-out, CPU per follower of 862", "us", &rounds, 2.0, 1.2);
    Ok(())
}

/// CPU microseconds for each row of a raw batched insert.
pub(crate) async fn rows(pid: u32, caller: &Caller, rows: usize, batches: usize) -> anyhow::Result<f64> {
    let before = cpu_seconds(pid)?;
    let insert = |_| async {
        let request = SendMessageRequest { conversation_id: rows.to_string(), ..Default::default() };
        ChatServiceClient::new(caller.channel.clone()).send_message(caller.request(request)).await.map(drop)
    };
    stream::iter(0..batches).map(insert).buffered(AT_ONCE).try_collect::<Vec<_>>().await?;
    // Flushing is part of it, as it is of ours.
    tokio::time::sleep(Duration::from_secs(2)).await;
    Ok((cpu_seconds(pid)? - before) * 1e6 / (batches * rows) as f64)
}

/// A page of 20 posts with likes and comments; then the same with ten and a hundred times as many posts behind it.
pub(crate) async fn timeline(server: &Path, report: &mut Report) -> anyhow::Result<()> {
    let (floor, ours) = (Target::floor().await?, Target::plaza_without_rates(server).await?);
    let floor = Person { caller: floor.floor_caller("a", "b")? };
    let world = World::new(&ours, 1).await?;
    let viewer = &world.hubs[0];
    let mut behind = 0;
    for more in [100, 1_000, 10_000] {
        // By everybody: 862 friends make 10,000 posts and none of them more than a day allows.
        let authors = world.friends.iter().cycle().take(more - behind).map(Person::post);
        stream::iter(authors).buffer_unordered(AT_ONCE).try_collect::<Vec<_>>().await?;
        behind = more;
        newest_page(&world).await?;
        let mut rounds = Vec::new();
        for _ in 0..PAGE_ROUNDS {
            rounds.push((pages(&floor).await?, pages(viewer).await?));
        }
        report.ratio(&format!("timeline page of 20, {more} posts, p50"), "ms", &rounds, 3.0, 1.6);
    }
    Ok(())
}

/// Twenty posts with likes and comments, the newest of all.
async fn newest_page(world: &World) -> anyhow::Result<()> {
    let mut newest = String::new();
    for number in 0..POSTS {
        let author = number % world.circle.len();
        newest = world.circle[author].post().await?;
        let others: Vec<_> = world.circle.iter().enumerate().filter(|(place, _)| *place != author).map(|(_, person)| person).collect();
        for other in &others[..LIKES] {
            other.like(&newest).await?;
        }
        for other in &others[..COMMENTS] {
            other.comment(&newest).await?;
        }
    }
    wait_for("the page is there", LATEST, || async {
        let page = world.hubs[0].page(POSTS).await.map_err(|error| error.to_string())?;
        let whole = |post: &moments::Post| post.likes.len() == LIKES && post.comments.len() == COMMENTS;
        if page.len() == POSTS && page.iter().all(whole) && page[0].post_id == newest { Ok(()) } else { Err("not yet".to_owned()) }
    })
    .await
}

async fn pages(viewer: &Person) -> anyhow::Result<f64> {
    let mut took = histogram();
    for _ in 0..PAGES_A_ROUND {
        let started = Instant::now();
        let page = viewer.page(POSTS).await?;
        record(&mut took, started.elapsed());
        ensure!(page.len() == POSTS, "{} posts", page.len());
    }
    Ok(percentile_ms(&took, 50.0))
}
