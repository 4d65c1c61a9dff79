//! One moments service with everything around it, and people who use it. Graph and accounts are tables; what they would tell the log is
//! appended as they would.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use plaza_embedded_db::{Db, Options};
use plaza_event_log::{EventLog, Reader, Record, Topic, TopicPartition, embedded::EmbeddedLog};
use plaza_moments::{Config, Deps, Embedded, Peers, store::Store};
use plaza_processor::{Envelope, Replies};
use plaza_proto::{
    accounts::v1::{
        GetVerifyingKeyRequest, GetVerifyingKeyResponse, Known, LookupRequest, LookupResponse, MomentsRange,
        directory_service_server::{DirectoryService, DirectoryServiceServer},
    },
    chat::v1::{Entry, MomentsNotice, entry::Event},
    graph::v1::{
        GetRelationsRequest, GetRelationsResponse, GetStancesRequest, GetStancesResponse, ListListedRequest, ListListedResponse,
        ListTagsRequest, ListTagsResponse, Permissions, Stance,
        relations_service_server::{RelationsService, RelationsServiceServer},
    },
    moments::v1::{self as api, audience::Kind as Audience, moments_service_client::MomentsServiceClient},
};
use plaza_rpc::{Identity, PageTokens, Peer, StackDeps, stack};
use plaza_runtime::{Clock, Rng, Stage, Supervisor};
use plaza_telemetry::RpcMetrics;
use plaza_topics::{ACCOUNTS, EDGES, GRAPH, INBOX, MOMENTS, TIMELINE, account, graph, inbox, moments, timeline};
use plaza_types::{ClientId, DeviceId, UserId, limits::SECOND, partition};
use prost::Message;
use tokio::sync::watch;
use tonic::{Code, Request, Response, Status, service::Routes};
use tonic_types::StatusExt;

use crate::stuck::StuckLog;

const PARTITIONS: u32 = 3;
const NOON: u64 = 1_700_006_400_000_000;

/// What graph and accounts know.
#[derive(Default)]
pub(crate) struct Tables {
    stances: Mutex<BTreeMap<(UserId, UserId), Stance>>,
    ranges: Mutex<HashMap<UserId, MomentsRange>>,
    /// How often they were asked.
    asked: AtomicU64,
}

pub(crate) struct World {
    pub(crate) clock: Clock,
    pub(crate) log: Arc<dyn EventLog>,
    /// Makes the followers of events stand still.
    pub(crate) stuck: watch::Sender<bool>,
    store: Arc<Embedded>,
    peer: Peer,
    tables: Arc<Tables>,
    versions: AtomicU64,
    rng: Rng,
    _folder: tempfile::TempDir,
}

/// A signed-in user.
#[derive(Clone)]
pub(crate) struct Person {
    pub(crate) user: UserId,
    pub(crate) id: String,
    identity: Identity,
    pub(crate) moments: MomentsServiceClient<Peer>,
}

struct Graph(Arc<Tables>);

#[tonic::async_trait]
impl RelationsService for Graph {
    async fn get_relations(&self, _: Request<GetRelationsRequest>) -> Result<Response<GetRelationsResponse>, Status> {
        Err(Status::unimplemented("nobody asks here"))
    }

    async fn get_stances(&self, request: Request<GetStancesRequest>) -> Result<Response<GetStancesResponse>, Status> {
        self.0.asked.fetch_add(1, Ordering::Relaxed);
        let request = request.into_inner();
        assert!(request.other_ids.len() <= 200, "more than graph takes");
        let (user, stances) = (id(&request.user_id), self.0.stances.lock());
        let mut answer = GetStancesResponse::default();
        for other in request.other_ids.iter().map(|other| id(other)) {
            answer.own.push(stances.get(&(user, other)).cloned().unwrap_or_default());
            answer.theirs.push(stances.get(&(other, user)).cloned().unwrap_or_default());
        }
        Ok(Response::new(answer))
    }

    async fn list_listed(&self, request: Request<ListListedRequest>) -> Result<Response<ListListedResponse>, Status> {
        let user = id(&request.get_ref().user_id);
        let stances = self.0.stances.lock();
        let listed = stances.iter().filter(|((owner, _), stance)| *owner == user && stance.lists);
        let after = listed.map(|((_, other), _)| other.to_string()).filter(|other| *other > request.get_ref().after);
        Ok(Response::new(ListListedResponse { user_ids: after.take(1_000).collect() }))
    }

