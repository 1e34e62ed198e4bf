//! Requests within turns, and who waits for whom.

use seq::protocol::{Domain, Ticket};
use seq::sequencer::{Enqueue, Guest, Which, Within};

use super::{Model, Request, named};

impl Model {
    /// The turn that this is within.
    pub(super) fn parent(&self, uid: u32, within: Option<Within>) -> Option<usize> {
        let within = within?;
        self.requests.iter().position(|request| {
            let token = request.turn.map(|(token, _)| token);
            request.ticket == within.ticket.0 && token == Some(within.token.0) && request.uid == uid
        })
    }

    pub(super) fn ancestors(&self, uid: u32, within: Option<Within>) -> Vec<usize> {
        let mut ancestors = Vec::new();
        let mut next = self.parent(uid, within);
        while let Some(index) = next {
            ancestors.push(index);
            next = self.parent(uid, self.requests[index].wishes.within);
        }
        ancestors
    }

    pub(super) fn is_ancestor(&self, ask: &Enqueue, index: usize) -> bool {
        self.ancestors(ask.peer.uid, ask.wishes.within).contains(&index)
    }

    /// What a newcomer has already.
    pub(super) fn guests_of(&self, ask: &Enqueue) -> Vec<Guest> {
        let mut guests = Vec::new();
        for domain in named(&ask.domain, &ask.wishes) {
            let ancestors = self.ancestors(ask.peer.uid, ask.wishes.within);
            let Some(has) = ancestors.into_iter().find(|index| self.requests[*index].is_in(&domain)) else { continue };
            let has = &self.requests[has];
            let as_guest = has.guests.iter().find(|guest| guest.domain == domain).cloned();
            guests.push(as_guest.unwrap_or(Guest {
                domain,
                host: Ticket(has.ticket),
                token: seq::protocol::Token(has.turn.unwrap().0),
                take: has.wishes.take,
                shared: has.wishes.shared,
            }));
        }
        guests
    }

    /// Where a newcomer has to stand.
    pub(super) fn lines_of(&self, ask: &Enqueue) -> Vec<Domain> {
        let guests = self.guests_of(ask);
        let mut lines = named(&ask.domain, &ask.wishes);
        lines.retain(|domain| !guests.iter().any(|guest| guest.domain == *domain));
        lines
    }

    /// Whose slots are taken in a domain, how many, and whether they are shared.
    pub(super) fn slots_of(&self, domain: &Domain) -> Vec<(u64, u32, bool)> {
        let mut slots: Vec<(u64, u32, bool)> = Vec::new();
        for request in &self.requests {
            if request.turn.is_some() && request.stands_in(domain) {
                slots.push((request.ticket, request.wishes.take, request.wishes.shared));
            }
        }
        for guest in self.requests.iter().flat_map(|request| &request.guests) {
            let is_known = slots.iter().any(|(host, ..)| *host == guest.host.0);
            if guest.domain == *domain && !is_known {
                slots.push((guest.host.0, guest.take, guest.shared));
            }
        }
        slots
    }

    /// Who ends when `named` is released, the newest first: whoever has slots by one that ends, and with a domain alone
    /// whoever has its slots there.
    pub(super) fn released_with(&self, named: &Request, which: &Which) -> Vec<u64> {
        let in_line = |guest: &&Guest| matches!(which, Which::Domain(domain) if *domain == guest.domain);
        let here = named.guests.iter().find(in_line);
        let is_beside =
            |guest: &Guest| here.is_some_and(|here| (&here.domain, here.host) == (&guest.domain, guest.host));
        let mut all = vec![named.ticket];
        loop {
            let is_host = |guest: &Guest| {
                let host = self.requests.iter().find(|request| request.ticket == guest.host.0);
                host.is_some_and(|host| all.contains(&host.ticket) && host.stands_in(&guest.domain))
            };
            let has_by_these = |guest: &Guest| is_beside(guest) || is_host(guest);
            let more: Vec<u64> = self
                .requests
                .iter()
                .filter(|request| request.guests.iter().any(has_by_these))
                .map(|request| request.ticket)
                .filter(|ticket| !all.contains(ticket))
                .collect();
            if more.is_empty() {
                break;
            }
            all.extend(more);
        }
        all.sort_unstable_by_key(|ticket| std::cmp::Reverse(*ticket));
        all
    }

