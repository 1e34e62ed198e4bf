//! The owner: the one loop that the lines belong to.
//!
//! It takes every input that is ready, hands each to the sequencer, does what follows in order, and then writes once
//! to each client concerned. It never waits for anything but the next input.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use foldhash::fast::FixedState;
use tokio::sync::mpsc::Receiver;
use tracing::{error, info};

use super::audience::{Audience, Concerned};
use super::config::Config;
use super::crowd::Placeless;
use super::durable::Durable;
use super::facts::Facts;
use super::history::{Librarian, LogAsk};
use super::kept::{Kept, gone};
use super::keys::Outputs;
use super::ledger::Ledger;
use super::link::Link;
use super::process;
use super::report::{self, WallClock};
use super::rests::Rests;
use super::settings;
use super::sight;
use super::stall::Stall;
use super::timer::Timer;
use super::wake::{Ask, Leaving, Signal, Wake};
use super::watch::{Role, Watcher, identify};
use crate::clock::Time;
use crate::error::{Cure, Error};
use crate::protocol::{Domain, KeyDone, Ticket};
use crate::sequencer::{Change, ConnectionId, Effect, Input, PastChange, Record, Sequencer};
use crate::store::{Machine, Numbers, fault_point};
use crate::words::counted;

/// Inputs that are handled before clients are written to.
const BATCH_MAX: usize = 256;

/// How often the loop makes sure that it runs, while clients may come back within a time.
const AWAKE_INTERVAL: Duration = Duration::from_millis(500);

/// By how much it must have been late to have been stopped, or the machine suspended.
const OVERSLEPT_MIN: Duration = Duration::from_millis(250);

/// Everything that the lines consist of, and everybody who is told.
pub(super) struct Owner {
    pub(super) sequencer: Sequencer,
    pub(super) numbers: Numbers,
    pub(super) ledger: Ledger,
    pub(super) librarian: Librarian,
    pub(super) durable: Durable,
    pub(super) outputs: Outputs,
    /// What came along with requests that wait for the outcome of a key, by their numbers.
    waiting: HashMap<u64, Brought, FixedState>,
    timer: Timer,
    pub(super) watcher: Watcher,
    pub(super) facts: Facts,
    pub(super) config: Config,
    pub(super) rests: Rests,
    pub(super) clients: HashMap<ConnectionId, Rc<Link>, FixedState>,
    pub(super) placeless: Placeless,
    pub(super) kept: Kept,
    pub(super) audience: Audience,
    /// What is true of the batch at hand.
    pub(super) batch: Batch,
    /// When the loop goes on at the latest, if it matters whether it does.
    awake_by: Option<Time>,
    /// Since when nothing uses the daemon.
    idle_since: Option<Time>,
    /// Whether somebody removed some of the files, and they are not put back yet.
    must_put_back: bool,
    /// What cannot be written at present, if so.
    pub(super) stall: Option<Stall>,
}

/// A few inputs that are handled together.
#[derive(Default)]
pub(super) struct Batch {
    /// The present moment, the same for all of it.
    pub(super) now: Time,
    /// The wall clock, once somebody needs it.
    wall_clock: Option<WallClock>,
    /// Those with something in their outbox.
    pub(super) dirty: Vec<Rc<Link>>,
    /// Those who had nothing in it but where they stand; it is so still where they are marked `is_placed`.
    pub(super) placed: Vec<Rc<Link>>,
    /// What followed from the input at hand; empty between inputs, here only to be used again.
    effects: Vec<Effect>,
    /// Turns that were given and of which nobody has been told: the batch is not written yet.
    pub(super) given: Vec<Ticket>,
    /// Who was answered `done` and has not been told yet, for the same reason.
    pub(super) done: Vec<ConnectionId>,
    /// Questions about the past, to be answered once this batch is part of it.
    pub(super) logs: Vec<(Rc<Link>, LogAsk)>,
    /// Outcomes of keys that are told together with what was written, which is read once this batch is there.
    pub(super) outputs: Vec<(Rc<Link>, Box<KeyDone>, String)>,
    /// Whether it is the last, and why.
    pub(super) leaving: Option<Leaving>,
}

