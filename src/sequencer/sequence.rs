//! A request for a turn: what is refused, and a new ticket.

use std::collections::VecDeque;

use crate::clock::Time;
use crate::protocol::{Binding, Domain, Queued, Reply, RequestId, Ticket};

use super::connections::Attached;
use super::leaving::Leaving;
use super::nested::Arrival;
use super::refusal::{About, Refusal};
use super::ticket::{Entry, Extra, Keepers, Place, State, Waiting};
use super::timers::Timer;
use super::{Change, ConnectionId, Effect, Enqueue, Guest, Sequencer, Successor, Wishes};

impl Sequencer {
    pub(super) fn sequence(&mut self, now: Time, mut request: Enqueue, out: &mut Vec<Effect>) {
        request.name_lines_once();
        if let Some(ticket) = request.resume.or_else(|| self.unclaimed(&request)) {
            self.resume(now, ticket, request, out);
            return;
        }
        let id = request.request_id.as_ref();
        let known = id.and_then(|id| request.lines().find_map(|domain| self.tickets.of_request(domain, id)));
        // Who would not take up a turn of the same name waits for its outcome, if it has the same key.
        let is_turn_of_same_key =
            |ticket: &Ticket| self.holder(*ticket).is_some() && self.key_of(*ticket) == request.key_name().as_ref();
        let known = known.filter(|ticket| !request.fresh || request.key.is_none() || !is_turn_of_same_key(ticket));
        if known.is_none() {
            let Some(first) = self.first_use(now, request, out) else { return };
            request = first;
        }
        let guests = if known.is_none() { self.guests(&request) } else { Vec::new() };
        let refusal = match known {
            Some(ticket) => self.refusal_of_known(ticket, &request),
            None => self.refusal_of_new(Arrival { request: &request, guests: &guests }),
        };
        if let Some(refusal) = refusal {
            let about = About {
                domain: Some(request.domain),
                request_id: request.request_id.map(|id| id.to_string()),
                ticket: if matches!(refusal, Refusal::AlreadyActive { .. }) { known } else { None },
            };
            out.push(refusal.tell(request.connection, about));
            return;
        }
        match known {
            None => self.enter(now, request, guests, out),
            Some(ticket) if self.holder(ticket).is_some() => self.take_up_turn(now, ticket, request, out),
            Some(ticket) => {
                let guests = self.tickets.get(&ticket).map(|entry| entry.guests().to_vec()).unwrap_or_default();
                let deadline = self.wait_until(now, Arrival { request: &request, guests: &guests });
                self.take_up_place(now, ticket, deadline, request, out);
            }
        }
    }

    fn refusal_of_new(&self, arrival: Arrival<'_>) -> Option<Refusal> {
        if self.leaving != Leaving::Not {
            return Some(Refusal::Leaving);
        }
        let (request, wishes) = (arrival.request, arrival.wishes());
        if let Some(refusal) = self.refusal_of_one_more(request.connection) {
            return Some(refusal);
        }
        if let Some(guest) = arrival.guests.iter().find(|guest| guest.shared && !wishes.shared) {
            return Some(Refusal::SharedOutside { domain: guest.domain.clone(), host: guest.host });
        }
        if let Some(guest) = arrival.guests.iter().find(|guest| !guest.shared && wishes.take > guest.take) {
            let (domain, take, has) = (guest.domain.clone(), wishes.take, guest.take);
            return Some(Refusal::TakesMoreThanOuter { domain, take, host: guest.host, has });
        }
        let domains = self.limits.domains;
        let is_new = |domain: &&Domain| !self.lines.contains_key(*domain) && !self.resting.has(domain);
        let new = arrival.lines().filter(is_new).count();
        if new > 0 && self.lines.len() + self.resting.len() + new > domains {
            return Some(Refusal::TooManyDomains { domains });
        }
        if let Some(refusal) = arrival.lines().find_map(|domain| self.refusal_of_take(domain, wishes)) {
            return Some(refusal);
        }
        let replaced = self.replaced_by(arrival);
        let (domain, obstacle) = arrival.lines().find_map(|domain| {
            let obstacle = self.obstacle_of_newcomer(domain, self.line(domain), (wishes, &replaced));
            Some((domain, obstacle?))
        })?;
        if request.no_wait {
            return self.busy(domain, self.line(domain), obstacle);
        }
        let cycle = self.refusal_of_cycle(arrival, &replaced);
        cycle.or_else(|| arrival.lines().find_map(|domain| self.refusal_of_one_more_waiter(domain, &replaced)))
    }

