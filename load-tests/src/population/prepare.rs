//! Makes a population real through the public API: registrations, then friendships, then groups, many at once. What is there is noted in the
//! state file every few seconds; a start that finds one goes on from there.
//!
//! What it costs is the server's: a registration is one argon2id of about 20 ms of CPU, as it is for real people, so a server with two cores
//! registers about a hundred people a second and no client makes that faster. Friendships and groups are ordinary calls.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use futures::{StreamExt, TryStreamExt, stream};
use indicatif::{ProgressBar, ProgressStyle};
use plaza_client::{chat, graph, new_id};
use plaza_types::limits::PAGE_MAX;
use tonic::{Code, Status};

use super::{Group, Plan, state::State};
use crate::{
    api::{Api, Identity, again, failure},
    scenario::Population,
    target::Target,
};

/// How much is under way at once.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Connections for the calls.
    connections: usize,
    /// Calls.
    calls: usize,
    /// Groups.
    groups: usize,
    /// Registrations.
    registrations: usize,
}

impl Pace {
    /// So many that the server never waits for us, and fewer people who wait to be hashed than the server lets wait.
    pub const MANY: Self = Self { connections: 8, calls: 64, groups: 16, registrations: 32 };
    /// One thing after the other, to see what many at once bring.
    pub const ONE: Self = Self { connections: 1, calls: 1, groups: 1, registrations: 1 };
}

/// So many done, and the state is written.
const SAVE_EVERY: Duration = Duration::from_secs(3);
/// What follows from a call at once comes within this on a busy machine.
const SOON: Duration = Duration::from_secs(60);
/// Members added by one call.
const ADDED_AT_ONCE: usize = 200;

/// People who are there.
pub struct Ready {
    /// What was planned.
    pub plan: Plan,
    /// Everybody, by number.
    pub people: Vec<Arc<Identity>>,
    /// The ids of the groups, by number.
    pub groups: Vec<String>,
    /// How long each part took, seconds, and how many were made in it: of people, friendships, groups.
    pub took: [(usize, f64); 3],
}

/// Makes everybody, or what is missing of them.
///
/// # Errors
/// A refusal, a target that cannot be reached, or `stop`.
pub async fn prepare(target: &Target, population: &Population, file: &Path, shown: bool, stop: &AtomicBool) -> anyhow::Result<Ready> {
    prepare_at(Pace::MANY, target, population, file, shown, stop).await
}

/// The same at a pace.
///
/// # Errors
/// As [`prepare`].
pub async fn prepare_at(
    pace: Pace,
    target: &Target,
    population: &Population,
    file: &Path,
    shown: bool,
    stop: &AtomicBool,
) -> anyhow::Result<Ready> {
    let plan = Plan::new(population);
    let resumed = file.exists();
    let state = State::open(file, &target.address, population, plan.friendships.len(), plan.groups.len())?;
    let api = Arc::new(Api::new(target, pace.connections)?);
    let mut work = Work { pace, plan, state, resumed, api, file: file.to_owned(), saved: Instant::now(), shown, stop };
    let made = work.all().await;
    // Also what was done before a failure is kept.
    work.state.save(file)?;
    let (people, took) = made?;
    let groups = work.state.groups.iter().flatten().cloned().collect();
    Ok(Ready { plan: work.plan, people, groups, took })
}

struct Work<'a> {
    pace: Pace,
    plan: Plan,
    state: State,
    /// An earlier start may have made what it could not note.
    resumed: bool,
    api: Arc<Api>,
    file: std::path::PathBuf,
    saved: Instant,
    shown: bool,
    stop: &'a AtomicBool,
}

