//! What each input does.

use std::time::Duration;

use seq::clock::Time;
use seq::protocol::{
    Binding, Cancelled, Confirmed, Domain, DoneReply, ErrorCode, Idle, Outcome, Queued, Released, Reply, RequestId,
    Ticket, Token,
};
use seq::sequencer::{Change, ConnectionId, Effect, Enqueue, Peer, Which};

use super::{Model, Request, Waiting, are_same, named};

impl Model {
    pub(super) fn sequence(&mut self, ask: Enqueue) {
        if let Some(ticket) = ask.resume.map(|ticket| ticket.0).or_else(|| self.left_by(&ask)) {
            return self.resume(ticket, ask);
        }
        let connection = ask.connection;
        let id = ask.request_id.as_ref().map(RequestId::to_string);
        let domains = named(&ask.domain, &ask.wishes);
        let by_id = |id: &RequestId| domains.iter().find_map(|domain| self.by_id(domain, id));
        let before = ask.request_id.as_ref().and_then(by_id).filter(|index| !self.would_do_it_again(*index, &ask));
        if before.is_none() && !self.is_first_use(&ask) {
            return;
        }
        let code = self.why_not(&ask, before);
        if let Some(code) = code {
            let ticket = before.filter(|_| code == ErrorCode::AlreadyActive).map(|index| self.requests[index].ticket);
            self.error(connection, code, Some(ask.domain), id, ticket);
            return;
        }
        let Some(index) = before else { return self.enter(ask) };
        let max_wait = ask.max_wait.or(self.usual_wait(&ask));
        self.take_up(index, ask, max_wait.map(|max_wait| self.now + max_wait));
    }

    pub(super) fn why_not(&self, ask: &Enqueue, before: Option<usize>) -> Option<ErrorCode> {
        if self.leaving {
            return Some(ErrorCode::Leaving);
        }
        let domains = named(&ask.domain, &ask.wishes);
        let is_full = self.hanging_on(ask.connection) >= self.limits.tickets_per_connection;
        if let Some(index) = before {
            let request = &self.requests[index];
            return match request.turn {
                _ if request.uid != ask.peer.uid => Some(ErrorCode::RequestIdTaken),
                _ if !are_same(&request.domains(), &domains) => Some(ErrorCode::RequestIdTaken),
                _ if !self.is_for_the_same(request.ticket, ask) => Some(ErrorCode::RequestIdTaken),
                Some(_) if ask.fresh => Some(ErrorCode::AlreadyActive),
                None if ask.no_wait => Some(ErrorCode::Busy),
                _ if request.connection != Some(ask.connection) && is_full => Some(ErrorCode::TooManyRequests),
                _ => None,
            };
        }
        let lines = self.lines_of(ask);
        let is_new = |domain: &&Domain| !self.is_in_use(domain) && !self.resting().contains(domain);
        let new = lines.iter().filter(is_new).count();
        let room = self.limits.domains.saturating_sub(self.domains_in_use().len() + self.resting().len());
        let replaced = self.replaced_by(ask);
        let is_line_full = |domain: &Domain| {
            let waiters = self.waiters(domain).into_iter().filter(|waiter| !replaced.contains(waiter));
            waiters.count() >= self.max_queue(domain)
        };
        if is_full {
            Some(ErrorCode::TooManyRequests)
        } else if !ask.wishes.shared && self.guests_of(ask).iter().any(|guest| guest.shared) {
            Some(ErrorCode::WouldDeadlock)
        } else if self.guests_of(ask).iter().any(|guest| !guest.shared && ask.wishes.take > guest.take) {
            Some(ErrorCode::TakeTooLarge)
        } else if new > 0 && new > room {
            Some(ErrorCode::TooManyDomains)
        } else if !ask.wishes.shared && lines.iter().any(|domain| ask.wishes.take > self.slots(domain)) {
            Some(ErrorCode::TakeTooLarge)
        } else if !lines.iter().any(|domain| self.has_to_wait(domain, ask)) {
            None
        } else if ask.no_wait {
            Some(ErrorCode::Busy)
        } else if self.would_deadlock(ask) {
            Some(ErrorCode::WouldDeadlock)
        } else if lines.iter().any(is_line_full) {
            Some(ErrorCode::QueueFull)
        } else {
            None
        }
    }

    /// Whether a newcomer does not get its turn at once in a line.
    fn has_to_wait(&self, domain: &Domain, ask: &Enqueue) -> bool {
        let replaced = self.replaced_by(ask);
        let is_ahead = |waiter: &usize| {
            self.requests[*waiter].wishes.priority >= ask.wishes.priority && !replaced.contains(waiter)
        };
        self.line_waits(domain, &ask.wishes).is_some() || self.waiters(domain).iter().any(is_ahead)
    }

