//! Identifiers: text at the edge, 16 or 17 bytes inside. A parsed id is only well formed; whether it exists is for its owner to say.

use std::{fmt, str::FromStr};

use bytes::Bytes;
use uuid::{Builder, Uuid};

/// Text that is not an id of the kind asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not {expected}")]
pub struct ParseError {
    /// What the text should have been, in words.
    pub expected: &'static str,
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident, $expected:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// The 16 bytes of the id, in the order that sorts as the text does.
            #[must_use]
            pub fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }

            /// The id of these 16 bytes; `None` for any other length.
            #[must_use]
            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                Uuid::from_slice(bytes).ok().map(Self)
            }

            /// The id of these 16 bytes.
            #[must_use]
            pub fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }

            /// A new UUIDv7 of the time given in microseconds since the epoch, with these random bytes.
            #[must_use]
            pub fn new(micros: u64, random: [u8; 10]) -> Self {
                Self(Builder::from_unix_timestamp_millis(micros / 1000, &random).into_uuid())
            }
        }

        impl FromStr for $name {
            type Err = ParseError;
            fn from_str(text: &str) -> Result<Self, ParseError> {
                hyphenated(text).map(Self).ok_or(ParseError { expected: $expected })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }
    };
}

uuid_id!(
    /// A user: a UUID.
    UserId,
    "a user id: a UUID in its hyphenated lowercase form"
);
uuid_id!(
    /// A device of a user: a UUID.
    DeviceId,
    "a device id: a UUID in its hyphenated lowercase form"
);
uuid_id!(
    /// A client's own id of a request or a message: a UUIDv7, whose time says how long it is good for.
    ClientId,
    "a UUIDv7 in its hyphenated lowercase form"
);

impl ClientId {
    /// Parses text that must be a UUIDv7.
    ///
    /// # Errors
    /// Any other text, other versions of UUID included.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let id: Self = text.parse()?;
        if id.0.get_version_num() == 7 { Ok(id) } else { Err(ParseError { expected: "a UUIDv7 in its hyphenated lowercase form" }) }
    }

    /// The time in the id, in microseconds since the epoch (to the millisecond).
    #[must_use]
    pub fn micros(&self) -> u64 {
        let bytes = self.0.as_bytes();
        let millis = bytes[..6].iter().fold(0u64, |millis, byte| (millis << 8) | u64::from(*byte));
        millis * 1000
    }
}

// One text per id, so that ids can be compared as text: `Uuid` itself would take braces, URNs and capitals.
fn hyphenated(text: &str) -> Option<Uuid> {
    if text.len() != 36 || text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return None;
    }
    Uuid::try_parse(text).ok()
}

/// What kind of conversation an id names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConversationKind {
    /// Between two people; the id follows from theirs.
    Direct,
    /// Among many.
    Group,
}

/// A conversation: `d-` or `g-` and 32 hexadecimal digits; 17 bytes inside.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConversationId([u8; 17]);

impl ConversationId {
    /// The direct conversation of two people, the same whichever comes first. Not a secret: membership is checked, never implied by an id.
    #[must_use]
    pub fn direct(one: UserId, other: UserId) -> Self {
        let (low, high) = if one <= other { (one, other) } else { (other, one) };
        let mut pair = [0u8; 32];
        pair[..16].copy_from_slice(low.as_bytes());
        pair[16..].copy_from_slice(high.as_bytes());
        Self::tagged(b'd', Uuid::from_u128(xxhash_rust::xxh3::xxh3_128_with_seed(&pair, 0x706c_617a)))
    }

    /// A new group of the time given in microseconds since the epoch, with these random bytes.
    #[must_use]
    pub fn group(micros: u64, random: [u8; 10]) -> Self {
        Self::tagged(b'g', Builder::from_unix_timestamp_millis(micros / 1000, &random).into_uuid())
    }

    /// The group that a user makes with a request: asked again, it is the same one.
    #[must_use]
    pub fn made_by(user: UserId, request: ClientId) -> Self {
        let made = [*user.as_bytes(), *request.as_bytes()].concat();
        let mut random = [0; 10];
        random.copy_from_slice(&xxhash_rust::xxh3::xxh3_128_with_seed(&made, 0x6772_6f75).to_be_bytes()[..10]);
        Self::group(request.micros(), random)
    }

