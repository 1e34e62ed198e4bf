//! A request for a turn, as it comes to the sequencer.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{ConnectionId, KeyAsk, Peer, Secret, Within};
use crate::protocol::{Binding, Domain, RequestId, Ticket};

/// A request for a turn.
///
/// One with the `request_id` of a ticket that lives in this domain takes that ticket up again, if the user is the same:
///
/// - A waiter keeps its place. Its earlier connection is told the error `taken_over`, if it is another one, and all
///   that is said here replaces what was said before; so what was watched for it before is watched no more.
///   With `no_wait` the newcomer is refused with `busy`, and the waiter is not disturbed.
/// - A holder is told `active` again, `resumed`, and hangs on this connection from now on. Its earlier connection is
///   told nothing, and may end without ending the turn. `binding`, `lease` and what was watched stay as they were,
///   for the old work may still go on; what is watched for this request is watched as well.
///
/// One with `resume` never gets a new ticket. It takes up that ticket in the same way if domain, user and secret are
/// the same, and the request id if it has one; but `max_wait`, `no_wait` and `fresh` mean nothing then. Refused with
/// `forbidden` when user or secret differ or no secret was given; with `cancelled`, `superseded`, `released`,
/// `timed_out`, `would_deadlock`, `expired` or `stopped` when it ended so; otherwise with `not_found`.
///
/// Either way its [wishes](Wishes) are those with which it came first.
///
/// A client may lose its connection before it is told its ticket. So one without `resume` that has the secret, domain
/// and user of a ticket without a connection, and its request id if it has one, is as if it had `resume`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "they are independent options of one request")]
pub struct Enqueue {
    /// Who asks.
    pub connection: ConnectionId,
    /// Who is there.
    pub peer: Peer,
    /// The line.
    pub domain: Domain,
    /// The client's name for it, in each of its lines; without it the sequencer chooses `t-TICKET`.
    pub request_id: Option<RequestId>,
    /// Whether it wants queue positions.
    pub positions: bool,
    /// Refuse with `busy` rather than wait.
    pub no_wait: bool,
    /// Refuse with `timed_out` after this long in line.
    pub max_wait: Option<Duration>,
    /// What keeps the turn.
    pub binding: Binding,
    /// With binding `lease`: how long the turn lasts, from its grant.
    pub lease: Option<Duration>,
    /// Refuse, with `already_active`, to take up again a turn that this request has already.
    pub fresh: bool,
    /// What the client will prove itself with when it comes back; for this request alone.
    pub secret: Option<Secret>,
    /// The ticket to take up again.
    pub resume: Option<Ticket>,
    /// The process to show.
    pub pid: u32,
    /// The command to show.
    pub command: Option<Arc<str>>,
    /// Whether the daemon watches a pipe for it, and `PipeClosed` will come.
    pub pipe: bool,
    /// Whether the process of binding `process` was named on purpose, by its pid, and is not just the caller's shell:
    /// then a bare `done` of the same user may end the turn from anywhere.
    pub named_process: bool,
    /// Whether the turn ends with the connection, too, until it is confirmed. A turn that is taken up again stays
    /// confirmed, or unconfirmed if this is set.
    pub confirm: bool,
    /// Whether its client says (`Started`, `Confirm`) when what it has the turn for begins. Until then, no other turn is
    /// given that may not begin so soon before or after it, by `min_interval` or `rate`. A turn that ends, or loses its
    /// client, has begun.
    pub says_started: bool,
    /// What is asked for is to be done once. Where that is done already, or is being done, this is no request for a turn:
    /// it is told the outcome (`TellOutcome`), at once or when there is one (`following` first; it counts like a
    /// ticket of its connection), or refused with `key_conflict`, `key_unknown`, or `busy` if it has `no_wait`. One that
    /// waits so is the next to ask for a turn if there is no outcome, as where the first never had its turn.
    pub key: Option<Box<KeyAsk>>,
    /// How it wants to be treated.
    pub wishes: Wishes,
}

/// How a request wants to be treated; it keeps these for as long as it lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Wishes {
    /// How many of the domain's slots its turn takes; at least one. More than there are is refused with
    /// `take_too_large`; if there are fewer later on, it takes all.
    pub take: u32,
    /// Whether its turn goes together with others of this kind. They count against no concurrency, `take` included, but
    /// no other turn goes together with them.
    pub shared: bool,
    /// Who has a higher one is ahead, whenever it came; -[`PRIORITY_MAX`](crate::protocol::limits::PRIORITY_MAX) to
    /// [`PRIORITY_MAX`](crate::protocol::limits::PRIORITY_MAX).
    pub priority: i8,
    /// The group in which it replaces whatever waits: those are told the error `superseded`, and end. Groups are those
    /// of one user in one domain; the empty one is a group like any other.
    pub supersede: Option<Arc<str>>,
    /// With `supersede`: whether those of its group that have a turn are told `superseded` as well. They keep it until
    /// they give it back, or nothing keeps it; when their client comes back, it is told again.
    pub cancel_running: bool,
    /// Further lines: it stands in each, and its turn comes when it is the first in all of them and fits into all. A
    /// limit of one of them refuses it. None is the one that the request names first, and none comes twice.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<Domain>,
    /// The turn that it is made within, by the word of its client. If there is no such turn of the same user, it is as if
    /// this had not been said.
    ///
    /// It does not stand in lines that this turn has, or one that this is within in turn: it has the same slots there. If
    /// that is so in all of its lines, it is given its turn at once, with the same fencing number. One that is not shared
    /// is refused with `would_deadlock` if the slots are; so is one that would wait for itself, for ever.
    pub within: Option<Within>,
}

static PLAIN: Wishes = taking(1);

static WHOLE: Wishes = taking(u32::MAX);

const fn taking(take: u32) -> Wishes {
    Wishes { take, shared: false, priority: 0, supersede: None, cancel_running: false, also: Vec::new(), within: None }
}

impl Default for Wishes {
    fn default() -> Wishes {
        PLAIN.clone()
    }
}

impl Wishes {
    /// Nothing out of the ordinary.
    pub(super) fn plain() -> &'static Wishes {
        &PLAIN
    }

    /// What a `Wait` is like: it waits until all of its line is free.
    pub(super) fn whole() -> &'static Wishes {
        &WHOLE
    }

    /// Whether it is named with its lines, the first and all others, in whatever order.
    pub(super) fn are_lines(&self, first: &Domain, others: &Wishes, other_first: &Domain) -> bool {
        let has = |domain: &Domain| domain == first || self.also.contains(domain);
        self.also.len() == others.also.len() && has(other_first) && others.also.iter().all(has)
    }

    /// Whether it wants nothing out of the ordinary.
    pub fn is_default(&self) -> bool {
        *self == Wishes::default()
    }
}
