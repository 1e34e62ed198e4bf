//! What the sequencer refuses, and the only place that puts it into words.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{show_duration, show_wait};
use crate::protocol::{Domain, ErrorCode, ErrorReply, Reply, RequestId, Ticket};

use super::cycle::{Closing, Goal, Hold, Link};
use super::key_refusal::{KeyRefusal, Shown};
use super::{ConnectionId, Effect, PolicyValue, Successor, Which};

/// A refusal, or the end of a ticket that its client did not ask for, with what there is to say about it.
#[derive(Debug)]
pub(super) enum Refusal {
    Busy { domain: Domain, holder: Ticket, pid: u32, held: Duration },
    Paused { domain: Domain, reason: Option<Arc<str>> },
    Resting { domain: Domain, why: PolicyValue, left: Duration },
    Unbegun { domain: Domain, ticket: Ticket, pid: u32 },
    TakeTooLarge { domain: Domain, take: u32, slots: u32 },
    TimedOut { domains: Vec<Domain>, waited: Duration, longest: Option<Duration>, obstacle: Option<Box<Refusal>> },
    StillInUse { domain: Domain, waited: Duration },
    QueueFull { domain: Domain, waiters: usize },
    TooManyDomains { domains: usize },
    TooManyPolicies { policies: usize },
    TooManyRequests { tickets: usize },
    NotOperator,
    SeveralHolders { domain: Domain, holders: usize },
    Cancelled { ticket: Ticket },
    Superseded { ticket: Ticket, by: Successor },
    TurnSuperseded { ticket: Ticket, by: Successor },
    Released { ticket: Ticket },
    Expired { ticket: Ticket, held: Duration },
    TakenOver { request_id: RequestId },
    AlreadyActive { request_id: RequestId, ticket: Ticket, pid: u32 },
    RequestIdTaken { domain: Domain, request_id: RequestId },
    SharedOutside { domain: Domain, host: Ticket },
    TakesMoreThanOuter { domain: Domain, take: u32, host: Ticket, has: u32 },
    WouldDeadlock { links: Vec<Link>, closing: Closing, would_wait_for: Goal },
    WaitsForOuter { domain: Domain, outer: Ticket, pid: u32 },
    OtherLines { request_id: RequestId, ticket: Ticket },
    OtherKey { request_id: RequestId, ticket: Ticket },
    NotFound { which: Which },
    NotAttached { ticket: Ticket },
    NotWaiting { ticket: Ticket },
    NotActive { ticket: Ticket },
    OfAnotherUser { ticket: Ticket, uid: u32 },
    NotYourTurn { domain: Domain, holder: Ticket, pid: u32 },
    Gone { ticket: Ticket },
    Awaited { domain: Domain, next: Ticket, pid: u32 },
    Ahead { domain: Domain, next: Ticket, pid: u32 },
    WrongSecret { ticket: Ticket },
    EndedWhileAway { ticket: Ticket, code: ErrorCode },
    Key(KeyRefusal),
    Leaving,
    Restarting,
}

/// The request that a reply is about, as far as it is known.
#[derive(Clone, Debug, Default)]
pub(super) struct About {
    pub(super) domain: Option<Domain>,
    pub(super) request_id: Option<String>,
    pub(super) ticket: Option<Ticket>,
}

impl About {
    /// What a client named by `which`, and called `request_id`.
    pub(super) fn which(which: &Which, request_id: Option<String>) -> About {
        let (domain, id, ticket) = match which {
            Which::Ticket(ticket) => (None, None, Some(*ticket)),
            Which::TicketOf(ticket, domain, id) => (domain.clone(), id.as_ref(), Some(*ticket)),
            Which::Request(domain, id) => (Some(domain.clone()), Some(id), None),
            Which::Domain(domain) => (Some(domain.clone()), None, None),
        };
        About { domain, request_id: request_id.or_else(|| id.map(RequestId::to_string)), ticket }
    }
}

impl Refusal {
    /// Tells `connection`.
    pub(super) fn tell(&self, connection: ConnectionId, about: About) -> Effect {
        let About { domain, request_id, ticket } = about;
        let reply = ErrorReply { code: self.code(), message: self.to_string(), domain, request_id, ticket };
        Effect::Tell { connection, reply: Reply::Error(reply) }
    }

