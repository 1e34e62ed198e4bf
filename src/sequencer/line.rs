//! One line: its holders, its waiters, and who wants to know about it.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::protocol::{RequestId, Ticket, Token};

use super::FixedHasher;
use super::order::Order;
use super::rounds::Round;
use super::ticket::Place;

/// Turns that a domain gives out at once.
pub(super) const SLOTS: usize = 1;

/// A domain in use: at least one ticket holds or waits.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Line {
    /// Those who have a turn, oldest first, at most [`SLOTS`].
    pub(super) holders: Vec<Ticket>,
    pub(super) order: Order,
    /// Every ticket of this line by its request.
    pub(super) ids: HashMap<RequestId, Ticket, FixedHasher>,
    /// The `Wait`s to answer once it is idle.
    pub(super) waits: BTreeSet<u64>,
    pub(super) round: Round,
    /// How long the last turns took that ended by `done`, oldest first.
    pub(super) runs: VecDeque<Duration>,
    /// The latest fencing number given out here since the line came into use.
    pub(super) last_token: Option<Token>,
}

impl Line {
    pub(super) fn is_idle(&self) -> bool {
        self.holders.is_empty() && self.order.len() == 0
    }

    /// Whether a newcomer would have to wait.
    pub(super) fn is_busy(&self) -> bool {
        self.holders.len() >= SLOTS || self.order.len() > 0
    }

    /// Whose turn it is: the head, when a turn is free.
    pub(super) fn due(&self) -> Option<Ticket> {
        if self.holders.len() < SLOTS { self.order.head() } else { None }
    }

    /// Where a waiter of this line stands.
    pub(super) fn place(&self, ticket: Ticket) -> Option<Place> {
        let position = self.order.position(ticket)? as u64;
        Some(Place { position, total_ahead: position - 1 + self.holders.len() as u64 })
    }

    pub(super) fn remember_run(&mut self, run: Duration, runs_max: usize) {
        self.runs.push_back(run);
        while self.runs.len() > runs_max {
            self.runs.pop_front();
        }
    }
}

/// The median; of an even number, the mean of the middle two.
pub(super) fn usual_run(runs: &VecDeque<Duration>) -> Option<Duration> {
    let mut sorted: Vec<Duration> = runs.iter().copied().collect();
    sorted.sort_unstable();
    let upper = *sorted.get(sorted.len() / 2)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    let lower = sorted[sorted.len() / 2 - 1];
    Some((lower + upper) / 2)
}
