//! Run-once keys: what should happen once, and what became of it.

use std::fmt;

use data_encoding::{BASE64, HEXLOWER, HEXLOWER_PERMISSIVE};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::name::{Domain, Key, Ticket, Token};

/// Which command a key was used for: the SHA-256 (FIPS 180-4) of its arguments, each preceded by its length in bytes as a
/// 64-bit big-endian number. On the wire 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// That of these parts, in this order.
    pub fn of<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Fingerprint {
        Fingerprint(digest(parts))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl From<Fingerprint> for String {
    fn from(fingerprint: Fingerprint) -> String {
        fingerprint.to_string()
    }
}

impl TryFrom<String> for Fingerprint {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Fingerprint, &'static str> {
        let bytes = HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Fingerprint).ok_or("a fingerprint has 64 hexadecimal digits")
    }
}

/// The id under which a key is recorded: the SHA-256 of the user's number in decimal digits, the domain in its normal form
/// and the key, each preceded by its length in bytes as a 64-bit big-endian number, so that no two of them meet. In
/// hexadecimal digits.
pub fn key_record_id(uid: u32, domain: &Domain, key: &Key) -> String {
    let uid = uid.to_string();
    HEXLOWER.encode(&digest([uid.as_bytes(), domain.as_str().as_bytes(), key.as_str().as_bytes()]))
}

fn digest<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

/// The field `key` of a `sequence`: what is asked for is to be done once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyWish {
    /// The key, as typed.
    pub name: String,
    /// Which command it is for; without it that of no arguments at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<Fingerprint>,
    /// How many milliseconds the outcome is remembered; without it
    /// [`KEY_TTL_DEFAULT`](super::limits::KEY_TTL_DEFAULT).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
    /// Whether a failure is remembered, too, and does not free the key.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub keep_failures: bool,
    /// Whether to run again where nobody knows how the last run ended.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub retry_unknown: bool,
    /// Whether the client will send what the command writes, by `output`, and wants it back if it was recorded.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub replay: bool,
    /// The ticket that a lost connection waited for by `following`, so that its outcome counts even if it freed the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follows: Option<u64>,
}

/// Body of `following`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Following {
    /// The line of the key.
    pub domain: Domain,
    /// From the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// The key.
    pub key: Key,
    /// The request that has it, and whose outcome is waited for.
    pub ticket: Ticket,
}

/// Body of `key_done`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyDone {
    /// The line of the key.
    pub domain: Domain,
    /// From the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// The key.
    pub key: Key,
    /// How the command ended.
    pub exit_status: i32,
    /// The request that ran it.
    pub ticket: Ticket,
    /// The fencing number it had.
    pub token: Token,
    /// The process that worked.
    pub pid: u32,
    /// When it began, RFC 3339.
    pub started_at: String,
    /// When it ended, RFC 3339.
    pub ended_at: String,
    /// How long ago that was, in milliseconds.
    pub ended_ago_ms: u64,
    /// Whether it ended while this request waited for it.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub followed: bool,
    /// What it wrote, if this request asked for it with `replay` and the one that ran recorded it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<KeyOutput>,
}

/// What a command wrote.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyOutput {
    /// In the order in which it was read.
    pub parts: Vec<OutputPart>,
    /// Whether there was more than [`KEY_OUTPUT_BYTES_MAX`](super::limits::KEY_OUTPUT_BYTES_MAX).
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub truncated: bool,
}

/// Bytes that a command wrote to one of its streams.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputPart {
    /// Which.
    pub stream: Stream,
    /// In base 64 (RFC 4648, with padding).
    pub data: String,
}

impl OutputPart {
    /// These bytes.
    pub fn new(stream: Stream, bytes: &[u8]) -> OutputPart {
        OutputPart { stream, data: BASE64.encode(bytes) }
    }

    /// The bytes; none if they are not what they should be.
    pub fn bytes(&self) -> Option<Vec<u8>> {
        BASE64.decode(self.data.as_bytes()).ok()
    }
}

/// A stream that a command writes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Body of the request `output`: what the command wrote, before its `done`. Not answered unless refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputRequest {
    /// The ticket that has the turn; it must be this connection's, with a key and `replay`.
    pub ticket: u64,
    /// What comes behind all that this connection has sent of it before.
    pub output: KeyOutput,
}

/// Body of the request `key_list`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyList {
    /// Whose; without it the user's own, and for root and the daemon's own user those of all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// One line, as typed; without it all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// One key, as typed; without it all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Repeated in the reply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// How many keys at most; without it [`KEY_LIST_DEFAULT`](super::limits::KEY_LIST_DEFAULT).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys_max: Option<usize>,
}

