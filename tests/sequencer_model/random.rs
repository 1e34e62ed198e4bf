//! Random inputs with few names, so that they collide.

use std::time::Duration;

use fastrand::Rng;

use seq::clock::{Moment, Time};
use seq::protocol::{Binding, Domain, Fingerprint, Key, Outcome, PolicyValue, RequestId, Ticket, Token, ValueSet};
use seq::sequencer::{
    ConnectionId, Enqueue, FilePolicy, Guest, Input, KeyAsk, KeyName, KeyOutcome, KeyRecord, KeyState, Limits, Pattern,
    Pause, Peer, Policy, Rate, Restored, RestoredTurn, Secret, Which, Wishes, Within,
};

use crate::disk::Disk;

/// What policies are for: each of the domains, and sets of them.
const PATTERNS: [&str; 6] = ["a.example", "b.example", "*", "?.example", "b*", "a*le"];

/// What one run draws from.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) limits: Limits,
    domains: Vec<Domain>,
    patterns: Vec<Pattern>,
    /// Whether somebody sets policies.
    has_policies: bool,
    /// Whether something is to be done once.
    has_keys: bool,
    connections: u64,
    /// Whether the lines grow long rather than collide: for the steps of position rounds.
    is_crowded: bool,
}

impl World {
    pub(crate) fn new(seed: u64, rng: &mut Rng) -> World {
        let is_crowded = seed.is_multiple_of(40);
        let domains = if is_crowded { 1..=1 } else { 1..=5 };
        let names = ["a.example", "b.example", "c.example", "d.example", "e.example"];
        World {
            limits: Limits {
                waiters_per_domain: if is_crowded { 300 } else { rng.usize(2..9) },
                domains: rng.usize(2..6),
                tickets_per_connection: if is_crowded { 300 } else { rng.usize(2..9) },
                policies: rng.usize(1..4),
                keys: rng.usize(2..12),
                keys_per_user: rng.usize(2..9),
                idle_domains: rng.usize(0..4),
                past_runs: rng.usize(0..5),
                past_ends: rng.usize(0..12),
                waiters_viewed: usize::MAX,
            },
            patterns: PATTERNS.iter().map(|pattern| Pattern::parse(pattern).unwrap()).collect(),
            has_policies: !is_crowded && rng.u8(..4) > 0,
            has_keys: !is_crowded && rng.u8(..4) > 0,
            domains: names[..rng.usize(domains)].iter().map(|name| Domain::parse(name).unwrap()).collect(),
            connections: if is_crowded { 60 } else { rng.u64(2..7) },
            is_crowded,
        }
    }

    /// How much later the next input comes: often at once, often just at or beside the next deadline.
    pub(crate) fn later(rng: &mut Rng, now: Time, next: Option<Time>) -> Time {
        match (rng.u8(..100), next) {
            (0..15, Some(next)) => now.max(next),
            (15..18, Some(next)) => now.max(Time::from_nanos(next.as_nanos().saturating_sub(1))),
            (18..21, Some(next)) => now.max(Time::from_nanos(next.as_nanos() + 1)),
            (21..38, _) => now + Duration::from_millis(rng.u64(..400)),
            (38, _) => now + Duration::from_secs(rng.u64(..4)),
            (39, _) if rng.u8(..20) == 0 => now + Duration::from_hours(24),
            _ => now,
        }
    }

