//! Many clients that all find no daemon: one is started, and serves them all.

mod support;

use std::collections::HashSet;
use std::fs;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;
use std::sync::Barrier;
use std::thread;

use rustix::process::Signal;
use support::{Home, Process, Running, daemon_pid, look_for, size};

/// Starts so many clients at once, each in a domain of its own; each writes down which daemon it sees.
fn storm(home: &Home, clients: usize) -> Vec<Running> {
    let note = "cat .local/state/seq/life.lock >>seen";
    (0..clients).map(|client| home.start(&["run", "-d", &format!("d{client}"), "--", "sh", "-c", note])).collect()
}

/// All were served, by one daemon, and it is the only one there is.
#[track_caller]
fn all_served_by_one(home: &Home, clients: Vec<Running>) -> u32 {
    let count = clients.len();
    for client in clients {
        client.wait().is_silent(0);
    }
    let seen = home.read("seen");
    assert_eq!(seen.lines().count(), count);
    let daemons: HashSet<&str> = seen.lines().collect();
    assert_eq!(daemons.len(), 1, "{daemons:?}");
    let only = home.daemon().pid;
    assert_eq!(home.daemons(), [only]);
    only
}

#[test]
fn a_hundred_clients_at_once_start_one_daemon() {
    let home = Home::new();
    let clients = storm(&home, 100);
    all_served_by_one(&home, clients);
}

#[test]
fn a_hundred_clients_at_once_take_turns_from_the_first_moment() {
    let home = Home::new();
    let clients: Vec<_> =
        (0..100).map(|client| home.start(&["run", "-d", "foo.com", "--", "./worker", &client.to_string()])).collect();
    for client in clients {
        client.wait().is_silent(0);
    }
    let log = home.log();
    assert_eq!(log.len(), 200);
    for pair in log.chunks(2) {
        assert_eq!(pair[0].replace("start", "end"), pair[1]);
    }
}

#[test]
fn a_storm_on_a_cold_start_gets_one_daemon() {
    for _ in 0..size("SEQ_STORMS", 3) {
        let home = Home::new();
        let clients = storm(&home, size("SEQ_STORM_CLIENTS", 200));
        all_served_by_one(&home, clients);
    }
}

#[test]
fn a_storm_on_a_stale_socket_gets_one_daemon() {
    let home = Home::new();
    for _ in 0..size("SEQ_STORMS", 3) {
        home.warm();
        let old = home.daemon();
        old.signal(Signal::KILL);
        assert!(old.has_ended_within(20));
        assert!(UnixStream::connect(home.socket()).is_err(), "the socket's file is there, and nobody listens");
        _ = fs::remove_file(home.file("seen"));
        let clients = storm(&home, size("SEQ_STORM_CLIENTS", 200));
        let new = all_served_by_one(&home, clients);
        assert_ne!(new, old.pid);
    }
}

#[test]
fn a_storm_whose_daemon_is_killed_while_it_starts_is_served_by_the_next() {
    for _ in 0..size("SEQ_STORMS", 3) {
        let home = Home::new();
        let state = home.state();
        // As soon as there is one it is killed. It has its lock by then, and as a rule no socket yet.
        let killer = thread::spawn(move || {
            let first = look_for(|| Process::open(daemon_pid(&state)?)).expect("a first daemon");
            first.signal(Signal::KILL);
            first
        });
        let clients = storm(&home, size("SEQ_STORM_CLIENTS", 200));
        let first = killer.join().expect("no panic");
        for client in clients {
            let ended = client.wait();
            assert_eq!((ended.status.code(), ended.stderr().as_str()), (Some(0), ""));
        }
        home.warm();
        let last = home.daemon().pid;
        assert_eq!(home.daemons(), [last]);
        assert_ne!(last, first.pid);
    }
}

/// What a client does without locks: connects, and if nobody listens starts a daemon that clears the path and binds.
/// True when it has become one.
fn start_naively(socket: &Path) -> Option<UnixListener> {
    if UnixStream::connect(socket).is_ok() {
        return None;
    }
    // A daemon is a process, and takes as long to start as this one.
    Command::new("true").status().expect("true runs");
    _ = fs::remove_file(socket);
    UnixListener::bind(socket).ok()
}

#[test]
fn control_the_naive_way_gets_more_than_one() {
    let home = Home::new();
    let socket = home.file("naive.sock");
    let clients = 50;
    let daemons: Vec<usize> = (0..5)
        .map(|_| {
            _ = fs::remove_file(&socket);
            let start = Barrier::new(clients);
            let client = || {
                start.wait();
                start_naively(&socket)
            };
            thread::scope(|scope| {
                let started: Vec<_> = (0..clients).map(|_| scope.spawn(client)).collect();
                // Kept until the last has started: each of them serves whoever found it.
                let listeners: Vec<_> = started.into_iter().map(|one| one.join().expect("no panic")).collect();
                listeners.into_iter().flatten().count()
            })
        })
        .collect();
    assert!(daemons.iter().any(|count| *count > 1), "this machine does not show what the locks are for: {daemons:?}");
}

/// A process that has the lock through which clients go to start a daemon, as one of them has on its way.
fn on_its_way(home: &Home, then: &str) -> Running {
    home.seq(&["run", "-d", "warm", "--", "true"]).is_silent(0);
    home.seq(&["stop"]).is_silent(0);
    let script = format!("exec 9>>.local/state/seq/start.lock; flock 9; echo $$ >has_lock; {then}");
    let running = home.launch(home.command("sh").args(["-c", &script]));
    home.await_file("has_lock");
    running
}

#[test]
fn a_client_that_is_stopped_on_its_way_holds_up_nobody() {
    let home = Home::new();
    let stopped = on_its_way(&home, "kill -STOP $$");
    let clients = storm(&home, 10);
    all_served_by_one(&home, clients);
    stopped.kill();
}

#[test]
fn max_wait_is_kept_while_another_client_is_on_its_way() {
    let home = Home::new();
    let busy = on_its_way(&home, "exec sleep 1000");
    let way_out = format!("another client (pid {}) is starting it and is not done: try again", busy.pid());
    for arguments in
        [&["run", "-d", "a", "-w", "1s", "--", "true"][..], &["sequence", "-d", "a", "-w", "1s", "--lease", "1h"]]
    {
        let ended = home.seq(arguments);
        ended.complains(75, &way_out);
        assert!(ended.took.as_secs() < 4, "{arguments:?} took {:?}", ended.took);
    }
    busy.kill();
}
