//! What follows from an input.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Time;
use crate::protocol::{Domain, Outcome, Reply, RequestId, Ticket, Token};

use super::{ConnectionId, KeyChange, KeyTold, Pattern, Pause, Policy};

/// One thing to do, in the order in which they come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Write this down, before any `Tell` that comes after it. It is also what watchers hear.
    Record(Record),
    /// What [`Sequencer::saved`](super::Sequencer::saved) says of this ticket has changed, apart from its `Record`s:
    /// write that down too, before any `Tell` that comes after it. When something that kept it is merely gone, there is
    /// none: the next daemon sees that for itself.
    Changed {
        /// The ticket.
        ticket: Ticket,
    },
    /// The ticket that a `Sequence` got or took up again: what the daemon was to watch for that request belongs to
    /// this ticket from now on. If the ticket waits, that replaces what was watched for it before (drop the old, and
    /// what it may still report); if it has a turn, it is watched beside it. Comes before the `Record`s and `Tell`s of
    /// that request; a refused request has none.
    Admitted {
        /// The ticket.
        ticket: Ticket,
        /// If it is not the request at hand that got it, but one that has waited for the outcome of a key: which.
        follower: Option<u64>,
    },
    /// The `Sequence` at hand waits for the outcome of a key: what the daemon was to watch for it is kept for
    /// it, until it is `Admitted` by this number.
    Follows {
        /// A number for it, never used twice.
        follower: u64,
    },
    /// It waits for that no more, and gets no ticket: let go of what was kept for it.
    Unfollowed {
        /// Its number.
        follower: u64,
    },
    /// A policy or a pause has changed: write that down too, before any `Tell` that comes after it. It is also what
    /// watchers hear.
    Policy(PolicyChange),
    /// A turn has begun or ended in a domain whose policy makes it rest after that: write that down too, before any
    /// `Tell` that comes after it. Comes again for what is known already when a policy begins to make a domain rest,
    /// also for one that nobody uses.
    Past(PastChange),
    /// A key has changed: write that down too, before any `Tell` that comes after it.
    Key(KeyChange),
    /// Tell a client what became of its key: `key_done`.
    TellOutcome {
        /// Whom.
        connection: ConnectionId,
        /// What.
        told: KeyTold,
    },
    /// Tell a client.
    Tell {
        /// Whom.
        connection: ConnectionId,
        /// What.
        reply: Reply,
    },
}

/// What the next daemon must be told before it is told of tickets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyChange {
    /// This is set for a pattern now by hand, and nothing else: [`Input::PastPolicy`](super::Input::PastPolicy).
    Set {
        /// Which domains.
        pattern: Pattern,
        /// What.
        policy: Policy,
        /// The user who set it.
        uid: u32,
    },
    /// Nothing is set for it any more by hand.
    Unset {
        /// Which domains.
        pattern: Pattern,
        /// The user who unset it.
        uid: u32,
    },
    /// A domain is paused, so and not otherwise: [`Input::PastPause`](super::Input::PastPause).
    Paused {
        /// The line.
        domain: Domain,
        /// By whom and why.
        pause: Pause,
    },
    /// A domain is not paused any more.
    Resumed {
        /// The line.
        domain: Domain,
        /// The user who resumed it.
        uid: u32,
    },
}

/// What the next daemon must be told by [`Input::PastStarts`](super::Input::PastStarts).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PastChange {
    /// All that was told before of this domain is told anew.
    Forgotten {
        /// The line.
        domain: Domain,
    },
    /// A turn has begun.
    Started {
        /// The line.
        domain: Domain,
        /// When.
        at: Time,
    },
    /// What works under the turn that had begun at `from` has only started at `to`.
    Moved {
        /// The line.
        domain: Domain,
        /// What was told before.
        from: Time,
        /// What counts now.
        to: Time,
    },
    /// A turn has ended; only the last end matters.
    Ended {
        /// The line.
        domain: Domain,
        /// When.
        at: Time,
    },
}

/// A change in the life of a ticket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// When.
    pub at: Time,
    /// The line.
    pub domain: Domain,
    /// Its further lines; what happened, happened in each.
    pub also: Vec<Domain>,
    /// Those of its lines that it has by a turn that it was made within: no turn begins or ends there by it.
    pub had_already: Vec<Domain>,
    /// The request.
    pub request_id: RequestId,
    /// Its ticket.
    pub ticket: Ticket,
    /// The user who asked.
    pub uid: u32,
    /// The process to show.
    pub pid: u32,
    /// The command to show.
    pub command: Option<Arc<str>>,
    /// Who replaced it, or made its client be told to stop.
    pub superseded_by: Option<Ticket>,
    /// What happened.
    pub change: Change,
}

/// What happened to a ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It took its place in line. A ticket whose turn comes at once is queued, then active.
    Queued,
    /// Its turn came.
    Active {
        /// The fencing number.
        token: Token,
        /// How long it had waited.
        waited: Duration,
    },
    /// Its client is gone, the turn stays taken.
    Orphaned {
        /// The fencing number.
        token: Token,
    },
    /// Its turn ended. Nothing needs to be watched for it any more.
    Ended {
        /// The fencing number.
        token: Token,
        /// How.
        outcome: Outcome,
        /// The command's exit status, if its client told it.
        exit_status: Option<i32>,
        /// How long it had waited.
        waited: Duration,
        /// How long it had the turn.
        held: Duration,
    },
    /// It left the line without a turn. Nothing needs to be watched for it any more.
    Left {
        /// How.
        outcome: Outcome,
        /// How long it had waited.
        waited: Duration,
    },
}

impl PastChange {
    /// The line.
    pub fn domain(&self) -> &Domain {
        match self {
            PastChange::Forgotten { domain }
            | PastChange::Started { domain, .. }
            | PastChange::Moved { domain, .. }
            | PastChange::Ended { domain, .. } => domain,
        }
    }
}
