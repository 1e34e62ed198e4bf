//! The second opinion: the same rules with nothing but vectors, searched from end to end each time.
//!
//! It shares no code with the core but the types of its interface. Messages of errors are left empty.

mod inputs;
mod again;
mod succession;
mod rules;
mod policies;
mod supersede;
mod rests;
mod nested;
mod keys;

use std::sync::Arc;
use std::time::Duration;

use seq::clock::Time;
use seq::protocol::{
    Binding, Counts, Domain, ErrorCode, ErrorReply, HeadWait, HolderState, Outcome, Reply, RequestId, Ticket, Token,
};
use seq::sequencer::{
    Change, ConnectionId, Effect, Guest, Input, KeyName, KeyRecord, Limits, Pause, Record, Secret, Successor, Which,
    Wishes, Within,
};

use keys::Follower;
use policies::Rule;
use rests::Past;

const SECOND: Duration = Duration::from_secs(1);

#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
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
    /// Whether it has to be confirmed.
    unconfirmed: bool,
    /// Whether its client will say when it goes on.
    says_started: bool,
    pipes: u32,
    processes: u32,
    secret: Option<Secret>,
    positions: bool,
    /// Of the longest wait, then of the lease.
    deadline: Option<Time>,
    told: (u64, u64),
    told_at: Option<Time>,
    /// Token and start.
    turn: Option<(u64, Time)>,
    /// Whether its client has yet to say that it goes on.
    is_fresh: bool,
    max_run: Option<Duration>,
    wishes: Wishes,
    superseded: Option<Successor>,
    guests: Vec<Guest>,
}

#[derive(Clone, Debug)]
struct Waiting {
    number: u64,
    connection: ConnectionId,
    domain: Domain,
    id: Option<String>,
    deadline: Option<Time>,
    /// Whose it is, and the turn that it was made within.
    within: (u32, Option<Within>),
}

#[derive(Clone, Debug)]
struct Round {
    domain: Domain,
    started: Option<Time>,
    due: Option<Time>,
    reached: Option<u64>,
    again: bool,
}

/// One line as the model sees it: name, holders with token and state, waiters, past runs' median, whether it is paused,
/// what its head waits for, and until when it rests.
pub(crate) type Seen = (
    Domain,
    Vec<(u64, u64, HolderState, u32)>,
    Vec<(u64, u32)>,
    Option<Duration>,
    Option<Pause>,
    Option<HeadWait>,
    Option<Time>,
);

