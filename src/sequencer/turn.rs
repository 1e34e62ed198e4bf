//! How a turn begins and ends, and how a place in line is given up.

use std::collections::VecDeque;

use crate::clock::Time;
use crate::protocol::{Binding, Domain, Idle, Outcome, Reply, Ticket, Token};

use super::connections::Attached;
use super::line::Line;
use super::nested::Who;
use super::refusal::Refusal;
use super::ticket::{Entry, State, Turn};
use super::timers::Timer;
use super::{Change, Effect, Guest, PastChange, Sequencer};

impl Sequencer {
    /// The holder with this ticket, and its turn.
    pub(super) fn holder(&self, ticket: Ticket) -> Option<(&Entry, Turn)> {
        let entry = self.tickets.get(&ticket)?;
        Some((entry, entry.turn()?))
    }

    /// Brings a line to rest after a change: gives the turn to the next, or lets the line go when nobody is left.
    /// Whatever ended must be in `out` already. A turn in several lines lets the others be looked at as well.
    pub(super) fn settle(&mut self, domain: &Domain, out: &mut Vec<Effect>) {
        let mut others = VecDeque::new();
        self.settle_one(domain, &mut others, out);
        self.settle_all(others, out);
    }

    /// Brings several lines to rest, in this order.
    pub(super) fn settle_all(&mut self, mut lines: VecDeque<Domain>, out: &mut Vec<Effect>) {
        while let Some(domain) = lines.pop_front() {
            self.settle_one(&domain, &mut lines, out);
        }
    }

    /// Brings every line to rest that somebody stood in, or had a turn in.
    pub(super) fn settle_lines_of(&mut self, entry: &Entry, out: &mut Vec<Effect>) {
        self.settle_all(entry.names().cloned().collect(), out);
    }

    fn settle_one(&mut self, domain: &Domain, others: &mut VecDeque<Domain>, out: &mut Vec<Effect>) {
        while let Some(ticket) = self.due(domain) {
            self.grant(ticket, out);
            let entry = self.tickets.get(&ticket).into_iter();
            others.extend(entry.flat_map(Entry::lines).filter(|other| *other != domain).cloned());
        }
        if self.line(domain).is_some_and(Line::is_idle) {
            self.close(domain, out);
        }
        self.await_rest(domain);
        self.check_line(domain);
    }

    /// Gives a turn. One that has all its lines already keeps the number of the turn that it is within.
    pub(super) fn grant(&mut self, ticket: Ticket, out: &mut Vec<Effect>) {
        // After a suspend what ended the last turn may lie far back: this one has a whole lease before it all the same.
        let now = self.present;
        let Some(mut entry) = self.tickets.lend(&ticket) else {
            panic!("ticket {ticket} is next in a line but not known");
        };
        self.check_grant(&entry);
        let has_all_already = entry.lines().next().is_none();
        let token = entry.guests().first().filter(|_| has_all_already).map_or(self.next_token, |guest| guest.token);
        if !has_all_already {
            self.next_token = Token(token.0 + 1);
        }
        self.turns += 1;
        self.waiting -= 1;
        for domain in entry.lines() {
            self.take_out(now, (ticket, entry.wishes().priority), domain);
            if let Some(line) = self.lines.get_mut(domain) {
                line.hold(token, ticket, entry.wishes());
                line.past.started(now, &line.policy);
                if entry.keepers.says_started {
                    line.past.expect(ticket, now);
                }
            }
        }
        for guest in entry.guests() {
            if let Some(line) = self.lines.get_mut(&guest.domain) {
                line.hold_as_guest(token, ticket);
            }
        }
        self.forget_waiter(&entry);
        let max_run = entry.names().filter_map(|domain| self.lines.get(domain)?.policy.max_run).min();
        self.timers.clear(entry.deadline(), Timer::Ticket(ticket));
        let lease = entry.lease().filter(|_| entry.keepers.binding == Binding::Lease);
        let lease_until = lease.map(|lease| now + max_run.map_or(lease, |max_run| lease.min(max_run)));
        self.timers.set(lease_until, Timer::Ticket(ticket));
        let turn = Turn { token, active_at: now, lease_until, is_fresh: true };
        if max_run.is_some() {
            entry.extra_mut().max_run = max_run;
        }
        entry.state = State::Active(turn);
        out.push(entry.record(now, Change::Active { token, waited: entry.waited(now) }));
        self.key_started(&entry, turn, out);
        for domain in entry.lines().filter(|domain| self.rests(domain)) {
            out.push(Effect::Past(PastChange::Started { domain: domain.clone(), at: now }));
        }
        let key = self.key_of(ticket).map(|name| name.key.clone());
        if let Some(connection) = entry.connection {
            out.push(Effect::Tell { connection, reply: entry.active(turn, key, false) });
        }
        self.tickets.take_back(entry);
    }

