//! Pairs of people who meet while the server is killed under them: they register, ask, accept, and then remove, block and ask again. Each
//! keeps count of how the two stand to each other by what was answered, and finds it so after every step.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, ensure};
use plaza_client::{
    Account, Device, Endpoint, Error,
    accounts::{self, accounts_service_client::AccountsServiceClient},
    chat, graph, new_id, text,
};
use plaza_testkit::{
    people::{PASSWORD, SOON, conversation_of},
    wait::wait_for,
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::sync::watch;
use tonic::{Code, Request, Response, Status, transport::Channel};

/// What each pair does after it met.
const STEPS: usize = 6;

/// How one side stands to the other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Side {
    lists: bool,
    blocks: bool,
}

/// Two people who met.
pub(crate) struct Pair {
    people: [Person; 2],
    asked: (graph::SendFriendRequestRequest, graph::SendFriendRequestResponse),
    accepted: (graph::AcceptFriendRequestRequest, graph::AcceptFriendRequestResponse),
    sides: [Side; 2],
}

struct Person {
    channel: Channel,
    endpoint: Endpoint,
    registered: accounts::RegisterRequest,
    account: Account,
    /// The newest refresh token of a device that does nothing but refresh.
    refresh: String,
    named: String,
}

/// Has pair after pair meet until told to stop; counts what is done.
pub(crate) async fn run(address: String, seed: u64, progress: watch::Sender<u64>, stop: Arc<AtomicBool>) -> anyhow::Result<Vec<Pair>> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut pairs = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let people = [Person::register(&address).await?, Person::register(&address).await?];
        progress.send_modify(|steps| *steps += 1);
        let mut pair = Pair::meet(people).await?;
        for _ in 0..STEPS {
            progress.send_modify(|steps| *steps += 1);
            pair.step(&mut rng).await?;
        }
        pairs.push(pair);
    }
    Ok(pairs)
}

/// A graph call that is asked again until it is decided, and then once more: the answer must be the same.
macro_rules! decided {
    ($account:expr, $method:ident, $request:expr) => {{
        let (account, request) = (&$account, &$request);
        let ask = || {
            account.call(|mut services| {
                let request = request.clone();
                async move { services.graph.$method(request).await }
            })
        };
        let (first, again) = (ask().await, ask().await);
        match (first, again) {
            (Ok(first), Ok(again)) => {
                ensure!(first == again, "{} was answered {first:?}, then {again:?}", stringify!($method));
                Ok(first)
            }
            (Err(first), Err(again)) => {
                ensure!(first.reason() == again.reason(), "{} was refused with {first}, then with {again}", stringify!($method));
                Err(first)
            }
            (first, again) => anyhow::bail!("{} was answered {first:?}, then {again:?}", stringify!($method)),
        }
    }};
}

impl Person {
    async fn register(address: &str) -> anyhow::Result<Self> {
        let endpoint = Endpoint::new(address)?.with_longest_wait(Duration::from_millis(300));
        let channel = Channel::from_shared(address.to_owned())?.connect_lazy();
        let handle = format!("meets_{:08x}", rand::random::<u32>());
        let registered = accounts::RegisterRequest {
            handle: handle.clone(),
            password: PASSWORD.into(),
            display_name: handle.clone(),
            device: Some(accounts::Device { device_id: None, name: "first".into(), platform: "test".into() }),
            request_id: new_id(),
        };
        let user = register(&channel, &registered).await?;
        let again = register(&channel, &registered).await?;
        ensure!(user == again, "{handle} was registered as {user}, then as {again}");
        let account = Account::login(&endpoint, &handle, PASSWORD, &Device::new("second", "test")).await?;
        ensure!(account.user_id() == user, "{handle} was registered as {user} and signed in as {}", account.user_id());
        let refreshes = Account::login(&endpoint, &handle, PASSWORD, &Device::new("refreshes", "test")).await?;
        let refresh = refreshes.credentials().await.refresh_token;
        Ok(Self { channel, endpoint, registered, account, refresh, named: handle })
    }

    /// Refreshes and takes another name. A reply that is lost leaves neither half done.
    async fn go_on(&mut self) -> anyhow::Result<()> {
        let (first, again) = (self.refreshed().await?, self.refreshed().await?);
        ensure!(first == again, "a refresh token had two successors");
        self.refresh = first;
        let name = format!("name {}", rand::random::<u32>());
        let rename = accounts::UpdateProfileRequest {
            display_name: name.clone(),
            update_mask: Some(prost_types::FieldMask { paths: vec!["display_name".into()] }),
            ..Default::default()
        };
        self.account
            .call(|mut services| {
                let rename = rename.clone();
                async move { services.accounts.update_profile(rename).await }
            })
            .await?;
        self.named = name;
        Ok(())
    }