    async fn list_tags(&self, request: Request<ListTagsRequest>) -> Result<Response<ListTagsResponse>, Status> {
        let user = id(&request.get_ref().user_id);
        let stances = self.0.stances.lock();
        let own = stances.iter().filter(|((owner, _), stance)| *owner == user && stance.lists);
        let tags: BTreeSet<String> = own.flat_map(|(_, stance)| stance.tags.clone()).collect();
        Ok(Response::new(ListTagsResponse { tags: tags.into_iter().collect() }))
    }
}

struct Accounts(Arc<Tables>);

#[tonic::async_trait]
impl DirectoryService for Accounts {
    async fn lookup(&self, request: Request<LookupRequest>) -> Result<Response<LookupResponse>, Status> {
        self.0.asked.fetch_add(1, Ordering::Relaxed);
        let ranges = self.0.ranges.lock();
        let known = request.into_inner().user_ids.into_iter().filter_map(|user_id| {
            let range = *ranges.get(&id(&user_id))?;
            Some(Known { user_id, findable: true, moments_range: range.into() })
        });
        Ok(Response::new(LookupResponse { known: known.collect() }))
    }

    async fn get_verifying_key(&self, _: Request<GetVerifyingKeyRequest>) -> Result<Response<GetVerifyingKeyResponse>, Status> {
        Err(Status::unimplemented("nobody asks here"))
    }
}

