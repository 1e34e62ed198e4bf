//! What can go wrong.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::name::{Domain, Ticket};

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
    /// This connection has as many tickets as it may have, or watches as many domains; or the request brings a descriptor, and the daemon has as many
    /// as it may have.
    TooManyRequests,
    /// The daemon has as many connections as it may have; this one is closed.
    TooManyConnections,
    /// The waiter was cancelled.
    Cancelled,
    /// A newer request has replaced the one that waited; or the one that has its turn is to make way for it.
    Superseded,
    /// The turn was taken away by `release`.
    Released,
    /// The lease is over, the turn has ended.
    Expired,
    /// The same request came again by another connection, which has the place in line now.
    TakenOver,
    /// `fresh`: this request has its turn already.
    AlreadyActive,
    /// Another user's request has this id; or one of the same user has it that is for other domains.
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
    /// As many policies are set as may be.
    TooManyPolicies,
    /// `take` is more than the domain has, or the turn that it is made within.
    TakeTooLarge,
    /// The request would wait for itself, by way of others.
    WouldDeadlock,
    /// The domain alone does not say whose turn is meant: several have one.
    SeveralHolders,
    /// The key was used for another command.
    KeyConflict,
    /// Nobody knows how the last command ended that the key was used for.
    KeyUnknown,
    /// The request that has the key waits, or runs.
    KeyInUse,
    /// A key of that name is there in several domains, or of several users.
    SeveralKeys,
    /// As many keys are remembered as may be.
    TooManyKeys,
    /// What is stored cannot be read; or what happened last cannot be written, and nobody could take it over.
    Storage,
    /// No other daemon could go on with what this one has.
    CannotRestart,
    /// The daemon was told to leave for good while the request waited and its client was on its way back to it.
    Stopped,
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