    fn usual_wait(&self, ask: &Enqueue) -> Option<Duration> {
        let known = ask.request_id.as_ref().and_then(|id| self.by_id(&ask.domain, id));
        let lines = known.map_or_else(|| self.lines_of(ask), |index| self.requests[index].lines());
        lines.iter().filter_map(|domain| self.default_max_wait(domain)).min()
    }

    pub(super) fn enter(&mut self, mut ask: Enqueue) {
        let domains = named(&ask.domain, &ask.wishes);
        ask.wishes.also = domains[1..].to_vec();
        let (guests, lines) = (self.guests_of(&ask), self.lines_of(&ask));
        let usual_wait = self.usual_wait(&ask);
        let id = ask.request_id.clone().unwrap_or_else(|| {
            loop {
                let id = RequestId::parse(&format!("t-{}", self.next_ticket)).unwrap();
                if domains.iter().all(|domain| self.by_id(domain, &id).is_none()) {
                    return id;
                }
                self.next_ticket += 1;
            }
        });
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let replaced = self.supersede(&ask, ticket);
        for domain in &domains {
            self.use_domain(domain);
        }
        self.requests.push(Request { id, guests, ..Request::of(&ask, ticket, self.now) });
        let index = self.requests.len() - 1;
        if self.parent(ask.peer.uid, ask.wishes.within).is_none() {
            self.requests[index].wishes.within = None;
        }
        for domain in &lines {
            if self.waiters(domain).last() != Some(&index) {
                self.places_changed(domain);
            }
        }
        self.out.push(Effect::Admitted { ticket: Ticket(ticket), follower: None });
        self.record(&self.requests[index].clone(), Change::Queued);
        self.reserve(&ask, ticket);
        if lines.is_empty() {
            self.reenter(index);
        }
        self.settle_all(lines.into_iter().chain(replaced).collect());
        if self.requests[index].turn.is_none() {
            let max_wait = ask.max_wait.or(usual_wait);
            self.stand(index, max_wait.map(|max_wait| self.now + max_wait), ask.positions);
        }
    }

    pub(super) fn use_domain(&mut self, domain: &Domain) {
        if !self.runs.iter().any(|(known, _)| known == domain) {
            self.runs.push((domain.clone(), Vec::new()));
        }
    }

    /// A waiter is told its place and begins to wait as it asked.
    pub(super) fn stand(&mut self, index: usize, deadline: Option<Time>, positions: bool) {
        let (position, total_ahead) = self.place(index);
        let request = &mut self.requests[index];
        request.deadline = deadline;
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
        for domain in &self.requests[index].lines() {
            self.drop_round_without_listeners(domain);
        }
        self.tell(request.connection.unwrap(), Reply::Queued(reply));
    }

    pub(super) fn started(&mut self, connection: ConnectionId, ticket: Ticket, pid: u32, watched: bool) {
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
        self.out.push(Effect::Changed { ticket });
        self.goes_on(index);
    }

    pub(super) fn found(&mut self, ticket: Ticket, pid: u32) {
        let is_orphan =
            |index: &usize| self.requests[*index].turn.is_some() && self.requests[*index].connection.is_none();
        let Some(index) = self.index(ticket.0).filter(is_orphan) else { return };
        let is_another = std::mem::replace(&mut self.requests[index].pid, pid) != pid;
        self.out.push(Effect::Changed { ticket });
        if is_another && self.requests[index].is_to_begin() {
            self.goes_on(index);
        }
    }

    pub(super) fn begins_now(&mut self, ticket: Ticket) {
        let Some(index) = self.index(ticket.0) else { return };
        let Some((token, before)) = self.requests[index].turn else { return };
        let now = self.present;
        let request = &mut self.requests[index];
        request.turn = Some((token, now));
        request.deadline = request.deadline.map(|lease_until| now + lease_until.since(before));
        self.out.push(Effect::Changed { ticket });
        self.move_starts(index, before);
    }

    /// The first time, what is done under the turn starts only now.
    pub(super) fn goes_on(&mut self, index: usize) {
        let Some((_, active_at)) = self.requests[index].turn else { return };
        if self.requests[index].is_to_begin() {
            self.begins(index);
        } else if self.requests[index].is_fresh {
            self.requests[index].is_fresh = false;
            self.move_starts(index, active_at);
        }
        self.settle_all(self.requests[index].lines());
    }

    /// Others wait for what is done under a turn to start, and it does.
    pub(super) fn begins(&mut self, index: usize) {
        let (request, at) = (self.requests[index].clone(), self.present);
        let counted: Vec<Domain> = request
            .lines()
            .into_iter()
            .filter(|domain| self.starts_to_come(domain).contains(&request.ticket))
            .collect();
        self.requests[index].is_fresh = false;
        for domain in request.lines() {
            if counted.contains(&domain) {
                self.move_start(&domain, request.turn.unwrap().1);
            } else {
                self.note_start_at(&domain, at);
            }
        }
    }