/// What comes along with an input, to be kept with the ticket that it gets.
#[derive(Debug)]
struct Brought {
    connection: ConnectionId,
    /// The user.
    uid: u32,
    descriptor: Option<OwnedFd>,
    /// What the descriptor is.
    role: Role,
}

impl Owner {
    /// An owner without clients.
    pub(super) fn new(
        sequencer: Sequencer,
        (numbers, ledger): (Numbers, Ledger),
        (librarian, durable, outputs): (Librarian, Durable, Outputs),
        (timer, watcher): (Timer, Watcher),
        (facts, config): (Facts, Config),
    ) -> Owner {
        Owner {
            sequencer,
            numbers,
            ledger,
            librarian,
            durable,
            outputs,
            waiting: HashMap::default(),
            timer,
            watcher,
            facts,
            config,
            rests: Rests::new(Machine::this().boot_id),
            clients: HashMap::default(),
            placeless: Placeless::default(),
            kept: Kept::default(),
            audience: Audience::default(),
            batch: Batch { now: Time::now(), ..Batch::default() },
            awake_by: None,
            idle_since: None,
            must_put_back: false,
            stall: None,
        }
    }

    /// Serves until it is time to leave, and says why it is.
    ///
    /// # Errors
    ///
    /// When something can no more be written down: nothing may be given out or told then.
    pub(super) async fn run(&mut self, wakes: &mut Receiver<Wake>) -> Result<Leaving, Error> {
        let mut ready = Vec::with_capacity(BATCH_MAX);
        loop {
            self.set_timer()?;
            tokio::select! {
                biased;
                _ = wakes.recv_many(&mut ready, BATCH_MAX) => self.begin_batch(),
                gone_off = self.timer.gone_off() => {
                    gone_off.map_err(|error| timer_failed(&error))?;
                    self.begin_batch();
                    self.input(Input::Tick);
                    self.ledger.prune(self.batch.now)?;
                }
            }
            for wake in ready.drain(..) {
                self.take(wake);
            }
            for (connection, ask) in self.take_placeless() {
                if self.is_unheard(connection, &ask) {
                    self.stop_owing(connection);
                } else {
                    self.ask(connection, ask);
                }
            }
            self.end_batch()?;
            if let Some(reason) = self.batch.leaving {
                return Ok(reason);
            }
        }
    }

    pub(super) fn begin_batch(&mut self) {
        self.batch.now = Time::now();
        self.batch.wall_clock = None;
        let late = self.awake_by.map_or(Duration::ZERO, |awake_by| self.batch.now.since(awake_by));
        if late >= OVERSLEPT_MIN {
            self.awake_by = None;
            info!("did not run for {} ms: whoever is away has that much more time to come back", late.as_millis());
            self.input(Input::Overslept { by: late });
        }
    }

    /// Writes down what must be, and only then tells. Where there is no room for it, it waits for the next batch.
    pub(super) fn end_batch(&mut self) -> Result<(), Error> {
        if self.must_wait_for_room() {
            return Ok(());
        }
        if self.stall.is_some() {
            self.begin_given_turns_now();
        }
        if let Err(problem) = self.write_down() {
            return self.stall(problem);
        }
        self.end_stall();
        self.batch.given.clear();
        self.batch.done.clear();
        self.make_durable();
        // The last first: whoever has a turn now has more to do than who gave it back, and was put behind that one.
        // Those who only wait on are many, and have time.
        let placed = self.batch.placed.drain(..).filter(|link| link.is_placed.replace(false));
        let told = placed.chain(self.batch.dirty.drain(..)).rev();
        for link in told.filter(|link| self.durable.lets_tell(link)) {
            fault_point();
            link.flush();
        }
        self.answer_logs();
        self.read_outputs();
        self.facts.note(self.batch.now, self.clients.len(), self.sequencer.next_numbers().0);
        Ok(())
    }

    fn write_down(&mut self) -> Result<(), Error> {
        self.durable.check()?;
        // First, for nobody may be told what is written where no other daemon finds it.
        if self.must_put_back {
            self.put_back()?;
        }
        let (ticket, token) = self.sequencer.next_numbers();
        self.numbers.cover(ticket, token)?;
        self.ledger.next_numbers(ticket, token);
        if !self.ledger.is_empty() {
            let now = self.batch.now;
            let clock = self.batch.wall_clock.get_or_insert_with(|| WallClock::at(now));
            self.ledger.commit(&self.sequencer, &self.kept, now, clock)?;
        }
        if !self.batch.logs.is_empty() {
            self.ledger.catch_up()?;
        }
        Ok(())
    }