fn id(text: &str) -> UserId {
    text.parse().expect("a user id")
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::around(|log| log, |store| store).await
    }

    /// The service uses what these make of the log and the store.
    pub(crate) async fn around(
        log_of: impl FnOnce(Arc<dyn EventLog>) -> Arc<dyn EventLog>,
        store_of: impl FnOnce(Arc<dyn Store>) -> Arc<dyn Store>,
    ) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let db = Db::open(folder.path(), Options::default()).expect("a store");
        let clock = Clock::manual(NOON);
        let log_clock = clock.clone();
        let topics: Vec<(Topic, u32)> = plaza_topics::all().map(|topic| (topic, PARTITIONS)).collect();
        let inner = EmbeddedLog::open(&db, &topics, move || log_clock.now_micros()).expect("a log");
        let (stuck, is_stuck) = watch::channel(false);
        let log: Arc<dyn EventLog> = Arc::new(StuckLog { inner, stuck: is_stuck });
        let supervisor = Supervisor::new();
        let tables = Arc::<Tables>::default();
        let stack_deps = StackDeps { metrics: RpcMetrics::new() };
        let peers = Peers {
            graph: Peer::in_process(stack("graph", Routes::new(RelationsServiceServer::new(Graph(tables.clone()))), &stack_deps)),
            accounts: Peer::in_process(stack("accounts", Routes::new(DirectoryServiceServer::new(Accounts(tables.clone()))), &stack_deps)),
        };
        for partition in 0..PARTITIONS {
            let reader = log.reader(TopicPartition { topic: GRAPH, partition }, 0).await.expect("a reader");
            supervisor.spawn("edges", Stage::Consumers, spread(reader, log.clone(), tables.clone()));
        }
        let store = Arc::new(Embedded::open(&db).expect("tables"));
        let deps = Deps {
            store: store_of(store.clone()),
            log: log_of(log.clone()),
            replies: Replies::new(7),
            peers,
            clock: clock.clone(),
            rng: Rng::seeded(1),
            supervisor,
            page_tokens: PageTokens::new([3; 32]),
        };
        let built = plaza_moments::build(Config::default(), deps).await.expect("a service");
        let peer = Peer::in_process(stack("moments", built.routes, &stack_deps));
        Self { clock, log, stuck, store, peer, tables, versions: AtomicU64::new(0), rng: Rng::seeded(2), _folder: folder }
    }

    pub(crate) fn person(&self) -> Person {
        let user = UserId::new(NOON, self.rng.bytes());
        self.tables.ranges.lock().insert(user, MomentsRange::All);
        let identity = Identity { user, device: DeviceId::new(NOON, self.rng.bytes()) };
        Person { user, id: user.to_string(), identity, moments: MomentsServiceClient::new(self.peer.clone()) }
    }

    /// Three people: the second and the third are friends of the first, and not of each other.
    pub(crate) async fn people(&self) -> [Person; 3] {
        let people = [self.person(), self.person(), self.person()];
        self.befriend(&people[0], &people[1]).await;
        self.befriend(&people[0], &people[2]).await;
        people
    }

    pub(crate) fn request_id(&self) -> String {
        ClientId::new(self.clock.now_micros(), self.rng.bytes()).to_string()
    }

    /// Moves the time on.
    pub(crate) fn wait(&self, micros: u64) {
        self.clock.advance(Duration::from_micros(micros));
    }

    /// Whether something was kept from somebody's timeline because they did not look.
    pub(crate) async fn is_passed_over(&self, person: &Person) -> bool {
        self.store.viewer(person.user).await.expect("read").skipped > 0
    }

    /// How often graph and accounts were asked.
    pub(crate) fn asked(&self) -> u64 {
        self.tables.asked.load(Ordering::Relaxed)
    }

    pub(crate) async fn befriend(&self, one: &Person, other: &Person) {
        self.change(one, other, |stance| stance.lists = true).await;
        self.change(other, one, |stance| stance.lists = true).await;
    }

    /// Changes how one stands to another, and returns once everybody who must be told is.
    pub(crate) async fn change(&self, one: &Person, other: &Person, change: impl FnOnce(&mut Stance)) {
        let version = self.versions.fetch_add(1, Ordering::Relaxed) + 1;
        let listed = {
            let mut stances = self.tables.stances.lock();
            let stance = stances.entry((one.user, other.user)).or_default();
            let before = stance.lists;
            change(stance);
            stance.version = version;
            stance.lists && !before
        };
        let changed = graph::EdgeChanged { owner: one.user.to_key(), other: other.user.to_key() };
        self.append(EDGES, one.user, version, changed.encode_to_vec()).await;
        if listed {
            for (author, viewer) in [(one, other), (other, one)] {
                let backfill = moments::Kind::Backfill(moments::Backfill { viewer: viewer.user.to_key() });
                self.append(MOMENTS, author.user, version, moments::Payload { kind: Some(backfill) }.encode_to_vec()).await;
            }
        }
    }

    pub(crate) async fn permit(&self, one: &Person, other: &Person, permissions: Permissions) {
        self.change(one, other, |stance| stance.permissions = Some(permissions)).await;
    }

    pub(crate) async fn set_range(&self, person: &Person, range: MomentsRange) {
        self.tables.ranges.lock().insert(person.user, range);
        let kind = Some(account::Kind::ProfileChanged(account::ProfileChanged {}));
        let event = account::Event { user: person.user.to_key(), time: self.clock.now_micros(), kind };
        let to = TopicPartition { topic: ACCOUNTS, partition: partition::of(person.user.as_bytes(), PARTITIONS) };
        let record = Record { key: person.user.to_key(), value: event.encode_to_vec().into(), headers: Vec::new() };
        self.log.append(to, record).await.expect("appended");
    }

    async fn append(&self, topic: Topic, key: UserId, time: u64, payload: Vec<u8>) {
        let envelope = Envelope { rules: 1, time, payload: payload.into(), ..Envelope::default() };
        let to = TopicPartition { topic, partition: partition::of(key.as_bytes(), PARTITIONS) };
        let record = Record { key: key.to_key(), value: envelope.encode_to_vec().into(), headers: Vec::new() };
        self.log.append(to, record).await.expect("appended");
    }

    /// The notices that went into somebody's inbox so far.
    pub(crate) async fn inbox(&self, person: &Person) -> Vec<MomentsNotice> {
        let mut events = Vec::new();
        for partition in 0..PARTITIONS {
            let from = TopicPartition { topic: INBOX, partition };
            let (mut offset, end) = (0, self.log.end(from).await.expect("an end"));
            let mut reader = self.log.reader(from, 0).await.expect("a reader");
            while offset < end {
                for stored in reader.next(100).await.expect("records") {
                    offset = stored.offset + 1;
                    let envelope = Envelope::decode(stored.record.value).expect("an envelope");
                    assert!(envelope.origin.is_some(), "what may come again says where it comes from");
                    let Some(inbox::Kind::Event(event)) = inbox::Payload::decode(envelope.payload).expect("a payload").kind else {
                        panic!("moments sends events")
                    };
                    if event.user == person.user.to_key() {
                        let Some(Event::MomentsNotice(notice)) = Entry::decode(event.event).expect("an entry").event else {
                            panic!("moments sends notices")
                        };
                        events.push(notice);
                    }
                }
            }
        }
        events
    }

    pub(crate) fn posting(&self, words: &str) -> api::CreatePostRequest {
        let content = Some(api::PostContent { text: words.to_owned(), ..Default::default() });
        api::CreatePostRequest { request_id: self.request_id(), content, ..Default::default() }
    }

    /// Posts, and moves the time on by a second.
    pub(crate) async fn post(&self, person: &Person, words: &str) -> api::Post {
        let posted = person.create(self.posting(words)).await.expect("posted");
        self.wait(SECOND);
        posted
    }

    pub(crate) async fn post_for(&self, person: &Person, words: &str, audience: Audience) -> api::Post {
        let request = api::CreatePostRequest { audience: Some(api::Audience { kind: Some(audience) }), ..self.posting(words) };
        person.create(request).await.expect("posted")
    }

    pub(crate) async fn comment(
        &self,
        person: &Person,
        post: &api::Post,
        reply_to: Option<&api::PostComment>,
    ) -> Result<api::PostComment, Status> {
        let request = api::CommentRequest {
            post_id: post.post_id.clone(),
            text: format!("by {}", person.id),
            reply_to: reply_to.map(|comment| comment.comment_id.clone()),
            request_id: self.request_id(),
        };
        person.comment(request).await
    }
}

