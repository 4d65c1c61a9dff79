//! When the driver sends a request again by itself: once, to another node, and only what can be done twice. There is no pause between the
//! attempts, so more of them would be a storm; whoever waits longer tries again with a pause.

use scylla::{
    errors::{DbError, RequestAttemptError},
    policies::retry::{RequestInfo, RetryDecision, RetryPolicy, RetrySession},
};

#[derive(Debug)]
pub(crate) struct Once;

#[derive(Debug, Default)]
struct Attempts {
    retried: bool,
}

impl RetryPolicy for Once {
    fn new_session(&self) -> Box<dyn RetrySession> {
        Box::new(Attempts::default())
    }
}

impl RetrySession for Attempts {
    fn decide_should_retry(&mut self, request: RequestInfo<'_>) -> RetryDecision {
        self.decide(request.error, request.is_idempotent)
    }

    fn reset(&mut self) {
        self.retried = false;
    }
}

impl Attempts {
    fn decide(&mut self, error: &RequestAttemptError, is_idempotent: bool) -> RetryDecision {
        let may_help = match error {
            RequestAttemptError::BrokenConnectionError(_) | RequestAttemptError::UnableToAllocStreamId => true,
            RequestAttemptError::DbError(error, _) => matches!(
                error,
                DbError::Overloaded
                    | DbError::ServerError
                    | DbError::IsBootstrapping
                    | DbError::Unavailable { .. }
                    | DbError::ReadTimeout { .. }
                    | DbError::WriteTimeout { .. }
            ),
            _ => false,
        };
        if self.retried || !may_help || !is_idempotent {
            return RetryDecision::DontRetry;
        }
        self.retried = true;
        RetryDecision::RetryNextTarget(None)
    }
}

#[cfg(test)]
mod tests {
    use scylla::{
        errors::{BrokenConnectionErrorKind, WriteType},
        statement::Consistency,
    };

    use super::*;

    const NEXT: RetryDecision = RetryDecision::RetryNextTarget(None);
    const NO: RetryDecision = RetryDecision::DontRetry;

    fn db(error: DbError) -> RequestAttemptError {
        RequestAttemptError::DbError(error, String::new())
    }

    #[test]
    fn what_another_node_may_answer_is_sent_there_once() {
        let (consistency, received, required) = (Consistency::LocalQuorum, 1, 2);
        let may_help = [
            RequestAttemptError::BrokenConnectionError(BrokenConnectionErrorKind::ChannelError.into()),
            RequestAttemptError::UnableToAllocStreamId,
            db(DbError::Overloaded),
            db(DbError::ServerError),
            db(DbError::IsBootstrapping),
            db(DbError::Unavailable { consistency, required, alive: 1 }),
            db(DbError::ReadTimeout { consistency, received, required, data_present: true }),
            db(DbError::WriteTimeout { consistency, received, required, write_type: WriteType::Simple }),
        ];
        for error in may_help {
            let mut attempts = Attempts::default();
            assert_eq!(attempts.decide(&error, true), NEXT, "{error}");
            assert_eq!(attempts.decide(&error, true), NO, "{error}, again");
            attempts.reset();
            assert_eq!(attempts.decide(&error, true), NEXT, "{error}, of another request");
            assert_eq!(Attempts::default().decide(&error, false), NO, "{error}, of what cannot be done twice");
        }
    }

    #[test]
    fn what_every_node_would_answer_is_not_sent_again() {
        for error in [DbError::Invalid, DbError::SyntaxError, DbError::Unauthorized, DbError::AuthenticationError, DbError::ConfigError] {
            let error = db(error);
            assert_eq!(Attempts::default().decide(&error, true), NO, "{error}");
        }
    }
}
