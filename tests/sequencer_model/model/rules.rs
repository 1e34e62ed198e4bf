//! What follows when a line changes.

use std::time::Duration;

use seq::clock::Time;
use seq::protocol::{Active, Binding, Domain, Idle, Outcome, QueuePosition, Reply, Ticket, Token};
use seq::sequencer::Change;

use super::{Model, Request, Round, SECOND, Waiting};

/// Waiters that one step of a round comes to.
const STEP: usize = 16;

impl Model {
    /// One that has all already is given its turn.
    pub(super) fn reenter(&mut self, index: usize) {
        let request = self.requests[index].clone();
        let max_run = request.domains().iter().filter_map(|domain| self.max_run(domain)).min();
        self.begin(index, request.guests[0].token.0, max_run);
        self.tell_turn(&self.requests[index].clone());
    }

    fn begin(&mut self, index: usize, token: u64, max_run: Option<Duration>) {
        self.turns += 1;
        let now = self.present;
        let request = &mut self.requests[index];
        request.turn = Some((token, now));
        request.is_fresh = true;
        request.positions = false;
        request.max_run = max_run;
        request.deadline = match (request.binding, request.lease) {
            (Binding::Lease, Some(lease)) => Some(now + max_run.unwrap_or(lease).min(lease)),
            _ => None,
        };
    }

    fn tell_turn(&mut self, request: &Request) {
        let (token, active_at) = request.turn.unwrap();
        let waited = active_at.since(request.queued_at);
        self.record(request, Change::Active { token: Token(token), waited });
        self.key_started(request);
        for domain in request.lines() {
            self.note_start(&domain);
        }
        let max_run_ms = request.max_run.map(|max_run| u64::try_from(max_run.as_millis()).unwrap());
        let (domain, ticket) = (request.domain.clone(), Ticket(request.ticket));
        let (request_id, token) = (request.id.clone(), Token(token));
        let key = self.key_of(request.ticket).map(|record| record.name.key);
        let reply = Active { domain, request_id, ticket, token, resumed: false, max_run_ms, key };
        self.tell(request.connection.unwrap(), Reply::Active(reply));
    }

    /// Gives free turns to the next ones, or answers those who waited for an idle domain.
    pub(super) fn settle(&mut self, domain: &Domain) {
        self.settle_all(vec![domain.clone()]);
    }

    /// In this order; and then the other lines of whoever is given a turn.
    pub(super) fn settle_all(&mut self, mut domains: Vec<Domain>) {
        while !domains.is_empty() {
            let domain = domains.remove(0);
            let others = self.settle_one(&domain);
            domains.extend(others);
        }
    }

    fn settle_one(&mut self, domain: &Domain) -> Vec<Domain> {
        let mut others = Vec::new();
        while let Some(index) = self.waiters(domain).first().copied() {
            if self.head_waits(domain, index).is_some() {
                break;
            }
            let domains = self.requests[index].lines();
            let max_run = self.requests[index].domains().iter().filter_map(|domain| self.max_run(domain)).min();
            others.extend(domains.iter().filter(|other| *other != domain).cloned());
            let token = self.next_token;
            self.next_token += 1;
            let now = self.present;
            self.begin(index, token, max_run);
            let request = self.requests[index].clone();
            for domain in &domains {
                self.places_changed_at(now, domain);
            }
            self.tell_turn(&request);
        }
        self.set_wake(domain);
        let was_left = self.unsettled.contains(domain);
        self.unsettled.retain(|other| other != domain);
        if self.is_in_use(domain) || !was_left {
            return others;
        }
        self.rounds.retain(|round| round.domain != *domain);
        let index = self.runs.iter().position(|(known, _)| known == domain).unwrap();
        let fell_idle = self.runs.remove(index);
        self.runs.push(fell_idle);
        self.forget_idle_domains();
        let (answered, unanswered) = self.waits.drain(..).partition(|wait| wait.domain == *domain);
        self.waits = unanswered;
        let answered: Vec<Waiting> = answered;
        for wait in answered {
            self.tell(wait.connection, Reply::Idle(Idle { domain: wait.domain, request_id: wait.id }));
        }
        others
    }

    pub(super) fn forget_idle_domains(&mut self) {
        let idle: Vec<Domain> = self.runs.iter().map(|(domain, _)| domain.clone()).collect();
        let is_idle = |domain: &&Domain| !self.is_in_use(domain) && !self.unsettled.contains(domain);
        let idle: Vec<&Domain> = idle.iter().filter(is_idle).collect();
        for forgotten in idle.iter().rev().skip(self.limits.idle_domains) {
            self.runs.retain(|(known, _)| known != *forgotten);
        }
    }

    /// What becomes of a request.
    pub(super) fn end_of(&self, request: &Request, outcome: Outcome, exit_status: Option<i32>) -> Change {
        let waited = request.turn.map_or(self.now, |(_, active_at)| active_at).since(request.queued_at);
        match request.turn {
            None => Change::Left { outcome, waited },
            Some((token, active_at)) => {
                let (token, held) = (Token(token), self.now.since(active_at));
                let is_to_make_way = request.superseded.is_some();
                let outcome = match outcome {
                    Outcome::Gone if is_to_make_way => Outcome::Superseded,
                    Outcome::Done if is_to_make_way && exit_status == Some(76) => Outcome::Superseded,
                    other => other,
                };
                Change::Ended { token, outcome, exit_status, waited, held }
            }
        }
    }

