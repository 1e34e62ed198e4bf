//! How a turn begins and ends, and how a place in line is given up.

use std::collections::VecDeque;

use crate::clock::Time;
use crate::protocol::{Binding, Domain, Idle, Outcome, Reply, Ticket, Token};

use super::connections::Attached;
use super::line::Line;
use super::refusal::Refusal;
use super::spoken::Spoken;
use super::ticket::{Entry, State, Turn};
use super::timers::Timer;
use super::{Change, Effect, PastChange, Sequencer};

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
        self.settle_all(entry.lines().cloned().collect(), out);
    }

    fn settle_one(&mut self, domain: &Domain, others: &mut VecDeque<Domain>, out: &mut Vec<Effect>) {
        while let Some(ticket) = self.due(domain) {
            self.grant(ticket, out);
            let entry = self.tickets.get(&ticket).into_iter();
            others.extend(entry.flat_map(|entry| entry.lines()).filter(|other| *other != domain).cloned());
        }
        if self.lines.get(domain).is_some_and(Line::is_idle) {
            self.close(domain, out);
        }
        self.await_rest(domain);
        self.check_line(domain);
    }

    fn grant(&mut self, ticket: Ticket, out: &mut Vec<Effect>) {
        // After a suspend what ended the last turn may lie far back: this one has a whole lease before it all the same.
        let now = self.present;
        let Some(mut entry) = self.tickets.remove(&ticket) else {
            panic!("ticket {ticket} is next in a line but not known");
        };
        let token = self.next_token;
        self.check_grant(&entry);
        self.next_token = Token(token.0 + 1);
        self.turns += 1;
        self.waiting -= 1;
        for domain in entry.lines() {
            self.take_out(now, (ticket, entry.wishes().priority), domain);
            if let Some(line) = self.lines.get_mut(domain) {
                line.hold(token, ticket, entry.wishes());
                line.past.started(now, &line.policy);
            }
        }
        let max_run = entry.lines().filter_map(|domain| self.lines.get(domain)?.policy.max_run).min();
        self.timers.clear(entry.deadline(), Timer::Ticket(ticket));
        let lease = entry.keepers.lease.filter(|_| entry.keepers.binding == Binding::Lease);
        let lease_until = lease.map(|lease| now + max_run.map_or(lease, |max_run| lease.min(max_run)));
        self.timers.set(lease_until, Timer::Ticket(ticket));
        let turn = Turn { token, active_at: now, lease_until, max_run };
        entry.state = State::Active(turn);
        out.push(entry.record(now, Change::Active { token, waited: entry.waited(now) }));
        for domain in entry.lines().filter(|domain| self.rests(domain)) {
            out.push(Effect::Past(PastChange::Started { domain: domain.clone(), at: now }));
        }
        if let Some(connection) = entry.connection {
            out.push(Effect::Tell { connection, reply: entry.active(turn, false) });
        }
        self.tickets.insert(ticket, entry);
    }

    fn rests(&self, domain: &Domain) -> bool {
        self.lines.get(domain).is_some_and(|line| line.policy.rests())
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
        let entry = self.tickets.remove(&ticket)?;
        self.timers.clear(entry.deadline(), Timer::Ticket(ticket));
        match (entry.connection, entry.secret) {
            (Some(connection), _) => self.connections.detach(connection, Attached::Ticket(ticket)),
            (None, Some(secret)) => _ = self.unclaimed.remove(&(secret, ticket)),
            (None, None) => {}
        }
        let change = match entry.turn() {
            None => Change::Left { outcome, waited: entry.waited(now) },
            Some(turn) => entry.ended(now, turn, outcome, exit_status),
        };
        if entry.turn().is_none() {
            self.waiting -= 1;
            self.away.leave(ticket, &mut self.timers);
        }
        self.past_end(ticket, entry.uid, (entry.turn().is_some(), outcome));
        for domain in entry.lines() {
            self.leave_line(now, &entry, domain);
            if let (Change::Ended { outcome: Outcome::Done, held, .. }, Some(line)) =
                (change, self.lines.get_mut(domain))
            {
                line.remember_run(held, self.limits.past_runs);
            }
        }
        out.push(entry.record(now, change));
        if entry.turn().is_some() {
            for domain in entry.lines().filter(|domain| self.rests(domain)) {
                out.push(Effect::Past(PastChange::Ended { domain: domain.clone(), at: now }));
            }
        }
        Some(entry)
    }

    /// Takes a ticket that ends out of one of its lines.
    fn leave_line(&mut self, now: Time, entry: &Entry, domain: &Domain) {
        let ticket = entry.ticket;
        self.groups.leave(domain, entry.uid, entry.wishes(), ticket);
        let Some(turn) = entry.turn() else {
            self.take_out(now, (ticket, entry.wishes().priority), domain);
            if let Some(line) = self.lines.get_mut(domain) {
                line.ids.remove(&entry.request_id);
            }
            return;
        };
        let Some(line) = self.lines.get_mut(domain) else { return };
        line.ids.remove(&entry.request_id);
        line.let_go(turn.token, ticket, entry.wishes());
        line.past.ended(now);
        self.rounds.line_changed(now, domain, &mut line.round);
    }

    /// A waiter's longest wait or a holder's lease is over.
    pub(super) fn ticket_due(&mut self, now: Time, ticket: Ticket, out: &mut Vec<Effect>) {
        let turn = self.holder(ticket).map(|(_, turn)| turn);
        let outcome = if turn.is_some() { Outcome::Expired } else { Outcome::TimedOut };
        let Some(entry) = self.end(now, ticket, outcome, None, out) else { return };
        let refusal = match turn {
            Some(turn) => Refusal::Expired { ticket, held: Spoken(now.since(turn.active_at)) },
            None => Refusal::TimedOut { domain: entry.domain.clone(), waited: Spoken(entry.waited(now)) },
        };
        out.extend(entry.connection.map(|connection| refusal.tell(connection, entry.about())));
        self.settle_lines_of(&entry, out);
    }

    /// Lets go of a line that nobody uses, remembers its name, and answers those who waited for that.
    fn close(&mut self, domain: &Domain, out: &mut Vec<Effect>) {
        let Some(mut line) = self.lines.remove(domain) else { return };
        self.rounds.stop(domain, &mut line.round);
        self.timers.clear(line.rest_due, Timer::Line(domain.clone()));
        self.resting.put(domain, line.past, &line.policy, self.present);
        self.idle.put(domain.clone(), line.runs, self.limits.idle_domains);
        for wait in line.waits {
            let Some(wait) = self.remove_wait(wait) else { continue };
            let reply = Reply::Idle(Idle { domain: wait.domain, request_id: wait.request_id });
            out.push(Effect::Tell { connection: wait.connection, reply });
        }
    }
}
