//! What the daemon may answer.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::name::{Domain, RequestId, Ticket, Token};

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
    #[serde(default, skip_serializing_if = "is_false")]
    pub resumed: bool,
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

/// Body of `status`: domains in alphabetical order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusReply {
    /// From the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// The domains asked for that are in use.
    pub domains: Vec<DomainStatus>,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DomainStatus {
    /// Its name.
    pub domain: Domain,
    /// Those who have a turn, oldest first.
    pub holders: Vec<HolderStatus>,
    /// Those who wait, in order, as many as were asked for.
    pub waiters: Vec<WaiterStatus>,
    /// How many wait in all.
    pub waiting: u64,
    /// The median of the last runs, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usual_run_ms: Option<u64>,
}

/// One turn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HolderStatus {
    /// Its request.
    pub request_id: RequestId,
    /// Its ticket.
    pub ticket: Ticket,
    /// Its fencing number.
    pub token: Token,
    /// The user who asked.
    pub uid: u32,
    /// The process that works under it.
    pub pid: u32,
    /// What it runs, for people; arguments that are not UTF-8 are shown with replacement characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// What keeps it.
    pub state: HolderState,
    /// When the turn came, for people: RFC 3339, by the daemon's wall clock and time zone.
    pub since: String,
    /// How long it has had the turn, in milliseconds.
    pub held_ms: u64,
    /// How long it had waited, in milliseconds.
    pub waited_ms: u64,
    /// How long it may still take by past runs, in milliseconds; zero when it takes longer than usual.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_ms: Option<u64>,
}

/// What keeps a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HolderState {
    /// The client that asked is there.
    Attached,
    /// The client that asked is gone, what it started runs on.
    Orphaned,
    /// It is bound to a process that was named by its pid.
    Process,
    /// It ends by itself at a set time.
    Lease,
}

/// One place in line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaiterStatus {
    /// Its request.
    pub request_id: RequestId,
    /// Its ticket.
    pub ticket: Ticket,
    /// The user who asked.
    pub uid: u32,
    /// The process that asked.
    pub pid: u32,
    /// What it will run, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// Place among those who wait, from 1.
    pub position: u64,
    /// When it took its place, for people: RFC 3339.
    pub since: String,
    /// How long it has waited, in milliseconds.
    pub waited_ms: u64,
    /// About how long until its turn by past runs, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_ms: Option<u64>,
}

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
    /// `max_wait_ms` is over.
    TimedOut,
    /// The daemon left.
    Stopped,
    /// An outcome that this version does not know.
    #[serde(other)]
    Unknown,
}

/// Body of `lagged`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lagged {
    /// How many events are missing.
    pub missed: u64,
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
    /// Where it keeps lines and history: the path of its database, or `in memory`.
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
}

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
}

/// Body of `error`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorReply {
    /// What went wrong, for programs.
    pub code: ErrorCode,
    /// What went wrong and the way out, for people: lower case, no full stop.
    pub message: String,
    /// The line, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<Domain>,
    /// The request, as the client named it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// Its ticket, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<Ticket>,
}

/// What can go wrong, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The line is not a JSON object of the documented shape.
    BadRequest,
    /// The domain or request id is not a name.
    BadName,
    /// The line has more bytes than it may have; it was skipped.
    LineTooLong,
    /// No such `op`.
    UnknownOperation,
    /// The daemon does not speak the client's protocol.
    UnsupportedProtocol,
    /// A descriptor that the request names did not come with it, or is not of the kind it should be.
    BadDescriptor,
    /// `no_wait`: somebody else has the turn.
    Busy,
    /// `max_wait_ms` is over.
    TimedOut,
    /// The line has as many waiters as it may have.
    QueueFull,
    /// As many domains are in use as may be.
    TooManyDomains,
    /// This connection has as many tickets as it may have.
    TooManyRequests,
    /// The daemon has as many connections as it may have; this one is closed.
    TooManyConnections,
    /// The waiter was cancelled.
    Cancelled,
    /// The turn was taken away by `release`.
    Released,
    /// The lease is over, the turn has ended.
    Expired,
    /// The same request came again by another connection, which has the place in line now.
    TakenOver,
    /// `fresh`: this request has its turn already.
    AlreadyActive,
    /// Another user's request has this id.
    RequestIdTaken,
    /// No such ticket or request.
    NotFound,
    /// It has a turn: `release` is what ends that.
    NotWaiting,
    /// It does not have the turn.
    NotActive,
    /// It belongs to somebody else.
    Forbidden,
    /// What keeps the request ended while it waited.
    Gone,
    /// The daemon is leaving.
    Leaving,
    /// The daemon makes room for the next one, where this request has its place or turn still: connect again, and
    /// `resume` it.
    Restarting,
    /// A code that this version does not know.
    #[serde(other)]
    Unknown,
}

impl fmt::Display for ErrorCode {
    /// The code as it is on the wire.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_false(flag: &bool) -> bool {
    !flag
}
