//! The daemon is killed, and nobody notices: not those who wait, and not the commands that run.

use std::fs::{self, DirBuilder};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixListener;
use std::time::Duration;

use crate::support::{Home, Running, explain, look_for, size};
use rustix::process::Signal;

/// Kills the daemon, and waits until all of `domain` are with the next one: one that runs, and so many that wait.
#[track_caller]
fn replace_daemon(home: &Home, domain: &str, waiters: usize) {
    let before = home.daemon_pid();
    home.kill_daemon();
    home.await_status(domain, "everybody is back", |line| {
        home.daemon_pid() != before
            && line["holders"][0]["state"] == "attached"
            && line["waiting"].as_u64() == Some(waiters as u64)
    });
}

#[track_caller]
fn are_silent(running: Vec<Running>) {
    for running in running {
        running.wait().is_silent(0);
    }
}

#[test]
fn nobody_loses_the_place_when_the_daemon_is_killed() {
    let home = Home::new();
    let gate = home.gate("gate");
    let mut all = vec![home.hold("foo.com", "a", "gate")];
    all.extend(["b", "c", "d"].iter().zip(1..).map(|(name, place)| home.queue("foo.com", name, place)));
    replace_daemon(&home, "foo.com", 3);
    all.push(home.queue("foo.com", "e", 4));
    gate.open();
    are_silent(all);
    let order = ["a", "b", "c", "d", "e"].map(|name| [format!("start {name}"), format!("end {name}")]);
    assert_eq!(home.log(), order.concat());
}

#[test]
fn a_daemon_that_is_killed_again_and_again_changes_nothing() {
    let home = Home::new();
    let gate = home.gate("gate");
    let mut all = vec![home.hold("foo.com", "a", "gate")];
    all.extend(["b", "c"].iter().zip(1..).map(|(name, place)| home.queue("foo.com", name, place)));
    for _ in 0..size("SEQ_KILLS", 8) {
        replace_daemon(&home, "foo.com", 2);
    }
    gate.open();
    are_silent(all);
    assert_eq!(home.log(), ["start a", "end a", "start b", "end b", "start c", "end c"]);
}

#[test]
fn the_status_of_a_command_outlives_the_daemon() {
    let home = Home::new();
    let gate = home.gate("gate");
    let script = "echo start >>log; read -r line <gate; exit 7";
    let running = home.start(&["run", "-d", "foo.com", "--", "sh", "-c", script]);
    home.await_line("start");
    home.kill_daemon();
    gate.open();
    running.wait().is_silent(7);
    let logged = home.seq(&["log", "--json"]);
    let turn: serde_json::Value = serde_json::from_slice(&logged.stdout).expect("one turn");
    assert_eq!((&turn["exit_status"], &turn["outcome"]), (&7.into(), &"done".into()));
}

#[test]
fn verbose_tells_it_in_one_line() {
    let home = Home::new();
    let gate = home.gate("gate");
    let holder = home.start(&["run", "-v", "-d", "foo.com", "--", "./worker", "a", "gate"]);
    home.await_line("start a");
    let waiter = home.start(&["run", "-v", "-d", "foo.com", "--", "true"]);
    home.await_waiters("foo.com", 1);
    replace_daemon(&home, "foo.com", 1);
    gate.open();
    for (running, line) in [
        (holder, "seq: foo.com: the daemon has gone, the command runs on"),
        (waiter, "seq: foo.com: the daemon has gone: taking the place in line up again with the next one"),
    ] {
        let ended = running.wait();
        let said = ended.stderr();
        assert_eq!(said.lines().filter(|said| said.contains("daemon")).collect::<Vec<_>>(), [line]);
    }
}

#[test]
fn who_waits_for_a_daemon_can_be_stopped_at_once() {
    let home = Home::new();
    home.warm();
    let gate = home.gate("gate");
    let holder = home.start(&["run", "--no-start", "-d", "foo.com", "--", "./worker", "a", "gate"]);
    home.await_line("start a");
    let waiter = home.start(&["run", "--no-start", "-d", "foo.com", "--", "./worker", "b"]);
    home.await_waiters("foo.com", 1);
    home.kill_daemon();
    waiter.signal(Signal::TERM);
    let ended = waiter.wait();
    ended.dies_of(15);
    assert!(ended.took < Duration::from_secs(5), "it took {:?}", ended.took);
    gate.open();
    holder.wait().is_silent(0);
    assert_eq!(home.log(), ["start a", "end a"]);
}

