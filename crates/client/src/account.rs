//! A signed-in device: its session, which refreshes itself, and calls that are safe to try again.

use std::{
    io,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use plaza_proto::{
    accounts::v1::{self as accounts, accounts_service_client::AccountsServiceClient},
    chat::v1::{self as chat, chat_service_client::ChatServiceClient},
    graph::v1::graph_service_client::GraphServiceClient,
    moments::v1::moments_service_client::MomentsServiceClient,
};
use tokio::sync::Mutex;
use tonic::{
    Request, Response, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};

use crate::{
    Backoff, Endpoint, Error, Keeper, Live,
    error::{expired, may_retry},
    new_id,
};

/// What a device says of itself when it signs in.
#[derive(Debug, Clone)]
pub struct Device {
    /// To sign the same device in again: its id.
    pub device_id: Option<String>,
    /// 1 to 64 characters.
    pub name: String,
    /// Such as "ios", 1 to 32 characters.
    pub platform: String,
}

impl Device {
    /// A new device.
    #[must_use]
    pub fn new(name: impl Into<String>, platform: impl Into<String>) -> Self {
        Self { device_id: None, name: name.into(), platform: platform.into() }
    }
}

impl From<&Device> for accounts::Device {
    fn from(device: &Device) -> Self {
        Self { device_id: device.device_id.clone(), name: device.name.clone(), platform: device.platform.clone() }
    }
}

/// What a device keeps between two runs to stay signed in. Secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// UUID of the user.
    pub user_id: String,
    /// The handle.
    pub handle: String,
    /// UUID of the device.
    pub device_id: String,
    /// Good for one refresh.
    pub refresh_token: String,
}

/// Whom or where a message goes to.
#[derive(Debug, Clone)]
pub enum To {
    /// A person, directly.
    User(String),
    /// A conversation.
    Conversation(String),
}

struct Session {
    credentials: Credentials,
    access_token: MetadataValue<Ascii>,
    expires_at: SystemTime,
    /// From when on a call refreshes it first.
    refresh_at: SystemTime,
}

struct Shared {
    endpoint: Endpoint,
    keeper: Option<Arc<dyn Keeper>>,
    session: Mutex<Session>,
}

/// A signed-in device. Cheap to clone; clones share the session.
#[derive(Clone)]
pub struct Account {
    shared: Arc<Shared>,
    user: plaza_proto::common::v1::User,
    device_id: String,
}

/// Puts the access token and the deadline on every call.
#[derive(Clone)]
pub struct Authorized {
    token: MetadataValue<Ascii>,
    timeout: Option<Duration>,
}

impl Interceptor for Authorized {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.token.clone());
        if let Some(timeout) = self.timeout {
            request.set_timeout(timeout);
        }
        Ok(request)
    }
}

type Authed = InterceptedService<Channel, Authorized>;

impl Shared {
    /// Exchanges the session for the next one, unless another call did or the one there is lasts and the server does not answer at once.
    async fn refresh(&self) -> Result<(), Error> {
        let mut session = self.session.lock().await;
        let now = SystemTime::now();
        if now < session.refresh_at {
            return Ok(());
        }
        let (lasts, patience) = if session.expires_at > now { (true, Duration::ZERO) } else { (false, RETRY_FOR) };
        let next = match &self.keeper {
            Some(keeper) => refreshed_kept(&self.endpoint, keeper, Some(&session.credentials), patience).await,
            None => refreshed(&self.endpoint, &session.credentials.refresh_token, patience).await,
        };
        match next {
            Err(Error::Unavailable(_)) if lasts => session.refresh_at = session.expires_at.min(SystemTime::now() + REFRESH_AGAIN),
            next => *session = Session::new(given(next?)?)?,
        }
        Ok(())
    }
}

/// Access tokens are refreshed when they have less than this left.
const REFRESH_BEFORE: Duration = Duration::from_secs(60);
/// One that lasts is used when the server does not refresh it, which is asked again after this time.
const REFRESH_AGAIN: Duration = Duration::from_secs(5);
/// A call that may be made again is, for this long. The server takes a refresh token for twice as long after its answer was lost.
const RETRY_FOR: Duration = Duration::from_secs(60);

impl Account {
    /// Creates an account and signs its first device in.
    ///
    /// # Errors
    /// The server's refusal, such as reason `HANDLE_TAKEN`; [`Error::Unavailable`] after a minute of tries.
    pub async fn register(endpoint: &Endpoint, handle: &str, password: &str, display_name: &str, device: &Device) -> Result<Self, Error> {
        let request = accounts::RegisterRequest {
            handle: handle.to_owned(),
            password: password.to_owned(),
            display_name: display_name.to_owned(),
            device: Some(device.into()),
            request_id: new_id(),
        };
        let answer = retrying(endpoint, RETRY_FOR, || async {
            let mut message = Request::new(request.clone());
            message.set_timeout(endpoint.timeout);
            AccountsServiceClient::new(endpoint.calls.clone()).register(message).await
        });
        Self::opened(endpoint, answer.await?.session)
    }

