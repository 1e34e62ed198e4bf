//! The sequencer against a naive model of it, step by step, over random inputs, with crashes (reliability T1).
//!
//! `SEQ_MODEL_SEED=… SEQ_MODEL_OPERATIONS=100000000 cargo test --release --test sequencer_model` for more.

#![expect(clippy::unwrap_used, reason = "what the model takes for granted is part of what is tested")]

mod model;
mod disk;
mod random;
mod lives;

use std::collections::BTreeSet;
use std::env;
use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use fastrand::Rng;

use disk::{Both, Disk};
use model::Seen;
use random::{World, found_again};
use seq::clock::Time;
use seq::protocol::{ErrorCode, HeadWait, Reply};
use seq::sequencer::{Change, Effect, Input, KeyChange, KeyRecord, KeyState, Obstacle, PastChange, Sequencer};

/// Operations in one run; each begins anew, with its own limits and names.
const RUN_OPERATIONS: u64 = 5_000;

/// Runs in which everything that can happen does; some of them are crowded.
const NOTED_RUNS: u64 = 120;

#[test]
fn the_core_does_what_the_naive_model_does() {
    let seed = setting("SEQ_MODEL_SEED").unwrap_or(20_261_121);
    let operations = setting("SEQ_MODEL_OPERATIONS").unwrap_or(1_000_000);
    let runs = operations.div_ceil(RUN_OPERATIONS);
    // No run knows of another: each processor takes the next one.
    let next = AtomicU64::new(0);
    let take_runs = || {
        let mut kinds = BTreeSet::new();
        loop {
            let run = next.fetch_add(1, Ordering::Relaxed);
            if run >= runs {
                return kinds;
            }
            let seed = seed + run;
            // What can happen is noted in the first runs only, for that takes time.
            let mut noted = (run < NOTED_RUNS).then_some(&mut kinds);
            if let Err(failure) = catch_unwind(AssertUnwindSafe(|| perform(seed, &mut noted))) {
                next.store(runs, Ordering::Relaxed);
                let again = format!("SEQ_MODEL_SEED={seed} SEQ_MODEL_OPERATIONS=1 cargo test --test sequencer_model");
                let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("again: {again}\n").as_bytes());
                resume_unwind(failure);
            }
        }
    };
    let kinds: BTreeSet<String> = thread::scope(|scope| {
        let processors = thread::available_parallelism().map_or(1, NonZero::get);
        let threads: Vec<_> = (0..processors).map(|_| scope.spawn(take_runs)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap_or_else(|failure| resume_unwind(failure))).collect()
    });
    if operations >= NOTED_RUNS * RUN_OPERATIONS {
        let missing: Vec<&&str> = EVERY_KIND.iter().filter(|kind| !kinds.contains(**kind)).collect();
        assert!(missing.is_empty(), "these never happened: {missing:?}");
    }
}

/// One run. Its seed alone says what it is, so that it can be repeated alone.
fn perform(seed: u64, kinds: &mut Kinds<'_>) {
    if seed % 3 == 2 { lives::live(seed, RUN_OPERATIONS) } else { compare(seed, RUN_OPERATIONS, kinds) }
}

