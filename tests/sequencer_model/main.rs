//! The sequencer against a naive model of it, step by step, over random inputs, with crashes (reliability T1).
//!
//! `SEQ_MODEL_SEED=… SEQ_MODEL_OPERATIONS=100000000 cargo test --release --test sequencer_model` for more.

#![expect(clippy::unwrap_used, reason = "what the model takes for granted is part of what is tested")]

mod model;
mod random;

use std::collections::BTreeSet;
use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use fastrand::Rng;

use model::{Model, Seen};
use random::{World, found_again};
use seq::clock::Time;
use seq::protocol::{Reply, Ticket, Token};
use seq::sequencer::{Change, Effect, Input, Sequencer};

/// Operations in one run; each begins anew, with its own limits and names.
const RUN_OPERATIONS: u64 = 5_000;

/// Runs in which everything that can happen does; some of them are crowded.
const NOTED_RUNS: u64 = 120;

#[test]
fn the_core_does_what_the_naive_model_does() {
    let seed = setting("SEQ_MODEL_SEED").unwrap_or(20_261_121);
    let operations = setting("SEQ_MODEL_OPERATIONS").unwrap_or(1_000_000);
    let mut kinds = BTreeSet::new();
    for run in 0..operations.div_ceil(RUN_OPERATIONS) {
        let seed = seed + run;
        // What can happen is noted in the first runs only, for that takes time.
        let mut noted = (run < NOTED_RUNS).then_some(&mut kinds);
        let compared = AssertUnwindSafe(|| compare(seed, RUN_OPERATIONS, &mut noted));
        if let Err(failure) = catch_unwind(compared) {
            let again = format!("SEQ_MODEL_SEED={seed} SEQ_MODEL_OPERATIONS=1 cargo test --test sequencer_model");
            let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("again: {again}\n").as_bytes());
            resume_unwind(failure);
        }
    }
    if operations >= NOTED_RUNS * RUN_OPERATIONS {
        let missing: Vec<&&str> = EVERY_KIND.iter().filter(|kind| !kinds.contains(**kind)).collect();
        assert!(missing.is_empty(), "these never happened: {missing:?}");
    }
}

/// What must have happened in a run that is worth something.
const EVERY_KIND: [&str; 41] = [
    "Admitted",
    "Active",
    "Resumed",
    "QueuedReply",
    "QueuePosition",
    "DoneReply",
    "NothingDone",
    "CancelledReply",
    "ReleasedReply",
    "Idle",
    "Busy",
    "TimedOut",
    "QueueFull",
    "TooManyDomains",
    "TooManyRequests",
    "Cancelled",
    "Released",
    "Expired",
    "TakenOver",
    "AlreadyActive",
    "RequestIdTaken",
    "NotFound",
    "NotWaiting",
    "NotActive",
    "Forbidden",
    "Gone",
    "Leaving",
    "Queued",
    "Turn",
    "Orphaned",
    "Ended Done",
    "Ended Gone",
    "Ended Released",
    "Ended Expired",
    "Ended Stopped",
    "Left Done",
    "Left Gone",
    "Left Cancelled",
    "Left TimedOut",
    "Left Stopped",
    "a step is left over",
];

fn kind(effect: &Effect) -> String {
    match effect {
        Effect::Admitted { .. } => "Admitted".to_owned(),
        Effect::Record(record) => match record.change {
            Change::Queued => "Queued".to_owned(),
            Change::Active { .. } => "Turn".to_owned(),
            Change::Orphaned { .. } => "Orphaned".to_owned(),
            Change::Ended { outcome, .. } => format!("Ended {outcome:?}"),
            Change::Left { outcome, .. } => format!("Left {outcome:?}"),
        },
        Effect::Tell { reply, .. } => match reply {
            Reply::Active(active) if active.resumed => "Resumed".to_owned(),
            Reply::Active(_) => "Active".to_owned(),
            Reply::Queued(_) => "QueuedReply".to_owned(),
            Reply::QueuePosition(_) => "QueuePosition".to_owned(),
            Reply::Done(done) if done.released => "DoneReply".to_owned(),
            Reply::Done(_) => "NothingDone".to_owned(),
            Reply::Cancelled(_) => "CancelledReply".to_owned(),
            Reply::Released(_) => "ReleasedReply".to_owned(),
            Reply::Idle(_) => "Idle".to_owned(),
            Reply::Error(error) => format!("{:?}", error.code),
            other => panic!("the sequencer does not say this: {other:?}"),
        },
    }
}