    fn code(&self) -> ErrorCode {
        match self {
            Refusal::Busy { .. }
            | Refusal::Awaited { .. }
            | Refusal::Ahead { .. }
            | Refusal::Resting { .. }
            | Refusal::Unbegun { .. }
            | Refusal::Paused { .. } => ErrorCode::Busy,
            Refusal::Superseded { .. } | Refusal::TurnSuperseded { .. } => ErrorCode::Superseded,
            Refusal::TakeTooLarge { .. } | Refusal::TakesMoreThanOuter { .. } => ErrorCode::TakeTooLarge,
            Refusal::SharedOutside { .. } | Refusal::WouldDeadlock { .. } | Refusal::WaitsForOuter { .. } => {
                ErrorCode::WouldDeadlock
            }
            Refusal::TooManyPolicies { .. } => ErrorCode::TooManyPolicies,
            Refusal::SeveralHolders { .. } => ErrorCode::SeveralHolders,
            Refusal::TimedOut { .. } | Refusal::StillInUse { .. } => ErrorCode::TimedOut,
            Refusal::QueueFull { .. } => ErrorCode::QueueFull,
            Refusal::TooManyDomains { .. } => ErrorCode::TooManyDomains,
            Refusal::TooManyRequests { .. } => ErrorCode::TooManyRequests,
            Refusal::Cancelled { .. } => ErrorCode::Cancelled,
            Refusal::Released { .. } => ErrorCode::Released,
            Refusal::Expired { .. } => ErrorCode::Expired,
            Refusal::TakenOver { .. } => ErrorCode::TakenOver,
            Refusal::AlreadyActive { .. } => ErrorCode::AlreadyActive,
            Refusal::RequestIdTaken { .. } | Refusal::OtherLines { .. } | Refusal::OtherKey { .. } => {
                ErrorCode::RequestIdTaken
            }
            Refusal::NotFound { .. } | Refusal::NotAttached { .. } => ErrorCode::NotFound,
            Refusal::NotWaiting { .. } => ErrorCode::NotWaiting,
            Refusal::NotActive { .. } => ErrorCode::NotActive,
            Refusal::OfAnotherUser { .. }
            | Refusal::NotYourTurn { .. }
            | Refusal::WrongSecret { .. }
            | Refusal::NotOperator => ErrorCode::Forbidden,
            Refusal::EndedWhileAway { code, .. } => *code,
            Refusal::Key(refusal) => refusal.code(),
            Refusal::Gone { .. } => ErrorCode::Gone,
            Refusal::Leaving => ErrorCode::Leaving,
            Refusal::Restarting => ErrorCode::Restarting,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Busy { domain, holder, pid, held } => {
                write!(f, "{domain} is busy: ticket {holder} (pid {pid}) has had the turn for {}", show_duration(*held))
            }
            Refusal::TimedOut { domains, waited, longest, obstacle } => {
                timed_out(domains, &show_wait(*waited, *longest), obstacle.as_deref(), f)
            }
            Refusal::StillInUse { domain, waited } => {
                let waited = show_duration(*waited);
                write!(f, "{domain} is still in use after {waited}: allow a longer wait, or see `seq status`")
            }
            Refusal::Paused { domain, reason } => paused(domain, reason.as_deref(), f),
            Refusal::Resting { domain, why, left } => resting(domain, *why, *left, f),
            Refusal::Unbegun { domain, ticket, pid } => unbegun(domain, (*ticket, *pid), f),
            Refusal::TakeTooLarge { domain, take, slots } => {
                let slot = if *slots == 1 { "slot" } else { "slots" };
                write!(
                    f,
                    "{domain} has {slots} {slot}, so nobody can take {take}: take fewer, or raise its concurrency"
                )
            }
            Refusal::TooManyPolicies { policies } => {
                write!(f, "{policies} policies are set already: unset one, or use a pattern for many domains")
            }
            Refusal::NotOperator => {
                f.write_str("policies and pauses are for root and the daemon's own user: ask an administrator")
            }
            Refusal::SeveralHolders { domain, holders } => {
                write!(f, "{holders} have a turn in {domain}: name one by its ticket, see `seq status`")
            }
            Refusal::QueueFull { domain, waiters } => queue_full(domain, *waiters, f),
            Refusal::TooManyDomains { domains } => {
                write!(f, "{domains} domains are in use already: try again when one is idle, or use one of them")
            }
            Refusal::TooManyRequests { tickets } => {
                write!(f, "this connection has {tickets} requests already: end one of them, or open another connection")
            }
            Refusal::Cancelled { ticket } => {
                write!(f, "ticket {ticket} was cancelled while it waited: ask again for a new place")
            }
            Refusal::Superseded { ticket, by } => superseded(*ticket, *by, f),
            Refusal::TurnSuperseded { ticket, by } => turn_superseded(*ticket, *by, f),
            Refusal::Released { ticket } => {
                write!(f, "the turn of ticket {ticket} was taken away by `seq release`: stop working under it")
            }
            Refusal::Expired { ticket, held } => {
                write!(f, "the lease of ticket {ticket} is over after {}: stop working under it", show_duration(*held))
            }
            Refusal::TakenOver { request_id } => {
                write!(f, "request {request_id} came again by another connection, which has its place now")
            }
            Refusal::AlreadyActive { request_id, ticket, pid } => already_active(request_id, *ticket, *pid, f),
            Refusal::RequestIdTaken { domain, request_id } => {
                write!(f, "request id {request_id} belongs to another user's request in {domain}: use another one")
            }
            Refusal::SharedOutside { domain, host } => shared_outside(domain, *host, f),
            Refusal::TakesMoreThanOuter { domain, take, host, has } => takes_more(domain, *take, (*host, *has), f),
            Refusal::WouldDeadlock { links, closing, would_wait_for } => {
                would_deadlock(links, (closing, would_wait_for), f)
            }
            Refusal::WaitsForOuter { domain, outer, pid } => waits_for_outer(domain, (*outer, *pid), f),
            Refusal::OtherLines { request_id, ticket } => {
                write!(f, "request id {request_id} belongs to ticket {ticket}, for other domains: use another one")
            }
            Refusal::OtherKey { request_id, ticket } => other_key(request_id, *ticket, f),
            Refusal::NotFound { which } => not_found(which, f),
            Refusal::NotAttached { ticket } => write!(f, "this connection has no ticket {ticket}"),
            Refusal::NotWaiting { ticket } => {
                write!(f, "ticket {ticket} has its turn already: end it with `seq release {ticket}`")
            }
            Refusal::NotActive { ticket } => {
                write!(f, "ticket {ticket} still waits: take it out of the line with `seq cancel {ticket}`")
            }
            Refusal::OfAnotherUser { ticket, uid } => {
                write!(f, "ticket {ticket} belongs to another user (uid {uid}): ask them, or an administrator")
            }
            Refusal::NotYourTurn { domain, holder, pid } => not_your_turn(domain, *holder, *pid, f),
            Refusal::Gone { ticket } => {
                write!(f, "the process that ticket {ticket} is bound to ended while it waited: name one that stays")
            }
            Refusal::Awaited { domain, next, pid } => {
                write!(f, "{domain} is busy: it waits for ticket {next} (pid {pid}) to come back after a restart")
            }
            Refusal::Ahead { domain, next, pid } => {
                write!(f, "{domain} is busy: ticket {next} (pid {pid}) is next")
            }
            Refusal::WrongSecret { ticket } => {
                write!(
                    f,
                    "ticket {ticket} was not asked for with this secret: take it up with the one it was asked for with"
                )
            }
            Refusal::EndedWhileAway { ticket, code } => ended_while_away(*ticket, *code, f),
            Refusal::Key(refusal) => refusal.fmt(f),
            Refusal::Restarting => {
                f.write_str("the daemon is restarting: connect again, and take the ticket up again with `resume`")
            }
            Refusal::Leaving => f.write_str("the daemon is leaving: connect again to reach the next one"),
        }
    }
}

