//! What an access token says.

use plaza_types::{DeviceId, UserId, limits::SECOND};
use serde::{Deserialize, Serialize};

/// Who issues access tokens.
pub const ISSUER: &str = "plaza";
/// How long an access token is good for, in microseconds.
pub const ACCESS_LIFETIME: u64 = 15 * 60 * SECOND;

/// The claims of an access token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// [`ISSUER`].
    pub iss: String,
    /// The user's id.
    pub sub: String,
    /// The device's id.
    pub dev: String,
    /// When it was issued, seconds since the epoch.
    pub iat: u64,
    /// When it ends, seconds since the epoch.
    pub exp: u64,
    /// When it was issued, microseconds since the epoch: a revocation at or after this time voids it.
    pub iau: u64,
    /// Tells tokens of the same microsecond apart.
    pub jti: String,
}

impl Claims {
    /// Of a token issued now, in microseconds since the epoch.
    #[must_use]
    pub fn new(user: UserId, device: DeviceId, now: u64, unique: u64) -> Self {
        Self {
            iss: ISSUER.to_owned(),
            sub: user.to_string(),
            dev: device.to_string(),
            iat: now / SECOND,
            exp: (now + ACCESS_LIFETIME) / SECOND,
            iau: now,
            jti: format!("{unique:016x}"),
        }
    }
}
