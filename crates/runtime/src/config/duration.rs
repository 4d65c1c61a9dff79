//! Durations as people write them: `"250ms"`, `"10s"`, `"1h30m"`. For `#[serde(with = "plaza_runtime::config::duration")]`.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serializer, de};

/// From the longest to the shortest, in microseconds.
const UNITS: [(&str, u64); 6] =
    [("d", 86_400_000_000), ("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000), ("ms", 1_000), ("us", 1)];

/// Writes a duration, down to microseconds.
///
/// # Errors
/// Those of the serializer.
pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format(*duration))
}

/// Reads a duration.
///
/// # Errors
/// It is not text, or not of the form.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse(&text).ok_or_else(|| de::Error::custom("must be a duration such as \"250ms\", \"10s\" or \"1h30m\""))
}

fn format(duration: Duration) -> String {
    let mut left = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (name, micros) in UNITS {
        if left >= micros {
            text += &format!("{}{name}", left / micros);
            left %= micros;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

fn parse(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    let mut total = 0u64;
    let mut units = UNITS.iter();
    while !rest.is_empty() {
        let (number, after) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
        let (unit, after) = after.split_at(after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len()));
        // Each unit once and in order.
        let (_, micros) = units.by_ref().find(|(name, _)| *name == unit)?;
        total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(*micros)?)?;
        rest = after;
    }
    (!text.trim().is_empty()).then(|| Duration::from_micros(total))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_usual_forms_are_read_and_others_refused() {
        for (text, millis) in [("250ms", 250), ("10s", 10_000), ("1h30m", 5_400_000), ("0s", 0), (" 2m ", 120_000), ("7d", 604_800_000)] {
            assert_eq!(parse(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "10", "s", "-1s", "1.5s", "1s2s", "1s1h", "1 s", "1y", "99999999999999999999s", "213503983d"] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(micros in any::<u64>()) {
            let duration = Duration::from_micros(micros);
            prop_assert_eq!(parse(&format(duration)), Some(duration));
        }
    }
}