/// Body of the reply `key_list`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyListReply {
    /// From the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// By user, domain and key.
    pub keys: Vec<KeyStatus>,
    /// How many more there are.
    #[serde(default, skip_serializing_if = "super::is_zero_u64")]
    pub more: u64,
}

/// What is recorded of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyStatus {
    /// The id of the record: see [`key_record_id`].
    pub id: String,
    /// The user whose key it is.
    pub uid: u32,
    /// The line that it is of.
    pub domain: Domain,
    /// The key.
    pub key: Key,
    /// How far it is.
    pub state: KeyStateName,
    /// Which command it is for.
    pub fingerprint: Fingerprint,
    /// The request that used it.
    pub ticket: Ticket,
    /// The process that asked, or works.
    pub pid: u32,
    /// When it was used, RFC 3339.
    pub reserved_at: String,
    /// The fencing number, once its turn has come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Token>,
    /// When its turn came, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    /// When it ended, or when it was last known to run, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<String>,
    /// How long ago that was, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_ago_ms: Option<u64>,
    /// How the command ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_status: Option<i32>,
    /// How many milliseconds it is remembered after its end.
    pub ttl_ms: u64,
    /// When it is as if never used, RFC 3339; known once it has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// How long it is until then, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_ms: Option<u64>,
    /// Whether a failure is remembered, too.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub keep_failures: bool,
    /// Whether what the command writes is recorded.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub records_output: bool,
    /// How many requests wait for its outcome.
    #[serde(default, skip_serializing_if = "super::is_zero_u64")]
    pub followers: u64,
    /// How often it was used for another command.
    #[serde(default, skip_serializing_if = "super::is_zero_u64")]
    pub conflicts: u64,
    /// Those commands, each once, the last
    /// [`KEY_CONFLICTS_KEPT`](super::limits::KEY_CONFLICTS_KEPT).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conflicting: Vec<Fingerprint>,
}

/// How far a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyStateName {
    /// Its request waits for its turn.
    Reserved,
    /// Its request has its turn.
    Running,
    /// The command has ended, and how is recorded.
    Completed,
    /// The turn has ended, and nobody knows how the command did.
    Unknown,
    /// One that this version does not know.
    #[serde(other)]
    Other,
}

/// Body of the request `key_forget`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyForget {
    /// The key, as typed.
    pub key: String,
    /// Whose; without it the user's own, or, for root and the daemon's own user where there is none, another's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// Its line, as typed; without it the key must be in one only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// Repeated in the reply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

/// Body of `key_forgotten`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyForgotten {
    /// From the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// Its line.
    pub domain: Domain,
    /// The key.
    pub key: Key,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_keys_meet_in_one_record() {
        let id = |uid, domain: &str, key: &str| {
            key_record_id(uid, &Domain::parse(domain).unwrap(), &Key::parse(key).unwrap())
        };
        let all = [id(1, "ab", "c"), id(1, "a", "bc"), id(11, "b", "c"), id(1, "1b", "c"), id(1, "abc", "c")];
        for (index, one) in all.iter().enumerate() {
            assert!(!all[..index].contains(one), "{index}");
        }
        assert_eq!(id(1, "AB.", " c "), id(1, "ab", "c"));
    }

    #[test]
    fn a_record_id_is_the_sha_256_of_its_parts_with_their_lengths() {
        // printf '\0\0\0\0\0\0\0\1' ; printf 7 ; ... | sha256sum
        let id = key_record_id(7, &Domain::parse("a").unwrap(), &Key::parse("k").unwrap());
        let bytes = b"\0\0\0\0\0\0\0\x017\0\0\0\0\0\0\0\x01a\0\0\0\0\0\0\0\x01k";
        assert_eq!(id, HEXLOWER.encode(&Sha256::digest(bytes)));
    }

    #[test]
    fn arguments_that_are_cut_otherwise_are_another_command() {
        let of = |parts: &[&[u8]]| Fingerprint::of(parts.iter().copied());
        assert_ne!(of(&[b"a b"]), of(&[b"a", b"b"]));
        assert_ne!(of(&[b"a", b""]), of(&[b"a"]));
        let text = of(&[b"\xff"]).to_string();
        assert_eq!(Fingerprint::try_from(text.to_uppercase()), Ok(of(&[b"\xff"])));
        assert!(Fingerprint::try_from(text[1..].to_owned()).is_err());
    }
}