    async fn refreshed(&self) -> Result<String, Error> {
        let request = accounts::RefreshRequest { refresh_token: self.refresh.clone() };
        let ask = |request| {
            let mut accounts = AccountsServiceClient::new(self.channel.clone());
            async move { accounts.refresh(request).await }
        };
        Ok(until_decided(&request, ask).await?.session.unwrap_or_default().refresh_token)
    }

    /// An acknowledged registration can sign in, asked again it is the same, and its id is no other's.
    async fn is_registered(&self) -> anyhow::Result<()> {
        let handle = &self.registered.handle;
        self.refreshed().await.context("the newest refresh token is not good")?;
        let me = self.account.call(|mut services| async move { services.accounts.get_me(accounts::GetMeRequest {}).await }).await?;
        let name = me.user.unwrap_or_default().display_name;
        ensure!(name == self.named, "{handle} is named {name}, and was last named {}", self.named);
        let again = register(&self.channel, &self.registered).await?;
        ensure!(again == self.account.user_id(), "{handle} is {again}, and was {}", self.account.user_id());
        let login = Account::login(&self.endpoint, handle, PASSWORD, &Device::new("third", "test")).await?;
        ensure!(login.user_id() == self.account.user_id(), "{handle} signed in as {}", login.user_id());
        let other = accounts::RegisterRequest { display_name: "other".into(), ..self.registered.clone() };
        let refused = register(&self.channel, &other).await;
        ensure!(matches!(&refused, Err(error) if error.reason() == "REQUEST_ID_REUSED"), "the id with another name: {refused:?}");
        Ok(())
    }
}

/// Asks until it is decided; answers the user's id.
async fn register(channel: &Channel, request: &accounts::RegisterRequest) -> Result<String, Error> {
    let ask = |request| {
        let mut accounts = AccountsServiceClient::new(channel.clone());
        async move { accounts.register(request).await }
    };
    let session = until_decided(request, ask).await?.session;
    Ok(session.unwrap_or_default().user.unwrap_or_default().user_id)
}

/// A call without a session, again and again.
async fn until_decided<Q: Clone, A, F>(request: &Q, mut ask: impl FnMut(Request<Q>) -> F) -> Result<A, Error>
where
    F: Future<Output = Result<Response<A>, Status>>,
{
    let decided = wait_for("the call is decided", SOON, || {
        let mut request = Request::new(request.clone());
        request.set_timeout(Duration::from_secs(10));
        let answer = ask(request);
        async {
            match answer.await.map_err(Error::from) {
                Err(Error::Unavailable(why)) => Err(why),
                decided => Ok(decided),
            }
        }
    });
    Ok(decided.await.map_err(|error| Error::Unavailable(error.to_string()))??.into_inner())
}

impl Pair {
    async fn meet(people: [Person; 2]) -> anyhow::Result<Self> {
        let [asker, accepter] = [&people[0].account, &people[1].account];
        let ask = graph::SendFriendRequestRequest {
            user_id: accepter.user_id().into(),
            note: "we met".into(),
            source: None,
            request_id: new_id(),
        };
        let asked = decided!(asker, send_friend_request, ask)?;
        let state = asked.request.as_ref().map(graph::FriendRequest::state);
        ensure!(state == Some(graph::RequestState::Pending), "the first request is {state:?}");
        let (accept, accepted) = accept(accepter, asker).await?;
        // It is open when the acceptance was answered, for whoever accepted.
        conversation(accepter, asker).await.context("the conversation is not open for who accepted")?;
        let sides = [Side { lists: true, blocks: false }; 2];
        let pair = Self { people, asked: (ask, asked), accepted: (accept, accepted), sides };
        pair.agrees().await?;
        Ok(pair)
    }

    /// One of the things the two can do as they stand.
    async fn step(&mut self, rng: &mut StdRng) -> anyhow::Result<()> {
        let actor = rng.random_range(0..2);
        self.people[actor].go_on().await?;
        let other = actor ^ 1;
        let [me, them] = [&self.people[actor].account, &self.people[other].account];
        let user_id = them.user_id().to_owned();
        let request_id = new_id();
        match (self.sides[actor], self.sides[other]) {
            (Side { blocks: true, .. }, _) => {
                decided!(me, unblock, graph::UnblockRequest { user_id, request_id })?;
                self.sides[actor].blocks = false;
            }
            (Side { lists: true, .. }, _) if rng.random() => {
                decided!(me, remove_contact, graph::RemoveContactRequest { user_id, request_id })?;
                self.sides[actor].lists = false;
            }
            (_, Side { blocks: true, .. }) | (Side { lists: true, .. }, _) => {
                decided!(me, block, graph::BlockRequest { user_id, request_id })?;
                self.sides[actor].blocks = true;
            }
            (Side { lists: false, .. }, Side { lists, .. }) => {
                let ask = graph::SendFriendRequestRequest { user_id, note: "again".into(), source: None, request_id };
                decided!(me, send_friend_request, ask)?;
                // Who still lists the asker is not asked.
                if !lists {
                    accept(them, me).await?;
                }
                self.sides = [Side { lists: true, blocks: false }; 2];
            }
        }
        self.agrees().await
    }

