//! Time that the daemon, or a wrapper, does not see pass, and clocks that do not show the same: no turn comes early,
//! and none ends before its time. Jumps of the core's own clock are in `src/sequencer/tests/jumps.rs`.

use std::process::Command;

use crate::support::{Home, Process, Running, Wire, seq_program, seqd_program};
use rustix::process::{Signal, geteuid};
use serde_json::json;

/// How long something is stopped.
const STOPPED_SECONDS: &str = "10";

/// By how much the other time namespace is ahead: a day.
const AHEAD_SECONDS: &str = "86400";

/// Lets time pass.
fn pass(home: &Home, seconds: &str) {
    home.finish(home.command("sleep").arg(seconds)).is_silent(0);
}

/// Starts to wait for a turn with a lease, and notes in `log` when it has come, in seconds since the machine started.
fn lease(home: &Home, name: &str, lease: &str, place: usize) -> Running {
    let script = r#""$SEQ" sequence -d foo.com --lease "$2" && echo "$1 $(cut -d ' ' -f 1 /proc/uptime)" >>log"#;
    let running = home.launch(home.command("sh").args(["-c", script, "sh", name, lease]));
    home.await_waiters("foo.com", place);
    running
}

/// When this one's turn came.
fn came(home: &Home, name: &str) -> f64 {
    let log = home.log();
    let line = log.iter().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{name} in {log:?}"));
    line.trim().parse().expect("a number")
}

#[test]
fn a_daemon_that_was_stopped_gives_each_lease_whole_and_the_longest_wait_and_run_hold_meanwhile() {
    let home = Home::new();
    let _gate = home.gate("gate");
    home.seq(&["sequence", "-d", "foo.com", "--lease", "5s"]).is_silent(0);
    let two = lease(&home, "two", "3s", 1);
    let three = lease(&home, "three", "1h", 2);
    let running = home.start(&[
        "run",
        "-q",
        "-d",
        "bar.org",
        "--max-run",
        "2s",
        "--kill-grace",
        "0",
        "--",
        "./worker",
        "a",
        "gate",
    ]);
    home.await_line("start a");
    let waiter = home.start(&["run", "-w", "1s", "-d", "bar.org", "--", "./worker", "b"]);
    home.await_waiters("bar.org", 1);

    let daemon = home.daemon();
    daemon.signal(Signal::STOP);
    // The wrapper itself stops its command, and a daemon that does not answer holds nobody up for long.
    running.wait().is_silent(124);
    waiter.wait().complains(75, "is stopped");
    pass(&home, STOPPED_SECONDS);
    daemon.signal(Signal::CONT);

    two.wait().is_silent(0);
    three.wait().is_silent(0);
    let (two, three) = (came(&home, "two"), came(&home, "three"));
    assert!(three - two >= 2.9, "the lease of 3 s lasted {} s", three - two);
    home.await_idle("bar.org");
    assert!(!home.log().contains(&"start b".to_owned()), "it had given up");
}

#[test]
fn a_wrapper_that_was_stopped_keeps_its_turn_and_loses_its_place_when_its_wait_is_over() {
    let home = Home::new();
    let (gate, _other) = (home.gate("gate"), home.gate("other"));
    // Two lines: in one the wrapper of the holder is stopped, in the other that of a waiter.
    let held = ["run", "-q", "-d", "foo.com", "--max-run", "2s", "--kill-grace", "0", "--", "./worker", "a", "other"];
    let holder = home.start(&held);
    home.await_line("start a");
    let next = home.queue("foo.com", "next", 1);
    let other = home.hold("bar.org", "b", "gate");
    let waiter = home.start(&["run", "-w", "2s", "-d", "bar.org", "--", "./worker", "c"]);
    home.await_waiters("bar.org", 1);
    let behind = home.queue("bar.org", "behind", 2);

    holder.signal(Signal::STOP);
    waiter.signal(Signal::STOP);
    pass(&home, STOPPED_SECONDS);
    assert!(!home.log().contains(&"start next".to_owned()), "the command runs on, and so does its turn");
    // The wait of the one in front was over on time, though nobody could tell it.
    home.await_waiters("bar.org", 1);
    gate.open();
    other.wait().is_silent(0);
    behind.wait().is_silent(0);

    holder.signal(Signal::CONT);
    waiter.signal(Signal::CONT);
    holder.wait().is_silent(124);
    next.wait().is_silent(0);
    waiter.wait().complains(75, "no turn in bar.org after 2s");
    assert_eq!(home.log().iter().filter(|line| line.ends_with(" c")).count(), 0, "it never ran");
}

/// A program in a time namespace whose clock is a day ahead. Nothing when the user is not root, who alone may make one.
fn a_day_ahead(home: &Home) -> Option<Command> {
    if !geteuid().is_root() {
        #[expect(clippy::print_stderr, reason = "it must not look as if it had been shown")]
        {
            eprintln!("only root may make a time namespace: this test shows nothing");
        }
        return None;
    }
    let mut command = home.command("unshare");
    command.args(["--time", "--boottime", AHEAD_SECONDS, "--"]);
    let shown =
        home.finish(home.command("unshare").args(["--time", "--boottime", AHEAD_SECONDS, "cat", "/proc/uptime"]));
    let uptime: f64 = shown.stdout().split(' ').next().and_then(|seconds| seconds.parse().ok()).expect("an uptime");
    assert!(uptime >= 86_400.0, "this system has no time namespaces: {}", shown.stderr());
    Some(command)
}

