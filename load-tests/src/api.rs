//! Calls of many people over few connections: the deployment's public methods, each caller's token, a deadline on every call.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::Context;
use parking_lot::RwLock;
use plaza_client::Error;
use plaza_proto::{
    accounts::v1::{self as accounts, accounts_service_client::AccountsServiceClient},
    chat::v1::chat_service_client::ChatServiceClient,
    graph::v1::graph_service_client::GraphServiceClient,
    moments::v1::moments_service_client::MomentsServiceClient,
};
use tonic::{Code, Request, Status, metadata::AsciiMetadataValue, transport::Channel};
use tonic_types::StatusExt;

use crate::{
    population::state::{Known, State},
    target::Target,
};

/// The password of everybody who is made for a load test.
const PASSWORD: &str = "correct horse battery";
/// How long a call may take; sent to the server as its deadline.
pub const DEADLINE: Duration = Duration::from_secs(10);
/// A token is exchanged when it has less than this left.
const REFRESH_BEFORE: u64 = 120;
/// Tries of a call that may be made again.
const TRIES: u32 = 30;

/// The connections for calls.
pub struct Api {
    channels: Vec<Channel>,
    next: AtomicUsize,
}

impl Api {
    /// With so many connections.
    ///
    /// # Errors
    /// The address is none.
    pub fn new(target: &Target, connections: usize) -> anyhow::Result<Self> {
        let channels = (0..connections.max(1)).map(|_| target.channel()).collect::<anyhow::Result<_>>()?;
        Ok(Self { channels, next: AtomicUsize::new(0) })
    }

    fn channel(&self) -> Channel {
        self.channels[self.next.fetch_add(1, Ordering::Relaxed) % self.channels.len()].clone()
    }

    /// Accounts.
    #[must_use]
    pub fn accounts(&self) -> AccountsServiceClient<Channel> {
        AccountsServiceClient::new(self.channel())
    }

    /// Graph.
    #[must_use]
    pub fn graph(&self) -> GraphServiceClient<Channel> {
        GraphServiceClient::new(self.channel())
    }

    /// Chat.
    #[must_use]
    pub fn chat(&self) -> ChatServiceClient<Channel> {
        ChatServiceClient::new(self.channel())
    }

    /// Moments.
    #[must_use]
    pub fn moments(&self) -> MomentsServiceClient<Channel> {
        MomentsServiceClient::new(self.channel())
    }
}

/// A call with a deadline.
pub fn request<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(DEADLINE);
    request
}

/// Makes a call again while the server asks to come later or cannot be reached, for some tries.
///
/// # Errors
/// The refusal, or the last failure.
pub async fn again<T, F>(mut call: impl FnMut() -> F) -> Result<T, Status>
where
    F: Future<Output = Result<tonic::Response<T>, Status>>,
{
    let mut tries = 0;
    loop {
        let status = match call().await {
            Ok(answer) => return Ok(answer.into_inner()),
            Err(status) => status,
        };
        tries += 1;
        let told = status.get_details_retry_info().and_then(|info| info.retry_delay);
        if tries >= TRIES || !matches!(Error::from(status.clone()), Error::Unavailable(_)) {
            return Err(status);
        }
        // Those who were refused together do not come back together.
        let wait = told.unwrap_or(Duration::from_millis(20) * tries).min(Duration::from_secs(5));
        tokio::time::sleep(wait.mul_f64(rand::random_range(1.0..1.5))).await;
    }
}

/// What a failed call is counted as: its reason, or its code.
#[must_use]
pub fn failure(status: &Status) -> String {
    match status.get_details_error_info() {
        Some(info) if !info.reason.is_empty() => info.reason,
        _ => format!("{:?}", status.code()),
    }
}

/// Somebody who is signed in.
pub struct Identity {
    /// UUID.
    pub user_id: String,
    handle: String,
    token: RwLock<(AsciiMetadataValue, u64)>,
    known: tokio::sync::Mutex<Known>,
}