impl Work<'_> {
    async fn all(&mut self) -> anyhow::Result<(Vec<Arc<Identity>>, [(usize, f64); 3])> {
        let started = Instant::now();
        let registered = self.register().await?;
        let mut took = [(registered, started.elapsed().as_secs_f64()), (0, 0.0), (0, 0.0)];
        let people = (0..self.state.people.len()).map(|person| Identity::new(&self.state, person).map(Arc::new));
        let people = people.collect::<anyhow::Result<Vec<_>>>()?;
        self.refresh(&people).await?;
        let started = Instant::now();
        took[1] = (self.befriend(&people).await?, started.elapsed().as_secs_f64());
        let started = Instant::now();
        took[2] = (self.group(&people).await?, started.elapsed().as_secs_f64());
        // Tokens may have been exchanged on the way.
        for (person, identity) in people.iter().enumerate() {
            self.state.people[person] = Some(identity.known().await);
        }
        Ok((people, took))
    }

    fn bar(&self, what: &'static str, of: usize) -> ProgressBar {
        if !self.shown || of == 0 {
            return ProgressBar::hidden();
        }
        let style = ProgressStyle::with_template("{msg:14} {wide_bar} {pos}/{len} {per_sec} {eta}");
        ProgressBar::new(of as u64).with_message(what).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
    }

    /// After each thing that is done.
    fn done(&mut self, bar: &ProgressBar) -> anyhow::Result<()> {
        bar.inc(1);
        if self.stop.load(Ordering::Relaxed) {
            bail!("stopped while the population was prepared; the next start goes on from here");
        }
        if self.saved.elapsed() > SAVE_EVERY {
            self.state.save(&self.file)?;
            self.saved = Instant::now();
        }
        Ok(())
    }

    async fn register(&mut self) -> anyhow::Result<usize> {
        let missing: Vec<usize> = (0..self.state.people.len()).filter(|person| self.state.people[*person].is_none()).collect();
        let bar = self.bar("people", missing.len());
        let count = missing.len();
        let api = Arc::clone(&self.api);
        let handles: Vec<_> = missing.iter().map(|person| (*person, self.state.handle(*person))).collect();
        let mut registering = stream::iter(handles)
            .map(|(person, handle)| {
                let api = Arc::clone(&api);
                async move { Identity::register(&api, &handle).await.map(|known| (person, known)) }
            })
            .buffer_unordered(self.pace.registrations);
        while let Some((person, known)) = registering.try_next().await? {
            self.state.people[person] = Some(known);
            self.done(&bar)?;
        }
        bar.finish();
        Ok(count)
    }

    async fn refresh(&mut self, people: &[Arc<Identity>]) -> anyhow::Result<()> {
        let ending: Vec<_> = people.iter().filter(|person| person.is_ending()).collect();
        let bar = self.bar("sessions", ending.len());
        let api = &self.api;
        let refreshing = stream::iter(ending).map(|person| async {
            person.refresh(api).await?;
            bar.inc(1);
            anyhow::Ok(())
        });
        refreshing.buffer_unordered(self.pace.calls).try_collect::<Vec<_>>().await?;
        bar.finish();
        // A token that was exchanged is good once: it is noted before anything else.
        for (person, identity) in people.iter().enumerate() {
            self.state.people[person] = Some(identity.known().await);
        }
        self.state.save(&self.file)
    }

    async fn befriend(&mut self, people: &[Arc<Identity>]) -> anyhow::Result<usize> {
        let missing: Vec<u32> = self.state.missing.iter().copied().collect();
        let bar = self.bar("friendships", missing.len());
        let count = missing.len();
        let api = Arc::clone(&self.api);
        let pairs: Vec<_> = missing
            .into_iter()
            .map(|number| {
                let (asker, accepter) = self.plan.friendships[number as usize];
                (number, Arc::clone(&people[asker as usize]), Arc::clone(&people[accepter as usize]))
            })
            .collect();
        let mut befriending = stream::iter(pairs)
            .map(|(number, asker, accepter)| {
                let api = Arc::clone(&api);
                async move { befriend(&api, &asker, &accepter).await.map(|friends| (number, friends)) }
            })
            .buffer_unordered(self.pace.calls);
        while let Some((number, friends)) = befriending.try_next().await? {
            if friends {
                self.state.missing.remove(&number);
            }
            self.done(&bar)?;
        }
        bar.finish();
        if !self.state.missing.is_empty() {
            bail!(
                "{} friendships wait: who asks for them has asked all that one may on a day. Start it again after midnight, UTC; it goes on from here",
                self.state.missing.len()
            );
        }
        Ok(count)
    }

    async fn group(&mut self, people: &[Arc<Identity>]) -> anyhow::Result<usize> {
        self.state.renew();
        self.state.save(&self.file)?;
        let missing: Vec<usize> = (0..self.plan.groups.len()).filter(|number| self.state.groups[*number].is_none()).collect();
        let bar = self.bar("groups", missing.len());
        let count = missing.len();
        let api = Arc::clone(&self.api);
        let groups: Vec<_> =
            missing.into_iter().map(|number| (number, self.plan.groups[number].clone(), self.state.group_request(number))).collect();
        let (resumed, calls) = (self.resumed, self.pace.calls);
        let mut grouping = stream::iter(groups)
            .map(|(number, group, request_id)| {
                let api = Arc::clone(&api);
                async move {
                    let made = if resumed { find(&api, &people[group.owner as usize], number).await? } else { None };
                    let id = match made {
                        Some(id) => id,
                        None => create(&api, people, &group, number, &request_id).await?,
                    };
                    fill(&api, people, &group, &id, calls).await.with_context(|| format!("filling group {number}"))?;
                    anyhow::Ok((number, id))
                }
            })
            .buffer_unordered(self.pace.groups);
        while let Some((number, id)) = grouping.try_next().await? {
            self.state.groups[number] = Some(id);
            self.done(&bar)?;
        }
        bar.finish();
        Ok(count)
    }
}