#[test]
fn signals_reach_the_command_while_there_is_no_daemon() {
    let home = Home::new();
    home.warm();
    let _gate = home.gate("gate");
    let script = "trap 'echo caught >>log; exit 3' TERM; read -r line <gate & echo start >>log; wait";
    let running = home.start(&["run", "--no-start", "-d", "foo.com", "--", "sh", "-c", script]);
    home.await_line("start");
    home.kill_daemon();
    running.signal(Signal::TERM);
    home.await_line("caught");
    running.wait().is_silent(3);
}

#[test]
fn the_longest_run_holds_while_there_is_no_daemon() {
    let home = Home::new();
    home.warm();
    let arguments = ["run", "--no-start", "-q", "--max-run", "1s", "-d", "foo.com", "--", "./worker", "a", "gate"];
    let _gate = home.gate("gate");
    let running = home.start(&arguments);
    home.await_line("start a");
    home.kill_daemon();
    running.wait().is_silent(124);
}

#[test]
fn a_daemon_started_on_the_way_is_not_stopped_with_the_command() {
    let home = Home::new();
    let _gate = home.gate("gate");
    let arguments = ["run", "-q", "--max-run", "1s", "-d", "foo.com", "--", "./worker", "a", "gate"];
    let running = home.start(&arguments);
    home.await_line("start a");
    replace_daemon(&home, "foo.com", 0);
    let daemon = home.daemon();
    running.wait().is_silent(124);
    assert!(daemon.is_alive());
}

#[test]
fn who_may_not_start_a_daemon_waits_until_somebody_does() {
    let home = Home::new();
    home.warm();
    let gate = home.gate("gate");
    let holder = home.start(&["run", "--no-start", "-d", "foo.com", "--", "./worker", "a", "gate"]);
    home.await_line("start a");
    let waiter = home.start(&["run", "--no-start", "-d", "foo.com", "--", "./worker", "b"]);
    home.await_waiters("foo.com", 1);
    home.kill_daemon();
    home.warm();
    home.await_status("foo.com", "both are back", |line| {
        line["holders"][0]["state"] == "attached" && line["waiting"].as_u64() == Some(1)
    });
    gate.open();
    holder.wait().is_silent(0);
    waiter.wait().is_silent(0);
    assert_eq!(home.log(), ["start a", "end a", "start b", "end b"]);
}

#[test]
fn who_was_told_of_no_place_waits_for_nobody_else_to_start_a_daemon() {
    let home = Home::new();
    DirBuilder::new().recursive(true).mode(0o700).create(home.state()).expect("a directory");
    let listener = UnixListener::bind(home.socket()).expect("a socket");
    let run = home.start(&["run", "--no-start", "-d", "foo.com", "--", "touch", "ran"]);
    let (client, _) = listener.accept().expect("a client");
    let mut request = String::new();
    BufReader::new(&client).read_line(&mut request).expect("a request");
    // As a daemon does that leaves just then.
    fs::remove_file(home.socket()).expect("a socket");
    drop((client, listener));
    let words = format!("no daemon listens at {}: start seqd, or leave out --no-start", home.socket().display());
    let ended = run.wait();
    ended.says(125, "", &format!("seq: {words}\n"));
    assert!(ended.took < Duration::from_secs(20) && !home.file("ran").exists(), "{:?}", ended.took);
}

#[test]
fn the_longest_wait_holds_while_there_is_no_daemon() {
    let home = Home::new();
    home.warm();
    let gate = home.gate("gate");
    let holder = home.start(&["run", "--no-start", "-d", "foo.com", "--", "./worker", "a", "gate"]);
    home.await_line("start a");
    let waiter = home.start(&["run", "--no-start", "-w", "2s", "-d", "foo.com", "--", "true"]);
    home.await_waiters("foo.com", 1);
    home.kill_daemon();
    waiter.wait().complains(75, "seq: no turn in foo.com after 2s: the daemon has gone");
    gate.open();
    holder.wait().is_silent(0);
}

#[test]
fn a_status_is_told_to_the_next_daemon_whenever_that_comes() {
    let home = Home::new();
    home.warm();
    let gate = home.gate("gate");
    let script = "echo start >>log; read -r line <gate; exit 9";
    let running = home.start(&["run", "--no-start", "-d", "foo.com", "--", "sh", "-c", script]);
    home.await_line("start");
    home.kill_daemon();
    gate.open();
    let ended = running.wait();
    ended.is_silent(9);
    assert!(ended.took < Duration::from_secs(8), "it took {:?}", ended.took);
    assert!(home.daemons().is_empty());
    let logged = home.seq(&["log", "-d", "foo.com", "--json"]);
    let turn: serde_json::Value = serde_json::from_slice(&logged.stdout).expect("one turn");
    assert_eq!((&turn["exit_status"], &turn["outcome"]), (&9.into(), &"done".into()));
}

