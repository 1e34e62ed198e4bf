//! Commands that take turns while somebody kills and stops whatever there is.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

use fastrand::Rng;
use rustix::process::Signal;

use crate::inside::{Witness, Work};
use crate::support::Process;
use crate::world::World;

/// How long a stopped daemon is left alone, as a rule.
const STOP_MS: std::ops::Range<u64> = 5..300;

/// One in so many is left alone for [`LONG_STOP`].
const LONG_STOP_EVERY: usize = 12;

/// Longer than a client waits until the end of its turn is confirmed, and shorter than an answer may take.
const LONG_STOP: Duration = Duration::from_millis(2_300);

/// One in so many stopped daemons is killed instead of going on.
const KILL_STOPPED_EVERY: usize = 4;

/// How soon to look again.
const LOOK_MS: std::ops::Range<u64> = 1..10;

/// How much later a thing is done than it might be, so that it comes at any moment of a turn.
const LATE_US: std::ops::Range<u64> = 0..12_000;

/// What is done to them. Two are killed one right after the other, in any order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(dead_code, reason = "each test does its part of it")]
pub(crate) enum Mischief {
    KillDaemon,
    /// And the next one, as it starts.
    KillTwoDaemons,
    KillWrapper,
    KillCommand,
    KillDaemonAndWrapper,
    KillDaemonAndCommand,
    /// Of one turn.
    KillWrapperAndCommand,
    StopDaemon,
}

/// How large a storm is.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    /// Commands that must have begun; a few more when not all mischief is done by then.
    pub(crate) turns: usize,
    pub(crate) domains: Vec<String>,
    /// `seq run` at once.
    pub(crate) clients: usize,
    pub(crate) witness: Witness,
    /// How long a command holds its turn at most.
    pub(crate) hold_max: Duration,
    /// What is done, and how often. It comes in random order, evenly over the turns.
    pub(crate) mischief: Vec<(Mischief, usize)>,
}

/// What was done.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Toll {
    pub(crate) daemons: usize,
    pub(crate) starting_daemons: usize,
    pub(crate) wrappers: usize,
    pub(crate) commands: usize,
    pub(crate) pairs: usize,
    pub(crate) stops: usize,
}

impl fmt::Display for Toll {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Toll { daemons, starting_daemons, wrappers, commands, pairs, stops } = self;
        let kills = daemons + wrappers + commands;
        write!(
            f,
            "{kills} kills ({daemons} of daemons, {starting_daemons} of these as they started, {wrappers} of wrappers, \
             {commands} of commands; {pairs} times two at once), {stops} stops"
        )
    }
}

/// A daemon that was stopped.
struct Stopped {
    daemon: Process,
    until: Instant,
}

struct Storm<'a> {
    plan: &'a Plan,
    rng: Rng,
    world: World,
    toll: Toll,
    /// What is still to be done, the next one last.
    deck: Vec<Mischief>,
    deck_size: usize,
    /// Not before then.
    not_before: Instant,
    stopped: Option<Stopped>,
    /// The daemon whose successor is to be killed.
    hunted_after: Option<u32>,
    turns_asked: usize,
}

/// Lets it all happen, until everybody who was started has ended.
pub(crate) fn run(plan: &Plan) -> (World, Toll) {
    let mut rng = Rng::with_seed(plan.seed);
    let mut deck: Vec<Mischief> =
        plan.mischief.iter().flat_map(|(mischief, count)| std::iter::repeat_n(*mischief, *count)).collect();
    rng.shuffle(&mut deck);
    let deck_size = deck.len();
    let mut storm = Storm {
        plan,
        rng,
        world: World::new(),
        toll: Toll::default(),
        deck,
        deck_size,
        not_before: Instant::now(),
        stopped: None,
        hunted_after: None,
        turns_asked: 0,
    };
    storm.blow();
    (storm.world, storm.toll)
}

/// Runs a test of a storm; when it fails it says how to run it `again`.
pub(crate) fn repeatable(again: &str, test: impl FnOnce()) {
    if let Err(failure) = catch_unwind(AssertUnwindSafe(test)) {
        #[expect(clippy::print_stderr, reason = "whoever looks into a failure needs it")]
        {
            eprintln!("again: {again}");
        }
        resume_unwind(failure);
    }
}

