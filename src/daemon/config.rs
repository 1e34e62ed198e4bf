//! The config file: policies for patterns, in TOML 1.0.
//!
//! ```toml
//! [policy."deploy/*"]
//! concurrency = 3
//! rate = "10/1m"
//! ```

use std::fmt;
use std::io::ErrorKind;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::args::SeqdArgs;
use super::place::home_directory;
use crate::cli::parse_duration;
use crate::error::Error;
use crate::protocol::limits::CONCURRENCY_MAX;
use crate::sequencer::{FilePolicy, Pattern, Policy, PolicyError, PolicyValue, Rate};

/// Where a system-wide daemon looks for it.
const SYSTEM_CONFIG: &str = "/etc/seq/seqd.toml";

/// Where a user's own daemon does, in the home directory. Like the socket's, this path depends on the user alone.
const USER_CONFIG: &str = ".config/seq/seqd.toml";

/// Bytes that it may have.
const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// The file, and what is wrong with it.
#[derive(Clone, Debug, Default)]
pub(super) struct Config {
    /// None for a user without a home directory.
    path: Option<PathBuf>,
    /// Whether it was named on the command line, and so has to be there.
    is_named: bool,
    /// Whether it is where a daemon looks that is told nothing.
    is_usual: bool,
    /// Why what it says now does not count.
    mistake: Option<Mistake>,
}

/// Where a user's own daemon looks for it; nothing for a user without a home directory.
pub fn usual_config() -> Option<PathBuf> {
    Some(home_directory().ok()??.join(USER_CONFIG))
}

/// A line and a column, each counted from 1, if it is known.
type Place = Option<(usize, usize)>;

/// What is wrong with it, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mistake {
    path: PathBuf,
    place: Place,
    what: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if let Some((line, column)) = self.place {
            write!(f, ":{line}:{column}")?;
        }
        write!(f, ": {}", self.what)
    }
}

impl From<Mistake> for Error {
    fn from(mistake: Mistake) -> Error {
        Error::failure(mistake)
    }
}

impl Config {
    /// The file that these arguments name, or the usual one.
    pub(super) fn of(args: &SeqdArgs) -> Config {
        let usual = if args.system { Some(SYSTEM_CONFIG.into()) } else { usual_config() };
        // The next daemon goes on with it from another directory.
        let named = args.config.as_ref().map(|path| std::path::absolute(path).unwrap_or_else(|_| path.clone()));
        let path = named.or_else(|| usual.clone());
        Config { is_usual: path == usual, path, is_named: args.config.is_some(), mistake: None }
    }

    /// Goes on with the file of an earlier daemon, as far as this one was told of none.
    pub(super) fn go_on_with(&mut self, path: &str) {
        if !self.is_named {
            self.is_usual &= self.path.as_deref() == Some(path.as_ref());
            self.path = Some(path.into());
            // Somebody named it once: that it is missing does not mean that it is to say nothing.
            self.is_named = !self.is_usual;
        }
    }

    /// Whether the next daemon would look for it without being told.
    pub(super) fn is_usual(&self) -> bool {
        self.is_usual
    }

    pub(super) fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Why what it says now does not count.
    pub(super) fn mistake(&self) -> Option<&Mistake> {
        self.mistake.as_ref()
    }

    /// Reads it. One that was not named may be missing, and says nothing then.
    ///
    /// # Errors
    ///
    /// The first mistake in it; what it said before still counts then.
    pub(super) fn load(&mut self) -> Result<Vec<FilePolicy>, Mistake> {
        self.mistake = None;
        let Some(path) = &self.path else { return Ok(Vec::new()) };
        let loaded = match read(path) {
            Err(error) if error.kind() == ErrorKind::NotFound && !self.is_named => Ok(Vec::new()),
            Err(error) => Err((None, format!("cannot read it: {error}"))),
            Ok(bytes) => parse_bytes(&bytes),
        };
        loaded.map_err(|(place, what)| {
            let mistake = Mistake { path: path.clone(), place, what };
            self.mistake = Some(mistake.clone());
            mistake
        })
    }
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let found = std::fs::metadata(path)?;
    if !found.is_file() || found.len() > CONFIG_BYTES_MAX {
        return Err(std::io::Error::other("it is no file of a reasonable size"));
    }
    std::fs::read(path)
}

/// What the file says, or where which mistake is.
fn parse_bytes(bytes: &[u8]) -> Result<Vec<FilePolicy>, (Place, String)> {
    match str::from_utf8(bytes) {
        Ok(text) => parse(text).map_err(|(span, what)| (span.map(|span| place(text, span.start)), what)),
        Err(error) => {
            let before = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
            Err((Some(place(&before, before.len())), "this is not UTF-8: save the file as UTF-8".to_owned()))
        }
    }
}