    /// Signs a device in.
    ///
    /// # Errors
    /// Reason `BAD_CREDENTIALS`; [`Error::Unavailable`] after a minute of tries.
    pub async fn login(endpoint: &Endpoint, handle: &str, password: &str, device: &Device) -> Result<Self, Error> {
        let request = accounts::LoginRequest { handle: handle.to_owned(), password: password.to_owned(), device: Some(device.into()) };
        let answer = retrying(endpoint, RETRY_FOR, || async {
            let mut message = Request::new(request.clone());
            message.set_timeout(endpoint.timeout);
            AccountsServiceClient::new(endpoint.calls.clone()).login(message).await
        });
        Self::opened(endpoint, answer.await?.session)
    }

    /// Goes on with what [`Account::credentials`] gave in an earlier run.
    ///
    /// # Errors
    /// [`Error::SignedOut`] when the device was signed out meanwhile.
    pub async fn resume(endpoint: &Endpoint, credentials: &Credentials) -> Result<Self, Error> {
        Self::opened(endpoint, refreshed(endpoint, &credentials.refresh_token, RETRY_FOR).await?)
    }

    /// Goes on with what a keeper has, which gets the newest credentials with every refresh. Other processes may do the same at the same time.
    ///
    /// # Errors
    /// [`Error::SignedOut`] when the device was signed out meanwhile; [`Error::Keeper`].
    pub async fn resume_kept(endpoint: &Endpoint, keeper: Arc<dyn Keeper>) -> Result<Self, Error> {
        let mut account = Self::opened(endpoint, refreshed_kept(endpoint, &keeper, None, RETRY_FOR).await?)?;
        account.set_keeper(keeper);
        Ok(account)
    }

    /// Has the credentials kept, now and with every refresh. To be called before the account is cloned.
    ///
    /// # Errors
    /// [`Error::Keeper`].
    ///
    /// # Panics
    /// The account was cloned.
    pub async fn kept_by(mut self, keeper: Arc<dyn Keeper>) -> Result<Self, Error> {
        keep(&keeper, self.credentials().await).await?;
        self.set_keeper(keeper);
        Ok(self)
    }

    fn set_keeper(&mut self, keeper: Arc<dyn Keeper>) {
        Arc::get_mut(&mut self.shared).expect("not cloned yet").keeper = Some(keeper);
    }

    fn opened(endpoint: &Endpoint, session: Option<accounts::Session>) -> Result<Self, Error> {
        let session = given(session)?;
        let user = session.user.clone().unwrap_or_default();
        let device_id = session.device_id.clone();
        let shared = Shared { endpoint: endpoint.clone(), keeper: None, session: Mutex::new(Session::new(session)?) };
        Ok(Self { shared: Arc::new(shared), user, device_id })
    }

    /// The user as of the sign-in.
    #[must_use]
    pub fn user(&self) -> &plaza_proto::common::v1::User {
        &self.user
    }

    /// UUID of the user.
    #[must_use]
    pub fn user_id(&self) -> &str {
        &self.user.user_id
    }

    /// UUID of this device.
    #[must_use]
    pub fn device_id(&self) -> &str {
        &self.device_id
    }

    /// What to keep to stay signed in. Changes with every refresh: keep the newest.
    pub async fn credentials(&self) -> Credentials {
        self.shared.session.lock().await.credentials.clone()
    }

    /// Takes a session that a call such as `ChangePassword` answered with.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when its token cannot be sent; [`Error::Keeper`].
    pub async fn adopt(&self, session: accounts::Session) -> Result<(), Error> {
        let mut current = self.shared.session.lock().await;
        *current = Session::new(session)?;
        match &self.shared.keeper {
            Some(keeper) => keep(keeper, current.credentials.clone()).await,
            None => Ok(()),
        }
    }

    /// The access token to use now, refreshed when it is about to end.
    ///
    /// # Errors
    /// [`Error::SignedOut`], [`Error::Unavailable`].
    pub async fn access_token(&self) -> Result<String, Error> {
        let authorized = self.authorized().await?;
        let value = authorized.token.to_str().unwrap_or_default();
        Ok(value.trim_start_matches("Bearer ").to_owned())
    }

    #[expect(clippy::disallowed_methods, reason = "it ends with the refresh")]
    async fn authorized(&self) -> Result<Authorized, Error> {
        let session = self.shared.session.lock().await;
        let authorized =
            |session: &Session| Authorized { token: session.access_token.clone(), timeout: Some(self.shared.endpoint.timeout) };
        if SystemTime::now() < session.refresh_at {
            return Ok(authorized(&session));
        }
        drop(session);
        // A task of its own: whoever waits for it may be dropped, but a token that was exchanged must not be forgotten.
        let shared = Arc::clone(&self.shared);
        let refreshed = tokio::spawn(async move { shared.refresh().await });
        refreshed.await.map_err(|error| Error::Unavailable(error.to_string()))??;
        Ok(authorized(&*self.shared.session.lock().await))
    }