    /// Puts back what somebody removed of the storage. Where its whole directory is gone the door makes that first, and
    /// calls again.
    ///
    /// # Errors
    ///
    /// When that cannot be done, as where somebody goes on removing it; it may be tried again.
    fn put_back(&mut self) -> Result<(), Error> {
        let done = self.numbers.put_back().and_then(|()| self.ledger.put_back());
        if done.is_err() && !self.facts.place.state.exists() {
            return Ok(());
        }
        done.map_err(|error| error.with_cure(Cure::Write))?;
        self.must_put_back = false;
        info!("put the storage back, of which somebody had removed something");
        Ok(())
    }

    fn take(&mut self, wake: Wake) {
        match wake {
            Wake::Asked(connection, ask) if self.is_unheard(connection, &ask) => self.stop_owing(connection),
            Wake::Asked(connection, ask) => self.ask(connection, ask),
            Wake::Opened(link) => self.let_in(link),
            // If it is not waited for any more, the daemon is about to leave.
            Wake::Crowded(newcomer, answer) => _ = answer.send(self.make_entry(newcomer)),
            Wake::Closed(connection) => {
                for ticket in self.sequencer.keyed_tickets(connection) {
                    self.learn(ticket);
                }
                self.input(Input::Disconnected { connection });
                self.audience.leave(connection);
                self.placeless.forget(connection);
                if let Some(link) = self.clients.remove(&connection) {
                    link.close();
                }
            }
            Wake::CaughtUp(connection) => self.refresh(connection),
            Wake::Ended(end) if self.is_closed_in_death(end) => {}
            Wake::Ended(end) if self.kept.take_end(end) => {
                self.learn(end.ticket);
                self.input(gone(end.ticket, end.is_pipe));
            }
            Wake::Blinded(end, error) if self.kept.take_blinded(end) => say_blind(end.ticket, &error),
            // It was replaced, or its ticket has ended.
            Wake::Ended(_) | Wake::Blinded(..) => {}
            Wake::Heir(ticket, heir) => self.take_heir(ticket, heir),
            Wake::Signal(Signal::Leave) => self.batch.leaving = Some(Leaving::Signal),
            Wake::Signal(Signal::HangUp) => {
                self.facts.reopen_log();
                self.reload_config();
            }
            Wake::PutBack => self.must_put_back |= !(self.numbers.is_in_place() && self.ledger.is_in_place()),
            Wake::Read(connection, reply) => self.give_log(connection, &reply),
            Wake::Synced(number, synced) => self.synced(number, synced),
            Wake::Usurped => {
                error!("somebody removed {}, and another daemon has it now", self.facts.place.life_lock.display());
                self.batch.leaving = Some(Leaving::Usurped);
                self.must_put_back = false;
            }
        }
    }

    fn ask(&mut self, connection: ConnectionId, ask: Ask) {
        let Some(ask) = self.find_place(connection, ask) else { return };
        let (is_told_at_once, is_done) = (ask.is_told_at_once(), matches!(ask, Ask::Input(Input::Done { .. })));
        self.answer(connection, ask);
        if !is_told_at_once {
            self.tell_of_stall(connection, is_done);
        }
    }

    /// Whether nobody is there any more to hear the answer to what is not to be done unheard.
    fn is_unheard(&self, connection: ConnectionId, ask: &Ask) -> bool {
        ask.needs_hearer() && self.clients.get(&connection).is_some_and(|link| link.is_hung_up())
    }

