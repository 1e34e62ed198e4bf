//! One line: its holders, its waiters, and who wants to know about it.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Time;
use crate::protocol::{RequestId, Ticket, Token};

use super::lanes::Lanes;
use super::rest::{Past, Rest};
use super::rounds::Round;
use super::ticket::Place;
use super::{FixedHasher, Policy, Wishes};

/// A domain in use: at least one ticket holds or waits.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Line {
    /// What is set for this domain.
    pub(super) policy: Policy,
    /// Those who have a turn, oldest first.
    pub(super) holders: BTreeSet<(Token, Ticket)>,
    /// Slots that they take. More than there are when there were more, or for a request that takes more than all.
    pub(super) used: u64,
    /// How many have a shared turn; those take no slots.
    pub(super) readers: usize,
    pub(super) order: Lanes,
    /// Every ticket of this line by its request.
    pub(super) ids: HashMap<RequestId, Ticket, FixedHasher>,
    /// The `Wait`s to answer once it is idle.
    pub(super) waits: BTreeSet<u64>,
    pub(super) round: Round,
    /// How long the last turns took that ended by `done`, oldest first.
    pub(super) runs: VecDeque<Duration>,
    /// When turns began and ended.
    pub(super) past: Past,
    /// When it is looked at again because its rest is over then.
    pub(super) rest_due: Option<Time>,
    /// The latest fencing number given out here since the line came into use.
    pub(super) last_token: Option<Token>,
}

impl Line {
    pub(super) fn is_idle(&self) -> bool {
        self.holders.is_empty() && self.order.len() == 0
    }

    pub(super) fn oldest_holder(&self) -> Option<Ticket> {
        self.holders.first().map(|(_, ticket)| *ticket)
    }

    /// Slots that are free.
    pub(super) fn free(&self) -> u32 {
        self.policy.slots().saturating_sub(u32::try_from(self.used).unwrap_or(u32::MAX))
    }

    /// How many slots a request takes that wants `take` of them: when there are fewer than when it came, all.
    pub(super) fn slots(&self, take: u32) -> u32 {
        take.clamp(1, self.policy.slots())
    }

    /// Whether it must rest at `now`, and until when.
    pub(super) fn rest(&self, now: Time) -> Option<Rest> {
        self.past.rest_after(&self.policy, now)
    }

    /// A turn begins, or was there under an earlier daemon.
    pub(super) fn hold(&mut self, token: Token, ticket: Ticket, wishes: &Wishes) {
        match self.holders.insert((token, ticket)) {
            true if wishes.shared => self.readers += 1,
            true => self.used += u64::from(wishes.take),
            false => {}
        }
        self.last_token = self.last_token.max(Some(token));
    }

    /// A turn has ended.
    pub(super) fn let_go(&mut self, token: Token, ticket: Ticket, wishes: &Wishes) {
        match self.holders.remove(&(token, ticket)) {
            true if wishes.shared => self.readers -= 1,
            true => self.used -= u64::from(wishes.take),
            false => {}
        }
    }

    /// Where a waiter of this line stands.
    pub(super) fn place(&self, ticket: Ticket, priority: i8) -> Option<Place> {
        let position = self.order.position(ticket, priority)? as u64;
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
