//! What did not succeed, or never ran, frees its key.

use rustix::process::Signal;

use crate::support::{DOMAIN, Gate, Home, Running, without_age};

/// The key can be used, and by another command too.
#[track_caller]
fn is_free(home: &Home, key: &str) {
    assert!(home.key(key).is_null(), "{}", home.key(key));
    let ended = home.once(key, &[], &["echo", "it ran"]).wait();
    ended.says(0, "it ran\n", "");
}

/// A holder, and who waits behind it with key `k`.
fn with_one_waiting(options: &[&str]) -> (Home, Gate, Running, Running) {
    let home = Home::new();
    let gate = home.gate("gate");
    let holder = home.hold(DOMAIN, "holder", "gate");
    let waiter = home.once("k", options, &["./worker", "a"]);
    home.await_key_state("k", "reserved");
    (home, gate, holder, waiter)
}

#[test]
fn a_failure_frees_the_key() {
    let home = Home::new();
    home.once("k", &[], &["sh", "-c", "exit 3"]).wait().is_silent(3);
    assert!(home.key("k").is_null());
    home.once("k", &[], &["sh", "-c", "exit 4"]).wait().is_silent(4);
    is_free(&home, "k");
}

#[test]
fn a_command_that_cannot_be_run_or_is_killed_or_takes_too_long_frees_its_key() {
    let home = Home::new();
    assert_eq!(home.once("k", &[], &["./not-there"]).wait().status.code(), Some(127));
    is_free(&home, "k");
    std::fs::write(home.file("not-executable"), "").unwrap();
    assert_eq!(home.once("l", &[], &["./not-executable"]).wait().status.code(), Some(126));
    is_free(&home, "l");
    home.once("m", &[], &["sh", "-c", "kill -9 $$"]).wait().is_silent(137);
    is_free(&home, "m");
    assert_eq!(home.once("n", &["--max-run", "10ms"], &["sleep", "1000"]).wait().status.code(), Some(124));
    is_free(&home, "n");
}

#[test]
fn keep_failures_records_them_too() {
    let home = Home::new();
    home.once("k", &["--keep-failures"], &["sh", "-c", "echo ran; exit 3"]).wait().says(3, "ran\n", "");
    let record = home.key("k");
    assert_eq!(
        (&record["state"], &record["exit_status"], &record["keep_failures"]),
        (&"completed".into(), &3.into(), &true.into())
    );
    let again = home.once("k", &[], &["sh", "-c", "echo ran; exit 3"]).wait();
    again.says(3, "", &again.stderr());
    assert_eq!(without_age(&again.stderr()), "seq: foo.com: already done some time ago, status 3\n");
    // One that a signal ended, and one that is not there.
    home.once("l", &["--keep-failures"], &["sh", "-c", "kill -9 $$"]).wait().is_silent(137);
    home.once("l", &["-q"], &["sh", "-c", "kill -9 $$"]).wait().is_silent(137);
    assert_eq!(home.once("m", &["--keep-failures"], &["./not-there"]).wait().status.code(), Some(127));
    home.once("m", &["-q"], &["./not-there"]).wait().is_silent(127);
}

#[test]
fn a_signal_to_seq_that_ends_its_command_frees_the_key() {
    let home = Home::new();
    let _gate = home.gate("gate");
    let running = home.once("k", &[], &["./worker", "a", "gate"]);
    home.await_line("start a");
    running.signal(Signal::TERM);
    running.wait().dies_of(15);
    is_free(&home, "k");
}