/// Makes two people friends; they may be already. Not if the one who asks has asked as many as one may on a day.
async fn befriend(api: &Api, asker: &Identity, accepter: &Identity) -> anyhow::Result<bool> {
    for person in [asker, accepter] {
        person.refresh(api).await?;
    }
    let request_id = new_id();
    let asked = again(|| {
        let ask =
            graph::SendFriendRequestRequest { user_id: accepter.user_id.clone(), request_id: request_id.clone(), ..Default::default() };
        async {
            match api.graph().send_friend_request(asker.request(ask)).await {
                // That is an answer, not to be waited for here: it may take until tomorrow.
                Err(status) if failure(&status) == "QUOTA_EXCEEDED" => Ok(tonic::Response::new(false)),
                other => other.map(|answer| answer.map(|_| true)),
            }
        }
    });
    let asked = match asked.await {
        Err(status) if failure(&status) == "ALREADY_A_CONTACT" => return Ok(true),
        other => other.context("asking to be friends")?,
    };
    if asked {
        accept(api, asker, accepter).await.context("accepting a friend request")?;
        return Ok(true);
    }
    // Earlier starts may have asked, as often as one may without an answer.
    let accepted = again(|| {
        let accept = graph::AcceptFriendRequestRequest { user_id: asker.user_id.clone(), request_id: new_id() };
        async { api.graph().accept_friend_request(accepter.request(accept)).await }
    });
    match accepted.await {
        Err(status) if status.code() == Code::NotFound => Ok(false),
        other => other.map(|_| true).context("accepting an earlier friend request"),
    }
}

/// Accepts a request that is on its way.
///
/// # Errors
/// It does not arrive in time, or a refusal.
pub async fn accept(api: &Api, asker: &Identity, accepter: &Identity) -> Result<(), Status> {
    let accepted = arriving(|| {
        let accept = graph::AcceptFriendRequestRequest { user_id: asker.user_id.clone(), request_id: new_id() };
        async { api.graph().accept_friend_request(accepter.request(accept)).await }
    });
    match accepted.await {
        Err(status) if failure(&status) == "ALREADY_A_CONTACT" => Ok(()),
        other => other.map(drop),
    }
}