    fn move_starts(&mut self, index: usize, from: Time) {
        for domain in self.requests[index].lines() {
            self.move_start(&domain, from);
        }
    }

    pub(super) fn confirm(&mut self, connection: ConnectionId, ticket: Ticket) {
        let mine = self.index(ticket.0).filter(|index| self.requests[*index].connection == Some(connection));
        let Some(index) = mine else {
            return self.error(connection, ErrorCode::NotFound, None, None, Some(ticket.0));
        };
        let request = &mut self.requests[index];
        if request.turn.is_none() {
            return self.error(connection, ErrorCode::NotActive, None, None, Some(ticket.0));
        }
        request.unconfirmed = false;
        let (domain, request_id) = (request.domain.clone(), request.id.clone());
        self.out.push(Effect::Changed { ticket });
        self.goes_on(index);
        self.tell(connection, Reply::Confirmed(Confirmed { domain, request_id, ticket }));
    }

    pub(super) fn done(
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
        let says_who = !processes.is_empty();
        let may = |index: usize| {
            let request = &self.requests[index];
            let mut may = request.uid == peer.uid || peer.is_operator;
            if matches!(which, Which::Domain(_))
                || matches!(which, Which::Request(..) | Which::TicketOf(.., Some(_))) && says_who
            {
                may &= request.connection == Some(connection)
                    || request.binding == Binding::Lease && (!says_who || processes.contains(&request.pid))
                    || request.binding == Binding::Connection
                        && !matches!(which, Which::Domain(_))
                        && processes.contains(&request.pid)
                    || request.binding == Binding::Process && (request.named || processes.contains(&request.pid));
            }
            may
        };
        let meant = match which {
            Which::Domain(domain) => self.holders(domain),
            _ => self.find(which).into_iter().collect(),
        };
        if meant.is_empty() {
            self.done_late(connection, peer, ticket, exit_status);
            let ticket = ticket.map(Ticket);
            return self.tell(connection, Reply::Done(DoneReply { domain, request_id: id, ticket, released: false }));
        }
        let not_its_own = |request: &Request| request.turn.is_none() && request.connection != Some(connection);
        if let [index] = meant[..]
            && (self.requests[index].uid == peer.uid || peer.is_operator)
            && says_who
            && not_its_own(&self.requests[index])
        {
            return self.error(connection, ErrorCode::NotActive, domain, id, ticket);
        }
        let Some(index) = meant.into_iter().find(|index| may(*index)) else {
            return self.error(connection, ErrorCode::Forbidden, domain, id, ticket);
        };
        let request = self.requests[index].clone();
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
        self.settle_all(request.domains());
    }

    pub(super) fn cancel(&mut self, connection: ConnectionId, peer: Peer, which: &Which) {
        let (domain, id, ticket) = asked(which);
        let code = match self.find(which).map(|index| &self.requests[index]) {
            _ if matches!(which, Which::Domain(_)) => ErrorCode::NotFound,
            None => ErrorCode::NotFound,
            Some(request) if request.uid != peer.uid && !peer.is_operator => ErrorCode::Forbidden,
            Some(request) if request.turn.is_some() => ErrorCode::NotWaiting,
            Some(_) => {
                let request = self.end(self.find(which).unwrap(), Outcome::Cancelled, None);
                self.tell_owner(&request, ErrorCode::Cancelled);
                let (domain, request_id) = (request.domain.clone(), request.id.clone());
                let reply = Cancelled { domain, request_id, ticket: Ticket(request.ticket) };
                self.tell(connection, Reply::Cancelled(reply));
                return self.settle_all(request.domains());
            }
        };
        self.error(connection, code, domain, id, ticket);
    }

    pub(super) fn release(&mut self, connection: ConnectionId, peer: Peer, which: &Which, request_id: Option<String>) {
        let (domain, id, ticket) = asked(which);
        let several = matches!(which, Which::Domain(domain) if self.slots_of(domain).len() > 1);
        let code = match self.find(which).map(|index| &self.requests[index]) {
            None => ErrorCode::NotFound,
            Some(_) if several => ErrorCode::SeveralHolders,
            Some(request) if request.uid != peer.uid && !peer.is_operator => ErrorCode::Forbidden,
            Some(request) if request.turn.is_none() => ErrorCode::NotActive,
            Some(_) => {
                let named = self.requests[self.find(which).unwrap()].clone();
                let mut unsettled = Vec::new();
                for ticket in self.released_with(&named, which) {
                    let index = self.index(ticket).unwrap();
                    let (outcome, code) = match self.requests[index].turn {
                        Some(_) => (Outcome::Released, ErrorCode::Released),
                        None => (Outcome::Cancelled, ErrorCode::Cancelled),
                    };
                    let request = self.end(index, outcome, None);
                    self.tell_owner(&request, code);
                    unsettled.extend(request.domains());
                }
                let (domain, holder) = (named.domain, named.id);
                let reply = Released { domain, holder, ticket: Ticket(named.ticket), request_id };
                self.tell(connection, Reply::Released(reply));
                return self.settle_all(unsettled);
            }
        };
        self.error(connection, code, domain, request_id.or(id), ticket);
    }