    fn refusal_of_take(&self, domain: &Domain, wishes: &Wishes) -> Option<Refusal> {
        let (take, slots) = (wishes.take, self.policy(domain).slots());
        (take > slots && !wishes.shared).then(|| Refusal::TakeTooLarge { domain: domain.clone(), take, slots })
    }

    /// Whether a line has all the waiters that it may have, without those whom a newcomer replaces.
    fn refusal_of_one_more_waiter(&self, domain: &Domain, replaced: &[Ticket]) -> Option<Refusal> {
        let is_here =
            |ticket: &&Ticket| self.tickets.get(ticket).is_some_and(|entry| entry.lines().any(|line| line == domain));
        let waiters = self.lines.get(domain).map_or(0, |line| line.order.len());
        let waiters = waiters - replaced.iter().filter(is_here).count();
        let max_queue = self.policy(domain).max_queue.map_or(usize::MAX, |max_queue| max_queue as usize);
        let is_full = waiters >= max_queue.min(self.limits.waiters_per_domain);
        is_full.then(|| Refusal::QueueFull { domain: domain.clone(), waiters })
    }

    fn refusal_of_known(&self, ticket: Ticket, request: &Enqueue) -> Option<Refusal> {
        if self.leaving != Leaving::Not {
            return Some(Refusal::Leaving);
        }
        let entry = self.tickets.get(&ticket)?;
        let request_id = entry.request_id.clone();
        if entry.uid != request.peer.uid {
            return Some(Refusal::RequestIdTaken { domain: entry.domain.clone(), request_id });
        }
        if !entry.is_for_same_lines(request) {
            return Some(Refusal::OtherLines { request_id, ticket });
        }
        if !self.is_for_same_key(ticket, request) {
            return Some(Refusal::OtherKey { request_id, ticket });
        }
        let has_turn = entry.turn().is_some();
        if has_turn && request.fresh {
            return Some(Refusal::AlreadyActive { request_id, ticket, pid: entry.pid });
        }
        if !has_turn && request.no_wait {
            return entry.lines().find_map(|domain| {
                let line = self.lines.get(domain)?;
                let obstacle = self.obstacle(domain, line, line.order.head()?)?;
                self.busy(domain, Some(line), obstacle)
            });
        }
        if entry.connection == Some(request.connection) {
            return None;
        }
        self.refusal_of_one_more(request.connection)
    }

    /// Whether `connection` has all that it may have.
    pub(super) fn refusal_of_one_more(&self, connection: ConnectionId) -> Option<Refusal> {
        let tickets = self.limits.tickets_per_connection;
        (self.connections.count(connection) >= tickets).then_some(Refusal::TooManyRequests { tickets })
    }

    /// Gives a new request its place.
    fn enter(&mut self, now: Time, mut request: Enqueue, guests: Vec<Guest>, out: &mut Vec<Effect>) {
        let key = request.key.take();
        let within = request.wishes.within;
        request.wishes.within = within.filter(|_| self.parent(request.peer.uid, within).is_some());
        let (ticket, request_id) = self.next_ticket_for(&request);
        let connection = request.connection;
        let arrival = Arrival { request: &request, guests: &guests };
        let deadline = self.wait_until(now, arrival);
        let by = Successor { ticket, pid: request.pid, uid: request.peer.uid };
        let replaced = self.replace(now, by, arrival, out);
        for domain in arrival.lines() {
            self.take_place(ticket, domain, &request.wishes);
            self.groups.enter(domain, request.peer.uid, &request.wishes, ticket);
        }
        for guest in &guests {
            self.join(ticket, guest);
        }
        self.enter_family(request.peer.uid, request.wishes.within, ticket);
        self.waiting += 1;
        self.connections.attach(connection, Attached::Ticket(ticket));
        // The name that the line has already: a million waiters need not have one each.
        let domain = self.lines.get_key_value(&request.domain).map(|(domain, _)| domain.clone());
        let entry = Entry {
            ticket,
            keepers: keepers(&request),
            domain: domain.unwrap_or(request.domain),
            request_id,
            uid: request.peer.uid,
            pid: request.pid,
            command: request.command,
            queued_at: now,
            secret: request.secret,
            connection: Some(connection),
            extra: Extra { wishes: request.wishes, guests, lease: request.lease, ..Extra::default() }.boxed(),
            state: State::Waiting(Waiting {
                deadline: None,
                told: Place { position: 0, total_ahead: 0 },
                told_at: None,
            }),
        };
        out.push(Effect::Admitted { ticket, follower: None });
        out.push(entry.record(now, Change::Queued));
        if let Some(ask) = key {
            self.reserve(&entry, *ask, out);
        }
        let lines: VecDeque<Domain> = entry.lines().cloned().chain(replaced).collect();
        let has_all_already = entry.lines().next().is_none();
        self.note_waiter(&entry);
        self.tickets.insert(Box::new(entry));
        if has_all_already {
            self.grant(ticket, out);
        }
        self.settle_all(lines, out);
        if self.holder(ticket).is_none() {
            self.keep_waiting(ticket, deadline, request.positions, out);
        }
    }

