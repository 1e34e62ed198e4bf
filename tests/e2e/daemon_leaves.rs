//! The daemon leaves, on purpose, while commands run: they do not notice, and their turns stay taken.

use crate::support::{Home, Running};
use rustix::process::Signal;

/// A command that runs until the gate is open, and ends with 7.
fn hold(home: &Home, options: &[&str]) -> Running {
    let script = "echo start first >>log; read -r line <gate; echo end first >>log; exit 7";
    let running = home.start(&[&["run", "-d", "foo.com"], options, &["--", "sh", "-c", script]].concat());
    home.await_line("start first");
    home.await_holder("foo.com", "attached");
    running
}

/// Stops a process, which notices nothing until it goes on.
fn stop_process(home: &Home, running: &Running) {
    running.signal(Signal::STOP);
    home.await_fact("it is stopped", || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", running.pid())).ok()?;
        stat.contains(") T ").then_some(())
    });
}

fn stop(home: &Home) {
    let old = home.daemon();
    home.seq(&["stop"]).is_silent(0);
    assert!(old.has_ended_within(20));
}

fn end_by(home: &Home, signal: Signal) {
    let old = home.daemon();
    assert!(old.signal(signal));
    assert!(old.has_ended_within(20));
}

/// With the old daemon gone: the next run starts a new one, and waits for the command.
fn the_next_waits(home: &Home, first: Running, gate: &crate::support::Gate) {
    let next = home.start(&["run", "-d", "foo.com", "--", "./worker", "next"]);
    home.await_waiters("foo.com", 1);
    home.seq(&["run", "-d", "bar.com", "--", "true"]).is_silent(0);
    gate.open();
    first.wait().is_silent(7);
    next.wait().is_silent(0);
    assert_eq!(home.log(), ["start first", "end first", "start next", "end next"]);
    assert_eq!(home.daemons().len(), 1);
}

#[test]
fn seq_stop_leaves_a_running_command_its_turn() {
    let home = Home::new();
    let gate = home.gate("gate");
    let first = hold(&home, &[]);
    stop(&home);
    the_next_waits(&home, first, &gate);
}

#[test]
fn sigterm_leaves_a_running_command_its_turn() {
    let home = Home::new();
    let gate = home.gate("gate");
    let first = hold(&home, &[]);
    end_by(&home, Signal::TERM);
    the_next_waits(&home, first, &gate);
}

#[test]
fn sigint_leaves_a_running_command_its_turn() {
    let home = Home::new();
    let gate = home.gate("gate");
    let first = hold(&home, &[]);
    end_by(&home, Signal::INT);
    the_next_waits(&home, first, &gate);
}

#[test]
fn a_command_that_ends_while_there_is_no_daemon_gives_its_turn_back() {
    let home = Home::new();
    let gate = home.gate("gate");
    let first = hold(&home, &[]);
    stop(&home);
    gate.open();
    first.wait().is_silent(7);
    home.seq(&["run", "-n", "-d", "foo.com", "--", "true"]).is_silent(0);
}

#[test]
fn a_wrapper_killed_while_there_is_no_daemon_leaves_the_turn_with_its_command() {
    let home = Home::new();
    let gate = home.gate("gate");
    let first = hold(&home, &[]);
    stop(&home);
    first.kill();
    let next = home.start(&["run", "-d", "foo.com", "--", "./worker", "next"]);
    home.await_waiters("foo.com", 1);
    gate.open();
    next.wait().is_silent(0);
    assert_eq!(home.log(), ["start first", "end first", "start next", "end next"]);
}

#[test]
fn a_shells_turn_outlives_the_daemon() {
    let home = Home::new();
    let gate = home.gate("gate");
    let script = r#""$SEQ" sequence -d foo.com; echo mine >>log; read -r line <gate; "$SEQ" done -d foo.com; echo done >>log; read -r line <gate"#;
    let shell = home.launch(home.command("sh").args(["-c", script]));
    home.await_line("mine");
    stop(&home);
    let next = home.start(&["run", "-d", "foo.com", "--", "sh", "-c", "echo next >>log"]);
    home.await_waiters("foo.com", 1);
    gate.let_one_pass();
    next.wait().is_silent(0);
    gate.open();
    shell.wait().is_silent(0);
    assert!(home.log().starts_with(&["mine".to_owned()]));
}

