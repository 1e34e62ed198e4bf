//! Clients with a life of their own, over daemons that die at any moment.
//!
//! Whoever runs a command is watched from outside: two commands in one domain at a time are wrong, whatever the
//! records say. A daemon dies with its last batch cut at every position: nothing of it was written, or all of it was
//! and the clients heard the first so many replies of it. Each cut is lived on for a while.

mod job;
mod witness;
mod crash;

use std::time::Duration;

use fastrand::Rng;

use seq::clock::Time;
use seq::protocol::limits::AWAY_GRACE;
use seq::protocol::{Domain, ErrorCode, Outcome, Reply, RequestId, Ticket};
use seq::sequencer::{Change, ConnectionId, Effect, Input, Limits, Record, Secret, Which};

use crate::disk::{Both, Disk};
use job::{CommandKnown, Job, Phase, peer};
use witness::Witness;

/// Jobs at once.
const JOBS_MAX: usize = 8;

/// The operator's connection, who cancels and releases; its answers are not waited for.
const OPERATOR: ConnectionId = ConnectionId(0);

/// Lives through so many operations, with crashes.
pub(crate) fn live(seed: u64, operations: u64) {
    let mut rng = Rng::with_seed(seed);
    let mut world = World::new(&mut rng);
    for operation in 0..operations {
        world.operate(&mut rng);
        if rng.u8(..30) == 0 {
            if rng.u8(..4) == 0 {
                world.take(&Input::Leave { keep_places: true });
            }
            let cut = world.die_at_every_cut(&mut rng);
            world.die(&mut rng, cut);
        }
        if operation % 64 == 0 {
            while !world.batch.is_empty() {
                world.commit();
            }
            world.disk.check(&world.both);
            world.both.core.check_invariants();
        }
    }
    world.end();
}

#[derive(Clone)]
struct World {
    both: Both,
    disk: Disk,
    witness: Witness,
    /// What followed since the last commit.
    batch: Vec<Effect>,
    jobs: Vec<Job>,
    domains: Vec<Domain>,
    jobs_ever: u8,
    connections: u64,
    restored_at: Time,
}

impl World {
    fn new(rng: &mut Rng) -> World {
        let disk = Disk::new();
        let domains = ["a.example", "b.example"][..rng.usize(1..3)].iter().map(|name| Domain::parse(name).unwrap());
        World {
            both: Both::new(disk.next, Limits::default(), Time::ZERO),
            disk,
            witness: Witness::default(),
            batch: Vec::new(),
            jobs: Vec::new(),
            domains: domains.collect(),
            jobs_ever: 0,
            connections: 0,
            restored_at: Time::ZERO,
        }
    }

    /// One thing happens.
    fn operate(&mut self, rng: &mut Rng) {
        self.jobs.retain(|job| job.lives() && job.phase != Phase::Over);
        let index = rng.usize(..self.jobs.len().max(1));
        match rng.u8(..100) {
            0..22 => self.begin(rng),
            22..44 => self.command_ends(index),
            44..50 => self.wrapper_dies(index),
            50..54 => {
                self.wrapper_dies(index);
                self.command_ends(index);
            }
            54..56 => self.cancel(index),
            56 => self.release(index),
            57..62 => self.pass(Duration::from_millis(rng.u64(..3_000))),
            62 => self.pass(Duration::from_secs(rng.u64(..30))),
            63..85 => self.come_back(),
            _ => self.commit(),
        }
        self.check();
    }

    fn take(&mut self, input: &Input) {
        let effects = self.both.step(input);
        for effect in &effects {
            match effect {
                Effect::Admitted { ticket, .. } => self.admit(*ticket),
                Effect::Record(record) => {
                    self.witness.record(record);
                    self.check_patience(record);
                    if !self.witness.lives(record.ticket) {
                        self.watch_no_more(record.ticket);
                    }
                }
                _ => {}
            }
        }
        self.batch.extend(effects);
    }