impl Person {
    fn request<T>(&self, message: T) -> Request<T> {
        self.identity.request(message)
    }

    pub(crate) async fn create(&self, request: api::CreatePostRequest) -> Result<api::Post, Status> {
        Ok(self.moments.clone().create_post(self.request(request)).await?.into_inner().post.expect("a post"))
    }

    /// The same, not waiting for long for what a fault has swallowed.
    pub(crate) async fn create_within(&self, request: api::CreatePostRequest) -> Result<api::Post, Status> {
        Ok(self.moments.clone().create_post(self.shortly(request)).await?.into_inner().post.expect("a post"))
    }

    pub(crate) async fn like_within(&self, post: &api::Post) -> Result<api::Post, Status> {
        let request = api::LikeRequest { post_id: post.post_id.clone(), request_id: String::new() };
        Ok(self.moments.clone().like(self.shortly(request)).await?.into_inner().post.expect("a post"))
    }

    pub(crate) async fn comment_within(&self, request: api::CommentRequest) -> Result<api::PostComment, Status> {
        Ok(self.moments.clone().comment(self.shortly(request)).await?.into_inner().comment.expect("a comment"))
    }

    fn shortly<T>(&self, message: T) -> Request<T> {
        let mut request = self.request(message);
        request.set_timeout(Duration::from_secs(1));
        request
    }

    pub(crate) async fn get(&self, post: &api::Post) -> Result<api::Post, Status> {
        let request = api::GetPostRequest { post_id: post.post_id.clone() };
        Ok(self.moments.clone().get_post(self.request(request)).await?.into_inner().post.expect("a post"))
    }

    pub(crate) async fn sees(&self, post: &api::Post) -> bool {
        match self.get(post).await {
            Ok(seen) => seen.post_id == post.post_id,
            Err(status) => {
                assert_eq!((status.code(), status.message()), (Code::NotFound, "no such post"));
                false
            }
        }
    }

    pub(crate) async fn delete(&self, post: &api::Post, request_id: String) -> Result<(), Status> {
        let request = api::DeletePostRequest { post_id: post.post_id.clone(), request_id };
        self.moments.clone().delete_post(self.request(request)).await.map(drop)
    }

    pub(crate) async fn like(&self, post: &api::Post) -> Result<api::Post, Status> {
        let request = api::LikeRequest { post_id: post.post_id.clone(), request_id: String::new() };
        Ok(self.moments.clone().like(self.request(request)).await?.into_inner().post.expect("a post"))
    }

    pub(crate) async fn unlike(&self, post: &api::Post) -> Result<api::Post, Status> {
        let request = api::UnlikeRequest { post_id: post.post_id.clone(), request_id: String::new() };
        Ok(self.moments.clone().unlike(self.request(request)).await?.into_inner().post.expect("a post"))
    }

    pub(crate) async fn comment(&self, request: api::CommentRequest) -> Result<api::PostComment, Status> {
        Ok(self.moments.clone().comment(self.request(request)).await?.into_inner().comment.expect("a comment"))
    }

    pub(crate) async fn delete_comment(&self, comment: &api::PostComment) -> Result<(), Status> {
        let request = api::DeleteCommentRequest { comment_id: comment.comment_id.clone(), request_id: String::new() };
        self.moments.clone().delete_comment(self.request(request)).await.map(drop)
    }

