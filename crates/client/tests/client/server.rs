//! A server that does what a test says: it gives sessions with the life a test wants, takes each refresh token once, and speaks on the live
//! stream as a test's script says.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use plaza_client::{Device, Endpoint, accounts, common, gateway};
use plaza_proto::{
    accounts::v1::accounts_service_server::{AccountsService, AccountsServiceServer},
    gateway::v1::gateway_service_server::{GatewayService, GatewayServiceServer},
};
use tokio::{
    net::TcpListener,
    sync::{Mutex, Notify, mpsc},
};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Code, Request, Response, Status, Streaming, async_trait, transport::Server};
use tonic_types::{ErrorDetails, StatusExt as _};

/// The server's end of a live stream.
pub(crate) struct Stream {
    /// The access token it was opened with.
    pub(crate) token: String,
    /// What the client says.
    pub(crate) frames: Streaming<gateway::ConnectRequest>,
    /// What the client hears.
    pub(crate) answers: mpsc::Sender<Result<gateway::ConnectResponse, Status>>,
}

pub(crate) struct Fake {
    pub(crate) endpoint: Endpoint,
    /// Live streams as they are opened.
    pub(crate) streams: mpsc::Receiver<Stream>,
    pub(crate) state: Arc<Mutex<State>>,
}

/// What the server knows.
pub(crate) struct State {
    /// How long the access tokens given from now on live.
    pub(crate) life: Duration,
    /// Refreshes that were good.
    pub(crate) refreshes: usize,
    /// Refresh tokens presented a second time.
    pub(crate) reused: usize,
    /// Access tokens whose time is over, whatever was said of it.
    pub(crate) expired: Vec<String>,
    /// GetMe calls.
    pub(crate) calls: usize,
    /// Whether it refreshes nothing.
    pub(crate) down: bool,
    /// Has the answers to refreshes wait.
    pub(crate) hold: Option<Arc<Hold>>,
}

/// Answers that wait.
#[derive(Default)]
pub(crate) struct Hold {
    /// A token was exchanged.
    pub(crate) exchanged: Notify,
    /// Lets one go.
    pub(crate) answer: Notify,
}

impl State {
    fn session(&self) -> accounts::Session {
        accounts::Session {
            user: Some(common::User { user_id: "ada".into(), handle: "ada_lovelace".into(), ..Default::default() }),
            device_id: "laptop".into(),
            access_token: access(self.refreshes),
            access_expires_at: Some((SystemTime::now() + self.life).into()),
            refresh_token: format!("refresh {}", self.refreshes),
        }
    }
}

/// The access token after so many refreshes.
pub(crate) fn access(refreshes: usize) -> String {
    format!("access {refreshes}")
}

pub(crate) fn refused(code: Code, reason: &str) -> Status {
    Status::with_error_details(code, "refused", ErrorDetails::with_error_info(reason, "plaza", std::collections::HashMap::new()))
}

pub(crate) fn expired() -> Status {
    refused(Code::Unauthenticated, "TOKEN_EXPIRED")
}

/// The laptop of the tests.
pub(crate) fn laptop() -> Device {
    Device::new("laptop", "linux")
}

impl Fake {
    #[expect(clippy::disallowed_methods, reason = "the server of a test, which ends with its runtime")]
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (opened, streams) = mpsc::channel(16);
        let state =
            State { life: Duration::from_secs(900), refreshes: 0, reused: 0, expired: Vec::new(), calls: 0, down: false, hold: None };
        let state = Arc::new(Mutex::new(state));
        let service = Service { state: state.clone(), opened };
        let server = Server::builder()
            .add_service(AccountsServiceServer::new(service.clone()))
            .add_service(GatewayServiceServer::new(service))
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(server);
        let endpoint = Endpoint::new(&format!("http://{address}")).expect("an address");
        Self { endpoint: endpoint.with_longest_wait(Duration::from_millis(200)), streams, state }
    }

    pub(crate) async fn stream(&mut self) -> Stream {
        let opened = tokio::time::timeout(Duration::from_secs(20), self.streams.recv());
        opened.await.expect("a stream in time").expect("the server runs")
    }
}

impl Stream {
    /// The next frame that is no ping; `None` after the last one.
    pub(crate) async fn next(&mut self) -> Option<gateway::connect_request::Frame> {
        loop {
            let frame = tokio::time::timeout(Duration::from_secs(20), self.frames.message()).await.expect("a frame in time");
            match frame.ok()??.frame? {
                gateway::connect_request::Frame::Ping(_) => {}
                other => return Some(other),
            }
        }
    }