    /// Whether a newcomer would wait for itself. It is number `requests.len()`.
    pub(super) fn would_deadlock(&self, ask: &Enqueue) -> bool {
        let replaced = self.replaced_by(ask);
        let newcomer = self.requests.len();
        let lines = self.lines_of(ask);
        let rank = |index: usize| match self.requests.get(index) {
            Some(request) => (-i16::from(request.wishes.priority), request.ticket),
            None => (-i16::from(ask.wishes.priority), u64::MAX),
        };
        let stands_in = |index: usize, domain: &Domain| match self.requests.get(index) {
            Some(request) => request.turn.is_none() && request.stands_in(domain),
            None => lines.contains(domain),
        };
        let lines_of = |index: usize| match self.requests.get(index) {
            Some(request) if request.turn.is_some() => Vec::new(),
            Some(request) => request.lines(),
            None => lines.clone(),
        };
        let is_child = |child: usize, parent: usize| match self.requests.get(child) {
            Some(request) => self.parent(request.uid, request.wishes.within) == Some(parent),
            None => self.parent(ask.peer.uid, ask.wishes.within) == Some(parent),
        };
        let waits_for = |one: usize, other: usize| {
            if one == other || replaced.contains(&other) {
                return false;
            }
            let in_line = |domain: &Domain| {
                let has_slots = self.requests.get(other).is_some_and(|request| {
                    request.is_in(domain) && (request.turn.is_some() || !request.stands_in(domain))
                });
                has_slots || stands_in(other, domain) && rank(other) < rank(one)
            };
            one < newcomer && self.requests[one].turn.is_some() && is_child(other, one)
                || lines_of(one).iter().any(in_line)
        };
        let mut seen = vec![newcomer];
        let mut next = 0;
        while next < seen.len() {
            let one = seen[next];
            next += 1;
            for other in 0..=newcomer {
                if waits_for(one, other) {
                    if other == newcomer {
                        return true;
                    }
                    if !seen.contains(&other) {
                        seen.push(other);
                    }
                }
            }
        }
        false
    }
}

impl Model {
    /// Nobody waits for itself: whoever waits for nobody is taken away, again and again, until nobody is left.
    pub(crate) fn check_no_cycle(&self) {
        let mut left: Vec<usize> = (0..self.requests.len()).collect();
        loop {
            let waits = |one: &usize| left.iter().any(|other| self.waits_for(*one, *other));
            let still: Vec<usize> = left.iter().copied().filter(waits).collect();
            if still.len() == left.len() {
                break;
            }
            left = still;
        }
        let tickets: Vec<u64> = left.iter().map(|index| self.requests[*index].ticket).collect();
        assert!(tickets.is_empty(), "these wait for each other: {tickets:?}");
    }

    fn waits_for(&self, one: usize, other: usize) -> bool {
        let rank = |request: &Request| (-i16::from(request.wishes.priority), request.ticket);
        let (index, one, other) = (one, &self.requests[one], &self.requests[other]);
        if one.turn.is_some() {
            return self.parent(other.uid, other.wishes.within) == Some(index);
        }
        one.ticket != other.ticket
            && one.lines().iter().any(|domain| {
                let waits_there = other.turn.is_none() && other.stands_in(domain);
                other.is_in(domain) && (!waits_there || rank(other) < rank(one))
            })
    }
}

impl Request {
    /// Whether it has no slots of others there.
    pub(super) fn stands_in(&self, domain: &Domain) -> bool {
        self.lines().contains(domain)
    }

    pub(super) fn lines(&self) -> Vec<Domain> {
        let mut lines = self.domains();
        lines.retain(|domain| !self.guests.iter().any(|guest| guest.domain == *domain));
        lines
    }
}
