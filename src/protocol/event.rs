//! What happens in the lines, as it happens.

use serde::{Deserialize, Serialize};

use super::name::{Domain, RequestId, Ticket, Token};
use super::values::PolicyValues;

/// Body of `watching`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watching {
    /// From the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// From the request, in its normal form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<Domain>,
}

/// Body of `event`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// What happened.
    pub event: EventKind,
    /// When, for people: RFC 3339.
    pub at: String,
    /// The line.
    pub domain: Domain,
    /// Its further lines, if it stands in several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<Domain>,
    /// The request.
    pub request_id: RequestId,
    /// Its ticket.
    pub ticket: Ticket,
    /// The user who asked.
    pub uid: u32,
    /// The process that asked or works.
    pub pid: u32,
    /// The turn's fencing number, once it has a turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Token>,
    /// What it runs, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// How it ended, with `ended` and `left`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// The command's exit status, if its client told it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_status: Option<i32>,
    /// The ticket that replaced it, or that its turn was to make way for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub superseded_by: Option<Ticket>,
    /// How long it waited, with `active`, `ended` and `left`, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waited_ms: Option<u64>,
    /// How long it had the turn, with `ended`, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_ms: Option<u64>,
}

/// What can happen to a ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// It took its place in line.
    Queued,
    /// Its turn came.
    Active,
    /// Its client is gone, what it started runs on, the turn stays taken.
    Orphaned,
    /// Its turn ended.
    Ended,
    /// It left the line without a turn.
    Left,
    /// A kind that this version does not know.
    #[serde(other)]
    Unknown,
}

/// How a ticket ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// By `done`.
    Done,
    /// What kept it is gone: its connection, its process, or what it started.
    Gone,
    /// By `release`.
    Released,
    /// Its lease is over.
    Expired,
    /// By `cancel`, while waiting.
    Cancelled,
    /// By a newer request that superseded it: while it waited, or what ran was stopped, or lost, when it was to make way.
    Superseded,
    /// `max_wait_ms` is over.
    TimedOut,
    /// It would have waited for ever, since a policy was changed.
    Deadlock,
    /// The daemon left.
    Stopped,
    /// An outcome that this version does not know.
    #[serde(other)]
    Unknown,
}

/// Body of `policy_event`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyEvent {
    /// What happened.
    pub event: PolicyEventKind,
    /// When, for people: RFC 3339.
    pub at: String,
    /// The user who did it; with `reloaded` nobody is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// The line, with `paused` and `resumed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<Domain>,
    /// Why, with `paused`, if a reason was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Which domains, with `policy_set` and `policy_unset`, in its normal form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// All that is set for the pattern now, with `policy_set`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<PolicyValues>,
    /// The config file, with `reloaded`, if the daemon looks for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<String>,
    /// What is wrong with it, with `reloaded`, so that what it said before goes on to count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mistake: Option<String>,
}

/// What can happen to a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PolicyEventKind {
    /// Nobody is given a turn in a domain.
    Paused,
    /// Turns are given there again.
    Resumed,
    /// A policy was set.
    PolicySet,
    /// A policy is not set any more.
    PolicyUnset,
    /// The config file was read again.
    Reloaded,
    /// A kind that this version does not know.
    #[serde(other)]
    Unknown,
}

/// Body of `lagged`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lagged {
    /// How many events are missing.
    pub missed: u64,
}