fn timed_out(domains: &[Domain], waited: &str, obstacle: Option<&Refusal>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let names: Vec<&str> = domains.iter().map(Domain::as_str).collect();
    write!(f, "no turn in {} after {waited}: ", names.join(", "))?;
    match obstacle {
        Some(paused @ Refusal::Paused { .. }) => write!(f, "{paused}"),
        Some(busy) => write!(f, "{busy}; allow a longer wait, or see `seq status`"),
        None => f.write_str("allow a longer wait, or see what holds it up with `seq status`"),
    }
}

fn superseded(ticket: Ticket, by: Successor, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let Successor { ticket: newer, pid, uid } = by;
    write!(f, "ticket {ticket} was replaced by ticket {newer} (pid {pid}, uid {uid}), which came later")
}

fn turn_superseded(ticket: Ticket, by: Successor, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let Successor { ticket: newer, pid, uid } = by;
    write!(f, "ticket {ticket} is to make way for ticket {newer} (pid {pid}, uid {uid})")
}

fn shared_outside(domain: &Domain, host: Ticket, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(
        f,
        "a deadlock: ticket {host} has {domain} shared, and a request within it would have it alone: share it as well"
    )
}

fn takes_more(domain: &Domain, take: u32, (host, has): (Ticket, u32), f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(
        f,
        "ticket {host} takes {has} of the slots of {domain}, so a request within it cannot take {take}: \
         take fewer, or let the outer one take as many"
    )
}

