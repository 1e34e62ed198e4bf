//! Which domains a policy is for: one name, or all that a glob matches.

use std::cmp::{Ordering, Reverse};
use std::fmt;
use std::str::Chars;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::protocol::{Domain, NameError};

/// A name or a glob, in its normal form. The most specific one is the least.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Pattern {
    /// This domain alone.
    Name(Domain),
    /// Each domain that matches.
    Glob(Glob),
}

impl Pattern {
    /// Reads a pattern. It is brought to its normal form like a domain; with a `*`, which stands for any run of
    /// characters, `/` included, or a `?`, which stands for one character, it is a glob.
    ///
    /// # Errors
    ///
    /// When it could not be a domain: see [`Domain::parse`].
    pub fn parse(text: &str) -> Result<Pattern, NameError> {
        let name = Domain::parse(text)?;
        Ok(if has_wildcard(&name) { Pattern::Glob(Glob::new(name.as_str())) } else { Pattern::Name(name) })
    }

    /// Whether it is for `domain`.
    pub fn matches(&self, domain: &Domain) -> bool {
        match self {
            Pattern::Name(name) => name == domain,
            Pattern::Glob(glob) => glob.matches(domain),
        }
    }

    /// The pattern in its normal form.
    pub fn as_str(&self) -> &str {
        match self {
            Pattern::Name(name) => name.as_str(),
            Pattern::Glob(glob) => &glob.text,
        }
    }
}

impl TryFrom<String> for Pattern {
    type Error = NameError;

    fn try_from(text: String) -> Result<Pattern, NameError> {
        Pattern::parse(&text)
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> String {
        pattern.as_str().to_owned()
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A pattern with wildcards. Two that match the same names are equal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct Glob {
    /// In each run of wildcards the `?` come first, and then at most one `*`.
    text: Arc<str>,
}

impl Glob {
    fn new(text: &str) -> Glob {
        let mut normal = String::with_capacity(text.len());
        let mut has_star = false;
        for character in text.chars() {
            match character {
                '*' => has_star = true,
                '?' => normal.push('?'),
                literal => {
                    normal.extend(std::mem::take(&mut has_star).then_some('*'));
                    normal.push(literal);
                }
            }
        }
        normal.extend(has_star.then_some('*'));
        Glob { text: normal.into() }
    }

    /// Whether it is for `domain`.
    pub(super) fn matches(&self, domain: &Domain) -> bool {
        let (mut glob, mut name) = (self.text.chars(), domain.as_str().chars());
        // Behind the last `*`, and what it does not stand for yet.
        let mut retry: Option<(Chars<'_>, Chars<'_>)> = None;
        loop {
            let before = name.clone();
            match (glob.next(), name.next()) {
                (Some('*'), _) => {
                    name = before;
                    retry = Some((glob.clone(), name.clone()));
                }
                (None, None) => return true,
                (Some('?'), Some(_)) => {}
                (Some(expected), Some(found)) if expected == found => {}
                _ => {
                    // The `*` must stand for one character more.
                    let Some((after, rest)) = &mut retry else { return false };
                    if rest.next().is_none() {
                        return false;
                    }
                    (glob, name) = (after.clone(), rest.clone());
                }
            }
        }
    }

    /// The more literal characters, the more specific; of those that have as many, the fewer wildcards.
    fn rank(&self) -> (Reverse<usize>, usize) {
        let wildcards = self.text.chars().filter(|character| is_wildcard(*character)).count();
        (Reverse(self.text.chars().count() - wildcards), wildcards)
    }
}

impl From<String> for Glob {
    fn from(text: String) -> Glob {
        Glob::new(&text)
    }
}

impl From<Glob> for String {
    fn from(glob: Glob) -> String {
        glob.text.to_string()
    }
}

impl PartialOrd for Glob {
    fn partial_cmp(&self, other: &Glob) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Glob {
    fn cmp(&self, other: &Glob) -> Ordering {
        self.rank().cmp(&other.rank()).then_with(|| self.text.cmp(&other.text))
    }
}

fn has_wildcard(name: &Domain) -> bool {
    name.as_str().contains(is_wildcard)
}

fn is_wildcard(character: char) -> bool {
    matches!(character, '*' | '?')
}
