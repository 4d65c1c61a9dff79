//! What a client is told when a call fails: a gRPC code, a machine-readable reason and, where they fit, fields, quotas, a time to retry. The
//! one place that turns a [`Reason`] into a code. Texts here reach clients: never put private data or a source error into them.

use std::time::Duration;

use plaza_types::{Reason, reason::DOMAIN};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

// Details travel in a header: with these limits they stay below 8 KiB in base64, whatever a caller puts in.
const VIOLATIONS: usize = 16;
const FIELD_BYTES: usize = 64;
const TEXT_BYTES: usize = 200;

/// A failed call, as its caller may know it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    reason: Reason,
    message: String,
    detail: Detail,
    retry_after: Option<Duration>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Detail {
    None,
    Fields(Vec<(String, String)>),
    Quota(String),
    Resource(String),
}

impl ApiError {
    /// This reason, in these words, without details.
    #[must_use]
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), detail: Detail::None, retry_after: None }
    }

    /// One field breaks its rules.
    #[must_use]
    pub fn invalid(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self::refused(Reason::InvalidArgument, field, description, 0)
    }

    /// There is no such thing, or not for this caller: both look the same.
    #[must_use]
    pub fn not_found(kind: &'static str) -> Self {
        Self::refused(Reason::NotFound, kind, "", 0)
    }

    /// A processor's refusal. `subject` is a field, a quota or a kind of thing, as the reason has it; `retry_after_us` 0 = never.
    #[must_use]
    pub fn refused(reason: Reason, subject: impl Into<String>, message: impl Into<String>, retry_after_us: u64) -> Self {
        let (subject, mut message) = (subject.into(), message.into());
        let detail = match code(reason) {
            _ if subject.is_empty() => Detail::None,
            Code::InvalidArgument => Detail::Fields(vec![(subject.clone(), message.clone())]),
            Code::ResourceExhausted => Detail::Quota(subject.clone()),
            Code::NotFound | Code::AlreadyExists => Detail::Resource(subject.clone()),
            _ => Detail::None,
        };
        message = match (code(reason), message.is_empty()) {
            (Code::NotFound, true) => format!("no such {subject}"),
            (Code::InvalidArgument, false) if !subject.is_empty() => format!("{subject}: {message}"),
            (_, true) => reason.as_str().to_ascii_lowercase().replace('_', " "),
            (_, false) => message,
        };
        let retry_after = (retry_after_us > 0).then(|| Duration::from_micros(retry_after_us));
        Self { reason, message, detail, retry_after }
    }

    /// A limit of the product is reached.
    #[must_use]
    pub fn quota(subject: impl Into<String>, message: impl Into<String>) -> Self {
        Self::refused(Reason::QuotaExceeded, subject, message, 0)
    }

    /// Busy, or going away.
    #[must_use]
    pub fn unavailable(retry_after: Duration) -> Self {
        Self { retry_after: Some(retry_after), ..Self::new(Reason::Unavailable, "unavailable, try again") }
    }

    /// Nobody decided within the deadline; the same request id can be asked again.
    #[must_use]
    pub fn undecided() -> Self {
        Self {
            retry_after: Some(Duration::from_millis(100)),
            ..Self::new(Reason::Undecided, "not decided in time, ask again with the same id")
        }
    }

    /// Something is wrong here; what, is only logged.
    #[must_use]
    pub fn internal() -> Self {
        Self::new(Reason::Internal, "internal error")
    }

    /// The same, to be tried again after a while.
    #[must_use]
    pub fn retry_after(self, after: Duration) -> Self {
        Self { retry_after: Some(after), ..self }
    }

    /// Its gRPC code.
    #[must_use]
    pub fn code(&self) -> Code {
        code(self.reason)
    }

    /// Its reason.
    #[must_use]
    pub fn reason(&self) -> Reason {
        self.reason
    }
}

/// The gRPC code of a reason.
#[must_use]
pub fn code(reason: Reason) -> Code {
    use Reason as R;
    match reason {
        R::InvalidArgument | R::RequestIdTime | R::PageToken | R::Yourself | R::StreamProtocol => Code::InvalidArgument,
        R::TokenMissing | R::TokenInvalid | R::TokenExpired | R::TokenRevoked | R::BadCredentials | R::RefreshInvalid => {
            Code::Unauthenticated
        }
        R::NotFound => Code::NotFound,
        R::HandleTaken | R::RequestIdReused | R::AlreadyContact => Code::AlreadyExists,
        R::NotAContact | R::NotAMember | R::GroupDissolved | R::OwnerStays | R::TooLate => Code::FailedPrecondition,
        R::RoleRequired | R::NotTheSender => Code::PermissionDenied,
        R::QuotaExceeded | R::RateLimited | R::TooLarge | R::SlowConsumer => Code::ResourceExhausted,
        R::Undecided | R::Unavailable => Code::Unavailable,
        R::UnknownMethod => Code::Unimplemented,
        R::DeadlineExceeded => Code::DeadlineExceeded,
        // Reasons can be added before this table knows them.
        _ => Code::Internal,
    }
}