    pub(crate) fn input(&self, rng: &mut Rng, now: Time, next_ticket: Ticket, disk: &Disk) -> Input {
        let ticket = Ticket(next_ticket.0.saturating_sub(rng.u64(1..if self.is_crowded { 400 } else { 14 })));
        let connection = self.connection(rng);
        let joins = if self.is_crowded { 70 } else { 42 };
        let roll = rng.u8(..101);
        if roll < joins {
            return Input::Sequence(if rng.u8(..5) == 0 {
                self.resume(rng, ticket, disk)
            } else {
                self.enqueue(rng, disk)
            });
        }
        let request_id = rng.bool().then(|| "repeated".to_owned());
        if self.has_policies && rng.u8(..12) == 0 {
            return self.policy_input(rng, now);
        }
        if self.has_keys && rng.u8(..16) == 0 {
            return self.key_input(rng, now, ticket, request_id);
        }
        match roll {
            0..55 | 70..75 => Input::Done {
                connection,
                peer: peer(rng),
                which: self.which(rng, ticket),
                exit_status: [None, Some(0), Some(0), Some(3), Some(76)][rng.usize(..5)],
                processes: if rng.bool() { vec![pid(rng), pid(rng)] } else { Vec::new() },
                request_id,
            },
            55..62 | 75..80 => Input::Cancel { connection, peer: peer(rng), which: self.which(rng, ticket) },
            62..65 | 80..82 => {
                Input::Release { connection, peer: peer(rng), which: self.which(rng, ticket), request_id }
            }
            65..68 => Input::Started { connection, ticket, pid: pid(rng), watched: rng.bool() },
            68..70 if rng.u8(..4) > 0 => Input::Confirm { connection, ticket },
            68..70 => Input::BeginsNow { ticket },
            82..86 => Input::Wait {
                connection,
                peer: peer(rng),
                domain: self.domain(rng),
                max_wait: duration(rng),
                within: if rng.bool() { within(rng, disk) } else { None },
                request_id,
            },
            86..89 => Input::Disconnected { connection },
            89..92 => Input::PipeClosed { ticket },
            92..96 => Input::ProcessGone { ticket },
            96 if rng.u8(..4) == 0 => Input::Restore(self.restored(rng, now, ticket, disk)),
            97 if rng.u8(..20) == 0 => Input::Leave { keep_places: rng.bool() },
            98 => self.past(rng, now, ticket),
            99 if rng.u8(..4) == 0 => Input::Found { ticket, pid: pid(rng) },
            99 if rng.u8(..4) == 0 => Input::Overslept { by: Duration::from_millis(rng.u64(..9_000)) },
            _ => Input::Tick,
        }
    }

    fn enqueue(&self, rng: &mut Rng, disk: &Disk) -> Enqueue {
        Enqueue {
            connection: self.connection(rng),
            peer: peer(rng),
            domain: self.domain(rng),
            request_id: if self.is_crowded && rng.u8(..10) > 0 { None } else { id(rng) },
            positions: rng.u8(..3) > 0,
            no_wait: rng.u8(..8) == 0,
            max_wait: if self.is_crowded { None } else { duration(rng) },
            binding: binding(rng),
            lease: duration(rng),
            fresh: rng.u8(..4) == 0,
            secret: secret(rng),
            resume: None,
            pid: pid(rng),
            command: rng.bool().then(|| "make".into()),
            pipe: rng.bool(),
            named_process: rng.u8(..3) == 0,
            wishes: self.wishes(rng, disk),
            confirm: rng.u8(..3) == 0,
            says_started: rng.u8(..3) == 0,
            key: self.key(rng, disk),
        }
    }

    /// What may be asked for once; often for a ticket that was followed before.
    fn key(&self, rng: &mut Rng, disk: &Disk) -> Option<Box<KeyAsk>> {
        if !self.has_keys || rng.u8(..3) == 0 {
            return None;
        }
        let records: Vec<&KeyRecord> = disk.keys.values().collect();
        let known = records.get(rng.usize(..records.len().max(1)));
        Some(Box::new(KeyAsk {
            key: known.filter(|_| rng.bool()).map_or_else(|| key(rng), |record| record.name.key.clone()),
            fingerprint: known.filter(|_| rng.bool()).map_or_else(|| fingerprint(rng), |record| record.fingerprint),
            ttl: ttl(rng),
            keep_failures: rng.u8(..3) == 0,
            retry_unknown: rng.u8(..3) == 0,
            replay: rng.u8(..4) == 0,
            follows: known.filter(|_| rng.u8(..3) == 0).map(|record| record.ticket),
        }))
    }

    fn key_input(&self, rng: &mut Rng, now: Time, ticket: Ticket, request_id: Option<String>) -> Input {
        match rng.u8(..8) {
            0..4 => Input::ForgetKey {
                connection: self.connection(rng),
                peer: peer(rng),
                uid: if rng.u8(..4) == 0 { Some(peer(rng).uid) } else { None },
                domain: rng.bool().then(|| self.domain(rng)),
                key: key(rng),
                request_id,
            },
            4..7 => Input::KeyLearned { ticket, exit_status: if rng.bool() { 0 } else { 3 } },
            _ => Input::PastKey(Box::new(self.past_key(rng, now, ticket))),
        }
    }

