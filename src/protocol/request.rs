//! What a client may ask.

use serde::{Deserialize, Serialize};

use super::key::{KeyForget, KeyList, KeyWish, OutputRequest};
use super::values::PolicyValues;

/// One request: a JSON object with an `op`. Unknown fields are ignored; an unknown `op` is answered
/// `unknown_operation`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Request {
    /// Says which protocol the client speaks. Answered `hello`.
    Hello(Hello),
    /// Takes a place in a line. Answered `queued` when it must wait, then `queue_position` if asked for, then
    /// `active`; or an `error`.
    Sequence(Sequence),
    /// Names the process that works under a turn. Not answered unless refused.
    Started(Started),
    /// Says that a turn that was asked for with `confirm` is known of. Answered `confirmed`.
    Confirm(Confirm),
    /// Gives a turn back, or leaves the line. Answered `done`.
    Done(Done),
    /// Takes a waiter out of the line. Answered `cancelled`.
    Cancel(Cancel),
    /// Takes a turn from its holder. Answered `released`.
    Release(Release),
    /// Asks who holds and who waits. Answered `status`.
    Status(Status),
    /// Asks for what happens from now on. Answered `watching`, then `status`, then an `event` for each change.
    Watch(Watch),
    /// Waits until a domain is idle. Answered `idle`.
    Wait(Wait),
    /// Asks about the daemon. Answered `info`.
    Info(Info),
    /// Asks the daemon to leave. Answered `stopping`.
    Stop(Stop),
    /// Asks the daemon to make room for the next one, which takes all turns and places over. Answered `restarting`.
    Restart(Restart),
    /// Asks for turns that have ended. Answered `log`.
    Log(Log),
    /// Sets values for a domain, or for all that a pattern matches. Answered `policy_set`.
    PolicySet(PolicySet),
    /// Forgets what `policy_set` set for a pattern. Answered `policy_unset`.
    PolicyUnset(PolicyUnset),
    /// Asks which policies there are, or where each value of a domain comes from. Answered `policy_show`.
    PolicyShow(PolicyShow),
    /// Lets nobody have a turn in a domain any more. Answered `paused`.
    Pause(Pause),
    /// Ends a `pause`. Answered `resumed`.
    Resume(Resume),
    /// What a command wrote that runs under a key with `replay`. Not answered unless refused.
    Output(OutputRequest),
    /// Asks what is recorded of keys. Answered `key_list`.
    KeyList(KeyList),
    /// Lets a key be as if never used. Answered `key_forgotten`.
    KeyForget(KeyForget),
    /// An operation that this version does not know.
    #[serde(other)]
    Unknown,
}

/// Body of `hello`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`PROTOCOL_VERSION`](super::PROTOCOL_VERSION) of the client.
    pub protocol: u32,
    /// The client's own version, for the log.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// Repeated in the reply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

/// Body of `sequence`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is a field of its own on the wire")]
pub struct Sequence {
    /// The line to stand in, as typed; the daemon brings it to its normal form.
    pub domain: String,
    /// Further lines to stand in: the turn comes in all of them at once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<String>,
    /// The client's name for this request; without it the daemon chooses one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// Whether to send `queue_position` while it waits.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub positions: bool,
    /// Whether to answer `busy` instead of waiting.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub no_wait: bool,
    /// Milliseconds to wait before the answer is `timed_out`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_wait_ms: Option<u64>,
    /// What keeps the turn once it is there.
    #[serde(default, skip_serializing_if = "Binding::is_connection")]
    pub binding: Binding,
    /// Milliseconds after which a turn of binding `lease` ends by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_ms: Option<u64>,
    /// With binding `process`: whether it was named on purpose, by its pid, and is not just the caller's shell; then
    /// a bare `done` of the same user ends the turn from anywhere.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub named_process: bool,
    /// With binding `process` or `lease`: whether the turn ends with this connection, too, until `confirm` has come,
    /// so that no turn is left that nobody knows of.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub confirm: bool,
    /// Whether `started` will come, once what the turn is for runs: it begins only then, where the policy of a domain
    /// counts starts, and so lets none come too near. As if said with `confirm`, where `confirm` says so, too.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub says_started: bool,
    /// Something that only this client knows, at most 255 bytes: what it takes the request up again with. The daemon
    /// keeps its SHA-256 only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// The ticket to take up again after the connection, or the daemon, was lost; needs the `secret` that it was asked
    /// for with. Answered `queued` or `active` as it stands, or with the error that it ended by, or `not_found`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume: Option<u64>,
    /// Refuse, with `already_active`, a turn that this request id has already: for clients that would start
    /// a second command beside the first.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub fresh: bool,
    /// How many of the domain's slots the turn takes; one without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub take: Option<u32>,
    /// Whether its turn goes together with others that are shared, and with no other.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub shared: bool,
    /// Whoever has a higher one is ahead, whenever it came; zero without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i8>,
    /// The group in which it replaces those of this user that wait here with the same one: they are told `superseded`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub supersede: Option<String>,
    /// With `supersede`: whether those of its group that have a turn are told `superseded` as well.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub cancel_running: bool,
    /// The turn that this request is made within, as by a command that runs under it: what that turn has, the request
    /// has at once. If there is no such turn of this user, it is as if this had not been said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<OuterTurn>,
    /// What is asked for is to be done once. Where that was done already, or is to be done by another request, the
    /// answer is `key_done`, or `following` and then `key_done`; or `key_conflict` or `key_unknown`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<KeyWish>,
    /// The process to show in `status`; without it, the process at the other end of the connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// The command to show in `status`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// Descriptors sent along (`SCM_RIGHTS`, `unix(7)`): for binding `connection` at most one, the reading end of a
    /// pipe whose writing end the command inherits; for binding `process` exactly one, a pidfd.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub descriptors: usize,
}

