//! The second opinion: the same rules with nothing but vectors, searched from end to end each time.
//!
//! It shares no code with the core but the types of its interface. Messages of errors are left empty.

use std::sync::Arc;
use std::time::Duration;

use seq::clock::Time;
use seq::protocol::{
    Active, Binding, Cancelled, Counts, Domain, DoneReply, ErrorCode, ErrorReply, HolderState, Idle, Outcome,
    QueuePosition, Queued, Released, Reply, RequestId, Ticket, Token,
};
use seq::sequencer::{Change, ConnectionId, Effect, Enqueue, Input, Limits, Peer, Record, Restored, Which};

const SECOND: Duration = Duration::from_secs(1);

#[derive(Clone, Debug)]
struct Request {
    ticket: u64,
    domain: Domain,
    id: RequestId,
    uid: u32,
    pid: u32,
    command: Option<Arc<str>>,
    queued_at: Time,
    connection: Option<ConnectionId>,
    binding: Binding,
    lease: Option<Duration>,
    named: bool,
    pipes: u32,
    processes: u32,
    positions: bool,
    /// Of the longest wait, then of the lease.
    deadline: Option<Time>,
    told: (u64, u64),
    told_at: Option<Time>,
    /// Token and start.
    turn: Option<(u64, Time)>,
}

#[derive(Clone, Debug)]
struct Waiting {
    number: u64,
    connection: ConnectionId,
    domain: Domain,
    id: Option<String>,
    deadline: Option<Time>,
}

#[derive(Clone, Debug)]
struct Round {
    domain: Domain,
    started: Option<Time>,
    due: Option<Time>,
    reached: Option<u64>,
    again: bool,
}

/// One line as the model sees it: name, holders with token and state, waiters, past runs' median.
pub(crate) type Seen = (Domain, Vec<(u64, u64, HolderState, u32)>, Vec<(u64, u32)>, Option<Duration>);

#[derive(Debug)]
pub(crate) struct Model {
    limits: Limits,
    next_ticket: u64,
    next_token: u64,
    next_wait: u64,
    now: Time,
    leaving: bool,
    turns: u64,
    /// In order of their tickets.
    requests: Vec<Request>,
    waits: Vec<Waiting>,
    rounds: Vec<Round>,
    /// Every domain that is in use or remembered; those that are idle, the one idle longest first.
    runs: Vec<(Domain, Vec<Duration>)>,
    out: Vec<Effect>,
}

impl Model {
    pub(crate) fn new(next_ticket: Ticket, next_token: Token, limits: Limits) -> Model {
        Model {
            limits,
            next_ticket: next_ticket.0,
            next_token: next_token.0,
            next_wait: 0,
            now: Time::ZERO,
            leaving: false,
            turns: 0,
            requests: Vec::new(),
            waits: Vec::new(),
            rounds: Vec::new(),
            runs: Vec::new(),
            out: Vec::new(),
        }
    }

    pub(crate) fn handle(&mut self, now: Time, input: Input) -> Vec<Effect> {
        while let Some((due, is_wait, number)) = self.first_deadline().filter(|(due, ..)| *due <= now) {
            self.now = self.now.max(due);
            if is_wait {
                let wait = self.waits.remove(self.waits.iter().position(|wait| wait.number == number).unwrap());
                self.error(wait.connection, ErrorCode::TimedOut, Some(wait.domain), wait.id, None);
            } else {
                let index = self.index(number).unwrap();
                let (outcome, code) = match self.requests[index].turn {
                    Some(_) => (Outcome::Expired, ErrorCode::Expired),
                    None => (Outcome::TimedOut, ErrorCode::TimedOut),
                };
                let ended = self.end(index, outcome, None);
                self.tell_owner(&ended, code);
                self.settle(&ended.domain);
            }
        }
        self.now = now;
        self.take(input);
        self.step_round();
        std::mem::take(&mut self.out)
    }

    pub(crate) fn next_timeout(&self) -> Option<Time> {
        let rounds = self.rounds.iter().filter_map(|round| round.due);
        rounds.chain(self.first_deadline().map(|(due, ..)| due)).min()
    }

    pub(crate) fn next_numbers(&self) -> (Ticket, Token) {
        (Ticket(self.next_ticket), Token(self.next_token))
    }

