//! What can go wrong, as a caller has to tell it apart.

use tonic::{Code, Status};
use tonic_types::StatusExt;

/// A call that did not succeed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The server refused; trying the same again gives the same.
    #[error("{code:?} {reason}: {message}")]
    Refused {
        /// The gRPC code.
        code: Code,
        /// The machine-readable reason; empty when the server gave none.
        reason: String,
        /// In words.
        message: String,
    },
    /// No answer came, or the server asked to try later. A call with a request id may be made again with the same one.
    #[error("unavailable: {0}")]
    Unavailable(String),
    /// The session is over: sign in again.
    #[error("signed out: {0}")]
    SignedOut(String),
    /// The credentials cannot be read where they are kept, or not kept there.
    #[error("credentials: {0}")]
    Keeper(String),
    /// The address is not one.
    #[error("bad address: {0}")]
    Address(String),
}

impl Error {
    /// The machine-readable reason of a refusal.
    #[must_use]
    pub fn reason(&self) -> &str {
        match self {
            Self::Refused { reason, .. } => reason,
            _ => "",
        }
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        let reason = status.get_details_error_info().map(|info| info.reason).unwrap_or_default();
        if may_retry(&status) {
            Self::Unavailable(format!("{}: {}", status.code(), status.message()))
        } else if status.code() == Code::Unauthenticated && reason != "BAD_CREDENTIALS" {
            Self::SignedOut(reason)
        } else {
            Self::Refused { code: status.code(), reason, message: status.message().to_owned() }
        }
    }
}

/// Whether the access token's time is over. Another one is to be had with the refresh token.
pub(crate) fn expired(status: &Status) -> bool {
    status.code() == Code::Unauthenticated && status.get_details_error_info().is_some_and(|info| info.reason == "TOKEN_EXPIRED")
}

/// Whether the same call, made again, may succeed. A connection that goes away fails calls in flight as `Cancelled` or `Unknown` from the
/// transport, not only as `Unavailable`.
pub(crate) fn may_retry(status: &Status) -> bool {
    match status.code() {
        Code::Unavailable | Code::DeadlineExceeded => true,
        Code::ResourceExhausted => status.get_details_retry_info().is_some(),
        Code::Cancelled | Code::Unknown | Code::Internal => {
            let source: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(status);
            source.is_some()
        }
        _ => false,
    }
}
