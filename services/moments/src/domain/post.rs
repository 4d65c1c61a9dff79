//! A post: its id, for whom it is, and its stored form.

use std::{fmt, str::FromStr};

use bytes::Bytes;
use plaza_topics::moments::{Audience, AudienceKind};
use plaza_types::{ClientId, UserId};

/// Text that is not an id of the kind asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not {0}")]
pub struct NotAnId(pub &'static str);

/// Characters of a post's id.
const POST_TEXT: usize = 65;

/// A post: its author, and the author's request that made it. As text 65 characters: both in hexadecimal digits, with a hyphen between.
/// The author in it finds the partition; it is no proof that there is such a post.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PostId {
    /// Who made it.
    pub author: UserId,
    /// By which request.
    pub request: ClientId,
}

/// A comment: its post, who made it, and by which request. As text 131 characters: the post's, and after another hyphen the rest in the same
/// form. No number: it would tell how many comments there are that its reader may not see. Whose it is belongs to it, because two people can
/// choose the same request id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommentId {
    /// The post.
    pub post: PostId,
    /// Who made it.
    pub user: UserId,
    /// By which request.
    pub request: ClientId,
}

impl PostId {
    /// The 32 bytes of the id.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes[..16].copy_from_slice(self.author.as_bytes());
        bytes[16..].copy_from_slice(self.request.as_bytes());
        bytes
    }

    /// The id of these 32 bytes; `None` if they are none.
    #[must_use]
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        let (author, request) = bytes.split_at_checked(16)?;
        Self::from_parts(author, request)
    }

    /// The id of an author's post.
    #[must_use]
    pub fn from_parts(author: &[u8], request: &[u8]) -> Option<Self> {
        Some(Self { author: UserId::from_slice(author)?, request: ClientId::from_slice(request)? })
    }

    /// The part that is unique for its author.
    #[must_use]
    pub fn request_key(&self) -> Bytes {
        Bytes::copy_from_slice(self.request.as_bytes())
    }
}

fn digits(text: &str) -> Option<[u8; 16]> {
    // One text per id: capitals and signs are no digits of ours.
    if text.len() != 32 || !text.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    u128::from_str_radix(text, 16).ok().map(u128::to_be_bytes)
}

fn parse(text: &str) -> Option<(UserId, ClientId)> {
    let (user, request) = text.split_once('-')?;
    let request = ClientId::from_bytes(digits(request)?);
    // Of another version no request is taken, so nothing has such an id.
    (request.as_bytes()[6] >> 4 == 7).then_some((UserId::from_bytes(digits(user)?), request))
}

fn write(f: &mut fmt::Formatter<'_>, user: UserId, request: ClientId) -> fmt::Result {
    let number = |bytes: &[u8; 16]| u128::from_be_bytes(*bytes);
    write!(f, "{:032x}-{:032x}", number(user.as_bytes()), number(request.as_bytes()))
}

impl FromStr for PostId {
    type Err = NotAnId;
    fn from_str(text: &str) -> Result<Self, NotAnId> {
        let (author, request) = parse(text).ok_or(NotAnId("a post id"))?;
        Ok(Self { author, request })
    }
}

impl fmt::Display for PostId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(f, self.author, self.request)
    }
}

impl fmt::Debug for PostId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for CommentId {
    type Err = NotAnId;
    fn from_str(text: &str) -> Result<Self, NotAnId> {
        let parsed = || {
            let (post, rest) = text.split_at_checked(POST_TEXT)?;
            let (user, request) = parse(rest.strip_prefix('-')?)?;
            Some(Self { post: post.parse().ok()?, user, request })
        };
        parsed().ok_or(NotAnId("a comment id"))
    }
}

impl fmt::Display for CommentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-", self.post)?;
        write(f, self.user, self.request)
    }
}

impl fmt::Debug for CommentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A post as it is stored. Of a deleted one nothing is left but that.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Post {
    /// When it was made, microseconds.
    #[prost(fixed64, tag = "1")]
    pub created: u64,
    /// Encoded `plaza.moments.v1.PostContent`.
    #[prost(bytes = "bytes", tag = "2")]
    pub content: Bytes,
    /// For whom.
    #[prost(message, required, tag = "3")]
    pub audience: Audience,
    /// Users called, 16 bytes each.
    #[prost(bytes = "bytes", repeated, tag = "4")]
    pub mentions: Vec<Bytes>,
    /// Deleted.
    #[prost(bool, tag = "5")]
    pub deleted: bool,
}

/// Whether an audience admits somebody on whom the author has these tags now.
#[must_use]
pub fn admits(audience: &Audience, viewer: UserId, tags: &[String]) -> bool {
    let names = || {
        let (users, _) = audience.users.as_chunks::<16>();
        users.binary_search(viewer.as_bytes()).is_ok() || tags.iter().any(|tag| audience.tags.contains(tag))
    };
    match audience.kind() {
        AudienceKind::Private => false,
        AudienceKind::All => true,
        AudienceKind::Only => names(),
        AudienceKind::Except => !names(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn post(author: u8) -> PostId {
        PostId { author: UserId::from_bytes([author; 16]), request: ClientId::new(1_700_000_000_000_000, [author; 10]) }
    }

    #[test]
    fn one_text_per_id() {
        let id = post(9);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(PostId::from_slice(&id.to_bytes()), Some(id));
        let comment = CommentId { post: id, user: UserId::from_bytes([7; 16]), request: ClientId::new(1_700_000_000_000_000, [3; 10]) };
        assert_eq!(comment.to_string().parse(), Ok(comment));
        let text = id.to_string();
        let version_4 = format!("{}-{}", &text[..32], "6ba7b81091144d1180b400c04fd430c8");
        for bad in ["", "-", "x", &text[1..], &text.to_uppercase(), &text.replace('-', "+"), &format!("+{}", &text[1..]), &version_4] {
            assert!(bad.parse::<PostId>().is_err(), "{bad}");
        }
        let rest = &comment.to_string()[66..];
        for bad in
            ["", "1", &rest[1..], &rest.replace('-', "+"), &rest.to_uppercase(), &version_4, &format!("{rest}0"), &format!("{rest}-1")]
        {
            assert!(format!("{text}-{bad}").parse::<CommentId>().is_err(), "{bad}");
        }
        assert!(format!("{text}+{rest}").parse::<CommentId>().is_err());
        assert!("ü".repeat(65).parse::<CommentId>().is_err(), "no place to split");
        assert!(text.parse::<CommentId>().is_err(), "a post is no comment");
        assert!(comment.to_string().parse::<PostId>().is_err(), "a comment is no post");
    }
}
