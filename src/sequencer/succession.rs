//! From one daemon to the next: what is saved, and what is restored from it.

use std::time::Duration;

use crate::clock::Time;
use crate::protocol::{Binding, Domain, Outcome, Ticket, Token};

use super::line::Line;
use super::ticket::{Entry, Extra, Keepers, Place, State, Turn, Waiting};
use super::timers::Timer;
use super::{Change, Effect, Restored, RestoredTurn, Sequencer};

impl Sequencer {
    /// What the next daemon must know of a ticket; `None` when it does not live.
    pub fn saved(&self, ticket: Ticket) -> Option<Restored> {
        let entry = self.tickets.get(&ticket)?;
        Some(Restored {
            ticket,
            domain: entry.domain.clone(),
            request_id: entry.request_id.clone(),
            uid: entry.uid,
            pid: entry.pid,
            command: entry.command.clone(),
            queued_at: entry.queued_at,
            binding: entry.keepers.binding,
            lease: entry.lease(),
            named_process: entry.keepers.named_process,
            unconfirmed: entry.keepers.unconfirmed,
            says_started: entry.keepers.says_started,
            wait_until: match &entry.state {
                State::Waiting(waiting) => waiting.deadline,
                State::Active(_) => None,
            },
            secret: entry.secret,
            turn: entry.turn().map(|Turn { token, active_at, lease_until, is_fresh }| RestoredTurn {
                token,
                active_at,
                lease_until,
                max_run: entry.max_run(),
                is_fresh,
                superseded: entry.superseded(),
            }),
            pipes: entry.keepers.pipes,
            processes: entry.keepers.processes,
            wishes: entry.wishes().clone(),
            guests: entry.guests().to_vec(),
        })
    }

    /// Takes a ticket as still living, unless nothing keeps it. Its numbers are never given out again either way.
    pub(super) fn restore(&mut self, now: Time, restored: Restored, out: &mut Vec<Effect>) {
        self.next_ticket = self.next_ticket.max(Ticket(restored.ticket.0 + 1));
        let tokens = restored.turn.iter().map(|turn| turn.token).chain(restored.guests.iter().map(|guest| guest.token));
        if let Some(last) = tokens.max() {
            self.next_token = self.next_token.max(Token(last.0 + 1));
        }
        let mut entry = entry(restored);
        entry.keepers.says_started &= entry.may_say_started();
        self.find_family(&mut entry);
        if !self.can_be(&entry) {
            return;
        }
        match entry.turn() {
            Some(turn) if !entry.is_kept() => out.push(entry.record(now, entry.ended(now, turn, Outcome::Gone, None))),
            None if !entry.may_wait() => {
                let waited = entry.waited(now);
                out.push(entry.record(now, Change::Left { outcome: Outcome::Gone, waited }));
            }
            _ => self.take_back(now, entry, out),
        }
    }

    /// Whom a ticket was made within, and whose slots it has, as far as those are there.
    fn find_family(&self, entry: &mut Entry) {
        let (uid, within) = (entry.uid, entry.wishes().within);
        if within.is_some() && self.parent(uid, within).is_none() {
            entry.extra_mut().wishes.within = None;
        }
        let names: Vec<Domain> = entry.names().cloned().collect();
        if entry.guests().is_empty() {
            return;
        }
        for guest in &mut entry.extra_mut().guests {
            if let Some((host, turn)) = self.host(guest) {
                (guest.token, guest.take, guest.shared) = (turn.token, host.wishes().take, host.wishes().shared);
            }
        }
        entry.extra_mut().guests.retain(|guest| names.contains(&guest.domain));
    }

