//! What the daemon may answer.

use serde::{Deserialize, Serialize};

use super::error::ErrorReply;
use super::event::{Event, Lagged, PolicyEvent, Watching};
use super::info::InfoReply;
use super::key::{Following, KeyDone, KeyForgotten, KeyListReply};
use super::log::LogReply;
use super::name::{Domain, Key, RequestId, Ticket, Token};
use super::policy::{Paused, PolicySetReply, PolicyShowReply, PolicyUnsetReply, Resumed};
use super::status::StatusReply;

/// One reply: a JSON object with a `type`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Reply {
    /// Who the daemon is.
    Hello(HelloReply),
    /// The request has a place in line and must wait.
    Queued(Queued),
    /// The place in line has changed.
    QueuePosition(QueuePosition),
    /// The turn is there.
    Active(Active),
    /// A `confirm` was heard: the turn stands without this connection.
    Confirmed(Confirmed),
    /// A `done` was heard.
    Done(DoneReply),
    /// A `cancel` was obeyed.
    Cancelled(Cancelled),
    /// A `release` was obeyed.
    Released(Released),
    /// Who holds and who waits.
    Status(StatusReply),
    /// Events follow.
    Watching(Watching),
    /// Something happened in a line.
    Event(Event),
    /// Something happened to a policy.
    PolicyEvent(PolicyEvent),
    /// This watcher read too slowly: events are missing, a fresh `status` follows.
    Lagged(Lagged),
    /// The domain is idle.
    Idle(Idle),
    /// About the daemon.
    Info(InfoReply),
    /// The daemon will leave.
    Stopping(Stopping),
    /// The daemon will leave, and the next one takes all over.
    Restarting(Restarting),
    /// Turns that have ended.
    Log(LogReply),
    /// A policy was set.
    PolicySet(PolicySetReply),
    /// A policy is not set any more.
    PolicyUnset(PolicyUnsetReply),
    /// Policies, and where they come from.
    PolicyShow(PolicyShowReply),
    /// A domain is paused.
    Paused(Paused),
    /// A domain is not paused any more.
    Resumed(Resumed),
    /// Another request has the key, and its outcome is waited for.
    Following(Following),
    /// What the key is for is done.
    KeyDone(KeyDone),
    /// What is recorded of keys.
    KeyList(KeyListReply),
    /// A key is as if never used.
    KeyForgotten(KeyForgotten),
    /// The storage cannot be written, so that answers take their time.
    Stalled(Stalled),
    /// The request was refused, or has ended without a turn, or the turn was taken away.
    Error(ErrorReply),
    /// A reply that this version does not know.
    #[serde(other)]
    Unknown,
}

/// Body of `hello`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HelloReply {
    /// [`PROTOCOL_VERSION`](super::PROTOCOL_VERSION) of the daemon.
    pub protocol: u32,
    /// The daemon's own version.
    pub version: String,
    /// The daemon's process.
    pub pid: u32,
    /// From the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

/// Body of `queued`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queued {
    /// The line.
    pub domain: Domain,
    /// The request.
    pub request_id: RequestId,
    /// Its ticket.
    pub ticket: Ticket,
    /// Place among those who wait, from 1.
    pub position: u64,
    /// How many are ahead: those who wait ahead of it and those who have a turn.
    pub total_ahead: u64,
}

/// Body of `queue_position`: at most once in [`POSITION_INTERVAL`](super::limits::POSITION_INTERVAL) for each waiter,
/// and only on change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueuePosition {
    /// The line.
    pub domain: Domain,
    /// The request.
    pub request_id: RequestId,
    /// Its ticket.
    pub ticket: Ticket,
    /// Place among those who wait, from 1.
    pub position: u64,
    /// How many are ahead: those who wait ahead of it and those who have a turn.
    pub total_ahead: u64,
}

/// Body of `active`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Active {
    /// The line.
    pub domain: Domain,
    /// The request.
    pub request_id: RequestId,
    /// Its ticket.
    pub ticket: Ticket,
    /// The fencing number of this turn.
    pub token: Token,
    /// Whether the request had the turn already, and this connection has taken it up again.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub resumed: bool,
    /// Milliseconds that the turn may take by the domain's policy, from when it came: its client sees to that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_run_ms: Option<u64>,
    /// The key that it was asked for with: a daemon that knows of no keys does not say so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Key>,
}

/// Body of `confirmed`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confirmed {
    /// The line.
    pub domain: Domain,
    /// The request.
    pub request_id: RequestId,
    /// Its ticket.
    pub ticket: Ticket,
}

/// Body of `done`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoneReply {
    /// From the request, in its normal form, or of the request that ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<Domain>,
    /// From the request, or of the request that ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// From the request, or of the request that ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<Ticket>,
    /// Whether a turn ended, or a place in line was given up, by this very request.
    pub released: bool,
}

/// Body of `cancelled`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancelled {
    /// The line.
    pub domain: Domain,
    /// The request that left it.
    pub request_id: RequestId,
    /// Its ticket.
    pub ticket: Ticket,
}

/// Body of `released`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Released {
    /// The line.
    pub domain: Domain,
    /// The request that had the turn.
    pub holder: RequestId,
    /// Its ticket.
    pub ticket: Ticket,
    /// From the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

/// Body of `idle`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Idle {
    /// The line.
    pub domain: Domain,
    /// From the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

/// Body of `stopping`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stopping {
    /// The daemon's process.
    pub pid: u32,
    /// From the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

/// Body of `restarting`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restarting {
    /// The daemon's process.
    pub pid: u32,
    /// From the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

/// Body of `stalled`: nothing is told or given before there is room on the disk again, or before the next daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stalled {
    /// What is wrong with which file, and the way out.
    pub message: String,
    /// For who asked for `done`: whether that was done, and counts as soon as it is written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counts: Option<bool>,
}
