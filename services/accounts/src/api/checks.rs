//! Collects what is wrong with a request while its fields are decoded.

use std::{collections::HashSet, hash::Hash, str::FromStr};

use plaza_rpc::{ApiError, Violations};
use plaza_types::ParseError;

use crate::domain::user::FieldRefusal;

#[derive(Default)]
pub(super) struct Checks(Vec<(String, String)>);

impl Checks {
    /// Notes why a field is refused.
    pub(super) fn refuse(&mut self, field: impl Into<String>, why: impl Into<String>) {
        self.0.push((field.into(), why.into()));
    }

    /// The value, or its refusal noted.
    pub(super) fn take<T>(&mut self, field: &str, value: Result<T, impl Into<String>>) -> Option<T> {
        value.map_err(|why| self.refuse(field, why)).ok()
    }

    /// An id, or its refusal noted.
    pub(super) fn id<T: FromStr<Err = ParseError>>(&mut self, field: &str, text: &str) -> Option<T> {
        self.take(field, text.parse().map_err(|error: ParseError| format!("is not {}", error.expected)))
    }

    /// # Errors
    /// INVALID_ARGUMENT with everything noted.
    pub(super) fn finish(self) -> Result<(), ApiError> {
        self.0.into_iter().fold(Violations::default(), |violations, (field, why)| violations.check(false, field, why)).finish()
    }

    /// INVALID_ARGUMENT with everything noted, for a request of which a field could not be read.
    pub(super) fn error(self) -> ApiError {
        self.finish().err().unwrap_or_else(ApiError::internal)
    }
}

/// INVALID_ARGUMENT with every refusal.
pub(super) fn refusals(refusals: Vec<FieldRefusal>) -> ApiError {
    Checks(refusals.into_iter().map(|(field, why)| (field, why.to_owned())).collect()).error()
}

/// At most `limit` ids, without repetition, in the order given.
///
/// # Errors
/// INVALID_ARGUMENT with every one that is none.
pub(super) fn ids<T: FromStr<Err = ParseError> + Hash + Eq + Copy>(
    field: &str,
    texts: &[String],
    limit: usize,
) -> Result<Vec<T>, ApiError> {
    if texts.len() > limit {
        return Err(ApiError::invalid(field, format!("must be at most {limit}")));
    }
    let mut checks = Checks::default();
    let mut seen = HashSet::new();
    let ids: Vec<T> = texts.iter().enumerate().filter_map(|(index, text)| checks.id(&format!("{field}[{index}]"), text)).collect();
    checks.finish()?;
    Ok(ids.into_iter().filter(|id| seen.insert(*id)).collect())
}
