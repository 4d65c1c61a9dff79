//! A preparation that is stopped and goes on.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use plaza_client::{chat, graph, new_id};
use plaza_load::{
    api::{Api, Identity},
    population::{
        Plan,
        prepare::{Ready, prepare},
        state::State,
    },
    run::{Options, base::at_rest},
};
use plaza_testkit::wait::wait_for;
use plaza_types::limits::{DAY, PAGE_MAX, REQUESTS_PER_DAY};

use crate::server::Server;

/// People with a group whose last members are invited and must accept.
fn options(server: &Server) -> anyhow::Result<Options> {
    server.options("chat", |scenario| {
        let population = &mut scenario.population;
        (population.people, population.friends_mean, population.groups_per_person) = (60, 4.0, 0.2);
        (population.hubs, population.hub_friends, population.group_most, population.full_groups) = (1, 47, 48, 1);
    })
}

async fn prepared(options: &Options, stop: bool) -> anyhow::Result<Ready> {
    prepare(&options.target, &options.scenario.population, &options.population, false, &AtomicBool::new(stop)).await
}

/// Stops at the first thing that is made and noted, while others are under way.
async fn stopped(options: &Options) -> anyhow::Result<State> {
    let error = prepared(options, true).await.err().context("it was not stopped")?;
    ensure!(error.to_string().starts_with("stopped"), "{error:#}");
    read(options)
}

fn read(options: &Options) -> anyhow::Result<State> {
    Ok(serde_json::from_slice(&std::fs::read(&options.population)?)?)
}

/// What the server tells of everybody is what was planned, once.
async fn everything_is_there_once(options: &Options, ready: &Ready) -> anyhow::Result<()> {
    let api = Api::new(&options.target, 2)?;
    let numbers: BTreeMap<_, _> = ready.people.iter().zip(0u32..).map(|(person, number)| (person.user_id.as_str(), number)).collect();
    ensure!(numbers.len() == ready.plan.people.len(), "{} people of {}", numbers.len(), ready.plan.people.len());
    let mut groups: BTreeMap<String, BTreeSet<u32>> = BTreeMap::new();
    for (number, (person, planned)) in ready.people.iter().zip(&ready.plan.people).enumerate() {
        let list = graph::ListContactsRequest { page_size: PAGE_MAX, page_token: String::new() };
        let contacts = api.graph().list_contacts(person.request(list)).await?.into_inner().contacts;
        let friends: BTreeSet<_> = contacts.iter().map(|contact| numbers[contact.user_id.as_str()]).collect();
        ensure!(friends == planned.friends.iter().copied().collect(), "the friends of {number}: {friends:?}");
        let list = chat::ListConversationsRequest { page_size: PAGE_MAX, page_token: String::new() };
        for conversation in api.chat().list_conversations(person.request(list)).await?.into_inner().conversations {
            if !conversation.title.is_empty() {
                groups.entry(conversation.conversation_id).or_default().insert(number as u32);
            }
        }
    }
    let planned = ready.groups.iter().cloned().zip(ready.plan.groups.iter().map(|group| group.everybody().collect()));
    let planned: BTreeMap<String, BTreeSet<u32>> = planned.collect();
    ensure!(
        planned.len() == ready.plan.groups.len() && groups == planned,
        "groups by their members' lists: {groups:?}, planned {planned:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn stopped_again_and_again_in_each_part_everything_is_there_once() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let options = options(&server)?;
    let mut stops = [0; 3];
    let ready = loop {
        match prepared(&options, true).await {
            Ok(ready) => break ready,
            Err(error) => ensure!(error.to_string().starts_with("stopped"), "{error:#}"),
        }
        let state = read(&options)?;
        let people = state.people.iter().all(Option::is_some);
        // What was last made says in which part it was stopped.
        let part = if !people || state.missing.len() == Plan::new(&options.scenario.population).friendships.len() {
            0
        } else if state.groups.iter().all(Option::is_none) {
            1
        } else {
            2
        };
        stops[part] += 1;
        ensure!(stops.iter().sum::<usize>() < 400, "it does not end: {stops:?}, {} friendships are missing", state.missing.len());
    };
    ensure!(stops.iter().all(|stops| *stops > 5), "{stops:?}");
    everything_is_there_once(&options, &ready).await?;
    server.stop().await;
    Ok(())
}

/// The server takes no request that was made more than a day ago, and the requests that make groups are of the time when all began.
#[tokio::test(flavor = "multi_thread")]
async fn gone_on_with_after_two_days_no_group_is_missing_and_none_is_there_twice() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let options = options(&server)?;
    let mut state = stopped(&options).await?;
    while state.groups.iter().all(Option::is_none) {
        state = stopped(&options).await?;
    }
    ensure!(state.groups.iter().any(Option::is_none), "all groups were made at once: none is left to be made");
    // One was made, and that was not noted.
    let unnoted = state.groups.iter().position(Option::is_some).context("a group")?;
    let id = state.groups[unnoted].take();
    state.begun -= 2 * DAY;
    state.save(&options.population)?;
    // What was under way has come to an end, as it would have in two days.
    let people: Vec<_> = (0..state.people.len()).map(|number| Identity::new(&state, number)).collect::<anyhow::Result<_>>()?;
    at_rest(&Api::new(&options.target, 2)?, &people.iter().collect::<Vec<_>>(), Duration::from_secs(60)).await?;
    let ready = prepared(&options, false).await?;
    ensure!(Some(&ready.groups[unnoted]) == id.as_ref(), "it was made anew");
    everything_is_there_once(&options, &ready).await?;
    server.stop().await;
    Ok(())
}

