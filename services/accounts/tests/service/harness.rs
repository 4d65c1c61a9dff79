//! The service with a graph that says what a test wants, and short ways to call it.

use std::{
    collections::HashMap,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use plaza_accounts::{Config, Deps, Embedded, PasswordConfig, Peers, build, store::Store};
use plaza_embedded_db::{Db, Options};
use plaza_event_log::{EventLog, TopicPartition, embedded::EmbeddedLog};
use plaza_proto::{
    accounts::v1::{self as proto, accounts_service_client::AccountsServiceClient, directory_service_client::DirectoryServiceClient},
    graph::v1::{
        GetRelationsRequest, GetRelationsResponse, GetStancesRequest, GetStancesResponse, ListListedRequest, ListListedResponse,
        ListTagsRequest, ListTagsResponse, Relation,
        relations_service_server::{RelationsService, RelationsServiceServer},
    },
};
use plaza_rpc::{Identity, PageTokens, Peer, StackDeps, stack};
use plaza_runtime::{Clock, Rng, Supervisor};
use plaza_telemetry::RpcMetrics;
use plaza_topics::{ACCOUNTS, account};
use plaza_types::{ClientId, DeviceId, UserId};
use prost::Message;
use tempfile::TempDir;
use tonic::{Request, Response, Status, async_trait, service::Routes};
use tonic_types::StatusExt;

/// When tests begin.
pub(crate) const START: u64 = 1_800_000_000_000_000;
pub(crate) const PASSWORD: &str = "correct horse";

pub(crate) struct World {
    pub(crate) db: Db,
    pub(crate) log: Arc<EmbeddedLog>,
    pub(crate) clock: Clock,
    pub(crate) rng: Rng,
    pub(crate) graph: Graph,
    pub(crate) peer: Peer,
    pub(crate) folder: TempDir,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::wrapped(1, |store, _| store).await
    }

    /// With the store as `wrap` gives it.
    pub(crate) async fn wrapped(seed: u64, wrap: impl FnOnce(Arc<dyn Store>, Rng) -> Arc<dyn Store>) -> Self {
        Self::open(tempfile::tempdir().expect("a folder"), Clock::manual(START), Rng::seeded(seed), wrap).await
    }

    async fn open(folder: TempDir, clock: Clock, rng: Rng, wrap: impl FnOnce(Arc<dyn Store>, Rng) -> Arc<dyn Store>) -> Self {
        let db = Db::open(folder.path(), Options::default()).expect("opened");
        let now = clock.clone();
        let log = EmbeddedLog::open(&db, &[(ACCOUNTS, 3)], move || now.now_micros()).expect("opened");
        let graph = Graph::default();
        let deps = Deps {
            store: wrap(Arc::new(Embedded::open(&db).expect("keyspaces")), rng.clone()),
            log: log.clone(),
            peers: Peers { graph: in_process("graph", Routes::new(RelationsServiceServer::new(graph.clone()))) },
            clock: clock.clone(),
            rng: rng.clone(),
            supervisor: Supervisor::new(),
            page_tokens: PageTokens::new([7; 32]),
        };
        let cheap = PasswordConfig { memory_kib: 32, passes: 1, ..PasswordConfig::default() };
        let built = build(Config { password: cheap }, deps).await.expect("built");
        Self { db, log, clock, rng, graph, peer: in_process("accounts", built.routes), folder }
    }

    /// The same data as another process finds it when this one was killed now.
    pub(crate) async fn killed_and_started_again(&self) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        copy(self.folder.path(), folder.path());
        // What the earlier process left is older than the next one.
        self.clock.advance(Duration::from_millis(1));
        Self::open(folder, self.clock.clone(), Rng::seeded(self.rng.next_u64()), |store, _| store).await
    }

    pub(crate) fn accounts(&self) -> AccountsServiceClient<Peer> {
        AccountsServiceClient::new(self.peer.clone())
    }

    pub(crate) fn directory(&self) -> DirectoryServiceClient<Peer> {
        DirectoryServiceClient::new(self.peer.clone())
    }

    pub(crate) fn request_id(&self) -> String {
        ClientId::new(self.clock.now_micros(), self.rng.bytes()).to_string()
    }

    pub(crate) fn registration(&self, handle: &str) -> proto::RegisterRequest {
        proto::RegisterRequest {
            handle: handle.to_owned(),
            password: PASSWORD.to_owned(),
            display_name: format!("{handle} of the tests"),
            device: Some(phone()),
            request_id: self.request_id(),
        }
    }

    pub(crate) async fn register(&self, handle: &str) -> proto::Session {
        self.try_register(self.registration(handle)).await.expect("registered")
    }

    pub(crate) async fn try_register(&self, request: proto::RegisterRequest) -> Result<proto::Session, Status> {
        self.accounts().register(request).await.map(|answer| answer.into_inner().session.expect("a session"))
    }

    pub(crate) async fn login(&self, handle: &str, password: &str, device_id: Option<&str>) -> Result<proto::Session, Status> {
        let device = proto::Device { device_id: device_id.map(str::to_owned), ..phone() };
        let request = proto::LoginRequest { handle: handle.to_owned(), password: password.to_owned(), device: Some(device) };
        self.accounts().login(request).await.map(|answer| answer.into_inner().session.expect("a session"))
    }

    pub(crate) async fn refresh(&self, token: &str) -> Result<proto::Session, Status> {
        let request = proto::RefreshRequest { refresh_token: token.to_owned() };
        self.accounts().refresh(request).await.map(|answer| answer.into_inner().session.expect("a session"))
    }

    pub(crate) async fn devices(&self, caller: &proto::Session) -> Vec<proto::DeviceInfo> {
        let request = proto::ListDevicesRequest { page_size: 200, page_token: String::new() };
        self.accounts().list_devices(as_caller(caller, request)).await.expect("listed").into_inner().devices
    }

    pub(crate) async fn update_settings(
        &self,
        caller: &proto::Session,
        settings: proto::Settings,
        paths: &[&str],
    ) -> Result<proto::Settings, Status> {
        let request = proto::UpdateSettingsRequest { settings: Some(settings), update_mask: mask(paths) };
        let answer = self.accounts().update_settings(as_caller(caller, request)).await?;
        Ok(answer.into_inner().settings.expect("settings"))
    }

    pub(crate) async fn hide(&self, caller: &proto::Session) {
        let hidden = proto::Settings { findable_by_handle: false, ..proto::Settings::default() };
        self.update_settings(caller, hidden, &["findable_by_handle"]).await.expect("hidden");
    }

    /// What the log says of a user, each event once: some come again.
    pub(crate) async fn events(&self, session: &proto::Session) -> Vec<account::Event> {
        let user = user_id(session).to_key();
        let partition = plaza_types::partition::of(&user, self.log.partitions(ACCOUNTS));
        let place = TopicPartition { topic: ACCOUNTS, partition };
        let end = self.log.end(place).await.expect("end");
        let mut reader = self.log.reader(place, 0).await.expect("reader");
        let (mut events, mut next) = (Vec::new(), 0);
        while next < end {
            for stored in reader.next(100).await.expect("records") {
                next = stored.offset + 1;
                let event = account::Event::decode(stored.record.value).expect("an event");
                assert_eq!(stored.record.key, event.user);
                if !events.contains(&event) {
                    events.push(event);
                }
            }
        }
        events.retain(|event| event.user == user);
        events
    }

    /// The devices that the log says are signed out.
    pub(crate) async fn revoked(&self, session: &proto::Session) -> Vec<String> {
        let events = self.events(session).await.into_iter();
        let devices = events.filter_map(|event| match event.kind {
            Some(account::Kind::DeviceRevoked(revoked)) => DeviceId::from_slice(&revoked.device),
            _ => None,
        });
        devices.map(|device| device.to_string()).collect()
    }

    pub(crate) async fn profile_changes(&self, session: &proto::Session) -> usize {
        let events = self.events(session).await;
        events.iter().filter(|event| matches!(event.kind, Some(account::Kind::ProfileChanged(_)))).count()
    }

    pub(crate) fn advance(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }
}