/// What must have happened in a run that is worth something.
const EVERY_KIND: [&str; 99] = [
    "Admitted",
    "Changed",
    "Active",
    "Resumed",
    "QueuedReply",
    "QueuePosition",
    "DoneReply",
    "NothingDone",
    "Confirmed",
    "CancelledReply",
    "ReleasedReply",
    "Idle",
    "Busy",
    "TimedOut",
    "QueueFull",
    "TooManyDomains",
    "TooManyPolicies",
    "TakeTooLarge",
    "SeveralHolders",
    "WouldDeadlock",
    "a wait that closes a circle",
    "a request that closes a circle through a wait",
    "a request that comes into a line that is waited for",
    "a policy that closes a circle through a wait",
    "Turn again",
    "Turn with more",
    "PolicySetReply",
    "PolicyUnsetReply",
    "PausedReply",
    "ResumedReply",
    "Policy",
    "Past told anew",
    "Past start",
    "Past start moved",
    "Past end",
    "several let in at once",
    "a turn has to begin first",
    "TooManyRequests",
    "Cancelled",
    "Released",
    "Superseded",
    "Left Superseded",
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
    "Restarting",
    "Queued",
    "Turn",
    "Orphaned",
    "Ended Done",
    "Ended Superseded",
    "Ended Gone",
    "Ended Released",
    "Ended Expired",
    "Ended Stopped",
    "Left Done",
    "Left Gone",
    "Left Cancelled",
    "Left TimedOut",
    "Left Deadlock",
    "Left Stopped",
    "a step is left over",
    "Follows",
    "Following",
    "Key reserved",
    "Key running",
    "Key completed",
    "Key freed",
    "Key unknown",
    "Key learned",
    "Key as if never used",
    "Outcome at once of Key completed",
    "Outcome at last of Key completed",
    "Outcome at last of Key freed",
    "KeyConflict",
    "KeyUnknown",
    "KeyInUse",
    "SeveralKeys",
    "TooManyKeys",
    "KeyForgotten",
    "A follower is next",
    "A follower is superseded",
    "A follower is timed out",
    "A follower hears of the unknown",
    "A follower is left",
    "A follower has to come again",
    "Pruned",
    "A past key has expired",
    "Expired and used again",
    "A lost follower is told of a failure",
    "Lost between daemons",
    "Known after all",
];

fn kind(effect: &Effect) -> String {
    match effect {
        Effect::Admitted { .. } => "Admitted".to_owned(),
        Effect::Changed { .. } => "Changed".to_owned(),
        Effect::Policy(_) => "Policy".to_owned(),
        Effect::Past(PastChange::Forgotten { .. }) => "Past told anew".to_owned(),
        Effect::Past(PastChange::Started { .. }) => "Past start".to_owned(),
        Effect::Past(PastChange::Moved { .. }) => "Past start moved".to_owned(),
        Effect::Past(PastChange::Ended { .. }) => "Past end".to_owned(),
        Effect::Follows { .. } => "Follows".to_owned(),
        Effect::Unfollowed { .. } => "Unfollowed".to_owned(),
        Effect::Key(change) => match change.record.as_deref() {
            None => "Key as if never used".to_owned(),
            Some(record) if record.learned.is_some() => "Key learned".to_owned(),
            Some(record) => state_of_key(record).to_owned(),
        },
        Effect::TellOutcome { told, .. } => {
            format!("Outcome {} of {}", if told.followed { "at last" } else { "at once" }, state_of_key(&told.record))
        }
        Effect::Record(record) => match record.change {
            Change::Queued => "Queued".to_owned(),
            Change::Active { .. } if record.had_already.len() > record.also.len() => "Turn again".to_owned(),
            Change::Active { .. } if !record.had_already.is_empty() => "Turn with more".to_owned(),
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
            Reply::Confirmed(_) => "Confirmed".to_owned(),
            Reply::Cancelled(_) => "CancelledReply".to_owned(),
            Reply::Released(_) => "ReleasedReply".to_owned(),
            Reply::Idle(_) => "Idle".to_owned(),
            Reply::PolicySet(_) => "PolicySetReply".to_owned(),
            Reply::PolicyUnset(_) => "PolicyUnsetReply".to_owned(),
            Reply::Paused(_) => "PausedReply".to_owned(),
            Reply::Resumed(_) => "ResumedReply".to_owned(),
            Reply::Following(_) => "Following".to_owned(),
            Reply::KeyForgotten(_) => "KeyForgotten".to_owned(),
            Reply::Error(error) => format!("{:?}", error.code),
            other => panic!("the sequencer does not say this: {other:?}"),
        },
    }
}

