//! Whom somebody waits for, and whom those wait for in turn.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::protocol::{Domain, Ticket};

use super::Sequencer;
use super::cycle::{Rank, Waiter};

/// How the search came to a ticket: from whom, if not from the waiter itself, and in which line that waits for it;
/// none if it was made within that.
type Step = (Option<Ticket>, Option<Domain>);

/// All that a waiter may have to wait for.
pub(super) struct Reach<'a> {
    waiter: &'a Waiter<'a>,
    /// Those who are as good as gone.
    replaced: &'a [Ticket],
    /// If it is known who never goes on: only those, and only where somebody really waits for them.
    stuck: Option<&'a BTreeSet<Ticket>>,
    came_from: BTreeMap<Ticket, Step>,
    /// How far each line has been looked at.
    seen: BTreeMap<Domain, Rank>,
    /// Who is not gone on from yet.
    open: Vec<Ticket>,
    /// Who was come to first of those that wait for the waiter.
    pub(super) closed_by: Option<Ticket>,
}

impl Reach<'_> {
    pub(super) fn tickets(&self) -> impl Iterator<Item = Ticket> + '_ {
        self.came_from.keys().copied()
    }

    pub(super) fn step(&self, ticket: Ticket) -> Option<&Step> {
        self.came_from.get(&ticket)
    }

    fn come_to(&mut self, ticket: Ticket, step: Step) {
        if self.replaced.contains(&ticket) || self.stuck.is_some_and(|stuck| !stuck.contains(&ticket)) {
            return;
        }
        if let std::collections::btree_map::Entry::Vacant(vacant) = self.came_from.entry(ticket) {
            vacant.insert(step);
            self.open.push(ticket);
        }
    }
}

impl Sequencer {
    /// Goes to everybody whom `waiter` waits for, if anybody else depends on those.
    pub(super) fn reach<'a>(
        &self,
        waiter: &'a Waiter<'a>,
        replaced: &'a [Ticket],
        stuck: Option<&'a BTreeSet<Ticket>>,
    ) -> Reach<'a> {
        let (came_from, seen, open) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        let mut reach = Reach { waiter, replaced, stuck, came_from, seen, open, closed_by: None };
        self.look_from(waiter, None, &mut reach);
        while let Some(ticket) = reach.open.pop() {
            let Some(entry) = self.tickets.get(&ticket) else { continue };
            let is_itself = waiter.parent == Some(ticket) || waiter.rank.1 == ticket;
            if is_itself || entry.waits_behind(waiter) {
                reach.closed_by = reach.closed_by.or(Some(ticket));
            }
            if entry.turn().is_some() {
                for child in self.families.children(ticket) {
                    reach.come_to(child, (Some(ticket), None));
                }
            } else {
                self.look_from(&self.waiter(entry), Some(ticket), &mut reach);
            }
        }
        reach
    }

    fn look_from(&self, waiter: &Waiter<'_>, from: Option<Ticket>, reach: &mut Reach<'_>) {
        for domain in &waiter.lines {
            self.look_at(domain, waiter, from, reach);
        }
    }

    /// Comes to whoever has slots in a line, and to whoever is ahead there.
    fn look_at(&self, domain: &Domain, waiter: &Waiter<'_>, from: Option<Ticket>, reach: &mut Reach<'_>) {
        let Some(line) = self.lines.get(domain) else { return };
        let before = reach.seen.get(domain).copied();
        let (priority, ticket) = before.unwrap_or((Reverse(i8::MAX), Ticket(0)));
        if before.is_some() && waiter.rank <= (priority, ticket) {
            return;
        }
        reach.seen.insert(domain.clone(), waiter.rank);
        let ahead = (domain.clone(), priority, ticket)..(domain.clone(), waiter.rank.0, waiter.rank.1);
        for (.., ticket) in self.wide.range(ahead) {
            reach.come_to(*ticket, (from, Some(domain.clone())));
        }
        let looks_for_slots = match reach.stuck {
            None => before.is_none(),
            Some(stuck) => !self.room(domain, stuck, Some(reach.waiter), reach.replaced).lets_in(waiter),
        };
        if looks_for_slots {
            let guests = line.hosting.values().flat_map(|hosting| hosting.guests.iter().copied());
            for ticket in self.parents_in(domain, Some(reach.waiter)).chain(guests) {
                reach.come_to(ticket, (from, Some(domain.clone())));
            }
        }
    }

    /// The turns in a line that have requests made within them, that of `waiter` included.
    pub(super) fn parents_in<'a>(
        &'a self,
        domain: &'a Domain,
        waiter: Option<&Waiter<'_>>,
    ) -> impl Iterator<Item = Ticket> + 'a {
        let parent = waiter.and_then(|waiter| self.tickets.get(&waiter.parent?));
        let parent = parent.filter(|parent| parent.names().any(|name| name == domain)).map(|parent| parent.ticket);
        let others = self.families.parents_in(domain).filter(move |other| Some(*other) != parent);
        others.chain(parent)
    }
}