    fn past_key(&self, rng: &mut Rng, now: Time, ticket: Ticket) -> KeyRecord {
        let (token, exit_status) = (Token(rng.u64(..9)), if rng.bool() { 0 } else { 3 });
        let earlier = Moment::from_millis(Moment::from(now).as_millis() - rng.i64(..9_000));
        let outcome = KeyOutcome { exit_status, token, started_at: earlier, ended_at: now.into() };
        let state = match rng.u8(..5) {
            0 => KeyState::Reserved,
            1 => KeyState::Running { token, started_at: earlier },
            2 => KeyState::Completed(outcome),
            3 => KeyState::Freed(outcome),
            _ => KeyState::Unknown { token, started_at: earlier, ended_at: now.into() },
        };
        let is_under_way = matches!(state, KeyState::Reserved | KeyState::Running { .. });
        KeyRecord {
            name: KeyName { uid: peer(rng).uid, domain: self.domain(rng), key: key(rng) },
            fingerprint: fingerprint(rng),
            ttl: ttl(rng),
            keep_failures: rng.bool(),
            records_output: rng.bool(),
            ticket,
            pid: pid(rng),
            reserved_at: earlier,
            state,
            expires_at: (!is_under_way).then(|| if rng.u8(..4) == 0 { now } else { now + ttl(rng) }),
            learned: (matches!(state, KeyState::Running { .. }) && rng.bool()).then_some(exit_status),
            displaced: None,
            conflicts: 0,
            conflicting: Vec::new(),
        }
    }

    fn restored(&self, rng: &mut Rng, now: Time, ticket: Ticket, disk: &Disk) -> Restored {
        let earlier = Time::from_nanos(now.as_nanos() / 2);
        let is_holder = rng.bool();
        let domain = self.domain(rng);
        Restored {
            ticket: Ticket(ticket.0 + rng.u64(..14)),
            domain: domain.clone(),
            request_id: id(rng).unwrap_or_else(|| RequestId::parse("restored").unwrap()),
            uid: peer(rng).uid,
            pid: pid(rng),
            command: None,
            queued_at: earlier,
            binding: binding(rng),
            lease: duration(rng),
            named_process: rng.bool(),
            unconfirmed: rng.u8(..3) == 0,
            says_started: rng.u8(..3) == 0,
            wait_until: duration(rng).filter(|_| !is_holder).map(|longest| earlier + longest),
            secret: secret(rng),
            turn: is_holder.then(|| RestoredTurn {
                token: Token(rng.u64(..9)),
                active_at: earlier,
                lease_until: duration(rng).map(|lease| earlier + lease),
                max_run: duration(rng),
                is_fresh: rng.bool(),
                superseded: None,
            }),
            pipes: rng.u32(..2),
            processes: rng.u32(..3),
            wishes: self.wishes_of(rng, &domain, disk),
            guests: if is_holder && rng.u8(..4) == 0 { vec![self.guest(rng, ticket)] } else { Vec::new() },
        }
    }

    /// A client comes back; most prove who they are.
    fn resume(&self, rng: &mut Rng, ticket: Ticket, disk: &Disk) -> Enqueue {
        let ask = Enqueue { resume: Some(ticket), ..self.enqueue(rng, disk) };
        let Some((ticket, old)) = disk.live.range(ticket..).next() else { return ask };
        if rng.u8(..4) == 0 {
            return ask;
        }
        Enqueue {
            resume: if rng.u8(..3) == 0 { None } else { Some(*ticket) },
            domain: old.domain.clone(),
            wishes: Wishes { also: old.wishes.also.iter().rev().cloned().collect(), ..Wishes::default() },
            request_id: rng.bool().then(|| old.request_id.clone()),
            peer: Peer { uid: old.uid, ..ask.peer },
            secret: old.secret.or(ask.secret),
            key: if rng.u8(..4) == 0 { ask.key } else { key_of(*ticket, disk) },
            ..ask
        }
    }

