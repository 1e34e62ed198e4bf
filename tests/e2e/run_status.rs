//! Every exit status of `seq run`, and the silence that goes with it.

use std::os::unix::process::ExitStatusExt;

use crate::support::Home;

#[test]
fn every_status_of_the_command_is_passed_on_untouched() {
    let home = Home::new();
    for status in 0..=255 {
        home.seq(&["run", "-d", "foo.com", "--", "sh", "-c", &format!("exit {status}")]).is_silent(status);
    }
}

#[test]
fn a_command_that_dies_of_a_signal_gives_128_and_its_number() {
    let home = Home::new();
    for number in [1, 2, 3, 6, 8, 9, 10, 11, 12, 13, 14, 15, 31, 34, 64] {
        // Without a core file, which some of them leave.
        let script = format!("ulimit -c 0; kill -{number} $$");
        home.seq(&["run", "-d", "foo.com", "--", "sh", "-c", &script]).is_silent(128 + number);
    }
}

#[test]
fn no_wait_gives_75_when_somebody_has_the_turn() {
    let home = Home::new();
    let gate = home.gate("gate");
    let holder = home.hold("foo.com", "holder", "gate");
    let ran = home.seq(&["run", "-d", "foo.com", "--no-wait", "--", "touch", "ran"]);
    ran.complains(75, "foo.com");
    home.seq(&["run", "-d", "foo.com", "-n", "-E", "9", "--", "touch", "ran"]).complains(9, "foo.com");
    home.seq(&["run", "-d", "foo.com", "-n", "-E", "0", "-q", "--", "touch", "ran"]).is_silent(0);
    home.seq(&["run", "-d", "foo.com", "-n", "-q", "--", "touch", "ran"]).is_silent(75);
    assert!(!home.file("ran").exists(), "no command ran");
    gate.open();
    holder.wait().is_silent(0);
    home.seq(&["run", "-d", "foo.com", "--no-wait", "--", "true"]).is_silent(0);
}

#[test]
fn max_wait_gives_75_when_it_is_over() {
    let home = Home::new();
    let gate = home.gate("gate");
    let holder = home.hold("foo.com", "holder", "gate");
    for (option, seconds) in [("300ms", 0.3), ("0", 0.0), (".25", 0.25)] {
        let waited = home.seq(&["run", "-d", "foo.com", "--max-wait", option, "--", "touch", "ran"]);
        waited.complains(75, "foo.com");
        assert!(waited.took.as_secs_f64() >= seconds, "it waited {:?}", waited.took);
    }
    home.seq(&["run", "-d", "foo.com", "-w", "10ms", "-E", "33", "--", "touch", "ran"]).complains(33, "foo.com");
    assert!(!home.file("ran").exists(), "no command ran");
    gate.open();
    holder.wait().is_silent(0);
    home.seq(&["run", "-d", "foo.com", "-w", "0", "--", "true"]).is_silent(0);
}

#[test]
fn a_cancelled_request_gives_76() {
    let home = Home::new();
    let gate = home.gate("gate");
    let holder = home.hold("foo.com", "holder", "gate");
    let waiter = home.start(&["run", "-d", "foo.com", "--request-id", "mine", "--", "touch", "ran"]);
    home.await_waiters("foo.com", 1);
    let cancelled = home.seq(&["cancel", "-d", "foo.com", "--request-id", "mine"]);
    assert_eq!(cancelled.status.code(), Some(0), "{}", cancelled.stderr());
    waiter.wait().complains(76, "cancelled");
    // -E is for 75 alone.
    let waiter = home.start(&["run", "-d", "foo.com", "-E", "9", "--", "touch", "ran"]);
    home.await_waiters("foo.com", 1);
    let ticket = home.await_status("foo.com", "a waiter", |line| line["waiting"] == 1)["waiters"][0]["ticket"].clone();
    let cancelled = home.seq(&["cancel", &ticket.to_string()]);
    assert_eq!(cancelled.status.code(), Some(0), "{}", cancelled.stderr());
    waiter.wait().complains(76, "cancelled");
    assert!(!home.file("ran").exists(), "no command ran");
    gate.open();
    holder.wait().is_silent(0);
}

