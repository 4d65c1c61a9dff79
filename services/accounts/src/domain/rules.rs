//! What users may enter. Characters are Unicode scalar values; each rule gives the reason in words for the caller to read.

use std::ops::RangeInclusive;

use plaza_types::limits;

/// Why something entered is refused.
pub type Refusal = &'static str;

const DEVICE_NAME: RangeInclusive<usize> = 1..=64;
const PLATFORM: RangeInclusive<usize> = 1..=32;
const REGION: RangeInclusive<usize> = 0..=64;
const BIO: RangeInclusive<usize> = 0..=200;

/// A handle that keeps the rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handle {
    /// As its owner wrote it.
    pub shown: String,
    /// What makes it unique: the same for every case.
    pub key: String,
}

/// 6 to 20 characters: a letter, then letters, digits, '_' or '-'.
///
/// # Errors
/// Anything else.
pub fn handle(text: &str) -> Result<Handle, Refusal> {
    let follows = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    let bytes = text.as_bytes();
    let well_formed = bytes.first().is_some_and(u8::is_ascii_alphabetic) && bytes.iter().all(|byte| follows(*byte));
    if !well_formed || !limits::HANDLE.contains(&bytes.len()) {
        return Err("must be 6 to 20 characters: a letter, then letters, digits, '_' or '-'");
    }
    Ok(Handle { shown: text.to_owned(), key: text.to_ascii_lowercase() })
}

/// A password to be set: 8 to 128 characters, any but control characters.
///
/// # Errors
/// Anything else.
pub fn new_password(text: &str) -> Result<String, Refusal> {
    within(text, limits::PASSWORD, "must be 8 to 128 characters", "must not contain control characters")
}

/// A password to be checked. Shorter ones than can be set are simply wrong; longer ones are not worth hashing.
///
/// # Errors
/// Empty, or longer than any password.
pub fn password(text: &str) -> Result<String, Refusal> {
    match text.chars().take(limits::PASSWORD.end() + 1).count() {
        0 => Err("must not be empty"),
        length if length > *limits::PASSWORD.end() => Err("must be at most 128 characters"),
        _ => Ok(text.to_owned()),
    }
}

/// 1 to 64 characters.
///
/// # Errors
/// Anything else.
pub fn display_name(text: &str) -> Result<String, Refusal> {
    within(text, limits::DISPLAY_NAME, "must be 1 to 64 characters", "must not contain control characters")
}

/// At most 64 characters; empty is the same as none.
///
/// # Errors
/// Anything else.
pub fn region(text: Option<&str>) -> Result<Option<String>, Refusal> {
    optional(text, |text| within(text, REGION, "must be at most 64 characters", "must not contain control characters"))
}

/// At most 200 characters, line breaks among them; empty is the same as none.
///
/// # Errors
/// Anything else.
pub fn bio(text: Option<&str>) -> Result<Option<String>, Refusal> {
    let rule = |text: &str| {
        within(&text.replace('\n', " "), BIO, "must be at most 200 characters", "must not contain control characters but line breaks")?;
        Ok(text.to_owned())
    };
    optional(text, rule)
}

/// 64 lowercase hexadecimal digits; empty is the same as none.
///
/// # Errors
/// Anything else.
pub fn avatar(text: Option<&str>) -> Result<Option<String>, Refusal> {
    optional(text, |text| {
        let digits = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if digits && text.len() == 64 { Ok(text.to_owned()) } else { Err("must be a content hash: 64 lowercase hexadecimal digits") }
    })
}

/// 1 to 64 characters.
///
/// # Errors
/// Anything else.
pub fn device_name(text: &str) -> Result<String, Refusal> {
    within(text, DEVICE_NAME, "must be 1 to 64 characters", "must not contain control characters")
}

/// 1 to 32 characters.
///
/// # Errors
/// Anything else.
pub fn platform(text: &str) -> Result<String, Refusal> {
    within(text, PLATFORM, "must be 1 to 32 characters", "must not contain control characters")
}