    /// Both sides come to what was answered: in their contacts, their blocks, and in who may write.
    async fn agrees(&self) -> anyhow::Result<()> {
        wait_for("both sides agree with what was answered", SOON, || async {
            let mut found = Vec::new();
            for person in [0, 1] {
                found.push(side(&self.people[person].account, &self.people[person ^ 1].account).await.map_err(|error| error.to_string())?);
            }
            if found == self.sides { Ok(()) } else { Err(format!("{found:?}, not {:?}", self.sides)) }
        })
        .await?;
        let friends = self.sides.iter().all(|side| side.lists && !side.blocks);
        for person in [0, 1] {
            let (from, to) = (&self.people[person].account, &self.people[person ^ 1].account);
            wait_for("who may write agrees with what was answered", SOON, || async {
                let written = from.send(plaza_client::To::User(to.user_id().into()), text("may I")).await;
                match &written {
                    Ok(_) if friends => Ok(()),
                    Err(error) if !friends && error.reason() == "NOT_A_CONTACT" => Ok(()),
                    _ => Err(format!("{written:?}, friends: {friends}")),
                }
            })
            .await?;
        }
        Ok(())
    }

    /// After everything: whatever was answered is so, and whatever is asked again is answered as it was and changes nothing.
    pub(crate) async fn stay_met(&self) -> anyhow::Result<()> {
        let [asker, accepter] = [&self.people[0].account, &self.people[1].account];
        for person in &self.people {
            person.is_registered().await?;
        }
        ensure!(decided!(asker, send_friend_request, self.asked.0)? == self.asked.1, "another answer than {:?}", self.asked.1);
        ensure!(
            decided!(accepter, accept_friend_request, self.accepted.0)? == self.accepted.1,
            "another answer than {:?}",
            self.accepted.1
        );
        let other = graph::SendFriendRequestRequest { note: "another note".into(), ..self.asked.0.clone() };
        let refused = decided!(asker, send_friend_request, other);
        ensure!(matches!(&refused, Err(error) if error.reason() == "REQUEST_ID_REUSED"), "the id with another note: {refused:?}");
        for (one, other) in [(asker, accepter), (accepter, asker)] {
            conversation(one, other).await.context("the conversation is gone")?;
        }
        self.agrees().await
    }
}

type Accepted = (graph::AcceptFriendRequestRequest, graph::AcceptFriendRequestResponse);

/// Accepts once the request has arrived.
async fn accept(accepter: &Account, asker: &Account) -> anyhow::Result<Accepted> {
    let request = wait_for("the request arrives", SOON, || async {
        let list = graph::ListFriendRequestsRequest { r#box: graph::RequestBox::Received.into(), ..Default::default() };
        let page = accepter
            .call(|mut services| {
                let list = list.clone();
                async move { services.graph.list_friend_requests(list).await }
            })
            .await
            .map_err(|error| error.to_string())?;
        let pending =
            |request: &graph::FriendRequest| request.user_id == asker.user_id() && request.state() == graph::RequestState::Pending;
        if page.requests.iter().any(pending) { Ok(()) } else { Err(format!("{:?}", page.requests)) }
    });
    request.await?;
    let accept = graph::AcceptFriendRequestRequest { user_id: asker.user_id().into(), request_id: new_id() };
    let accepted = decided!(accepter, accept_friend_request, accept)?;
    Ok((accept, accepted))
}

async fn conversation(one: &Account, other: &Account) -> anyhow::Result<()> {
    let request = chat::GetConversationRequest { conversation_id: conversation_of(one, other)? };
    one.call(|mut services| {
        let request = request.clone();
        async move { services.chat.get_conversation(request).await }
    })
    .await?;
    Ok(())
}

async fn side(one: &Account, other: &Account) -> Result<Side, Error> {
    let contact = graph::GetContactRequest { user_id: other.user_id().into() };
    let listed = one
        .call(|mut services| {
            let contact = contact.clone();
            async move { services.graph.get_contact(contact).await }
        })
        .await;
    let lists = match listed {
        Ok(_) => true,
        Err(Error::Refused { code: Code::NotFound, .. }) => false,
        Err(error) => return Err(error),
    };
    let blocked = one.call(|mut services| async move { services.graph.list_blocked(graph::ListBlockedRequest::default()).await }).await?;
    Ok(Side { lists, blocks: blocked.user_ids.iter().any(|user| user == other.user_id()) })
}