/// A circle that leads through a `Wait`, by its words; those for a turn around it say something else.
fn kind_of_circle(input: &Input, words: &str) -> Option<&'static str> {
    match input {
        _ if !words.contains(" to be idle; ") && !words.ends_with(" to be idle") => None,
        Input::Wait { .. } => Some("a wait that closes a circle"),
        Input::Sequence(_) if words.contains("; this request would stand in ") => {
            Some("a request that comes into a line that is waited for")
        }
        Input::Sequence(_) => Some("a request that closes a circle through a wait"),
        _ => Some("a policy that closes a circle through a wait"),
    }
}

fn state_of_key(record: &KeyRecord) -> &'static str {
    match record.state {
        KeyState::Reserved => "Key reserved",
        KeyState::Running { .. } => "Key running",
        KeyState::Completed(_) => "Key completed",
        KeyState::Freed(_) => "Key freed",
        KeyState::Unknown { .. } => "Key unknown",
    }
}

/// What happens to keys, where one effect alone does not say it.
fn kinds_of_keys(input: &Input, effects: &[Effect]) -> Vec<&'static str> {
    let mut kinds = Vec::new();
    let freed = |change: &KeyChange| change.record.is_none() && change.hold.is_empty();
    for (index, effect) in effects.iter().enumerate() {
        let before = index.checked_sub(1).map(|before| &effects[before]);
        kinds.extend(match (before, effect) {
            (_, Effect::Admitted { follower: Some(_), .. }) => Some("A follower is next"),
            (Some(Effect::Unfollowed { .. }), Effect::Tell { reply: Reply::Error(error), .. }) => match error.code {
                ErrorCode::Superseded => Some("A follower is superseded"),
                ErrorCode::TimedOut => Some("A follower is timed out"),
                ErrorCode::KeyUnknown => Some("A follower hears of the unknown"),
                ErrorCode::Leaving => Some("A follower is left"),
                ErrorCode::Restarting => Some("A follower has to come again"),
                _ => None,
            },
            (Some(Effect::Record(_)), Effect::Key(_)) => None,
            (_, Effect::Key(change)) if freed(change) => match input {
                Input::Tick => Some("Pruned"),
                Input::PastKey(_) => Some("A past key has expired"),
                _ => None,
            },
            (Some(Effect::Key(change)), Effect::Admitted { .. }) if freed(change) => Some("Expired and used again"),
            (None, Effect::TellOutcome { told, .. })
                if told.followed && matches!(told.record.state, KeyState::Freed(_)) =>
            {
                Some("A lost follower is told of a failure")
            }
            (None, Effect::Key(change)) => match (input, change.record.as_deref()) {
                (Input::PastKey(_), Some(record)) if matches!(record.state, KeyState::Unknown { .. }) => {
                    Some("Lost between daemons")
                }
                (Input::Done { .. } | Input::KeyLearned { .. }, Some(record))
                    if matches!(record.state, KeyState::Completed(_)) =>
                {
                    Some("Known after all")
                }
                _ => None,
            },
            _ => None,
        });
    }
    kinds
}

/// Notes the kinds of what happens, if that is wanted.
type Kinds<'a> = Option<&'a mut BTreeSet<String>>;

fn setting(name: &str) -> Option<u64> {
    env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")))
}