    pub(crate) async fn hello(&mut self) -> u64 {
        match self.next().await {
            Some(gateway::connect_request::Frame::Hello(hello)) => hello.cursor,
            other => panic!("{other:?} instead of hello"),
        }
    }

    pub(crate) async fn say(&self, frame: gateway::connect_response::Frame) {
        self.answers.send(Ok(gateway::ConnectResponse { frame: Some(frame) })).await.expect("the client listens");
    }

    pub(crate) async fn entry(&self, cursor: u64) {
        let entry = plaza_client::chat::Entry { cursor, ..Default::default() };
        self.say(gateway::connect_response::Frame::Entry(entry)).await;
    }

    pub(crate) async fn end(self, status: Status) {
        self.answers.send(Err(status)).await.expect("the client listens");
    }
}

#[derive(Clone)]
struct Service {
    state: Arc<Mutex<State>>,
    opened: mpsc::Sender<Stream>,
}

fn token<T>(request: &Request<T>) -> String {
    let header = request.metadata().get("authorization").and_then(|header| header.to_str().ok()).unwrap_or_default();
    header.trim_start_matches("Bearer ").to_owned()
}

#[async_trait]
impl GatewayService for Service {
    type ConnectStream = ReceiverStream<Result<gateway::ConnectResponse, Status>>;

    async fn connect(&self, request: Request<Streaming<gateway::ConnectRequest>>) -> Result<Response<Self::ConnectStream>, Status> {
        let (answers, hears) = mpsc::channel(1024);
        let token = token(&request);
        let stream = Stream { token, frames: request.into_inner(), answers };
        self.opened.send(stream).await.expect("the test runs");
        Ok(Response::new(ReceiverStream::new(hears)))
    }
}

/// Methods that no test calls.
macro_rules! unused {
    ($($method:ident: $request:ident -> $response:ident),* $(,)?) => {
        #[async_trait]
        impl AccountsService for Service {
            async fn login(&self, _: Request<accounts::LoginRequest>) -> Result<Response<accounts::LoginResponse>, Status> {
                let session = Some(self.state.lock().await.session());
                Ok(Response::new(accounts::LoginResponse { session }))
            }

            async fn refresh(&self, request: Request<accounts::RefreshRequest>) -> Result<Response<accounts::RefreshResponse>, Status> {
                let mut state = self.state.lock().await;
                if state.down {
                    return Err(refused(Code::Unavailable, "UNAVAILABLE"));
                }
                if request.get_ref().refresh_token != state.session().refresh_token {
                    state.reused += 1;
                    return Err(refused(Code::Unauthenticated, "REFRESH_INVALID"));
                }
                state.refreshes += 1;
                let answer = accounts::RefreshResponse { session: Some(state.session()) };
                let hold = state.hold.clone();
                drop(state);
                if let Some(hold) = hold {
                    hold.exchanged.notify_one();
                    hold.answer.notified().await;
                }
                Ok(Response::new(answer))
            }

            async fn get_me(&self, request: Request<accounts::GetMeRequest>) -> Result<Response<accounts::GetMeResponse>, Status> {
                let mut state = self.state.lock().await;
                state.calls += 1;
                if state.expired.contains(&token(&request)) {
                    return Err(expired());
                }
                Ok(Response::new(accounts::GetMeResponse { user: state.session().user }))
            }

            $(async fn $method(&self, _: Request<accounts::$request>) -> Result<Response<accounts::$response>, Status> {
                Err(Status::unimplemented("no test asks this"))
            })*
        }
    };
}

unused! {
    register: RegisterRequest -> RegisterResponse,
    logout: LogoutRequest -> LogoutResponse,
    revoke_device: RevokeDeviceRequest -> RevokeDeviceResponse,
    list_devices: ListDevicesRequest -> ListDevicesResponse,
    change_password: ChangePasswordRequest -> ChangePasswordResponse,
    update_profile: UpdateProfileRequest -> UpdateProfileResponse,
    get_users: GetUsersRequest -> GetUsersResponse,
    find_by_handle: FindByHandleRequest -> FindByHandleResponse,
    get_settings: GetSettingsRequest -> GetSettingsResponse,
    update_settings: UpdateSettingsRequest -> UpdateSettingsResponse,
}
