//! Tens of processes take turns in several domains, while daemons, wrappers and commands are killed with -9, one by one
//! and two in the same instant, and the daemon is stopped. No two may overlap, no turn may be lost, everybody keeps the
//! place in line.
//!
//! `SEQ_CHAOS_SEED=… SEQ_CHAOS_TURNS=10000 cargo test --release --test chaos -- --nocapture` for more. The seed decides
//! what is done and in which order; the system decides what is hit.

#![expect(clippy::print_stdout, reason = "it reports its figures")]

mod stamp;
mod inside;
mod world;
mod storm;
mod verdict;
#[path = "../support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use inside::Witness;
use storm::{Mischief, Plan};
use support::size;

/// Turns for each thing that is done.
const TURNS_PER_MISCHIEF: usize = 10;

/// What is done, in hundredths.
const SHARES: [(Mischief, usize); 8] = [
    (Mischief::KillDaemon, 22),
    (Mischief::KillTwoDaemons, 6),
    (Mischief::KillWrapper, 18),
    (Mischief::KillCommand, 18),
    (Mischief::KillDaemonAndWrapper, 9),
    (Mischief::KillDaemonAndCommand, 9),
    (Mischief::KillWrapperAndCommand, 9),
    (Mischief::StopDaemon, 9),
];

/// What `seq` runs.
#[test]
fn command() {
    inside::perform();
}

#[test]
fn nothing_overlaps_and_nothing_is_lost_whatever_is_killed() {
    let seed = size("SEQ_CHAOS_SEED", usize::from_ne_bytes(fastrand::u64(..).to_ne_bytes()) % 1_000_000);
    let turns = size("SEQ_CHAOS_TURNS", 300);
    let plan = Plan {
        seed: seed.try_into().expect("64 bits"),
        turns,
        domains: ["a", "b", "c", "d", "e"].map(str::to_owned).to_vec(),
        clients: 30,
        witness: Witness::Lock,
        hold_max: Duration::from_millis(8),
        mischief: SHARES
            .map(|(mischief, share)| (mischief, (turns / TURNS_PER_MISCHIEF * share).div_ceil(100)))
            .to_vec(),
    };
    let again = format!("SEQ_CHAOS_SEED={seed} SEQ_CHAOS_TURNS={turns} cargo test --test chaos");
    storm::repeatable(&again, || blow(&plan));
}

fn blow(plan: &Plan) {
    let start = Instant::now();
    let (mut world, toll) = storm::run(plan);
    let history = world.close(&plan.domains);
    verdict::judge(&world, &history);
    println!(
        "chaos: {} turns in {} domains, {toll}; 0 overlaps, 0 turns lost, places kept; {:.1} s, seed {}",
        world.starts,
        plan.domains.len(),
        start.elapsed().as_secs_f64(),
        plan.seed
    );
}
