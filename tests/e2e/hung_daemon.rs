//! The daemon hangs: who wants to wait only for so long does.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use crate::support::{Home, Running};
use rustix::process::Signal;

/// What waits for foo.com for a second at most.
const WAITING: [&[&str]; 3] = [
    &["run", "-d", "foo.com", "-w", "1s", "--", "true"],
    &["sequence", "-d", "foo.com", "-w", "1s", "--lease", "1h"],
    &["wait", "-d", "foo.com", "-w", "1s"],
];

/// The longest that a wait of a second may take: less than what a silent daemon has otherwise.
const LONGEST: Duration = Duration::from_secs(4);

#[test]
fn max_wait_is_kept_by_who_is_in_line() {
    for arguments in WAITING {
        let home = Home::new();
        home.seq(&["sequence", "-d", "foo.com", "--lease", "1h"]).is_silent(0);
        let daemon = home.daemon();
        let running = home.start(arguments);
        if arguments[0] == "wait" {
            // The daemon shows nothing of who only looks on.
            let pid = running.pid();
            home.await_fact("a connection", || has_socket(pid).then_some(()));
        } else {
            home.await_waiters("foo.com", 1);
        }
        daemon.signal(Signal::STOP);
        let ended = running.wait();
        ended.complains(75, "is stopped and did not answer in time: let it go on with 'kill -CONT ");
        assert!(ended.took < LONGEST, "{arguments:?} took {:?}", ended.took);
    }
}

fn has_socket(pid: u32) -> bool {
    let Ok(open) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    open.flatten()
        .any(|fd| fs::read_link(fd.path()).is_ok_and(|to| to.as_os_str().as_encoded_bytes().starts_with(b"socket:")))
}

#[test]
fn max_wait_is_kept_by_who_comes_then() {
    let home = Home::new();
    home.seq(&["sequence", "-d", "foo.com", "--lease", "1h"]).is_silent(0);
    home.daemon().signal(Signal::STOP);
    for arguments in WAITING {
        let ended = home.seq(arguments);
        ended.complains(75, "is stopped and did not answer in time: let it go on with 'kill -CONT ");
        assert!(ended.took < LONGEST, "{arguments:?} took {:?}", ended.took);
    }
    let quiet = ["run", "-q", "-d", "foo.com", "-w", "1s", "--conflict-exit-code", "9", "--", "true"];
    home.seq(&quiet).is_silent(9);
}

/// Something that listens at `socket`, and a connection that nobody takes: no other one finds room in the backlog.
fn full_backlog(socket: &Path) -> (UnixListener, UnixStream) {
    let listener = UnixListener::bind(socket).expect("a socket");
    fs::set_permissions(socket, fs::Permissions::from_mode(0o600)).expect("its mode");
    rustix::net::listen(&listener, 0).expect("another backlog");
    (listener, UnixStream::connect(socket).expect("the only connection"))
}

/// Waits until it waits for room in the backlog (`proc_pid_wchan(5)`).
fn await_connect(home: &Home, running: &Running) {
    let waits =
        || fs::read_to_string(format!("/proc/{}/wchan", running.pid())).is_ok_and(|at| at.contains("unix_wait"));
    home.await_fact("it connects", || waits().then_some(()));
}

#[test]
fn max_wait_is_kept_by_who_finds_the_backlog_full() {
    let home = Home::new();
    let _full = full_backlog(&home.file("full.sock"));
    let words = ["run", "--socket", "full.sock", "-d", "foo.com", "-w", "1s", "--", "true"];
    let ended = home.seq(&words);
    ended.complains(75, "did not answer in time");
    assert!(ended.took < LONGEST, "{:?}", ended.took);
}

#[test]
fn who_is_stopped_while_the_backlog_is_full_goes_on_afterwards() {
    let home = Home::new();
    let (listener, first) = full_backlog(&home.file("full.sock"));
    let running = home.start(&["run", "--socket", "full.sock", "-d", "foo.com", "--", "true"]);
    await_connect(&home, &running);
    running.signal(Signal::STOP);
    home.await_fact("it is stopped", || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", running.pid())).expect("it is there");
        stat.rsplit(')').next().expect("its state").starts_with(" T").then_some(())
    });
    running.signal(Signal::CONT);
    await_connect(&home, &running);
    drop(first);
    listener.accept().expect("the first one");
    let mut client = BufReader::new(listener.accept().expect("the second one").0);
    let active = r#"{"type":"active","domain":"foo.com","request_id":"t-1","ticket":1,"token":1}"#;
    writeln!(client.get_mut(), "{active}").expect("it reads");
    let mut asked = String::new();
    while !asked.contains(r#""op":"done""#) {
        assert!(client.read_line(&mut asked).expect("a line") > 0, "{asked}");
    }
    writeln!(client.get_mut(), r#"{{"type":"done","released":true}}"#).expect("it reads");
    running.wait().is_silent(0);
}

#[test]
fn a_run_that_ends_while_the_daemon_hangs_took_as_long_as_it_did() {
    let home = Home::new();
    let gate = home.gate("gate");
    let running = home.hold("foo.com", "a", "gate");
    let daemon = home.daemon();
    daemon.signal(Signal::STOP);
    gate.open();
    let ended = running.wait();
    ended.is_silent(0);
    let notes = || fs::read_dir(home.state().join("done")).expect("a directory").count();
    assert_eq!(notes(), 1, "it was left word of");
    daemon.signal(Signal::CONT);
    home.await_idle("foo.com");
    let turn = home.seq(&["log", "--json"]).stdout();
    let turn: serde_json::Value = serde_json::from_str(&turn).expect("one turn");
    assert_eq!((&turn["outcome"], &turn["exit_status"]), (&"done".into(), &0.into()));
    // It waited for an answer for two seconds after that.
    let run = Duration::from_millis(turn["run_ms"].as_u64().expect("a number"));
    assert!(run + Duration::from_millis(1_500) < ended.took, "{run:?} of {:?}", ended.took);
    home.await_fact("the note is gone", || (notes() == 0).then_some(()));
}
