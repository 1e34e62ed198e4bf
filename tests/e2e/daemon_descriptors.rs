//! What keeps a turn besides its connection: descriptors that a client hands over.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};

use crate::wire::{Client, Daemon, Sleeper, until};
use rustix::event::{PollFd, PollFlags};
use serde_json::json;

#[test]
fn a_pipe_keeps_the_turn_of_a_client_that_is_gone() {
    let daemon = Daemon::start();
    let (mut wrapper, mut next) = (daemon.connect(), daemon.connect());
    let command = takes_turn_with_pipe(&mut wrapper, "a");
    next.ask(r#"{"op":"sequence","domain":"a"}"#);
    drop(wrapper);
    until("the turn is orphaned", || (holder_state(&daemon) == "orphaned").then_some(()));
    next.hears_nothing();
    drop(command);
    next.hears(&[r#"{"type":"active","domain":"a","request_id":"t-2","ticket":2,"token":2}"#]);
}

#[test]
fn a_pipe_alone_does_not_end_the_turn_of_a_client_that_is_there() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    client.hears_nothing();
    // It may have inherited some from whoever runs the tests.
    let before = open_pipes(&daemon);
    let command = takes_turn_with_pipe(&mut client, "a");
    assert_eq!(open_pipes(&daemon), before + 1);
    drop(command);
    until("the pipe is closed for the daemon too", || (open_pipes(&daemon) == before).then_some(()));
    let ended = r#"{"type":"done","domain":"a","request_id":"t-1","ticket":1,"released":true}"#;
    assert_eq!(client.ask(r#"{"op":"done","domain":"a"}"#), ended);
}

#[test]
fn a_command_that_writes_into_its_pipe_all_the_time_disturbs_nobody() {
    let daemon = Daemon::start();
    let (mut wrapper, mut other) = (daemon.connect(), daemon.connect());
    let mut command = File::from(takes_turn_with_pipe(&mut wrapper, "chatty"));
    let writer = std::thread::spawn(move || {
        let piece = vec![b'x'; 64 * 1024];
        for _ in 0..2_000 {
            command.write_all(&piece).unwrap();
        }
    });
    while !writer.is_finished() {
        other.takes_turn("a");
        other.ask(r#"{"op":"done","domain":"a"}"#);
    }
    writer.join().unwrap();
}

#[test]
fn a_turn_bound_to_a_process_ends_with_it_and_not_with_the_connection() {
    let daemon = Daemon::start();
    let (mut asker, mut next) = (daemon.connect(), daemon.connect());
    let mut shell = Sleeper::start();
    let pidfd = shell.pidfd();
    asker.send_with(r#"{"op":"sequence","domain":"a","binding":"process","descriptors":1}"#, &[pidfd.as_fd()]);
    assert_eq!(asker.reply()["type"], "active");
    next.ask(r#"{"op":"sequence","domain":"a"}"#);
    drop(asker);
    until("the asker is gone", || (connections(&daemon) == 2).then_some(()));
    assert_eq!(holder_state(&daemon), "process");
    next.hears_nothing();
    shell.end();
    next.hears(&[r#"{"type":"active","domain":"a","request_id":"t-2","ticket":2,"token":2}"#]);
}

#[test]
fn a_command_that_was_named_keeps_the_turn_without_a_pipe() {
    let daemon = Daemon::start();
    let (mut wrapper, mut next) = (daemon.connect(), daemon.connect());
    let mut command = Sleeper::start();
    let ticket = wrapper.takes_turn("a");
    let pidfd = command.pidfd();
    let started = format!(r#"{{"op":"started","ticket":{ticket},"pid":{},"descriptors":1}}"#, command.0.id());
    wrapper.send_with(&started, &[pidfd.as_fd()]);
    wrapper.hears_nothing();
    next.ask(r#"{"op":"sequence","domain":"a"}"#);
    drop(wrapper);
    until("the turn is orphaned", || (holder_state(&daemon) == "orphaned").then_some(()));
    command.end();
    assert_eq!(next.reply()["type"], "active");
}

#[test]
fn a_waiter_that_comes_again_with_another_pipe_hangs_on_that_one() {
    let daemon = Daemon::start();
    let (mut holder, mut before, mut after) = (daemon.connect(), daemon.connect(), daemon.connect());
    holder.takes_turn("a");
    let ask = r#"{"op":"sequence","domain":"a","request_id":"w","descriptors":1}"#;
    let (reading, first) = pipe();
    before.send_with(ask, &[reading.as_fd()]);
    before.line();
    let (reading, second) = pipe();
    after.send_with(ask, &[reading.as_fd()]);
    after.line();
    drop(holder);
    assert_eq!(after.reply()["type"], "active");
    drop(after);
    drop(first);
    until("the turn is orphaned", || (holder_state(&daemon) == "orphaned").then_some(()));
    drop(second);
    until("the turn has ended", || holder_state(&daemon).is_empty().then_some(()));
}

#[test]
fn descriptors_that_are_not_what_they_should_be_are_refused() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    let null = File::open("/dev/null").unwrap();
    let (reading, writing) = pipe();
    let connection = r#"{"op":"sequence","domain":"a","descriptors":1}"#;
    let process = r#"{"op":"sequence","domain":"a","binding":"process","descriptors":1}"#;
    let lease = r#"{"op":"sequence","domain":"a","binding":"lease","lease_ms":9,"descriptors":1}"#;
    let started = r#"{"op":"started","ticket":1,"pid":1,"descriptors":1}"#;
    for (request, descriptor, code, message) in [
        (connection, null.as_fd(), "bad_descriptor", "the descriptor is not the reading end of a pipe"),
        (connection, writing.as_fd(), "bad_descriptor", "the descriptor is not the reading end of a pipe"),
        (process, reading.as_fd(), "bad_descriptor", "the descriptor is not a pidfd"),
        (started, reading.as_fd(), "bad_descriptor", "the descriptor is not a pidfd"),
        (lease, reading.as_fd(), "bad_request", "a turn of binding lease takes no descriptor"),
    ] {
        client.send_with(request, &[descriptor]);
        let reply = client.reply();
        assert_eq!((&reply["code"], &reply["message"]), (&json!(code), &json!(message)), "{request}");
    }
    let two = r#"{"op":"sequence","domain":"a","descriptors":2}"#;
    client.send_with(two, &[reading.as_fd(), reading.as_fd()]);
    assert_eq!(client.reply()["message"], "a request names at most one descriptor, this one names 2");
    client.send(r#"{"op":"sequence","domain":"a","descriptors":1}"#);
    assert_eq!(client.reply()["message"], "the request names 1 descriptor, 0 came with it");
    client.send(r#"{"op":"sequence","domain":"a","descriptors":9}"#);
    assert_eq!(client.reply()["message"], "a request names at most one descriptor, this one names 9");
    client.takes_turn("a");
}

#[test]
fn a_process_that_has_ended_keeps_no_turn() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    let mut sleeper = Sleeper::start();
    let pidfd = sleeper.pidfd();
    let ask = r#"{"op":"sequence","domain":"a","binding":"process","descriptors":1}"#;
    let mut refused = || {
        client.send_with(ask, &[pidfd.as_fd()]);
        client.hears(&[
            r#"{"type":"error","code":"bad_descriptor","message":"the process that is to keep the turn has ended: name one that runs"}"#,
        ]);
    };
    // Nobody has collected its status yet.
    sleeper.0.kill().unwrap();
    rustix::event::poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], None).unwrap();
    refused();
    sleeper.end();
    refused();
}

#[test]
fn descriptors_that_nobody_names_do_not_pile_up() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    let open = || std::fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap().count();
    let null = File::open("/dev/null").unwrap();
    let (reading, _writing) = pipe();
    for _ in 0..20 {
        client.send_with(r#"{"op":"status"}"#, &[reading.as_fd(); 32]);
        client.line();
    }
    assert!(open() < 50, "{} descriptors are open", open());
    // They are closed with their connection.
    drop(client);
    until("few are open", || (open() < 25).then_some(()));
    // Of these none is kept, though each is closed beside the loop.
    let mut client = daemon.connect();
    for _ in 0..20 {
        client.send_with(r#"{"op":"status"}"#, &[null.as_fd(); 32]);
        client.line();
    }
    until("none is kept", || (open() < 25).then_some(()));
}

/// A pipe that no daemon which another test starts meanwhile inherits.
fn pipe() -> (OwnedFd, OwnedFd) {
    rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap()
}

/// Takes a turn with a pipe, and gives the end that its command would inherit.
fn takes_turn_with_pipe(client: &mut Client, domain: &str) -> OwnedFd {
    let (reading, writing) = pipe();
    client.send_with(&format!(r#"{{"op":"sequence","domain":"{domain}","descriptors":1}}"#), &[reading.as_fd()]);
    assert_eq!(client.reply()["type"], "active");
    writing
}

fn open_pipes(daemon: &Daemon) -> usize {
    let descriptors = std::fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap().flatten();
    let targets = descriptors.filter_map(|entry| entry.path().read_link().ok());
    targets.filter(|target| target.to_string_lossy().starts_with("pipe:")).count()
}

fn holder_state(daemon: &Daemon) -> String {
    let mut client = daemon.connect();
    client.send(r#"{"op":"status"}"#);
    client.reply()["domains"][0]["holders"][0]["state"].as_str().unwrap_or_default().to_owned()
}

fn connections(daemon: &Daemon) -> u64 {
    let mut client = daemon.connect();
    client.send(r#"{"op":"info"}"#);
    client.reply()["counts"]["connections"].as_u64().unwrap()
}
