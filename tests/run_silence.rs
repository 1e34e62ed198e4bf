//! What is said while waiting when nobody sits there, and under CI.

mod support;

use support::{Home, Running};

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