    pub(crate) fn counts(&self) -> Counts {
        let holders = self.requests.iter().filter(|request| request.turn.is_some()).count() as u64;
        let mut domains: Vec<&Domain> = self.requests.iter().map(|request| &request.domain).collect();
        domains.sort();
        domains.dedup();
        Counts {
            connections: 0,
            domains: domains.len() as u64,
            holders,
            waiters: self.requests.len() as u64 - holders,
            turns: self.turns,
        }
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        let mut runs = self.runs.clone();
        runs.sort();
        let of = |domain: &Domain| {
            let requests = self.requests.iter().filter(|request| request.domain == *domain);
            let holders = requests
                .clone()
                .filter_map(|request| Some((request.ticket, request.turn?.0, state(request), request.pid)));
            let waiters = requests.clone().filter(|request| request.turn.is_none());
            (holders.collect(), waiters.map(|request| (request.ticket, request.pid)).collect())
        };
        runs.into_iter()
            .map(|(domain, mut runs)| {
                let (holders, waiters) = of(&domain);
                runs.sort();
                let (below, above) = (runs.len().saturating_sub(1) / 2, runs.len() / 2);
                let median = (!runs.is_empty()).then(|| (runs[below] + runs[above]) / 2);
                (domain, holders, waiters, median)
            })
            .collect()
    }

