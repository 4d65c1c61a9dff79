//! Tokens. An access token is a signed JWT that anybody with the public key can check. A refresh token is opaque to its holder: the ids of user
//! and device, a part that all tokens of one sign-in share, and a part of its own; only hashes of the parts are kept.
//!
//! A token's successor follows from the token and a secret key, so that asking twice with the same token (the first reply was lost) gives
//! the same successor, while nobody who reads the store or an old token can compute it.

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use plaza_runtime::Rng;
use plaza_types::{ClientId, DeviceId, UserId};
use ring::{
    digest::{SHA256, digest},
    hmac,
    signature::{Ed25519KeyPair, KeyPair},
};

use crate::{
    domain::{Claims, Lineage, device::Digest},
    error::Error,
    store::Keys,
};

const ID: usize = 16;
const PART: usize = 32;
const TOKEN: usize = 2 * ID + 2 * PART;

/// A refresh token. Secret.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Refresh {
    pub(crate) user: UserId,
    pub(crate) device: DeviceId,
    family: [u8; PART],
    own: [u8; PART],
}

impl Refresh {
    /// The token of this text; `None` for any text that is none.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let bytes = unhex(text)?;
        let (user, rest) = bytes.split_first_chunk::<ID>()?;
        let (device, rest) = rest.split_first_chunk::<ID>()?;
        let (family, rest) = rest.split_first_chunk::<PART>()?;
        let own: &[u8; PART] = rest.try_into().ok()?;
        Some(Self { user: UserId::from_bytes(*user), device: DeviceId::from_bytes(*device), family: *family, own: *own })
    }

    pub(crate) fn text(&self) -> String {
        let parts: [&[u8]; 4] = [self.user.as_bytes(), self.device.as_bytes(), &self.family, &self.own];
        parts.concat().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    pub(crate) fn family_digest(&self) -> Digest {
        sha256(&self.family)
    }

    pub(crate) fn own_digest(&self) -> Digest {
        sha256(&self.own)
    }

    /// The lineage that starts with this token.
    pub(crate) fn lineage(&self, now: u64) -> Lineage {
        Lineage::new(self.family_digest(), self.own_digest(), now)
    }
}

/// Makes tokens.
pub(crate) struct Issuer {
    header: Header,
    signing: EncodingKey,
    public: [u8; 32],
    refresh: hmac::Key,
    rng: Rng,
}

impl Issuer {
    /// Keys for a service that has none yet.
    pub(crate) fn new_keys(rng: &Rng) -> anyhow::Result<Keys> {
        let document = Ed25519KeyPair::generate_pkcs8(&ring::rand::SystemRandom::new());
        let document = document.map_err(|_| anyhow::anyhow!("the system gives no randomness"))?;
        Ok(Keys { signing: document.as_ref().to_vec(), refresh: rng.bytes() })
    }

    pub(crate) fn new(keys: &Keys, rng: Rng) -> anyhow::Result<Self> {
        let pair = Ed25519KeyPair::from_pkcs8(&keys.signing).map_err(|error| anyhow::anyhow!("the signing key is damaged: {error}"))?;
        let public: [u8; 32] = pair.public_key().as_ref().try_into()?;
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some(sha256(&public)[..8].iter().map(|byte| format!("{byte:02x}")).collect());
        let refresh = hmac::Key::new(hmac::HMAC_SHA256, &keys.refresh);
        Ok(Self { header, signing: EncodingKey::from_ed_der(&keys.signing), public, refresh, rng })
    }

    /// The raw public key that verifies access tokens.
    pub(crate) fn public_key(&self) -> [u8; 32] {
        self.public
    }

    pub(crate) fn access(&self, user: UserId, device: DeviceId, now: u64) -> Result<(String, Claims), Error> {
        let claims = Claims::new(user, device, now, self.rng.next_u64());
        Ok((jsonwebtoken::encode(&self.header, &claims, &self.signing)?, claims))
    }

    /// The first token of a sign-in.
    pub(crate) fn first(&self, user: UserId, device: DeviceId) -> Refresh {
        Refresh { user, device, family: self.rng.bytes(), own: self.rng.bytes() }
    }

    /// The first token of the device that a registration signs in: the same each time the request is repeated.
    pub(crate) fn of_registration(&self, request: ClientId, user: UserId, device: DeviceId) -> Refresh {
        let part = |which: &[u8]| self.derive(&[which, request.as_bytes(), user.as_bytes(), device.as_bytes()]);
        Refresh { user, device, family: part(b"family"), own: part(b"own") }
    }

    /// The token that takes this one's place.
    pub(crate) fn next(&self, token: &Refresh) -> Refresh {
        Refresh { own: self.derive(&[b"next", &token.family, &token.own]), ..token.clone() }
    }

    // Every tag comes with parts of fixed lengths, so no two derivations share an input.
    fn derive(&self, parts: &[&[u8]]) -> [u8; PART] {
        let tag = hmac::sign(&self.refresh, &parts.concat());
        tag.as_ref().try_into().expect("HMAC-SHA-256 gives 32 bytes")
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> Digest {
    digest(&SHA256, bytes).as_ref().try_into().expect("SHA-256 gives 32 bytes")
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    if text.len() != 2 * TOKEN {
        return None;
    }
    text.as_bytes().chunks_exact(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{DecodingKey, Validation};

    use super::*;

    fn issuer(seed: u64) -> Issuer {
        let rng = Rng::seeded(seed);
        Issuer::new(&Issuer::new_keys(&rng).expect("keys"), rng).expect("good keys")
    }

    fn ids() -> (UserId, DeviceId) {
        (UserId::new(1_000, [1; 10]), DeviceId::new(2_000, [2; 10]))
    }

    #[test]
    fn access_tokens_verify_with_the_public_key_and_no_other() {
        let (user, device) = ids();
        let issuer = issuer(1);
        let now = 4_000_000_000_123_456;
        let (token, claims) = issuer.access(user, device, now).expect("signed");
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_issuer(&["plaza"]);
        let verify = |key: [u8; 32]| jsonwebtoken::decode::<Claims>(&token, &DecodingKey::from_ed_der(&key), &validation);
        let read = verify(issuer.public_key()).expect("our key");
        assert_eq!(read.claims, claims);
        assert_eq!((read.claims.iat, read.claims.exp, read.claims.iau), (4_000_000_000, 4_000_000_900, now));
        assert_eq!((read.claims.sub, read.claims.dev), (user.to_string(), device.to_string()));
        assert!(read.header.kid.is_some());
        assert!(verify(self::issuer(1).public_key()).is_err());
    }

    #[test]
    fn refresh_tokens_have_one_text() {
        let (user, device) = ids();
        let token = issuer(1).first(user, device);
        let text = token.text();
        assert!(Refresh::parse(&text) == Some(token));
        for bad in ["", "x", &text[1..], &text.to_uppercase(), &format!("{text}00"), &text.replace(|_: char| true, "é")] {
            assert!(Refresh::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_successor_is_the_same_each_time_and_of_the_same_family() {
        let (user, device) = ids();
        let issuer = issuer(1);
        let first = issuer.first(user, device);
        let next = issuer.next(&first);
        assert!(next == issuer.next(&first) && next != first && issuer.next(&next) != next);
        assert_eq!(next.family_digest(), first.family_digest());
        assert!(self::issuer(2).next(&first) != next, "another key, another successor");
        assert!(issuer.first(user, device).family_digest() != first.family_digest());
    }
}
