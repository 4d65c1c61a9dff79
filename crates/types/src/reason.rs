//! The machine-readable reasons of refusals: `google.rpc.ErrorInfo.reason`, with domain [`DOMAIN`]. Part of the public contract.

/// The domain of every reason.
pub const DOMAIN: &str = "plaza";

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $number:literal;)*) => {
        /// Why a call was refused.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Reason { $($(#[$doc])* $name = $number,)* }

        impl Reason {
            /// Its name in `ErrorInfo`.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// Its number in stored outcomes.
            #[must_use]
            pub fn number(self) -> u32 {
                self as u32
            }

            /// The reason of a stored number.
            #[must_use]
            pub fn from_number(number: u32) -> Option<Self> {
                match number { $($number => Some(Self::$name),)* _ => None }
            }
        }
    };
}

reasons! {
    /// A field breaks its rules; `BadRequest` says which.
    InvalidArgument = "INVALID_ARGUMENT", 1;
    /// The thing does not exist, or not for this caller.
    NotFound = "NOT_FOUND", 2;
    /// No access token where one is needed.
    TokenMissing = "TOKEN_MISSING", 3;
    /// The access token is not one of ours.
    TokenInvalid = "TOKEN_INVALID", 4;
    /// The access token has expired: refresh.
    TokenExpired = "TOKEN_EXPIRED", 5;
    /// The device was signed out.
    TokenRevoked = "TOKEN_REVOKED", 6;
    /// Unknown handle or wrong password.
    BadCredentials = "BAD_CREDENTIALS", 7;
    /// The refresh token is unknown, used, or of a signed-out device.
    RefreshInvalid = "REFRESH_INVALID", 8;
    /// The handle is in use.
    HandleTaken = "HANDLE_TAKEN", 9;
    /// The same request id was used with other content.
    RequestIdReused = "REQUEST_ID_REUSED", 10;
    /// The request id is older than 24 h or more than 10 minutes ahead.
    RequestIdTime = "REQUEST_ID_TIME", 11;
    /// The two are not in each other's lists.
    NotAContact = "NOT_A_CONTACT", 12;
    /// A limit of the product is reached; `QuotaFailure` says which.
    QuotaExceeded = "QUOTA_EXCEEDED", 13;
    /// Too many calls; `RetryInfo` says when to try again.
    RateLimited = "RATE_LIMITED", 14;
    /// Nobody decided within the deadline: ask again with the same request id.
    Undecided = "UNDECIDED", 15;
    /// The deadline has passed.
    DeadlineExceeded = "DEADLINE_EXCEEDED", 16;
    /// The request or its metadata is too large.
    TooLarge = "TOO_LARGE", 17;
    /// No such method.
    UnknownMethod = "UNKNOWN_METHOD", 18;
    /// The call cannot be decided; it was set aside for the operators.
    Internal = "INTERNAL", 19;
    /// A stream frame came out of order or not at all.
    StreamProtocol = "STREAM_PROTOCOL", 20;
    /// The device did not read its stream; connect again with the last cursor.
    SlowConsumer = "SLOW_CONSUMER", 21;
    /// The server is going away or busy; `RetryInfo` says when to try again.
    Unavailable = "UNAVAILABLE", 22;
    /// The call makes no sense for the caller themself.
    Yourself = "YOURSELF", 23;
    /// Somebody is a contact already.
    AlreadyContact = "ALREADY_A_CONTACT", 24;
    /// The page token is not one of ours, of another caller or of another query.
    PageToken = "PAGE_TOKEN", 25;
    /// The caller was a member of the group and is no longer.
    NotAMember = "NOT_A_MEMBER", 30;
    /// The caller's role in the group does not allow it.
    RoleRequired = "ROLE_REQUIRED", 31;
    /// The group is dissolved.
    GroupDissolved = "GROUP_DISSOLVED", 32;
    /// The owner transfers the group or dissolves it before leaving.
    OwnerStays = "OWNER_STAYS", 33;
    /// The message was sent too long ago.
    TooLate = "TOO_LATE", 34;
    /// Only its sender takes a message back, and only its author and the post's delete a comment.
    NotTheSender = "NOT_THE_SENDER", 35;
}
