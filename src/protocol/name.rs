//! Names and numbers that go over the wire, parsed once and trusted from then on.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::limits::{DOMAIN_BYTES_MAX, KEY_BYTES_MAX, REQUEST_ID_BYTES_MAX};

/// The name of a line, e.g. `foo.com` or `deploy/eu-west`, in its normal form.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Domain(Arc<str>);

impl Domain {
    /// Reads a name: white space around it is dropped, ASCII letters are folded to lower case, and one trailing dot
    /// is dropped, so that `Foo.COM.` is `foo.com`. Parsing a parsed name changes nothing.
    ///
    /// # Errors
    ///
    /// When what is left is empty, longer than [`DOMAIN_BYTES_MAX`], has a control character, or still ends in a dot.
    pub fn parse(text: &str) -> Result<Domain, NameError> {
        let name = text.trim();
        let name = name.strip_suffix('.').unwrap_or(name).trim_end();
        if name.is_empty() {
            return Err(NameError::Empty { what: "domain" });
        }
        if name.ends_with('.') {
            return Err(NameError::TrailingDots);
        }
        if name.len() > DOMAIN_BYTES_MAX {
            return Err(NameError::TooLong { what: "domain", bytes: name.len(), max: DOMAIN_BYTES_MAX });
        }
        if name.chars().any(char::is_control) {
            return Err(NameError::ControlCharacter { what: "domain" });
        }
        Ok(Domain(name.to_ascii_lowercase().into()))
    }

    /// The name in its normal form.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// These names in their order, each where it is named first: a line that is named twice counts once.
    pub fn each_once(named: impl IntoIterator<Item = Domain>) -> impl Iterator<Item = Domain> {
        let mut seen = BTreeSet::new();
        named.into_iter().filter(move |domain| seen.insert(domain.clone()))
    }
}

impl TryFrom<String> for Domain {
    type Error = NameError;

    fn try_from(text: String) -> Result<Domain, NameError> {
        Domain::parse(&text)
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a client calls its request; unique in its domain while the request lives.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct RequestId(Arc<str>);

impl RequestId {
    /// Takes the id as it is.
    ///
    /// # Errors
    ///
    /// When it is empty, longer than [`REQUEST_ID_BYTES_MAX`], or has a control character.
    pub fn parse(text: &str) -> Result<RequestId, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty { what: "request id" });
        }
        if text.len() > REQUEST_ID_BYTES_MAX {
            return Err(NameError::TooLong { what: "request id", bytes: text.len(), max: REQUEST_ID_BYTES_MAX });
        }
        if text.chars().any(char::is_control) {
            return Err(NameError::ControlCharacter { what: "request id" });
        }
        Ok(RequestId(text.into()))
    }

    /// The id, as the client gave it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for RequestId {
    type Error = NameError;

    fn try_from(text: String) -> Result<RequestId, NameError> {
        RequestId::parse(&text)
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is to be run once, as its user calls it; one of a user in a domain.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Key(Arc<str>);

impl Key {
    /// Reads a key: white space around it is dropped.
    ///
    /// # Errors
    ///
    /// When nothing is left, or more than [`KEY_BYTES_MAX`].
    pub fn parse(text: &str) -> Result<Key, NameError> {
        let key = text.trim();
        if key.is_empty() {
            return Err(NameError::Empty { what: "key" });
        }
        if key.len() > KEY_BYTES_MAX {
            return Err(NameError::TooLong { what: "key", bytes: key.len(), max: KEY_BYTES_MAX });
        }
        Ok(Key(key.into()))
    }

    /// The key, without the white space around it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Key {
    type Error = NameError;

    fn try_from(text: String) -> Result<Key, NameError> {
        Key::parse(&text)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text is not a domain, a request id or a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameError {
    /// Nothing is left of it.
    Empty {
        /// `domain`, `request id` or `key`.
        what: &'static str,
    },
    /// It has more bytes than it may have.
    TooLong {
        /// `domain`, `request id` or `key`.
        what: &'static str,
        /// The bytes it has.
        bytes: usize,
        /// The bytes it may have.
        max: usize,
    },
    /// It has a character that a terminal would obey.
    ControlCharacter {
        /// `domain`, `request id` or `key`.
        what: &'static str,
    },
    /// A domain that ends in two dots or more: it names no line.
    TrailingDots,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NameError::Empty { what: "domain" } => f.write_str("the domain is empty: give it a name, such as foo.com"),
            NameError::Empty { what } => write!(f, "the {what} is empty: give it at least one character"),
            NameError::TooLong { what, bytes, max } => {
                write!(f, "the {what} has {bytes} bytes: use at most {max}")
            }
            NameError::ControlCharacter { what } => {
                write!(f, "the {what} has a control character: use printable characters only")
            }
            NameError::TrailingDots => f.write_str("the domain ends in more than one dot: write at most one"),
        }
    }
}

impl std::error::Error for NameError {}

/// A place in a line: a number that rises for ever, over all domains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ticket(pub u64);

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The fencing number of a turn: larger than that of every earlier turn in its domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Token(pub u64);

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_is_folded_to_one_spelling() {
        for spelling in ["foo.com", "Foo.COM", " foo.com\t", "foo.com.", "FOO.com. ", "foo.com ."] {
            assert_eq!(Domain::parse(spelling).unwrap().as_str(), "foo.com", "{spelling:?}");
        }
        assert_eq!(Domain::parse("Ärger").unwrap().as_str(), "Ärger", "only ASCII letters are folded");
    }

    #[test]
    fn a_name_that_cannot_be_is_refused_with_the_reason() {
        let long = "x".repeat(256);
        let refusal = |text: &str| Domain::parse(text).unwrap_err().to_string();
        assert_eq!(refusal(" . "), "the domain is empty: give it a name, such as foo.com");
        assert_eq!(refusal("foo.."), "the domain ends in more than one dot: write at most one");
        assert_eq!(refusal("a\nb"), "the domain has a control character: use printable characters only");
        assert_eq!(refusal("a\u{85}b"), "the domain has a control character: use printable characters only");
        assert_eq!(refusal(&long), "the domain has 256 bytes: use at most 255");
        assert!(Domain::parse(&long[1..]).is_ok());
        assert!(RequestId::parse("").is_err());
        assert!(RequestId::parse(&long).is_err());
    }
}