    /// No place is given up while its client lives before the grace is over.
    fn check_patience(&self, record: &Record) {
        let is_given_up = matches!(record.change, Change::Left { outcome: Outcome::Gone, .. });
        let is_there = self.jobs.iter().any(|job| job.watched_as == Some(record.ticket) && job.wrapper_lives);
        let is_late = record.at.since(self.restored_at) >= AWAY_GRACE;
        assert!(!is_given_up || !is_there || is_late, "ticket {} has lost its place", record.ticket);
    }

    /// The daemon watches what a request brought: instead of what was watched for a waiter, beside what keeps a turn.
    fn admit(&mut self, ticket: Ticket) {
        let has_turn = self.witness.has_turn(ticket);
        let secret = self.both.core.saved(ticket).and_then(|saved| saved.secret);
        let Some(job) = self.jobs.iter_mut().find(|job| Some(job.secret) == secret) else { return };
        if !has_turn {
            (job.pipes, job.commands, job.wrappers) = (0, 0, 0);
        }
        job.watched_as = Some(ticket);
        job.pipes += u32::from(job.has_pipe);
    }

    fn watch_no_more(&mut self, ticket: Ticket) {
        if let Some(job) = self.jobs.iter_mut().find(|job| job.watched_as == Some(ticket)) {
            (job.pipes, job.commands, job.wrappers) = (0, 0, 0);
        }
    }

    /// Writes the batch down, and only then tells.
    fn commit(&mut self) {
        let batch = std::mem::take(&mut self.batch);
        self.disk.commit(&batch, &self.both.core);
        self.jobs.iter_mut().for_each(Job::is_written);
        let tells = batch.iter().filter_map(|effect| match effect {
            Effect::Tell { connection, reply } => Some((*connection, reply)),
            _ => None,
        });
        for (connection, reply) in tells {
            self.tell(connection, reply);
        }
    }

    fn tell(&mut self, connection: ConnectionId, reply: &Reply) {
        if let (OPERATOR, Reply::Cancelled(cancelled)) = (connection, reply) {
            self.witness.cancelled(cancelled.ticket);
        }
        let Some(index) = self.jobs.iter().position(|job| job.connection == Some(connection)) else { return };
        if let Reply::Error(error) = reply
            && error.code == ErrorCode::NotFound
            && self.jobs[index].phase == Phase::Asks
        {
            let ticket = self.jobs[index].ticket.unwrap();
            assert!(self.witness.was_given_up(ticket), "ticket {ticket} has lost its place");
        }
        let before = self.jobs[index].is_inside();
        let answer = self.jobs[index].hear(reply);
        if !before && self.jobs[index].is_inside() {
            self.witness.enters(&self.jobs[index]);
        }
        // A wrapper that died has said nothing more.
        let Some(answer) = answer else { return };
        if let Input::Started { ticket, .. } = answer {
            if self.both.core.saved(ticket).is_none_or(|saved| saved.turn.is_none())
                || self.jobs[index].phase != Phase::Works
            {
                return;
            }
            self.jobs[index].commands += 1;
            self.jobs[index].command_is_told();
        }
        self.take(&answer);
    }

    fn begin(&mut self, rng: &mut Rng) {
        if self.jobs.len() >= JOBS_MAX {
            return;
        }
        self.jobs_ever = self.jobs_ever.wrapping_add(1);
        let id = (rng.u8(..3) == 0).then(|| RequestId::parse(&format!("job-{}", self.jobs_ever)).unwrap());
        self.jobs.push(Job {
            secret: Secret([self.jobs_ever; 32]),
            domain: self.domains[rng.usize(..self.domains.len())].clone(),
            id,
            max_wait: (rng.u8(..4) == 0).then(|| Duration::from_secs(rng.u64(..40))),
            has_pipe: rng.u8(..4) > 0,
            connection: None,
            returns: Time::ZERO,
            ticket: None,
            token: None,
            phase: Phase::Asks,
            wrapper_lives: true,
            was_let_go: false,
            known: CommandKnown::No,
            pipes: 0,
            commands: 0,
            wrappers: 0,
            watched_as: None,
        });
        self.connect(self.jobs.len() - 1);
    }

