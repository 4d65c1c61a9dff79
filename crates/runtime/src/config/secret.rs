//! Text that must not be seen.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

const SHOWN: &str = "***";

/// Text that is never printed or logged: a key, a password. Its default is empty, and so must be every default in a configuration.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, to be used at once and given to nobody.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether nothing was set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn shown(&self) -> &'static str {
        if self.is_empty() { "" } else { SHOWN }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.shown())
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.shown())
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Not the error of `String`, which quotes what it was given.
        match String::deserialize(deserializer) {
            // What a printed configuration shows; read back it would be everybody's key.
            Ok(text) if text == SHOWN => Err(de::Error::custom("is a hidden secret, not the secret itself")),
            Ok(text) => Ok(Self(text)),
            Err(_) => Err(de::Error::custom("must be text")),
        }
    }
}
