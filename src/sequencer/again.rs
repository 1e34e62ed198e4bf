//! A request that lives already comes again: its ticket is taken up by the newcomer.

use crate::clock::Time;
use crate::protocol::Ticket;

use super::connections::Attached;
use super::leaving::Leaving;
use super::refusal::{About, Refusal};
use super::sequence::keepers;
use super::ticket::Entry;
use super::{ConnectionId, Effect, Enqueue, Sequencer, Which};

impl Sequencer {
    /// A client takes its own ticket up again, and shows by its secret that it is its own.
    pub(super) fn resume(&mut self, now: Time, ticket: Ticket, request: Enqueue, out: &mut Vec<Effect>) {
        if let Some(refusal) = self.refusal_of_resume(ticket, &request) {
            let request_id = request.request_id.map(|id| id.to_string());
            let about = About { domain: Some(request.domain), request_id, ticket: Some(ticket) };
            out.push(refusal.tell(request.connection, about));
        } else if self.holder(ticket).is_some() {
            self.take_up_turn(now, ticket, request, out);
        } else {
            let deadline = self.tickets.get(&ticket).and_then(Entry::deadline);
            self.take_up_place(now, ticket, deadline, request, out);
        }
    }

    /// The ticket that `request` was sent for before, if its client has never come to know it.
    pub(super) fn unclaimed(&self, request: &Enqueue) -> Option<Ticket> {
        let secret = request.secret?;
        let tickets = self.unclaimed.range((secret, Ticket(0))..=(secret, Ticket(u64::MAX)));
        let is_it = |entry: &Entry| {
            let is_named = request.request_id.as_ref().is_none_or(|id| *id == entry.request_id);
            is_named
                && entry.is_for_same_lines(request)
                && entry.uid == request.peer.uid
                && self.is_for_same_key(entry.ticket, request)
        };
        tickets.map(|(_, ticket)| *ticket).find(|ticket| self.tickets.get(ticket).is_some_and(is_it))
    }

    fn refusal_of_resume(&self, ticket: Ticket, request: &Enqueue) -> Option<Refusal> {
        if self.leaving != Leaving::Not {
            return Some(Refusal::Leaving);
        }
        let Some(entry) = self.tickets.get(&ticket) else {
            let ended = self.ends.code(ticket, request.peer.uid);
            let not_found = Refusal::NotFound { which: Which::Ticket(ticket) };
            return Some(ended.map_or(not_found, |code| Refusal::EndedWhileAway { ticket, code }));
        };
        if !entry.is_for_same_lines(request) || request.request_id.as_ref().is_some_and(|id| *id != entry.request_id) {
            let which = Which::TicketOf(ticket, Some(request.domain.clone()), request.request_id.clone());
            return Some(Refusal::NotFound { which });
        }
        if entry.uid != request.peer.uid {
            return Some(Refusal::OfAnotherUser { ticket, uid: entry.uid });
        }
        if entry.secret.is_none() || entry.secret != request.secret {
            return Some(Refusal::WrongSecret { ticket });
        }
        if entry.connection == Some(request.connection) {
            return None;
        }
        self.refusal_of_one_more(request.connection)
    }

    /// The newcomer has the waiter's place now, and everything else is as the newcomer says.
    pub(super) fn take_up_place(
        &mut self,
        now: Time,
        ticket: Ticket,
        deadline: Option<Time>,
        request: Enqueue,
        out: &mut Vec<Effect>,
    ) {
        let Some(entry) = self.tickets.get_mut(&ticket) else { return };
        out.push(Effect::Admitted { ticket, follower: None });
        out.push(Effect::Changed { ticket });
        let (before, about) = (entry.connection, entry.about());
        entry.pid = request.pid;
        entry.keepers = keepers(&request);
        entry.set_lease(request.lease);
        entry.command = request.command;
        let refusal = Refusal::TakenOver { request_id: entry.request_id.clone() };
        self.attach(now, ticket, request.connection);
        if let Some(entry) = self.tickets.get_mut(&ticket) {
            entry.secret = request.secret;
        }
        if let Some(before) = before.filter(|before| *before != request.connection) {
            out.push(refusal.tell(before, about));
        }
        // Its turn may have come while it was away.
        let lines = self.tickets.get(&ticket).map(|entry| entry.lines().cloned().collect());
        self.settle_all(lines.unwrap_or_default(), out);
        if self.holder(ticket).is_none() {
            self.keep_waiting(ticket, deadline, request.positions, out);
        }
    }

    /// The newcomer works under this turn now. What kept it before goes on keeping it, for it may still be at work;
    /// so do its binding and its lease.
    pub(super) fn take_up_turn(&mut self, now: Time, ticket: Ticket, request: Enqueue, out: &mut Vec<Effect>) {
        out.push(Effect::Admitted { ticket, follower: None });
        out.push(Effect::Changed { ticket });
        self.attach(now, ticket, request.connection);
        let key = self.key_of(ticket).map(|name| name.key.clone());
        let Some(entry) = self.tickets.get_mut(&ticket) else { return };
        let Some(turn) = entry.turn() else { return };
        let added = keepers(&request);
        entry.keepers.pipes += added.pipes;
        entry.keepers.processes += added.processes;
        entry.keepers.named_process |= added.named_process;
        entry.keepers.unconfirmed &= added.unconfirmed;
        entry.pid = request.pid;
        entry.command = request.command.or(entry.command.take());
        entry.secret = request.secret.or(entry.secret);
        out.push(Effect::Tell { connection: request.connection, reply: entry.active(turn, key, true) });
        // It may have been told over a connection that was lost.
        let superseded = entry.superseded().map(|by| Refusal::TurnSuperseded { ticket, by });
        out.extend(superseded.map(|refusal| refusal.tell(request.connection, entry.about())));
        if entry.is_to_begin() && !added.says_started {
            self.goes_on(ticket, out);
        }
    }

    /// Makes `connection` the one that `ticket` hangs on.
    fn attach(&mut self, now: Time, ticket: Ticket, connection: ConnectionId) {
        let Some(entry) = self.tickets.get_mut(&ticket) else { return };
        let secret = entry.secret;
        if let Some(before) = entry.connection.replace(connection) {
            self.connections.detach(before, Attached::Ticket(ticket));
        } else {
            secret.map(|secret| self.unclaimed.remove(&(secret, ticket)));
            self.came_back(now, ticket);
        }
        self.connections.attach(connection, Attached::Ticket(ticket));
    }
}
