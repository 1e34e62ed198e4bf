//! Nobody knows how a command ended; and later somebody may.

use rustix::process::Signal;

use crate::support::{DOMAIN, Gate, Home, Process, Running, without_age};

/// What is said where nobody knows.
fn words(ticket: u64) -> String {
    format!(
        "seq: nobody knows how the command of key k ended, which ticket {ticket} ran: find out, and then run it again \
         with --retry-unknown, or let the key go with `seq key forget`\n"
    )
}

const WORK: [&str; 3] = ["sh", "-c", "echo $$ >command; echo start >>log; read -r line <gate; echo end >>log"];

/// A command with key `k` that runs, with its process.
fn running(options: &[&str]) -> (Home, Gate, Running, Process) {
    let home = Home::new();
    let gate = home.gate("gate");
    let wrapper = home.once("k", options, &WORK);
    let command = home.await_process("command");
    home.await_line("start");
    (home, gate, wrapper, command)
}

/// The wrapper and its command are killed, so that nobody knows how far it came.
fn killed() -> (Home, Gate) {
    let (home, gate, wrapper, command) = running(&[]);
    wrapper.kill();
    command.signal(Signal::KILL);
    home.await_key_state("k", "unknown");
    (home, gate)
}

#[test]
fn a_run_that_is_killed_with_its_wrapper_leaves_its_key_unknown() {
    let (home, gate) = killed();
    home.once("k", &[], &WORK).wait().says(65, "", &words(1));
    home.once("k", &["-q"], &WORK).wait().says(65, "", &words(1));
    home.once("k", &["-w", "1h"], &WORK).wait().says(65, "", &words(1));
    assert_eq!(home.log(), ["start"]);
    let shown = home.seq(&["key", "show", "k"]).stdout();
    assert!(shown.contains("\nstate        unknown\n"), "{shown}");
    gate.open();
    home.once("k", &["--retry-unknown"], &WORK).wait().is_silent(0);
    assert_eq!(home.log(), ["start", "start", "end"]);
    let done = home.once("k", &[], &WORK).wait();
    assert_eq!(
        (done.status.code(), without_age(&done.stderr()).as_str()),
        (Some(0), "seq: foo.com: already done some time ago, status 0\n")
    );
}

#[test]
fn an_unknown_key_is_another_commands_for_another_command() {
    let (home, _gate) = killed();
    let conflict = home.once("k", &["--retry-unknown"], &["true"]).wait();
    conflict.complains(65, "key k was used for another command, by ticket 1: ");
    assert_eq!(home.key("k")["state"], "unknown");
}

#[test]
fn an_unknown_key_can_be_forgotten() {
    let (home, _gate) = killed();
    home.seq(&["key", "forget", "k"]).is_silent(0);
    home.once("k", &[], &["echo", "ran"]).wait().says(0, "ran\n", "");
}

#[test]
fn an_unknown_key_stays_so_through_a_restart_a_kill_and_a_stop() {
    let (home, _gate) = killed();
    home.seq(&["restart"]);
    home.once("k", &[], &WORK).wait().says(65, "", &words(1));
    home.kill_daemon();
    home.once("k", &[], &WORK).wait().says(65, "", &words(1));
    home.seq(&["stop"]).is_silent(0);
    home.once("k", &[], &WORK).wait().says(65, "", &words(1));
}

#[test]
fn a_retry_that_fails_frees_the_key() {
    let (home, gate) = killed();
    let command = WORK[2].to_owned() + "; exit 0";
    home.seq(&["key", "forget", "k"]).is_silent(0);
    let failing = ["sh", "-c", &command.replace("exit 0", "test -e fine")];
    let wrapper = home.once("k", &[], &failing);
    home.await_fact("it runs again", || (home.log().len() == 2).then_some(()));
    let pid = home.await_process("command");
    wrapper.kill();
    pid.signal(Signal::KILL);
    home.await_key_state("k", "unknown");
    gate.open();
    home.once("k", &["--retry-unknown"], &failing).wait().is_silent(1);
    assert!(home.key("k").is_null());
}

#[test]
fn one_who_is_killed_with_the_daemon_leaves_its_key_unknown() {
    let (home, _gate, wrapper, command) = running(&[]);
    home.kill_daemon();
    wrapper.kill();
    command.signal(Signal::KILL);
    assert!(command.has_ended_within(20));
    home.warm();
    home.await_key_state("k", "unknown");
    home.once("k", &[], &WORK).wait().complains(65, "nobody knows how the command of key k ended");
}

#[test]
fn an_orphan_keeps_its_key_until_it_ends() {
    let (home, gate, wrapper, command) = running(&[]);
    wrapper.kill();
    home.await_holder(DOMAIN, "orphaned");
    let follower = home.once("k", &[], &WORK);
    home.await_followers("k", 1);
    home.seq(&["key", "forget", "k"]).says(
        1,
        "",
        "seq: key k is in use: end ticket 1 first, with `seq cancel 1` or `seq release 1`\n",
    );
    gate.open();
    assert!(command.has_ended_within(20));
    follower.wait().says(65, "", &words(1));
    assert_eq!(home.log(), ["start", "end"]);
}