pub(crate) fn phone() -> proto::Device {
    proto::Device { device_id: None, name: "phone".to_owned(), platform: "ios".to_owned() }
}

pub(crate) fn mask(paths: &[&str]) -> Option<prost_types::FieldMask> {
    Some(prost_types::FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() })
}

pub(crate) fn user_id(session: &proto::Session) -> UserId {
    session.user.as_ref().expect("a user").user_id.parse().expect("an id")
}

/// A call as the gateway passes it on for this session.
pub(crate) fn as_caller<T>(session: &proto::Session, message: T) -> Request<T> {
    Identity { user: user_id(session), device: session.device_id.parse().expect("an id") }.request(message)
}

/// The reason and the fields named by a status.
pub(crate) fn why(status: &Status) -> (String, Vec<String>) {
    let details = status.get_error_details();
    let info = details.error_info().unwrap_or_else(|| panic!("no reason in {status:?}"));
    assert_eq!(info.domain, "plaza");
    let fields = details.bad_request().map(|request| request.field_violations.iter().map(|violation| violation.field.clone()).collect());
    (info.reason.clone(), fields.unwrap_or_default())
}

pub(crate) fn reason<T: std::fmt::Debug>(outcome: Result<T, Status>) -> String {
    why(&outcome.expect_err("refused")).0
}