fn would_deadlock(
    links: &[Link],
    (closing, would_wait_for): (&Closing, &Goal),
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    f.write_str("a deadlock: ")?;
    for (index, Link { ticket, pid, hold, waits_for }) in links.iter().enumerate() {
        let is_last = index + 1 == links.len() && matches!(closing, Closing::Outer);
        let separator = if index > 0 { "; " } else { "" };
        if is_last {
            write!(f, "{separator}ticket {ticket} (pid {pid}) {hold} and would wait for {would_wait_for}")?;
        } else {
            write!(f, "{separator}ticket {ticket} (pid {pid}) {hold} and waits for {waits_for}")?;
        }
    }
    match closing {
        Closing::Outer if links.len() == 1 && matches!(would_wait_for, Goal::Key(_)) => {
            f.write_str(": leave out the key, or run it outside of that turn")
        }
        Closing::Outer => Ok(()),
        Closing::Passed(line) => write!(f, "; this request would be ahead in {line} and wait for {would_wait_for}"),
        Closing::Entered(line) => write!(f, "; this request would stand in {line} and wait for {would_wait_for}"),
    }
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Hold::Slots(domain) => write!(f, "has {domain}"),
            Hold::Place(domain) => write!(f, "is ahead in {domain}"),
            Hold::Presence(domain) => write!(f, "stands in {domain}"),
            Hold::Key(key) => write!(f, "has key {}", Shown(key)),
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Goal::Turn(domain) => write!(f, "{domain}"),
            Goal::Idle(domain) => write!(f, "{domain} to be idle"),
            Goal::Key(key) => write!(f, "key {}", Shown(key)),
        }
    }
}

fn waits_for_outer(domain: &Domain, (outer, pid): (Ticket, u32), f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(
        f,
        "a deadlock: ticket {outer} (pid {pid}) has {domain}, and what is called within it would wait for {domain} \
         to be idle: wait after it has ended"
    )
}

fn paused(domain: &Domain, reason: Option<&str>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "{domain} is paused")?;
    reason.iter().try_for_each(|reason| write!(f, " ({reason})"))?;
    write!(f, ": `seq resume {domain}` lets turns begin again")
}

fn unbegun(domain: &Domain, (ticket, pid): (Ticket, u32), f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "{domain} is busy: ticket {ticket} (pid {pid}) was given its turn and has to begin first")
}

fn resting(domain: &Domain, why: PolicyValue, left: Duration, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "{domain} is busy: its {why} lets no turn begin for another {}", show_duration(left))
}

fn queue_full(domain: &Domain, waiters: usize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match waiters {
        0 => write!(f, "{domain} is busy, and its policy lets nobody wait: try again later"),
        1 => write!(f, "the line of {domain} is full: 1 waits already, try again later"),
        _ => write!(f, "the line of {domain} is full: {waiters} wait already, try again later"),
    }
}

fn already_active(request_id: &RequestId, ticket: Ticket, pid: u32, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(
        f,
        "request {request_id} has its turn already as ticket {ticket} (pid {pid}): \
         wait for that one to end, or use another request id"
    )
}

fn not_your_turn(domain: &Domain, holder: Ticket, pid: u32, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(
        f,
        "the turn in {domain} is not this caller's: ticket {holder} (pid {pid}) has it; \
         end it with `seq done --ticket {holder}` or `seq release`"
    )
}

fn ended_while_away(ticket: Ticket, code: ErrorCode, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match code {
        ErrorCode::Cancelled => write!(f, "ticket {ticket} was cancelled meanwhile: ask again for a new place"),
        ErrorCode::Superseded => write!(f, "ticket {ticket} was replaced meanwhile by a newer request"),
        ErrorCode::WouldDeadlock => {
            write!(f, "ticket {ticket} would have waited for ever in a deadlock, after a policy was changed")
        }
        ErrorCode::TimedOut => write!(f, "ticket {ticket} waited its longest meanwhile: ask again for a new place"),
        ErrorCode::Stopped => {
            write!(f, "the daemon was told to leave while ticket {ticket} waited: ask again for a new place")
        }
        ErrorCode::Expired => write!(f, "the lease of ticket {ticket} was over meanwhile: stop working under it"),
        _ => write!(f, "the turn of ticket {ticket} was taken away meanwhile: stop working under it"),
    }
}

fn other_key(request_id: &RequestId, ticket: Ticket, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "request id {request_id} belongs to ticket {ticket}, for another key or command: use another one")
}

fn not_found(which: &Which, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match which {
        Which::Ticket(ticket) | Which::TicketOf(ticket, None, None) => {
            write!(f, "ticket {ticket} neither waits nor has a turn: see `seq status`")
        }
        Which::TicketOf(ticket, _, _) => {
            write!(f, "there is no ticket {ticket} with this domain and request id: see `seq status`")
        }
        Which::Request(domain, request_id) => {
            write!(f, "request {request_id} neither waits nor has a turn in {domain}: see `seq status`")
        }
        Which::Domain(domain) => write!(f, "nobody has the turn in {domain}: there is nothing to end"),
    }
}