    fn rests(&self, domain: &Domain) -> bool {
        self.lines.get(domain).is_some_and(|line| line.policy.rests())
    }

    /// Nobody was told of a turn before: all of it is still to come.
    pub(super) fn begins_now(&mut self, ticket: Ticket, out: &mut Vec<Effect>) {
        let now = self.present;
        let Some(entry) = self.tickets.get_mut(&ticket) else { return };
        let State::Active(turn) = &mut entry.state else { return };
        let before = std::mem::replace(&mut turn.active_at, now);
        let lease_until = turn.lease_until.map(|until| now + until.since(before));
        let due_before = std::mem::replace(&mut turn.lease_until, lease_until);
        self.timers.clear(due_before, Timer::Ticket(ticket));
        self.timers.set(lease_until, Timer::Ticket(ticket));
        out.push(Effect::Changed { ticket });
        self.move_start(ticket, before, out);
    }

    /// The start of a turn is now, and not when it was before.
    fn move_start(&mut self, ticket: Ticket, from: Time, out: &mut Vec<Effect>) {
        let to = self.present;
        for domain in self.lines_of(ticket) {
            let Some(line) = self.lines.get_mut(&domain) else { continue };
            if line.past.moved(ticket, from, to) && line.policy.rests() {
                out.push(Effect::Past(PastChange::Moved { domain: domain.clone(), from, to }));
            }
            self.await_rest(&domain);
        }
    }

    /// What the turn is for begins; only the first time counts. The caller settles its lines: others may have waited for
    /// that.
    pub(super) fn begins(&mut self, ticket: Ticket, out: &mut Vec<Effect>) {
        let Some(entry) = self.tickets.get_mut(&ticket) else { return };
        let State::Active(turn) = &mut entry.state else { return };
        let (granted, is_awaited) = (turn.active_at, entry.keepers.says_started);
        if !std::mem::take(&mut turn.is_fresh) {
            return;
        }
        if !is_awaited {
            return self.move_start(ticket, granted, out);
        }
        let to = self.present;
        for domain in self.lines_of(ticket) {
            let Some(line) = self.lines.get_mut(&domain) else { continue };
            let before = line.past.begun(ticket, to, &line.policy);
            if line.policy.rests() {
                let started = PastChange::Started { domain: domain.clone(), at: to };
                let moved = before.map(|from| PastChange::Moved { domain, from, to });
                out.push(Effect::Past(moved.unwrap_or(started)));
            }
        }
    }

    pub(super) fn lines_of(&self, ticket: Ticket) -> Vec<Domain> {
        self.tickets.get(&ticket).into_iter().flat_map(Entry::lines).cloned().collect()
    }

    /// Ends a ticket, whether it waits or has a turn, and writes that down. The caller tells those who must know, and
    /// then settles the line.
    pub(super) fn end(
        &mut self,
        now: Time,
        ticket: Ticket,
        outcome: Outcome,
        exit_status: Option<i32>,
        out: &mut Vec<Effect>,
    ) -> Option<Box<Entry>> {
        if self.tickets.get(&ticket).is_some_and(Entry::is_to_begin) {
            self.begins(ticket, out);
        }
        let entry = self.tickets.remove(&ticket)?;
        self.timers.clear(entry.deadline(), Timer::Ticket(ticket));
        match (entry.connection, entry.secret) {
            (Some(connection), _) => self.connections.detach(connection, Attached::Ticket(ticket)),
            (None, Some(secret)) => _ = self.unclaimed.remove(&(secret, ticket)),
            (None, None) => {}
        }
        let outcome_asked = outcome;
        let change = match entry.turn() {
            None => Change::Left { outcome, waited: entry.waited(now) },
            Some(turn) => entry.ended(now, turn, outcome, exit_status),
        };
        if entry.turn().is_none() {
            self.waiting -= 1;
            self.away.leave(ticket, &mut self.timers);
        }
        let (Change::Ended { outcome, .. } | Change::Left { outcome, .. }) = change else { return None };
        self.past_end(ticket, entry.uid, (entry.turn().is_some(), outcome));
        let mut freed = Vec::new();
        for domain in entry.lines() {
            freed.extend(self.leave_line(now, &entry, domain).then(|| domain.clone()));
            if let (Change::Ended { outcome: Outcome::Done, held, .. }, Some(line)) =
                (change, self.lines.get_mut(domain))
            {
                line.remember_run(held, self.limits.past_runs);
            }
        }
        for guest in entry.guests() {
            freed.extend(self.part(now, &entry, guest).then(|| guest.domain.clone()));
        }
        self.forget_waiter(&entry);
        self.leave_family(&entry);
        out.push(entry.record(now, change));
        self.key_ended(now, &entry, (outcome_asked, change), out);
        for domain in freed.into_iter().filter(|domain| self.rests(domain)) {
            out.push(Effect::Past(PastChange::Ended { domain, at: now }));
        }
        Some(entry)
    }