impl Identity {
    /// Signs a new person up; one who is there already, because an earlier start did not get to note it, is signed in.
    ///
    /// # Errors
    /// Any refusal.
    pub async fn register(api: &Api, state_handle: &str) -> anyhow::Result<Known> {
        let request_id = plaza_client::new_id();
        let registered = again(|| {
            let asked = accounts::RegisterRequest {
                handle: state_handle.to_owned(),
                password: PASSWORD.to_owned(),
                display_name: state_handle.to_owned(),
                device: Some(device()),
                request_id: request_id.clone(),
            };
            async { api.accounts().register(request(asked)).await }
        });
        match registered.await {
            Ok(answer) => known(answer.session),
            Err(status) if failure(&status) == "HANDLE_TAKEN" => login(api, state_handle).await,
            Err(status) => Err(status).context("registering"),
        }
    }

    /// Somebody whom a state file knows.
    ///
    /// # Errors
    /// The token is none.
    pub fn new(state: &State, person: usize) -> anyhow::Result<Self> {
        let known = state.people[person].clone().context("a person who is not registered")?;
        let token = RwLock::new((bearer(&known)?, known.expires));
        Ok(Self { user_id: known.user_id.clone(), handle: state.handle(person), token, known: known.into() })
    }

    /// Somebody of a floor's server, where a name is a token.
    ///
    /// # Errors
    /// The name cannot be sent.
    pub(crate) fn named(name: &str) -> anyhow::Result<Self> {
        let known = Known { user_id: name.to_owned(), access_token: name.to_owned(), expires: u64::MAX, refresh_token: String::new() };
        Ok(Self { user_id: name.to_owned(), handle: name.to_owned(), token: RwLock::new((bearer(&known)?, u64::MAX)), known: known.into() })
    }

    /// What to write into the state file.
    pub async fn known(&self) -> Known {
        self.known.lock().await.clone()
    }

    /// The token as of now, without a look at when it ends.
    #[must_use]
    pub fn header(&self) -> AsciiMetadataValue {
        self.token.read().0.clone()
    }

    /// Whether the token ends soon.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        self.token.read().1 < seconds() + REFRESH_BEFORE
    }

    /// Exchanges the token if it ends soon. A session that is over, because an earlier start exchanged the token and could not note it, is made
    /// anew with the password.
    ///
    /// # Errors
    /// Any refusal.
    pub async fn refresh(&self, api: &Api) -> anyhow::Result<()> {
        if !self.is_ending() {
            return Ok(());
        }
        let mut held = self.known.lock().await;
        if !self.is_ending() {
            return Ok(());
        }
        let token = held.refresh_token.clone();
        let refreshed =
            again(|| async { api.accounts().refresh(request(accounts::RefreshRequest { refresh_token: token.clone() })).await });
        *held = match refreshed.await {
            Ok(answer) => known(answer.session)?,
            Err(status) if status.code() == Code::Unauthenticated => login(api, &self.handle).await?,
            Err(status) => return Err(status).context("refreshing a session"),
        };
        *self.token.write() = (bearer(&held)?, held.expires);
        Ok(())
    }

    /// A call of theirs.
    pub fn request<T>(&self, message: T) -> Request<T> {
        let mut request = request(message);
        request.metadata_mut().insert("authorization", self.header());
        request
    }
}

async fn login(api: &Api, handle: &str) -> anyhow::Result<Known> {
    let answer = again(|| {
        let asked = accounts::LoginRequest { handle: handle.to_owned(), password: PASSWORD.to_owned(), device: Some(device()) };
        async { api.accounts().login(request(asked)).await }
    });
    known(answer.await.context("signing in; if the deployment was made anew, remove the state file of its people")?.session)
}

fn device() -> accounts::Device {
    accounts::Device { device_id: None, name: "load".into(), platform: "plaza-load".into() }
}

fn known(session: Option<accounts::Session>) -> anyhow::Result<Known> {
    let session = session.context("the server gave no session")?;
    let expires = session.access_expires_at.unwrap_or_default().seconds;
    Ok(Known {
        user_id: session.user.unwrap_or_default().user_id,
        access_token: session.access_token,
        expires: u64::try_from(expires).unwrap_or_default(),
        refresh_token: session.refresh_token,
    })
}

fn bearer(known: &Known) -> anyhow::Result<AsciiMetadataValue> {
    Ok(format!("Bearer {}", known.access_token).parse()?)
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