    /// The server says that a token's time is over, whatever the clock here says: the next call refreshes it, unless another one did.
    pub(crate) async fn expired(&self, refused: &Authorized) {
        let mut session = self.shared.session.lock().await;
        if session.access_token == refused.token {
            (session.expires_at, session.refresh_at) = (UNIX_EPOCH, UNIX_EPOCH);
        }
    }

    pub(crate) fn backoff(&self) -> Backoff {
        self.shared.endpoint.backoff()
    }

    pub(crate) async fn streaming(&self) -> Result<(Channel, Authorized), Error> {
        let authorized = self.authorized().await?;
        Ok((self.shared.endpoint.streams.clone(), Authorized { timeout: None, ..authorized }))
    }

    /// The services' clients, signed in as of now: for calls made once, whose status is of interest.
    ///
    /// # Errors
    /// [`Error::SignedOut`], [`Error::Unavailable`].
    pub async fn services(&self) -> Result<Services, Error> {
        Ok(Services::new(&self.shared.endpoint, self.authorized().await?))
    }

    /// Makes a call, again and again for up to a minute while the server cannot be reached. `call` is given the services' clients; a
    /// changing request must carry its request id from outside, so that every try has the same.
    ///
    /// # Errors
    /// The server's refusal, [`Error::SignedOut`], or [`Error::Unavailable`] after a minute.
    pub async fn call<T, F, R>(&self, mut call: F) -> Result<T, Error>
    where
        F: FnMut(Services) -> R,
        R: Future<Output = Result<Response<T>, Status>>,
    {
        let mut backoff = self.shared.endpoint.backoff();
        let until = tokio::time::Instant::now() + RETRY_FOR;
        let mut renewed = false;
        loop {
            let authorized = self.authorized().await?;
            let status = match call(Services::new(&self.shared.endpoint, authorized.clone())).await {
                Ok(answer) => return Ok(answer.into_inner()),
                Err(status) => status,
            };
            if expired(&status) && !renewed {
                renewed = true;
                self.expired(&authorized).await;
                continue;
            }
            if !may_retry(&status) || tokio::time::Instant::now() >= until {
                return Err(status.into());
            }
            tokio::time::sleep(backoff.next_wait()).await;
        }
    }

    /// Sends a message once, however often it has to be tried.
    ///
    /// # Errors
    /// The server's refusal, such as reason `NOT_A_CONTACT`; after [`Error::Unavailable`] it may have been sent.
    pub async fn send(&self, to: To, content: chat::Content) -> Result<chat::SendMessageResponse, Error> {
        let request = message(to, content);
        self.call(|mut services| {
            let request = request.clone();
            async move { services.chat.send_message(request).await }
        })
        .await
    }

    /// Makes a group once, however often it has to be tried. People beyond the 40th must accept before they are in.
    ///
    /// # Errors
    /// The server's refusal, such as a user who is no contact; after [`Error::Unavailable`] it may have been made.
    pub async fn create_group(&self, title: &str, user_ids: Vec<String>) -> Result<chat::Group, Error> {
        let request = chat::CreateGroupRequest { title: title.to_owned(), user_ids, request_id: new_id() };
        let answer = self.call(|mut services| {
            let request = request.clone();
            async move { services.chat.create_group(request).await }
        });
        Ok(answer.await?.group.unwrap_or_default())
    }

    /// Adds contacts to a group once, however often it has to be tried.
    ///
    /// # Errors
    /// The server's refusal, such as reason `ROLE_REQUIRED`; after [`Error::Unavailable`] they may have been added.
    pub async fn add_members(&self, group: &str, user_ids: Vec<String>) -> Result<chat::AddMembersResponse, Error> {
        let request = chat::AddMembersRequest { conversation_id: group.to_owned(), user_ids, request_id: new_id() };
        self.call(|mut services| {
            let request = request.clone();
            async move { services.chat.add_members(request).await }
        })
        .await
    }

    /// Takes a message back.
    ///
    /// # Errors
    /// The server's refusal, such as reason `TOO_LATE`.
    pub async fn recall(&self, conversation: &str, sequence: u64) -> Result<(), Error> {
        let request = chat::RecallMessageRequest { conversation_id: conversation.to_owned(), sequence, request_id: new_id() };
        let answer = self.call(|mut services| {
            let request = request.clone();
            async move { services.chat.recall_message(request).await }
        });
        answer.await.map(|_| ())
    }