    /// A newcomer stands in a line now. Whoever is behind it is told another place.
    fn take_place(&mut self, ticket: Ticket, domain: &Domain, wishes: &Wishes) {
        let now = self.now;
        let line = self.line_in_use(domain);
        line.order.enter(ticket, wishes.priority);
        if line.order.ahead(wishes.priority) < line.order.len()
            && let Some(line) = self.lines.get_mut(domain)
        {
            self.rounds.line_changed(now, domain, &mut line.round);
        }
    }

    /// How long a request waits that begins to wait now: as it says, or as is usual in its domain.
    pub(super) fn wait_until(&self, now: Time, arrival: Arrival<'_>) -> Option<Time> {
        let usual = || arrival.lines().filter_map(|domain| self.policy(domain).default_max_wait).min();
        let max_wait = arrival.request.max_wait.or_else(usual)?;
        Some(now + max_wait)
    }

    /// The next ticket, and the request's own id or one made from the ticket. A number whose id somebody else has
    /// chosen already is skipped.
    fn next_ticket_for(&mut self, request: &Enqueue) -> (Ticket, RequestId) {
        loop {
            let ticket = self.next_ticket;
            self.next_ticket = Ticket(ticket.0 + 1);
            if let Some(request_id) = &request.request_id {
                return (ticket, request_id.clone());
            }
            let made = RequestId::parse(&format!("t-{ticket}")).expect("a number makes a valid request id");
            if !request.lines().any(|domain| self.tickets.of_request(domain, &made).is_some()) {
                return (ticket, made);
            }
        }
    }

    /// Notes how a waiter wants to wait, and tells it where it stands.
    pub(super) fn keep_waiting(
        &mut self,
        ticket: Ticket,
        deadline: Option<Time>,
        positions: bool,
        out: &mut Vec<Effect>,
    ) {
        let place = self.tickets.get(&ticket).and_then(|entry| self.place(entry));
        let Some(entry) = self.tickets.get_mut(&ticket) else { return };
        let (Some(place), State::Waiting(waiting), Some(connection)) = (place, &mut entry.state, entry.connection)
        else {
            return;
        };
        self.timers.clear(waiting.deadline, Timer::Ticket(ticket));
        self.timers.set(deadline, Timer::Ticket(ticket));
        waiting.deadline = deadline;
        waiting.told = place;
        for domain in entry.lines() {
            let Some(round) = self.lines.get_mut(domain).map(|line| &mut line.round) else { continue };
            if positions {
                round.subscribers.insert(ticket);
            } else if round.subscribers.remove(&ticket) && round.subscribers.is_empty() {
                self.rounds.stop(domain, round);
            }
        }
        let reply = Reply::Queued(Queued {
            domain: entry.domain.clone(),
            request_id: entry.request_id.clone(),
            ticket,
            position: place.position.into(),
            total_ahead: place.total_ahead.into(),
        });
        out.push(Effect::Tell { connection, reply });
    }
}

impl Enqueue {
    /// Every line that it is for.
    pub(super) fn lines(&self) -> impl Iterator<Item = &Domain> + Clone {
        std::iter::once(&self.domain).chain(&self.wishes.also)
    }

    /// A line that is named twice counts once.
    fn name_lines_once(&mut self) {
        if self.wishes.also.is_empty() {
            return;
        }
        let named = std::iter::once(self.domain.clone()).chain(self.wishes.also.drain(..));
        self.wishes.also = Domain::each_once(named).skip(1).collect();
    }
}

/// What the daemon watches for a request from now on.
pub(super) fn keepers(request: &Enqueue) -> Keepers {
    Keepers {
        binding: request.binding,
        named_process: request.named_process,
        unconfirmed: request.confirm,
        says_started: request.says_started,
        pipes: u32::from(request.pipe),
        processes: u32::from(request.binding == Binding::Process),
    }
}