    /// Somebody changes how the lines go.
    fn policy_input(&self, rng: &mut Rng, now: Time) -> Input {
        let (connection, request_id) = (self.connection(rng), rng.bool().then(|| "repeated".to_owned()));
        let peer = Peer { is_operator: rng.u8(..8) > 0, ..peer(rng) };
        let pattern = self.patterns[rng.usize(..self.patterns.len())].clone();
        let reason = [None, Some("because"), Some("")][rng.usize(..3)];
        match rng.u8(..12) {
            0..4 => Input::SetPolicy { connection, peer, pattern, policy: policy(rng), request_id },
            4..6 => Input::UnsetPolicy { connection, peer, pattern, request_id },
            6 => Input::FilePolicies((0..rng.u32(..4)).map(|line| self.file_policy(rng, line)).collect()),
            7 => {
                Input::Pause { connection, peer, domain: self.domain(rng), reason: reason.map(Into::into), request_id }
            }
            8..11 => Input::Resume { connection, peer, domain: self.domain(rng), request_id },
            _ if rng.bool() => Input::PastPolicy { pattern, policy: policy(rng) },
            _ => {
                let reason = reason.filter(|reason| !reason.is_empty()).map(Into::into);
                Input::PastPause { domain: self.domain(rng), pause: Pause { uid: 7, at: now, reason } }
            }
        }
    }

    fn file_policy(&self, rng: &mut Rng, line: u32) -> FilePolicy {
        FilePolicy { pattern: self.patterns[rng.usize(..self.patterns.len())].clone(), line, policy: policy(rng) }
    }

    /// What the daemon knows of earlier.
    fn past(&self, rng: &mut Rng, now: Time, ticket: Ticket) -> Input {
        if rng.u8(..4) == 0 {
            let mut ago =
                || Time::from_nanos((now.as_nanos() + 1_000_000_000).saturating_sub(rng.u64(..5_000_000_000)));
            let (starts, last_end) = ((0..3).map(|_| ago()).collect(), Some(ago()));
            return Input::PastStarts { domain: self.domain(rng), starts, last_end };
        }
        if rng.bool() {
            let runs = (0..rng.u64(..7)).map(Duration::from_secs).collect();
            return Input::PastRuns { domain: self.domain(rng), runs };
        }
        let endings = [Outcome::Done, Outcome::Cancelled, Outcome::Released, Outcome::Gone];
        let outcomes = [&endings[..], &[Outcome::TimedOut, Outcome::Stopped]].concat();
        let outcome = outcomes[rng.usize(..outcomes.len())];
        Input::PastEnd { ticket, uid: peer(rng).uid, had_turn: rng.bool(), outcome }
    }

    fn wishes(&self, rng: &mut Rng, disk: &Disk) -> Wishes {
        Wishes {
            take: if rng.u8(..4) == 0 { rng.u32(2..5) } else { 1 },
            shared: rng.u8(..5) == 0,
            priority: if rng.u8(..4) == 0 { rng.i8(-2..3) } else { 0 },
            supersede: [None, None, None, None, Some(""), Some("group")][rng.usize(..6)].map(Into::into),
            cancel_running: rng.bool(),
            also: if rng.u8(..4) == 0 { (0..rng.u8(1..3)).map(|_| self.domain(rng)).collect() } else { Vec::new() },
            within: if rng.u8(..if self.is_crowded { 60 } else { 3 }) == 0 { within(rng, disk) } else { None },
        }
    }

    /// Slots of one that may not be there.
    fn guest(&self, rng: &mut Rng, ticket: Ticket) -> Guest {
        let (host, token) = (Ticket(ticket.0.saturating_sub(rng.u64(..20))), Token(rng.u64(..9)));
        Guest { domain: self.domain(rng), host, token, take: 1, shared: false }
    }

    /// What was asked for in `domain`, as it is kept.
    fn wishes_of(&self, rng: &mut Rng, domain: &Domain, disk: &Disk) -> Wishes {
        let mut wishes = self.wishes(rng, disk);
        wishes.also.sort();
        wishes.also.dedup();
        wishes.also.retain(|other| other != domain);
        wishes
    }

    fn which(&self, rng: &mut Rng, ticket: Ticket) -> Which {
        match rng.u8(..5) {
            0 | 1 => Which::Ticket(ticket),
            2 => Which::TicketOf(ticket, rng.bool().then(|| self.domain(rng)), if rng.bool() { id(rng) } else { None }),
            3 => id(rng).map_or(Which::Ticket(ticket), |id| Which::Request(self.domain(rng), id)),
            _ => Which::Domain(self.domain(rng)),
        }
    }

    fn domain(&self, rng: &mut Rng) -> Domain {
        self.domains[rng.usize(..self.domains.len())].clone()
    }

    fn connection(&self, rng: &mut Rng) -> ConnectionId {
        ConnectionId(rng.u64(..self.connections))
    }
}

