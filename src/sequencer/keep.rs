//! What keeps a ticket: its connection, its pipes, its processes.

use crate::clock::Time;
use crate::protocol::{Binding, Confirmed, Outcome, Reply, Ticket};

use super::connections::Attached;
use super::refusal::{About, Refusal};
use super::ticket::{Entry, State};
use super::{Change, ConnectionId, Effect, Sequencer, Which};

impl Sequencer {
    pub(super) fn started(
        &mut self,
        connection: ConnectionId,
        ticket: Ticket,
        (pid, watched): (u32, bool),
        out: &mut Vec<Effect>,
    ) {
        let Some(entry) = self.own_turn(connection, ticket, out) else { return };
        entry.pid = pid;
        entry.keepers.processes += u32::from(watched);
        out.push(Effect::Changed { ticket });
        self.goes_on(ticket, out);
    }

    /// Whether a ticket has its turn, and no client.
    pub fn is_orphan(&self, ticket: Ticket) -> bool {
        self.holder(ticket).is_some_and(|(entry, _)| entry.connection.is_none())
    }

    pub(super) fn found(&mut self, ticket: Ticket, pid: u32, out: &mut Vec<Effect>) {
        if self.is_orphan(ticket)
            && let Some(entry) = self.tickets.get_mut(&ticket)
        {
            // Its client itself has the pipe as long as it has started nothing.
            let has_begun = entry.is_to_begin() && entry.pid != pid;
            entry.pid = pid;
            out.push(Effect::Changed { ticket });
            if has_begun {
                self.goes_on(ticket, out);
            }
        }
    }

    pub(super) fn confirm(&mut self, connection: ConnectionId, ticket: Ticket, out: &mut Vec<Effect>) {
        let Some(entry) = self.own_turn(connection, ticket, out) else { return };
        entry.keepers.unconfirmed = false;
        let (domain, request_id) = (entry.domain.clone(), entry.request_id.clone());
        out.push(Effect::Changed { ticket });
        let reply = Reply::Confirmed(Confirmed { domain, request_id, ticket });
        self.goes_on(ticket, out);
        out.push(Effect::Tell { connection, reply });
    }

    /// What a client has the turn for begins, and whoever waits for that is looked at.
    pub(super) fn goes_on(&mut self, ticket: Ticket, out: &mut Vec<Effect>) {
        self.begins(ticket, out);
        self.settle_all(self.lines_of(ticket).into(), out);
    }

    /// The holder with this ticket, if it hangs on this connection; otherwise the connection is refused.
    fn own_turn(&mut self, connection: ConnectionId, ticket: Ticket, out: &mut Vec<Effect>) -> Option<&mut Entry> {
        let refusal = match self.tickets.get_mut(&ticket) {
            None => Refusal::NotFound { which: Which::Ticket(ticket) },
            Some(entry) if entry.connection != Some(connection) => Refusal::NotAttached { ticket },
            Some(entry) if matches!(entry.state, State::Waiting(_)) => Refusal::NotActive { ticket },
            Some(entry) => return Some(entry),
        };
        out.push(refusal.tell(connection, About { ticket: Some(ticket), ..About::default() }));
        None
    }

    /// Its `Wait`s go first and its waiters second, so that none of them is given what its turns leave behind.
    pub(super) fn disconnected(&mut self, now: Time, connection: ConnectionId, out: &mut Vec<Effect>) {
        let mut turns = Vec::new();
        for attached in self.connections.of(connection) {
            match attached {
                Attached::Wait(wait) => {
                    self.remove_wait(wait);
                }
                Attached::Follower(follower) => _ = self.remove_follower(follower, out),
                Attached::Ticket(ticket) if self.holder(ticket).is_some() => turns.push(ticket),
                Attached::Ticket(ticket) => self.lose(now, ticket, out),
            }
        }
        for ticket in turns {
            self.client_gone(now, ticket, out);
        }
    }

    pub(super) fn pipe_closed(&mut self, now: Time, ticket: Ticket, out: &mut Vec<Effect>) {
        let Some(entry) = self.tickets.get_mut(&ticket) else { return };
        entry.keepers.pipes = entry.keepers.pipes.saturating_sub(1);
        if entry.turn().is_some() && (!entry.is_kept() || entry.hangs_on_its_client()) {
            self.lose(now, ticket, out);
        }
    }

    pub(super) fn process_gone(&mut self, now: Time, ticket: Ticket, out: &mut Vec<Effect>) {
        let Some(entry) = self.tickets.get_mut(&ticket) else { return };
        entry.keepers.processes = entry.keepers.processes.saturating_sub(1);
        match entry.state {
            State::Active(_) if !entry.is_kept() || entry.hangs_on_its_client() => self.lose(now, ticket, out),
            State::Waiting(_) if !entry.may_wait() => {
                let told = entry.connection.map(|client| Refusal::Gone { ticket }.tell(client, entry.about()));
                let Some(entry) = self.end(now, ticket, Outcome::Gone, None, out) else { return };
                out.extend(told);
                self.settle_lines_of(&entry, out);
            }
            // Nobody is left to say when it begins: without its client, that is what was watched.
            State::Active(_) if entry.connection.is_none() && entry.is_to_begin() => {
                out.push(Effect::Changed { ticket });
                self.goes_on(ticket, out);
            }
            _ => {}
        }
    }

    /// The client of a holder is gone; the turn stays if something else keeps it.
    fn client_gone(&mut self, now: Time, ticket: Ticket, out: &mut Vec<Effect>) {
        let Some(entry) = self.tickets.get_mut(&ticket) else { return };
        if let Some(connection) = entry.connection.take() {
            self.connections.detach(connection, Attached::Ticket(ticket));
            self.unclaimed.extend(entry.secret.map(|secret| (secret, ticket)));
        }
        if !entry.is_kept() || entry.hangs_on_its_client() {
            self.lose(now, ticket, out);
            return;
        }
        if let (Binding::Connection, Some(turn)) = (entry.keepers.binding, entry.turn()) {
            out.push(entry.record(now, Change::Orphaned { token: turn.token }));
        }
        if entry.is_to_begin() {
            out.push(Effect::Changed { ticket });
            self.goes_on(ticket, out);
        }
    }

    /// Ends a ticket that nothing keeps any more, and that has no client to tell.
    pub(super) fn lose(&mut self, now: Time, ticket: Ticket, out: &mut Vec<Effect>) {
        let Some(entry) = self.end(now, ticket, Outcome::Gone, None, out) else { return };
        self.settle_lines_of(&entry, out);
    }
}