    /// Takes a request out and records it.
    pub(super) fn end(&mut self, index: usize, outcome: Outcome, exit_status: Option<i32>) -> Request {
        if self.requests[index].is_to_begin() {
            self.begins(index);
        }
        let taken_before = |model: &Model, domain: &Domain| model.slots_of(domain).len();
        let before: Vec<usize> =
            self.requests[index].domains().iter().map(|domain| taken_before(self, domain)).collect();
        let request = self.requests.remove(index);
        let domains = request.domains();
        let slots = domains.iter().zip(before).filter(|(domain, before)| self.slots_of(domain).len() < *before);
        let freed: Vec<Domain> = slots.map(|(domain, _)| domain.clone()).collect();
        let in_order = |domain: &&Domain| request.stands_in(domain);
        let mut ended: Vec<Domain> = freed.iter().filter(in_order).cloned().collect();
        ended.extend(freed.iter().filter(|domain| !in_order(domain)).cloned());
        self.unsettled.extend(domains.clone());
        let change = self.end_of(&request, outcome, exit_status);
        self.record(&request, change);
        self.key_ended(&request, outcome, change);
        for domain in &ended {
            self.note_end(domain);
        }
        if let Change::Ended { outcome, .. } | Change::Left { outcome, .. } = change {
            self.past_end(request.ticket, request.uid, request.turn.is_some(), outcome);
        }
        if let Change::Ended { held, outcome: Outcome::Done, .. } = change {
            for (_, runs) in self.runs.iter_mut().filter(|(domain, _)| request.stands_in(domain)) {
                runs.push(held);
                let extra = runs.len().saturating_sub(self.limits.past_runs);
                runs.drain(..extra);
            }
        }
        for domain in &domains {
            let had_place = request.turn.is_none() && request.stands_in(domain);
            if had_place || ended.contains(domain) {
                self.places_changed(domain);
            }
        }
        request
    }

    pub(super) fn end_if_unkept(&mut self, index: usize) -> bool {
        let request = &self.requests[index];
        let is_kept = match request.binding {
            _ if request.turn.is_none() => true,
            // Its client has gone, or something that stood for it after a restart.
            _ if request.unconfirmed && request.connection.is_none() => false,
            Binding::Lease => true,
            Binding::Connection => request.connection.is_some() || request.pipes + request.processes > 0,
            Binding::Process => request.pipes + request.processes > 0,
        };
        if !is_kept {
            let ended = self.end(index, Outcome::Gone, None);
            self.settle_all(ended.domains());
        }
        !is_kept
    }

    pub(super) fn places_changed(&mut self, domain: &Domain) {
        self.places_changed_at(self.now, domain);
    }

    fn places_changed_at(&mut self, now: Time, domain: &Domain) {
        self.drop_round_without_listeners(domain);
        if self.listeners(domain).is_empty() {
            return;
        }
        let round = self.round(domain);
        if round.reached.is_some() {
            round.again = true;
        } else if round.due.is_none() {
            round.due = Some(round.started.map_or(now, |started| (started + SECOND).max(now)));
        }
    }

    pub(super) fn drop_round_without_listeners(&mut self, domain: &Domain) {
        if self.listeners(domain).is_empty() {
            let round = self.round(domain);
            (round.due, round.reached, round.again) = (None, None, false);
        }
    }

    pub(super) fn step_round(&mut self) {
        let due = self.rounds.iter().filter_map(|round| Some((round.due?, round.domain.clone()))).min();
        let Some((_, domain)) = due.filter(|(due, _)| *due <= self.now) else { return };
        let now = self.now;
        let round = self.round(&domain);
        if round.reached.is_none() {
            round.started = Some(now);
        }
        let (reached, mut again) = (round.reached, round.again);
        let mut rest = self.listeners(&domain);
        rest.retain(|index| reached.is_none_or(|reached| self.requests[*index].ticket > reached));
        for index in rest.iter().take(STEP).copied() {
            let (position, total_ahead) = self.place(index);
            let request = self.requests[index].clone();
            if request.told == (position, total_ahead) {
                continue;
            }
            if request.told_at.is_some_and(|told_at| now.since(told_at) < SECOND) {
                again = true;
                continue;
            }
            self.requests[index].told = (position, total_ahead);
            self.requests[index].told_at = Some(now);
            let (request_id, ticket) = (request.id, Ticket(request.ticket));
            let reply = QueuePosition { domain: request.domain, request_id, ticket, position, total_ahead };
            self.tell(request.connection.unwrap(), Reply::QueuePosition(reply));
        }
        let last = (rest.len() > STEP).then(|| self.requests[rest[STEP - 1]].ticket);
        let round = self.round(&domain);
        round.reached = last;
        round.again = again && last.is_some();
        round.due = match last {
            Some(_) => Some(now),
            None => again.then(|| (round.started.unwrap() + SECOND).max(now)),
        };
    }

    pub(super) fn round(&mut self, domain: &Domain) -> &mut Round {
        let index = self.rounds.iter().position(|round| round.domain == *domain).unwrap_or_else(|| {
            let domain = domain.clone();
            self.rounds.push(Round { domain, started: None, due: None, reached: None, again: false });
            self.rounds.len() - 1
        });
        &mut self.rounds[index]
    }
}
