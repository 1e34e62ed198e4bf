//! What hurts people with other tools, and what seq promises instead: a test for each promise, named by it.
//!
//! The numbers are those of the list of complaints that the project began with. Other files look at each of these
//! closely; here is what a reader should find first.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;

use crate::support::{Home, Terminal};
use rustix::process::Signal;
use serde_json::Value;

#[test]
fn promise_1_the_turn_stays_taken_until_the_command_is_gone() {
    let home = Home::new();
    let gate = home.gate("gate");
    home.hold("foo.com", "first", "gate").kill();
    let next = home.queue("foo.com", "next", 1);
    gate.open();
    next.wait().is_silent(0);
    assert_eq!(home.log(), ["start first", "end first", "start next", "end next"]);
}

#[test]
fn promise_2_the_turn_is_released_after_a_crash_and_anybody_can_clear_what_hangs() {
    let home = Home::new();
    let _gate = home.gate("gate");
    // Everything dies.
    let crash = home.start(&["run", "-d", "foo.com", "--", "sh", "-c", "echo $$ >crashing; read -r line <gate"]);
    let command = home.await_process("crashing");
    command.signal(Signal::KILL);
    crash.kill();
    home.seq(&["run", "-d", "foo.com", "--", "true"]).is_silent(0);
    // Nothing dies, and it hangs.
    let hanging = home.hold("foo.com", "hanging", "gate");
    home.seq(&["release", "-d", "foo.com"]).is_silent(0);
    home.seq(&["run", "-d", "foo.com", "--", "true"]).is_silent(0);
    hanging.kill();
}

#[test]
fn promise_3_anybody_can_see_who_holds_since_when_and_the_place_in_line() {
    let home = Home::new();
    let gate = home.gate("gate");
    let holder = home.hold("foo.com", "holder", "gate");
    let waiters = [home.queue("foo.com", "one", 1), home.queue("foo.com", "two", 2)];
    let shown = home.seq(&["status", "-d", "foo.com", "--json"]);
    assert_eq!((shown.status.code(), shown.stderr().as_str()), (Some(0), ""));
    let shown: Value = serde_json::from_str(&shown.stdout()).expect("JSON");
    let line = if shown["domains"].is_array() { &shown["domains"][0] } else { &shown };
    assert_eq!(line["holders"][0]["command"], "./worker holder gate");
    assert!(line["holders"][0]["held_ms"].is_u64() && line["holders"][0]["since"].is_string(), "{shown}");
    assert!(line["holders"][0]["pid"].is_u64(), "{shown}");
    assert_eq!(line["waiters"][1]["position"], 2);
    assert_eq!(line["waiters"][1]["pid"], waiters[1].pid());
    assert_eq!(line["waiters"][1]["command"], "./worker two");
    let told = home.seq(&["status"]).stdout();
    for words in ["foo.com", "./worker holder gate", "./worker two"] {
        assert!(told.contains(words), "{words:?} is not in\n{told}");
    }
    gate.open();
    holder.wait().is_silent(0);
    for waiter in waiters {
        waiter.wait().is_silent(0);
    }
}

#[test]
fn promise_4_the_order_of_arrival_is_the_order_of_running() {
    let home = Home::new();
    let gate = home.gate("gate");
    let holder = home.hold("foo.com", "0", "gate");
    let waiters: Vec<_> = (1..=20).map(|place| home.queue("foo.com", &place.to_string(), place)).collect();
    gate.open();
    holder.wait().is_silent(0);
    for waiter in waiters {
        waiter.wait().is_silent(0);
    }
    let starts: Vec<_> = home.log().iter().filter_map(|line| line.strip_prefix("start ").map(str::to_owned)).collect();
    assert_eq!(starts, (0..=20).map(|place| place.to_string()).collect::<Vec<_>>());
}

#[test]
fn promise_7_the_commands_status_is_never_lost_and_never_ambiguous() {
    let home = Home::new();
    home.seq(&["run", "-d", "foo.com", "--", "sh", "-c", "exit 3"]).is_silent(3);
    home.seq(&["run", "-d", "foo.com", "--", "sh", "-c", "kill -KILL $$"]).is_silent(137);
    home.seq(&["run", "-d", "foo.com", "--", "no-such-command"]).complains(127, "no-such-command");
}

#[test]
fn promise_8_a_wait_that_was_too_long_does_not_look_like_success() {
    let home = Home::new();
    let gate = home.gate("gate");
    let holder = home.hold("foo.com", "holder", "gate");
    home.seq(&["run", "-d", "foo.com", "--max-wait", "100ms", "--", "touch", "ran"]).complains(75, "foo.com");
    assert!(!home.file("ran").exists());
    gate.open();
    holder.wait().is_silent(0);
}

#[test]
fn promise_9_time_in_line_does_not_eat_the_runs_budget() {
    let home = Home::new();
    let gate = home.gate("gate");
    let holder = home.hold("foo.com", "holder", "gate");
    let waiter = home.start(&["run", "-d", "foo.com", "--max-run", "2s", "--", "./worker", "waiter"]);
    let has_waited = |line: &Value| line["waiters"][0]["waited_ms"].as_u64() > Some(2_000);
    home.await_status("foo.com", "a wait as long as the run may be", has_waited);
    gate.open();
    holder.wait().is_silent(0);
    waiter.wait().is_silent(0);
}