/// Notes the kinds of what happens, if that is wanted.
type Kinds<'a> = Option<&'a mut BTreeSet<String>>;

fn setting(name: &str) -> Option<u64> {
    env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")))
}

struct Both {
    core: Sequencer,
    model: Model,
    now: Time,
}

fn compare(seed: u64, operations: u64, kinds: &mut Kinds<'_>) {
    let mut rng = Rng::with_seed(seed);
    let world = World::new(seed, &mut rng);
    let (ticket, token) = (Ticket(1), Token(1));
    let core = Sequencer::with_limits(ticket, token, world.limits);
    let mut both = Both { core, model: Model::new(ticket, token, world.limits), now: Time::ZERO };
    for operation in 0..operations {
        both.now = World::later(&mut rng, both.now, both.core.next_timeout());
        let input = world.input(&mut rng, both.now, both.core.next_numbers().0);
        let leaves = input == Input::Leave;
        both.step(&input, operation, kinds);
        if operation % 64 == 0 {
            both.core.check_invariants();
            assert_eq!(seen(&both.core), both.model.seen(), "lines at operation {operation}");
        }
        let crashes = if leaves { rng.u8(..8) > 0 } else { rng.u16(..500) == 0 };
        if crashes {
            both.crash(&mut rng, &world, operation, kinds);
        } else if leaves {
            for _ in 0..50 {
                let input = world.input(&mut rng, both.now, both.core.next_numbers().0);
                both.step(&input, operation, kinds);
            }
            both.crash(&mut rng, &world, operation, kinds);
        }
    }
}

impl Both {
    fn step(&mut self, input: &Input, operation: u64, kinds: &mut Kinds<'_>) {
        let mut effects = Vec::new();
        self.core.handle(self.now, input.clone(), &mut effects);
        effects.iter_mut().for_each(check_and_drop_message);
        if let Some(kinds) = kinds {
            kinds.extend(effects.iter().map(kind));
            if effects.len() > 64 && self.core.next_timeout() == Some(self.now) {
                kinds.insert("a step is left over".to_owned());
            }
        }
        let expected = self.model.handle(self.now, input.clone());
        assert_eq!(effects, expected, "effects of operation {operation} at {}: {input:?}", self.now);
        let (next, expected) = (self.core.next_timeout(), self.model.next_timeout());
        assert_eq!(next, expected, "next timeout after operation {operation} at {}: {input:?}", self.now);
        assert_eq!(self.core.next_numbers(), self.model.next_numbers(), "after operation {operation}: {input:?}");
        assert_eq!(self.core.counts(), self.model.counts(), "after operation {operation}: {input:?}");
    }

    /// The daemon dies, another one takes back what is still there.
    fn crash(&mut self, rng: &mut Rng, world: &World, operation: u64, kinds: &mut Kinds<'_>) {
        let held = self.core.held();
        assert_eq!(held, self.model.held(), "turns that survive operation {operation}");
        let (ticket, token) = self.core.next_numbers();
        self.core = Sequencer::with_limits(ticket, token, world.limits);
        self.model = Model::new(ticket, token, world.limits);
        for turn in found_again(rng, held) {
            self.step(&Input::Restore(turn), operation, kinds);
        }
    }
}

/// The words are tested elsewhere; here they only must be there, and as the style asks.
fn check_and_drop_message(effect: &mut Effect) {
    let Effect::Tell { reply: Reply::Error(error), .. } = effect else { return };
    assert!(!error.message.is_empty() && !error.message.ends_with('.'), "{}", error.message);
    error.message.clear();
}

fn seen(core: &Sequencer) -> Vec<Seen> {
    core.view(None, usize::MAX, true)
        .into_iter()
        .map(|line| {
            let holders = line.holders.iter().map(|(view, token, state)| (view.ticket.0, token.0, *state, view.pid));
            let waiters: Vec<_> = line.waiters.iter().map(|view| (view.ticket.0, view.pid)).collect();
            assert_eq!(line.waiting, waiters.len() as u64);
            (line.domain.clone(), holders.collect(), waiters, line.usual_run)
        })
        .collect()
}