    /// Opens the live stream after a cursor: every entry after it comes once and in order, across lost connections.
    #[must_use]
    pub fn live(&self, cursor: u64) -> Live {
        Live::open(self.clone(), cursor)
    }
}

/// A message to be sent, with a new client id.
pub(crate) fn message(to: To, content: chat::Content) -> chat::SendMessageRequest {
    let (user_id, conversation_id) = match to {
        To::User(id) => (id, String::new()),
        To::Conversation(id) => (String::new(), id),
    };
    chat::SendMessageRequest {
        conversation_id,
        user_id,
        client_message_id: new_id(),
        content: Some(content),
        ..chat::SendMessageRequest::default()
    }
}

/// The services' clients, signed in.
#[derive(Clone)]
pub struct Services {
    /// Accounts.
    pub accounts: AccountsServiceClient<Authed>,
    /// Graph.
    pub graph: GraphServiceClient<Authed>,
    /// Chat.
    pub chat: ChatServiceClient<Authed>,
    /// Moments.
    pub moments: MomentsServiceClient<Authed>,
}

impl Services {
    fn new(endpoint: &Endpoint, authorized: Authorized) -> Self {
        let channel = InterceptedService::new(endpoint.calls.clone(), authorized);
        Self {
            accounts: AccountsServiceClient::new(channel.clone()),
            graph: GraphServiceClient::new(channel.clone()),
            chat: ChatServiceClient::new(channel.clone()),
            moments: MomentsServiceClient::new(channel),
        }
    }
}

impl Session {
    fn new(session: accounts::Session) -> Result<Self, Error> {
        let access_token =
            format!("Bearer {}", session.access_token).parse().map_err(|_| Error::Unavailable("the access token is not text".into()))?;
        let expires = session.access_expires_at.unwrap_or_default();
        let expires_at = UNIX_EPOCH + Duration::from_secs(u64::try_from(expires.seconds).unwrap_or_default());
        Ok(Self { credentials: Credentials::of(session), access_token, expires_at, refresh_at: expires_at - REFRESH_BEFORE })
    }
}

impl Credentials {
    fn of(session: accounts::Session) -> Self {
        let user = session.user.unwrap_or_default();
        let (device_id, refresh_token) = (session.device_id, session.refresh_token);
        Self { user_id: user.user_id, handle: user.handle, device_id, refresh_token }
    }
}

async fn refreshed(endpoint: &Endpoint, refresh_token: &str, patience: Duration) -> Result<Option<accounts::Session>, Error> {
    let answer = retrying(endpoint, patience, || async {
        let mut message = Request::new(accounts::RefreshRequest { refresh_token: refresh_token.to_owned() });
        message.set_timeout(endpoint.timeout);
        AccountsServiceClient::new(endpoint.calls.clone()).refresh(message).await
    });
    Ok(answer.await?.session)
}

/// The same with the newest credentials, which are kept before anybody else can take them. Those of another sign-in than `ours` are not.
async fn refreshed_kept(
    endpoint: &Endpoint,
    keeper: &Arc<dyn Keeper>,
    ours: Option<&Credentials>,
    patience: Duration,
) -> Result<Option<accounts::Session>, Error> {
    let keeper = Arc::clone(keeper);
    let mut kept = blocking(move || keeper.take()).await?;
    let newest = kept.credentials().clone();
    if ours.is_some_and(|ours| ours.device_id != newest.device_id) {
        return Err(Error::SignedOut("another device was signed in in this one's place".into()));
    }
    let session = refreshed(endpoint, &newest.refresh_token, patience).await?;
    if let Some(session) = session.clone() {
        let next = Credentials::of(session);
        blocking(move || kept.replace(&next)).await?;
    }
    Ok(session)
}

async fn keep(keeper: &Arc<dyn Keeper>, credentials: Credentials) -> Result<(), Error> {
    let keeper = Arc::clone(keeper);
    blocking(move || keeper.take()?.replace(&credentials)).await
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(work).await.map_err(io::Error::other);
    done.flatten().map_err(|error| Error::Keeper(error.to_string()))
}

fn given(session: Option<accounts::Session>) -> Result<accounts::Session, Error> {
    session.ok_or_else(|| Error::Unavailable("the server gave no session".into()))
}

async fn retrying<T, R>(endpoint: &Endpoint, patience: Duration, mut call: impl FnMut() -> R) -> Result<T, Error>
where
    R: Future<Output = Result<Response<T>, Status>>,
{
    let mut backoff = endpoint.backoff();
    let until = tokio::time::Instant::now() + patience;
    loop {
        match call().await {
            Ok(answer) => return Ok(answer.into_inner()),
            Err(status) if may_retry(&status) && tokio::time::Instant::now() < until => tokio::time::sleep(backoff.next_wait()).await,
            Err(status) => return Err(status.into()),
        }
    }
}
