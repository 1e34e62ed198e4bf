//! What must always be true, checked in release builds too.
//!
//! Reliability rule 9: a sequencer that finds itself wrong panics rather than give a turn twice; the daemon logs that
//! and ends, and the next one starts from what is written down. The checks after each operation look only at the
//! heads of the line that was touched.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use crate::protocol::{Domain, Ticket};

use super::connections::Attached;
use super::line::Line;
use super::nested::Who;
use super::ticket::{Entry, State};
use super::timers::Timer;
use super::{Obstacle, Sequencer};

impl Sequencer {
    /// Before a turn is given: it is the head's in each of its lines, it fits in, and its number is larger than any
    /// before.
    pub(super) fn check_grant(&self, entry: &Entry) {
        assert!(!self.away.has(entry.ticket), "ticket {} is away", entry.ticket);
        for domain in entry.lines() {
            self.check_grant_in(entry, domain);
        }
    }

    fn check_grant_in(&self, entry: &Entry, domain: &Domain) {
        let (ticket, wishes) = (entry.ticket, entry.wishes());
        let Some(line) = self.lines.get(domain) else { panic!("ticket {ticket} stands in no line") };
        let (takes, slots) = (wishes.take, line.policy.slots());
        if wishes.shared {
            assert_eq!(line.writers, 0, "somebody has {domain} alone");
        } else {
            let fits = line.readers == 0 && line.used + u64::from(takes.min(slots)) <= u64::from(slots);
            assert!(fits, "{takes} slots of {domain} are not free: {} of {slots} are taken", line.used);
        }
        assert!(!self.pauses.contains_key(domain), "{domain} is paused");
        assert_eq!(line.past.awaited_start(&line.policy), None, "a turn in {domain} has to begin first");
        assert_eq!(line.rest(self.present), None, "{domain} rests");
        assert_eq!(line.order.head(), Some(ticket), "ticket {ticket} would pass the head of {domain}");
        let is_larger = line.last_token.is_none_or(|last| last < self.next_token);
        assert!(is_larger, "token {} does not rise in {domain}", self.next_token);
    }

    /// After an operation: nobody waits beside a turn that is free, all states agree.
    pub(super) fn check_line(&self, domain: &Domain) {
        let Some(line) = self.lines.get(domain) else { return };
        let waiters = line.order.len();
        assert!(!line.is_idle(), "{domain} is kept though nobody uses it");
        assert!(self.due(domain).is_none(), "{domain} has {waiters} waiters beside a free turn");
        assert_eq!(line.writers == 0, line.used == 0, "{domain} has {} turns with {} slots", line.writers, line.used);
        if let Some(holder) = line.oldest_holder() {
            let is_active = self.holder(holder).is_some_and(|(entry, _)| entry.is_kept());
            assert!(is_active, "ticket {holder} holds {domain} without a turn, or without anything that keeps it");
        }
        if let Some(head) = line.order.head() {
            let waits = self.tickets.get(&head).is_some_and(|entry| entry.turn().is_none());
            assert!(waits, "ticket {head} is in the line of {domain} but does not wait");
        }
    }