/// What the next daemon finds of a ticket: some have lost a pipe, or a process; the clients of some are alive.
pub(crate) fn found_again(rng: &mut Rng, saved: Restored) -> Restored {
    let is_a_client_there = u32::from(rng.u8(..5) > 0);
    let processes = saved.processes.saturating_sub(rng.u32(..2)).min(2);
    Restored {
        pipes: saved.pipes.min(1) * u32::from(rng.u8(..4) > 0),
        processes: if saved.turn.is_some() { processes + is_a_client_there } else { is_a_client_there },
        ..saved
    }
}

/// What was asked for once by a ticket.
fn key_of(ticket: Ticket, disk: &Disk) -> Option<Box<KeyAsk>> {
    let record = disk.keys.values().find(|record| record.ticket == ticket)?;
    Some(Box::new(KeyAsk {
        key: record.name.key.clone(),
        fingerprint: record.fingerprint,
        ttl: record.ttl,
        keep_failures: record.keep_failures,
        retry_unknown: false,
        replay: record.records_output,
        follows: None,
    }))
}

fn key(rng: &mut Rng) -> Key {
    Key::parse(["k", "k", "l", "m"][rng.usize(..4)]).unwrap()
}

fn fingerprint(rng: &mut Rng) -> Fingerprint {
    Fingerprint([u8::from(rng.u8(..6) == 0); 32])
}

fn ttl(rng: &mut Rng) -> Duration {
    Duration::from_millis([1, 500, 1_000, 3_000, 60_000, 3_600_000][rng.usize(..6)])
}

/// A turn to be within: most are alive.
fn within(rng: &mut Rng, disk: &Disk) -> Option<Within> {
    let turns = disk.live.values().filter_map(|saved| Some((saved.ticket, saved.turn?.token)));
    let turns: Vec<(Ticket, Token)> = turns.collect();
    let (ticket, token) = turns.get(rng.usize(..turns.len().max(1))).copied()?;
    Some(Within { ticket, token: if rng.u8(..10) == 0 { Token(1) } else { token } })
}

/// A few values, with those that say much more often.
fn policy(rng: &mut Rng) -> Policy {
    let mut policy = Policy {
        concurrency: if rng.bool() { Some(rng.u32(1..5)) } else { None },
        max_queue: if rng.u8(..5) == 0 { Some(rng.u32(..4)) } else { None },
        max_run: duration(rng).filter(|max_run| !max_run.is_zero()),
        min_interval: duration(rng).filter(|_| rng.bool()),
        cooldown: duration(rng).filter(|_| rng.bool()),
        rate: if rng.u8(..4) == 0 {
            let per = duration(rng).filter(|per| !per.is_zero()).unwrap_or(Duration::from_secs(3));
            Some(Rate { starts: rng.u32(1..4), per })
        } else {
            None
        },
        default_max_wait: duration(rng).filter(|_| rng.bool()),
        none: ValueSet::default(),
    };
    let can_be_none = |value: &PolicyValue| *value != PolicyValue::Concurrency && !policy.has(*value);
    policy.none = PolicyValue::ALL.into_iter().filter(can_be_none).filter(|_| rng.u8(..8) == 0).collect();
    if policy == Policy::default() { Policy { concurrency: Some(2), ..policy } } else { policy }
}

fn secret(rng: &mut Rng) -> Option<Secret> {
    let secrets = [1, 2, 3, 4, 5].map(|byte| Secret([byte; 32]));
    secrets.get(rng.usize(..7)).copied()
}

fn peer(rng: &mut Rng) -> Peer {
    let uid = if rng.u8(..6) == 0 { 1_001 } else { 1_000 };
    Peer { uid, pid: pid(rng), is_operator: rng.u8(..10) == 0 }
}

fn pid(rng: &mut Rng) -> u32 {
    rng.u32(100..104)
}

fn id(rng: &mut Rng) -> Option<RequestId> {
    let ids = ["x", "y", "z", "t-3", "t-40", "t-41", "t-42"];
    let id = ids.get(rng.usize(..10))?;
    Some(RequestId::parse(id).unwrap())
}

fn binding(rng: &mut Rng) -> Binding {
    match rng.u8(..6) {
        0 => Binding::Process,
        1 => Binding::Lease,
        _ => Binding::Connection,
    }
}

fn duration(rng: &mut Rng) -> Option<Duration> {
    let choices = [0, 100, 100, 500, 1_000, 2_500, 60_000];
    choices.get(rng.usize(..14)).map(|milliseconds| Duration::from_millis(*milliseconds))
}
