//! Killed wrappers, 200 times: never a turn before the orphaned command's own end, and the next one soon after it.

#![expect(clippy::print_stdout, reason = "it reports its figures")]

mod support;

use std::time::Duration;

use support::{Home, Running, size};

/// How late the next turn may come after the orphan's end, starting its command included.
const LATE_MAX: Duration = Duration::from_millis(50);

/// In so many of a hundred rounds: four processes have to be run for it, and a busy machine lets many of them wait.
/// On one with nothing else to do it holds for all of them: `SEQ_ORPHANS_PERCENT=100`.
const ON_TIME_PERCENT: usize = 50;

/// How late it may come at worst: longer than any machine is busy, shorter than a wake-up that was lost.
const LOST: Duration = Duration::from_secs(5);

/// A command that stamps its start and its end itself, in microseconds.
const STAMPER: &str = r#"#!/bin/bash
echo "start $1 ${EPOCHREALTIME/./}" >>stamps
read -r line <gate
echo "end $1 ${EPOCHREALTIME/./}" >>stamps
"#;

fn await_start(home: &Home, name: usize) {
    home.await_fact(&format!("the start of {name}"), || {
        home.read("stamps").contains(&format!("start {name} ")).then_some(())
    });
}

#[test]
fn no_turn_comes_before_the_end_of_an_orphan_and_the_next_comes_soon_after() {
    let rounds = size("SEQ_ORPHANS", 200);
    let home = Home::new();
    home.script("stamper", STAMPER);
    let gate = home.gate("gate");
    let start = |name: usize| home.start(&["run", "-d", "foo.com", "--", "./stamper", &name.to_string()]);
    let mut wrapper: Running = start(0);
    for round in 0..rounds {
        await_start(&home, round);
        let next = start(round + 1);
        home.await_waiters("foo.com", 1);
        wrapper.kill();
        home.await_holder("foo.com", "orphaned");
        gate.let_one_pass();
        wrapper = next;
    }
    await_start(&home, rounds);
    gate.let_one_pass();
    wrapper.wait().is_silent(0);

    let stamps = home.read("stamps");
    let stamps: Vec<(&str, u64)> = stamps
        .lines()
        .map(|line| line.rsplit_once(' ').expect("a stamp"))
        .map(|(what, when)| (what, when.parse().expect("microseconds")))
        .collect();
    assert_eq!(stamps.len(), 2 * (rounds + 1));
    let mut gaps: Vec<u64> = Vec::new();
    for round in 0..rounds {
        let [end, start] = [stamps[2 * round + 1], stamps[2 * round + 2]];
        assert_eq!(end.0, format!("end {round}"));
        assert_eq!(start.0, format!("start {}", round + 1));
        assert!(start.1 >= end.1, "round {round}: the next began {} us early", end.1 - start.1);
        gaps.push(start.1 - end.1);
    }
    gaps.sort_unstable();
    let on_time = gaps.iter().filter(|gap| Duration::from_micros(**gap) <= LATE_MAX).count();
    let (median, longest) = (gaps[gaps.len() / 2], gaps[gaps.len() - 1]);
    println!(
        "{rounds} orphans: the next began {median} us (median), {longest} us (at most) after the end; \
         {on_time} within {LATE_MAX:?}"
    );
    let wanted = size("SEQ_ORPHANS_PERCENT", ON_TIME_PERCENT);
    assert!(on_time * 100 >= rounds * wanted, "only {on_time} of {rounds} came within {LATE_MAX:?}");
    assert!(Duration::from_micros(longest) < LOST, "a turn came {longest} us after the orphan's end");
}