    /// Checks everything against everything, in time that grows with all there is: for tests.
    ///
    /// # Panics
    ///
    /// When anything is wrong.
    pub fn check_invariants(&self) {
        let (mut deadlines, mut attached, mut steps, mut waiting, mut places) = (0, self.waits.len(), 0, 0, 0);
        for (domain, line) in &self.lines {
            self.check_line(domain);
            self.check_order(domain, line);
            self.check_slots(domain, line);
            let own = line.holders.iter().filter_map(|(_, holder)| self.tickets.get(holder));
            let own = own.filter(|entry| entry.is_to_begin() && entry.lines().any(|name| name == domain));
            line.past.check(&own.map(|entry| entry.ticket).collect());
            let inner = line.waits.iter().filter(|wait| self.waits.get(wait).is_some_and(|it| it.parent.is_some()));
            assert_eq!(line.inner_waits, inner.count(), "waits within turns are counted");
            assert_eq!(line.policy, self.policies.resolve(domain), "the policy of {domain} is in force");
            places += line.order.len();
            let head = line.order.head().and_then(|head| self.tickets.get(&head));
            let rest = match head.and_then(|head| self.obstacle_in(domain, line, head.wishes())) {
                Some(Obstacle::Rest(rest)) => Some(rest.until),
                _ => None,
            };
            assert_eq!(line.rest_due, rest, "{domain} is looked at again when it has rested");
            if let Some(due) = line.rest_due {
                assert!(self.timers.has(due, Timer::Line(domain.clone())), "the rest of {domain} is forgotten");
                deadlines += 1;
            }
            assert!(!self.resting.has(domain), "{domain} is in use");
            if let Some(due) = line.round.due {
                assert!(self.rounds.has(due, domain), "the round of {domain} is forgotten");
                steps += 1;
            }
        }
        let (mut away, mut unclaimed, mut superseding) = (0, 0, 0);
        let (mut in_lines, mut waiting_in_lines, mut wide, mut children, mut within) = (0, 0, 0, 0, 0);
        let mut parents = BTreeSet::new();
        for entry in self.tickets.values() {
            self.check_entry(entry);
            for domain in entry.lines() {
                in_lines += 1;
                waiting_in_lines += usize::from(entry.turn().is_none());
                if let Some(group) = &entry.wishes().supersede {
                    superseding += 1;
                    assert!(self.groups.has(domain, entry.uid, group, entry.ticket), "a group has lost a member");
                }
            }
            waiting += usize::from(entry.turn().is_none());
            within += usize::from(entry.turn().is_none() && entry.is_within());
            in_lines += entry.guests().len();
            if entry.turn().is_none() && entry.lines().nth(1).is_some() {
                wide += entry.lines().count();
            }
            let parent = self.parent(entry.uid, entry.wishes().within);
            if let Some(parent) = parent {
                children += 1;
                parents.extend(parent.names().map(|domain| (domain, parent.ticket)));
                let is_known = self.families.children(parent.ticket).any(|child| child == Who::Ticket(entry.ticket));
                assert!(is_known, "ticket {} is a child of ticket {}", entry.ticket, parent.ticket);
            }
            deadlines += usize::from(entry.deadline().is_some());
            attached += usize::from(entry.connection.is_some());
            away += usize::from(entry.is_away());
            let secret = entry.secret.filter(|_| entry.connection.is_none());
            unclaimed += usize::from(secret.is_some());
            let can_be_claimed = secret.is_none_or(|secret| self.unclaimed.contains(&(secret, entry.ticket)));
            assert!(can_be_claimed, "ticket {} cannot be claimed", entry.ticket);
        }
        for (id, wait) in &self.waits {
            assert!(self.connections.has(wait.connection, Attached::Wait(*id)));
            assert!(self.lines.get(&wait.domain).is_some_and(|line| line.waits.contains(id)));
            deadlines += usize::from(wait.deadline.is_some());
            within += usize::from(wait.parent.is_some());
            if let Some((parent, _)) = wait.parent.and_then(|parent| self.holder(parent)) {
                children += 1;
                parents.extend(parent.names().map(|domain| (domain, parent.ticket)));
                let is_known = self.families.children(parent.ticket).any(|child| child == Who::Wait(*id));
                assert!(is_known, "a wait is a child of ticket {}", parent.ticket);
            }
        }
        self.resting.check();
        self.keys.check(&self.timers);
        deadlines += self.keys.deadlines();
        attached += self.keys.followers.len();
        let everybody = self.tickets.keys().map(Who::Ticket);
        let everybody = everybody.chain(self.waits.keys().map(|wait| Who::Wait(*wait)));
        let nobody = self.stuck(everybody.collect(), None, &[]);
        assert!(nobody.is_empty(), "these wait for each other: {nobody:?}");
        assert_eq!(self.wide.len(), wide, "whoever stands in several lines is known for that");
        assert_eq!(self.families.len(), (children, parents.len(), within), "families are known");
        assert_eq!(in_lines, self.tickets.names(), "every ticket is known in each of its lines, and nowhere else");
        assert_eq!(places, waiting_in_lines, "every waiter stands in each of its lines");
        assert_eq!(self.waiting, waiting, "waiters are counted");
        assert_eq!(self.unclaimed.len(), unclaimed, "every secret without a client belongs to somebody");
        assert_eq!(self.groups.len(), superseding, "every member of a group lives");
        assert_eq!(self.away.len(), away, "everybody away waits");
        assert_eq!(self.away.until().is_some(), away > 0, "those away are given up some time");
        if let Some(until) = self.away.until() {
            assert!(self.timers.has(until, Timer::Away), "the grace is forgotten");
            deadlines += 1;
        }
        assert_eq!(self.timers.len(), deadlines, "every deadline belongs to somebody");
        assert_eq!(self.connections.len(), attached, "every attachment belongs to somebody");
        assert_eq!(self.rounds.len(), steps, "every round belongs to a line");
    }