impl Storm<'_> {
    fn blow(&mut self) {
        loop {
            self.world.look();
            let is_enough = self.world.starts >= self.plan.turns && self.deck.is_empty();
            while !is_enough && self.world.clients() < self.plan.clients {
                self.ask_for_turn();
            }
            if self.world.clients() == 0 {
                break;
            }
            self.let_go_on();
            self.hunt();
            self.play();
            let look = if self.hunted_after.is_some() { 1 } else { self.rng.u64(LOOK_MS) };
            self.world.pause(Duration::from_millis(look));
        }
        // Those whose wrapper was killed last may run still, and nobody is to be left stopped.
        if let Some(stopped) = self.stopped.take() {
            stopped.daemon.signal(Signal::CONT);
        }
    }

    fn ask_for_turn(&mut self) {
        self.turns_asked += 1;
        let domain = self.rng.choice(&self.plan.domains).expect("a domain");
        let hold_us = u64::try_from(self.plan.hold_max.as_micros()).expect("short");
        let work = Work {
            turn: self.turns_asked,
            hold: Duration::from_micros(self.rng.u64(0..=hold_us)),
            status: self.rng.u8(0..70),
            witness: self.plan.witness,
        };
        self.world.start(domain, work);
    }

    /// Lets a stopped daemon go on when it is time, or kills it.
    fn let_go_on(&mut self) {
        let Some(stopped) = self.stopped.take_if(|stopped| Instant::now() >= stopped.until) else { return };
        if self.rng.usize(..KILL_STOPPED_EVERY) == 0 {
            self.world.pen.note(&format!("kill the stopped daemon {}", stopped.daemon.pid));
            self.toll.daemons += usize::from(stopped.daemon.signal(Signal::KILL));
        } else {
            self.world.pen.note(&format!("let the daemon {} go on", stopped.daemon.pid));
            stopped.daemon.signal(Signal::CONT);
        }
    }

    /// Kills the daemon that comes after another, as soon as it can be seen. It has its lock by then, and as a rule no
    /// socket yet.
    fn hunt(&mut self) {
        let Some(before) = self.hunted_after else { return };
        let Some(daemon) = self.world.daemon().filter(|daemon| daemon.pid != before) else { return };
        self.hunted_after = None;
        self.world.pen.note(&format!("kill the daemon {} as it starts", daemon.pid));
        if daemon.signal(Signal::KILL) {
            self.toll.daemons += 1;
            self.toll.starting_daemons += 1;
        }
    }

    /// Does the next thing if it is time. What has no victim just now is done a little later.
    fn play(&mut self) {
        let played = self.deck_size - self.deck.len();
        let due = self.plan.turns * (played + 1) / (self.deck_size + 1);
        if self.world.starts < due || Instant::now() < self.not_before {
            return;
        }
        let Some(mischief) = self.deck.last().copied() else { return };
        if self.hunted_after.is_some() || self.attempt(mischief).is_none() {
            return;
        }
        self.deck.pop();
        self.not_before = Instant::now() + Duration::from_micros(self.rng.u64(LATE_US));
    }

    fn attempt(&mut self, mischief: Mischief) -> Option<()> {
        match mischief {
            Mischief::KillDaemon => {
                let daemon = self.daemon()?;
                self.kill(Some(daemon), None, None);
            }
            Mischief::KillTwoDaemons => {
                let daemon = self.daemon()?;
                self.hunted_after = Some(daemon.pid);
                self.kill(Some(daemon), None, None);
            }
            Mischief::KillWrapper => {
                let wrapper = self.wrapper()?;
                self.kill(None, Some(wrapper), None);
            }
            Mischief::KillCommand => {
                let command = self.command()?;
                self.kill(None, None, Some(command));
            }
            Mischief::KillDaemonAndWrapper => {
                let (wrapper, daemon) = (self.wrapper()?, self.daemon()?);
                self.kill(Some(daemon), Some(wrapper), None);
            }
            Mischief::KillDaemonAndCommand => {
                let daemon = self.daemon()?;
                let command = self.command()?;
                self.kill(Some(daemon), None, Some(command));
            }
            Mischief::KillWrapperAndCommand => {
                let turn = self.rng.choice(self.world.turns_inside())?;
                let pair = (self.world.wrapper(turn)?, self.world.command(turn)?);
                self.kill(None, Some((turn, pair.0)), Some((turn, pair.1)));
            }
            Mischief::StopDaemon => {
                if self.stopped.is_some() {
                    return None;
                }
                let daemon = self.daemon()?;
                let is_long = self.rng.usize(..LONG_STOP_EVERY) == 0;
                let time = if is_long { LONG_STOP } else { Duration::from_millis(self.rng.u64(STOP_MS)) };
                self.world.pen.note(&format!("stop the daemon {} for {time:?}", daemon.pid));
                self.toll.stops += usize::from(daemon.signal(Signal::STOP));
                self.stopped = Some(Stopped { daemon, until: Instant::now() + time });
            }
        }
        Some(())
    }

    /// The daemon, once it has told who waits; or the one that is stopped, which has done so before. One that nobody
    /// can have reached yet is let be, so that no client sees three of them die, and gives up.
    fn daemon(&mut self) -> Option<Process> {
        let daemon = self.world.daemon()?;
        let is_stopped = self.stopped.as_ref().is_some_and(|stopped| stopped.daemon.pid == daemon.pid);
        (is_stopped || self.world.note_places()).then_some(daemon)
    }

    /// A wrapper: any one, or every other time one whose command runs.
    fn wrapper(&mut self) -> Option<(usize, Process)> {
        let turns = if self.rng.bool() { self.world.turns_inside() } else { self.world.turns() };
        let turn = self.rng.choice(turns)?;
        Some((turn, self.world.wrapper(turn)?))
    }

    fn command(&mut self) -> Option<(usize, Process)> {
        let turn = self.rng.choice(self.world.commands())?;
        Some((turn, self.world.command(turn)?))
    }

    /// Kills all of them. What is written about it comes first, so that they die as close together as can be.
    fn kill(&mut self, daemon: Option<Process>, wrapper: Option<(usize, Process)>, command: Option<(usize, Process)>) {
        let mut victims = Vec::new();
        if let Some((turn, command)) = command {
            self.world.note_kill(turn);
            victims.push((command, &mut self.toll.commands));
        }
        if let Some((turn, wrapper)) = wrapper {
            self.world.pen.note(&format!("kill the wrapper {} of turn {turn}", wrapper.pid));
            victims.push((wrapper, &mut self.toll.wrappers));
        }
        if let Some(daemon) = daemon {
            self.world.pen.note(&format!("kill the daemon {}", daemon.pid));
            self.stopped.take_if(|stopped| stopped.daemon.pid == daemon.pid);
            victims.push((daemon, &mut self.toll.daemons));
        }
        self.rng.shuffle(&mut victims);
        let killed: Vec<bool> = victims.iter().map(|(victim, _)| victim.signal(Signal::KILL)).collect();
        for ((_, count), killed) in victims.into_iter().zip(&killed) {
            *count += usize::from(*killed);
        }
        self.toll.pairs += usize::from(killed.len() == 2);
    }
}
