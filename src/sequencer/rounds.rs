//! Telling waiters where they stand, without ever holding up a turn.
//!
//! Each line goes over its subscribers in rounds, only while something has changed since the last one, and a round
//! begins at the earliest one interval after the one before. It goes in steps of a few waiters, one step a call.

use std::collections::BTreeSet;
use std::ops::Bound;

use serde::{Deserialize, Serialize};

use crate::clock::Time;
use crate::protocol::limits::POSITION_INTERVAL;
use crate::protocol::{Domain, QueuePosition, Reply, Ticket};

use super::ticket::{Entry, Place, State};
use super::{Effect, Sequencer};

/// Waiters looked at in one step: each is told by a system call of its own, and a turn may come due meanwhile.
const STEP_WAITERS: usize = 16;

/// Where a line is with its rounds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Round {
    /// Waiters of this line who asked for positions.
    pub(super) subscribers: BTreeSet<Ticket>,
    /// When the last round began.
    started: Option<Time>,
    /// When the next step is due, if one is.
    pub(super) due: Option<Time>,
    /// While a round is under way: whom it came to last.
    reached: Option<Ticket>,
    /// Whether another round must follow the one under way.
    again: bool,
}

/// The lines whose next step is due, the earliest first.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Rounds {
    by_time: BTreeSet<(Time, Domain)>,
}

impl Rounds {
    pub(super) fn next(&self) -> Option<Time> {
        self.by_time.first().map(|(due, _)| *due)
    }

    pub(super) fn len(&self) -> usize {
        self.by_time.len()
    }

    pub(super) fn has(&self, due: Time, domain: &Domain) -> bool {
        self.by_time.contains(&(due, domain.clone()))
    }

    /// Places in the line of `domain` have changed: sees to it that a round begins after that.
    pub(super) fn line_changed(&mut self, now: Time, domain: &Domain, round: &mut Round) {
        if round.subscribers.is_empty() {
            self.stop(domain, round);
        } else if round.reached.is_some() {
            round.again = true;
        } else if round.due.is_none() {
            let due = round.started.map_or(now, |started| now.max(started + POSITION_INTERVAL));
            self.schedule(due, domain, round);
        }
    }

    /// Forgets the round of a line that needs none any more.
    pub(super) fn stop(&mut self, domain: &Domain, round: &mut Round) {
        if let Some(due) = round.due.take() {
            self.by_time.remove(&(due, domain.clone()));
        }
        (round.reached, round.again) = (None, false);
    }

    fn schedule(&mut self, due: Time, domain: &Domain, round: &mut Round) {
        round.due = Some(due);
        self.by_time.insert((due, domain.clone()));
    }

    /// Notes that a step ended at `reached`, and when the line comes up next.
    fn step_ended(&mut self, now: Time, domain: &Domain, round: &mut Round, reached: Option<Ticket>) {
        let rest = reached.map_or(Bound::Unbounded, Bound::Excluded);
        if round.subscribers.range((rest, Bound::Unbounded)).next().is_some() {
            round.reached = reached;
            self.schedule(now, domain, round);
            return;
        }
        round.reached = None;
        if std::mem::take(&mut round.again) {
            self.line_changed(now, domain, round);
        }
    }
}

impl Sequencer {
    /// Does one step of the round that has been due longest, if one is due.
    pub(super) fn tell_positions(&mut self, now: Time, out: &mut Vec<Effect>) {
        if self.rounds.next().is_none_or(|due| due > now) {
            return;
        }
        let Some((_, domain)) = self.rounds.by_time.pop_first() else { return };
        let Some(line) = self.lines.get_mut(&domain) else { return };
        line.round.due = None;
        if line.round.reached.is_none() {
            line.round.started = Some(now);
        }
        let before = line.round.reached;
        let rest = before.map_or(Bound::Unbounded, Bound::Excluded);
        let step: Vec<Ticket> =
            line.round.subscribers.range((rest, Bound::Unbounded)).take(STEP_WAITERS).copied().collect();
        for ticket in &step {
            let must_come_again = self.tell_position(now, *ticket, out);
            if let Some(line) = self.lines.get_mut(&domain) {
                line.round.again |= must_come_again;
            }
        }
        if let Some(line) = self.lines.get_mut(&domain) {
            self.rounds.step_ended(now, &domain, &mut line.round, step.last().copied().or(before));
        }
    }

    /// Tells one waiter its place, if that has changed. Answers whether it was told too lately to be told now.
    fn tell_position(&mut self, now: Time, ticket: Ticket, out: &mut Vec<Effect>) -> bool {
        let place = self.tickets.get(&ticket).and_then(|entry| self.place(entry));
        let Some(entry) = self.tickets.get_mut(&ticket) else { return false };
        let (Some(place), State::Waiting(waiting), Some(connection)) = (place, &mut entry.state, entry.connection)
        else {
            return false;
        };
        if waiting.told == place {
            return false;
        }
        if waiting.told_at.is_some_and(|told_at| told_at + POSITION_INTERVAL > now) {
            return true;
        }
        waiting.told = place;
        waiting.told_at = Some(now);
        let reply = Reply::QueuePosition(QueuePosition {
            domain: entry.domain.clone(),
            request_id: entry.request_id.clone(),
            ticket,
            position: place.position.into(),
            total_ahead: place.total_ahead.into(),
        });
        out.push(Effect::Tell { connection, reply });
        false
    }

    /// Where a waiter stands: in the one of its lines where most are before it, and where most are ahead of it.
    pub(super) fn place(&self, entry: &Entry) -> Option<Place> {
        let priority = entry.wishes().priority;
        let places = entry.lines().filter_map(|domain| self.lines.get(domain)?.place(entry.ticket, priority));
        places.reduce(|one, other| Place {
            position: one.position.max(other.position),
            total_ahead: one.total_ahead.max(other.total_ahead),
        })
    }

    /// Takes a waiter out of one line's order, for whatever reason.
    pub(super) fn take_out(&mut self, now: Time, (ticket, priority): (Ticket, i8), domain: &Domain) {
        let Some(line) = self.lines.get_mut(domain) else { return };
        assert!(line.order.leave(ticket, priority), "waiter {ticket} is not in the line of {domain}");
        line.round.subscribers.remove(&ticket);
        self.rounds.line_changed(now, domain, &mut line.round);
    }
}