impl From<ApiError> for Status {
    fn from(error: ApiError) -> Self {
        let mut details = ErrorDetails::new();
        details.set_error_info(error.reason.as_str(), DOMAIN, std::collections::HashMap::new());
        match error.detail {
            Detail::None => {}
            Detail::Fields(fields) => {
                let shown = fields.iter().take(VIOLATIONS);
                details.set_bad_request(
                    shown.map(|(field, why)| FieldViolation::new(cut(field, FIELD_BYTES), cut(why, TEXT_BYTES))).collect::<Vec<_>>(),
                );
            }
            Detail::Quota(subject) => {
                details.add_quota_failure_violation(cut(&subject, FIELD_BYTES), cut(&error.message, TEXT_BYTES));
            }
            Detail::Resource(kind) => {
                details.set_resource_info(cut(&kind, FIELD_BYTES), "", "", "");
            }
        }
        if let Some(after) = error.retry_after {
            details.set_retry_info(Some(after));
        }
        Status::with_error_details(code(error.reason), cut(&error.message, TEXT_BYTES), details)
    }
}

fn cut(text: &str, bytes: usize) -> &str {
    let end = (0..=bytes.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or_default()]
}

/// Collects what is wrong with a request, so that its caller learns all of it at once.
#[derive(Debug, Default)]
pub struct Violations(Vec<(String, String)>);

impl Violations {
    /// Notes a violation unless the condition holds.
    #[must_use]
    pub fn check(mut self, holds: bool, field: impl Into<String>, description: impl Into<String>) -> Self {
        if !holds {
            self.0.push((field.into(), description.into()));
        }
        self
    }

    /// Ends the checks.
    ///
    /// # Errors
    /// INVALID_ARGUMENT with every violation noted.
    pub fn finish(self) -> Result<(), ApiError> {
        let Some((field, description)) = self.0.first() else { return Ok(()) };
        let message = format!("{field}: {description}");
        Err(ApiError { detail: Detail::Fields(self.0), ..ApiError::new(Reason::InvalidArgument, message) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_says_reason_fields_and_when_to_retry() {
        let violations =
            Violations::default().check(false, "handle", "too short").check(true, "name", "-").check(false, "note", "too long");
        let status = Status::from(violations.finish().expect_err("two violations"));
        assert_eq!(status.code(), Code::InvalidArgument);
        let details = status.get_error_details();
        let info = details.error_info().expect("info");
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("INVALID_ARGUMENT", "plaza"));
        let fields: Vec<_> =
            details.bad_request().expect("fields").field_violations.iter().map(|violation| violation.field.as_str()).collect();
        assert_eq!(fields, ["handle", "note"]);

        let status = Status::from(ApiError::undecided());
        assert_eq!(status.code(), Code::Unavailable);
        assert!(status.get_details_retry_info().and_then(|retry| retry.retry_delay).is_some());
        let status = Status::from(ApiError::not_found("conversation"));
        assert_eq!((status.code(), status.message()), (Code::NotFound, "no such conversation"));
        let status = Status::from(ApiError::refused(Reason::QuotaExceeded, "requests_per_day", "50 requests a day", 7));
        assert_eq!(status.get_details_quota_failure().expect("quota").violations[0].subject, "requests_per_day");
    }

    #[test]
    fn details_fit_into_a_header_whatever_is_put_in() {
        let mut violations = Violations::default();
        for _ in 0..1000 {
            violations = violations.check(false, "ü".repeat(1000), "é".repeat(10_000));
        }
        let status = Status::from(violations.finish().expect_err("violations"));
        assert!(status.details().len() * 4 / 3 < 8192, "{}", status.details().len());
        assert!(status.message().len() <= TEXT_BYTES);
    }

    #[test]
    fn every_reason_has_its_own_code() {
        for reason in (1..=99).filter_map(Reason::from_number) {
            assert_eq!(code(reason) == Code::Internal, reason == Reason::Internal, "{reason:?}");
        }
    }
}
