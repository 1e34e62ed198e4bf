//! Turns that have ended.

use serde::{Deserialize, Serialize};

use super::event::Outcome;
use super::name::{Domain, RequestId, Ticket, Token};

/// Body of `log`: newest last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogReply {
    /// From the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// The turns.
    pub turns: Vec<EndedTurn>,
}

/// A turn that has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedTurn {
    /// Its line.
    pub domain: Domain,
    /// Its further lines, if it had the turn in several domains.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<Domain>,
    /// Those of its lines that it had by a turn that it was made within.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub had_already: Vec<Domain>,
    /// Its request.
    pub request_id: RequestId,
    /// Its ticket.
    pub ticket: Ticket,
    /// Its fencing number.
    pub token: Token,
    /// The user who asked.
    pub uid: u32,
    /// The process that worked under it.
    pub pid: u32,
    /// What it ran, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// When it took its place in line, RFC 3339, by the wall clock.
    pub queued_at: String,
    /// When its turn came.
    pub started_at: String,
    /// When its turn ended.
    pub ended_at: String,
    /// How long it waited, in milliseconds, by a clock that does not jump.
    pub wait_ms: u64,
    /// How long it had the turn, in milliseconds, by a clock that does not jump.
    pub run_ms: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// The command's exit status, if its client told it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_status: Option<i32>,
    /// The ticket that it was to make way for; nothing in rows of an earlier version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub superseded_by: Option<Ticket>,
}