    /// Takes a ticket that ends out of one of its lines; whether a turn has ended there.
    fn leave_line(&mut self, now: Time, entry: &Entry, domain: &Domain) -> bool {
        let ticket = entry.ticket;
        self.groups.leave(domain, entry.uid, entry.wishes(), ticket);
        let Some(turn) = entry.turn() else {
            self.take_out(now, (ticket, entry.wishes().priority), domain);
            return false;
        };
        let Some(line) = self.lines.get_mut(domain) else { return false };
        let is_free = line.let_go(turn.token, ticket, entry.wishes());
        self.turn_ended(now, domain, is_free)
    }

    /// Takes a ticket that ends from the slots that it was a guest in; whether a turn has ended there.
    fn part(&mut self, now: Time, entry: &Entry, guest: &Guest) -> bool {
        let Some(line) = self.lines.get_mut(&guest.domain) else { return false };
        let is_free = line.part((entry.turn().map(|turn| turn.token), entry.ticket), guest);
        self.turn_ended(now, &guest.domain, is_free)
    }

    /// Notes that slots of a line are free, if they are.
    fn turn_ended(&mut self, now: Time, domain: &Domain, is_free: bool) -> bool {
        if is_free && let Some(line) = self.lines.get_mut(domain) {
            line.past.ended(now);
            self.rounds.line_changed(now, domain, &mut line.round);
        }
        is_free
    }

    /// Keeps in mind a waiter that stands in several lines, or is within a turn.
    pub(super) fn note_waiter(&mut self, entry: &Entry) {
        self.families.begins_to_wait(entry);
        if entry.lines().nth(1).is_some() {
            let rank = entry.rank();
            self.wide.extend(entry.lines().map(|domain| (domain.clone(), rank)));
        }
    }

    /// It waits no more.
    fn forget_waiter(&mut self, entry: &Entry) {
        self.families.waits_no_more(Who::Ticket(entry.ticket));
        if entry.lines().nth(1).is_some() {
            let rank = entry.rank();
            for domain in entry.lines() {
                self.wide.remove(&(domain.clone(), rank));
            }
        }
    }

    /// A waiter's longest wait or a holder's lease is over.
    pub(super) fn ticket_due(&mut self, now: Time, ticket: Ticket, out: &mut Vec<Effect>) {
        let turn = self.holder(ticket).map(|(_, turn)| turn);
        let obstacle = self.tickets.get(&ticket).and_then(|entry| self.obstacle_of_waiter(entry)).map(Box::new);
        let longest = self.tickets.get(&ticket).and_then(Entry::longest_wait);
        let outcome = if turn.is_some() { Outcome::Expired } else { Outcome::TimedOut };
        let Some(entry) = self.end(now, ticket, outcome, None, out) else { return };
        let refusal = if let Some(turn) = turn {
            Refusal::Expired { ticket, held: now.since(turn.active_at) }
        } else {
            let domains = entry.names().cloned().collect();
            Refusal::TimedOut { domains, waited: entry.waited(now), longest, obstacle }
        };
        out.extend(entry.connection.map(|connection| refusal.tell(connection, entry.about())));
        self.settle_lines_of(&entry, out);
    }

    /// Lets go of a line that nobody uses, remembers its name, and answers those who waited for that.
    fn close(&mut self, domain: &Domain, out: &mut Vec<Effect>) {
        let Some(mut line) = self.lines.remove(domain) else { return };
        self.rounds.stop(domain, &mut line.round);
        self.timers.clear(line.rest_due, Timer::Line(domain.clone()));
        self.idle.put(domain.clone(), line.runs, self.limits.idle_domains);
        self.keep_past(domain, line.past, &line.policy);
        for wait in line.waits {
            let Some(wait) = self.remove_wait(wait) else { continue };
            let reply = Reply::Idle(Idle { domain: wait.domain, request_id: wait.request_id });
            out.push(Effect::Tell { connection: wait.connection, reply });
        }
    }
}
