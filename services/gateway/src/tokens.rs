//! Access tokens: JSON web tokens signed with EdDSA by the accounts service, whose public key is asked for once. A verified token is
//! remembered until it expires. Nothing of a token is ever logged.

use std::{sync::Arc, time::Duration};

use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use plaza_proto::accounts::v1::{GetVerifyingKeyRequest, directory_service_client::DirectoryServiceClient};
use plaza_rpc::{ApiError, Peer};
use plaza_types::{DeviceId, Reason, UserId};
use quick_cache::sync::Cache;
use serde::Deserialize;
use tokio::sync::OnceCell;

/// Who signs access tokens.
const ISSUER: &str = "plaza";

const REMEMBERED: usize = 16_384;

/// What an access token says, as far as it is read here.
#[derive(Deserialize)]
struct Claims {
    /// The user's UUID.
    sub: String,
    /// The device's UUID.
    dev: String,
    /// When it was issued, microseconds since the epoch: what a sign-out is compared with.
    iau: u64,
    /// Until when it is good, seconds since the epoch.
    exp: u64,
}

/// A verified token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Access {
    pub(crate) user: UserId,
    pub(crate) device: DeviceId,
    /// Microseconds since the epoch.
    pub(crate) issued: u64,
    /// Microseconds since the epoch.
    pub(crate) expires: u64,
}

/// Verifies access tokens.
pub(crate) struct Verifier {
    accounts: Peer,
    key: OnceCell<DecodingKey>,
    validation: Validation,
    verified: Cache<Arc<str>, Access>,
}

impl Verifier {
    pub(crate) fn new(accounts: Peer) -> Self {
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_issuer(&[ISSUER]);
        validation.set_required_spec_claims(&["iss", "sub", "exp"]);
        // Compared below with the process's own clock, and without leeway.
        validation.validate_exp = false;
        Self { accounts, key: OnceCell::new(), validation, verified: Cache::new(REMEMBERED) }
    }

    /// What a token says.
    ///
    /// # Errors
    /// `TOKEN_INVALID`, `TOKEN_EXPIRED`; UNAVAILABLE while the key is not known.
    pub(crate) async fn verify(&self, token: &str, now: u64) -> Result<Access, ApiError> {
        if let Some(access) = self.verified.get(token) {
            return if now < access.expires { Ok(access) } else { Err(self.forget(token)) };
        }
        let key = self.key.get_or_try_init(|| self.fetch()).await?;
        let invalid = || ApiError::new(Reason::TokenInvalid, "not an access token of this service");
        let claims = jsonwebtoken::decode::<Claims>(token, key, &self.validation).map_err(|_| invalid())?.claims;
        let access = Access {
            user: claims.sub.parse().map_err(|_| invalid())?,
            device: claims.dev.parse().map_err(|_| invalid())?,
            issued: claims.iau,
            expires: claims.exp.saturating_mul(1_000_000),
        };
        if now >= access.expires {
            return Err(expired());
        }
        self.verified.insert(token.into(), access);
        Ok(access)
    }

    fn forget(&self, token: &str) -> ApiError {
        self.verified.remove(token);
        expired()
    }

    async fn fetch(&self) -> Result<DecodingKey, ApiError> {
        let answer = DirectoryServiceClient::new(self.accounts.clone()).get_verifying_key(GetVerifyingKeyRequest {}).await;
        let key = answer.map(|answer| answer.into_inner().ed25519_public_key);
        match key {
            Ok(key) if key.len() == 32 => Ok(DecodingKey::from_ed_der(&key)),
            other => {
                let error = other.err().map_or_else(|| "not 32 bytes".to_owned(), |status| status.message().to_owned());
                tracing::warn!(error, "no key to verify access tokens with");
                Err(ApiError::unavailable(Duration::from_millis(200)))
            }
        }
    }
}

/// The error of an expired token.
pub(crate) fn expired() -> ApiError {
    ApiError::new(Reason::TokenExpired, "the access token has expired, refresh it")
}

/// The error of a signed-out device's token.
pub(crate) fn revoked() -> ApiError {
    ApiError::new(Reason::TokenRevoked, "the device was signed out")
}