/// A day of the server, UTC, must not end while its quota is counted.
async fn unless_a_day_ends() -> anyhow::Result<()> {
    let early = || {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
        let left = Duration::from_micros(DAY - now.as_micros() as u64 % DAY);
        std::future::ready(if left > Duration::from_secs(120) { Ok(()) } else { Err("a day is about to end") })
    };
    wait_for("the day is long enough", Duration::from_secs(150), early).await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_asked_all_that_one_may_on_a_day_goes_on_on_the_next() -> anyhow::Result<()> {
    unless_a_day_ends().await?;
    let server = Server::start().await?;
    let mut options = options(&server)?;
    options.scenario.population.hubs = 0;
    options.scenario.population.full_groups = 0;
    let plan = Plan::new(&options.scenario.population);
    let mut state = stopped(&options).await?;
    while !state.people.iter().all(Option::is_some) {
        state = stopped(&options).await?;
    }
    // Somebody asks strangers, until they may ask no more.
    let asks = |person: u32| -> BTreeSet<u32> {
        state.missing.iter().copied().filter(|number| plan.friendships[*number as usize].0 == person).collect()
    };
    let some = (0..60).filter(|person| !asks(*person).is_empty());
    let person = some.min_by_key(|person| plan.people[*person as usize].friends.len()).context("nobody asks anybody")?;
    let waiting = asks(person);
    let people: Vec<_> = (0..60).map(|number| Identity::new(&state, number).map(Arc::new)).collect::<anyhow::Result<_>>()?;
    let strangers =
        (0..60).filter(|other| *other != person && !plan.people[person as usize].friends.contains(other)).take(REQUESTS_PER_DAY);
    let api = Api::new(&options.target, 2)?;
    let asked = stream::iter(strangers).map(|stranger| {
        let user_id = people[stranger as usize].user_id.clone();
        let ask = graph::SendFriendRequestRequest { user_id, request_id: new_id(), ..Default::default() };
        let (api, person) = (&api, &people[person as usize]);
        async move { api.graph().send_friend_request(person.request(ask)).await }
    });
    ensure!(asked.buffer_unordered(8).try_collect::<Vec<_>>().await?.len() == REQUESTS_PER_DAY, "not enough strangers");

    let error = prepared(&options, false).await.err().context("all were made friends")?.to_string();
    ensure!(error.contains(&format!("{} friendships wait", waiting.len())) && error.contains("after midnight"), "{error}");
    ensure!(read(&options)?.missing == waiting, "others wait, too");
    server.stop().await;
    Ok(())
}
