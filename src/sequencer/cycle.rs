//! Deadlocks: found before they are made, and undone when a change of policy makes one.
//!
//! A turn waits for the requests made within it, for it may not end before they do. A request that waits, waits in each
//! of its lines for whoever has too much there, and for whoever is ahead. A newcomer that would never get its turn is
//! refused; one who is ahead of others has to be looked at for their sake.
//!
//! Without a request that waits within a turn there is no deadlock: all turns end, and all lines have the same order.
//! A newcomer that is within no turn and ahead of nobody makes none either. So no others pay for this.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use crate::protocol::{Domain, Outcome, Ticket};

use super::nested::{Arrival, is_guest_in};
use super::reach::Reach;
use super::refusal::Refusal;
use super::ticket::Entry;
use super::{Effect, Sequencer, Wishes};

/// Waiters that stand in more than one line, by line and place.
pub(super) type Wide = BTreeSet<(Domain, Reverse<i8>, Ticket)>;

/// A place in any line: whoever has a lesser one is ahead.
pub(super) type Rank = (Reverse<i8>, Ticket);

/// The ticket of a newcomer that has none yet, as far as places are concerned.
pub(super) const NEWCOMER: Ticket = Ticket(u64::MAX);

/// Somebody who waits, or a newcomer who would.
#[derive(Clone, Debug)]
pub(super) struct Waiter<'a> {
    pub(super) rank: Rank,
    pub(super) wishes: &'a Wishes,
    pub(super) lines: Vec<&'a Domain>,
    /// The turn that it is made within.
    pub(super) parent: Option<Ticket>,
}

/// One of those who would wait for each other.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub(super) ticket: Ticket,
    pub(super) pid: u32,
    /// The line in which somebody waits for it.
    pub(super) has: Domain,
    /// Whether it has slots there; otherwise it is ahead.
    pub(super) has_slots: bool,
    /// In which line it waits, or a request within it.
    pub(super) waits_for: Domain,
}

impl Sequencer {
    /// Why a newcomer that has to wait would wait for ever, if so.
    pub(super) fn refusal_of_cycle(&self, arrival: Arrival<'_>, replaced: &[Ticket]) -> Option<Refusal> {
        let wishes = arrival.wishes();
        let parent = self.parent(arrival.request.peer.uid, wishes.within).map(|parent| parent.ticket);
        let rank = (Reverse(wishes.priority), NEWCOMER);
        let newcomer = Waiter { rank, wishes, lines: arrival.lines().collect(), parent };
        if !self.may_make_a_cycle(&newcomer) {
            return None;
        }
        let reach = self.reach(&newcomer, replaced, None);
        reach.closed_by?;
        let reached = reach.tickets().chain([NEWCOMER]).collect();
        let stuck = self.stuck(reached, Some(&newcomer), replaced);
        if !stuck.contains(&NEWCOMER) {
            return None;
        }
        self.circle(&newcomer, &self.reach(&newcomer, replaced, Some(&stuck)))
    }

    /// Whether anybody may wait for ever because of somebody who begins to wait now.
    fn may_make_a_cycle(&self, waiter: &Waiter<'_>) -> bool {
        let Reverse(priority) = waiter.rank.0;
        let is_passed = |domain: &&Domain| {
            self.lines.get(*domain).is_some_and(|line| line.order.ahead(priority) < line.order.len())
        };
        waiter.parent.is_some() || self.families.has_waiting() && waiter.lines.iter().any(is_passed)
    }

    /// After the lines have changed otherwise than by a newcomer: refuses the newest request of each circle that is
    /// within a turn, so that nobody waits for ever.
    pub(super) fn break_cycles(&mut self, out: &mut Vec<Effect>) {
        while let Some((ticket, refusal)) = self.find_cycle() {
            let Some(entry) = self.end(self.now, ticket, Outcome::Deadlock, None, out) else { return };
            out.extend(entry.connection.map(|connection| refusal.tell(connection, entry.about())));
            self.settle_lines_of(&entry, out);
        }
    }

    /// The like for one that an earlier daemon let in, maybe by another policy.
    pub(super) fn break_cycles_of(&mut self, ticket: Ticket, out: &mut Vec<Effect>) {
        let entry = self.tickets.get(&ticket).filter(|entry| entry.turn().is_none());
        if entry.is_some_and(|entry| self.may_make_a_cycle(&self.waiter(entry))) {
            self.break_cycles(out);
        }
    }

    fn find_cycle(&self) -> Option<(Ticket, Refusal)> {
        if !self.families.has_waiting() {
            return None;
        }
        let several_lines = self.wide.iter().map(|(.., ticket)| *ticket);
        let stuck = self.stuck(self.families.tickets().chain(several_lines).collect(), None, &[]);
        self.families.newest_waiting().filter(|ticket| stuck.contains(ticket)).find_map(|ticket| {
            let waiter = self.waiter(self.tickets.get(&ticket)?);
            Some((ticket, self.circle(&waiter, &self.reach(&waiter, &[], Some(&stuck)))?))
        })
    }

    /// A ticket that waits.
    pub(super) fn waiter<'a>(&self, entry: &'a Entry) -> Waiter<'a> {
        let parent = self.parent(entry.uid, entry.wishes().within).map(|parent| parent.ticket);
        Waiter { rank: entry.rank(), wishes: entry.wishes(), lines: entry.lines().collect(), parent }
    }

    /// Spells out how a waiter would wait for itself, if it would.
    fn circle(&self, waiter: &Waiter<'_>, reach: &Reach<'_>) -> Option<Refusal> {
        let last = self.tickets.get(&reach.closed_by?)?;
        let passed = last.meeting(waiter).filter(|_| last.turn().is_none() && last.ticket != waiter.rank.1);
        let mut links: Vec<Link> = Vec::new();
        let mut would_wait_for: Domain = (*passed.or(waiter.lines.first().copied())?).clone();
        let mut at = Some(last.ticket);
        // From the end: what each waits for is known when it is come to.
        while let Some(ticket) = at {
            let Some((from, line)) = reach.step(ticket) else { break };
            if let (Some(has), Some(entry)) = (line, self.tickets.get(&ticket)) {
                let waits_for = std::mem::replace(&mut would_wait_for, has.clone());
                let has_slots = entry.turn().is_some() || is_guest_in(entry.guests(), has);
                links.push(Link { ticket, pid: entry.pid, has: has.clone(), has_slots, waits_for });
            }
            at = *from;
        }
        links.reverse();
        Some(Refusal::WouldDeadlock { links, passed: passed.cloned(), would_wait_for })
    }
}

impl Entry {
    pub(super) fn rank(&self) -> Rank {
        (Reverse(self.wishes().priority), self.ticket)
    }

    /// Whether it waits behind `waiter` in a line.
    pub(super) fn waits_behind(&self, waiter: &Waiter<'_>) -> bool {
        self.turn().is_none() && self.rank() > waiter.rank && self.meeting(waiter).is_some()
    }

    /// A line in which both stand.
    fn meeting<'a>(&self, waiter: &Waiter<'a>) -> Option<&'a Domain> {
        waiter.lines.iter().copied().find(|domain| self.lines().any(|line| line == *domain))
    }
}
