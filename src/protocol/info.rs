//! About the daemon.

use serde::{Deserialize, Serialize};

/// Instead of a path: everything is kept in memory.
pub const IN_MEMORY: &str = "in memory";

/// Body of `info`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InfoReply {
    /// From the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// The daemon's own version.
    pub version: String,
    /// [`PROTOCOL_VERSION`](super::PROTOCOL_VERSION) of the daemon.
    pub protocol: u32,
    /// The daemon's process.
    pub pid: u32,
    /// The daemon's user.
    pub uid: u32,
    /// Where it listens.
    pub socket: String,
    /// Where it logs; absent when it logs to its standard error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
    /// Where it keeps lines and history: the path of its database, or [`IN_MEMORY`].
    #[serde(default)]
    pub storage: String,
    /// Milliseconds since it started.
    pub uptime_ms: u64,
    /// When it started, for people: RFC 3339.
    pub since: String,
    /// What it has now.
    pub counts: Counts,
    /// What it may have.
    pub limits: Limits,
}

/// What the daemon has now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Open connections, this one counted.
    pub connections: u64,
    /// Domains in use.
    pub domains: u64,
    /// Those who have a turn.
    pub holders: u64,
    /// Those who wait.
    pub waiters: u64,
    /// Turns given since it started.
    pub turns: u64,
}

/// What the daemon may have; see [`limits`](super::limits).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes of a request's line.
    pub line_bytes: u64,
    /// Open connections, the limit on open files considered.
    pub connections: u64,
    /// Tickets of one connection.
    pub tickets_per_connection: u64,
    /// Waiters in one domain.
    pub waiters_per_domain: u64,
    /// Domains in use.
    pub domains: u64,
}