fn in_process(name: &'static str, routes: Routes) -> Peer {
    Peer::in_process(stack(name, routes, &StackDeps { metrics: RpcMetrics::new() }))
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            std::fs::create_dir(&target).expect("created");
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), &target).expect("copied");
        }
    }
}

/// A graph in which everybody is a stranger unless a test says otherwise.
#[derive(Clone, Default)]
pub(crate) struct Graph {
    relations: Arc<Mutex<HashMap<(String, String), Relation>>>,
    pub(crate) asked: Arc<AtomicUsize>,
    pub(crate) down: Arc<AtomicBool>,
}

impl Graph {
    /// How `one` stands to `other`, as graph answers it to `one`.
    pub(crate) fn set(&self, one: &proto::Session, other: &proto::Session, relation: Relation) {
        let (one, other) = (user_id(one).to_string(), user_id(other).to_string());
        let relation = Relation { user_id: other.clone(), ..relation };
        self.relations.lock().expect("no panic").insert((one, other), relation);
    }
}

#[async_trait]
impl RelationsService for Graph {
    async fn get_relations(&self, request: Request<GetRelationsRequest>) -> Result<Response<GetRelationsResponse>, Status> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        if self.down.load(Ordering::SeqCst) {
            return Err(Status::unavailable("graph is down"));
        }
        let GetRelationsRequest { user_id, other_ids } = request.into_inner();
        let relations = self.relations.lock().expect("no panic");
        let stranger = |user_id| Relation { user_id, ..Relation::default() };
        let relation = |other: String| relations.get(&(user_id.clone(), other.clone())).cloned().unwrap_or_else(|| stranger(other));
        Ok(Response::new(GetRelationsResponse { relations: other_ids.into_iter().map(relation).collect() }))
    }

    async fn get_stances(&self, _: Request<GetStancesRequest>) -> Result<Response<GetStancesResponse>, Status> {
        Err(Status::unimplemented("accounts does not ask this"))
    }

    async fn list_listed(&self, _: Request<ListListedRequest>) -> Result<Response<ListListedResponse>, Status> {
        Err(Status::unimplemented("accounts does not ask this"))
    }

    async fn list_tags(&self, _: Request<ListTagsRequest>) -> Result<Response<ListTagsResponse>, Status> {
        Err(Status::unimplemented("accounts does not ask this"))
    }
}