    /// Whether a ticket goes with those that live.
    fn can_be(&self, entry: &Entry) -> bool {
        if entry.turn().is_none() && entry.lines().next().is_none() {
            return false;
        }
        let goes_with = |line: &Line| {
            let last = line.order.last(entry.wishes().priority).filter(|_| entry.turn().is_none());
            last.is_none_or(|last| last < entry.ticket)
        };
        let mut lines = entry.lines().filter_map(|domain| self.line(domain));
        let goes_with_guests = |line: &Line| !line.hosting.contains_key(&entry.ticket);
        let is_new = |domain| self.tickets.of_request(domain, &entry.request_id).is_none();
        lines.clone().all(goes_with_guests)
            && entry.names().all(is_new)
            && lines.all(goes_with)
            && !self.tickets.contains_key(&entry.ticket)
    }

    fn take_back(&mut self, now: Time, entry: Entry, out: &mut Vec<Effect>) {
        let ticket = entry.ticket;
        for domain in entry.lines() {
            let line = self.line_in_use(domain);
            match entry.turn() {
                Some(turn) => {
                    line.hold(turn.token, ticket, entry.wishes());
                    if entry.is_to_begin() {
                        line.past.expect(ticket, turn.active_at);
                    }
                }
                None => line.order.enter(ticket, entry.wishes().priority),
            }
            self.groups.enter(domain, entry.uid, entry.wishes(), ticket);
        }
        for guest in entry.guests() {
            self.join(ticket, guest);
            if let (Some(turn), Some(line)) = (entry.turn(), self.lines.get_mut(&guest.domain)) {
                line.hold_as_guest(turn.token, ticket);
            }
        }
        self.enter_family(entry.uid, entry.wishes().within, ticket);
        if entry.turn().is_none() {
            self.waiting += 1;
            self.away.enter(now, ticket, &mut self.timers);
        }
        self.timers.set(entry.deadline(), Timer::Ticket(ticket));
        self.unclaimed.extend(entry.secret.map(|secret| (secret, ticket)));
        let lines = entry.names().cloned().collect();
        if entry.turn().is_none() {
            self.note_waiter(&entry);
        }
        self.tickets.insert(Box::new(entry));
        self.settle_all(lines, out);
        self.break_cycles_of(ticket, out);
    }

    /// Estimates go by these runs from now on.
    pub(super) fn past_runs(&mut self, domain: &Domain, runs: Vec<Duration>) {
        let extra = runs.len().saturating_sub(self.limits.past_runs);
        let runs = runs.into_iter().skip(extra).collect();
        if let Some(line) = self.lines.get_mut(domain) {
            line.runs = runs;
        } else {
            let (_, past) = self.idle.take(domain);
            self.idle.put(domain.clone(), runs, self.limits.idle_domains);
            self.idle.keep_past(domain, past);
        }
    }
}

fn entry(restored: Restored) -> Entry {
    let is_lease = restored.binding == Binding::Lease;
    let waiting =
        || Waiting { deadline: restored.wait_until, told: Place { position: 0, total_ahead: 0 }, told_at: None };
    let state = restored.turn.map_or_else(
        || State::Waiting(waiting()),
        |RestoredTurn { token, active_at, lease_until, is_fresh, .. }| {
            State::Active(Turn { token, active_at, lease_until: lease_until.filter(|_| is_lease), is_fresh })
        },
    );
    Entry {
        ticket: restored.ticket,
        domain: restored.domain,
        request_id: restored.request_id,
        uid: restored.uid,
        pid: restored.pid,
        command: restored.command,
        queued_at: restored.queued_at,
        secret: restored.secret,
        connection: None,
        keepers: Keepers {
            binding: restored.binding,
            named_process: restored.named_process,
            unconfirmed: restored.unconfirmed,
            says_started: restored.says_started,
            pipes: restored.pipes,
            processes: restored.processes,
        },
        extra: Extra {
            wishes: restored.wishes,
            superseded: restored.turn.and_then(|turn| turn.superseded),
            guests: restored.guests,
            lease: restored.lease,
            max_run: restored.turn.and_then(|turn| turn.max_run),
        }
        .boxed(),
        state,
    }
}