#[test]
fn a_cancelled_request_frees_its_key_and_the_next_that_waits_has_it() {
    let (home, _gate, _holder, waiter) = with_one_waiting(&[]);
    let next = home.once("k", &[], &["./worker", "a"]);
    home.await_followers("k", 1);
    let first = home.key("k")["ticket"].clone();
    home.seq(&["cancel", &first.to_string()]).is_silent(0);
    let cancelled = waiter.wait();
    cancelled.complains(76, "cancelled");
    let record = home.await_key("k", "the next has it", |record| !record.is_null() && record["ticket"] != first);
    assert_eq!((&record["state"], &record["pid"]), (&"reserved".into(), &next.pid().into()));
    home.seq(&["cancel", &record["ticket"].to_string()]).is_silent(0);
    next.wait().complains(76, "cancelled");
    assert!(home.key("k").is_null());
}

#[test]
fn a_request_whose_client_dies_frees_its_key() {
    let (home, _gate, _holder, waiter) = with_one_waiting(&[]);
    waiter.kill();
    home.await_key("k", "free", serde_json::Value::is_null);
    let (home, _gate, _holder, waiter) = with_one_waiting(&[]);
    waiter.signal(Signal::INT);
    waiter.wait().dies_of(2);
    home.await_key("k", "free", serde_json::Value::is_null);
}

#[test]
fn who_waits_for_its_turn_no_longer_than_it_wants_frees_its_key() {
    let home = Home::new();
    let _gate = home.gate("gate");
    let _holder = home.hold(DOMAIN, "holder", "gate");
    home.once("k", &["-w", "10ms"], &["true"]).wait().complains(75, "after 10ms");
    assert!(home.key("k").is_null());
}

#[test]
fn who_would_not_wait_for_its_turn_leaves_its_key_free() {
    let home = Home::new();
    let gate = home.gate("gate");
    let holder = home.hold(DOMAIN, "holder", "gate");
    home.once("k", &["--no-wait"], &["true"]).wait().complains(75, "foo.com");
    assert!(home.key("k").is_null());
    gate.open();
    holder.wait().is_silent(0);
    is_free(&home, "k");
}

#[test]
fn who_would_not_wait_or_not_longer_for_an_outcome_is_told_who_has_the_key() {
    let home = Home::new();
    let gate = home.gate("gate");
    let first = home.once("k", &[], &["./worker", "a", "gate"]);
    home.await_line("start a");
    let again = |options: &[&str]| home.once("k", options, &["./worker", "a", "gate"]).wait();
    again(&["--no-wait"]).says(75, "", "seq: ticket 1 has key k and has not ended\n");
    again(&["--no-wait", "-E", "9", "-q"]).is_silent(9);
    again(&["-w", "20ms"]).says(
        75,
        "",
        "seq: ticket 1 has key k and has not ended after 20ms: allow a longer wait, or see `seq status`\n",
    );
    gate.open();
    first.wait().is_silent(0);
    assert_eq!(home.key("k")["followers"], serde_json::Value::Null);
}

#[test]
fn a_request_that_was_replaced_while_it_waited_takes_those_along_who_wait_for_it() {
    let (home, _gate, _holder, first) = with_one_waiting(&["--supersede=g"]);
    let follower = home.once("k", &[], &["./worker", "a"]);
    home.await_followers("k", 1);
    let newer = home.once("l", &["--supersede=g"], &["./worker", "b"]);
    for replaced in [first, follower] {
        replaced.wait().complains(76, "replaced");
    }
    assert!(home.key("k").is_null());
    assert_eq!(home.key("l")["state"], "reserved");
    newer.kill();
}

#[test]
fn a_command_that_was_replaced_frees_its_key() {
    let home = Home::new();
    let _gate = home.gate("gate");
    let first = home.once("k", &["--supersede=g"], &["./worker", "a", "gate"]);
    home.await_line("start a");
    let follower = home.once("k", &[], &["./worker", "a", "gate"]);
    home.await_followers("k", 1);
    home.once("l", &["--supersede=g", "--cancel-running"], &["true"]).wait().is_silent(0);
    assert_eq!(first.wait().status.code(), Some(76));
    follower.wait().complains(76, "replaced");
    assert!(home.key("k").is_null());
    is_free(&home, "k");
}