/// Makes a call until what it is about has come through the log to the other side. What is decided about one request id stays decided, so
/// `call` makes a new one each time.
async fn arriving<T, F>(mut call: impl FnMut() -> F) -> Result<T, Status>
where
    F: Future<Output = Result<tonic::Response<T>, Status>>,
{
    let until = Instant::now() + SOON;
    let mut wait = Duration::from_millis(2);
    loop {
        match again(&mut call).await {
            Err(status) if status.code() == Code::NotFound && Instant::now() < until => {}
            other => return other,
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(Duration::from_millis(100));
    }
}

/// Makes a call until the owner's friendships have come to rest: an acceptance is answered a moment before the one who asked is seen to list
/// the other.
async fn settling<T, F>(mut call: impl FnMut() -> F) -> Result<T, Status>
where
    F: Future<Output = Result<tonic::Response<T>, Status>>,
{
    let until = Instant::now() + SOON;
    loop {
        match again(&mut call).await {
            Err(status) if status.code() == Code::InvalidArgument && Instant::now() < until => {}
            other => return other,
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn title(number: usize) -> String {
    format!("group {number}")
}

/// The group of this number, if an earlier start made it.
async fn find(api: &Api, owner: &Identity, number: usize) -> anyhow::Result<Option<String>> {
    owner.refresh(api).await?;
    let title = title(number);
    let mut page_token = String::new();
    loop {
        let page = again(|| {
            let list = chat::ListConversationsRequest { page_size: PAGE_MAX, page_token: page_token.clone() };
            async { api.chat().list_conversations(owner.request(list)).await }
        });
        let page = page.await.context("looking for a group")?;
        // A direct conversation has no title.
        if let Some(found) = page.conversations.into_iter().find(|found| found.title == title) {
            return Ok(Some(found.conversation_id));
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(None);
        }
    }
}

async fn create(api: &Api, people: &[Arc<Identity>], group: &Group, number: usize, request_id: &str) -> anyhow::Result<String> {
    let owner = &people[group.owner as usize];
    owner.refresh(api).await?;
    let first: Vec<_> =
        group.members.iter().take(plaza_types::limits::GROUP_OPEN - 1).map(|member| people[*member as usize].user_id.clone()).collect();
    let made = settling(|| {
        let create = chat::CreateGroupRequest { title: title(number), user_ids: first.clone(), request_id: request_id.to_owned() };
        async { api.chat().create_group(owner.request(create)).await }
    });
    let made = made.await.with_context(|| format!("creating group {number}"))?;
    Ok(made.group.context("the server gave no group")?.conversation_id)
}

/// Until everybody is in: adds who is missing, and has those accept who must.
async fn fill(api: &Api, people: &[Arc<Identity>], group: &Group, id: &str, at_once: usize) -> anyhow::Result<()> {
    let owner = &people[group.owner as usize];
    let later: Vec<u32> = group.members.iter().skip(plaza_types::limits::GROUP_OPEN - 1).copied().collect();
    for members in later.chunks(ADDED_AT_ONCE) {
        let request_id = new_id();
        let user_ids: Vec<_> = members.iter().map(|member| people[*member as usize].user_id.clone()).collect();
        let added = settling(|| {
            let add =
                chat::AddMembersRequest { conversation_id: id.to_owned(), user_ids: user_ids.clone(), request_id: request_id.clone() };
            async { api.chat().add_members(owner.request(add)).await }
        });
        let invited = added.await.context("adding members")?.invited;
        let accepting = members.iter().filter(|member| invited.contains(&people[**member as usize].user_id)).map(|member| {
            let person = &people[*member as usize];
            async move {
                person.refresh(api).await?;
                let accepted = arriving(|| {
                    let accept = chat::AnswerInvitationRequest { conversation_id: id.to_owned(), accept: true, request_id: new_id() };
                    async { api.chat().answer_invitation(person.request(accept)).await }
                });
                accepted.await.map(drop).context("accepting an invitation")
            }
        });
        stream::iter(accepting).buffer_unordered(at_once).try_collect::<Vec<_>>().await?;
    }
    Ok(())
}
