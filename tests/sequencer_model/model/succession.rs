//! One daemon leaves or dies, another one goes on.

use std::time::Duration;

use seq::protocol::{Binding, Domain, ErrorCode, Outcome, RequestId, Ticket, Token};
use seq::sequencer::{Guest, Input, Restored, RestoredTurn};

use super::inputs::asked;
use super::{Model, Request, SECOND, named};

impl Model {
    /// Every ticket as the next daemon must know it.
    pub(crate) fn saved(&self) -> Vec<Restored> {
        let saved = self.requests.iter().map(|request| Restored {
            ticket: Ticket(request.ticket),
            domain: request.domain.clone(),
            request_id: request.id.clone(),
            uid: request.uid,
            pid: request.pid,
            command: request.command.clone(),
            queued_at: request.queued_at,
            binding: request.binding,
            lease: request.lease,
            named_process: request.named,
            unconfirmed: request.unconfirmed,
            says_started: request.says_started,
            wait_until: request.deadline.filter(|_| request.turn.is_none()),
            secret: request.secret,
            turn: request.turn.map(|(token, active_at)| RestoredTurn {
                token: Token(token),
                active_at,
                lease_until: request.deadline,
                max_run: request.max_run,
                is_fresh: request.is_fresh,
                superseded: request.superseded,
            }),
            pipes: request.pipes,
            processes: request.processes,
            wishes: request.wishes.clone(),
            guests: request.guests.clone(),
        });
        saved.collect()
    }

    pub(super) fn restore(&mut self, mut old: Restored) {
        let tokens_of_guests: Vec<u64> = old.guests.iter().map(|guest| guest.token.0).collect();
        if self.parent(old.uid, old.wishes.within).is_none() {
            old.wishes.within = None;
        }
        let named_by_it = named(&old.domain, &old.wishes);
        old.guests.retain(|guest| named_by_it.contains(&guest.domain));
        for guest in &mut old.guests {
            let host = self.requests.iter().find(|request| request.ticket == guest.host.0);
            if let Some(host) = host.filter(|host| host.turn.is_some() && host.stands_in(&guest.domain)) {
                guest.token = Token(host.turn.unwrap().0);
                (guest.take, guest.shared) = (host.wishes.take, host.wishes.shared);
            }
        }
        self.next_ticket = self.next_ticket.max(old.ticket.0 + 1);
        self.next_token = self.next_token.max(old.turn.map_or(0, |turn| turn.token.0 + 1));
        self.next_token = tokens_of_guests.into_iter().map(|token| token + 1).fold(self.next_token, u64::max);
        let domains = named(&old.domain, &old.wishes);
        let alike = |index: &&usize| self.requests[**index].wishes.priority == old.wishes.priority;
        let last = |domain| {
            let waiters = self.waiters(domain);
            waiters.iter().filter(alike).map(|index| self.requests[*index].ticket).max()
        };
        let stands_in = |domain: &Domain| !old.guests.iter().any(|guest| guest.domain == *domain);
        let has_no_place = domains.iter().filter(|domain| stands_in(domain)).any(|domain| {
            let is_guest_of = |guest: &Guest| guest.host == old.ticket && guest.domain == *domain;
            let hosts = self.requests.iter().any(|request| request.guests.iter().any(is_guest_of));
            hosts || old.turn.is_none() && last(domain).is_some_and(|last| last >= old.ticket.0)
        });
        let is_nowhere = old.turn.is_none() && !domains.iter().any(stands_in);
        let is_taken = |domain| self.by_id(domain, &old.request_id).is_some();
        if is_nowhere || has_no_place || self.index(old.ticket.0).is_some() || domains.iter().any(is_taken) {
            return;
        }
        let lease_until = |turn: RestoredTurn| turn.lease_until.filter(|_| old.binding == Binding::Lease);
        let request = Request {
            ticket: old.ticket.0,
            domain: old.domain,
            id: old.request_id,
            uid: old.uid,
            pid: old.pid,
            command: old.command,
            queued_at: old.queued_at,
            connection: None,
            binding: old.binding,
            lease: old.lease,
            named: old.named_process,
            unconfirmed: old.unconfirmed,
            // Without its client nobody says so.
            says_started: old.says_started
                && old.secret.is_some()
                && (old.binding == Binding::Connection || old.unconfirmed),
            pipes: old.pipes,
            processes: old.processes,
            secret: old.secret,
            positions: false,
            deadline: old.turn.map_or(old.wait_until, lease_until),
            told: (0, 0),
            told_at: None,
            turn: old.turn.map(|turn| (turn.token.0, turn.active_at)),
            is_fresh: old.turn.is_some_and(|turn| turn.is_fresh),
            max_run: old.turn.and_then(|turn| turn.max_run),
            wishes: old.wishes,
            superseded: old.turn.and_then(|turn| turn.superseded),
            guests: old.guests,
        };
        let is_kept = match request.turn {
            Some(_) => {
                request.binding == Binding::Lease && !request.unconfirmed || request.pipes + request.processes > 0
            }
            None => request.processes > 0,
        };
        if !is_kept {
            let change = self.end_of(&request, Outcome::Gone, None);
            return self.record(&request, change);
        }
        if request.turn.is_none() {
            self.grace = (self.now + SECOND * 10, self.now + SECOND * 60);
        }
        for domain in &domains {
            self.use_domain(domain);
        }
        self.requests.push(request);
        self.requests.sort_by_key(|request| request.ticket);
        self.settle_all(domains);
        self.break_circles();
    }