#[test]
fn the_history_says_when_a_command_ended_also_when_that_is_heard_late() {
    let home = Home::new();
    home.warm();
    let gate = home.gate("gate");
    let running =
        home.start(&["run", "-d", "foo.com", "--", "sh", "-c", "echo start >>log; read -r line <gate; exit 9"]);
    home.await_line("start");
    let ticket = home.await_holder("foo.com", "attached")["ticket"].to_string();
    // No daemon can start without it, and this one must not put it back.
    let (mark, away) = (home.state().join("seq.mark"), home.state().join("away"));
    home.daemon().signal(Signal::STOP);
    fs::rename(&mark, &away).unwrap();
    home.kill_daemon();
    gate.open();
    let note = home.state().join("done").join(ticket);
    home.await_fact("word is left", || note.symlink_metadata().ok());
    let left = std::time::SystemTime::now();
    fs::rename(&away, &mark).unwrap();
    running.wait().is_silent(9);
    let logged = home.seq(&["log", "-d", "foo.com", "--json"]);
    let turn: serde_json::Value = serde_json::from_slice(&logged.stdout).expect("one turn");
    assert_eq!((&turn["exit_status"], &turn["outcome"]), (&9.into(), &"done".into()));
    let ended: jiff::Timestamp = turn["ended_at"].as_str().unwrap().parse().unwrap();
    assert!(ended <= left.try_into().unwrap(), "{turn}");
    assert!(note.symlink_metadata().is_err(), "it has been taken in");
}

#[test]
fn a_daemon_that_hangs_costs_nobody_the_place_and_holds_nobody_up() {
    let home = Home::new();
    let gate = home.gate("gate");
    let holder = home.hold("foo.com", "a", "gate");
    let waiter = home.queue("foo.com", "b", 1);
    let daemon = home.daemon();
    daemon.signal(Signal::STOP);
    gate.open();
    let ended = holder.wait();
    ended.is_silent(0);
    assert!(ended.took < Duration::from_secs(8), "it took {:?}", ended.took);
    daemon.signal(Signal::CONT);
    waiter.wait().is_silent(0);
    assert_eq!(home.log(), ["start a", "end a", "start b", "end b"]);
}

#[test]
fn who_waits_says_that_the_next_daemon_cannot_be_executed() {
    use std::os::unix::fs::PermissionsExt;

    let home = Home::new();
    let own = home.install(&crate::support::seq_program(), "seq");
    let gate = home.gate("gate");
    let holder = home.launch(home.command(&own).args(["run", "-d", "foo.com", "--", "./worker", "a", "gate"]));
    home.await_line("start a");
    let waiter = home.launch(home.command(&own).args(["run", "-d", "foo.com", "--", "./worker", "b"]));
    home.await_waiters("foo.com", 1);
    fs::set_permissions(&own, fs::Permissions::from_mode(0o600)).expect("a file of ours");
    home.kill_daemon();
    let words = format!(
        "seq: foo.com: cannot start the daemon: Permission denied (os error 13): make {} executable again; waiting \
         until that is done\n",
        own.display()
    );
    let said = look_for(|| Some(waiter.stderr_so_far()).filter(|said| *said == words));
    assert_eq!(said.unwrap_or_else(|| waiter.stderr_so_far()), words, "{}", explain(home.path()));
    fs::set_permissions(&own, fs::Permissions::from_mode(0o755)).expect("a file of ours");
    gate.open();
    assert_eq!(holder.wait().status.code(), Some(0));
    assert_eq!(waiter.wait().status.code(), Some(0));
    assert_eq!(home.log(), ["start a", "end a", "start b", "end b"]);
}

#[test]
fn stop_ends_the_wait_and_leaves_the_command() {
    let home = Home::new();
    let gate = home.gate("gate");
    let holder = home.hold("foo.com", "a", "gate");
    let waiter = home.queue("foo.com", "b", 1);
    home.seq(&["stop"]).is_silent(0);
    waiter.wait().complains(125, "the daemon was told to leave while this request waited: run it again");
    gate.open();
    let ended = holder.wait();
    ended.is_silent(0);
    assert!(home.daemons().is_empty(), "nobody starts a daemon that was stopped");
}
