//! Until when the caller of the current call waits. The stack sets it, handlers ask for what remains, and calls made from a handler take it
//! along. Tonic enforces deadlines only in its transport; here they hold in process too.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use http::{HeaderMap, HeaderValue};
use plaza_types::Reason;

use crate::{ApiError, metadata};

/// How long a caller waits who does not say.
pub const DEFAULT: Duration = Duration::from_secs(10);

/// Until when the caller waits; in the extensions of every request that came through the stack.
#[derive(Debug, Clone, Copy)]
pub struct Deadline(pub Instant);

tokio::task_local! {
    static CURRENT: Deadline;
}

/// How long the caller of this request will still wait.
#[must_use]
pub fn remaining<T>(request: &tonic::Request<T>) -> Duration {
    request.extensions().get::<Deadline>().map_or(DEFAULT, |deadline| deadline.0.saturating_duration_since(Instant::now()))
}

/// How long the caller says it waits; `None` when it does not say.
///
/// # Errors
/// INVALID_ARGUMENT for what is not a gRPC timeout: at most 8 digits and a unit.
pub fn parse(headers: &HeaderMap) -> Result<Option<Duration>, ApiError> {
    let Some(value) = headers.get(metadata::TIMEOUT) else { return Ok(None) };
    let parsed = value.to_str().ok().and_then(|text| {
        let (digits, unit) = text.split_at(text.len().checked_sub(1)?);
        if digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let count: u64 = digits.parse().ok()?;
        Some(match unit {
            "H" => Duration::from_secs(count * 3600),
            "M" => Duration::from_secs(count * 60),
            "S" => Duration::from_secs(count),
            "m" => Duration::from_millis(count),
            "u" => Duration::from_micros(count),
            "n" => Duration::from_nanos(count),
            _ => return None,
        })
    });
    parsed.map(Some).ok_or_else(|| ApiError::invalid("grpc-timeout", "not a gRPC timeout"))
}

/// Says in the headers of a call how long its caller waits; more than a day counts as a day.
pub fn stamp(headers: &mut HeaderMap, remaining: Duration) {
    let micros = remaining.min(Duration::from_secs(86_400)).as_micros();
    let text = if micros < 100_000_000 { format!("{micros}u") } else { format!("{}m", micros / 1000) };
    headers.insert(metadata::TIMEOUT, HeaderValue::try_from(text).expect("digits and a letter"));
}

/// Runs a call within a deadline, which calls made from it take along.
///
/// # Errors
/// DEADLINE_EXCEEDED when it has not ended by then.
pub async fn within<F: Future>(deadline: Deadline, call: F) -> Result<F::Output, ApiError> {
    // A call that is late already must not start, however fast it would be.
    if deadline.0 <= Instant::now() {
        return Err(exceeded());
    }
    let limited = tokio::time::timeout_at(deadline.0.into(), CURRENT.scope(deadline, call));
    limited.await.map_err(|_| exceeded())
}

/// The error of a call whose deadline has passed.
#[must_use]
pub fn exceeded() -> ApiError {
    ApiError::new(Reason::DeadlineExceeded, "the deadline has passed")
}

/// Gives a call made from a handler the handler's deadline, unless it has one of its own.
pub(crate) fn propagate(headers: &mut HeaderMap) {
    if !headers.contains_key(metadata::TIMEOUT) {
        let _ = CURRENT.try_with(|deadline| stamp(headers, deadline.0.saturating_duration_since(Instant::now())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_they_are_written() {
        for wait in
            [Duration::ZERO, Duration::from_micros(17), Duration::from_secs(99), Duration::from_secs(100), Duration::from_secs(86_400)]
        {
            let mut headers = HeaderMap::new();
            stamp(&mut headers, wait);
            assert_eq!(parse(&headers), Ok(Some(wait)));
        }
        assert_eq!(parse(&HeaderMap::new()), Ok(None));
        for bad in ["", "5", "S", "-1S", "+1S", "1.5S", "123456789m", "1x", "1 S"] {
            let headers = HeaderMap::from_iter([(metadata::TIMEOUT, HeaderValue::from_static(bad))]);
            assert_eq!(parse(&headers).map_err(|error| error.reason()), Err(Reason::InvalidArgument), "{bad}");
        }
    }

    #[tokio::test]
    async fn calls_take_it_along() {
        let deadline = Deadline(Instant::now() + Duration::from_secs(5));
        let headers = within(deadline, async {
            let mut headers = HeaderMap::new();
            propagate(&mut headers);
            headers
        });
        let told = parse(&headers.await.expect("in time")).expect("well formed").expect("a timeout");
        assert!(told <= Duration::from_secs(5) && told > Duration::from_secs(4));
        let never = within(Deadline(Instant::now()), std::future::pending::<()>()).await;
        assert_eq!(never.map_err(|error| error.reason()), Err(Reason::DeadlineExceeded));
    }
}