#[test]
fn promise_10_a_run_that_was_too_long_is_stopped_with_all_its_children() {
    let home = Home::new();
    let _gate = home.gate("gate");
    let script = "sh -c 'echo $$ >child; read -r line <gate; true' & wait";
    let run = home.start(&["run", "-q", "-d", "foo.com", "--max-run", "1s", "--", "sh", "-c", script]);
    let child = home.await_process("child");
    run.wait().is_silent(124);
    assert!(!child.is_alive());
}

#[test]
fn promise_12_ctrl_c_while_waiting_leaves_the_line_at_once() {
    let home = Home::new();
    let gate = home.gate("gate");
    let holder = home.hold("foo.com", "holder", "gate");
    let mut terminal = Terminal::start(&home, &home.seq_command(&["run", "-d", "foo.com", "--", "touch", "ran"]), 80);
    home.await_waiters("foo.com", 1);
    terminal.types("\x03");
    assert_eq!(terminal.wait().status.signal(), Some(2));
    home.await_waiters("foo.com", 0);
    gate.open();
    holder.wait().is_silent(0);
    assert!(!home.file("ran").exists());
}

#[test]
fn promise_14_a_stale_socket_is_no_hindrance_and_a_live_daemon_is_never_replaced() {
    let home = Home::new();
    home.warm();
    let first = home.daemon();
    home.warm();
    assert_eq!(home.daemon().pid, first.pid);
    first.signal(Signal::KILL);
    assert!(first.has_ended_within(20));
    home.warm();
    assert_eq!(home.daemons(), [home.daemon().pid]);
}

#[test]
fn promise_15_arguments_are_never_glued_into_a_shell_string() {
    let home = Home::new();
    let argument = OsStr::from_bytes(b"a b;\xff'$(id)\"\n*");
    let mut command = home.seq_command(&["run", "-d", "foo.com", "--", "printf", "%s"]);
    assert_eq!(home.finish(command.arg(argument)).stdout, argument.as_bytes());
}

#[test]
fn promise_16_the_command_keeps_terminal_input_environment_and_directory() {
    let home = Home::new();
    let script = "test -t 0 && test -t 1 && read -r line && echo \"$line in $PWD with $MINE\"";
    let mut command = home.seq_command(&["run", "-d", "foo.com", "--", "sh", "-c", script]);
    command.env("MINE", "mine");
    let mut terminal = Terminal::start(&home, &command, 100);
    home.await_holder("foo.com", "attached");
    terminal.types("typed\n");
    terminal.await_text(&format!("typed in {} with mine", home.path().display()));
    assert_eq!(terminal.wait().status.code(), Some(0));
}

#[test]
fn promise_17_a_script_that_seq_does_not_run_can_take_turns() {
    let home = Home::new();
    let gate = home.gate("gate");
    let script = r#""$SEQ" sequence -d foo.com; echo mine >>log; read -r line <gate; "$SEQ" done -d foo.com"#;
    let script = home.launch(home.command("sh").args(["-c", script]));
    home.await_line("mine");
    let next = home.queue("foo.com", "next", 1);
    gate.open();
    script.wait().is_silent(0);
    next.wait().is_silent(0);
}

#[test]
fn promise_18_a_background_child_does_not_keep_the_turn() {
    let home = Home::new();
    let gate = home.gate("gate");
    let script = "(read -r line <gate; echo late >>log) &";
    home.seq(&["run", "-d", "foo.com", "--", "sh", "-c", script]).is_silent(0);
    home.seq(&["run", "-n", "-d", "foo.com", "--", "./worker", "next"]).is_silent(0);
    gate.open();
    home.await_line("late");
    assert_eq!(home.log(), ["start next", "end next", "late"]);
}

#[test]
fn promise_20_turns_hold_across_containers_that_share_the_socket() {
    let home = Home::new();
    let gate = home.gate("gate");
    home.warm();
    // Another process namespace, in which the daemon's pids mean nothing, and its own mean nothing to the daemon.
    let container = ["--user", "--map-root-user", "--pid", "--fork", "--mount-proc"];
    if home.finish(home.command("unshare").args(container).arg("true")).status.code() != Some(0) {
        return; // Where no container can be made there is nothing to see.
    }
    let script = r#""$SEQ" run -d foo.com -- ./worker inside gate & wrapper=$!
        until grep -q "start inside" log 2>/dev/null; do sleep 0.01; done
        kill -9 $wrapper; echo killed >>log
        until grep -q "end inside" log; do sleep 0.01; done"#;
    let container = home.launch(home.command("unshare").args(container).args(["sh", "-c", script]));
    home.await_line("killed");
    home.await_holder("foo.com", "orphaned");
    let next = home.queue("foo.com", "next", 1);
    gate.open();
    next.wait().is_silent(0);
    container.wait();
    assert_eq!(home.log(), ["start inside", "killed", "end inside", "start next", "end next"]);
}