#[test]
fn a_command_that_is_not_there_gives_127() {
    let home = Home::new();
    let missing = |command: &str| home.seq(&["run", "-d", "foo.com", "--", command]);
    missing("no-such-command").complains(127, "cannot run no-such-command: ");
    missing("./no-such-file").complains(127, "cannot run ./no-such-file: ");
    missing("").complains(127, "cannot run ");
    home.script("lost", "#!/no/such/interpreter\n");
    missing("./lost").complains(127, "cannot run ./lost: ");
    // The turn was given back.
    home.await_idle("foo.com");
}

#[test]
fn a_command_that_cannot_be_executed_gives_126() {
    let home = Home::new();
    std::fs::write(home.file("plain"), "echo no\n").expect("a file");
    home.seq(&["run", "-d", "foo.com", "--", "./plain"]).complains(126, "cannot run ./plain: ");
    home.seq(&["run", "-d", "foo.com", "--", "/"]).complains(126, "cannot run /: ");
    home.seq(&["run", "-d", "foo.com", "--", "./plain/on"]).complains(126, "cannot run ./plain/on: ");
    home.await_idle("foo.com");
}

#[test]
fn wrong_usage_of_run_gives_125() {
    let home = Home::new();
    let wrong: [&[&str]; 9] = [
        &["run"],
        &["run", "-d", "foo.com"],
        &["run", "--", "true"],
        &["run", "-d", "foo.com", "--no-such-option", "--", "true"],
        &["run", "-d", "foo.com", "-n", "-w", "3", "--", "true"],
        &["run", "-d", "foo.com", "-w", "soon", "--", "true"],
        &["run", "-d", "foo.com", "-E", "256", "--", "true"],
        &["run", "-d", "foo.com", "-q", "-v", "--", "true"],
        &["run", "-d", "foo.com", "--close", "--until-all-exit", "--", "true"],
    ];
    for arguments in wrong {
        let ended = home.seq(arguments);
        assert_eq!((ended.status.code(), ended.stdout().as_str()), (Some(125), ""), "{arguments:?}");
        assert!(ended.stderr().starts_with("seq: "), "{arguments:?}: {}", ended.stderr());
        assert!(ended.stderr().lines().all(|line| line.starts_with("seq: ")), "{arguments:?}: {}", ended.stderr());
    }
    assert!(home.daemon_pid().is_none(), "no daemon was started for that");
}

#[test]
fn time_in_line_does_not_count_as_time_run() {
    let home = Home::new();
    let gate = home.gate("gate");
    let holder = home.hold("foo.com", "holder", "gate");
    let waiter = home.start(&["run", "-d", "foo.com", "-w", "1h", "--max-run", "2s", "--", "./worker", "waiter"]);
    home.await_status("foo.com", "a wait longer than the run may be", |line| {
        line["waiters"][0]["waited_ms"].as_u64() > Some(2_000)
    });
    gate.open();
    holder.wait().is_silent(0);
    waiter.wait().is_silent(0);
}

#[test]
fn time_run_does_not_count_as_time_in_line() {
    let home = Home::new();
    let gate = home.gate("gate");
    let runner = home.start(&["run", "-d", "foo.com", "-w", "300ms", "--", "./worker", "runner", "gate"]);
    home.await_status("foo.com", "a run longer than the wait may be", |line| {
        line["holders"][0]["held_ms"].as_u64() > Some(600)
    });
    gate.open();
    runner.wait().is_silent(0);
}

#[test]
fn seq_itself_never_dies_of_the_signal_that_ended_the_command() {
    let home = Home::new();
    let ended = home.seq(&["run", "-d", "foo.com", "--", "sh", "-c", "kill -KILL $$"]);
    assert_eq!((ended.status.code(), ended.status.signal()), (Some(137), None));
}
