//! What is told of a key survives a power cut by then, and nobody else waits for that.

use std::os::fd::AsFd;
use std::path::PathBuf;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::json;
use tempfile::TempDir;

use crate::support::Gate;
use crate::wire::{Client, Daemon, until};

/// A daemon that brings nothing to the disk before the gate lets it.
fn held_daemon() -> (TempDir, Gate, Daemon) {
    let directory = tempfile::tempdir().unwrap();
    let gate = Gate::new(directory.path().join("gate"));
    let socket = directory.path().join("seq/seqd.sock");
    let daemon = Daemon::start_with_fault(&socket, &format!("hold-sync:{}", gate.path().display()));
    (directory, gate, daemon.unwrap_or_else(|said| panic!("{said}")))
}

fn with_key(key: &str) -> String {
    json!({"op": "sequence", "domain": "a", "key": {"name": key}}).to_string()
}

/// Nothing has come for it, after the daemon has told others all that there was.
#[track_caller]
fn is_told_nothing(client: &Client, daemon: &Daemon) {
    // What is told in a batch is told in its end: two further answers are of two further batches.
    for _ in 0..2 {
        assert!(daemon.connect().ask(r#"{"op":"hello","protocol":1}"#).contains("hello"));
    }
    let mut ready = [PollFd::from_borrowed_fd(client.as_fd(), PollFlags::IN)];
    assert_eq!(poll(&mut ready, Some(&Timespec::default())), Ok(0), "it was told what is not on the disk");
}

/// Waits until the key is in this state.
fn await_state(daemon: &Daemon, key: &str, state: &str) {
    let mut other = daemon.connect();
    until(state, || {
        other.send(&json!({"op": "key_list", "key": key}).to_string());
        (other.reply()["keys"][0]["state"] == state).then_some(())
    });
}

#[test]
fn active_done_and_the_outcome_are_told_when_they_are_on_the_disk_and_nobody_else_waits() {
    let (_directory, gate, daemon) = held_daemon();
    let (mut first, mut follower, mut late) = (daemon.connect(), daemon.connect(), daemon.connect());
    first.send(&with_key("k"));
    await_state(&daemon, "k", "running");
    is_told_nothing(&first, &daemon);
    // Others have their turns, and their answers.
    daemon.connect().takes_turn("b");
    gate.let_one_pass();
    assert_eq!(first.reply()["type"], "active");

    follower.send(&with_key("k"));
    assert_eq!(follower.reply()["type"], "following");
    first.send(r#"{"op":"done","ticket":1,"exit_status":0}"#);
    await_state(&daemon, "k", "completed");
    is_told_nothing(&first, &daemon);
    is_told_nothing(&follower, &daemon);
    // Nor is who comes now told what a power cut could take back.
    late.send(&with_key("k"));
    is_told_nothing(&late, &daemon);
    // The domain is free meanwhile.
    daemon.connect().takes_turn("a");
    gate.open();
    assert_eq!(first.reply()["type"], "done");
    assert_eq!(follower.reply()["type"], "key_done");
    assert_eq!(late.reply()["type"], "key_done");
}

#[test]
fn many_at_once_share_the_wait_for_the_disk() {
    let (_directory, gate, daemon) = held_daemon();
    let mut first = daemon.connect();
    first.send(&with_key("first"));
    await_state(&daemon, "first", "running");
    let mut others: Vec<Client> = (0..50).map(|_| daemon.connect()).collect();
    for (number, client) in others.iter_mut().enumerate() {
        let (domain, key) = (format!("d{number}"), format!("k{number}"));
        client.send(&json!({"op": "sequence", "domain": domain, "key": {"name": key}}).to_string());
        await_state(&daemon, &key, "running");
    }
    is_told_nothing(&others[0], &daemon);
    gate.let_one_pass();
    assert_eq!(first.reply()["type"], "active");
    is_told_nothing(&others[0], &daemon);
    // One more for all the others.
    gate.let_one_pass();
    for client in &mut others {
        assert_eq!(client.reply()["type"], "active");
    }
}

#[test]
fn a_key_that_is_forgotten_is_so_for_good() {
    let (_directory, gate, daemon) = held_daemon();
    let mut client = daemon.connect();
    client.send(&with_key("k"));
    gate.let_one_pass();
    assert_eq!(client.reply()["type"], "active");
    client.send(r#"{"op":"done","ticket":1,"exit_status":0}"#);
    gate.let_one_pass();
    assert_eq!(client.reply()["type"], "done");
    client.send(r#"{"op":"key_forget","key":"k"}"#);
    let mut other = daemon.connect();
    until("it is forgotten", || {
        (other.ask(r#"{"op":"key_list"}"#) == r#"{"type":"key_list","keys":[]}"#).then_some(())
    });
    is_told_nothing(&client, &daemon);
    gate.let_one_pass();
    assert_eq!(client.reply()["type"], "key_forgotten");
}

#[test]
fn what_a_killed_daemon_had_not_brought_to_the_disk_the_next_one_does_before_it_tells_of_it() {
    let (directory, gate, mut daemon) = held_daemon();
    let mut client = daemon.connect();
    client.send(&with_key("k"));
    await_state(&daemon, "k", "running");
    daemon.signal(rustix::process::Signal::KILL);
    daemon.wait();
    client.hears_the_end();
    let said = Daemon::start_with_fault(&daemon.socket, "sync:1").err().expect("it cannot");
    assert!(said.contains("Input/output error"), "{said}");
    Daemon::start_at(&daemon.socket);
    drop((gate, directory));
}

/// The directory of a daemon whose first wait for the disk fails, and what it logged at its end.
fn failed(fault: &str) -> (TempDir, PathBuf, String) {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("seq/seqd.sock");
    let mut daemon = Daemon::start_with_fault(&socket, fault).unwrap_or_else(|said| panic!("{said}"));
    let (mut client, mut other) = (daemon.connect(), daemon.connect());
    other.takes_turn("b");
    client.send(&with_key("k"));
    let told: Vec<String> =
        std::iter::from_fn(|| client.next_reply()).map(|reply| reply["type"].as_str().unwrap().to_owned()).collect();
    assert!(told.iter().all(|told| told == "stalled"), "{told:?}");
    assert_eq!(daemon.wait().code(), Some(125));
    let log = daemon.log();
    (directory, socket, log)
}

#[test]
fn a_disk_that_fails_ends_the_daemon_and_is_not_asked_again() {
    // The second time would succeed, which says nothing of the first.
    let (_directory, socket, log) = failed("sync:1");
    let path = socket.with_file_name("seq.db-wal");
    let words = format!("ERROR cannot write {}: Input/output error (os error 5): ", path.display());
    assert_eq!(log.matches(" ERROR ").count() + log.matches("\nERROR ").count(), 1, "{log}");
    assert!(log.contains(&words), "{log}");
    // The next one goes on from what is on the disk.
    let daemon = Daemon::start_at(&socket);
    let mut client = daemon.connect();
    client.send(r#"{"op":"key_list"}"#);
    assert!(["unknown", "running"].map(Into::into).contains(&client.reply()["keys"][0]["state"]));
}

#[test]
fn a_disk_that_is_full_only_when_it_matters_ends_the_daemon_too() {
    let (_directory, socket, log) = failed("sync-full:1");
    assert!(log.contains("the disk is full"), "{log}");
    Daemon::start_at(&socket).connect().takes_turn("c");
}
