//! Whom somebody waits for, and whom those wait for in turn.

use std::cmp::Reverse;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use crate::protocol::{Domain, Ticket};

use super::Sequencer;
use super::cycle::{Goal, Rank, Waiter};
use super::nested::Who;

/// How the search came to somebody: from whom, if not from the waiter itself, and what that waits for because of it; none
/// if it was made within that.
type Step = (Option<Who>, Option<Goal>);

/// All that a waiter may have to wait for.
pub(super) struct Reach<'a> {
    waiter: &'a Waiter<'a>,
    /// Those who are as good as gone.
    replaced: &'a [Ticket],
    /// If it is known who never goes on: only those, and only where somebody really waits for them.
    stuck: Option<&'a BTreeSet<Who>>,
    came_from: BTreeMap<Who, Step>,
    /// How far each line has been looked at.
    seen: BTreeMap<Domain, Rank>,
    /// Who is not gone on from yet.
    open: Vec<Who>,
    /// Who was come to first of those that wait for the waiter.
    pub(super) closed_by: Option<Who>,
}

impl Reach<'_> {
    pub(super) fn members(&self) -> impl Iterator<Item = Who> + '_ {
        self.came_from.keys().copied()
    }

    pub(super) fn step(&self, who: Who) -> Option<&Step> {
        self.came_from.get(&who)
    }

    fn come_to(&mut self, who: Who, step: Step) {
        let is_replaced = who.ticket().is_some_and(|ticket| self.replaced.contains(&ticket));
        if is_replaced || self.stuck.is_some_and(|stuck| !stuck.contains(&who)) {
            return;
        }
        if let Entry::Vacant(vacant) = self.came_from.entry(who) {
            vacant.insert(step);
            self.open.push(who);
        }
    }
}

impl Sequencer {
    /// Goes to everybody whom `waiter` waits for, if anybody else depends on those.
    pub(super) fn reach<'a>(
        &self,
        waiter: &'a Waiter<'a>,
        replaced: &'a [Ticket],
        stuck: Option<&'a BTreeSet<Who>>,
    ) -> Reach<'a> {
        let (came_from, seen, open) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        let mut reach = Reach { waiter, replaced, stuck, came_from, seen, open, closed_by: None };
        self.look_from(waiter, None, &mut reach);
        while let Some(who) = reach.open.pop() {
            if self.waits_for(who, waiter) {
                reach.closed_by = reach.closed_by.or(Some(who));
            }
            if let Some(waiter) = self.waiter_of(who) {
                self.look_from(&waiter, Some(who), &mut reach);
            } else if let Some(turn) = who.ticket() {
                for child in self.families.children(turn) {
                    reach.come_to(child, (Some(who), None));
                }
                for (ticket, key) in self.keys.awaited_within(turn) {
                    reach.come_to(Who::Ticket(ticket), (Some(who), Some(Goal::Key(key.clone()))));
                }
            }
        }
        reach
    }

    fn look_from(&self, waiter: &Waiter<'_>, from: Option<Who>, reach: &mut Reach<'_>) {
        for domain in &waiter.lines {
            self.look_at(domain, waiter, from, reach);
        }
        if let Some((ticket, key)) = waiter.follows {
            reach.come_to(Who::Ticket(ticket), (from, Some(Goal::Key(key.clone()))));
        }
    }

    /// Comes to whoever has slots in a line, and to whoever is ahead there.
    fn look_at(&self, domain: &Domain, waiter: &Waiter<'_>, from: Option<Who>, reach: &mut Reach<'_>) {
        let Some(line) = self.lines.get(domain) else { return };
        let before = reach.seen.get(domain).copied();
        let seen = before.unwrap_or((Reverse(i8::MAX), Who::Ticket(Ticket(0))));
        if before.is_some() && waiter.rank <= seen {
            return;
        }
        reach.seen.insert(domain.clone(), waiter.rank);
        for (_, (_, who)) in self.wide.range((domain.clone(), seen)..(domain.clone(), waiter.rank)) {
            reach.come_to(*who, (from, Some(waiter.goal_in(domain))));
        }
        let looks_for_slots = match reach.stuck {
            None => before.is_none(),
            Some(stuck) => !self.room(domain, stuck, Some(reach.waiter), reach.replaced).lets_in(waiter),
        };
        if looks_for_slots {
            let guests = line.hosting.values().flat_map(|hosting| hosting.guests.iter().copied());
            for ticket in self.parents_in(domain, Some(reach.waiter)).chain(guests) {
                reach.come_to(Who::Ticket(ticket), (from, Some(waiter.goal_in(domain))));
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
        let others = self.families.parents_in(domain).chain(self.followers_parents_in(domain));
        let others = others.filter(move |other| Some(*other) != parent);
        others.chain(parent)
    }
}