    fn answer(&mut self, connection: ConnectionId, ask: Ask) {
        match ask {
            Ask::Input(mut input) => {
                if let Input::Done { which, processes, .. } = &mut input
                    && !processes.is_empty()
                {
                    // For whoever took a lease and has ended anybody of the same user may speak.
                    let takers = self.sequencer.lease_takers(which).into_iter();
                    processes
                        .extend(takers.filter(|(pid, at)| !process::is_there_since(*pid, *at)).map(|(pid, _)| pid));
                }
                self.input(input);
            }
            Ask::Sequence(enqueue, Some(descriptor))
                if enqueue.resume.is_none()
                    && let Some(why) = self.beyond_share_of_files(enqueue.peer, &descriptor) =>
            {
                self.refuse_descriptor(&enqueue, why);
            }
            Ask::Sequence(enqueue, descriptor) => {
                let role = if enqueue.pipe { Role::Pipe } else { Role::Worker };
                let brought = Brought { connection, uid: enqueue.peer.uid, descriptor, role };
                self.input_with(Input::Sequence(enqueue), Some(brought));
            }
            Ask::Started(ticket, pid, pidfd) => {
                self.input(Input::Started { connection, ticket, pid, watched: pidfd.is_some() });
                if self.sequencer.has_turn_on(ticket, connection)
                    && let Some(lost) = self.watch(ticket, Role::Worker, pidfd)
                {
                    self.input(lost);
                }
            }
            Ask::Output(ticket, output) => self.take_output(ticket, connection, output),
            Ask::Other(ask) => {
                if let Some(link) = self.clients.get(&connection).cloned() {
                    self.answer_other(&link, *ask);
                }
            }
        }
    }

    /// Lets the sequencer handle an input, and does what follows.
    pub(super) fn input(&mut self, input: Input) {
        self.input_with(input, None);
    }

    fn input_with(&mut self, input: Input, mut brought: Option<Brought>) {
        let mut after = Vec::new();
        let mut effects = std::mem::take(&mut self.batch.effects);
        self.sequencer.handle(self.batch.now, input, &mut effects);
        for effect in effects.drain(..) {
            match effect {
                Effect::Follows { follower } => self.waiting.extend(brought.take().map(|brought| (follower, brought))),
                Effect::Unfollowed { follower } => _ = self.waiting.remove(&follower),
                Effect::Admitted { ticket, follower } => {
                    let brought = match follower {
                        Some(follower) => self.waiting.remove(&follower),
                        None => brought.take(),
                    };
                    if let Some(brought) = brought {
                        self.admit(ticket, brought, &mut after);
                    }
                }
                Effect::Record(record) => self.record(record),
                Effect::Changed { ticket } => self.ledger.touch(ticket),
                Effect::Policy(change) => {
                    let setting = settings::of_change(&change, self.wall_clock());
                    self.ledger.set(setting);
                    self.forget_restless();
                    self.announce(&change);
                }
                Effect::Past(change) => self.note_rest(&change),
                Effect::Key(change) => self.note_key(change),
                Effect::TellOutcome { connection, told } => self.tell_outcome(connection, &told),
                Effect::Tell { connection, reply } => self.tell(connection, &reply),
            }
        }
        self.batch.effects = effects;
        for input in after {
            self.input(input);
        }
    }

    /// How many descriptors of a user are kept for requests that wait for the outcome of a key.
    pub(super) fn descriptors_waiting(&self, uid: u32) -> usize {
        self.waiting.values().filter(|brought| brought.uid == uid && brought.descriptor.is_some()).count()
    }

    /// What came along with a request belongs to its ticket now. What follows from that is put into `after`.
    fn admit(&mut self, ticket: Ticket, brought: Brought, after: &mut Vec<Input>) {
        let Brought { connection, descriptor, role, .. } = brought;
        let client = self.clients.get(&connection);
        let asker = client.and_then(|link| link.identity());
        let uid = client.map_or(0, |link| link.peer.uid);
        // What it starts shows where it does.
        let namespace = if client.is_some_and(|link| link.peer.pid != 0) { sight::namespace() } else { 0 };
        // The client is back: what stood for it is needed no more.
        after.extend(self.kept.admit(ticket, uid, asker, namespace));
        after.extend(self.watch(ticket, role, descriptor));
    }

    /// Watches what keeps a ticket. What is watched already must not count twice; that input is given back.
    pub(super) fn watch(&mut self, ticket: Ticket, role: Role, descriptor: Option<OwnedFd>) -> Option<Input> {
        let descriptor = descriptor?;
        let identity = identify(role, &descriptor);
        if self.kept.watches(ticket, role, identity) {
            return Some(gone(ticket, role == Role::Pipe));
        }
        self.kept.watch(ticket, self.watcher.watch(role, identity, descriptor, ticket));
        None
    }