/// Whether a request id of this time is good now; both in microseconds since the epoch.
#[must_use]
pub fn request_time(made: u64, now: u64) -> bool {
    made <= now.saturating_add(limits::REQUEST_AHEAD) && now <= made.saturating_add(limits::REQUEST_WINDOW)
}

fn within(text: &str, length: RangeInclusive<usize>, wrong_length: Refusal, control: Refusal) -> Result<String, Refusal> {
    // A text far too long need not be counted to its end.
    if !length.contains(&text.chars().take(length.end() + 1).count()) {
        Err(wrong_length)
    } else if text.chars().any(char::is_control) {
        Err(control)
    } else {
        Ok(text.to_owned())
    }
}

fn optional(text: Option<&str>, rule: impl FnOnce(&str) -> Result<String, Refusal>) -> Result<Option<String>, Refusal> {
    match text {
        None | Some("") => Ok(None),
        Some(text) => rule(text).map(Some),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn handles() {
        assert_eq!(handle("Mei_Lin-7"), Ok(Handle { shown: "Mei_Lin-7".into(), key: "mei_lin-7".into() }));
        for bad in ["", "short", "7letters", "_letters", "with space", "ünïcode", "a23456789012345678901", "new\nline"] {
            assert!(handle(bad).is_err(), "{bad}");
        }
        assert!(handle("a23456").is_ok() && handle("a2345678901234567890").is_ok());
    }

    #[test]
    fn characters_are_counted_not_bytes() {
        assert!(display_name(&"界".repeat(64)).is_ok());
        assert!(display_name(&"界".repeat(65)).is_err());
        assert!(display_name("").is_err() && display_name("a\u{7}b").is_err() && display_name("a\u{85}b").is_err());
        assert!(new_password(&"é".repeat(8)).is_ok() && new_password("1234567").is_err());
        assert!(new_password(&"é".repeat(128)).is_ok() && new_password(&"é".repeat(129)).is_err());
        assert!(password("x").is_ok() && password("").is_err() && password(&"é".repeat(129)).is_err());
        assert!(region(Some(&"界".repeat(64))).is_ok() && region(Some(&"界".repeat(65))).is_err() && region(Some("a\nb")).is_err());
        assert!(bio(Some(&"界".repeat(200))).is_ok() && bio(Some(&"界".repeat(201))).is_err());
        assert_eq!((region(None), bio(Some("")), avatar(Some(""))), (Ok(None), Ok(None), Ok(None)));
        assert!(device_name(&"x".repeat(64)).is_ok() && device_name(&"x".repeat(65)).is_err());
        assert!(platform(&"x".repeat(32)).is_ok() && platform(&"x".repeat(33)).is_err());
    }

    #[test]
    fn a_bio_may_have_lines_but_no_other_control_characters() {
        assert_eq!(bio(Some("one\ntwo")), Ok(Some("one\ntwo".into())));
        assert!(bio(Some("one\ttwo")).is_err() && bio(Some("one\0")).is_err());
        assert!(bio(Some(&"\n".repeat(201))).is_err());
    }

    #[test]
    fn avatars() {
        assert!(avatar(Some(&"0f".repeat(32))).is_ok());
        assert!(
            avatar(Some(&"0F".repeat(32))).is_err() && avatar(Some(&"0f".repeat(31))).is_err() && avatar(Some(&"0g".repeat(32))).is_err()
        );
    }

    #[test]
    fn request_ids_age() {
        let now = 10 * limits::DAY;
        assert!(
            request_time(now, now) && request_time(now + limits::REQUEST_AHEAD, now) && request_time(now - limits::REQUEST_WINDOW, now)
        );
        assert!(!request_time(now + limits::REQUEST_AHEAD + 1, now) && !request_time(now - limits::REQUEST_WINDOW - 1, now));
    }

    proptest! {
        #[test]
        fn a_handle_that_is_taken_keeps_its_rules(text in ".{0,24}") {
            if let Ok(handle) = handle(&text) {
                prop_assert!(limits::HANDLE.contains(&handle.shown.chars().count()));
                prop_assert_eq!(&handle.shown, &text);
                prop_assert_eq!(super::handle(&text.to_ascii_uppercase()).expect("the same rules").key, handle.key);
            }
        }
    }
}