/// Line and column of a byte, counted from 1; a column is a character.
fn place(text: &str, at: usize) -> (usize, usize) {
    let before = &text[..text.floor_char_boundary(at.min(text.len()))];
    let line = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line..].chars().count() + 1)
}

/// Where something is wrong, and what.
type Wrong = (Option<Range<usize>>, String);

fn parse(text: &str) -> Result<Vec<FilePolicy>, Wrong> {
    let root = DeTable::parse(text).map_err(|error| (error.span(), error.message().replace('\n', " ")))?;
    let mut policies: Vec<FilePolicy> = Vec::new();
    for (key, value) in in_order(root.get_ref()) {
        if key.get_ref() != "policy" {
            let what = format!("'{}' is not known here: write [policy.\"PATTERN\"]", key.get_ref());
            return Err((Some(key.span()), what));
        }
        for (pattern, values) in in_order(table(value, "policy must be a table: write [policy.\"PATTERN\"]")?) {
            let wrong = |what: String| (Some(pattern.span()), what);
            let values = table(values, "what is set must be under [policy.\"PATTERN\"]")?;
            let parsed = Pattern::parse(pattern.get_ref()).map_err(|error| wrong(error.to_string()))?;
            let line = u32::try_from(place(text, pattern.span().start).0).unwrap_or(u32::MAX);
            if let Some(other) = policies.iter().find(|other| other.pattern == parsed) {
                return Err(wrong(format!("{parsed} has its policy in line {} already", other.line)));
            }
            let policy = policy(pattern.get_ref(), values)?;
            policy
                .check()
                .map_err(|error| (Some(place_of(error, values).unwrap_or(pattern.span())), error.to_string()))?;
            policies.push(FilePolicy { pattern: parsed, line, policy });
        }
    }
    Ok(policies)
}

/// As it stands in the file, so that the first mistake is the one that is told.
fn in_order<'a, 'i>(table: &'a DeTable<'i>) -> Vec<(&'a Spanned<DeString<'i>>, &'a Spanned<DeValue<'i>>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(name, _)| name.span().start);
    entries
}

fn table<'a, 'i>(value: &'a Spanned<DeValue<'i>>, otherwise: &str) -> Result<&'a DeTable<'i>, Wrong> {
    value.get_ref().as_table().ok_or_else(|| (Some(value.span()), otherwise.to_owned()))
}

fn policy(pattern: &str, values: &DeTable<'_>) -> Result<Policy, Wrong> {
    let mut policy = Policy::default();
    for (name, value) in in_order(values) {
        let Some(known) = PolicyValue::ALL.into_iter().find(|known| known.as_str() == name.get_ref()) else {
            return Err((Some(name.span()), unknown(pattern, name.get_ref(), value.get_ref())));
        };
        let (found, wrong) = (value.get_ref(), |what: String| (Some(value.span()), what));
        if found.as_str().is_some_and(|text| text.eq_ignore_ascii_case("none")) {
            policy.none.insert(known);
            continue;
        }
        match known {
            PolicyValue::Concurrency => policy.concurrency = Some(number(known, found).map_err(wrong)?),
            PolicyValue::MaxQueue => policy.max_queue = Some(number(known, found).map_err(wrong)?),
            PolicyValue::Rate => {
                let text =
                    found.as_str().ok_or_else(|| wrong("the rate must be a text such as \"10/1m\"".to_owned()))?;
                policy.rate = Some(Rate::parse(text, parse_duration).map_err(wrong)?);
            }
            duration_of => policy.set_duration(duration_of, Some(duration(known, found).map_err(wrong)?)),
        }
    }
    Ok(policy)
}

fn unknown(pattern: &str, name: &str, value: &DeValue<'_>) -> String {
    if value.is_table() {
        return format!("a name with a dot must be quoted: write [policy.\"{pattern}.{name}\"]");
    }
    let known = PolicyValue::ALL.map(PolicyValue::as_str).join(", ");
    format!("a policy has no '{name}': use {known}")
}

fn number(value: PolicyValue, found: &DeValue<'_>) -> Result<u32, String> {
    let read = found.as_integer().and_then(|number| u32::from_str_radix(number.as_str(), number.radix()).ok());
    let bounds = if value == PolicyValue::Concurrency {
        format!("from 1 to {CONCURRENCY_MAX}")
    } else {
        "or \"none\"".to_owned()
    };
    read.ok_or_else(|| format!("{value} must be a whole number, {bounds}"))
}

/// As on the command line: a text with units, or a number of seconds.
fn duration(value: PolicyValue, found: &DeValue<'_>) -> Result<std::time::Duration, String> {
    let seconds = || found.as_integer().map(|number| number.as_str().to_owned());
    let seconds = || seconds().or_else(|| found.as_float().map(|number| number.as_str().to_owned()));
    let text = found.as_str().map(str::to_owned).or_else(seconds);
    let text = text.ok_or_else(|| format!("{value} must be a duration such as \"90s\""))?;
    parse_duration(&text).map_err(|wrong| format!("{value}: {wrong}"))
}