/// A turn that a request is made within.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OuterTurn {
    /// Its ticket.
    pub ticket: u64,
    /// Its fencing number, which proves it.
    pub token: u64,
}

/// What keeps a turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Binding {
    /// The connection that asked; when it ends without `done`, the pipe and the process it named, until those are
    /// gone too.
    #[default]
    Connection,
    /// A process, given by its pidfd: the turn ends with it. The connection keeps only the place in line.
    Process,
    /// Time: the turn ends after `lease_ms`. The connection keeps only the place in line.
    Lease,
}

impl Binding {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
    fn is_connection(&self) -> bool {
        *self == Binding::Connection
    }
}

/// Body of `started`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// The ticket that has the turn; it must be this connection's.
    pub ticket: u64,
    /// The command's process, as the client sees it.
    pub pid: u32,
    /// Descriptors sent along: at most one, the command's pidfd.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub descriptors: usize,
}

/// Body of `confirm`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confirm {
    /// The ticket that has the turn; it must be this connection's.
    pub ticket: u64,
}

/// Body of `done`. It names a request by `ticket`, or by `domain` and `request_id`, or by `domain` alone: then it
/// means the turn in that domain which this connection has, or which is bound to one of `processes`, or which is kept
/// by a lease that one of them took, or whose taker has ended, or by a process that was named on purpose.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// The line, as typed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// The request, by the client's name for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// The request, by its ticket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<u64>,
    /// The command's exit status as `seq run` reports it (design: 128+n for a signal), if there was a command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_status: Option<i32>,
    /// The asking process and those it descends from. Without any a lease is meant whoever took it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub processes: Vec<u32>,
}

/// Body of `cancel`: names a waiter by `ticket`, or by `domain` and `request_id`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancel {
    /// The line, as typed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// The request, by the client's name for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// The request, by its ticket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<u64>,
}

/// Body of `release`: names a holder by `ticket` or by `domain`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// The line, as typed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// Repeated in the reply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// The holder's ticket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<u64>,
}

/// Body of `status`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// One line, as typed; without it all that are in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// Repeated in the reply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// Waiters to list for each domain;
    /// without it [`STATUS_WAITERS_DEFAULT`](super::limits::STATUS_WAITERS_DEFAULT).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiters_max: Option<usize>,
    /// Whether to list idle domains that are still remembered.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub idle: bool,
}

/// Body of `watch`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watch {
    /// One line, as typed; without it all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// Repeated in the `watching` reply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

/// Body of `wait`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wait {
    /// The line, as typed.
    pub domain: String,
    /// Repeated in the reply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// Milliseconds to wait before the answer is `timed_out`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_wait_ms: Option<u64>,
    /// The turn that this is asked within, as by a command that runs under it. If that turn has the line, or any turn
    /// that it is within itself, or somebody there waits for one of these, the answer is `would_deadlock`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<OuterTurn>,
}

/// Body of `info`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Info {
    /// Repeated in the reply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

/// Body of `stop`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    /// Repeated in the reply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

/// Body of `restart`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restart {
    /// Repeated in the reply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

/// Body of `log`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Log {
    /// One line, as typed; without it all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// Repeated in the reply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// Only turns that ended in the last so many milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<u64>,
    /// Only turns that did not end well: with an exit status other than zero, or without `done`.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub failed: bool,
    /// How many turns at most, the newest of them;
    /// without it [`LOG_TURNS_DEFAULT`](super::limits::LOG_TURNS_DEFAULT).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turns_max: Option<usize>,
}

/// Body of `policy_set`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicySet {
    /// A domain, or a glob with `*` and `?`.
    pub pattern: String,
    /// What to set; what is not named here stays as it was set before.
    pub policy: PolicyValues,
    /// Repeated in the reply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

/// Body of `policy_unset`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyUnset {
    /// The very pattern that was set.
    pub pattern: String,
    /// Repeated in the reply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

/// Body of `policy_show`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyShow {
    /// One line, as typed; without it every pattern.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// Repeated in the reply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

/// Body of `pause`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// The line, as typed.
    pub domain: String,
    /// Why, for people. Without it the reason of a domain that is paused already stays; the empty one removes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Repeated in the reply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

/// Body of `resume`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resume {
    /// The line, as typed.
    pub domain: String,
    /// Repeated in the reply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}
