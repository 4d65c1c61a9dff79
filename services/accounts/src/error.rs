//! Why a call fails inside, and the one place where that is logged and becomes what its caller may know.

use std::time::Duration;

use plaza_rpc::ApiError;
use tonic::{Code, Status};

use crate::store;

/// When to try again what did not work.
const RETRY_AFTER: Duration = Duration::from_millis(100);

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error("accounts' store")]
    Store(#[from] store::Error),
    #[error("the event log")]
    Log(#[from] plaza_event_log::Error),
    #[error("asking graph: {}", .0.message())]
    Graph(#[source] Box<Status>),
    #[error("too many changes of one account at once")]
    Contended,
    #[error("hashing a password: {0}")]
    Hash(argon2::password_hash::Error),
    #[error("signing a token")]
    Sign(#[from] jsonwebtoken::errors::Error),
    #[error("a hash was not finished")]
    Lost(#[from] tokio::task::JoinError),
}

impl Error {
    fn code(&self) -> &'static str {
        match self {
            Self::Api(_) => "refused",
            Self::Store(error) => error.code(),
            Self::Log(_) => "log",
            Self::Graph(_) => "graph",
            Self::Contended => "contended",
            Self::Hash(_) => "hash",
            Self::Sign(_) => "sign",
            Self::Lost(_) => "lost",
        }
    }

    fn for_caller(self) -> ApiError {
        match self {
            Self::Api(error) => error,
            Self::Store(store::Error::Unknown(_)) => ApiError::undecided(),
            Self::Store(store::Error::Unavailable(_)) | Self::Log(_) | Self::Contended => ApiError::unavailable(RETRY_AFTER),
            Self::Graph(status) if matches!(status.code(), Code::Unavailable | Code::ResourceExhausted) => {
                ApiError::unavailable(RETRY_AFTER)
            }
            Self::Graph(status) if status.code() == Code::DeadlineExceeded => plaza_rpc::deadline::exceeded(),
            Self::Store(store::Error::Damaged(_)) | Self::Graph(_) | Self::Hash(_) | Self::Sign(_) | Self::Lost(_) => ApiError::internal(),
        }
    }
}

// By hand, for it is no `std::error::Error` here.
impl From<argon2::password_hash::Error> for Error {
    fn from(error: argon2::password_hash::Error) -> Self {
        Self::Hash(error)
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        if !matches!(error, Error::Api(_)) {
            let source = std::error::Error::source(&error).map(ToString::to_string);
            tracing::warn!(error.code = error.code(), source, "call failed: {error}");
        }
        error.for_caller().into()
    }
}
