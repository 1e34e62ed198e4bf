//! Two thousand processes wait in one line.

#![expect(clippy::print_stdout, reason = "it reports its figures")]

mod support;

use std::fs;
use std::time::Instant;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use support::{Home, size};

/// Open files that a process may have where nobody has raised the limit.
const USUAL_OPEN_FILES: u64 = 1_024;

/// Waiters that come at once; those of one batch may take their places in any order.
const BATCH: usize = 100;

/// A process's memory in KiB and its processor time in clock ticks of 10 ms.
fn usage(pid: u32) -> (u64, u64) {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("readable");
    let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
    let memory = memory.trim().trim_end_matches(" kB").parse().expect("KiB");
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("readable");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("fields").split_ascii_whitespace().collect();
    let ticks = |field: usize| fields[field].parse::<u64>().expect("ticks");
    (memory, ticks(11) + ticks(12))
}

#[test]
fn two_thousand_wait_in_one_line_and_run_in_order() {
    let waiters = size("SEQ_WAITERS", 2_000);
    // As in a login shell of many systems, whatever started this test.
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(USUAL_OPEN_FILES), ..limit }).expect("a lower limit");
    let home = Home::new();
    let gate = home.gate("gate");
    let holder = home.hold("foo.com", "holder", "gate");
    let daemon = home.daemon().pid;
    let (memory_before, ticks_before) = usage(daemon);

    let queueing = Instant::now();
    let mut all = Vec::new();
    for batch in 0..waiters.div_ceil(BATCH) {
        let note = format!("echo \"{batch} $SEQ_TICKET\" >>order");
        all.extend((0..BATCH).map(|_| home.start(&["run", "-d", "foo.com", "--", "sh", "-c", &note])));
        home.await_waiters("foo.com", all.len());
    }
    let queueing = queueing.elapsed();
    let (memory_full, ticks_full) = usage(daemon);

    let draining = Instant::now();
    gate.open();
    holder.wait().is_silent(0);
    let count = all.len();
    for one in all {
        one.wait().is_silent(0);
    }
    let draining = draining.elapsed();
    let (memory_after, ticks_after) = usage(daemon);
    println!(
        "{count} waiters: queued in {queueing:.1?}, drained in {draining:.1?}; the daemon's memory {memory_before} KiB \
         before, {memory_full} KiB with all of them, {memory_after} KiB after; its processor time {} ms queueing, \
         {} ms draining",
        10 * (ticks_full - ticks_before),
        10 * (ticks_after - ticks_full),
    );

    let order = home.read("order");
    let order: Vec<(usize, u64)> = order
        .lines()
        .map(|line| line.split_once(' ').expect("two numbers"))
        .map(|(batch, ticket)| (batch.parse().expect("a batch"), ticket.parse().expect("a ticket")))
        .collect();
    assert_eq!(order.len(), count, "each ran once");
    assert!(order.windows(2).all(|pair| pair[0].0 <= pair[1].0), "who came later ran later");
    assert!(order.windows(2).all(|pair| pair[0].1 < pair[1].1), "tickets are places in line");
    home.await_idle("foo.com");
}
