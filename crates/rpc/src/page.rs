//! Page sizes and page tokens. A token is a position sealed for one caller and one query: it cannot be made, altered, or used elsewhere. What
//! a position is, only its service knows; it is not hidden in the token.

use plaza_types::{Reason, UserId, limits};
use ring::hmac;

use crate::ApiError;

const TAG: usize = 32;
const LONGEST: usize = 2048;

/// Seals and opens page tokens with one key.
#[derive(Clone)]
pub struct PageTokens {
    key: hmac::Key,
}

impl PageTokens {
    /// With this secret key; every instance that may be asked for the next page needs the same.
    #[must_use]
    pub fn new(key: [u8; 32]) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, &key) }
    }

    /// The token that goes on at a position, for this caller and this query.
    #[must_use]
    pub fn seal(&self, caller: UserId, query: &str, position: &[u8]) -> String {
        let tag = hmac::sign(&self.key, &sealed(caller, query, position));
        tag.as_ref().iter().chain(position).flat_map(|byte| [hex(byte >> 4), hex(byte & 15)]).collect()
    }

    /// The position of a token.
    ///
    /// # Errors
    /// INVALID_ARGUMENT, `PAGE_TOKEN`: not made here, for another caller or for another query.
    pub fn open(&self, caller: UserId, query: &str, token: &str) -> Result<Vec<u8>, ApiError> {
        let refused = || ApiError::refused(Reason::PageToken, "page_token", "not a page token of this caller and this query", 0);
        let bytes = unhex(token).ok_or_else(refused)?;
        let (tag, position) = bytes.split_at_checked(TAG).ok_or_else(refused)?;
        hmac::verify(&self.key, &sealed(caller, query, position), tag).map_err(|_| refused())?;
        Ok(position.to_vec())
    }
}

// The query's length comes first, so that no other split of the same bytes seals alike.
fn sealed(caller: UserId, query: &str, position: &[u8]) -> Vec<u8> {
    let length = (query.len() as u64).to_be_bytes();
    [caller.as_bytes().as_slice(), &length, query.as_bytes(), position].concat()
}

fn hex(nibble: u8) -> char {
    char::from(b"0123456789abcdef"[usize::from(nibble)])
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if digits.len() > LONGEST || !digits.len().is_multiple_of(2) {
        return None;
    }
    // One text per token: capitals are no digits of ours.
    let value = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    digits.chunks_exact(2).map(|pair| Some(value(pair[0])? << 4 | value(pair[1])?)).collect()
}

/// How many items a page has that was asked for with this `page_size`.
///
/// # Errors
/// INVALID_ARGUMENT above the largest page.
pub fn size(page_size: u32) -> Result<usize, ApiError> {
    match page_size {
        0 => Ok(limits::PAGE_DEFAULT as usize),
        size if size <= limits::PAGE_MAX => Ok(size as usize),
        _ => Err(ApiError::invalid("page_size", format!("at most {}", limits::PAGE_MAX))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_caller_and_query_can_go_on() {
        let tokens = PageTokens::new([7; 32]);
        let (caller, other) = (UserId::new(1, [1; 10]), UserId::new(1, [2; 10]));
        let token = tokens.seal(caller, "contacts", b"position");
        assert_eq!(tokens.open(caller, "contacts", &token).as_deref(), Ok(b"position".as_slice()));
        let refused = |result: Result<Vec<u8>, ApiError>| result.map_err(|error| error.reason()) == Err(Reason::PageToken);
        assert!(refused(tokens.open(other, "contacts", &token)));
        assert!(refused(tokens.open(caller, "blocked", &token)));
        assert!(refused(PageTokens::new([8; 32]).open(caller, "contacts", &token)));
        for at in 0..token.len() {
            let mut altered = token.clone().into_bytes();
            altered[at] = if altered[at] == b'0' { b'1' } else { b'0' };
            assert!(refused(tokens.open(caller, "contacts", &String::from_utf8_lossy(&altered))), "{at}");
        }
        for bad in ["", "x", "00", &token[..token.len() - 1], &token.to_uppercase(), &"é".repeat(40), &"0".repeat(100_000)] {
            assert!(refused(tokens.open(caller, "contacts", bad)));
        }
    }

    #[test]
    fn sizes() {
        assert_eq!((size(0), size(200)), (Ok(50), Ok(200)));
        assert_eq!(size(201).map_err(|error| error.reason()), Err(Reason::InvalidArgument));
    }
}