    fn check_entry(&self, entry: &Entry) {
        let Entry { ticket, request_id, .. } = entry;
        for domain in entry.lines() {
            let line = self.lines.get(domain).expect("a ticket has a line");
            assert_eq!(
                self.tickets.of_request(domain, request_id),
                Some(*ticket),
                "request {request_id} leads to its ticket"
            );
            let holds = entry.turn().is_some_and(|turn| line.holders.contains(&(turn.token, *ticket)));
            let waits = line.order.position(*ticket, entry.wishes().priority).is_some();
            match &entry.state {
                State::Waiting(_) => assert!(waits && !holds && entry.may_wait(), "ticket {ticket} waits"),
                State::Active(_) => assert!(holds && !waits && entry.is_kept(), "ticket {ticket} holds"),
            }
        }
        for guest in entry.guests() {
            let line = self.lines.get(&guest.domain).expect("a guest has a line");
            assert_eq!(
                self.tickets.of_request(&guest.domain, request_id),
                Some(*ticket),
                "request {request_id} leads to its ticket"
            );
            let is_guest = line.hosting.get(&guest.host).is_some_and(|hosting| hosting.guests.contains(ticket));
            assert!(is_guest, "ticket {ticket} is a guest in {}", guest.domain);
            let holds = entry.turn().is_some_and(|turn| line.holders.contains(&(turn.token, *ticket)));
            assert_eq!(holds, entry.turn().is_some(), "ticket {ticket} has its turn in {}", guest.domain);
        }
        assert_eq!(self.away.has(*ticket), entry.is_away(), "ticket {ticket} is away");
        if let Some(due) = entry.deadline() {
            assert!(self.timers.has(due, Timer::Ticket(*ticket)), "the deadline of ticket {ticket} is forgotten");
        }
        if let Some(connection) = entry.connection {
            assert!(self.connections.has(connection, Attached::Ticket(*ticket)), "ticket {ticket} is attached");
        }
        assert!(*ticket < self.next_ticket, "ticket {ticket} was given out");
    }

    /// Slots are counted once for each turn that has its own, or left them to others.
    fn check_slots(&self, domain: &Domain, line: &Line) {
        let own = line.holders.iter().filter_map(|(_, holder)| self.tickets.get(holder));
        let own = own.filter(|entry| entry.lines().any(|name| name == domain));
        let own: Vec<(u32, bool)> = own.map(|entry| (entry.wishes().take, entry.wishes().shared)).collect();
        let left = line.hosting.values().filter(|hosting| !hosting.has_host);
        let slots: Vec<(u32, bool)> = own.into_iter().chain(left.map(|it| (it.take, it.shared))).collect();
        let (readers, others): (Vec<_>, Vec<_>) = slots.into_iter().partition(|(_, shared)| *shared);
        assert_eq!((line.readers, line.writers), (readers.len(), others.len()), "turns in {domain} are counted");
        let used: u64 = others.iter().map(|(take, _)| u64::from(*take)).sum();
        assert_eq!(line.used, used, "the slots of {domain} are counted");
        for (host, hosting) in &line.hosting {
            let is_there = self.holder(*host).is_some_and(|(host, _)| host.lines().any(|line| line == domain));
            assert_eq!(hosting.has_host, is_there, "ticket {host} has its slots of {domain}");
            assert!(!hosting.guests.is_empty(), "ticket {host} has guests in {domain}");
        }
    }

    fn check_order(&self, domain: &Domain, line: &Line) {
        let waiters: Vec<Ticket> = line.order.iter().collect();
        assert_eq!(waiters.len(), line.order.len(), "waiters of {domain} are counted");
        let priority = |ticket: &Ticket| self.tickets.get(ticket).map_or(0, |entry| entry.wishes().priority);
        assert!(waiters.is_sorted_by_key(|ticket| (Reverse(priority(ticket)), *ticket)), "{domain} is in order");
        for (index, ticket) in waiters.iter().enumerate() {
            let place = line.order.position(*ticket, priority(ticket));
            assert_eq!(place, Some(index + 1), "ticket {ticket} knows its place");
        }
        for ticket in &line.round.subscribers {
            let waits = line.order.position(*ticket, priority(ticket)).is_some();
            assert!(waits, "ticket {ticket} asks for places but does not wait");
        }
        let is_for_somebody = line.round.due.is_none() || !line.round.subscribers.is_empty();
        assert!(is_for_somebody, "the round of {domain} is for nobody");
    }
}
