//! Waiters whose clients have not come back yet after a restart, and how long their places are kept.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Time;
use crate::protocol::Ticket;
use crate::protocol::limits::{AWAY_GRACE, AWAY_MAX};

use super::timers::{Timer, Timers};
use super::{Effect, Sequencer};

/// Those who are away, and the one grace that all of them have.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Away {
    waiters: BTreeSet<Ticket>,
    /// When their places are given up; there is one while somebody is away.
    until: Option<Time>,
    /// Beyond this it is never put off.
    limit: Time,
}

impl Away {
    pub(super) fn until(&self) -> Option<Time> {
        self.until
    }

    pub(super) fn len(&self) -> usize {
        self.waiters.len()
    }

    pub(super) fn has(&self, ticket: Ticket) -> bool {
        self.waiters.contains(&ticket)
    }

    /// A waiter was restored.
    pub(super) fn enter(&mut self, now: Time, ticket: Ticket, timers: &mut Timers) {
        self.waiters.insert(ticket);
        self.limit = now + AWAY_MAX;
        self.put_off(Some(now + AWAY_GRACE), timers);
    }

    /// A waiter, if it was away, is not any more.
    pub(super) fn leave(&mut self, ticket: Ticket, timers: &mut Timers) {
        if self.waiters.remove(&ticket) && self.waiters.is_empty() {
            self.put_off(None, timers);
        }
    }

    /// Somebody came back: whoever has not gets the whole grace again.
    fn extend(&mut self, now: Time, timers: &mut Timers) {
        if self.until.is_some() {
            self.put_off(Some(self.limit.min(now + AWAY_GRACE)), timers);
        }
    }

    /// Nobody could come back for so long.
    pub(super) fn give_more_time(&mut self, more: Duration, timers: &mut Timers) {
        if let Some(until) = self.until {
            self.limit = self.limit + more;
            self.put_off(Some(until + more), timers);
        }
    }

    fn put_off(&mut self, until: Option<Time>, timers: &mut Timers) {
        timers.clear(self.until, Timer::Away);
        timers.set(until, Timer::Away);
        self.until = until;
    }
}

impl Sequencer {
    /// A ticket without a client has one again.
    pub(super) fn came_back(&mut self, now: Time, ticket: Ticket) {
        self.away.leave(ticket, &mut self.timers);
        self.away.extend(now, &mut self.timers);
    }

    /// Whether somebody may still come back to take up a place.
    pub fn is_anybody_away(&self) -> bool {
        self.away.len() > 0
    }

    /// The grace is over: whoever is still away loses the place.
    pub(super) fn away_due(&mut self, now: Time, out: &mut Vec<Effect>) {
        // One by one: as long as the next of them is away, no turn passes it.
        while let Some(ticket) = self.away.waiters.first().copied() {
            self.lose(now, ticket, out);
        }
    }
}
