//! One graph service with everything around it, and people who use it.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use plaza_embedded_db::{Db, Options};
use plaza_event_log::{EventLog, Reader, Topic, TopicPartition, embedded::EmbeddedLog};
use plaza_graph::{Config, Deps, Embedded, Peers, store::Store};
use plaza_processor::{Envelope, Outcome, Replies};
use plaza_proto::{
    accounts::v1::{
        GetVerifyingKeyRequest, GetVerifyingKeyResponse, Known, LookupRequest, LookupResponse,
        directory_service_server::{DirectoryService, DirectoryServiceServer},
    },
    chat::v1::{Entry, entry::Event},
    graph::v1::{
        AcceptFriendRequestRequest, Contact, FriendRequest, GetContactRequest, GetRelationsRequest, ListFriendRequestsRequest, Relation,
        RequestBox, SendFriendRequestRequest, graph_service_client::GraphServiceClient, relations_service_client::RelationsServiceClient,
    },
};
use plaza_rpc::{Identity, PageTokens, Peer, StackDeps, stack};
use plaza_runtime::{Clock, Rng, Stage, Supervisor};
use plaza_telemetry::RpcMetrics;
use plaza_topics::{
    CHAT, INBOX,
    conversation::{self, Side},
    inbox,
};
use plaza_types::{ClientId, DeviceId, UserId};
use prost::Message;
use tonic::{Code, Request, Response, Status, service::Routes};
use tonic_types::StatusExt;

const PARTITIONS: u32 = 3;
const NOON: u64 = 1_700_006_400_000_000;

pub(crate) struct World {
    pub(crate) clock: Clock,
    pub(crate) peer: Peer,
    pub(crate) log: Arc<EmbeddedLog>,
    pub(crate) sides: Arc<Mutex<Vec<Side>>>,
    people: Arc<Mutex<HashMap<UserId, bool>>>,
    rng: Rng,
    _folder: tempfile::TempDir,
}

/// A signed-in user.
#[derive(Clone)]
pub(crate) struct Person {
    pub(crate) identity: Identity,
    pub(crate) id: String,
    pub(crate) graph: GraphServiceClient<Peer>,
}

struct Accounts(Arc<Mutex<HashMap<UserId, bool>>>);

#[tonic::async_trait]
impl DirectoryService for Accounts {
    async fn lookup(&self, request: Request<LookupRequest>) -> Result<Response<LookupResponse>, Status> {
        let people = self.0.lock();
        let known = request.into_inner().user_ids.into_iter().filter_map(|user_id| {
            let findable = *people.get(&user_id.parse().ok()?)?;
            Some(Known { user_id, findable, moments_range: 0 })
        });
        Ok(Response::new(LookupResponse { known: known.collect() }))
    }

