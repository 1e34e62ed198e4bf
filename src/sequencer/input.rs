//! What can happen to the sequencer: one closed enum.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Time;
use crate::protocol::{Domain, Key, Outcome, RequestId, Ticket};

use super::{Enqueue, FilePolicy, KeyRecord, Pattern, Pause, Policy, Restored, Within};

/// A client's connection, numbered by the daemon, never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ConnectionId(pub u64);

/// Who is at the other end of a connection, as the kernel tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// The user.
    pub uid: u32,
    /// The process.
    pub pid: u32,
    /// Whether it may end other users' requests: the daemon's user or root.
    pub is_operator: bool,
}

/// What a client proves itself with when it comes back: the SHA-256 (FIPS 180-4) of something that only it knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Secret(pub [u8; 32]);

/// Everything that changes the state of the lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A client asks for a turn.
    Sequence(Enqueue),
    /// A client names the process that works under its turn. From the first time on it is this moment that counts as the
    /// turn's start, where a policy counts starts. Refused (`Tell` an error) with `not_found` or
    /// `not_active` unless `ticket` has a turn and is attached to `connection`; silent otherwise. A ticket that is
    /// attached to another connection, or to none, is `not_found`.
    Started {
        /// Who says it.
        connection: ConnectionId,
        /// The turn.
        ticket: Ticket,
        /// The process to show from now on.
        pid: u32,
        /// Whether the daemon watches it, and `ProcessGone` will come.
        watched: bool,
    },
    /// A client knows of its turn: from now on the turn stands without the connection. Counts as a start like `Started`.
    /// Answered `confirmed`, however
    /// often; refused as `Started` is.
    Confirm {
        /// Who says it.
        connection: ConnectionId,
        /// The turn.
        ticket: Ticket,
    },
    /// Nobody could be told of this turn before: it begins only now, and so does its lease.
    BeginsNow {
        /// The turn.
        ticket: Ticket,
    },
    /// A client gives back a turn, or a place in line. Always answered `done`; or `forbidden` when the request named
    /// by ticket or id belongs to another user (operators excepted), or when `which` is a bare domain whose turn
    /// is not this caller's to give back.
    Done {
        /// Who says it.
        connection: ConnectionId,
        /// Who is there.
        peer: Peer,
        /// What is done. `Ticket` and `Request` may also name a waiter, which then leaves the line (`Left`, `Done`).
        which: Which,
        /// The command's exit status, if there was one.
        exit_status: Option<i32>,
        /// The asking process and its ancestors.
        processes: Vec<u32>,
        /// Repeated in the reply.
        request_id: Option<String>,
    },
    /// A client takes a waiter out of the line. Answered `cancelled`; or `not_found`, `not_waiting`, `forbidden`.
    /// The waiter's connection is told the error `cancelled`, before the answer.
    Cancel {
        /// Who says it.
        connection: ConnectionId,
        /// Who is there.
        peer: Peer,
        /// The waiter: by ticket or request, never by domain alone.
        which: Which,
    },
    /// A client takes a turn from its holder. Answered `released`; or `not_found`, `not_active`, `forbidden`.
    /// The holder's connection is told the error `released`, before the answer.
    Release {
        /// Who says it.
        connection: ConnectionId,
        /// Who is there.
        peer: Peer,
        /// The holder: by ticket or domain.
        which: Which,
        /// Repeated in the reply.
        request_id: Option<String>,
    },
    /// A client waits until a domain has no holder and no waiter. Answered `idle` then, or `timed_out`; or
    /// `too_many_requests`, for it counts like a ticket of its connection.
    Wait {
        /// Who asks.
        connection: ConnectionId,
        /// The peer of that connection.
        peer: Peer,
        /// The line.
        domain: Domain,
        /// How long at most.
        max_wait: Option<Duration>,
        /// The turn that it is asked within, which goes on until this is answered. Refused with `would_deadlock` if it
        /// would wait for that turn, or for any around it, by way of others too.
        within: Option<Within>,
        /// Repeated in the reply.
        request_id: Option<String>,
    },
    /// The daemon itself did not run for so long, stopped or suspended: nobody could come back meanwhile, so whoever is
    /// away has that much more time. Taken before any deadline.
    Overslept {
        /// For how long.
        by: Duration,
    },
    /// The process that works under an orphaned turn was found, which its client had not named: it is shown from now on.
    /// Nothing happens where the turn is no orphan any more; see [`Sequencer::is_orphan`](super::Sequencer::is_orphan).
    Found {
        /// The turn.
        ticket: Ticket,
        /// The process.
        pid: u32,
    },
    /// A connection is gone: its waiters leave their lines, its turns stay with what else keeps them.
    Disconnected {
        /// Which.
        connection: ConnectionId,
    },
    /// The last writing end of a ticket's pipe is closed. Comes once for each pipe that is watched for it.
    PipeClosed {
        /// Whose.
        ticket: Ticket,
    },
    /// One process that was watched for a ticket has ended.
    ProcessGone {
        /// Whose.
        ticket: Ticket,
    },
    /// What an earlier daemon knew of a ticket. Comes before any client, in the order of the tickets; the numbers of
    /// none are given out again.
    ///
    /// - A holder has its turn still, while its lease, a pipe or a process keeps it. It hangs on no connection.
    /// - A waiter has its place still, but it is *away*: it is given no turn before its client comes back, and as long as
    ///   it is the head of its line nobody else is. Its place is given up (`Left`, `Gone`) when its processes are gone,
    ///   or when [`AWAY_GRACE`](crate::protocol::limits::AWAY_GRACE) is over. Each client that comes back gives all
    ///   others that grace again, up to [`AWAY_MAX`](crate::protocol::limits::AWAY_MAX) after the restore.
    /// - What nothing keeps has ended (`Ended` or `Left`, `Gone`). That is the only thing that is recorded.
    ///
    /// Silently not taken is what cannot be: a ticket or a request id that lives, a waiter that is not behind those that
    /// wait already. A holder is taken in any case, for the policy may have been another when its turn came; so of those
    /// who would wait for each other for ever now, one ends as after `SetPolicy`.
    Restore(Restored),
    /// A ticket ended under an earlier daemon, and its client may not know. Counts like an end that happened now.
    PastEnd {
        /// The ticket.
        ticket: Ticket,
        /// The user who asked.
        uid: u32,
        /// Whether it had its turn.
        had_turn: bool,
        /// How it ended.
        outcome: Outcome,
    },
    /// How long earlier turns of a domain took that ended by `done`, oldest first: replaces what is known of that.
    PastRuns {
        /// The line.
        domain: Domain,
        /// How long each took.
        runs: Vec<Duration>,
    },
    /// When turns of a domain began under earlier daemons, those that have not ended included, and when the last one
    /// ended: replaces what is known of that. Where a policy lets the domain rest, it is what [`Effect::Past`](super::Effect::Past) said of the domain; the
    /// last [`RATE_STARTS_MAX`](crate::protocol::limits::RATE_STARTS_MAX) starts are enough. A moment that has not come
    /// yet counts as now, and one before the machine was started as its start, so that a jump of the wall clock can only
    /// delay. Comes after all policies and before tickets. Of a domain that nobody remembers, after its `PastRuns`, it is
    /// passed over unless it makes the domain rest.
    PastStarts {
        /// The line.
        domain: Domain,
        /// When each began.
        starts: Vec<Time>,
        /// When the last one ended.
        last_end: Option<Time>,
    },
    /// Somebody sets values for a pattern; what was set for it before and is not named now stays. Answered `policy_set`;
    /// or `forbidden` unless it is an operator, or `too_many_policies`. Nothing changes for those who have a turn;
    /// whoever waits is looked at anew at once, and if some would now wait for each other for ever, the newest of them
    /// that is within a turn ends (`Left`, `Deadlock`) and is told `would_deadlock`.
    SetPolicy {
        /// Who says it.
        connection: ConnectionId,
        /// Who is there.
        peer: Peer,
        /// Which domains.
        pattern: Pattern,
        /// What; it has been [checked](Policy::check).
        policy: Policy,
        /// Repeated in the reply.
        request_id: Option<String>,
    },
    /// Somebody forgets what was set for this very pattern by `SetPolicy`. Answered `policy_unset`, also when there is
    /// nothing; or `forbidden`. Changes what `SetPolicy` changes.
    UnsetPolicy {
        /// Who says it.
        connection: ConnectionId,
        /// Who is there.
        peer: Peer,
        /// The pattern.
        pattern: Pattern,
        /// Repeated in the reply.
        request_id: Option<String>,
    },
    /// What the config file says: replaces all that it said before. The values have been [checked](Policy::check).
    /// Changes what `SetPolicy` changes. Nothing is recorded, for the file itself is.
    FilePolicies(Vec<FilePolicy>),
    /// Somebody pauses a domain: nobody is given a turn there until it is resumed. Answered `paused`; or `forbidden`
    /// unless it is an operator, or `too_many_domains`. A domain that is paused already gets the new reason, if there is
    /// one; the empty one removes it.
    Pause {
        /// Who says it.
        connection: ConnectionId,
        /// Who is there.
        peer: Peer,
        /// The line.
        domain: Domain,
        /// For people.
        reason: Option<Arc<str>>,
        /// Repeated in the reply.
        request_id: Option<String>,
    },
    /// Somebody ends a pause. Answered `resumed`, also when there is none; or `forbidden`.
    Resume {
        /// Who says it.
        connection: ConnectionId,
        /// Who is there.
        peer: Peer,
        /// The line.
        domain: Domain,
        /// Repeated in the reply.
        request_id: Option<String>,
    },
    /// What an earlier daemon was told by `SetPolicy`, as its last record of that pattern has it. Comes before tickets.
    PastPolicy {
        /// Which domains.
        pattern: Pattern,
        /// What.
        policy: Policy,
    },
    /// A domain that was paused under an earlier daemon, and is still. Comes before tickets.
    PastPause {
        /// The line.
        domain: Domain,
        /// By whom and why.
        pause: Pause,
    },
    /// Somebody lets a key be as if never used. Answered `key_forgotten`; or `not_found`, `key_in_use`, or
    /// `several_keys` where keys of several domains, or users, are named so.
    ForgetKey {
        /// Who says it.
        connection: ConnectionId,
        /// Who is there.
        peer: Peer,
        /// Whose key: without it the own, or for an operator who has none any other's. Another's is `forbidden` to all
        /// others.
        uid: Option<u32>,
        /// The line; without it the key must be in one only.
        domain: Option<Domain>,
        /// The key.
        key: Key,
        /// Repeated in the reply.
        request_id: Option<String>,
    },
    /// What an earlier daemon knew of a key, its moments by the clock of this run of the machine. Comes after tickets: a key
    /// whose ticket is not there is free if it had no turn, and otherwise nobody knows what became of it. Silently not
    /// taken is what cannot be: a key that is known, or one whose ticket has another, or has not ended though it says so.
    PastKey(Box<KeyRecord>),
    /// Somebody has left word how the command of a ticket ended, whose key says that nobody knows; or will say so soon,
    /// when the ticket ends.
    KeyLearned {
        /// The ticket.
        ticket: Ticket,
        /// The status.
        exit_status: i32,
    },
    /// The daemon leaves.
    ///
    /// With `keep_places` for the next one: every client that has a ticket or a `Wait` is told `restarting`, and
    /// then nothing changes any more, whatever comes. Nothing is recorded, no deadline is heard of, and every request is
    /// refused with `restarting`.
    ///
    /// Without: every waiter and every `Wait` is told `leaving`, and so is each holder that is attached;
    /// turns kept by a connection alone end as `stopped`. From now on every `Sequence` and `Wait` is refused
    /// with `leaving`. Waiters leave their lines (`Left`, `Stopped`), so that nobody is given a turn that ends here.
    Leave {
        /// Whether the next daemon takes over whoever holds or waits.
        keep_places: bool,
    },
    /// Time has passed.
    Tick,
}

/// Which request is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// The one with this ticket.
    Ticket(Ticket),
    /// The one with this ticket, if its domain and id are these.
    TicketOf(Ticket, Option<Domain>, Option<RequestId>),
    /// The one with this id in this domain.
    Request(Domain, RequestId),
    /// The holder in this domain.
    Domain(Domain),
}