    pub(crate) async fn comments(&self, post: &api::Post, page_size: u32, page_token: String) -> Result<api::ListCommentsResponse, Status> {
        let request = api::ListCommentsRequest { post_id: post.post_id.clone(), page_size, page_token };
        Ok(self.moments.clone().list_comments(self.request(request)).await?.into_inner())
    }

    pub(crate) async fn timeline(&self, page_size: u32, page_token: String) -> Result<api::ListTimelineResponse, Status> {
        let request = api::ListTimelineRequest { page_size, page_token };
        Ok(self.moments.clone().list_timeline(self.request(request)).await?.into_inner())
    }

    pub(crate) async fn posts_of(&self, other: &Person, page_size: u32, page_token: String) -> Result<api::ListUserPostsResponse, Status> {
        let request = api::ListUserPostsRequest { user_id: other.id.clone(), page_size, page_token };
        Ok(self.moments.clone().list_user_posts(self.request(request)).await?.into_inner())
    }

    pub(crate) async fn notices(&self) -> Vec<(api::NoticeKind, String)> {
        let answer = self.page_of_notices(200, String::new()).await.expect("notices");
        answer.notices.iter().map(|notice| (notice.kind(), notice.actor_id.clone())).collect()
    }

    pub(crate) async fn page_of_notices(&self, page_size: u32, page_token: String) -> Result<api::ListNoticesResponse, Status> {
        let request = api::ListNoticesRequest { page_size, page_token };
        Ok(self.moments.clone().list_notices(self.request(request)).await?.into_inner())
    }

    /// The words of everything in the timeline.
    pub(crate) async fn reads(&self) -> Vec<String> {
        words(&self.timeline(200, String::new()).await.expect("a timeline").posts)
    }

    /// Waits until the timeline says this.
    pub(crate) async fn will_read(&self, expected: &[&str]) {
        wait_for(&format!("the timeline says {expected:?}"), async || self.reads().await == expected).await;
    }
}

pub(crate) fn words(posts: &[api::Post]) -> Vec<String> {
    posts.iter().map(|post| post.content.clone().unwrap_or_default().text).collect()
}

/// What graph does with a post to be spread, as far as moments can tell.
async fn spread(mut reader: Box<dyn Reader>, log: Arc<dyn EventLog>, tables: Arc<Tables>) -> anyhow::Result<()> {
    loop {
        for stored in reader.next(100).await? {
            let envelope = Envelope::decode(stored.record.value)?;
            let Some(graph::Kind::Spread(spread)) = graph::Payload::decode(envelope.payload)?.kind else {
                anyhow::bail!("moments spreads posts")
            };
            let author = UserId::from_slice(&stored.record.key).expect("an author");
            let listed: Vec<UserId> = {
                let stances = tables.stances.lock();
                stances.iter().filter(|((owner, _), stance)| *owner == author && stance.lists).map(|((_, other), _)| *other).collect()
            };
            for viewer in listed {
                let post = timeline::Reference { author: author.to_key(), post: spread.post.clone(), created: spread.created };
                let references = timeline::References { viewers: vec![viewer.to_key()], posts: vec![post], idle_after: spread.idle_after };
                let payload = timeline::Payload { kind: Some(timeline::Kind::References(references)) }.encode_to_vec();
                let envelope = Envelope { rules: 1, time: envelope.time, payload: payload.into(), ..Envelope::default() };
                let to = TopicPartition { topic: TIMELINE, partition: partition::of(viewer.as_bytes(), PARTITIONS) };
                log.append(to, Record { key: author.to_key(), value: envelope.encode_to_vec().into(), headers: Vec::new() }).await?;
            }
        }
    }
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

/// The fields that a refusal names.
pub(crate) fn fields<T: std::fmt::Debug>(answer: Result<T, Status>) -> Vec<String> {
    let status = answer.expect_err("a refusal");
    assert_eq!(status.code(), Code::InvalidArgument);
    let details = status.get_details_bad_request().expect("fields");
    details.field_violations.into_iter().map(|violation| violation.field).collect()
}

pub(crate) fn refusal(code: Code, reason: &str) -> (Code, String) {
    (code, reason.to_owned())
}

pub(crate) fn people(users: &[&Person], tags: &[&str]) -> api::People {
    api::People {
        user_ids: users.iter().map(|person| person.id.clone()).collect(),
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
    }
}
