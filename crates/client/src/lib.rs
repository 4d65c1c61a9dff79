//! The Rust client library of Plaza: a session that refreshes itself, a live stream that resumes by cursor, sends that are safe to retry.
//! It speaks only the public API and holds nothing that the server does not also know.
//!
//! ```no_run
//! # async fn talk() -> Result<(), plaza_client::Error> {
//! use plaza_client::{Account, Device, Endpoint, To};
//! let endpoint = Endpoint::new("http://127.0.0.1:7700")?;
//! let ada = Account::login(&endpoint, "ada_lovelace", "correct horse", &Device::new("laptop", "linux")).await?;
//! let sent = ada.send(To::User("0190a5d4-0000-7000-8000-000000000000".into()), plaza_client::text("hello")).await?;
//! println!("message {} of {}", sent.sequence, sent.conversation_id);
//! # Ok(())
//! # }
//! ```

mod account;
mod backoff;
mod endpoint;
mod error;
mod keep;
mod live;

pub use account::{Account, Authorized, Credentials, Device, Services, To};
pub use backoff::Backoff;
pub use endpoint::Endpoint;
pub use error::Error;
pub use keep::{Keeper, Kept};
pub use live::{Live, LiveEvent, Sender};
pub use plaza_proto::{
    accounts::v1 as accounts, chat::v1 as chat, common::v1 as common, gateway::v1 as gateway, graph::v1 as graph, moments::v1 as moments,
};

use plaza_types::ClientId;

/// A new UUIDv7 of this moment: the `request_id` or `client_message_id` of something to be done once.
#[must_use]
pub fn new_id() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    ClientId::new(u64::try_from(now.as_micros()).unwrap_or(u64::MAX), rand::random()).to_string()
}

/// A post of words for all friends, to be made once.
#[must_use]
pub fn post(text: impl Into<String>) -> moments::CreatePostRequest {
    let content = Some(moments::PostContent { text: text.into(), ..Default::default() });
    moments::CreatePostRequest { request_id: new_id(), content, audience: None, mentions: Vec::new() }
}

/// A message of words.
#[must_use]
pub fn text(text: impl Into<String>) -> chat::Content {
    chat::Content { kind: Some(chat::content::Kind::Text(chat::Text { text: text.into() })) }
}
