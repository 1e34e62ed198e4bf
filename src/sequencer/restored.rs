//! What the next daemon needs to know of a ticket.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Guest, Secret, Successor, Wishes};
use crate::clock::Time;
use crate::protocol::{Binding, Domain, RequestId, Ticket, Token};

/// A ticket as the next daemon needs to know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    /// Its number.
    pub ticket: Ticket,
    /// The line.
    pub domain: Domain,
    /// The request.
    pub request_id: RequestId,
    /// The user who asked.
    pub uid: u32,
    /// The process to show.
    pub pid: u32,
    /// The command to show.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Arc<str>>,
    /// When it took its place.
    pub queued_at: Time,
    /// What keeps its turn.
    pub binding: Binding,
    /// With binding `lease`: how long the turn lasts, from its grant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<Duration>,
    /// Whether its process was named on purpose; see [`named_process`](super::Enqueue::named_process).
    pub named_process: bool,
    /// Whether its turn, or the one to come, ends with its client until that has confirmed it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unconfirmed: bool,
    /// Whether its client says when what it has the turn for begins; see [`says_started`](super::Enqueue::says_started).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub says_started: bool,
    /// While it waits: when it is refused with `timed_out`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_until: Option<Time>,
    /// What its client proves itself with when it comes back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Secret>,
    /// Its turn, if it has one; otherwise it waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn: Option<RestoredTurn>,
    /// Pipes that are watched for it; `PipeClosed` comes once for each. [`Sequencer::saved`](super::Sequencer::saved)
    /// says how many were; the next daemon says how many it found open.
    pub pipes: u32,
    /// Processes that are watched for it; `ProcessGone` comes once for each. The next daemon counts those that it found
    /// alive: of a holder what worked under it, and, if its binding is `connection`, the client that asked; of a waiter
    /// only the client that asked (one that cannot be watched counts too, and is given up like any other); of a holder
    /// that is `unconfirmed` what it is bound to and the client, or none unless all of them are there.
    pub processes: u32,
    /// How it wants to be treated.
    #[serde(default, skip_serializing_if = "Wishes::is_default")]
    pub wishes: Wishes,
    /// The lines that it has by a turn that it was made within.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub guests: Vec<Guest>,
}

impl Restored {
    /// Its lines, but for those that it has by a turn that it was made within.
    pub fn lines_of_its_own(&self) -> impl Iterator<Item = &Domain> {
        let is_guest = |domain: &Domain| self.guests.iter().any(|guest| guest.domain == *domain);
        std::iter::once(&self.domain).chain(&self.wishes.also).filter(move |domain| !is_guest(domain))
    }

    /// When its turn was given, if it has one of which its client has still to say that it begins.
    pub fn to_begin_since(&self) -> Option<Time> {
        self.turn.filter(|turn| turn.is_fresh && self.says_started).map(|turn| turn.active_at)
    }

    /// Whether the client that asked keeps the place or the turn.
    pub fn hangs_on_its_client(&self) -> bool {
        self.turn.is_none() || self.unconfirmed || self.binding == Binding::Connection
    }
}

/// A turn as the next daemon needs to know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoredTurn {
    /// Its fencing number.
    pub token: Token,
    /// When it came.
    pub active_at: Time,
    /// When its lease is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_until: Option<Time>,
    /// How long it may take by the policy with which it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_run: Option<Duration>,
    /// Whether its client has not said yet that it goes on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_fresh: bool,
    /// Who made its client be told `superseded`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub superseded: Option<Successor>,
}