    pub(super) fn past_end(&mut self, ticket: u64, uid: u32, had_turn: bool, outcome: Outcome) {
        let code = match (had_turn, outcome) {
            (_, Outcome::Cancelled) | (false, Outcome::Done) => ErrorCode::Cancelled,
            (_, Outcome::Superseded) => ErrorCode::Superseded,
            (_, Outcome::Released) => ErrorCode::Released,
            (_, Outcome::Expired) => ErrorCode::Expired,
            (_, Outcome::TimedOut) => ErrorCode::TimedOut,
            (_, Outcome::Deadlock) => ErrorCode::WouldDeadlock,
            (false, Outcome::Stopped) => ErrorCode::Stopped,
            _ => return,
        };
        match self.ends.iter_mut().find(|(ended, ..)| *ended == ticket) {
            Some(end) => *end = (ticket, uid, code),
            None => self.ends.push((ticket, uid, code)),
        }
        let extra = self.ends.len().saturating_sub(self.limits.past_ends);
        self.ends.drain(..extra);
    }

    pub(super) fn past_runs(&mut self, domain: &Domain, mut runs: Vec<Duration>) {
        runs.drain(..runs.len().saturating_sub(self.limits.past_runs));
        if !self.is_in_use(domain) {
            self.runs.retain(|(known, _)| known != domain);
        }
        self.use_domain(domain);
        self.runs.iter_mut().find(|(known, _)| known == domain).unwrap().1 = runs;
        self.forget_idle_domains();
    }

    pub(super) fn give_up_who_is_away(&mut self) {
        let away = self.requests.iter().filter(|request| request.is_away());
        for ticket in away.map(|request| request.ticket).collect::<Vec<_>>() {
            let ended = self.end(self.index(ticket).unwrap(), Outcome::Gone, None);
            self.settle_all(ended.domains());
        }
    }

    pub(super) fn freeze(&mut self) {
        for request in self.requests.clone() {
            self.tell_owner(&request, ErrorCode::Restarting);
        }
        for wait in std::mem::take(&mut self.waits) {
            self.error(wait.connection, ErrorCode::Restarting, Some(wait.domain), wait.id, None);
        }
        self.dismiss_followers(ErrorCode::Restarting);
        self.frozen = true;
    }

    pub(super) fn refuse_after_all(&mut self, input: Input) {
        let code = ErrorCode::Restarting;
        match input {
            Input::Sequence(ask) => {
                let id = ask.request_id.as_ref().map(RequestId::to_string);
                self.error(ask.connection, code, Some(ask.domain), id, ask.resume.map(|ticket| ticket.0));
            }
            Input::Started { connection, ticket, .. } | Input::Confirm { connection, ticket } => {
                self.error(connection, code, None, None, Some(ticket.0));
            }
            Input::Done { connection, which, request_id, .. }
            | Input::Release { connection, which, request_id, .. } => {
                let (domain, id, ticket) = asked(&which);
                self.error(connection, code, domain, request_id.or(id), ticket);
            }
            Input::Cancel { connection, which, .. } => {
                let (domain, id, ticket) = asked(&which);
                self.error(connection, code, domain, id, ticket);
            }
            Input::SetPolicy { connection, request_id, .. } | Input::UnsetPolicy { connection, request_id, .. } => {
                self.error(connection, code, None, request_id, None);
            }
            Input::Wait { connection, domain, request_id, .. }
            | Input::Pause { connection, domain, request_id, .. }
            | Input::Resume { connection, domain, request_id, .. } => {
                self.error(connection, code, Some(domain), request_id, None);
            }
            Input::ForgetKey { connection, domain, request_id, .. } => {
                self.error(connection, code, domain, request_id, None);
            }
            _ => {}
        }
    }

    pub(super) fn leave(&mut self) {
        self.leaving = true;
        self.dismiss_followers(ErrorCode::Leaving);
        let mut left = Vec::new();
        while let Some(index) = self.requests.iter().position(|request| request.turn.is_none()) {
            let request = self.end(index, Outcome::Stopped, None);
            self.tell_owner(&request, ErrorCode::Leaving);
            left.extend(request.domains());
        }
        for wait in std::mem::take(&mut self.waits) {
            self.error(wait.connection, ErrorCode::Leaving, Some(wait.domain), wait.id, None);
        }
        self.settle_all(left);
        for request in self.requests.clone() {
            let by_connection_alone = request.binding == Binding::Connection && request.pipes + request.processes == 0;
            if by_connection_alone || request.unconfirmed {
                self.end(self.index(request.ticket).unwrap(), Outcome::Stopped, None);
            }
            self.tell_owner(&request, ErrorCode::Leaving);
            self.settle_all(request.domains());
        }
    }
}