    async fn get_verifying_key(&self, _: Request<GetVerifyingKeyRequest>) -> Result<Response<GetVerifyingKeyResponse>, Status> {
        Err(Status::unimplemented("nobody asks here"))
    }
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::around(|log| log, |store| store).await
    }

    /// With something around what the service runs on.
    pub(crate) async fn around(
        log_of: impl FnOnce(Arc<dyn EventLog>) -> Arc<dyn EventLog>,
        store_of: impl FnOnce(Arc<dyn Store>) -> Arc<dyn Store>,
    ) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let db = Db::open(folder.path(), Options::default()).expect("a store");
        let clock = Clock::manual(NOON);
        let log_clock = clock.clone();
        let topics: Vec<(Topic, u32)> = plaza_topics::all().map(|topic| (topic, PARTITIONS)).collect();
        let log = EmbeddedLog::open(&db, &topics, move || log_clock.now_micros()).expect("a log");
        let supervisor = Supervisor::new();
        let replies = Replies::new(7);
        let people = Arc::default();
        let accounts = stack(
            "accounts",
            Routes::new(DirectoryServiceServer::new(Accounts(Arc::clone(&people)))),
            &StackDeps { metrics: RpcMetrics::new() },
        );
        let sides = Arc::default();
        for partition in 0..PARTITIONS {
            let from = TopicPartition { topic: CHAT, partition };
            let reader = log.reader(from, 0).await.expect("a reader");
            supervisor.spawn("conversations", Stage::Consumers, open_conversations(reader, Arc::clone(&replies), Arc::clone(&sides)));
        }
        let deps = Deps {
            store: store_of(Arc::new(Embedded::open(&db).expect("tables"))),
            log: log_of(log.clone()),
            replies,
            peers: Peers { accounts: Peer::in_process(accounts) },
            clock: clock.clone(),
            rng: Rng::seeded(1),
            supervisor,
            page_tokens: PageTokens::new([3; 32]),
        };
        let built = plaza_graph::build(Config::default(), deps).await.expect("a service");
        let peer = Peer::in_process(stack("graph", built.routes, &StackDeps { metrics: RpcMetrics::new() }));
        Self { clock, peer, log, sides, people, rng: Rng::seeded(2), _folder: folder }
    }

    /// Somebody whom strangers find.
    pub(crate) fn person(&self) -> Person {
        let person = self.stranger();
        self.set_findable(&person, true);
        person
    }

    /// Somebody who has no account.
    pub(crate) fn stranger(&self) -> Person {
        let user = UserId::new(NOON, self.rng.bytes());
        let identity = Identity { user, device: DeviceId::new(NOON, self.rng.bytes()) };
        Person { identity, id: user.to_string(), graph: GraphServiceClient::new(self.peer.clone()) }
    }

    pub(crate) fn set_findable(&self, person: &Person, findable: bool) {
        self.people.lock().insert(person.identity.user, findable);
    }

    pub(crate) fn request_id(&self) -> String {
        ClientId::new(self.clock.now_micros(), self.rng.bytes()).to_string()
    }

    /// Moves the time on.
    pub(crate) fn wait(&self, micros: u64) {
        self.clock.advance(Duration::from_micros(micros));
    }

    pub(crate) async fn ask(&self, one: &Person, other: &Person) -> Result<FriendRequest, Status> {
        self.ask_with(one, other, "hello", &self.request_id()).await
    }

    pub(crate) async fn ask_with(&self, one: &Person, other: &Person, note: &str, request_id: &str) -> Result<FriendRequest, Status> {
        let request = SendFriendRequestRequest {
            user_id: other.id.clone(),
            note: note.to_owned(),
            source: Some("handle".to_owned()),
            request_id: request_id.to_owned(),
        };
        let answer = one.graph.clone().send_friend_request(one.identity.request(request)).await?;
        Ok(answer.into_inner().request.expect("a request"))
    }

    pub(crate) async fn accept(&self, one: &Person, other: &Person) -> Result<Contact, Status> {
        self.accept_with(one, other, &self.request_id()).await
    }

    pub(crate) async fn accept_with(&self, one: &Person, other: &Person, request_id: &str) -> Result<Contact, Status> {
        let request = AcceptFriendRequestRequest { user_id: other.id.clone(), request_id: request_id.to_owned() };
        let answer = one.graph.clone().accept_friend_request(one.identity.request(request)).await?;
        Ok(answer.into_inner().contact.expect("a contact"))
    }

    /// Makes two people friends.
    pub(crate) async fn befriend(&self, one: &Person, other: &Person) {
        self.ask(one, other).await.expect("asked");
        self.received(other, one).await;
        self.accept(other, one).await.expect("accepted");
        wait_for("both list each other", async || self.relation(one, other).await.lists && self.relation(other, one).await.lists).await;
    }

    /// Returns once `one` has the request of `other`.
    pub(crate) async fn received(&self, one: &Person, other: &Person) -> FriendRequest {
        let mut found = None;
        wait_for("the request arrives", async || {
            found = requests(one, RequestBox::Received).await.into_iter().find(|request| request.user_id == other.id);
            found.is_some()
        })
        .await;
        found.expect("it was found")
    }

    /// How the one stands to the other.
    pub(crate) async fn relation(&self, one: &Person, other: &Person) -> Relation {
        let request = GetRelationsRequest { user_id: one.id.clone(), other_ids: vec![other.id.clone()] };
        let answer = RelationsServiceClient::new(self.peer.clone()).get_relations(request).await.expect("relations");
        answer.into_inner().relations.into_iter().next().expect("one for each")
    }

    /// Everything that went into somebody's inbox so far; of what was emitted again, what inboxes take.
    pub(crate) async fn inbox(&self, person: &Person) -> Vec<Event> {
        let (mut events, mut seen) = (Vec::new(), HashSet::new());
        for partition in 0..PARTITIONS {
            let from = TopicPartition { topic: INBOX, partition };
            let (mut offset, end) = (0, self.log.end(from).await.expect("an end"));
            let mut reader = self.log.reader(from, 0).await.expect("a reader");
            while offset < end {
                for stored in reader.next(100).await.expect("records") {
                    offset = stored.offset + 1;
                    let envelope = Envelope::decode(stored.record.value).expect("an envelope");
                    let origin = envelope.origin.expect("an emission");
                    if !seen.insert((origin.partition, origin.offset, origin.index)) {
                        continue;
                    }
                    let Some(inbox::Kind::Event(event)) = inbox::Payload::decode(envelope.payload).expect("a payload").kind else {
                        panic!("graph sends events")
                    };
                    if event.user == person.identity.user.to_key() {
                        events.extend(Entry::decode(event.event).expect("an entry").event);
                    }
                }
            }
        }
        events
    }
}

/// What chat does with what graph says, as far as graph can tell: it answers whoever waits.
async fn open_conversations(mut reader: Box<dyn Reader>, replies: Arc<Replies>, sides: Arc<Mutex<Vec<Side>>>) -> anyhow::Result<()> {
    loop {
        for stored in reader.next(100).await? {
            let envelope = Envelope::decode(stored.record.value)?;
            let Some(conversation::Kind::Sides(told)) = conversation::Payload::decode(envelope.payload)?.kind else {
                anyhow::bail!("graph sends sides")
            };
            sides.lock().extend(told.sides);
            if let Some(to) = envelope.reply_to.filter(|_| !told.answer_to.is_empty()) {
                replies.deliver(to, Outcome::decode(told.answer)?);
            }
        }
    }
}

pub(crate) async fn requests(person: &Person, kept_in: RequestBox) -> Vec<FriendRequest> {
    let request = ListFriendRequestsRequest { r#box: kept_in.into(), page_size: 200, page_token: String::new() };
    person.graph.clone().list_friend_requests(person.identity.request(request)).await.expect("requests").into_inner().requests
}

pub(crate) async fn get_contact(one: &Person, other: &Person) -> Result<Contact, Status> {
    let request = GetContactRequest { user_id: other.id.clone() };
    Ok(one.graph.clone().get_contact(one.identity.request(request)).await?.into_inner().contact.expect("a contact"))
}

/// Waits until something is so, at most 10 seconds.
pub(crate) async fn wait_for(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < Duration::from_secs(10), "waited too long until {what}");
        tokio::task::yield_now().await;
    }
}

/// The code and the reason of a refusal.
pub(crate) fn why<T: std::fmt::Debug>(answer: Result<T, Status>) -> (Code, String) {
    let status = answer.expect_err("a refusal");
    (status.code(), status.get_details_error_info().map(|info| info.reason).unwrap_or_default())
}

pub(crate) fn refusal(code: Code, reason: &str) -> (Code, String) {
    (code, reason.to_owned())
}
