//! Whatever is malformed, too large, unauthorised or out of state is refused precisely, changes nothing, tells nothing about what is hidden,
//! and leaves no secret in the log.

#[path = "bad_input/requests.rs"]
mod requests;
#[path = "bad_input/secrecy.rs"]
mod secrecy;
#[path = "bad_input/streams.rs"]
mod streams;
#[path = "bad_input/tokens.rs"]
mod tokens;

use std::sync::Arc;

use anyhow::ensure;
use bytes::Bytes;
use plaza_client::{Account, Endpoint, accounts, chat, graph};
use plaza_testkit::{
    people::{PASSWORD, newcomer},
    raw::{self, Connection},
    server::{Server, Shared},
};
use prost::Message;
use tonic::{Code, Status};
use tonic_types::StatusExt;

const BINARY: &str = env!("CARGO_BIN_EXE_plaza");
/// Everything of ours is logged, so that a secret shows; who says no hello is not waited for as long as others are.
const ARGUMENTS: [&str; 4] = ["--log-level", "info,plaza=trace", "--set", "gateway.hello_timeout_ms=2000"];
/// Part of every text sent here.
const TEXT: &str = "nobody else may read this";

static SERVER: Shared = Shared::new();

/// A server, a connection to it, and somebody there.
struct World {
    server: Arc<Server>,
    endpoint: Endpoint,
    connection: Connection,
    ada: Account,
    token: String,
}

impl World {
    async fn new() -> anyhow::Result<Self> {
        let server = SERVER.get(BINARY, &ARGUMENTS).await?;
        let endpoint = Endpoint::new(&server.address())?;
        let connection = Connection::open(&server.address()).await?;
        let ada = newcomer(&endpoint, "ada").await?;
        let token = ada.access_token().await?;
        Ok(Self { server, endpoint, connection, ada, token })
    }

    async fn newcomer(&self, name: &str) -> anyhow::Result<Account> {
        Ok(newcomer(&self.endpoint, name).await?)
    }

    /// Calls as `ada`.
    async fn call(&self, path: &str, message: &impl Message) -> Result<Bytes, Status> {
        call(&self.connection, path, message, Some(&self.token)).await
    }

    /// The log has no secret of anybody here, and nothing that needs attention.
    async fn close(&self, people: &[&Account]) -> anyhow::Result<()> {
        let log = self.server.log()?;
        for account in people.iter().copied().chain([&self.ada]) {
            let refresh = account.credentials().await.refresh_token;
            let access = account.access_token().await.unwrap_or_default();
            // Without its signature a token is worth nothing, and its payload is not secret.
            let signature = access.rsplit('.').next().unwrap_or_default();
            for secret in [refresh.as_str(), signature, PASSWORD, TEXT] {
                ensure!(secret.is_empty() || !log.contains(secret), "the log shows a secret");
            }
        }
        self.server.assert_quiet_log(&[])
    }
}

async fn call(connection: &Connection, path: &str, message: &impl Message, token: Option<&str>) -> Result<Bytes, Status> {
    let request = raw::request(message.encode_to_vec().into(), token).map_err(|error| Status::internal(error.to_string()))?;
    connection.unary(path, request).await
}

/// Everything somebody can see, to be compared.
async fn seen(account: &Account) -> anyhow::Result<Vec<Vec<u8>>> {
    let mut services = account.services().await?;
    let received = graph::ListFriendRequestsRequest { r#box: graph::RequestBox::Received.into(), ..Default::default() };
    let sent = graph::ListFriendRequestsRequest { r#box: graph::RequestBox::Sent.into(), ..Default::default() };
    let devices = services.accounts.list_devices(accounts::ListDevicesRequest::default()).await?.into_inner().devices;
    let mut seen = vec![
        services.accounts.get_me(accounts::GetMeRequest {}).await?.into_inner().encode_to_vec(),
        services.accounts.get_settings(accounts::GetSettingsRequest {}).await?.into_inner().encode_to_vec(),
        services.graph.list_friend_requests(received).await?.into_inner().encode_to_vec(),
        services.graph.list_friend_requests(sent).await?.into_inner().encode_to_vec(),
        services.graph.list_contacts(graph::ListContactsRequest::default()).await?.into_inner().encode_to_vec(),
        services.graph.list_blocked(graph::ListBlockedRequest::default()).await?.into_inner().encode_to_vec(),
        services.chat.list_conversations(chat::ListConversationsRequest::default()).await?.into_inner().encode_to_vec(),
        services.chat.sync(chat::SyncRequest { cursor: 0, page_size: 200 }).await?.into_inner().encode_to_vec(),
    ];
    seen.extend(devices.into_iter().map(|device| device.device_id.into_bytes()));
    Ok(seen)
}

fn reason(status: &Status) -> String {
    status.get_details_error_info().map(|info| info.reason).unwrap_or_default()
}

/// Checks a refusal's code and reason.
fn refused<T: std::fmt::Debug>(answer: Result<T, Status>, code: Code, expected: &str, what: &str) -> anyhow::Result<()> {
    match &answer {
        Err(status) if status.code() == code && reason(status) == expected => Ok(()),
        _ => anyhow::bail!("{what}: {answer:?}, not {code:?} {expected}"),
    }
}

fn mask(path: &str) -> Option<prost_types::FieldMask> {
    Some(prost_types::FieldMask { paths: vec![path.to_owned()] })
}
