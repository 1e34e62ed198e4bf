//! How a turn begins and ends, and how a place in line is given up.

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
    /// Whatever ended must be in `out` already.
    pub(super) fn settle(&mut self, domain: &Domain, out: &mut Vec<Effect>) {
        while let Some(ticket) = self.due(domain) {
            self.grant(ticket, out);
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
        let Some(entry) = self.tickets.get(&ticket) else {
            panic!("ticket {ticket} is next in a line but not known");
        };
        let (domain, priority) = (entry.domain.clone(), entry.wishes().priority);
        self.check_grant(ticket, &domain);
        self.take_out(now, (ticket, priority), &domain);
        let token = self.next_token;
        self.next_token = Token(token.0 + 1);
        self.turns += 1;
        let (Some(entry), Some(line)) = (self.tickets.get_mut(&ticket), self.lines.get_mut(&domain)) else { return };
        line.hold(token, ticket, entry.wishes());
        line.past.started(now, &line.policy);
        let (max_run, rests) = (line.policy.max_run, line.policy.rests());
        self.timers.clear(entry.deadline(), Timer::Ticket(ticket));
        let lease = entry.keepers.lease.filter(|_| entry.keepers.binding == Binding::Lease);
        let lease_until = lease.map(|lease| now + max_run.map_or(lease, |max_run| lease.min(max_run)));
        self.timers.set(lease_until, Timer::Ticket(ticket));
        let turn = Turn { token, active_at: now, lease_until, max_run };
        entry.state = State::Active(turn);
        out.push(entry.record(now, Change::Active { token, waited: entry.waited(now) }));
        out.extend(rests.then_some(Effect::Past(PastChange::Started { domain, at: now })));
        if let Some(connection) = entry.connection {
            out.push(Effect::Tell { connection, reply: entry.active(turn, false) });
        }
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
            None => {
                self.take_out(now, (ticket, entry.wishes().priority), &entry.domain);
                self.away.leave(ticket, &mut self.timers);
                Change::Left { outcome, waited: entry.waited(now) }
            }
            Some(turn) => entry.ended(now, turn, outcome, exit_status),
        };
        self.groups.leave(&entry.domain, entry.uid, entry.wishes(), ticket);
        self.past_end(ticket, entry.uid, (entry.turn().is_some(), outcome));
        let mut rests = false;
        if let Some(line) = self.lines.get_mut(&entry.domain) {
            line.ids.remove(&entry.request_id);
            if let Some(turn) = entry.turn() {
                line.let_go(turn.token, ticket, entry.wishes());
                line.past.ended(now);
                rests = line.policy.rests();
                self.rounds.line_changed(now, &entry.domain, &mut line.round);
            }
            if let Change::Ended { outcome: Outcome::Done, held, .. } = change {
                line.remember_run(held, self.limits.past_runs);
            }
        }
        out.push(entry.record(now, change));
        let ended = PastChange::Ended { domain: entry.domain.clone(), at: now };
        out.extend(rests.then_some(Effect::Past(ended)));
        Some(entry)
    }

    /// A waiter's longest wait or a holder's lease is over.
    pub(super) fn ticket_due(&mut self, now: Time, ticket: Ticket, out: &mut Vec<Effect>) {
        let turn = self.holder(ticket).map(|(_, turn)| turn);
        let outcome = if turn.is_some() { Outcome::Expired } else { Outcome::TimedOut };
        let Some(entry) = self.end(now, ticket, outcome, None, out) else { return };
        let domain = entry.domain.clone();
        let refusal = match turn {
            Some(turn) => Refusal::Expired { ticket, held: Spoken(now.since(turn.active_at)) },
            None => Refusal::TimedOut { domain: domain.clone(), waited: Spoken(entry.waited(now)) },
        };
        out.extend(entry.connection.map(|connection| refusal.tell(connection, entry.about())));
        self.settle(&domain, out);
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