    fn record(&mut self, mut record: Record) {
        self.correct_untold(&mut record);
        match record.change {
            Change::Active { .. } => {
                self.kept.activate(record.ticket);
                self.batch.given.push(record.ticket);
            }
            Change::Ended { .. } | Change::Left { .. } => {
                self.kept.end(record.ticket);
                self.outputs.end(record.ticket);
            }
            Change::Orphaned { .. } => {
                self.kept.orphan(record.ticket);
                self.look_for_heir(record.ticket);
            }
            Change::Queued => {}
        }
        if !self.audience.is_empty() {
            let event = report::event(&record, self.wall_clock());
            let lines: Vec<&Domain> = std::iter::once(&record.domain).chain(&record.also).collect();
            self.tell_audience(Concerned::Lines(&lines), &event);
        }
        self.ledger.note(record);
    }

    /// What the wall clock says in this batch.
    pub(super) fn wall_clock(&mut self) -> &WallClock {
        let now = self.batch.now;
        self.batch.wall_clock.get_or_insert_with(|| WallClock::at(now))
    }

    /// A turn has begun or ended in a domain that rests after that.
    fn note_rest(&mut self, change: &PastChange) {
        let policies = self.sequencer.policies();
        let domain = change.domain();
        let keep = policies.resolve(domain).known_starts();
        let now = self.batch.now;
        let clock = self.batch.wall_clock.get_or_insert_with(|| WallClock::at(now));
        let noted = self.rests.note(change, keep, clock);
        let forgotten = self.rests.forget_some(policies, now);
        self.ledger.set_all(noted.into_iter().chain(forgotten));
    }

    fn forget_restless(&mut self) {
        let forgotten = self.rests.forget_restless(self.sequencer.policies());
        self.ledger.set_all(forgotten);
    }

    /// Reads the config file again. With a mistake in it, what it said before goes on to count.
    fn reload_config(&mut self) {
        match self.config.load() {
            Ok(policies) => {
                info!("read the policies of {}", counted(policies.len() as u64, "pattern"));
                self.ledger.set(settings::of_file(&self.config, &policies));
                self.input(Input::FilePolicies(policies));
                self.forget_restless();
            }
            Err(mistake) => error!("{mistake}; what it said before goes on to count"),
        }
        let now = self.batch.now;
        let clock = self.batch.wall_clock.get_or_insert_with(|| WallClock::at(now));
        let event = report::reloaded(&self.config, clock);
        self.tell_audience(Concerned::All, &event);
    }

    fn set_timer(&mut self) -> Result<(), Error> {
        let idle_until = self.idle_until();
        if idle_until.is_some_and(|until| until <= self.batch.now) {
            self.batch.leaving = Some(Leaving::Idle);
        }
        let retry_at = self.stall.as_ref().map(|stall| stall.retry_at);
        let next = self.sequencer.next_timeout().into_iter().chain(idle_until).chain(self.ledger.prune_at());
        self.awake_by = self.sequencer.is_anybody_away().then(|| self.batch.now + AWAKE_INTERVAL);
        let next = next.chain(retry_at).chain(self.placeless.retry_at).chain(self.awake_by).min();
        self.timer.set(next).map_err(|error| timer_failed(&error))
    }

    /// When to leave if nothing happens before.
    fn idle_until(&mut self) -> Option<Time> {
        let idle_exit = self.facts.idle_exit?;
        let is_idle = self.clients.is_empty() && self.sequencer.counts().domains == 0 && self.stall.is_none();
        self.idle_since = if is_idle { self.idle_since.or(Some(self.batch.now)) } else { None };
        Some(self.idle_since? + idle_exit)
    }
}

fn say_blind(ticket: Ticket, error: &io::Error) {
    error!(
        "cannot watch what keeps ticket {ticket}: {error}: taken to be there; seq release {ticket} ends that, or \
         seq cancel {ticket} while it waits"
    );
}

fn timer_failed(error: &io::Error) -> Error {
    Error::failure(format_args!("the timer failed: {error}"))
}
