//! Deadlocks, found before they are made.
//!
//! A turn waits for the requests made within it, for it may not end before they do. A request that waits, waits in each
//! of its lines for whoever has slots there, and for whoever is ahead. A newcomer that would wait for itself is
//! refused. Only requests in several lines, and those within turns, lead from one line to another, so no others are
//! looked at.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::protocol::{Domain, Ticket};

use super::nested::Arrival;
use super::refusal::Refusal;
use super::ticket::Entry;
use super::{Sequencer, Wishes};

/// Waiters that stand in more than one line, by line and place.
pub(super) type Wide = BTreeSet<(Domain, Reverse<i8>, Ticket)>;

/// A place in any line: whoever has a lesser one is ahead.
type Rank = (Reverse<i8>, Ticket);

/// One of those who would wait for each other.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub(super) ticket: Ticket,
    pub(super) pid: u32,
    /// The line in which somebody waits for it.
    pub(super) has: Domain,
    /// Whether it has its turn there; otherwise it is ahead.
    pub(super) has_turn: bool,
    /// In which line it waits, or a request within it.
    pub(super) waits_for: Domain,
}

/// How the search came to a ticket: from whom, if not from the newcomer itself, and in which line that waits for it;
/// none if it was made within that.
type Step = (Option<Ticket>, Option<Domain>);

#[derive(Default)]
struct Search {
    /// The turn that the newcomer is made within.
    parent: Option<Ticket>,
    came_from: BTreeMap<Ticket, Step>,
    /// How far each line has been looked at.
    seen: BTreeMap<Domain, Rank>,
    /// Who is not gone on from yet.
    open: Vec<Ticket>,
}

impl Sequencer {
    /// Why a newcomer that has to wait would wait for ever, if so.
    pub(super) fn refusal_of_cycle(&self, arrival: Arrival<'_>, replaced: &[Ticket]) -> Option<Refusal> {
        let Wishes { within, priority, .. } = *arrival.wishes();
        let parent = self.parent(arrival.request.peer.uid, within).map(|parent| parent.ticket);
        let is_behind =
            |domain: &Domain| self.lines.get(domain).is_some_and(|line| line.order.ahead(priority) < line.order.len());
        let passes_somebody = arrival.lines().count() > 1 && arrival.lines().any(is_behind);
        if parent.is_none() && !passes_somebody {
            return None;
        }
        let mut search = Search { parent, ..Search::default() };
        for domain in arrival.lines() {
            self.look_at((domain, (Reverse(priority), Ticket(u64::MAX))), None, replaced, &mut search);
        }
        while let Some(ticket) = search.open.pop() {
            let entry = self.tickets.get(&ticket)?;
            if parent == Some(ticket) || waits_for_newcomer(entry, arrival) {
                return Some(self.cycle(entry, arrival, &search));
            }
            if entry.turn().is_some() {
                for child in self.families.children(ticket).filter(|child| !replaced.contains(child)) {
                    search.come_to(child, (Some(ticket), None));
                }
            } else {
                for domain in entry.lines() {
                    self.look_at((domain, entry.rank()), Some(ticket), replaced, &mut search);
                }
            }
        }
        None
    }

    /// Comes to whoever `from` waits for in a line, if anybody else depends on those.
    fn look_at(&self, (domain, rank): (&Domain, Rank), from: Option<Ticket>, replaced: &[Ticket], search: &mut Search) {
        let Some(line) = self.lines.get(domain) else { return };
        let before = search.seen.get(domain).copied();
        let (priority, ticket) = before.unwrap_or((Reverse(i8::MAX), Ticket(0)));
        if before.is_some() && rank <= (priority, ticket) {
            return;
        }
        search.seen.insert(domain.clone(), rank);
        let ahead = (domain.clone(), priority, ticket)..(domain.clone(), rank.0, rank.1);
        for (.., ticket) in self.wide.range(ahead).filter(|(.., ticket)| !replaced.contains(ticket)) {
            search.come_to(*ticket, (from, Some(domain.clone())));
        }
        if before.is_none() {
            let parent = search.parent.filter(|parent| {
                self.tickets.get(parent).is_some_and(|parent| parent.names().any(|name| name == domain))
            });
            let guests = line.hosting.values().flat_map(|hosting| hosting.guests.iter().copied());
            let guests = guests.filter(|guest| !replaced.contains(guest));
            for ticket in self.families.parents_in(domain).chain(parent).chain(guests) {
                search.come_to(ticket, (from, Some(domain.clone())));
            }
        }
    }

    /// Spells out how the newcomer would wait for itself, by way of `last`.
    fn cycle(&self, last: &Entry, arrival: Arrival<'_>, search: &Search) -> Refusal {
        let passed = meeting(last, arrival).filter(|_| last.turn().is_none());
        let mut links: Vec<Link> = Vec::new();
        let mut would_wait_for = passed.unwrap_or(&arrival.request.domain).clone();
        let mut at = Some(last.ticket);
        // From the end: what each waits for is known when it is come to.
        while let Some(ticket) = at {
            let Some((from, line)) = search.came_from.get(&ticket) else { break };
            if let (Some(has), Some(entry)) = (line, self.tickets.get(&ticket)) {
                let waits_for = std::mem::replace(&mut would_wait_for, has.clone());
                let has_turn = entry.turn().is_some();
                links.push(Link { ticket, pid: entry.pid, has: has.clone(), has_turn, waits_for });
            }
            at = *from;
        }
        links.reverse();
        Refusal::WouldDeadlock { links, passed: passed.cloned(), would_wait_for }
    }
}

impl Search {
    fn come_to(&mut self, ticket: Ticket, step: Step) {
        if let std::collections::btree_map::Entry::Vacant(vacant) = self.came_from.entry(ticket) {
            vacant.insert(step);
            self.open.push(ticket);
        }
    }
}

impl Entry {
    pub(super) fn rank(&self) -> Rank {
        (Reverse(self.wishes().priority), self.ticket)
    }
}

/// Whether a waiter stands behind the newcomer in a line.
fn waits_for_newcomer(entry: &Entry, arrival: Arrival<'_>) -> bool {
    let is_behind = entry.turn().is_none() && entry.wishes().priority < arrival.wishes().priority;
    is_behind && meeting(entry, arrival).is_some()
}

/// A line in which both stand.
fn meeting<'a>(entry: &Entry, arrival: Arrival<'a>) -> Option<&'a Domain> {
    arrival.lines().find(|domain| entry.lines().any(|line| line == *domain))
}