#[test]
fn who_was_released_and_ends_well_after_all_is_completed() {
    let (home, gate, wrapper, _command) = running(&[]);
    let follower = home.once("k", &[], &WORK);
    home.await_followers("k", 1);
    home.seq(&["release", "1"]).is_silent(0);
    follower.wait().says(65, "", &words(1));
    home.await_key_state("k", "unknown");
    gate.open();
    let ended = wrapper.wait();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr());
    let record = home.await_key_state("k", "completed");
    assert_eq!((&record["exit_status"], &record["ticket"]), (&0.into(), &1.into()));
    assert_eq!(home.once("k", &["-q"], &WORK).wait().status.code(), Some(0));
    assert_eq!(home.log(), ["start", "end"]);
}

#[test]
fn who_was_released_and_fails_after_all_frees_its_key() {
    let home = Home::new();
    let gate = home.gate("gate");
    let wrapper = home.once("k", &[], &["sh", "-c", "echo start >>log; read -r line <gate; exit 4"]);
    home.await_line("start");
    home.seq(&["release", "1"]).is_silent(0);
    home.await_key_state("k", "unknown");
    gate.open();
    assert_eq!(wrapper.wait().status.code(), Some(4));
    home.await_key("k", "free", serde_json::Value::is_null);
}

#[test]
fn a_late_end_says_nothing_of_the_run_that_came_after_it() {
    let (home, gate, wrapper, _command) = running(&[]);
    home.seq(&["release", "1"]).is_silent(0);
    home.await_key_state("k", "unknown");
    let again = home.once("k", &["--retry-unknown"], &WORK);
    home.await_key_state("k", "running");
    gate.let_one_pass();
    // One of the two has passed; whichever it was, the key says what the second did.
    home.await_line("end");
    gate.open();
    wrapper.wait();
    again.wait().is_silent(0);
    let record = home.key("k");
    assert_eq!((&record["state"], &record["ticket"]), (&"completed".into(), &2.into()));
}

#[test]
fn a_run_that_ends_while_no_daemon_can_be_is_known_to_the_next() {
    let home = Home::new();
    let gate = home.gate("gate");
    let arguments =
        ["run", "--no-start", "-d", DOMAIN, "--key", "k", "--", "sh", "-c", "echo start >>log; read -r line <gate"];
    home.warm();
    let wrapper = home.start(&arguments);
    home.await_line("start");
    home.kill_daemon();
    gate.open();
    assert_eq!(wrapper.wait().status.code(), Some(0));
    home.warm();
    let record = home.await_key_state("k", "completed");
    assert_eq!(record["exit_status"], 0);
}

#[test]
fn seq_done_by_hand_completes_a_key() {
    let (home, gate, wrapper, _command) = running(&[]);
    home.seq(&["done", "--ticket", "1"]).is_silent(0);
    let record = home.await_key_state("k", "completed");
    assert_eq!(record["exit_status"], 0);
    gate.open();
    wrapper.wait();
}

#[test]
fn a_stop_while_it_runs_leaves_the_key_to_its_end() {
    let (home, gate, wrapper, _command) = running(&[]);
    let follower = home.once("k", &[], &WORK);
    home.await_followers("k", 1);
    home.seq(&["stop"]).is_silent(0);
    let ended = follower.wait();
    assert_eq!((ended.status.code(), ended.stdout().as_str()), (Some(125), ""), "{}", ended.stderr());
    gate.open();
    assert_eq!(wrapper.wait().status.code(), Some(0));
    let again = home.once("k", &[], &WORK).wait();
    assert_eq!(
        (again.status.code(), without_age(&again.stderr()).as_str()),
        (Some(0), "seq: foo.com: already done some time ago, status 0\n")
    );
    assert_eq!(home.log(), ["start", "end"]);
}

/// One that has waited for another's outcome, and runs the command itself since there was none.
fn taken_over() -> (Home, Gate, Running) {
    let home = Home::new();
    let gate = home.gate("gate");
    let holder_gate = home.gate("holder");
    let holder = home.hold(DOMAIN, "holder", "holder");
    let first = home.once("k", &[], &["./worker", "a", "gate"]);
    home.await_key_state("k", "reserved");
    let second = home.once("k", &[], &["./worker", "a", "gate"]);
    home.await_followers("k", 1);
    first.kill();
    home.await_key("k", "the second has it", |record| record["pid"] == second.pid());
    holder_gate.open();
    holder.wait().is_silent(0);
    home.await_line("start a");
    (home, gate, second)
}

#[test]
fn who_takes_over_a_key_keeps_its_turn_though_its_wrapper_is_killed() {
    let (home, gate, second) = taken_over();
    second.kill();
    home.await_holder(DOMAIN, "orphaned");
    let next = home.queue(DOMAIN, "next", 1);
    gate.open();
    next.wait().is_silent(0);
    assert_eq!(home.log()[2..], ["start a", "end a", "start next", "end next"]);
}

#[test]
fn who_takes_over_a_key_keeps_its_turn_though_the_daemon_is_killed() {
    let (home, gate, second) = taken_over();
    home.kill_daemon();
    let next = home.queue(DOMAIN, "next", 1);
    gate.open();
    second.wait().is_silent(0);
    next.wait().is_silent(0);
    assert_eq!(home.log()[2..], ["start a", "end a", "start next", "end next"]);
}
