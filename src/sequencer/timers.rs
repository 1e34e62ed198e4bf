//! Deadlines, the earliest first.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::clock::Time;
use crate::protocol::{Domain, Ticket};

/// Whose time is over. Of those due at one moment the smallest comes first: tickets in order, then `Wait`s in
/// order, then the grace, then lines by name, then those who wait for the outcome of a key, then keys.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum Timer {
    /// A waiter's longest wait, or a holder's lease.
    Ticket(Ticket),
    /// A `Wait`.
    Wait(u64),
    /// The grace of all waiters that are away.
    Away,
    /// The rest of a line.
    Line(Domain),
    /// Somebody who waits for the outcome of a key.
    Follower(u64),
    /// Keys that have expired are let go of.
    Keys,
}

/// At most one deadline for each ticket, each `Wait` and each line.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Timers {
    by_time: BTreeSet<(Time, Timer)>,
}

impl Timers {
    pub(super) fn set(&mut self, due: Option<Time>, timer: Timer) {
        if let Some(due) = due {
            self.by_time.insert((due, timer));
        }
    }

    pub(super) fn clear(&mut self, due: Option<Time>, timer: Timer) {
        if let Some(due) = due {
            self.by_time.remove(&(due, timer));
        }
    }

    /// The earliest deadline.
    pub(super) fn next(&self) -> Option<Time> {
        self.by_time.first().map(|(due, _)| *due)
    }

    /// Takes out the earliest deadline that is not later than `now`.
    pub(super) fn pop_due(&mut self, now: Time) -> Option<(Time, Timer)> {
        if self.next()? <= now { self.by_time.pop_first() } else { None }
    }

    /// Whether exactly this deadline is set.
    pub(super) fn has(&self, due: Time, timer: Timer) -> bool {
        self.by_time.contains(&(due, timer))
    }

    pub(super) fn len(&self) -> usize {
        self.by_time.len()
    }
}
