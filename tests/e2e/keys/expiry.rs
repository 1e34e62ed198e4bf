//! How long a key is remembered, and what it outlives.

use std::fs;

use jiff::Timestamp;
use rustix::process::{Signal, geteuid};
use serde_json::{Value, json};

use crate::support::{Home, seqd_program, without_age};

#[track_caller]
fn is_remembered(home: &Home, key: &str) {
    let ended = home.once(key, &[], &["echo", "ran"]).wait();
    let words = "seq: foo.com: already done some time ago, status 0\n";
    assert_eq!(
        (ended.status.code(), ended.stdout().as_str(), without_age(&ended.stderr()).as_str()),
        (Some(0), "", words)
    );
}

#[test]
fn a_key_is_remembered_for_24_hours_or_as_long_as_is_said() {
    let home = Home::new();
    home.once("k", &[], &["echo", "ran"]).wait().says(0, "ran\n", "");
    home.once("l", &["--key-ttl", "1h 30m"], &["echo", "ran"]).wait().says(0, "ran\n", "");
    assert_eq!(
        (home.key("k")["ttl_ms"].clone(), home.key("l")["ttl_ms"].clone()),
        (json!(86_400_000), json!(5_400_000))
    );
    let left = home.key("l")["expires_in_ms"].as_u64().unwrap();
    assert!((5_340_000..=5_400_000).contains(&left), "{left}");
}

#[test]
fn a_key_that_has_expired_is_as_if_never_used() {
    let home = Home::new();
    home.once("k", &["--key-ttl", "1s"], &["echo", "ran"]).wait().says(0, "ran\n", "");
    is_remembered(&home, "k");
    home.await_key("k", "expired", Value::is_null);
    home.seq(&["key", "show", "k"]).says(1, "", "seq: there is no key k: see 'seq key list'\n");
    home.seq(&["key", "forget", "k"]).says(1, "", "seq: there is no key k\n");
    // For another command, too.
    home.once("k", &[], &["echo", "another"]).wait().says(0, "another\n", "");
}

#[test]
fn the_time_counts_from_the_end_of_the_command() {
    let home = Home::new();
    let gate = home.gate("gate");
    let running = home.once("k", &["--key-ttl", "1ms"], &["./worker", "a", "gate"]);
    home.await_line("start a");
    let follower = home.once("k", &[], &["./worker", "a", "gate"]);
    home.await_followers("k", 1);
    gate.open();
    running.wait().is_silent(0);
    follower.wait().is_silent(0);
    assert_eq!(home.log(), ["start a", "end a"]);
}

#[test]
fn the_time_passes_without_a_daemon() {
    let home = Home::new();
    home.once("k", &["--key-ttl", "300ms"], &["echo", "ran"]).wait().says(0, "ran\n", "");
    home.once("l", &[], &["echo", "ran"]).wait().says(0, "ran\n", "");
    home.seq(&["stop"]).is_silent(0);
    home.finish(home.command("sleep").arg("0.3")).is_silent(0);
    home.once("k", &[], &["echo", "ran"]).wait().says(0, "ran\n", "");
    is_remembered(&home, "l");
}

/// The second record is the first, found again.
#[track_caller]
fn is_same(before: &Value, after: &Value) {
    for field in ["state", "fingerprint", "exit_status", "token", "ticket", "ttl_ms", "conflicts", "pid", "id"] {
        assert_eq!(after[field], before[field], "{field}");
    }
    // By the wall clock, to some milliseconds.
    let at =
        |record: &Value, field: &str| record[field].as_str().unwrap().parse::<Timestamp>().unwrap().as_millisecond();
    for field in ["reserved_at", "started_at", "ended_at", "expires_at"] {
        let later = at(after, field) - at(before, field);
        assert!((-100..=100).contains(&later), "{field} is {later} ms later");
    }
}

#[test]
fn a_key_outlives_its_daemon_however_that_ends() {
    let home = Home::new();
    home.once("k", &[], &["echo", "ran"]).wait().says(0, "ran\n", "");
    let before = home.key("k");
    home.seq(&["stop"]).is_silent(0);
    is_remembered(&home, "k");
    is_same(&before, &home.key("k"));
    home.kill_daemon();
    is_remembered(&home, "k");
    is_same(&before, &home.key("k"));
    assert_eq!(home.seq(&["restart"]).status.code(), Some(0));
    is_remembered(&home, "k");
    is_same(&before, &home.key("k"));
}

#[test]
fn a_request_that_waits_keeps_its_key_though_the_daemon_is_killed_and_replaced() {
    let home = Home::new();
    let gate = home.gate("gate");
    let holder = home.hold("foo.com", "holder", "gate");
    let first = home.once("k", &[], &["./worker", "a"]);
    home.await_key_state("k", "reserved");
    let second = home.once("k", &[], &["./worker", "a"]);
    home.await_followers("k", 1);
    let ticket = home.key("k")["ticket"].clone();
    home.kill_daemon();
    home.await_followers("k", 1);
    assert_eq!(home.seq(&["restart"]).status.code(), Some(0));
    home.await_followers("k", 1);
    let record = home.key("k");
    assert_eq!((&record["state"], &record["ticket"]), (&json!("reserved"), &ticket));
    gate.open();
    for running in [holder, first, second] {
        running.wait().is_silent(0);
    }
    assert_eq!(home.log(), ["start holder", "end holder", "start a", "end a"]);
}

#[test]
fn keys_outlive_a_reboot_and_what_ran_then_is_unknown() {
    if !geteuid().is_root() {
        return;
    }
    let home = Home::new();
    let _gate = home.gate("gate");
    // A daemon that sees another run of the machine: the file in its place is seen by nobody else.
    fs::write(home.file("boot_id"), "00000000-1111-2222-3333-444444444444\n").unwrap();
    let script = "mount --bind boot_id /proc/sys/kernel/random/boot_id && exec \"$0\"";
    let boot = || {
        let mut command = home.command("unshare");
        command.args(["--mount", "sh", "-c", script]).arg(seqd_program());
        let daemon = home.launch(&mut command);
        drop(home.wire());
        daemon
    };
    home.once("done", &[], &["echo", "ran"]).wait().says(0, "ran\n", "");
    home.once("replayed", &["--replay"], &["echo", "out"]).wait().says(0, "out\n", "");
    let running = home.once("ran", &[], &["./worker", "a", "gate"]);
    home.await_line("start a");
    let waiting = home.once("waited", &[], &["true"]);
    home.await_key_state("waited", "reserved");
    let before = home.key("done");
    // All die at once: none is to start another daemon before.
    running.signal(Signal::STOP);
    waiting.signal(Signal::STOP);
    home.kill_daemon();
    running.kill();
    waiting.kill();
    let _daemon = boot();
    is_same(&before, &home.key("done"));
    assert_eq!(home.key("ran")["state"], "unknown");
    assert!(home.key("waited").is_null());
    let replayed = home.once("replayed", &["--replay", "-q"], &["echo", "out"]).wait();
    replayed.says(0, "out\n", "");
    home.once("ran", &[], &["./worker", "a", "gate"]).wait().complains(65, "nobody knows how the command of key ran");
}
