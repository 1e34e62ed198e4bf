//! One key, one execution, however many ask for it at once and whatever dies meanwhile; and all have its status.

use crate::support::{DOMAIN, Ended, Gate, Home, Process, Running, size, without_age};
use rustix::process::Signal;

/// What those are told who come when it is done.
const ALREADY_DONE: &str = "seq: foo.com: already done some time ago, status 0\n";

/// How many ask for the same at once.
fn processes() -> usize {
    size("SEQ_KEY_PROCESSES", 100)
}

/// Starts so many that all ask for the same.
fn all(home: &Home, count: usize, options: &[&str], command: &[&str]) -> Vec<Running> {
    (0..count).map(|_| home.once("k", options, command)).collect()
}

fn ends(all: Vec<Running>) -> Vec<Ended> {
    all.into_iter().map(Running::wait).collect()
}

/// All have ended with 0: who ran, and who waited, said nothing, and who came later said that it was done.
#[track_caller]
fn all_succeed(all: Vec<Running>) {
    for ended in ends(all) {
        let said = without_age(&ended.stderr());
        assert_eq!((ended.status.code(), ended.stdout().as_str()), (Some(0), ""), "{said}");
        assert!(said.is_empty() || said == ALREADY_DONE, "{said}");
    }
}

/// Behind a gate: one has the turn, and all others wait for its outcome.
fn with_all_waiting(command: &str, options: &[&str]) -> (Home, Gate, Vec<Running>) {
    let home = Home::new();
    let gate = home.gate("gate");
    let all = all(&home, processes(), options, &["sh", "-c", command]);
    home.await_followers("k", processes() as u64 - 1);
    (home, gate, all)
}

const WORK: &str = "echo start >>log; read -r line <gate; echo end >>log";

#[test]
fn a_hundred_at_once_run_one_command_and_all_have_its_status() {
    let home = Home::new();
    all_succeed(all(&home, processes(), &[], &["./worker", "a"]));
    assert_eq!(home.log(), ["start a", "end a"]);
    let said = home.once("k", &[], &["./worker", "a"]).wait();
    said.says(0, "", &said.stderr());
    assert_eq!(without_age(&said.stderr()), ALREADY_DONE);
}

#[test]
fn a_hundred_who_wait_are_told_nothing_but_the_status() {
    let (home, gate, all) = with_all_waiting(WORK, &[]);
    gate.open();
    for ended in &ends(all) {
        ended.is_silent(0);
    }
    assert_eq!(home.log(), ["start", "end"]);
}

#[test]
fn a_hundred_who_wait_have_the_status_of_a_failure_and_the_next_one_runs_again() {
    let (home, gate, all) = with_all_waiting(&format!("{WORK}; exit 7"), &[]);
    gate.open();
    for ended in &ends(all) {
        ended.is_silent(7);
    }
    assert_eq!(home.log(), ["start", "end"]);
    home.once("k", &[], &["sh", "-c", "echo again >>log"]).wait().is_silent(0);
    assert_eq!(home.log(), ["start", "end", "again"]);
}

#[test]
fn a_daemon_that_is_killed_again_and_again_makes_nobody_run_twice() {
    let (home, gate, all) = with_all_waiting(WORK, &[]);
    for _ in 0..5 {
        home.kill_daemon();
        home.await_followers("k", processes() as u64 - 1);
        assert_eq!(home.key("k")["state"], "running");
    }
    gate.open();
    for ended in &ends(all) {
        ended.is_silent(0);
    }
    assert_eq!(home.log(), ["start", "end"]);
}

#[test]
fn a_failure_while_there_is_no_daemon_is_the_outcome_of_all_who_waited() {
    let (home, gate, all) = with_all_waiting(&format!("{WORK}; exit 7"), &[]);
    home.kill_daemon();
    gate.open();
    for ended in &ends(all) {
        ended.is_silent(7);
    }
    assert_eq!(home.log(), ["start", "end"]);
}

#[test]
fn a_restart_makes_nobody_run_twice() {
    let (home, gate, all) = with_all_waiting(WORK, &[]);
    for _ in 0..3 {
        let ended = home.seq(&["restart"]);
        assert_eq!((ended.status.code(), ended.stderr().as_str()), (Some(0), ""));
        home.await_followers("k", processes() as u64 - 1);
    }
    gate.open();
    for ended in &ends(all) {
        ended.is_silent(0);
    }
    assert_eq!(home.log(), ["start", "end"]);
}

#[test]
fn daemons_that_are_killed_at_any_moment_make_nobody_run_twice() {
    let home = Home::new();
    let mut all = all(&home, processes(), &[], &["sh", "-c", "echo start >>log; echo end >>log"]);
    let mut kills = 0;
    // As often as there is one, while some wait.
    while kills < 20 && all.iter_mut().any(|running| !running.has_ended()) {
        if let Some(daemon) = home.daemon_pid().and_then(Process::open).filter(|it| home.daemons().contains(&it.pid)) {
            kills += usize::from(daemon.signal(Signal::KILL));
        }
    }
    all_succeed(all);
    assert_eq!(home.log(), ["start", "end"]);
}

#[test]
fn all_who_wait_are_told_that_nobody_knows_when_the_wrapper_is_killed() {
    let (home, gate, mut all) = with_all_waiting(WORK, &[]);
    let record = home.key("k");
    let holder = all.iter().position(|it| u64::from(it.pid()) == record["pid"]).expect("one of them has the turn");
    all.remove(holder).kill();
    home.await_holder(DOMAIN, "orphaned");
    gate.open();
    let words = format!(
        "seq: nobody knows how the command of key k ended, which ticket {} ran: find out, and then run it again with \
         --retry-unknown, or let the key go with `seq key forget`\n",
        record["ticket"]
    );
    for ended in &ends(all) {
        ended.says(65, "", &words);
    }
    assert_eq!(home.log(), ["start", "end"]);
}

#[test]
fn one_of_those_who_would_try_again_does_when_the_wrapper_is_killed() {
    let (home, gate, mut all) = with_all_waiting(WORK, &["--retry-unknown"]);
    let holder = all.iter().position(|it| u64::from(it.pid()) == home.key("k")["pid"]).expect("one of them has it");
    all.remove(holder).kill();
    home.await_holder(DOMAIN, "orphaned");
    gate.open();
    for ended in &ends(all) {
        ended.is_silent(0);
    }
    assert_eq!(home.log(), ["start", "end", "start", "end"]);
}
