//! What is said while waiting when nobody sits there, and under CI.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::process::Stdio;

use crate::support::{DEADLINE, Home, Running};

/// Starts `seq run` with `options` and `variables` behind a holder, lets both end, and gives what it said.
fn wait_in_line(options: &[&str], variables: &[(&str, &str)]) -> String {
    let home = Home::new();
    let gate = home.gate("gate");
    let holder = home.hold("foo.com", "holder", "gate");
    let mut command = home.seq_command(&[&["run", "-d", "foo.com"], options, &["--", "echo", "mine"]].concat());
    let waiter: Running = home.launch(command.envs(variables.iter().copied()));
    home.await_waiters("foo.com", 1);
    if !variables.is_empty() || options.contains(&"-v") {
        home.await_fact("a word about the wait", || waiter.stderr_so_far().contains('\n').then_some(()));
    }
    gate.open();
    holder.wait().is_silent(0);
    let ended = waiter.wait();
    assert_eq!((ended.status.code(), ended.stdout().as_str()), (Some(0), "mine\n"));
    ended.stderr()
}

#[test]
fn nothing_is_said_where_nobody_looks() {
    assert_eq!(wait_in_line(&[], &[]), "");
    assert_eq!(wait_in_line(&["--quiet"], &[]), "");
}

#[test]
fn under_ci_a_line_says_what_it_waits_for() {
    let said = wait_in_line(&[], &[("CI", "true")]);
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines.iter().all(|line| line.starts_with("seq: ")), "{said}");
    assert!(lines[0].contains("foo.com") && lines[0].contains("./worker holder gate"), "{said}");
    assert!(lines.len() <= 2, "more than a start and an end: {said}");
    assert!(!said.contains(['\r', '\x1b']), "{said:?}");
}

#[test]
fn quiet_is_silent_under_ci_too() {
    let home = Home::new();
    let gate = home.gate("gate");
    let holder = home.hold("foo.com", "holder", "gate");
    let mut command = home.seq_command(&["run", "-q", "-d", "foo.com", "--", "true"]);
    let waiter = home.launch(command.env("CI", "true"));
    home.await_waiters("foo.com", 1);
    gate.open();
    holder.wait().is_silent(0);
    waiter.wait().is_silent(0);
}

#[test]
fn verbose_says_when_it_waits_runs_and_ends() {
    let said = wait_in_line(&["-v"], &[]);
    assert!(said.lines().count() >= 3, "{said}");
    assert!(said.lines().all(|line| line.starts_with("seq: ") && line.contains("foo.com")), "{said}");
}

#[test]
fn verbose_says_nothing_on_standard_output() {
    let home = Home::new();
    let ended = home.seq(&["run", "-v", "-d", "foo.com", "--", "echo", "mine"]);
    assert_eq!((ended.status.code(), ended.stdout().as_str()), (Some(0), "mine\n"));
    assert!(ended.stderr().lines().all(|line| line.starts_with("seq: ")), "{}", ended.stderr());
}

/// A line that was written in pieces could be torn by one of another process.
#[test]
fn each_line_is_said_in_one_piece() {
    let home = Home::new();
    // Each write to it is one message.
    let (reader, stderr) = UnixDatagram::pair().expect("a pair of sockets");
    reader.set_read_timeout(Some(DEADLINE)).expect("a time-out");
    let limited = ["run", "-v", "-d", "foo.com", "--max-run", "50ms", "--", "sleep", "60"];
    let mut command = home.seq_command(&limited);
    let out = home.out();
    command.stdout(Stdio::null()).stderr(OwnedFd::from(stderr));
    let running = Running::start_as_is(&mut command, home.path(), out.clone(), out);
    let mut said = Vec::new();
    while !said.last().is_some_and(|line: &String| line.contains("ended with status 124")) {
        let mut line = [0; 1024];
        let length = reader.recv(&mut line).expect("a line");
        said.push(String::from_utf8_lossy(&line[..length]).into_owned());
    }
    running.wait().is_silent(124);
    assert!(said.iter().all(|line| line.starts_with("seq: ") && line.ends_with('\n')), "{said:?}");
    assert_eq!(said.len(), 3, "the turn, the end of its time, the status: {said:?}");
}
