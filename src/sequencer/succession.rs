//! From one daemon to the next: what was held is restored, and leaving leaves only what goes on without a daemon.

use crate::clock::Time;
use crate::protocol::{Binding, Outcome, Ticket, Token};

use super::refusal::Refusal;
use super::ticket::{Entry, Keepers, State, Turn};
use super::timers::Timer;
use super::{Effect, Restored, Sequencer};

impl Sequencer {
    /// Takes a turn as still taken. Its numbers are never given out again, even if nothing keeps it.
    pub(super) fn restore(&mut self, restored: Restored) {
        self.next_ticket = self.next_ticket.max(Ticket(restored.ticket.0 + 1));
        self.next_token = self.next_token.max(Token(restored.token.0 + 1));
        let lease_until = restored.lease_until.filter(|_| restored.binding == Binding::Lease);
        let keepers = Keepers {
            binding: restored.binding,
            lease: lease_until.map(|until| until.since(restored.active_at)),
            named_process: restored.named_process,
            pipes: u32::from(restored.pipe),
            processes: restored.processes,
        };
        let turn = Turn { token: restored.token, active_at: restored.active_at, lease_until };
        let entry = Entry {
            ticket: restored.ticket,
            domain: restored.domain,
            request_id: restored.request_id,
            uid: restored.uid,
            pid: restored.pid,
            command: restored.command,
            queued_at: restored.queued_at,
            connection: None,
            keepers,
            state: State::Active(turn),
        };
        if entry.is_kept() && !self.tickets.contains_key(&entry.ticket) && !self.lines.contains_key(&entry.domain) {
            self.take_back(entry, turn);
        }
    }

    fn take_back(&mut self, entry: Entry, turn: Turn) {
        let runs = self.idle.take(&entry.domain);
        let line = self.lines.entry(entry.domain.clone()).or_default();
        line.runs = runs;
        line.holders.push(entry.ticket);
        line.ids.insert(entry.request_id.clone(), entry.ticket);
        line.last_token = Some(turn.token);
        self.timers.set(turn.lease_until, Timer::Ticket(entry.ticket));
        let domain = entry.domain.clone();
        self.tickets.insert(entry.ticket, Box::new(entry));
        self.check_line(&domain);
    }

    pub(super) fn leave(&mut self, now: Time, out: &mut Vec<Effect>) {
        self.leaving = true;
        let mut tickets: Vec<Ticket> = self.tickets.keys().copied().collect();
        tickets.sort_unstable();
        // Waiters go first, so that no turn that ends here is given to one of them.
        let (turns, waiters): (Vec<Ticket>, Vec<Ticket>) =
            tickets.into_iter().partition(|ticket| self.holder(*ticket).is_some());
        for ticket in waiters {
            let Some(entry) = self.end(now, ticket, Outcome::Stopped, None, out) else { continue };
            out.extend(entry.connection.map(|connection| Refusal::Leaving.tell(connection, entry.about())));
        }
        self.dismiss_waits(out);
        for ticket in turns {
            self.leave_turn(now, ticket, out);
        }
    }

    fn leave_turn(&mut self, now: Time, ticket: Ticket, out: &mut Vec<Effect>) {
        let Some(entry) = self.tickets.get(&ticket) else { return };
        let told = entry.connection.map(|connection| Refusal::Leaving.tell(connection, entry.about()));
        let domain = entry.domain.clone();
        if !entry.outlives_the_daemon() {
            self.end(now, ticket, Outcome::Stopped, None, out);
        }
        out.extend(told);
        self.settle(now, &domain, out);
    }

    /// Every turn that would outlive this process, for the next daemon: those not kept by a connection alone. In the
    /// order of their tickets.
    pub fn held(&self) -> Vec<Restored> {
        let mut held: Vec<Restored> = self.tickets.values().filter_map(|entry| restored(entry)).collect();
        held.sort_unstable_by_key(|restored| restored.ticket);
        held
    }
}

fn restored(entry: &Entry) -> Option<Restored> {
    let turn = entry.turn().filter(|_| entry.outlives_the_daemon())?;
    Some(Restored {
        domain: entry.domain.clone(),
        request_id: entry.request_id.clone(),
        ticket: entry.ticket,
        token: turn.token,
        uid: entry.uid,
        pid: entry.pid,
        command: entry.command.clone(),
        queued_at: entry.queued_at,
        active_at: turn.active_at,
        binding: entry.keepers.binding,
        lease_until: turn.lease_until,
        named_process: entry.keepers.named_process,
        pipe: entry.keepers.pipes > 0,
        processes: entry.keepers.processes,
    })
}