#[derive(Clone, Debug)]
pub(crate) struct Model {
    limits: Limits,
    next_ticket: u64,
    next_token: u64,
    next_wait: u64,
    now: Time,
    /// That of the input at hand.
    present: Time,
    leaving: bool,
    frozen: bool,
    /// Until when whoever is away has its place, and until when at most.
    grace: (Time, Time),
    /// Ticket, user and what to say, the oldest first.
    ends: Vec<(u64, u32, ErrorCode)>,
    turns: u64,
    /// In order of their tickets.
    requests: Vec<Request>,
    waits: Vec<Waiting>,
    rounds: Vec<Round>,
    /// Every domain that is in use or remembered; those that are idle, the one idle longest first.
    runs: Vec<(Domain, Vec<Duration>)>,
    rules: Vec<Rule>,
    pauses: Vec<(Domain, Pause)>,
    pasts: Vec<Past>,
    keys: Vec<KeyRecord>,
    /// Before this no expired key is looked for.
    prune_from: Time,
    /// Who waits for the outcome of a key, in order.
    followers: Vec<Follower>,
    next_follower: u64,
    /// Keys that are free, and for which somebody may wait.
    vacant: Vec<KeyName>,
    /// Lines that somebody has left, and that are not looked at yet.
    unsettled: Vec<Domain>,
    /// When which line is looked at again.
    wakes: Vec<(Time, Domain)>,
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
            present: Time::ZERO,
            leaving: false,
            frozen: false,
            grace: (Time::ZERO, Time::ZERO),
            ends: Vec::new(),
            turns: 0,
            requests: Vec::new(),
            waits: Vec::new(),
            rounds: Vec::new(),
            runs: Vec::new(),
            rules: Vec::new(),
            pauses: Vec::new(),
            pasts: Vec::new(),
            keys: Vec::new(),
            prune_from: Time::ZERO,
            followers: Vec::new(),
            next_follower: 0,
            vacant: Vec::new(),
            unsettled: Vec::new(),
            wakes: Vec::new(),
            out: Vec::new(),
        }
    }

    pub(crate) fn handle(&mut self, now: Time, input: Input) -> Vec<Effect> {
        if self.frozen {
            self.refuse_after_all(input);
            return std::mem::take(&mut self.out);
        }
        self.present = now;
        if let Input::Overslept { by } = input {
            self.grace = (self.grace.0 + by, self.grace.1 + by);
        }
        while let Some((due, kind, number)) = self.first_deadline().filter(|(due, ..)| *due <= now) {
            self.now = self.now.max(due);
            if kind == 5 {
                self.prune_keys();
            } else if kind == 4 {
                self.follower_due(number);
            } else if kind == 3 {
                let (_, domain) = self.wakes.iter().min().cloned().unwrap();
                self.wakes.retain(|(_, woken)| *woken != domain);
                self.settle(&domain);
            } else if kind == 2 {
                self.give_up_who_is_away();
            } else if kind == 1 {
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
                self.settle_all(ended.domains());
            }
            self.fill_vacant_keys();
        }
        self.now = now;
        self.forget_pasts();
        self.take(input);
        self.fill_vacant_keys();
        self.step_round();
        self.forget_pasts();
        self.check_wakes();
        std::mem::take(&mut self.out)
    }

    pub(crate) fn next_timeout(&self) -> Option<Time> {
        if self.frozen {
            return None;
        }
        let rounds = self.rounds.iter().filter_map(|round| round.due);
        rounds.chain(self.first_deadline().map(|(due, ..)| due)).min()
    }

    pub(crate) fn next_numbers(&self) -> (Ticket, Token) {
        (Ticket(self.next_ticket), Token(self.next_token))
    }

    pub(crate) fn counts(&self) -> Counts {
        let holders = self.requests.iter().filter(|request| request.turn.is_some()).count() as u64;
        Counts {
            connections: 0,
            domains: self.domains_in_use().len() as u64,
            holders,
            waiters: self.requests.len() as u64 - holders,
            turns: self.turns,
        }
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        let mut runs = self.runs.clone();
        let paused = self.pauses.iter().map(|(paused, _)| paused.clone());
        let resting = self.resting().into_iter().filter(|domain| self.rest(domain).is_some());
        for domain in paused.chain(resting) {
            if !runs.iter().any(|(known, _)| *known == domain) {
                runs.push((domain, Vec::new()));
            }
        }
        runs.sort();
        let of = |domain: &Domain| {
            let holders = self.holders(domain).into_iter().map(|index| &self.requests[index]);
            let holders =
                holders.filter_map(|request| Some((request.ticket, request.turn?.0, state(request), request.pid)));
            let waiters = self.waiters(domain).into_iter().map(|index| &self.requests[index]);
            (holders.collect(), waiters.map(|request| (request.ticket, request.pid)).collect())
        };
        runs.into_iter()
            .map(|(domain, mut runs)| {
                let (holders, waiters) = of(&domain);
                runs.sort();
                let (below, above) = (runs.len().saturating_sub(1) / 2, runs.len() / 2);
                let median = (!runs.is_empty()).then(|| (runs[below] + runs[above]) / 2);
                let head = self.waiters(&domain).first().and_then(|head| self.head_waits(&domain, *head));
                let pause = self.pause_of(&domain).cloned();
                let rest = self.rest(&domain).map(|(until, _)| until);
                (domain, holders, waiters, median, pause, head, rest)
            })
            .collect()
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Sequence(request) => self.sequence(request),
            Input::Started { connection, ticket, pid, watched } => self.started(connection, ticket, pid, watched),
            Input::Confirm { connection, ticket } => self.confirm(connection, ticket),
            Input::BeginsNow { ticket } => self.begins_now(ticket),
            Input::Found { ticket, pid } => self.found(ticket, pid),
            Input::Done { connection, peer, which, exit_status, processes, request_id } => {
                self.done(connection, peer, &which, exit_status, &processes, request_id);
            }
            Input::Cancel { connection, peer, which } => self.cancel(connection, peer, &which),
            Input::Release { connection, peer, which, request_id } => {
                self.release(connection, peer, &which, request_id);
            }
            Input::Wait { connection, peer, domain, max_wait, within, request_id } => {
                let (deadline, within) = (max_wait.map(|max_wait| self.now + max_wait), (peer.uid, within));
                let number = self.next_wait;
                self.wait(Waiting { number, connection, domain, id: request_id, deadline, within });
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
            Input::PastEnd { ticket, uid, had_turn, outcome } => self.past_end(ticket.0, uid, had_turn, outcome),
            Input::PastRuns { domain, runs } => self.past_runs(&domain, runs),
            Input::PastStarts { domain, starts, last_end } => self.past_starts(&domain, starts, last_end),
            Input::SetPolicy { connection, peer, pattern, policy, request_id } => {
                self.set_policy(connection, peer, &pattern, &policy, request_id);
            }
            Input::UnsetPolicy { connection, peer, pattern, request_id } => {
                self.unset_policy(connection, peer, &pattern, request_id);
            }
            Input::FilePolicies(entries) => self.file_policies(entries),
            Input::Pause { connection, peer, domain, reason, request_id } => {
                self.pause(connection, peer, domain, reason, request_id);
            }
            Input::Resume { connection, peer, domain, request_id } => {
                self.unpause(connection, peer, domain, request_id);
            }
            Input::PastPolicy { pattern, policy } => {
                let before = self.told_of();
                self.set(&pattern, &policy);
                self.look_anew(Some(&pattern), &before);
            }
            Input::PastPause { domain, pause } => {
                self.pauses.retain(|(paused, _)| *paused != domain);
                self.pauses.push((domain.clone(), pause));
                self.settle_if_used(&domain);
            }
            Input::ForgetKey { connection, peer, uid, domain, key, request_id } => {
                self.forget_key((connection, peer), (uid, domain), &key, request_id);
            }
            Input::PastKey(record) => self.past_key(*record),
            Input::KeyLearned { ticket, exit_status } => self.key_learned(ticket.0, exit_status, Vec::new()),
            Input::Leave { keep_places: true } => self.freeze(),
            Input::Leave { keep_places: false } => self.leave(),
            Input::Overslept { .. } | Input::Tick => {}
        }
    }

    /// Of tickets, then of `Wait`s, of whoever is away, of lines, of followers, of keys.
    fn first_deadline(&self) -> Option<(Time, u8, u64)> {
        let tickets = self.requests.iter().filter_map(|request| Some((request.deadline?, 0, request.ticket)));
        let waits = self.waits.iter().filter_map(|wait| Some((wait.deadline?, 1, wait.number)));
        let away = self.requests.iter().find(|request| request.is_away()).map(|_| (self.grace.0, 2, 0));
        let wakes = self.wakes.iter().map(|(until, _)| (*until, 3, 0));
        let followers = self.followers.iter().filter_map(|follower| Some((follower.deadline?, 4, follower.number)));
        let keys = self.prune_due().map(|due| (due, 5, 0));
        tickets.chain(waits).chain(away).chain(wakes).chain(followers).chain(keys).min()
    }

    fn index(&self, ticket: u64) -> Option<usize> {
        self.requests.iter().position(|request| request.ticket == ticket)
    }

    fn by_id(&self, domain: &Domain, id: &RequestId) -> Option<usize> {
        self.requests.iter().position(|request| request.is_in(domain) && request.id == *id)
    }

    fn is_in_use(&self, domain: &Domain) -> bool {
        self.requests.iter().any(|request| request.is_in(domain))
    }

    fn domains_in_use(&self) -> Vec<Domain> {
        let mut domains: Vec<Domain> = self.requests.iter().flat_map(Request::domains).collect();
        domains.sort();
        domains.dedup();
        domains
    }

    /// The oldest turn first.
    fn holders(&self, domain: &Domain) -> Vec<usize> {
        let is_holder = |request: &Request| request.is_in(domain) && request.turn.is_some();
        let mut holders: Vec<usize> =
            (0..self.requests.len()).filter(|index| is_holder(&self.requests[*index])).collect();
        holders.sort_by_key(|index| (self.requests[*index].turn.unwrap().0, self.requests[*index].ticket));
        holders
    }

    fn waiters(&self, domain: &Domain) -> Vec<usize> {
        let is_waiter = |request: &Request| request.stands_in(domain) && request.turn.is_none();
        let mut waiters: Vec<usize> =
            (0..self.requests.len()).filter(|index| is_waiter(&self.requests[*index])).collect();
        waiters.sort_by_key(|index| (-i16::from(self.requests[*index].wishes.priority), self.requests[*index].ticket));
        waiters
    }

    fn listeners(&self, domain: &Domain) -> Vec<usize> {
        let mut listeners = self.waiters(domain);
        listeners.retain(|index| self.requests[*index].positions);
        listeners.sort_by_key(|index| self.requests[*index].ticket);
        listeners
    }

    fn attached(&self, connection: ConnectionId, with_turn: bool) -> Option<usize> {
        let is_it = |request: &Request| request.connection == Some(connection) && request.turn.is_some() == with_turn;
        self.requests.iter().position(is_it)
    }

    fn hanging_on(&self, connection: ConnectionId) -> usize {
        let tickets = self.requests.iter().filter(|request| request.connection == Some(connection)).count();
        let followers = self.followers.iter().filter(|follower| follower.ask.connection == connection).count();
        tickets + followers + self.waits.iter().filter(|wait| wait.connection == connection).count()
    }

    fn place(&self, index: usize) -> (u64, u64) {
        let place = |domain: Domain| {
            let ahead = self.waiters(&domain).iter().position(|waiter| *waiter == index).unwrap() as u64;
            (ahead + 1, ahead + self.slots_of(&domain).len() as u64)
        };
        let places: Vec<(u64, u64)> = self.requests[index].lines().into_iter().map(place).collect();
        let farthest = places.iter().map(|(position, _)| *position).max().unwrap();
        (farthest, places.iter().map(|(_, ahead)| *ahead).max().unwrap())
    }

    fn find(&self, which: &Which) -> Option<usize> {
        match which {
            Which::Ticket(ticket) => self.index(ticket.0),
            Which::Request(domain, id) => self.by_id(domain, id),
            Which::Domain(domain) => self.holders(domain).first().copied(),
            Which::TicketOf(ticket, domain, id) => {
                let index = self.index(ticket.0)?;
                let request = &self.requests[index];
                let differs = domain.as_ref().is_some_and(|domain| !request.is_in(domain))
                    || id.as_ref().is_some_and(|id| *id != request.id);
                if differs { None } else { Some(index) }
            }
        }
    }

    fn record(&mut self, request: &Request, change: Change) {
        let at = if let Change::Active { .. } = change { self.present } else { self.now };
        self.out.push(Effect::Record(Record {
            at,
            domain: request.domain.clone(),
            also: request.wishes.also.clone(),
            had_already: request.guests.iter().map(|guest| guest.domain.clone()).collect(),
            request_id: request.id.clone(),
            ticket: Ticket(request.ticket),
            uid: request.uid,
            pid: request.pid,
            command: request.command.clone(),
            superseded_by: request.superseded.map(|by| by.ticket),
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

impl Request {
    fn domains(&self) -> Vec<Domain> {
        named(&self.domain, &self.wishes)
    }

    fn is_in(&self, domain: &Domain) -> bool {
        self.domains().contains(domain)
    }

    /// Whether others may wait for what is done under its turn to start.
    fn is_to_begin(&self) -> bool {
        self.turn.is_some() && self.is_fresh && self.says_started
    }

    fn is_away(&self) -> bool {
        self.connection.is_none() && self.turn.is_none()
    }
}

/// Each domain that is named, once.
fn named(first: &Domain, wishes: &Wishes) -> Vec<Domain> {
    let mut domains = vec![first.clone()];
    for domain in &wishes.also {
        if !domains.contains(domain) {
            domains.push(domain.clone());
        }
    }
    domains
}

fn are_same(one: &[Domain], other: &[Domain]) -> bool {
    one.iter().all(|domain| other.contains(domain)) && one.len() == other.len()
}

fn state(request: &Request) -> HolderState {
    match (request.binding, request.connection) {
        (Binding::Connection, Some(_)) => HolderState::Attached,
        (Binding::Connection, None) => HolderState::Orphaned,
        (Binding::Process, _) => HolderState::Process,
        (Binding::Lease, _) => HolderState::Lease,
    }
}