fn compare(seed: u64, operations: u64, kinds: &mut Kinds<'_>) {
    let mut rng = Rng::with_seed(seed);
    let world = World::new(seed, &mut rng);
    let mut disk = Disk::new();
    let mut both = Both::new(disk.next, world.limits, Time::ZERO);
    let mut batch = Vec::new();
    let mut leaves = 0;
    for operation in 0..operations {
        both.now = World::later(&mut rng, both.now, both.core.next_timeout());
        let input = world.input(&mut rng, both.now, both.core.next_numbers().0, &disk);
        leaves += u32::from(leaves > 0 || matches!(input, Input::Leave { .. }));
        let effects = both.step(&input);
        if let Some(kinds) = kinds {
            kinds.extend(effects.iter().map(kind));
            let circles = both.circles.iter().filter_map(|words| kind_of_circle(&input, words));
            kinds.extend(circles.map(str::to_owned));
            kinds.extend(kinds_of_keys(&input, &effects).into_iter().map(str::to_owned));
            if let Input::SetPolicy { .. } = input
                && effects.iter().filter(|effect| kind(effect) == "Turn").count() > 1
            {
                kinds.insert("several let in at once".to_owned());
            }
            let lines = both.core.view(None, 1, false);
            if lines.iter().any(|line| matches!(line.obstacle, Some(Obstacle::Start(_)))) {
                kinds.insert("a turn has to begin first".to_owned());
            }
            if effects.len() > 16 && both.core.next_timeout() == Some(both.now) {
                kinds.insert("a step is left over".to_owned());
            }
        }
        batch.extend(effects);
        let restored = if let Input::Restore(restored) = &input { both.core.saved(restored.ticket) } else { None };
        let past_key = match &input {
            Input::PastKey(record) => both.model.records().into_iter().find(|known| *known == **record),
            _ => None,
        };
        if rng.u8(..4) > 0 || restored.is_some() || past_key.is_some() {
            disk.commit(&batch, &both.core);
            batch.clear();
        }
        // Whoever restores it knows of it.
        disk.remember(&input);
        disk.live.extend(restored.map(|restored| (restored.ticket, restored)));
        disk.keys.extend(past_key.map(|record| (record.name.clone(), record)));
        if operation % 64 == 0 {
            both.core.check_invariants();
            both.model.check_no_cycle();
            assert_eq!(seen(&both.core), both.model.seen(), "lines at operation {operation}");
            let keys = both.core.keys(None, None, None);
            let keys: Vec<_> = keys.map(|record| (record.clone(), both.core.followers(&record.name))).collect();
            assert_eq!(keys, both.model.keys_seen(), "keys at operation {operation}");
            disk.commit(&batch, &both.core);
            batch.clear();
            disk.check(&both);
        }
        if rng.u16(..500) == 0 || leaves > 40 || leaves > 0 && rng.u8(..8) == 0 {
            leaves = 0;
            // Whether the last batch was still written.
            if rng.bool() {
                disk.commit(&batch, &both.core);
            }
            batch.clear();
            both = Both::new(disk.next, world.limits, both.now);
            restore(&mut rng, &mut both, &mut disk);
        }
    }
}

/// Another daemon takes back what is still there.
fn restore(rng: &mut Rng, both: &mut Both, disk: &mut Disk) {
    let mut batch = Vec::new();
    for past in disk.before_tickets() {
        batch.extend(both.step(&past));
    }
    for saved in disk.live.values() {
        batch.extend(both.step(&Input::Restore(found_again(rng, saved.clone()))));
        both.core.check_invariants();
    }
    for past in disk.after_tickets() {
        batch.extend(both.step(&past));
        both.core.check_invariants();
    }
    disk.commit(&batch, &both.core);
    // What was found of each is written down again only with its next change.
    let written = both.model.saved().into_iter().map(|saved| (saved.ticket, saved));
    disk.live.extend(written);
}

fn seen(core: &Sequencer) -> Vec<Seen> {
    core.view(None, usize::MAX, true)
        .into_iter()
        .map(|line| {
            let policy = core.policies().resolve(line.domain);
            assert_eq!((line.concurrency, line.policy), (policy.concurrency.unwrap_or(1), policy));
            let holders = line.holders.iter().map(|(view, token, state)| (view.ticket.0, token.0, *state, view.pid));
            let waiters: Vec<_> = line.waiters.iter().map(|view| (view.ticket.0, view.pid)).collect();
            assert_eq!(line.waiting, waiters.len() as u64);
            let head = line.obstacle.map(HeadWait::from);
            let rest = line.rest.map(|rest| rest.until);
            (line.domain.clone(), holders.collect(), waiters, line.usual_run, line.pause.cloned(), head, rest)
        })
        .collect()
}