fn kill(daemon: &Process) {
    assert!(daemon.signal(Signal::KILL));
    assert!(daemon.has_ended_within(20));
}

/// Starts a daemon as `command` says, and waits until it is there.
fn start_daemon(home: &Home, mut command: Command) -> Running {
    let running = home.launch(command.arg(seqd_program()));
    home.await_fact("the next daemon", || (home.daemon_pid() == Some(running.pid())).then_some(()));
    drop(home.wire());
    running
}

/// Asks for a turn with a lease of so many milliseconds; gives the kind of the answer.
fn ask_lease(home: &Home, domain: &str, milliseconds: u64) -> (String, Wire) {
    let mut wire = home.wire();
    let ask = json!({"op": "sequence", "domain": domain, "binding": "lease", "lease_ms": milliseconds});
    let answer = wire.ask(&ask).expect("an answer");
    (answer["type"].as_str().unwrap_or_default().to_owned(), wire)
}

/// Nothing of what was written by a daemon with one clock is over for the next one with another.
fn goes_on(home: &Home, next: Command) {
    assert_eq!(ask_lease(home, "long.com", 3_600_000).0, "active");
    assert_eq!(ask_lease(home, "short.com", 3_000).0, "active");
    let waiter = home.start(&["run", "--no-start", "-w", "1h", "-d", "long.com", "--", "./worker", "w"]);
    home.await_waiters("long.com", 1);
    let gate = home.gate("gate");
    let holder = home.start(&["run", "--no-start", "-d", "run.com", "--", "./worker", "h", "gate"]);
    home.await_line("start h");
    kill(&home.daemon());

    let daemon = start_daemon(home, next);
    home.await_holder("run.com", "attached");
    let line = home.await_status("long.com", "its waiter is back", |line| line["waiting"] == 1);
    assert_eq!(line["holders"][0]["state"], "lease", "{line}");
    let held = line["holders"][0]["held_ms"].as_u64().expect("a number");
    assert!(held < 60_000, "held for {held} ms");
    // What is short ends when it should, not a day later.
    let (answer, mut short) = ask_lease(home, "short.com", 1_000);
    if answer != "active" {
        assert_eq!(short.receive().expect("a turn")["type"], "active");
    }
    home.await_status("long.com", "its waiter waits still", |line| line["waiting"] == 1);
    assert_eq!(home.log(), ["start h"]);
    gate.open();
    holder.wait().is_silent(0);
    waiter.signal(Signal::TERM);
    waiter.wait().dies_of(15);
    daemon.kill();
}

#[test]
fn a_daemon_whose_clock_is_ahead_of_the_last_ones_ends_nothing_early() {
    let home = Home::new();
    let Some(ahead) = a_day_ahead(&home) else { return };
    home.warm();
    goes_on(&home, ahead);
}

#[test]
fn a_daemon_whose_clock_is_behind_the_last_ones_ends_nothing_late() {
    let home = Home::new();
    let Some(ahead) = a_day_ahead(&home) else { return };
    let _before = start_daemon(&home, ahead);
    goes_on(&home, home.command("env"));
}

#[test]
fn clients_in_another_time_namespace_than_the_daemon_take_turns_like_all_others() {
    let home = Home::new();
    let Some(mut ahead) = a_day_ahead(&home) else { return };
    home.warm();
    let gate = home.gate("gate");
    let holder = home.hold("foo.com", "a", "gate");
    // Each alone, then all the same in one line.
    let script = r#"
        "$SEQ" run -q -d foo.com -w 2s -- ./worker early; test $? = 75 || exit 1
        "$SEQ" run -q -d bar.org --max-run 1s --kill-grace 0 -- sleep 1000; test $? = 124 || exit 2
        "$SEQ" sequence -d baz.org --lease 2s || exit 3
        "$SEQ" run -q -n -d baz.org -- ./worker early; test $? = 75 || exit 4
        "$SEQ" wait -d baz.org || exit 5
    "#;
    let ended = home.finish(ahead.args(["sh", "-c", script]));
    ended.is_silent(0);
    assert!(ended.took.as_secs_f64() >= 4.9, "all of it took {:?}", ended.took);
    let mut ahead = a_day_ahead(&home).expect("as before");
    let far = home.launch(ahead.arg(seq_program()).args(["run", "-w", "1h", "-d", "foo.com", "--", "./worker", "far"]));
    home.await_waiters("foo.com", 1);
    let near = home.queue("foo.com", "near", 2);
    gate.open();
    for running in [holder, far, near] {
        running.wait().is_silent(0);
    }
    assert_eq!(home.log(), ["start a", "end a", "start far", "end far", "start near", "end near"]);
}
