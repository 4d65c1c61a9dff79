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
        let may_help = match request.error {
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
        if self.retried || !may_help || !request.is_idempotent {
            return RetryDecision::DontRetry;
        }
        self.retried = true;
        RetryDecision::RetryNextTarget(None)
    }

    fn reset(&mut self) {
        self.retried = false;
    }
}