/// Where the value is that a policy was refused for.
fn place_of(error: PolicyError, values: &DeTable<'_>) -> Option<Range<usize>> {
    let (PolicyError::Zero(value) | PolicyError::None(value) | PolicyError::TooLarge(value, _)) = error else {
        return None;
    };
    values.iter().find(|(name, _)| name.get_ref() == value.as_str()).map(|(_, value)| value.span())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::ValueSet;
    use std::time::Duration;

    fn wrong(text: &str) -> String {
        let (span, what) = parse(text).unwrap_err();
        let (line, column) = span.map_or((0, 0), |span| place(text, span.start));
        format!("{line}:{column}: {what}")
    }

    #[test]
    fn every_value_is_read() {
        let text = "# ours\n[policy.\"Deploy/*\"]\nconcurrency = 3\nmax-queue = 0\nmin-interval = \"1.5s\"\n\
            cooldown = 2\nrate = \"10/1m\"\nmax-run = \"1h\"\ndefault-max-wait = 0.5\n\n[policy.\"foo.com\"]\nmax-queue = 0x10\n";
        let found = parse(text).unwrap();
        assert_eq!(
            found.iter().map(|it| (it.pattern.as_str(), it.line)).collect::<Vec<_>>(),
            [("deploy/*", 2), ("foo.com", 11)]
        );
        let rate = Rate { starts: 10, per: Duration::from_mins(1) };
        let policy = Policy {
            concurrency: Some(3),
            max_queue: Some(0),
            min_interval: Some(Duration::from_millis(1_500)),
            cooldown: Some(Duration::from_secs(2)),
            rate: Some(rate),
            max_run: Some(Duration::from_hours(1)),
            default_max_wait: Some(Duration::from_millis(500)),
            none: ValueSet::default(),
        };
        assert_eq!(found[0].policy, policy);
        assert_eq!(found[1].policy, Policy { max_queue: Some(16), ..Policy::default() });
        assert_eq!(parse("").unwrap(), []);
    }

    #[test]
    fn a_value_can_be_none() {
        let found = parse("[policy.\"a\"]\nmax-queue = \"none\"\nrate = \"none\"\nmax-run = 0\n").unwrap();
        let none = [PolicyValue::MaxQueue, PolicyValue::Rate, PolicyValue::MaxRun].into_iter().collect();
        assert_eq!(found[0].policy, Policy { none, ..Policy::default() });
        assert!(wrong("[policy.\"a\"]\nconcurrency = \"none\"\n").starts_with("2:15: concurrency cannot be none"));
    }

    #[test]
    fn a_mistake_is_told_with_its_line_and_column() {
        assert_eq!(
            wrong("[policy.\"a\"]\nconcurency = 3\n").split(": use").next().unwrap(),
            "2:1: a policy has no 'concurency'"
        );
        assert_eq!(wrong("[policy.\"é\"]\n\n  max-run = true\n"), "3:13: max-run must be a duration such as \"90s\"");
        assert_eq!(
            wrong("[policy.foo.com]\nmax-queue = 1\n"),
            "1:13: a name with a dot must be quoted: write [policy.\"foo.com\"]"
        );
        assert!(wrong("[policy.\"a\"]\nconcurrency = 0\n").starts_with("2:15: concurrency must be at least 1"));
        assert!(wrong("[policy.\"a\"]\nconcurrency = -1\n").starts_with("2:15: concurrency must be a whole number"));
        assert!(wrong("[policy.\"a\"]\nrate = \"often\"\n").starts_with("2:8: 'often' is not a rate"));
        assert!(wrong("[policy.\"a\"]\n").starts_with("1:9: the policy sets nothing"));
        assert!(
            wrong("[policy.\"a\"]\nmax-queue = 1\n[policy.\"A\"]\nmax-queue = 2\n")
                .starts_with("3:9: a has its policy in line 1 already")
        );
        assert!(wrong("[polcy.\"a\"]\n").starts_with("1:2: 'polcy' is not known here"));
        assert!(wrong("policy = 3\n").starts_with("1:10: policy must be a table"));
        assert!(
            wrong("[policy.\"a\"\nmax-queue = 1\n").starts_with("1:12:"),
            "{}",
            wrong("[policy.\"a\"\nmax-queue = 1\n")
        );
        assert!(wrong("[policy.\"\"]\nmax-queue = 1\n").starts_with("1:9: "));
        let (place, what) = parse_bytes(b"# ours\n[policy.\"\xc3\xa9\xff\"]\n").unwrap_err();
        assert_eq!((place, &*what), (Some((2, 11)), "this is not UTF-8: save the file as UTF-8"));
    }
}
