//! One line: its holders, its waiters, and who wants to know about it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Time;
use crate::protocol::{Ticket, Token};

use super::lanes::Lanes;
use super::nested::Hosting;
use super::rest::{Past, Rest};
use super::rounds::Round;
use super::ticket::Place;
use super::{Guest, Policy, Wishes};

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
    /// How many have a turn that is not.
    pub(super) writers: usize,
    /// The slots that requests within turns have as well, by whose they were first.
    pub(super) hosting: BTreeMap<Ticket, Hosting>,
    pub(super) order: Lanes,
    /// The `Wait`s to answer once it is idle.
    pub(super) waits: BTreeSet<u64>,
    /// How many of these were made within a turn.
    pub(super) inner_waits: usize,
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
        self.taken() == 0 && self.order.len() == 0
    }

    /// Turns that have slots of their own here, or left them to others.
    pub(super) fn taken(&self) -> usize {
        self.readers + self.writers
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
        self.holders.insert((token, ticket));
        self.open(wishes.take, wishes.shared);
        self.last_token = self.last_token.max(Some(token));
    }

    /// A turn has ended; whether its slots are free.
    pub(super) fn let_go(&mut self, token: Token, ticket: Ticket, wishes: &Wishes) -> bool {
        self.holders.remove(&(token, ticket));
        if let Some(hosting) = self.hosting.get_mut(&ticket) {
            hosting.has_host = false;
            return false;
        }
        self.close(wishes.take, wishes.shared);
        true
    }

    /// A request has the same slots as its host, who has them still or has left them to others.
    pub(super) fn join(&mut self, ticket: Ticket, guest: &Guest, has_host: bool) {
        if let Some(hosting) = self.hosting.get_mut(&guest.host) {
            hosting.guests.insert(ticket);
            return;
        }
        if !has_host {
            self.open(guest.take, guest.shared);
        }
        let Guest { take, shared, .. } = *guest;
        self.hosting.insert(guest.host, Hosting { take, shared, has_host, guests: BTreeSet::from([ticket]) });
    }

    /// A guest has its turn as well.
    pub(super) fn hold_as_guest(&mut self, token: Token, ticket: Ticket) {
        self.holders.insert((token, ticket));
        self.last_token = self.last_token.max(Some(token));
    }

    /// A guest has ended; whether its slots are free.
    pub(super) fn part(&mut self, (turn, ticket): (Option<Token>, Ticket), guest: &Guest) -> bool {
        turn.map(|token| self.holders.remove(&(token, ticket)));
        let Some(hosting) = self.hosting.get_mut(&guest.host) else { return false };
        hosting.guests.remove(&ticket);
        if !hosting.guests.is_empty() {
            return false;
        }
        let Hosting { take, shared, has_host, .. } = *hosting;
        self.hosting.remove(&guest.host);
        if !has_host {
            self.close(take, shared);
        }
        !has_host
    }

    fn open(&mut self, take: u32, shared: bool) {
        if shared {
            self.readers += 1;
        } else {
            self.writers += 1;
            self.used += u64::from(take);
        }
    }

    fn close(&mut self, take: u32, shared: bool) {
        if shared {
            self.readers -= 1;
        } else {
            self.writers -= 1;
            self.used -= u64::from(take);
        }
    }

    /// Where a waiter of this line stands.
    pub(super) fn place(&self, ticket: Ticket, priority: i8) -> Option<Place> {
        let position = self.order.position(ticket, priority)?;
        let narrow = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Some(Place { position: narrow(position), total_ahead: narrow(position - 1 + self.taken()) })
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