    pub(super) fn wait(&mut self, wait: Waiting) {
        let (uid, within) = wait.within;
        let is_in = |index: usize| self.requests[index].is_in(&wait.domain);
        let code = if self.leaving {
            ErrorCode::Leaving
        } else if !self.is_in_use(&wait.domain) {
            return self.tell(wait.connection, Reply::Idle(Idle { domain: wait.domain, request_id: wait.id }));
        } else if self.hanging_on(wait.connection) >= self.limits.tickets_per_connection {
            ErrorCode::TooManyRequests
        } else if self.ancestors(uid, within).into_iter().any(is_in) || self.would_wait_for_ever(&wait) {
            ErrorCode::WouldDeadlock
        } else {
            self.next_wait += 1;
            return self.waits.push(wait);
        };
        self.error(wait.connection, code, Some(wait.domain), wait.id, None);
    }

    pub(super) fn disconnected(&mut self, connection: ConnectionId) {
        self.waits.retain(|wait| wait.connection != connection);
        self.followers_gone(connection);
        while let Some(index) = self.attached(connection, false) {
            let ended = self.end(index, Outcome::Gone, None);
            self.settle_all(ended.domains());
        }
        while let Some(index) = self.attached(connection, true) {
            self.requests[index].connection = None;
            let request = self.requests[index].clone();
            if !self.end_if_unkept(index) && request.binding == Binding::Connection {
                self.record(&request, Change::Orphaned { token: Token(request.turn.unwrap().0) });
            }
            if let Some(index) = self.index(request.ticket).filter(|index| self.requests[*index].is_to_begin()) {
                self.out.push(Effect::Changed { ticket: Ticket(request.ticket) });
                self.goes_on(index);
            }
        }
    }

    pub(super) fn process_gone(&mut self, ticket: Ticket) {
        let Some(index) = self.index(ticket.0) else { return };
        let request = &mut self.requests[index];
        request.processes = request.processes.saturating_sub(1);
        if request.turn.is_some() {
            self.end_if_unkept(index);
        } else if (request.binding == Binding::Process || request.connection.is_none()) && request.processes == 0 {
            let request = self.end(index, Outcome::Gone, None);
            self.tell_owner(&request, ErrorCode::Gone);
            self.settle_all(request.domains());
            return;
        }
        let is_alone =
            |index: &usize| self.requests[*index].connection.is_none() && self.requests[*index].is_to_begin();
        if let Some(index) = self.index(ticket.0).filter(is_alone) {
            self.out.push(Effect::Changed { ticket });
            self.goes_on(index);
        }
    }
}

impl Request {
    /// A newcomer, before it is known what it has already.
    pub(super) fn of(ask: &Enqueue, ticket: u64, now: Time) -> Request {
        Request {
            ticket,
            domain: ask.domain.clone(),
            id: ask.request_id.clone().unwrap_or_else(|| RequestId::parse("not-named").unwrap()),
            uid: ask.peer.uid,
            pid: ask.pid,
            command: ask.command.clone(),
            queued_at: now,
            connection: Some(ask.connection),
            binding: ask.binding,
            lease: ask.lease,
            named: ask.named_process,
            unconfirmed: ask.confirm,
            says_started: ask.says_started,
            pipes: u32::from(ask.pipe),
            processes: u32::from(ask.binding == Binding::Process),
            secret: ask.secret,
            positions: false,
            deadline: None,
            is_fresh: false,
            told: (0, 0),
            told_at: None,
            turn: None,
            max_run: None,
            wishes: ask.wishes.clone(),
            superseded: None,
            guests: Vec::new(),
        }
    }
}

/// Domain, request id and ticket as the client named them.
pub(super) fn asked(which: &Which) -> (Option<Domain>, Option<String>, Option<u64>) {
    match which {
        Which::Ticket(ticket) => (None, None, Some(ticket.0)),
        Which::TicketOf(ticket, domain, id) => {
            (domain.clone(), id.as_ref().map(|id| id.as_str().to_owned()), Some(ticket.0))
        }
        Which::Request(domain, id) => (Some(domain.clone()), Some(id.as_str().to_owned()), None),
        Which::Domain(domain) => (Some(domain.clone()), None, None),
    }
}
