//! Commands that would lose updates if two of them overlapped: each reads a number, lets others go first, and writes it
//! one higher, without a lock of its own (reliability T4). Daemons and wrappers are killed with -9 and the daemon is
//! stopped meanwhile; a command whose wrapper is killed goes on to its end.
//!
//! `SEQ_LOST_UPDATE_TURNS=1000 cargo test --test lost_update` for all of it. The seed is `SEQ_LOST_UPDATE_SEED`.

#![expect(clippy::print_stdout, reason = "it reports its figures")]

#[path = "chaos/stamp.rs"]
mod stamp;
#[path = "chaos/inside.rs"]
mod inside;
#[path = "chaos/world.rs"]
mod world;
#[path = "chaos/storm.rs"]
mod storm;
#[path = "chaos/verdict.rs"]
mod verdict;
mod support;

use std::time::Duration;

use inside::{COUNTER, Witness, read_counter};
use stamp::What;
use storm::{Mischief, Plan};
use support::size;

/// Commands in the whole test.
const TURNS: usize = 1_000;

/// What is done in the whole test.
const MISCHIEF: [(Mischief, usize); 3] =
    [(Mischief::KillDaemon, 50), (Mischief::KillWrapper, 50), (Mischief::StopDaemon, 20)];

/// What `seq` runs.
#[test]
fn command() {
    inside::perform();
}

#[test]
fn the_counter_is_the_number_of_commands_that_completed() {
    let turns = size("SEQ_LOST_UPDATE_TURNS", 200);
    let seed = size("SEQ_LOST_UPDATE_SEED", 20_261_121);
    let plan = Plan {
        seed: seed.try_into().expect("64 bits"),
        turns,
        domains: vec!["foo.com".to_owned()],
        clients: 8,
        witness: Witness::Counter,
        hold_max: Duration::from_millis(2),
        mischief: MISCHIEF.map(|(mischief, count)| (mischief, (turns * count).div_ceil(TURNS))).to_vec(),
    };
    let again = format!("SEQ_LOST_UPDATE_SEED={seed} SEQ_LOST_UPDATE_TURNS={turns} cargo test --test lost_update");
    storm::repeatable(&again, || blow(&plan));
}

fn blow(plan: &Plan) {
    let (mut world, toll) = storm::run(plan);
    let history = world.close(&plan.domains);
    let completed = world.stamps.iter().filter(|stamp| stamp.what == What::End).count();
    let counter = read_counter(&world.home.file(COUNTER));
    assert_eq!(counter, completed as u64);
    assert_eq!(completed, world.starts, "each command that began has completed");
    assert!(completed >= plan.turns, "{completed} commands");
    verdict::judge(&world, &history);
    let seed = plan.seed;
    println!("lost update: the counter is {counter}, {completed} commands completed; {toll}; seed {seed}");
}