    pub(crate) fn held(&self) -> Vec<Restored> {
        let turns = self.requests.iter().filter(|request| request.turn.is_some());
        let kept = turns.filter(|request| request.binding == Binding::Lease || request.pipes + request.processes > 0);
        kept.map(|request| {
            let (token, active_at) = request.turn.unwrap();
            Restored {
                domain: request.domain.clone(),
                request_id: request.id.clone(),
                ticket: Ticket(request.ticket),
                token: Token(token),
                uid: request.uid,
                pid: request.pid,
                command: request.command.clone(),
                queued_at: request.queued_at,
                active_at,
                binding: request.binding,
                lease_until: request.deadline,
                named_process: request.named,
                pipe: request.pipes > 0,
                processes: request.processes,
            }
        })
        .collect()
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Sequence(request) => self.sequence(request),
            Input::Started { connection, ticket, pid, watched } => self.started(connection, ticket, pid, watched),
            Input::Done { connection, peer, which, exit_status, processes, request_id } => {
                self.done(connection, peer, &which, exit_status, &processes, request_id);
            }
            Input::Cancel { connection, peer, which } => self.cancel(connection, peer, &which),
            Input::Release { connection, peer, which, request_id } => {
                self.release(connection, peer, &which, request_id);
            }
            Input::Wait { connection, domain, max_wait, request_id } => {
                self.wait(connection, domain, max_wait, request_id);
            }
            Input::Disconnected { connection } => self.disconnected(connection),
            Input::PipeClosed { ticket } => {
                if let Some(index) = self.index(ticket.0) {
                    self.requests[index].pipes = self.requests[index].pipes.saturating_sub(1);
                    self.end_if_unkept(index);
                }
            }
            Input::ProcessGone { ticket } => self.process_gone(ticket),
            Input::Restore(restored) => self.restore(restored),
            Input::Leave => self.leave(),
            Input::Tick => {}
        }
    }

    fn sequence(&mut self, ask: Enqueue) {
        let connection = ask.connection;
        let id = ask.request_id.as_ref().map(RequestId::to_string);
        let before = ask.request_id.as_ref().and_then(|id| self.by_id(&ask.domain, id));
        let code = self.why_not(&ask, before);
        if let Some(code) = code {
            let ticket = before.filter(|_| code == ErrorCode::AlreadyActive).map(|index| self.requests[index].ticket);
            self.error(connection, code, Some(ask.domain), id, ticket);
            return;
        }
        let Some(index) = before else { return self.enter(ask) };
        let ticket = self.requests[index].ticket;
        self.out.push(Effect::Admitted { ticket: Ticket(ticket) });
        let processes = u32::from(ask.binding == Binding::Process);
        let old = self.requests[index].clone();
        let request = &mut self.requests[index];
        request.connection = Some(connection);
        request.pid = ask.pid;
        if let Some((token, _)) = request.turn {
            request.pipes += u32::from(ask.pipe);
            request.processes += processes;
            request.named |= ask.named_process;
            if ask.command.is_some() {
                request.command = ask.command;
            }
            let reply = Active {
                domain: ask.domain,
                request_id: old.id,
                ticket: Ticket(ticket),
                token: Token(token),
                resumed: true,
            };
            self.tell(connection, Reply::Active(reply));
            return;
        }
        request.pipes = u32::from(ask.pipe);
        request.processes = processes;
        request.binding = ask.binding;
        request.lease = ask.lease;
        request.named = ask.named_process;
        request.command = ask.command;
        if old.connection != Some(connection) {
            self.tell_owner(&old, ErrorCode::TakenOver);
        }
        self.stand(index, ask.max_wait, ask.positions);
    }

    fn why_not(&self, ask: &Enqueue, before: Option<usize>) -> Option<ErrorCode> {
        if self.leaving {
            return Some(ErrorCode::Leaving);
        }
        let is_full = self.hanging_on(ask.connection) >= self.limits.tickets_per_connection;
        if let Some(index) = before {
            let request = &self.requests[index];
            return match request.turn {
                _ if request.uid != ask.peer.uid => Some(ErrorCode::RequestIdTaken),
                Some(_) if ask.fresh => Some(ErrorCode::AlreadyActive),
                None if ask.no_wait => Some(ErrorCode::Busy),
                _ if request.connection != Some(ask.connection) && is_full => Some(ErrorCode::TooManyRequests),
                _ => None,
            };
        }
        let in_use = self.holder(&ask.domain).is_some();
        if is_full {
            Some(ErrorCode::TooManyRequests)
        } else if !in_use && self.counts().domains as usize >= self.limits.domains {
            Some(ErrorCode::TooManyDomains)
        } else if in_use && ask.no_wait {
            Some(ErrorCode::Busy)
        } else if in_use && self.waiters(&ask.domain).len() >= self.limits.waiters_per_domain {
            Some(ErrorCode::QueueFull)
        } else {
            None
        }
    }

    fn enter(&mut self, ask: Enqueue) {
        let id = ask.request_id.clone().unwrap_or_else(|| {
            loop {
                let id = RequestId::parse(&format!("t-{}", self.next_ticket)).unwrap();
                if self.by_id(&ask.domain, &id).is_none() {
                    return id;
                }
                self.next_ticket += 1;
            }
        });
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.use_domain(&ask.domain);
        self.requests.push(Request {
            ticket,
            domain: ask.domain.clone(),
            id,
            uid: ask.peer.uid,
            pid: ask.pid,
            command: ask.command,
            queued_at: self.now,
            connection: Some(ask.connection),
            binding: ask.binding,
            lease: ask.lease,
            named: ask.named_process,
            pipes: u32::from(ask.pipe),
            processes: u32::from(ask.binding == Binding::Process),
            positions: false,
            deadline: None,
            told: (0, 0),
            told_at: None,
            turn: None,
        });
        self.out.push(Effect::Admitted { ticket: Ticket(ticket) });
        let index = self.requests.len() - 1;
        self.record(&self.requests[index].clone(), Change::Queued);
        self.settle(&ask.domain);
        if self.requests[index].turn.is_none() {
            self.stand(index, ask.max_wait, ask.positions);
        }
    }

    fn use_domain(&mut self, domain: &Domain) {
        if !self.runs.iter().any(|(known, _)| known == domain) {
            self.runs.push((domain.clone(), Vec::new()));
        }
    }

    /// A waiter is told its place and begins to wait as it asked.
    fn stand(&mut self, index: usize, max_wait: Option<Duration>, positions: bool) {
        let (position, total_ahead) = self.place(index);
        let request = &mut self.requests[index];
        request.deadline = max_wait.map(|max_wait| self.now + max_wait);
        request.positions = positions;
        request.told = (position, total_ahead);
        let request = request.clone();
        let reply = Queued {
            domain: request.domain.clone(),
            request_id: request.id,
            ticket: Ticket(request.ticket),
            position,
            total_ahead,
        };
        self.drop_round_without_listeners(&request.domain);
        self.tell(request.connection.unwrap(), Reply::Queued(reply));
    }

    fn started(&mut self, connection: ConnectionId, ticket: Ticket, pid: u32, watched: bool) {
        let mine = self.index(ticket.0).filter(|index| self.requests[*index].connection == Some(connection));
        let Some(index) = mine else {
            return self.error(connection, ErrorCode::NotFound, None, None, Some(ticket.0));
        };
        if self.requests[index].turn.is_none() {
            return self.error(connection, ErrorCode::NotActive, None, None, Some(ticket.0));
        }
        self.requests[index].pid = pid;
        if watched {
            self.requests[index].processes += 1;
        }
    }

    fn done(
        &mut self,
        connection: ConnectionId,
        peer: Peer,
        which: &Which,
        exit_status: Option<i32>,
        processes: &[u32],
        id: Option<String>,
    ) {
        let (domain, named_id, ticket) = asked(which);
        let id = id.or(named_id);
        let Some(index) = self.find(which) else {
            let ticket = ticket.map(Ticket);
            return self.tell(connection, Reply::Done(DoneReply { domain, request_id: id, ticket, released: false }));
        };
        let request = self.requests[index].clone();
        let mut may = request.uid == peer.uid || peer.is_operator;
        if matches!(which, Which::Domain(_)) {
            may &= request.connection == Some(connection)
                || request.binding == Binding::Lease
                || request.binding == Binding::Process && (request.named || processes.contains(&request.pid));
        }
        if !may {
            return self.error(connection, ErrorCode::Forbidden, domain, id, ticket);
        }
        self.end(index, Outcome::Done, exit_status);
        if request.turn.is_none() && request.connection != Some(connection) {
            self.tell_owner(&request, ErrorCode::Cancelled);
        }
        let reply = DoneReply {
            domain: Some(request.domain.clone()),
            request_id: id.or(Some(request.id.to_string())),
            ticket: Some(Ticket(request.ticket)),
            released: true,
        };
        self.tell(connection, Reply::Done(reply));
        self.settle(&request.domain);
    }

    fn cancel(&mut self, connection: ConnectionId, peer: Peer, which: &Which) {
        let (domain, id, ticket) = asked(which);
        let code = match self.find(which).map(|index| &self.requests[index]) {
            _ if matches!(which, Which::Domain(_)) => ErrorCode::NotFound,
            None => ErrorCode::NotFound,
            Some(request) if request.uid != peer.uid && !peer.is_operator => ErrorCode::Forbidden,
            Some(request) if request.turn.is_some() => ErrorCode::NotWaiting,
            Some(_) => {
                let request = self.end(self.find(which).unwrap(), Outcome::Cancelled, None);
                self.tell_owner(&request, ErrorCode::Cancelled);
                let (domain, request_id) = (request.domain.clone(), request.id);
                let reply = Cancelled { domain, request_id, ticket: Ticket(request.ticket) };
                self.tell(connection, Reply::Cancelled(reply));
                return self.settle(&request.domain);
            }
        };
        self.error(connection, code, domain, id, ticket);
    }

    fn release(&mut self, connection: ConnectionId, peer: Peer, which: &Which, request_id: Option<String>) {
        let (domain, id, ticket) = asked(which);
        let code = match self.find(which).map(|index| &self.requests[index]) {
            None => ErrorCode::NotFound,
            Some(request) if request.uid != peer.uid && !peer.is_operator => ErrorCode::Forbidden,
            Some(request) if request.turn.is_none() => ErrorCode::NotActive,
            Some(_) => {
                let request = self.end(self.find(which).unwrap(), Outcome::Released, None);
                self.tell_owner(&request, ErrorCode::Released);
                let (domain, holder) = (request.domain.clone(), request.id);
                let reply = Released { domain, holder, ticket: Ticket(request.ticket), request_id };
                self.tell(connection, Reply::Released(reply));
                return self.settle(&request.domain);
            }
        };
        self.error(connection, code, domain, request_id.or(id), ticket);
    }

    fn wait(&mut self, connection: ConnectionId, domain: Domain, max_wait: Option<Duration>, id: Option<String>) {
        if self.leaving {
            self.error(connection, ErrorCode::Leaving, Some(domain), id, None);
        } else if self.holder(&domain).is_none() {
            self.tell(connection, Reply::Idle(Idle { domain, request_id: id }));
        } else if self.hanging_on(connection) >= self.limits.tickets_per_connection {
            self.error(connection, ErrorCode::TooManyRequests, Some(domain), id, None);
        } else {
            let deadline = max_wait.map(|max_wait| self.now + max_wait);
            self.waits.push(Waiting { number: self.next_wait, connection, domain, id, deadline });
            self.next_wait += 1;
        }
    }

    fn disconnected(&mut self, connection: ConnectionId) {
        self.waits.retain(|wait| wait.connection != connection);
        while let Some(index) = self.attached(connection, false) {
            let ended = self.end(index, Outcome::Gone, None);
            self.settle(&ended.domain);
        }
        while let Some(index) = self.attached(connection, true) {
            self.requests[index].connection = None;
            let request = self.requests[index].clone();
            if !self.end_if_unkept(index) && request.binding == Binding::Connection {
                self.record(&request, Change::Orphaned { token: Token(request.turn.unwrap().0) });
            }
        }
    }

    fn process_gone(&mut self, ticket: Ticket) {
        let Some(index) = self.index(ticket.0) else { return };
        let request = &mut self.requests[index];
        request.processes = request.processes.saturating_sub(1);
        if request.turn.is_some() {
            self.end_if_unkept(index);
        } else if request.binding == Binding::Process && request.processes == 0 {
            let request = self.end(index, Outcome::Gone, None);
            self.tell_owner(&request, ErrorCode::Gone);
            self.settle(&request.domain);
        }
    }

    fn restore(&mut self, old: Restored) {
        self.next_ticket = self.next_ticket.max(old.ticket.0 + 1);
        self.next_token = self.next_token.max(old.token.0 + 1);
        let is_kept = old.binding == Binding::Lease || old.pipe || old.processes > 0;
        if !is_kept || self.index(old.ticket.0).is_some() || self.holder(&old.domain).is_some() {
            return;
        }
        self.use_domain(&old.domain);
        self.requests.push(Request {
            ticket: old.ticket.0,
            domain: old.domain,
            id: old.request_id,
            uid: old.uid,
            pid: old.pid,
            command: old.command,
            queued_at: old.queued_at,
            connection: None,
            binding: old.binding,
            lease: None,
            named: old.named_process,
            pipes: u32::from(old.pipe),
            processes: old.processes,
            positions: false,
            deadline: if old.binding == Binding::Lease { old.lease_until } else { None },
            told: (0, 0),
            told_at: None,
            turn: Some((old.token.0, old.active_at)),
        });
        self.requests.sort_by_key(|request| request.ticket);
    }

    fn leave(&mut self) {
        self.leaving = true;
        while let Some(index) = self.requests.iter().position(|request| request.turn.is_none()) {
            let request = self.end(index, Outcome::Stopped, None);
            self.tell_owner(&request, ErrorCode::Leaving);
        }
        for wait in std::mem::take(&mut self.waits) {
            self.error(wait.connection, ErrorCode::Leaving, Some(wait.domain), wait.id, None);
        }
        for request in self.requests.clone() {
            let by_connection_alone = request.binding == Binding::Connection && request.pipes + request.processes == 0;
            if by_connection_alone {
                self.end(self.index(request.ticket).unwrap(), Outcome::Stopped, None);
            }
            self.tell_owner(&request, ErrorCode::Leaving);
            self.settle(&request.domain);
        }
    }

    /// Gives a free turn to the next, or answers those who waited for an idle domain.
    fn settle(&mut self, domain: &Domain) {
        if self.holder(domain).is_some() {
            return;
        }
        if let Some(index) = self.waiters(domain).first().copied() {
            let token = self.next_token;
            self.next_token += 1;
            self.turns += 1;
            let now = self.now;
            let request = &mut self.requests[index];
            request.turn = Some((token, now));
            request.positions = false;
            request.deadline = request.lease.filter(|_| request.binding == Binding::Lease).map(|lease| now + lease);
            let request = request.clone();
            self.places_changed(domain);
            let waited = now.since(request.queued_at);
            self.record(&request, Change::Active { token: Token(token), waited });
            let (domain, ticket) = (request.domain, Ticket(request.ticket));
            let reply = Active { domain, request_id: request.id, ticket, token: Token(token), resumed: false };
            self.tell(request.connection.unwrap(), Reply::Active(reply));
            return;
        }
        self.rounds.retain(|round| round.domain != *domain);
        let index = self.runs.iter().position(|(known, _)| known == domain).unwrap();
        let fell_idle = self.runs.remove(index);
        self.runs.push(fell_idle);
        let idle: Vec<Domain> = self.runs.iter().map(|(domain, _)| domain.clone()).collect();
        let idle: Vec<&Domain> = idle.iter().filter(|domain| self.holder(domain).is_none()).collect();
        for forgotten in idle.iter().rev().skip(self.limits.idle_domains) {
            self.runs.retain(|(known, _)| known != *forgotten);
        }
        let (answered, others) = self.waits.drain(..).partition(|wait| wait.domain == *domain);
        self.waits = others;
        let answered: Vec<Waiting> = answered;
        for wait in answered {
            self.tell(wait.connection, Reply::Idle(Idle { domain: wait.domain, request_id: wait.id }));
        }
    }

    /// Takes a request out and records it.
    fn end(&mut self, index: usize, outcome: Outcome, exit_status: Option<i32>) -> Request {
        let request = self.requests.remove(index);
        let now = self.now;
        if let Some((token, active_at)) = request.turn {
            let (waited, held) = (active_at.since(request.queued_at), now.since(active_at));
            self.record(&request, Change::Ended { token: Token(token), outcome, exit_status, waited, held });
            if outcome == Outcome::Done {
                let (_, runs) = self.runs.iter_mut().find(|(domain, _)| *domain == request.domain).unwrap();
                runs.push(held);
                let extra = runs.len().saturating_sub(self.limits.past_runs);
                runs.drain(..extra);
            }
        } else {
            self.record(&request, Change::Left { outcome, waited: now.since(request.queued_at) });
            self.places_changed(&request.domain);
        }
        request
    }

    fn end_if_unkept(&mut self, index: usize) -> bool {
        let request = &self.requests[index];
        let is_kept = match request.binding {
            _ if request.turn.is_none() => true,
            Binding::Lease => true,
            Binding::Connection => request.connection.is_some() || request.pipes + request.processes > 0,
            Binding::Process => request.pipes + request.processes > 0,
        };
        if !is_kept {
            let ended = self.end(index, Outcome::Gone, None);
            self.settle(&ended.domain);
        }
        !is_kept
    }

    fn places_changed(&mut self, domain: &Domain) {
        self.drop_round_without_listeners(domain);
        if self.listeners(domain).is_empty() {
            return;
        }
        let now = self.now;
        let round = self.round(domain);
        if round.reached.is_some() {
            round.again = true;
        } else if round.due.is_none() {
            round.due = Some(round.started.map_or(now, |started| (started + SECOND).max(now)));
        }
    }

    fn drop_round_without_listeners(&mut self, domain: &Domain) {
        if self.listeners(domain).is_empty() {
            let round = self.round(domain);
            (round.due, round.reached, round.again) = (None, None, false);
        }
    }

    fn step_round(&mut self) {
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
        for index in rest.iter().take(64).copied() {
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
            let reply = QueuePosition { domain: domain.clone(), request_id, ticket, position, total_ahead };
            self.tell(request.connection.unwrap(), Reply::QueuePosition(reply));
        }
        let last = (rest.len() > 64).then(|| self.requests[rest[63]].ticket);
        let round = self.round(&domain);
        round.reached = last;
        round.again = again && last.is_some();
        round.due = match last {
            Some(_) => Some(now),
            None => again.then(|| (round.started.unwrap() + SECOND).max(now)),
        };
    }

    fn round(&mut self, domain: &Domain) -> &mut Round {
        let index = self.rounds.iter().position(|round| round.domain == *domain).unwrap_or_else(|| {
            let domain = domain.clone();
            self.rounds.push(Round { domain, started: None, due: None, reached: None, again: false });
            self.rounds.len() - 1
        });
        &mut self.rounds[index]
    }

    fn first_deadline(&self) -> Option<(Time, bool, u64)> {
        let tickets = self.requests.iter().filter_map(|request| Some((request.deadline?, false, request.ticket)));
        let waits = self.waits.iter().filter_map(|wait| Some((wait.deadline?, true, wait.number)));
        tickets.chain(waits).min()
    }

    fn index(&self, ticket: u64) -> Option<usize> {
        self.requests.iter().position(|request| request.ticket == ticket)
    }

    fn by_id(&self, domain: &Domain, id: &RequestId) -> Option<usize> {
        self.requests.iter().position(|request| request.domain == *domain && request.id == *id)
    }

    fn holder(&self, domain: &Domain) -> Option<usize> {
        self.requests.iter().position(|request| request.domain == *domain && request.turn.is_some())
    }

    fn waiters(&self, domain: &Domain) -> Vec<usize> {
        let is_waiter = |request: &Request| request.domain == *domain && request.turn.is_none();
        (0..self.requests.len()).filter(|index| is_waiter(&self.requests[*index])).collect()
    }

    fn listeners(&self, domain: &Domain) -> Vec<usize> {
        let mut listeners = self.waiters(domain);
        listeners.retain(|index| self.requests[*index].positions);
        listeners
    }

    fn attached(&self, connection: ConnectionId, with_turn: bool) -> Option<usize> {
        let is_it = |request: &Request| request.connection == Some(connection) && request.turn.is_some() == with_turn;
        self.requests.iter().position(is_it)
    }

    fn hanging_on(&self, connection: ConnectionId) -> usize {
        let tickets = self.requests.iter().filter(|request| request.connection == Some(connection)).count();
        tickets + self.waits.iter().filter(|wait| wait.connection == connection).count()
    }

    fn place(&self, index: usize) -> (u64, u64) {
        let domain = &self.requests[index].domain;
        let ahead = self.waiters(domain).iter().filter(|waiter| **waiter < index).count() as u64;
        (ahead + 1, ahead + u64::from(self.holder(domain).is_some()))
    }

    fn find(&self, which: &Which) -> Option<usize> {
        match which {
            Which::Ticket(ticket) => self.index(ticket.0),
            Which::Request(domain, id) => self.by_id(domain, id),
            Which::Domain(domain) => self.holder(domain),
            Which::TicketOf(ticket, domain, id) => {
                let index = self.index(ticket.0)?;
                let request = &self.requests[index];
                let differs = domain.as_ref().is_some_and(|domain| *domain != request.domain)
                    || id.as_ref().is_some_and(|id| *id != request.id);
                if differs { None } else { Some(index) }
            }
        }
    }

    fn record(&mut self, request: &Request, change: Change) {
        self.out.push(Effect::Record(Record {
            at: self.now,
            domain: request.domain.clone(),
            request_id: request.id.clone(),
            ticket: Ticket(request.ticket),
            uid: request.uid,
            pid: request.pid,
            command: request.command.clone(),
            change,
        }));
    }

    fn tell(&mut self, connection: ConnectionId, reply: Reply) {
        self.out.push(Effect::Tell { connection, reply });
    }

    fn tell_owner(&mut self, request: &Request, code: ErrorCode) {
        if let Some(connection) = request.connection {
            let (domain, id) = (request.domain.clone(), request.id.to_string());
            self.error(connection, code, Some(domain), Some(id), Some(request.ticket));
        }
    }

    fn error(
        &mut self,
        connection: ConnectionId,
        code: ErrorCode,
        domain: Option<Domain>,
        request_id: Option<String>,
        ticket: Option<u64>,
    ) {
        let ticket = ticket.map(Ticket);
        self.tell(connection, Reply::Error(ErrorReply { code, message: String::new(), domain, request_id, ticket }));
    }
}

fn state(request: &Request) -> HolderState {
    match (request.binding, request.connection) {
        (Binding::Connection, Some(_)) => HolderState::Attached,
        (Binding::Connection, None) => HolderState::Orphaned,
        (Binding::Process, _) => HolderState::Process,
        (Binding::Lease, _) => HolderState::Lease,
    }
}

/// Domain, request id and ticket as the client named them.
fn asked(which: &Which) -> (Option<Domain>, Option<String>, Option<u64>) {
    match which {
        Which::Ticket(ticket) => (None, None, Some(ticket.0)),
        Which::TicketOf(ticket, domain, id) => {
            (domain.clone(), id.as_ref().map(|id| id.as_str().to_owned()), Some(ticket.0))
        }
        Which::Request(domain, id) => (Some(domain.clone()), Some(id.as_str().to_owned()), None),
        Which::Domain(domain) => (Some(domain.clone()), None, None),
    }
}