    fn connect(&mut self, index: usize) {
        self.connections += 1;
        let ask = self.jobs[index].connect(ConnectionId(self.connections));
        self.take(&ask);
    }

    /// Whoever lost its connection and has waited long enough connects again.
    fn come_back(&mut self) {
        let now = self.both.now;
        let is_due = |job: &Job| job.wrapper_lives && job.connection.is_none() && job.returns <= now;
        if let Some(index) = self.jobs.iter().position(is_due) {
            self.connect(index);
        }
    }

    fn command_ends(&mut self, index: usize) {
        let Some(job) = self.jobs.get_mut(index).filter(|job| job.phase == Phase::Works) else { return };
        job.phase = if job.wrapper_lives { Phase::Reports } else { Phase::Over };
        let commands = std::mem::take(&mut job.commands);
        let ticket = job.ticket.unwrap();
        let done = if job.wrapper_lives { job.done() } else { None };
        self.processes_end(ticket, commands);
        self.pipe_may_close(index);
        if let Some(done) = done {
            self.take(&done);
        }
    }

    /// The wrapper is killed; without a pipe its command has to be killed with it.
    fn wrapper_dies(&mut self, index: usize) {
        let Some(job) = self.jobs.get_mut(index).filter(|job| job.wrapper_lives) else { return };
        job.wrapper_lives = false;
        let connection = job.connection.take();
        let wrappers = std::mem::take(&mut job.wrappers);
        let ticket = job.watched_as;
        if !self.jobs[index].has_pipe {
            self.command_ends(index);
        }
        if let Some(connection) = connection {
            self.take(&Input::Disconnected { connection });
        }
        if let Some(ticket) = ticket {
            self.processes_end(ticket, wrappers);
        }
        self.pipe_may_close(index);
    }

    fn processes_end(&mut self, ticket: Ticket, count: u32) {
        for _ in 0..count {
            self.take(&Input::ProcessGone { ticket });
        }
    }

    fn pipe_may_close(&mut self, index: usize) {
        let job = &mut self.jobs[index];
        let ticket = job.watched_as;
        let pipes = if job.pipe_is_open() { 0 } else { std::mem::take(&mut job.pipes) };
        for _ in 0..pipes {
            self.take(&Input::PipeClosed { ticket: ticket.unwrap() });
        }
    }

    fn cancel(&mut self, index: usize) {
        if let Some(ticket) = self.jobs.get(index).and_then(|job| job.ticket) {
            self.take(&Input::Cancel { connection: OPERATOR, peer: peer(), which: Which::Ticket(ticket) });
        }
    }

    fn release(&mut self, index: usize) {
        let Some(job) = self.jobs.get_mut(index).filter(|job| job.phase == Phase::Works) else { return };
        job.was_let_go = true;
        let which = Which::Ticket(job.ticket.unwrap());
        self.take(&Input::Release { connection: OPERATOR, peer: peer(), which, request_id: None });
    }

    /// Time passes, and the daemon wakes up for what is due.
    fn pass(&mut self, time: Duration) {
        self.both.now = self.both.now + time;
        self.take(&Input::Tick);
    }

    /// What must be true whenever anybody looks.
    fn check(&self) {
        for (index, job) in self.jobs.iter().enumerate().filter(|(_, job)| job.is_inside()) {
            let others = &self.jobs[index + 1..];
            let is_alone = !others.iter().any(|other| other.is_inside() && other.domain == job.domain);
            assert!(is_alone, "two commands run in {}", job.domain);
            let turn = self.both.core.saved(job.ticket.unwrap()).and_then(|saved| saved.turn);
            assert_eq!(turn.map(|turn| turn.token), job.token, "a turn is lost while its command runs");
        }
    }

    /// Everybody goes, and nothing is left.
    fn end(mut self) {
        for index in 0..self.jobs.len() {
            self.wrapper_dies(index);
            self.command_ends(index);
        }
        self.pass(Duration::from_mins(2));
        let counts = self.both.core.counts();
        assert_eq!((counts.holders, counts.waiters), (0, 0), "somebody is left who is not there");
    }
}