#[test]
fn those_who_wait_are_told_that_the_daemon_leaves() {
    let home = Home::new();
    let gate = home.gate("gate");
    let first = hold(&home, &[]);
    let waiter = home.queue("foo.com", "waiter", 1);
    stop(&home);
    waiter.wait().complains(125, "daemon");
    gate.open();
    first.wait().is_silent(7);
    assert_eq!(home.log(), ["start first", "end first"]);
}

#[test]
fn tokens_rise_across_daemons() {
    let home = Home::new();
    let mut last = (0, 0);
    for _ in 0..4 {
        let numbers = home.sh(r#""$SEQ" run -d foo.com -- sh -c 'echo "$SEQ_TICKET $SEQ_TOKEN"'"#).stdout();
        let (ticket, token) = numbers.trim().split_once(' ').expect("two numbers");
        let numbers: (u64, u64) = (ticket.parse().expect("a ticket"), token.parse().expect("a token"));
        assert!(numbers.0 > last.0 && numbers.1 > last.1, "{numbers:?} after {last:?}");
        last = numbers;
        stop(&home);
    }
}

#[test]
fn a_client_that_meets_the_daemon_leaving_is_served_by_the_next() {
    let home = Home::new();
    for _ in 0..10 {
        home.warm();
        let stop = home.start(&["stop"]);
        let runs: Vec<_> =
            (0..10).map(|client| home.start(&["run", "-d", &format!("d{client}"), "--", "true"])).collect();
        let stopped = stop.wait();
        assert_eq!(stopped.status.code(), Some(0), "{}", stopped.stderr());
        for run in runs {
            run.wait().is_silent(0);
        }
    }
}

#[test]
fn stopping_what_does_not_run_is_no_failure() {
    let home = Home::new();
    let ended = home.seq(&["stop"]);
    assert_eq!(ended.status.code(), Some(0));
    assert!(home.daemons().is_empty());
}

/// Somebody who waits, and is stopped before the next daemon is there: between two of them when that one is told to leave.
fn between_two_daemons(home: &Home, options: &[&str]) -> Running {
    home.warm();
    home.seq(&["pause", "foo.com"]).is_silent(0);
    let words = [&["run", "-d", "foo.com"], options, &["--", "true"]].concat();
    let waiter = home.start(&words);
    home.await_waiters("foo.com", 1);
    stop_process(home, &waiter);
    assert_eq!(home.seq(&["restart"]).status.code(), Some(0));
    stop(home);
    waiter
}

const TOLD: &str = "seq: the daemon was told to leave while this request waited: run it again\n";

#[test]
fn a_command_that_is_between_two_daemons_when_seq_stop_comes_starts_none() {
    let home = Home::new();
    let gate = home.gate("gate");
    let first = hold(&home, &[]);
    stop_process(&home, &first);
    home.kill_daemon();
    home.seq(&["stop"]).is_silent(0);
    home.await_fact("it has left", || home.daemons().is_empty().then_some(()));
    first.signal(Signal::CONT);
    gate.open();
    first.wait().is_silent(7);
    assert!(home.daemons().is_empty(), "started behind its user's back");
    home.seq(&["run", "-d", "foo.com", "--", "true"]).is_silent(0);
    let log = home.seq(&["log", "-d", "foo.com", "--json"]).stdout();
    assert!(log.lines().next().unwrap().contains(r#""exit_status":7"#), "{log}");
}

#[test]
fn who_is_between_two_daemons_when_seq_stop_comes_starts_none() {
    let home = Home::new();
    for options in [&[][..], &["--no-start"]] {
        let waiter = between_two_daemons(&home, options);
        waiter.signal(Signal::CONT);
        waiter.wait().says(125, "", TOLD);
        assert!(home.daemons().is_empty(), "started behind its user's back");
    }
}

#[test]
fn who_comes_back_to_the_daemon_after_one_that_was_told_to_leave_is_told_so() {
    let home = Home::new();
    let waiter = between_two_daemons(&home, &[]);
    home.warm();
    waiter.signal(Signal::CONT);
    waiter.wait().says(125, "", TOLD);
    home.await_waiters("foo.com", 0);
}