    fn tagged(tag: u8, uuid: Uuid) -> Self {
        let mut bytes = [tag; 17];
        bytes[1..].copy_from_slice(uuid.as_bytes());
        Self(bytes)
    }

    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> ConversationKind {
        if self.0[0] == b'd' { ConversationKind::Direct } else { ConversationKind::Group }
    }

    /// The 17 bytes of the id.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 17] {
        &self.0
    }

    /// The id of these 17 bytes; `None` if they are none.
    #[must_use]
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        let bytes: [u8; 17] = bytes.try_into().ok()?;
        matches!(bytes[0], b'd' | b'g').then_some(Self(bytes))
    }

    /// The id as an owned key.
    #[must_use]
    pub fn to_key(&self) -> Bytes {
        Bytes::copy_from_slice(&self.0)
    }
}

impl UserId {
    /// The id as an owned key.
    #[must_use]
    pub fn to_key(&self) -> Bytes {
        Bytes::copy_from_slice(self.as_bytes())
    }
}

impl FromStr for ConversationId {
    type Err = ParseError;
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let error = ParseError { expected: "a conversation id: 'd-' or 'g-' and 32 lowercase hexadecimal digits" };
        let (tag, digits) = match text.split_at_checked(2) {
            Some(("d-", digits)) => (b'd', digits),
            Some(("g-", digits)) => (b'g', digits),
            _ => return Err(error),
        };
        if digits.len() != 32 || digits.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(error);
        }
        Uuid::try_parse(digits).map(|uuid| Self::tagged(tag, uuid)).map_err(|_| error)
    }
}

impl fmt::Display for ConversationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut uuid = [0u8; 16];
        uuid.copy_from_slice(&self.0[1..]);
        write!(f, "{}-{}", char::from(self.0[0]), Uuid::from_bytes(uuid).simple())
    }
}

impl fmt::Debug for ConversationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_text_per_id() {
        let user = UserId::new(1_700_000_000_000_000, [7; 10]);
        assert_eq!(user.to_string().parse(), Ok(user));
        for bad in [
            "",
            "x",
            "01890a5d-ac96-774b-bcce-b302099a805G",
            &user.to_string().to_uppercase(),
            &format!("{{{user}}}"),
            &user.to_string().replace('-', ""),
        ] {
            assert!(bad.parse::<UserId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn client_ids_carry_their_time_and_are_version_7() {
        let id = ClientId::new(1_700_000_000_123_456, [1; 10]);
        assert_eq!(id.micros(), 1_700_000_000_123_000);
        assert_eq!(ClientId::parse(&id.to_string()), Ok(id));
        assert!(ClientId::parse("6ba7b810-9dad-11d1-80b4-00c04fd430c8").is_err());
    }

    #[test]
    fn a_request_makes_one_group() {
        let (user, request) = (UserId::new(1, [1; 10]), ClientId::new(1_700_000_000_000_000, [2; 10]));
        let group = ConversationId::made_by(user, request);
        assert_eq!((group, group.kind()), (ConversationId::made_by(user, request), ConversationKind::Group));
        assert_eq!(group.to_string().parse(), Ok(group));
        assert_ne!(group, ConversationId::made_by(UserId::new(1, [3; 10]), request));
        assert_ne!(group, ConversationId::made_by(user, ClientId::new(1_700_000_000_000_000, [4; 10])));
    }

    #[test]
    fn direct_conversations_are_symmetric_and_parse() {
        let (a, b) = (UserId::new(1, [1; 10]), UserId::new(1, [2; 10]));
        let id = ConversationId::direct(a, b);
        assert_eq!(id, ConversationId::direct(b, a));
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(ConversationId::from_slice(id.as_bytes()), Some(id));
        assert_eq!(id.kind(), ConversationKind::Direct);
        assert!("x-00000000000000000000000000000000".parse::<ConversationId>().is_err());
        assert!("d-0000000000000000000000000000000".parse::<ConversationId>().is_err());
        assert!("é-".parse::<ConversationId>().is_err());
    }
}
