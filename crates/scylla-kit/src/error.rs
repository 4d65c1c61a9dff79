//! What can go wrong, told apart by what it means for the rows: nothing happened, or nobody knows.

use scylla::errors::{
    ConnectionError, ConnectionPoolError, ConnectionSetupRequestErrorKind, DbError, ExecutionError, MetadataError, NewSessionError,
    PrepareError, RequestAttemptError,
};

/// Why a request did not do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// Nothing happened, and it may work later.
    #[error("unavailable: {0}")]
    Unavailable(String),
    /// A write that happened, or did not, or may still happen.
    #[error("outcome of a write unknown: {0}")]
    Unknown(String),
    /// Nothing happened, and asking again will not help: the statement, the rights or the tables are wrong.
    #[error("refused: {0}")]
    Refused(String),
    /// A row is not of the form this binary knows.
    #[error("malformed row: {0}")]
    Malformed(String),
}

impl Error {
    pub(crate) fn malformed(error: impl std::fmt::Display) -> Self {
        Self::Malformed(error.to_string())
    }

    /// Of what is done first. Whoever is not let in is told so at once.
    pub(crate) fn of_connecting(error: &NewSessionError) -> Self {
        let NewSessionError::MetadataError(MetadataError::ConnectionPoolError(ConnectionPoolError::Broken { last_connection_error: last })) =
            error
        else {
            return Self::Unavailable(error.to_string());
        };
        match last {
            ConnectionError::ConnectionSetupRequestError(setup) if is_not_let_in(setup.get_error()) => {
                Self::Refused(format!("credentials (cql.user, cql.password): {setup}"))
            }
            _ => Self::Unavailable(error.to_string()),
        }
    }

    /// Of something that can be asked again at will.
    pub(crate) fn of_read(error: &ExecutionError) -> Self {
        if is_refused(error) { Self::Refused(error.to_string()) } else { Self::Unavailable(error.to_string()) }
    }

    /// Of a write. Only what was never sent is known not to have happened. An error of a node says little: an attempt before the last one
    /// may have got through, and a conditional write may have been decided before the node that learns of it was missed.
    pub(crate) fn of_write(error: &ExecutionError) -> Self {
        match error {
            _ if is_refused(error) => Self::Refused(error.to_string()),
            ExecutionError::EmptyPlan | ExecutionError::PrepareError(_) => Self::Unavailable(error.to_string()),
            _ => Self::Unknown(error.to_string()),
        }
    }

    /// Of a write that is never sent twice.
    pub(crate) fn of_single_attempt(error: &ExecutionError) -> Self {
        match error {
            ExecutionError::ConnectionPoolError(_) | ExecutionError::LastAttemptError(RequestAttemptError::UnableToAllocStreamId) => {
                Self::Unavailable(error.to_string())
            }
            _ => Self::of_write(error),
        }
    }

    pub(crate) fn of_prepare(error: &PrepareError) -> Self {
        match error {
            PrepareError::AllAttemptsFailed { first_attempt } if is_refusal(first_attempt) => Self::Refused(error.to_string()),
            _ => Self::Unavailable(error.to_string()),
        }
    }
}

/// A node that cannot ask the others who may log in says it with the same code.
fn is_not_let_in(error: &ConnectionSetupRequestErrorKind) -> bool {
    match error {
        ConnectionSetupRequestErrorKind::MissingAuthentication => true,
        ConnectionSetupRequestErrorKind::DbError(DbError::AuthenticationError, why) => {
            !["consistency level", "timed out", "Unable to perform"].iter().any(|lack| why.contains(lack))
        }
        _ => false,
    }
}

fn is_refused(error: &ExecutionError) -> bool {
    match error {
        ExecutionError::BadQuery(_) => true,
        ExecutionError::LastAttemptError(error) => is_refusal(error),
        _ => false,
    }
}

fn is_refusal(error: &RequestAttemptError) -> bool {
    match error {
        RequestAttemptError::SerializationError(_) | RequestAttemptError::CqlRequestSerialization(_) => true,
        RequestAttemptError::DbError(error, _) => matches!(
            error,
            DbError::SyntaxError
                | DbError::Invalid
                | DbError::AlreadyExists { .. }
                | DbError::AuthenticationError
                | DbError::Unauthorized
                | DbError::ConfigError
        ),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn db(error: DbError) -> ExecutionError {
        ExecutionError::LastAttemptError(RequestAttemptError::DbError(error, String::new()))
    }

    #[test]
    fn nobody_is_sent_away_for_a_node_that_cannot_ask_the_others() {
        let says = |why: &str| is_not_let_in(&ConnectionSetupRequestErrorKind::DbError(DbError::AuthenticationError, why.to_owned()));
        assert!(says("Provided username a and/or password are incorrect"));
        assert!(says("Username and/or password are incorrect"));
        assert!(says("a is not permitted to log in"));
        assert!(!says("Unable to perform authentication: Cannot achieve consistency level QUORUM"));
        assert!(!says("Operation timed out for system.roles - received only 0 responses from 1 CL=QUORUM."));
        assert!(is_not_let_in(&ConnectionSetupRequestErrorKind::MissingAuthentication));
    }

    #[test]
    fn a_write_is_known_not_to_have_happened_only_when_it_was_not_sent() {
        assert!(matches!(Error::of_write(&db(DbError::Overloaded)), Error::Unknown(_)));
        assert!(matches!(Error::of_write(&db(DbError::Invalid)), Error::Refused(_)));
        assert!(matches!(Error::of_write(&ExecutionError::EmptyPlan), Error::Unavailable(_)));
        let timeout = ExecutionError::RequestTimeout(std::time::Duration::from_secs(1));
        assert!(matches!(Error::of_write(&timeout), Error::Unknown(_)));
        assert!(matches!(Error::of_single_attempt(&timeout), Error::Unknown(_)));
        let no_stream = ExecutionError::LastAttemptError(RequestAttemptError::UnableToAllocStreamId);
        assert!(matches!(Error::of_single_attempt(&no_stream), Error::Unavailable(_)));
        assert!(matches!(Error::of_write(&no_stream), Error::Unknown(_)));
        assert!(matches!(Error::of_read(&db(DbError::Overloaded)), Error::Unavailable(_)));
        assert!(matches!(Error::of_read(&db(DbError::SyntaxError)), Error::Refused(_)));
    }
}
